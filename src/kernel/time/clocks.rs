//! Reading and setting the clocks: clock_gettime(2), gettimeofday(2), adjtimex(2).

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::cpu::CpuClock;
use super::{Base, NANOS_PER_SEC};
use crate::kernel::abi::time::{Timespec, Timeval};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, Task};
use crate::kernel::user_memory::UserRef;

/// Resolution of the coarse clocks: one tick of a 250 Hz kernel, in nanoseconds.
const TICK: u64 = 4_000_000;

/// `struct timezone`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Timezone {
    minutes_west: i32,
    dst: i32,
}

/// `struct timex` of adjtimex(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Timex {
    modes: u32,
    pad: u32,
    offset: i64,
    freq: i64,
    maxerror: i64,
    esterror: i64,
    status: i32,
    pad2: i32,
    constant: i64,
    precision: i64,
    tolerance: i64,
    time: Timeval,
    tick: i64,
    /// PPS statistics and padding.
    rest: [u8; 96],
}

/// The clock to base timers and sleeps on; EINVAL for none, EOPNOTSUPP for one that can only be read, EPERM for a wake-up
/// alarm without the capability.
pub(crate) fn timer_base(task: &Arc<Task>, clock: i32) -> Result<Base, Errno> {
    Ok(match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_TAI => Base::Realtime,
        libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME => Base::Monotonic,
        libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM => {
            if !task.creds().capable(Capability::WakeAlarm) {
                return Err(Errno::EPERM);
            }
            if clock == libc::CLOCK_REALTIME_ALARM {
                Base::Realtime
            } else {
                Base::Monotonic
            }
        }
        libc::CLOCK_PROCESS_CPUTIME_ID => Base::Cpu(CpuClock::of_process(&task.group, false)),
        libc::CLOCK_THREAD_CPUTIME_ID => Base::Cpu(CpuClock::of_thread(task)),
        libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_MONOTONIC_COARSE => {
            return Err(Errno::EOPNOTSUPP);
        }
        id if id < 0 => Base::Cpu(CpuClock::from_id(task, id)?),
        _ => return Err(Errno::EINVAL),
    })
}

/// The clock to read; EINVAL for none.
fn readable(task: &Arc<Task>, clock: i32) -> Result<Base, Errno> {
    match clock {
        libc::CLOCK_REALTIME_COARSE | libc::CLOCK_REALTIME_ALARM => Ok(Base::Realtime),
        libc::CLOCK_MONOTONIC_RAW | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME_ALARM => {
            Ok(Base::Monotonic)
        }
        _ => timer_base(task, clock),
    }
}

/// clock_gettime(2).
pub(crate) fn clock_gettime(cx: &mut SyscallCx<'_>, clock: i32, to: UserRef<Timespec>) -> SysResult<()> {
    let base = readable(cx.task, clock)?;
    cx.kernel.reactor.clock_is_read();
    let now = base.now(cx.kernel);
    Ok(cx.memory.write(to, &Timespec::from_nanos(now))?)
}

/// clock_getres(2).
pub(crate) fn clock_getres(cx: &mut SyscallCx<'_>, clock: i32, to: UserRef<Timespec>) -> SysResult<()> {
    readable(cx.task, clock)?;
    let resolution = match clock {
        libc::CLOCK_REALTIME_COARSE | libc::CLOCK_MONOTONIC_COARSE => TICK,
        id if super::cpu::counts_ticks(id) => TICK,
        _ => 1,
    };
    if let Some(to) = to.non_null() {
        cx.memory.write(to, &Timespec::from_nanos(resolution))?;
    }
    Ok(())
}

/// Set CLOCK_REALTIME of this guest; EPERM.
fn set(cx: &SyscallCx<'_>, nanos: u64) -> SysResult<()> {
    if !cx.task.creds().capable(Capability::SysTime) {
        return fail!(EPERM);
    }
    let nanos = i64::try_from(nanos).map_err(|_| Errno::EINVAL)?;
    cx.kernel.clock.set_realtime_nanos(nanos);
    if let Some((boot, ahead)) = cx.kernel.clock.against_host() {
        cx.kernel.platform.set_clock(boot, ahead);
    }
    Ok(())
}

