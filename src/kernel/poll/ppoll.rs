//! poll(2), ppoll(2).

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{ALWAYS, deadline_in_millis, poll_until, use_mask, watch};
use crate::kernel::abi::time::Timespec;
use crate::kernel::fs::{Fd, File};
use crate::kernel::signal::SigSet;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::time::Instant;
use crate::kernel::user_memory::UserRef;
use crate::kernel::wait::Events;

const POLLNVAL: i16 = 0x20;

/// `struct pollfd`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Pollfd {
    fd: i32,
    events: i16,
    revents: i16,
}

/// Where the last field of [`Pollfd`] is, in bytes.
const REVENTS: u64 = 6;

/// poll(2).
pub(crate) fn poll(
    cx: &mut SyscallCx<'_>,
    fds: UserRef<Pollfd>,
    count: u32,
    timeout: i32,
) -> SysResult<usize> {
    let deadline = deadline_in_millis(cx, timeout);
    poll_all(cx, fds, count, deadline)
}

/// ppoll(2). Like Linux, and unlike what the C library shows, it counts the timeout down.
pub(crate) fn ppoll(
    cx: &mut SyscallCx<'_>,
    fds: UserRef<Pollfd>,
    count: u32,
    timeout: UserRef<Timespec>,
    mask: UserRef<SigSet>,
    size: u64,
) -> SysResult<usize> {
    let deadline = timespec_deadline(cx, timeout)?;
    use_mask(cx, mask, size)?;
    let ready = poll_all(cx, fds, count, deadline)?;
    if let (Some(timeout), Some(deadline)) = (timeout.non_null(), deadline) {
        // As on Linux, a timeout that cannot be written is no error.
        let left = deadline.since(cx.kernel.clock.now());
        let _ = cx.memory.write(timeout, &Timespec::from_nanos(left));
    }
    Ok(ready)
}

/// Fix the deadline of a timeout that is counted down in guest memory; EINVAL, EFAULT.
pub(super) fn timespec_deadline(
    cx: &mut SyscallCx<'_>,
    timeout: UserRef<Timespec>,
) -> SysResult<Option<Instant>> {
    let Some(timeout) = timeout.non_null() else {
        return Ok(None);
    };
    if cx.state.deadline.is_none() {
        let nanos = cx.memory.read(timeout)?.nanos().ok_or(Errno::EINVAL)?;
        let deadline = cx.kernel.clock.now().after(nanos);
        cx.state.deadline = Some(deadline);
        let kernel = cx.kernel.clone();
        cx.state.on_eintr = Some(Box::new(move |memory| {
            let left = deadline.since(kernel.clock.now());
            memory.write(timeout, &Timespec::from_nanos(left))
        }));
    }
    Ok(cx.state.deadline)
}

fn poll_all(
    cx: &mut SyscallCx<'_>,
    fds: UserRef<Pollfd>,
    count: u32,
    deadline: Option<Instant>,
) -> SysResult<usize> {
    if u64::from(count) > cx.task.group.soft_limit(libc::RLIMIT_NOFILE) {
        return fail!(EINVAL);
    }
    let mut entries = cx.memory.read_array(fds, count as usize)?;
    let before: Vec<i16> = entries.iter().map(|entry| entry.revents).collect();
    let table = cx.task.files();
    let files: Vec<Option<Arc<File>>> = entries.iter().map(|entry| table.get(Fd(entry.fd)).ok()).collect();
    let ready = poll_until(cx, deadline, &mut |_, mut wait| {
        let mut ready = 0;
        for (entry, file) in entries.iter_mut().zip(&files) {
            entry.revents = match file {
                _ if entry.fd < 0 => 0,
                None => POLLNVAL,
                Some(file) => {
                    let interest = Events::from_bits_truncate(u32::from(entry.events.cast_unsigned()));
                    if let Some(wait) = wait.as_deref_mut() {
                        watch(wait, file, interest);
                    }
                    revents(file.poll() & (interest | ALWAYS))
                }
            };
            ready += usize::from(entry.revents != 0);
        }
        Ok(ready)
    })?;
    for (index, (entry, before)) in entries.iter().zip(before).enumerate() {
        // The rest of an entry may be another thread's to change meanwhile. One is always written: it may not be writable.
        if entry.revents != before || index == 0 {
            let addr = fds.at(index as u64)?.addr();
            cx.memory.write(addr.plus(REVENTS)?.cast(), &entry.revents)?;
        }
    }
    Ok(ready)
}

fn revents(events: Events) -> i16 {
    // All bits of `Events` lie in the low 15.
    i16::try_from(events.bits()).unwrap_or(0)
}
