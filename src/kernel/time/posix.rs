//! timer_create(2) and its family.

use std::sync::{Arc, Weak};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Countdown;
use super::clocks::timer_base;
use super::countdown::nanos_of;
use super::interval::IGNORED_PAUSE;
use super::process::Owner;
use crate::kernel::Kernel;
use crate::kernel::abi::time::{Itimerspec, Timespec};
use crate::kernel::signal::{self, SigFields, SigInfo, Signal};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Task;
use crate::kernel::user_memory::UserRef;
use crate::kernel::wait::{Events, Registration, Wakeup};

const SIGEV_THREAD: i32 = 2;

/// `struct sigevent` as far as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Sigevent {
    value: u64,
    signo: i32,
    notify: i32,
    tid: i32,
    rest: [u8; 44],
}

/// Whom a timer tells.
enum Notify {
    None,
    Process(Signal),
    Thread(Weak<Task>, Signal),
}

/// A timer of timer_create(2).
pub(super) struct PosixTimer {
    id: i32,
    value: u64,
    notify: Notify,
    owner: Owner,
    waiter: Weak<PosixTimer>,
    state: Lock<State>,
}

struct State {
    countdown: Countdown,
    /// Its signal is queued; the next period is counted when that is taken.
    queued: bool,
    /// Overrun of the signal taken last.
    overrun: i32,
    /// Told when CLOCK_REALTIME is set, for a timer that follows it.
    clock_set: Option<Registration>,
}

impl PosixTimer {
    fn arm(&self, kernel: &Kernel, state: &mut State, pause: u64) {
        if matches!(self.notify, Notify::None) {
            // Nobody is told: what timer_gettime(2) shows is computed when it is asked for.
            return;
        }
        if let Some(waiter) = self.waiter.upgrade() {
            let waiter: Arc<dyn Wakeup> = waiter;
            state.countdown.arm_after(kernel, &waiter, pause);
            state.clock_set = state
                .countdown
                .follows_clock()
                .then(|| kernel.clock.was_set().register(Events::empty(), &waiter));
        }
    }

    /// The timer's signal was taken from its queue: begin the next period and say how many were missed.
    pub(super) fn signal_taken(&self, kernel: &Kernel) -> i32 {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.queued) {
            let expirations = state.countdown.expirations(kernel);
            state.overrun = i32::try_from(expirations.saturating_sub(1)).unwrap_or(i32::MAX);
            self.arm(kernel, &mut state, 0);
        }
        state.overrun
    }

    fn signal(&self) -> Option<Signal> {
        match &self.notify {
            Notify::None => None,
            Notify::Process(signal) | Notify::Thread(_, signal) => Some(*signal),
        }
    }
}

impl Wakeup for PosixTimer {
    /// Only the reactor and the setting of the clock call it, with no lock held.
    fn wake(&self, _: Events) {
        let (Some((kernel, group)), Some(signal)) = (self.owner.get(), self.signal()) else {
            return;
        };
        let ignored = group
            .threads()
            .first()
            .is_none_or(|t| t.sighand().ignores(signal));
        {
            let mut state = self.state.lock();
            if state.queued {
                return;
            }
            let due = state.countdown.is_due(&kernel);
            state.queued = due && !ignored;
            if due && ignored {
                state.countdown.expirations(&kernel);
            }
            if !state.queued {
                let pause = if due { IGNORED_PAUSE } else { 0 };
                self.arm(&kernel, &mut state, pause);
                return;
            }
        }
        let info = SigInfo {
            signal,
            errno: 0,
            code: libc::SI_TIMER,
            fields: SigFields::Timer {
                id: self.id,
                overrun: 0,
                value: self.value,
            },
        };
        // A full queue loses the signal, as on Linux.
        let _ = match &self.notify {
            Notify::Thread(task, _) => task.upgrade().map(|task| signal::send_to_task(&task, info)),
            _ => Some(signal::send_to_group(&kernel, &group, info)),
        };
    }
}

fn find(cx: &SyscallCx<'_>, id: i32) -> Result<Arc<PosixTimer>, Errno> {
    let timer = cx.task.group.timers.with(|t| t.posix.get(&id).cloned());
    timer.ok_or(Errno::EINVAL)
}