/// clock_settime(2): CLOCK_REALTIME alone can be set, and only for the guest.
pub(crate) fn clock_settime(cx: &mut SyscallCx<'_>, clock: i32, from: UserRef<Timespec>) -> SysResult<()> {
    if clock != libc::CLOCK_REALTIME {
        return fail!(EINVAL);
    }
    let nanos = cx.memory.read(from)?.nanos().ok_or(Errno::EINVAL)?;
    set(cx, nanos)
}

/// gettimeofday(2). The time zone is UTC.
pub(crate) fn gettimeofday(
    cx: &mut SyscallCx<'_>,
    tv: UserRef<Timeval>,
    tz: UserRef<Timezone>,
) -> SysResult<()> {
    cx.kernel.reactor.clock_is_read();
    if let Some(tv) = tv.non_null() {
        let now = Base::Realtime.now(cx.kernel);
        cx.memory.write(tv, &Timeval::from_nanos(now))?;
    }
    if let Some(tz) = tz.non_null() {
        cx.memory.write(tz, &Timezone::default())?;
    }
    Ok(())
}

/// settimeofday(2). The kernel's idea of a time zone is accepted and forgotten.
pub(crate) fn settimeofday(
    cx: &mut SyscallCx<'_>,
    tv: UserRef<Timeval>,
    tz: UserRef<Timezone>,
) -> SysResult<()> {
    let tv = tv.non_null().map(|tv| cx.memory.read(tv)).transpose()?;
    if let Some(tz) = tz.non_null() {
        let tz = cx.memory.read(tz)?;
        if tz.minutes_west.unsigned_abs() > 15 * 60 {
            return fail!(EINVAL);
        }
    }
    match tv {
        Some(tv) => set(cx, tv.nanos().ok_or(Errno::EINVAL)?),
        None if cx.task.creds().capable(Capability::SysTime) => Ok(()),
        None => fail!(EPERM),
    }
}

/// time(2).
pub(crate) fn time(cx: &mut SyscallCx<'_>, to: UserRef<i64>) -> SysResult<i64> {
    cx.kernel.reactor.clock_is_read();
    let seconds = (Base::Realtime.now(cx.kernel) / NANOS_PER_SEC).cast_signed();
    if let Some(to) = to.non_null() {
        cx.memory.write(to, &seconds)?;
    }
    Ok(seconds)
}

/// adjtimex(2), read only: EPERM for any change.
pub(crate) fn adjtimex(cx: &mut SyscallCx<'_>, buf: UserRef<Timex>) -> SysResult<i32> {
    const STA_UNSYNC: i32 = 0x40;
    const TIME_ERROR: i32 = 5;
    let mut timex = cx.memory.read(buf)?;
    if timex.modes != 0 {
        return fail!(EPERM);
    }
    timex = Timex {
        maxerror: 16_000_000,
        esterror: 16_000_000,
        status: STA_UNSYNC,
        constant: 2,
        precision: 1,
        tolerance: 32_768_000,
        time: Timeval::from_nanos(Base::Realtime.now(cx.kernel)),
        tick: 10_000,
        offset: 0,
        freq: 0,
        rest: [0; 96],
        ..timex
    };
    cx.memory.write(buf, &timex)?;
    Ok(TIME_ERROR)
}

/// clock_adjtime(2): adjtimex(2) of a clock that could be adjusted.
pub(crate) fn clock_adjtime(cx: &mut SyscallCx<'_>, clock: i32, buf: UserRef<Timex>) -> SysResult<i32> {
    match clock {
        libc::CLOCK_REALTIME => adjtimex(cx, buf),
        _ => {
            readable(cx.task, clock)?;
            fail!(EOPNOTSUPP)
        }
    }
}
