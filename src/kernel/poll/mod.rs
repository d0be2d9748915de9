//! Readiness: poll(2), select(2), epoll(7), and the descriptors made to be waited on.

mod epoll;
mod eventfd;
mod ppoll;
mod select;
mod signalfd;
mod syscalls;
mod timerfd;

use std::sync::Arc;

use super::fs::{AnonKind, File, FileOps, OpenFlags};
use super::signal::SigSet;
use super::stop::{Errno, SysResult, fail};
use super::syscall::SyscallCx;
use super::time::Instant;
use super::user_memory::UserRef;
use super::wait::{Events, OnSignal, WaitFor};

pub(in crate::kernel) use syscalls::dispatch;

/// Milliseconds in nanoseconds.
const MILLI: u64 = 1_000_000;

/// Everything poll(2) reports whether it is asked for or not.
const ALWAYS: Events = Events::ERR.union(Events::HUP);

/// Give a new anonymous object a descriptor.
fn new_descriptor(
    cx: &SyscallCx<'_>,
    name: &'static str,
    ops: Arc<dyn FileOps>,
    flags: OpenFlags,
) -> SysResult<i32> {
    let file = cx.kernel.vfs.anon.file(
        &cx.kernel.clock,
        &cx.task.creds(),
        AnonKind::Other(name),
        ops,
        (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR,
    );
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    Ok(cx.task.files().insert(file, close_on_exec, 0, limit)?.0)
}

/// The flags of eventfd2(2) and its like, which are those of open(2); EINVAL for any other.
fn descriptor_flags(flags: u32) -> Result<OpenFlags, Errno> {
    let flags = OpenFlags::from_bits_retain(flags);
    if (OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        Ok(flags)
    } else {
        Err(Errno::EINVAL)
    }
}

/// Fix the deadline of a timeout in milliseconds on the first run; negative: never.
fn deadline_in_millis(cx: &mut SyscallCx<'_>, millis: i32) -> Option<Instant> {
    let nanos = u64::try_from(millis).ok()?.saturating_mul(MILLI);
    cx.deadline(|kernel| Some(kernel.clock.now().after(nanos)))
}

/// Use the signal mask of ppoll(2) and its like, whose size must be right; a null pointer changes nothing.
fn use_mask(cx: &mut SyscallCx<'_>, mask: UserRef<SigSet>, size: u64) -> SysResult<()> {
    if !mask.is_null() && size != size_of::<SigSet>() as u64 {
        return fail!(EINVAL);
    }
    cx.use_temporary_mask(mask)
}

/// Watch `file` for `interest` from now on, in `wait`. Call it before asking what is ready.
fn watch(wait: &mut WaitFor, file: &File, interest: Events) {
    for (queue, events) in file.ops.queues(file, interest | ALWAYS) {
        let generation = queue.generation();
        *wait = std::mem::take(wait).and_since(&queue, events, generation);
    }
}

/// Scan until something is ready or the deadline has passed; `scan` counts what is ready, and with a [`WaitFor`] has all
/// of it watched first.
fn poll_until(
    cx: &mut SyscallCx<'_>,
    deadline: Option<Instant>,
    scan: &mut dyn FnMut(&SyscallCx<'_>, Option<&mut WaitFor>) -> SysResult<usize>,
) -> SysResult<usize> {
    let ready = scan(cx, None)?;
    // A signal that is there already counts more than a time that is over.
    if ready > 0 || (cx.timed_out() && !super::signal::is_pending(cx.task)) {
        return Ok(ready);
    }
    let mut wait = WaitFor::default();
    let ready = scan(cx, Some(&mut wait))?;
    if ready > 0 {
        return Ok(ready);
    }
    Err(wait.until(deadline).on_signal(OnSignal::Eintr).into())
}