fn notification(cx: &SyscallCx<'_>, event: &Sigevent) -> Result<Notify, Errno> {
    if event.notify != libc::SIGEV_NONE && !(1..=64).contains(&event.signo) {
        return Err(Errno::EINVAL);
    }
    match event.notify {
        libc::SIGEV_NONE => Ok(Notify::None),
        libc::SIGEV_SIGNAL | SIGEV_THREAD => Ok(Notify::Process(event.signo)),
        libc::SIGEV_THREAD_ID => {
            let thread = cx.kernel.pids.task(event.tid).ok_or(Errno::EINVAL)?;
            if !Arc::ptr_eq(&thread.group, &cx.task.group) {
                return Err(Errno::EINVAL);
            }
            Ok(Notify::Thread(Arc::downgrade(&thread), event.signo))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// timer_create(2).
pub(crate) fn timer_create(
    cx: &mut SyscallCx<'_>,
    clock: i32,
    event: UserRef<Sigevent>,
    id_to: UserRef<i32>,
) -> SysResult<()> {
    let event = event.non_null().map(|e| cx.memory.read(e)).transpose()?;
    let base = timer_base(cx.task, clock)?;
    let notify = match &event {
        Some(event) => notification(cx, event)?,
        None => Notify::Process(libc::SIGALRM),
    };
    let limit = cx.task.group.soft_limit(libc::RLIMIT_SIGPENDING);
    let group = cx.task.group.clone();
    let id = group.timers.with(|timers| {
        if timers.posix.len() as u64 >= limit {
            return Err(Errno::EAGAIN);
        }
        while timers.posix.contains_key(&timers.next_id) {
            timers.next_id = timers.next_id.wrapping_add(1) & i32::MAX;
        }
        let id = timers.next_id;
        timers.next_id = id.wrapping_add(1) & i32::MAX;
        let timer = Arc::new_cyclic(|waiter| PosixTimer {
            id,
            value: event.map_or(u64::from(id.cast_unsigned()), |e| e.value),
            notify,
            owner: Owner::of(cx.task),
            waiter: waiter.clone(),
            state: Lock::new(
                Rank::Timer,
                State {
                    countdown: Countdown::new(base),
                    queued: false,
                    overrun: 0,
                    clock_set: None,
                },
            ),
        });
        timers.posix.insert(id, timer);
        Ok(id)
    })?;
    if let Err(errno) = cx.memory.write(id_to, &id) {
        drop(group.timers.with(|t| t.posix.remove(&id)));
        return Err(errno.into());
    }
    Ok(())
}

fn shown((value, interval): (u64, u64)) -> Itimerspec {
    Itimerspec {
        interval: Timespec::from_nanos(interval),
        value: Timespec::from_nanos(value),
    }
}

/// timer_settime(2).
pub(crate) fn timer_settime(
    cx: &mut SyscallCx<'_>,
    id: i32,
    flags: i32,
    new: UserRef<Itimerspec>,
    old: UserRef<Itimerspec>,
) -> SysResult<()> {
    if new.is_null() {
        return fail!(EINVAL);
    }
    let new = cx.memory.read(new)?;
    let (value, interval) = (nanos_of(new.value)?, nanos_of(new.interval)?);
    let timer = find(cx, id)?;
    let before = {
        let mut state = timer.state.lock();
        let before = state.countdown.get(cx.kernel);
        state.queued = false;
        state.overrun = 0;
        let absolute = flags & libc::TIMER_ABSTIME != 0;
        state.countdown.set(cx.kernel, value, absolute, interval);
        timer.arm(cx.kernel, &mut state, 0);
        before
    };
    if let Some(old) = old.non_null() {
        cx.memory.write(old, &shown(before))?;
    }
    Ok(())
}

/// timer_gettime(2).
pub(crate) fn timer_gettime(cx: &mut SyscallCx<'_>, id: i32, to: UserRef<Itimerspec>) -> SysResult<()> {
    let timer = find(cx, id)?;
    let (mut value, interval) = timer.state.lock().countdown.get(cx.kernel);
    if matches!(timer.notify, Notify::None) && interval == 0 && timer.state.lock().countdown.is_due(cx.kernel)
    {
        value = 0;
    }
    Ok(cx.memory.write(to, &shown((value, interval)))?)
}

/// timer_getoverrun(2).
pub(crate) fn timer_getoverrun(cx: &mut SyscallCx<'_>, id: i32) -> SysResult<i32> {
    Ok(find(cx, id)?.state.lock().overrun)
}

/// timer_delete(2).
pub(crate) fn timer_delete(cx: &mut SyscallCx<'_>, id: i32) -> SysResult<()> {
    let timer = cx.task.group.timers.with(|t| t.posix.remove(&id));
    match timer {
        Some(_) => Ok(()),
        None => fail!(EINVAL),
    }
}
