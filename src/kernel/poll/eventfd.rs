//! eventfd(2).

use std::sync::Arc;

use super::{descriptor_flags, new_descriptor};
use crate::kernel::fs::{File, FileOps};
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

/// EFD_SEMAPHORE.
const SEMAPHORE: u32 = 1;

/// Highest value of the counter.
const MAX: u64 = u64::MAX - 1;

/// The counter behind an eventfd.
struct EventFd {
    count: Lock<u64>,
    semaphore: bool,
    queue: WaitQueue,
}

impl FileOps for EventFd {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        if to.remaining() < 8 {
            return fail!(EINVAL);
        }
        let value = {
            let mut count = self.count.lock();
            if *count == 0 {
                if file.nonblocking() {
                    return fail!(EAGAIN);
                }
                return Err(WaitFor::queue(&self.queue, Events::READ).into());
            }
            let value = if self.semaphore { 1 } else { *count };
            *count -= value;
            value
        };
        self.queue.notify(Events::WRITE);
        // A part of a number is none: it is lost, as on Linux.
        match to.put(&value.to_le_bytes())? {
            8 => Ok(8),
            _ => fail!(EFAULT),
        }
    }

    fn write(&self, file: &File, _: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        // As Linux since 6.7; a longer write was taken before.
        if from.remaining() != 8 {
            return fail!(EINVAL);
        }
        let mut bytes = [0; 8];
        let taken = from.take(&mut bytes)?;
        if taken < bytes.len() {
            return fail!(EFAULT);
        }
        let value = u64::from_le_bytes(bytes);
        if value == u64::MAX {
            return fail!(EINVAL);
        }
        {
            let mut count = self.count.lock();
            if value > MAX - *count {
                from.untake(taken);
                if file.nonblocking() {
                    return fail!(EAGAIN);
                }
                return Err(WaitFor::queue(&self.queue, Events::WRITE).into());
            }
            *count += value;
        }
        self.queue.notify(Events::READ);
        Ok(taken)
    }

    fn poll(&self, _: &File) -> Events {
        let count = *self.count.lock();
        let mut events = Events::empty();
        if count > 0 {
            events |= Events::IN;
        }
        if count < MAX {
            events |= Events::OUT;
        }
        events
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.queue.clone(), interest)]
    }

    fn fdinfo(&self, _: &File) -> String {
        format!("eventfd-count: {:16x}\n", *self.count.lock())
    }
}

/// eventfd(2) without flags.
pub(crate) fn eventfd(cx: &mut SyscallCx<'_>, initial: u32) -> SysResult<i32> {
    eventfd2(cx, initial, 0)
}

/// eventfd2(2).
pub(crate) fn eventfd2(cx: &mut SyscallCx<'_>, initial: u32, flags: u32) -> SysResult<i32> {
    let open = descriptor_flags(flags & !SEMAPHORE)?;
    let ops = EventFd {
        count: Lock::new(Rank::Object, u64::from(initial)),
        semaphore: flags & SEMAPHORE != 0,
        queue: WaitQueue::new(),
    };
    new_descriptor(cx, "[eventfd]", Arc::new(ops), open)
}
