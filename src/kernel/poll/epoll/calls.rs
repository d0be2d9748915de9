//! The calls of epoll(7).

use std::sync::Arc;

use super::{EDGE, EXCLUSIVE, Epoll, Interest, WAKEUP};
use crate::kernel::abi::time::Timespec;
use crate::kernel::fs::{Fd, File, OpenFlags};
use crate::kernel::poll::{ALWAYS, deadline_in_millis, new_descriptor, use_mask};
use crate::kernel::signal::SigSet;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::time::Instant;
use crate::kernel::user_memory::UserRef;
use crate::kernel::wait::{Events, OnSignal, WaitFor};

/// `struct epoll_event`, which is packed: events, then data.
pub(crate) type EpollEvent = [u8; 12];

/// Most events of one epoll_wait(2), as Linux limits them.
const MAX_EVENTS: i32 = i32::MAX / size_of::<EpollEvent>() as i32;

/// epoll_create(2). The size means nothing but must be positive.
pub(crate) fn epoll_create(cx: &mut SyscallCx<'_>, size: i32) -> SysResult<i32> {
    if size <= 0 {
        return fail!(EINVAL);
    }
    epoll_create1(cx, 0)
}

/// epoll_create1(2).
pub(crate) fn epoll_create1(cx: &mut SyscallCx<'_>, flags: u32) -> SysResult<i32> {
    let flags = OpenFlags::from_bits_retain(flags);
    if !OpenFlags::CLOEXEC.contains(flags) {
        return fail!(EINVAL);
    }
    new_descriptor(cx, "[eventpoll]", Epoll::new(), flags)
}

/// epoll_ctl(2).
pub(crate) fn epoll_ctl(
    cx: &mut SyscallCx<'_>,
    epfd: Fd,
    op: i32,
    fd: Fd,
    event: UserRef<EpollEvent>,
) -> SysResult<()> {
    let (events, data) = if op == libc::EPOLL_CTL_DEL {
        (0, 0)
    } else {
        split(&cx.memory.read(event)?)
    };
    let table = cx.task.files();
    let epoll_file = table.get(epfd)?;
    let file = table.get(fd)?;
    if !file.ops.pollable() {
        return fail!(EPERM);
    }
    let epoll = epoll_file.ops_as::<Epoll>().ok_or(Errno::EINVAL)?;
    if Arc::ptr_eq(&epoll_file, &file) {
        return fail!(EINVAL);
    }
    let child = file.ops_as::<Epoll>();
    if events & EXCLUSIVE != 0 {
        let allowed = (Events::IN | Events::OUT | ALWAYS).bits() | EDGE | WAKEUP | EXCLUSIVE;
        if op == libc::EPOLL_CTL_MOD || child.is_some() || events & !allowed != 0 {
            return fail!(EINVAL);
        }
    }
    let interest = Interest::new(events, data);
    match op {
        libc::EPOLL_CTL_ADD => match child {
            Some(child) => Ok(add_nested(cx, epoll, child, fd, &file, interest)?),
            None => Ok(epoll.add(fd.0, &file, interest)?),
        },
        libc::EPOLL_CTL_MOD => Ok(epoll.modify(fd.0, &file, interest)?),
        libc::EPOLL_CTL_DEL => Ok(epoll.remove(fd.0, &file)?),
        _ => fail!(EINVAL),
    }
}

/// Watch another instance. One at a time, so that two additions cannot make a circle together.
fn add_nested(
    cx: &SyscallCx<'_>,
    epoll: &Epoll,
    child: &Epoll,
    fd: Fd,
    file: &Arc<File>,
    interest: Interest,
) -> Result<(), Errno> {
    let _one_at_a_time = cx.kernel.epoll_nesting.lock();
    epoll.check_nesting(child)?;
    epoll.add(fd.0, file, interest)
}

fn split(event: &EpollEvent) -> (u32, u64) {
    let [e0, e1, e2, e3, data @ ..] = *event;
    (u32::from_le_bytes([e0, e1, e2, e3]), u64::from_le_bytes(data))
}

fn join(events: Events, data: u64) -> EpollEvent {
    let mut event = [0; 12];
    event[..4].copy_from_slice(&events.bits().to_le_bytes());
    event[4..].copy_from_slice(&data.to_le_bytes());
    event
}

/// epoll_wait(2).
pub(crate) fn epoll_wait(
    cx: &mut SyscallCx<'_>,
    epfd: Fd,
    events: UserRef<EpollEvent>,
    max: i32,
    timeout: i32,
) -> SysResult<usize> {
    let deadline = deadline_in_millis(cx, timeout);
    wait(cx, epfd, events, max, deadline)
}

/// epoll_pwait(2).
pub(crate) fn epoll_pwait(
    cx: &mut SyscallCx<'_>,
    epfd: Fd,
    events: UserRef<EpollEvent>,
    max: i32,
    timeout: i32,
    mask: UserRef<SigSet>,
    size: u64,
) -> SysResult<usize> {
    let deadline = deadline_in_millis(cx, timeout);
    use_mask(cx, mask, size)?;
    wait(cx, epfd, events, max, deadline)
}

/// epoll_pwait2(2).
pub(crate) fn epoll_pwait2(
    cx: &mut SyscallCx<'_>,
    epfd: Fd,
    events: UserRef<EpollEvent>,
    max: i32,
    timeout: UserRef<Timespec>,
    mask: UserRef<SigSet>,
    size: u64,
) -> SysResult<usize> {
    if let Some(timeout) = timeout.non_null() {
        let nanos = cx.memory.read(timeout)?.nanos().ok_or(Errno::EINVAL)?;
        cx.deadline(|kernel| Some(kernel.clock.now().after(nanos)));
    }
    use_mask(cx, mask, size)?;
    let deadline = cx.state.deadline;
    wait(cx, epfd, events, max, deadline)
}

fn wait(
    cx: &mut SyscallCx<'_>,
    epfd: Fd,
    events: UserRef<EpollEvent>,
    max: i32,
    deadline: Option<Instant>,
) -> SysResult<usize> {
    let file = cx.file(epfd)?;
    if max > MAX_EVENTS {
        return fail!(EINVAL);
    }
    let max = usize::try_from(max)
        .ok()
        .filter(|max| *max > 0)
        .ok_or(Errno::EINVAL)?;
    let epoll = file.ops_as::<Epoll>().ok_or(Errno::EINVAL)?;
    let generation = epoll.queue.generation();
    let memory = &cx.memory;
    let done = epoll.collect(max, &mut |index, ready, data| {
        memory.write(events.at(index as u64)?, &join(ready, data))
    })?;
    // Unlike in poll(2), a time that is over counts more than a signal that is there already.
    if done > 0 || cx.timed_out() {
        return Ok(done);
    }
    Err(WaitFor::default()
        .and_since(&epoll.queue, Events::READ, generation)
        .until(deadline)
        .on_signal(OnSignal::AlwaysEintr)
        .into())
}
