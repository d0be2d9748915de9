//! nanosleep(2), clock_nanosleep(2).

use super::clocks::timer_base;
use super::{Base, Instant};
use crate::kernel::abi::time::Timespec;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::UserRef;
use crate::kernel::wait::{Events, OnSignal, WaitFor};

/// nanosleep(2).
pub(crate) fn nanosleep(
    cx: &mut SyscallCx<'_>,
    request: UserRef<Timespec>,
    remain: UserRef<Timespec>,
) -> SysResult<()> {
    let nanos = cx.memory.read(request)?.nanos().ok_or(Errno::EINVAL)?;
    sleep_for(cx, nanos, remain)
}

/// clock_nanosleep(2). CPU-time clocks are refused with EOPNOTSUPP.
pub(crate) fn clock_nanosleep(
    cx: &mut SyscallCx<'_>,
    clock: i32,
    flags: i32,
    request: UserRef<Timespec>,
    remain: UserRef<Timespec>,
) -> SysResult<()> {
    match clock {
        libc::CLOCK_THREAD_CPUTIME_ID
        | libc::CLOCK_MONOTONIC_RAW
        | libc::CLOCK_REALTIME_COARSE
        | libc::CLOCK_MONOTONIC_COARSE => return fail!(EOPNOTSUPP),
        _ => {}
    }
    let base = timer_base(cx.task, clock)?;
    let nanos = cx.memory.read(request)?.nanos().ok_or(Errno::EINVAL)?;
    let realtime = match base {
        Base::Monotonic => false,
        Base::Realtime => true,
        Base::Cpu(_) => return fail!(EOPNOTSUPP),
    };
    if flags & libc::TIMER_ABSTIME == 0 {
        return sleep_for(cx, nanos, remain);
    }
    // The reading of a clock that can be set is looked at anew each time, and setting it wakes.
    let was_set = cx.kernel.clock.was_set();
    let generation = was_set.generation();
    let deadline = if realtime {
        cx.kernel.clock.instant_of_realtime(nanos)
    } else {
        Instant(nanos)
    };
    if cx.kernel.clock.now() >= deadline {
        return Ok(());
    }
    let mut wait = WaitFor::default();
    if realtime {
        wait = wait.and_since(was_set, Events::empty(), generation);
    }
    Err(wait.until(Some(deadline)).on_signal(OnSignal::Eintr).into())
}

fn sleep_for(cx: &mut SyscallCx<'_>, nanos: u64, remain: UserRef<Timespec>) -> SysResult<()> {
    let first = cx.state.deadline.is_none();
    let deadline = cx.deadline(|kernel| Some(kernel.clock.now().after(nanos)));
    if cx.timed_out() {
        return Ok(());
    }
    if first
        && let Some(remain) = remain.non_null()
        && let Some(deadline) = deadline
    {
        let kernel = cx.kernel.clone();
        cx.state.on_eintr = Some(Box::new(move |memory| {
            let left = deadline.since(kernel.clock.now());
            memory.write(remain, &Timespec::from_nanos(left))
        }));
    }
    Err(WaitFor::default()
        .until(deadline)
        .on_signal(OnSignal::Eintr)
        .into())
}
