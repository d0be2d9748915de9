//! setitimer(2), getitimer(2), alarm(2).

use std::sync::{Arc, Weak};

use super::cpu::CpuClock;
use super::process::Owner;
use super::{Base, Countdown, NANOS_PER_SEC};
use crate::kernel::Kernel;
use crate::kernel::abi::time::{Itimerval, Timeval};
use crate::kernel::signal::{self, SigInfo, Signal};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Task;
use crate::kernel::user_memory::UserRef;
use crate::kernel::wait::{Events, Wakeup};

/// While a timer's signal is ignored it need not fire more often than this, in nanoseconds.
pub(super) const IGNORED_PAUSE: u64 = NANOS_PER_SEC / 100;

/// One of a process's three interval timers.
pub(super) struct IntervalTimer {
    owner: Owner,
    signal: Signal,
    waiter: Weak<IntervalTimer>,
    state: Lock<State>,
}

struct State {
    countdown: Countdown,
    /// Its signal is queued; the next period is counted when that is taken.
    queued: bool,
}

impl IntervalTimer {
    fn new(task: &Arc<Task>, which: i32) -> Arc<IntervalTimer> {
        let (base, signal) = match which {
            libc::ITIMER_REAL => (Base::Monotonic, libc::SIGALRM),
            libc::ITIMER_VIRTUAL => (
                Base::Cpu(CpuClock::of_process(&task.group, true)),
                libc::SIGVTALRM,
            ),
            _ => (Base::Cpu(CpuClock::of_process(&task.group, false)), libc::SIGPROF),
        };
        Arc::new_cyclic(|waiter| IntervalTimer {
            owner: Owner::of(task),
            signal,
            waiter: waiter.clone(),
            state: Lock::new(
                Rank::Timer,
                State {
                    countdown: Countdown::new(base),
                    queued: false,
                },
            ),
        })
    }

    /// Set it and return what it was set to.
    fn set(&self, kernel: &Kernel, value: u64, interval: u64) -> (u64, u64) {
        let mut state = self.state.lock();
        let before = state.countdown.get(kernel);
        state.queued = false;
        state.countdown.set(kernel, value, false, interval);
        self.arm(kernel, &mut state, 0);
        before
    }

    fn get(&self, kernel: &Kernel) -> (u64, u64) {
        self.state.lock().countdown.get(kernel)
    }

    fn arm(&self, kernel: &Kernel, state: &mut State, pause: u64) {
        if let Some(waiter) = self.waiter.upgrade() {
            let waiter: Arc<dyn Wakeup> = waiter;
            state.countdown.arm_after(kernel, &waiter, pause);
        }
    }

    /// A signal like this timer's was taken: begin the next period.
    pub(super) fn signal_taken(&self, kernel: &Kernel, signal: Signal) {
        if signal != self.signal {
            return;
        }
        let mut state = self.state.lock();
        if std::mem::take(&mut state.queued) {
            state.countdown.expirations(kernel);
            self.arm(kernel, &mut state, 0);
        }
    }
}

impl Wakeup for IntervalTimer {
    /// Only the reactor calls it, with no lock held.
    fn wake(&self, _: Events) {
        let Some((kernel, group)) = self.owner.get() else {
            return;
        };
        let ignored = group
            .threads()
            .first()
            .is_none_or(|t| t.sighand().ignores(self.signal));
        {
            let mut state = self.state.lock();
            if state.queued {
                return;
            }
            let due = state.countdown.is_due(&kernel);
            if due {
                state.queued = !ignored;
                if ignored || state.countdown.get(&kernel).1 == 0 {
                    state.countdown.expirations(&kernel);
                }
            }
            if !state.queued {
                let pause = if due { IGNORED_PAUSE } else { 0 };
                self.arm(&kernel, &mut state, pause);
                return;
            }
        }
        // Not a failure of anybody's: a full queue holds this signal already.
        let _ = signal::send_to_group(&kernel, &group, SigInfo::kernel(self.signal));
    }
}

fn timer(task: &Arc<Task>, which: i32) -> Result<Arc<IntervalTimer>, Errno> {
    let index = usize::try_from(which).map_err(|_| Errno::EINVAL)?;
    task.group.timers.with(|timers| {
        let slot = timers.interval.get_mut(index).ok_or(Errno::EINVAL)?;
        Ok(slot
            .get_or_insert_with(|| IntervalTimer::new(task, which))
            .clone())
    })
}

fn shown((value, interval): (u64, u64)) -> Itimerval {
    Itimerval {
        interval: Timeval::from_nanos(interval),
        // A running timer never shows 0.
        value: Timeval::from_nanos(if value == 0 { 0 } else { value.max(1000) }),
    }
}

/// getitimer(2).
pub(crate) fn getitimer(cx: &mut SyscallCx<'_>, which: i32, value: UserRef<Itimerval>) -> SysResult<()> {
    let timer = timer(cx.task, which)?;
    Ok(cx.memory.write(value, &shown(timer.get(cx.kernel)))?)
}

/// setitimer(2). A null pointer to the new value stops the timer, as on Linux.
pub(crate) fn setitimer(
    cx: &mut SyscallCx<'_>,
    which: i32,
    new: UserRef<Itimerval>,
    old: UserRef<Itimerval>,
) -> SysResult<()> {
    let new = match new.non_null() {
        Some(new) => cx.memory.read(new)?,
        None => Itimerval::default(),
    };
    let value = new.value.nanos().ok_or(Errno::EINVAL)?;
    let interval = new.interval.nanos().ok_or(Errno::EINVAL)?;
    if !(0..3).contains(&which) {
        return fail!(EINVAL);
    }
    let before = timer(cx.task, which)?.set(cx.kernel, value, interval);
    if let Some(old) = old.non_null() {
        cx.memory.write(old, &shown(before))?;
    }
    Ok(())
}

/// alarm(2): the seconds that were left, never 0 for a running alarm.
pub(crate) fn alarm(cx: &mut SyscallCx<'_>, seconds: u32) -> SysResult<u32> {
    let timer = timer(cx.task, libc::ITIMER_REAL)?;
    let (left, _) = timer.set(cx.kernel, u64::from(seconds) * NANOS_PER_SEC, 0);
    let whole = left / NANOS_PER_SEC;
    let up = left % NANOS_PER_SEC >= NANOS_PER_SEC / 2 || (whole == 0 && left > 0);
    Ok(u32::try_from(whole + u64::from(up)).unwrap_or(u32::MAX))
}
