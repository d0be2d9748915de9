//! RLIMIT_CPU: setrlimit(2).

use std::sync::{Arc, Weak};

use super::cpu::CpuClock;
use super::process::Owner;
use super::{Base, Countdown, NANOS_PER_SEC};
use crate::kernel::Kernel;
use crate::kernel::signal::{self, SigInfo};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::{Task, ThreadGroup};
use crate::kernel::wait::{Events, Wakeup};

/// Watches one process's CPU time.
pub(super) struct CpuLimit {
    owner: Owner,
    waiter: Weak<CpuLimit>,
    countdown: Lock<Countdown>,
}

/// Begin to watch, or adjust to new limits.
pub(in crate::kernel) fn watch_cpu_limit(task: &Arc<Task>) {
    let watch = task.group.timers.with(|timers| {
        timers
            .cpu_limit
            .get_or_insert_with(|| CpuLimit::new(task))
            .clone()
    });
    watch.arm(&task.kernel, &task.group);
}

impl CpuLimit {
    fn new(task: &Arc<Task>) -> Arc<CpuLimit> {
        let base = Base::Cpu(CpuClock::of_process(&task.group, false));
        Arc::new_cyclic(|waiter| CpuLimit {
            owner: Owner::of(task),
            waiter: waiter.clone(),
            countdown: Lock::new(Rank::Timer, Countdown::new(base)),
        })
    }

    /// Wait for whichever limit comes next.
    fn arm(&self, kernel: &Kernel, group: &ThreadGroup) {
        let next = {
            let state = group.state.lock();
            state
                .limits
                .0
                .get(libc::RLIMIT_CPU as usize)
                .map_or(u64::MAX, |l| l.soft.min(l.hard))
        };
        let Some(waiter) = self.waiter.upgrade() else {
            return;
        };
        let waiter: Arc<dyn Wakeup> = waiter;
        let mut countdown = self.countdown.lock();
        // A limit of 0 is taken as a second.
        let at = match next {
            u64::MAX => 0,
            next => next.max(1).saturating_mul(NANOS_PER_SEC),
        };
        countdown.set(kernel, at, true, 0);
        countdown.arm(kernel, &waiter);
    }
}

impl Wakeup for CpuLimit {
    /// Only the reactor calls it, with no lock held. Beyond the soft limit SIGXCPU comes every second, as on Linux, until
    /// the hard limit.
    fn wake(&self, _: Events) {
        let Some((kernel, group)) = self.owner.get() else {
            return;
        };
        let (user, system) = group.cpu_time();
        let used = (user + system) / NANOS_PER_SEC;
        let signal = {
            let mut state = group.state.lock();
            match state.limits.0.get_mut(libc::RLIMIT_CPU as usize) {
                Some(limit) if used >= limit.hard.max(1) => Some(libc::SIGKILL),
                Some(limit) if used >= limit.soft.max(1) => {
                    limit.soft = used + 1;
                    Some(libc::SIGXCPU)
                }
                _ => None,
            }
        };
        if let Some(signal) = signal {
            // A full queue holds this signal already.
            let _ = signal::send_to_group(&kernel, &group, SigInfo::kernel(signal));
        }
        if signal != Some(libc::SIGKILL) {
            self.arm(&kernel, &group);
        }
    }
}
