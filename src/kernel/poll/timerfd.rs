//! timerfd_create(2), timerfd_settime(2), timerfd_gettime(2).

use std::sync::{Arc, Weak};

use super::{descriptor_flags, new_descriptor};
use crate::kernel::Kernel;
use crate::kernel::abi::time::{Itimerspec, Timespec};
use crate::kernel::fs::{Fd, File, FileOps};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::time::{Base, Countdown};
use crate::kernel::user_memory::{Sink, UserRef};
use crate::kernel::wait::{Events, Registration, WaitFor, WaitQueue, Wakeup};

const ABSTIME: u32 = 1;
const CANCEL_ON_SET: u32 = 2;

/// A timer that is read.
struct TimerFd {
    kernel: Weak<Kernel>,
    base: Base,
    me: Weak<TimerFd>,
    queue: WaitQueue,
    state: Lock<State>,
}

struct State {
    countdown: Countdown,
    /// Told when CLOCK_REALTIME is set, for a timer that follows it.
    clock_set: Option<Registration>,
    /// How often the clock had been set when a reader was last told (TFD_TIMER_CANCEL_ON_SET).
    cancel_since: Option<u64>,
}

impl TimerFd {
    fn arm(&self, kernel: &Kernel, state: &mut State) {
        if let Some(me) = self.me.upgrade() {
            let waiter: Arc<dyn Wakeup> = me;
            state.countdown.arm(kernel, &waiter);
            state.clock_set = state
                .countdown
                .follows_clock()
                .then(|| kernel.clock.was_set().register(Events::empty(), &waiter));
        }
    }

    fn is_cancelled(&self, kernel: &Kernel, state: &State) -> bool {
        state
            .cancel_since
            .is_some_and(|since| kernel.clock.was_set().generation() != since)
    }
}

impl Wakeup for TimerFd {
    /// Only the reactor and the setting of the clock call it, with no lock held.
    fn wake(&self, _: Events) {
        let Some(kernel) = self.kernel.upgrade() else {
            return;
        };
        {
            let mut state = self.state.lock();
            if !state.countdown.is_due(&kernel) {
                self.arm(&kernel, &mut state);
            }
        }
        self.queue.notify(Events::READ);
    }
}

impl FileOps for TimerFd {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        if to.remaining() < 8 {
            return fail!(EINVAL);
        }
        let Some(kernel) = self.kernel.upgrade() else {
            return fail!(EIO);
        };
        let ticks = {
            let mut state = self.state.lock();
            if self.is_cancelled(&kernel, &state) {
                state.cancel_since = Some(kernel.clock.was_set().generation());
                return fail!(ECANCELED);
            }
            match state.countdown.expirations(&kernel) {
                0 if file.nonblocking() => return fail!(EAGAIN),
                0 => return Err(WaitFor::queue(&self.queue, Events::READ).into()),
                ticks => {
                    self.arm(&kernel, &mut state);
                    ticks
                }
            }
        };
        Ok(to.put(&ticks.to_le_bytes())?)
    }

    fn poll(&self, _: &File) -> Events {
        let Some(kernel) = self.kernel.upgrade() else {
            return Events::empty();
        };
        let state = self.state.lock();
        if state.countdown.is_due(&kernel) || self.is_cancelled(&kernel, &state) {
            Events::IN
        } else {
            Events::empty()
        }
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.queue.clone(), interest)]
    }
}

/// timerfd_create(2).
pub(crate) fn timerfd_create(cx: &mut SyscallCx<'_>, clock: i32, flags: u32) -> SysResult<i32> {
    let flags = descriptor_flags(flags)?;
    let base = match clock {
        libc::CLOCK_REALTIME
        | libc::CLOCK_MONOTONIC
        | libc::CLOCK_BOOTTIME
        | libc::CLOCK_REALTIME_ALARM
        | libc::CLOCK_BOOTTIME_ALARM => crate::kernel::time::timer_base(cx.task, clock)?,
        _ => return fail!(EINVAL),
    };
    let ops = Arc::new_cyclic(|me| TimerFd {
        kernel: Arc::downgrade(cx.kernel),
        base: base.clone(),
        me: me.clone(),
        queue: WaitQueue::new(),
        state: Lock::new(
            Rank::Object,
            State {
                countdown: Countdown::new(base),
                clock_set: None,
                cancel_since: None,
            },
        ),
    });
    new_descriptor(cx, "[timerfd]", ops, flags)
}

fn shown((value, interval): (u64, u64)) -> Itimerspec {
    Itimerspec {
        interval: Timespec::from_nanos(interval),
        value: Timespec::from_nanos(value),
    }
}

/// timerfd_settime(2).
pub(crate) fn timerfd_settime(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    flags: u32,
    new: UserRef<Itimerspec>,
    old: UserRef<Itimerspec>,
) -> SysResult<()> {
    let new = cx.memory.read(new)?;
    let value = new.value.nanos().ok_or(Errno::EINVAL)?;
    let interval = new.interval.nanos().ok_or(Errno::EINVAL)?;
    if flags & !(ABSTIME | CANCEL_ON_SET) != 0 {
        return fail!(EINVAL);
    }
    let file = cx.task.files().get(fd)?;
    let timer = file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)?;
    let cancel = flags == ABSTIME | CANCEL_ON_SET && matches!(timer.base, Base::Realtime);
    let before = {
        let mut state = timer.state.lock();
        let before = state.countdown.get(cx.kernel);
        state.countdown = Countdown::new(timer.base.clone());
        state
            .countdown
            .set(cx.kernel, value, flags & ABSTIME != 0, interval);
        state.cancel_since = cancel.then(|| cx.kernel.clock.was_set().generation());
        timer.arm(cx.kernel, &mut state);
        before
    };
    if let Some(old) = old.non_null() {
        cx.memory.write(old, &shown(before))?;
    }
    Ok(())
}

/// timerfd_gettime(2).
pub(crate) fn timerfd_gettime(cx: &mut SyscallCx<'_>, fd: Fd, to: UserRef<Itimerspec>) -> SysResult<()> {
    let file = cx.task.files().get(fd)?;
    let timer = file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)?;
    let (value, interval) = {
        let state = timer.state.lock();
        let (value, interval) = state.countdown.get(cx.kernel);
        let over = interval == 0 && state.countdown.is_due(cx.kernel);
        (if over { 0 } else { value }, interval)
    };
    Ok(cx.memory.write(to, &shown((value, interval)))?)
}
