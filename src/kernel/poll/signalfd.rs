//! signalfd(2). As on Linux a descriptor has no signals of its own: it shows what is pending for whoever reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{descriptor_flags, new_descriptor};
use crate::kernel::fs::{Fd, File, FileOps};
use crate::kernel::signal::{self, SigFields, SigInfo, SigSet, UNBLOCKABLE};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Task, current};
use crate::kernel::user_memory::{Sink, UserRef};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

/// Size of `struct signalfd_siginfo`, in bytes.
const RECORD: usize = 128;

/// Signals that can be read.
struct SignalFd {
    mask: AtomicU64,
}

impl SignalFd {
    fn mask(&self) -> SigSet {
        self.mask.load(Ordering::Relaxed)
    }
}

fn pending(task: &Task) -> SigSet {
    let own = task.signals.lock().pending.set();
    own | task.group.pending.lock().set()
}

impl FileOps for SignalFd {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        if to.remaining() < RECORD {
            return fail!(EINVAL);
        }
        let Some(task) = current() else {
            return fail!(EIO);
        };
        let signaled = &task.group.signaled;
        let generation = signaled.generation();
        let mut done = 0;
        while to.remaining() >= RECORD {
            let Some(info) = signal::take_from(&task, self.mask()) else {
                break;
            };
            match to.put(&record(&info)) {
                Ok(RECORD) => done += RECORD,
                _ if done > 0 => break,
                _ => return fail!(EFAULT),
            }
        }
        if done > 0 {
            return Ok(done);
        }
        if file.nonblocking() {
            return fail!(EAGAIN);
        }
        Err(WaitFor::default()
            .and_since(signaled, Events::READ, generation)
            .into())
    }

    fn poll(&self, _: &File) -> Events {
        match current() {
            Some(task) if pending(&task) & self.mask() != 0 => Events::IN,
            _ => Events::empty(),
        }
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        current()
            .map(|task| vec![(task.group.signaled.clone(), interest)])
            .unwrap_or_default()
    }

    fn fdinfo(&self, _: &File) -> String {
        format!("sigmask:\t{:016x}\n", self.mask())
    }
}

/// A signal as `struct signalfd_siginfo`.
fn record(info: &SigInfo) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &info.signal.to_le_bytes());
    put(4, &info.errno.to_le_bytes());
    put(8, &info.code.to_le_bytes());
    let mut sender = |pid: i32, uid: u32| {
        put(12, &pid.to_le_bytes());
        put(16, &uid.to_le_bytes());
    };
    match info.fields {
        SigFields::None => {}
        SigFields::Kill { pid, uid } => sender(pid, uid),
        SigFields::Queue { pid, uid, value } => {
            sender(pid, uid);
            put(44, &value.to_le_bytes()[..4]);
            put(48, &value.to_le_bytes());
        }
        SigFields::Timer { id, overrun, value } => {
            put(24, &id.to_le_bytes());
            put(32, &overrun.to_le_bytes());
            put(44, &value.to_le_bytes()[..4]);
            put(48, &value.to_le_bytes());
        }
        SigFields::Child {
            pid,
            uid,
            status,
            utime,
            stime,
        } => {
            sender(pid, uid);
            put(40, &status.to_le_bytes());
            put(56, &utime.to_le_bytes());
            put(64, &stime.to_le_bytes());
        }
        SigFields::Fault { addr, trapno, .. } => {
            put(36, &trapno.to_le_bytes()[..4]);
            put(72, &addr.to_le_bytes());
        }
        SigFields::Poll { band, fd } => {
            put(20, &fd.to_le_bytes());
            put(28, &band.to_le_bytes()[..4]);
        }
        SigFields::Sys { addr, nr, arch } => {
            put(84, &nr.to_le_bytes());
            put(88, &addr.to_le_bytes());
            put(96, &arch.to_le_bytes());
        }
        // rt_sigqueueinfo(2): pid, uid and value as the C library lays them out.
        SigFields::Raw(raw) => {
            put(12, &raw[..8]);
            put(44, &raw[8..12]);
            put(48, &raw[8..16]);
        }
    }
    bytes
}

/// signalfd(2) without flags.
pub(crate) fn signalfd(cx: &mut SyscallCx<'_>, fd: Fd, mask: UserRef<SigSet>, size: u64) -> SysResult<i32> {
    signalfd4(cx, fd, mask, size, 0)
}

/// signalfd4(2): a new descriptor, or another mask for an old one.
pub(crate) fn signalfd4(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    mask: UserRef<SigSet>,
    size: u64,
    flags: u32,
) -> SysResult<i32> {
    if size != size_of::<SigSet>() as u64 {
        return fail!(EINVAL);
    }
    let mask = cx.memory.read(mask)? & !UNBLOCKABLE;
    let flags = descriptor_flags(flags)?;
    if fd.0 == -1 {
        let ops = SignalFd {
            mask: AtomicU64::new(mask),
        };
        return new_descriptor(cx, "[signalfd]", Arc::new(ops), flags);
    }
    let file = cx.task.files().get(fd)?;
    let old = file.ops_as::<SignalFd>().ok_or(Errno::EINVAL)?;
    old.mask.store(mask, Ordering::Relaxed);
    cx.task.group.signaled.notify(Events::READ);
    Ok(fd.0)
}
