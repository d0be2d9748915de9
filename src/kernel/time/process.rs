//! The timers of one process, and the signals they send.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::cpu_limit::CpuLimit;
use super::interval::IntervalTimer;
use super::posix::PosixTimer;
use crate::kernel::Kernel;
use crate::kernel::signal::{SigFields, SigInfo};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::{Task, ThreadGroup};

/// Interval timers by ITIMER_* number and the timers of timer_create(2).
pub struct ProcessTimers(Lock<Timers>);

#[derive(Default)]
pub(super) struct Timers {
    pub(super) interval: [Option<Arc<IntervalTimer>>; 3],
    pub(super) posix: BTreeMap<i32, Arc<PosixTimer>>,
    pub(super) next_id: i32,
    pub(super) cpu_limit: Option<Arc<CpuLimit>>,
}

impl Default for ProcessTimers {
    fn default() -> Self {
        ProcessTimers(Lock::new(Rank::Table, Timers::default()))
    }
}

impl ProcessTimers {
    /// execve(2) deletes the timers of timer_create(2); interval timers go on.
    pub fn on_exec(&self) {
        let dropped = std::mem::take(&mut self.0.lock().posix);
        drop(dropped);
    }

    /// The process has ended: no timer fires any more.
    pub fn on_exit(&self) {
        let dropped = std::mem::take(&mut *self.0.lock());
        drop(dropped);
    }

    /// Read or change them. Timers taken out must be dropped after the lock.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Timers) -> R) -> R {
        act(&mut self.0.lock())
    }
}

/// A timer's signal was taken from a queue: the timer goes on, and the signal learns what it missed meanwhile.
pub(in crate::kernel) fn signal_taken(task: &Task, info: &mut SigInfo) {
    match &mut info.fields {
        SigFields::Timer { id, overrun, .. } => {
            let timer = task.group.timers.with(|t| t.posix.get(id).cloned());
            if let Some(timer) = timer {
                *overrun = timer.signal_taken(&task.kernel);
            }
        }
        // Whoever sent it: the timer's own may have merged with one that was pending.
        _ if matches!(info.signal, libc::SIGALRM | libc::SIGVTALRM | libc::SIGPROF) => {
            let timers = task.group.timers.with(|t| t.interval.clone());
            for timer in timers.into_iter().flatten() {
                timer.signal_taken(&task.kernel, info.signal);
            }
        }
        _ => {}
    }
}

/// The guest and process a timer belongs to, while they exist.
#[derive(Clone)]
pub(super) struct Owner {
    kernel: Weak<Kernel>,
    group: Weak<ThreadGroup>,
}

impl Owner {
    pub(super) fn of(task: &Task) -> Owner {
        Owner {
            kernel: Arc::downgrade(&task.kernel),
            group: Arc::downgrade(&task.group),
        }
    }

    pub(super) fn get(&self) -> Option<(Arc<Kernel>, Arc<ThreadGroup>)> {
        Some((self.kernel.upgrade()?, self.group.upgrade()?))
    }
}
