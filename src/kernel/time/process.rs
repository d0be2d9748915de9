//! The timers of one process, and the signals they send.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::cpu_limit::CpuLimit;
use super::interval::IntervalTimer;
use super::posix::PosixTimer;
use crate::kernel::Kernel;
use crate::kernel::signal::{SigFields, SigInfo};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::{Task, ThreadGroup};
use crate::kernel::wait::{Events, Wakeup};

/// Interval timers by ITIMER_* number and the timers of timer_create(2).
pub struct ProcessTimers {
    timers: Lock<Timers>,
    /// Timers on CPU clocks of this process that are not looked at, since none of its threads runs.
    dormant: Lock<Vec<Weak<dyn Wakeup>>>,
    any_dormant: AtomicBool,
}

#[derive(Default)]
pub(super) struct Timers {
    pub(super) interval: [Option<Arc<IntervalTimer>>; 3],
    pub(super) posix: BTreeMap<i32, Arc<PosixTimer>>,
    pub(super) next_id: i32,
    pub(super) cpu_limit: Option<Arc<CpuLimit>>,
}

impl Default for ProcessTimers {
    fn default() -> Self {
        ProcessTimers {
            timers: Lock::new(Rank::Table, Timers::default()),
            dormant: Lock::new(Rank::Leaf, Vec::new()),
            any_dormant: AtomicBool::new(false),
        }
    }
}

impl ProcessTimers {
    /// execve(2) deletes the timers of timer_create(2); interval timers go on.
    pub fn on_exec(&self) {
        let dropped = std::mem::take(&mut self.timers.lock().posix);
        drop(dropped);
    }

    /// The process has ended: no timer fires any more.
    pub fn on_exit(&self) {
        let dropped = std::mem::take(&mut *self.timers.lock());
        drop(dropped);
    }

    /// Have `waiter` called when a thread of the process begins to run again.
    pub(super) fn doze(&self, waiter: &Arc<dyn Wakeup>) {
        let mut dormant = self.dormant.lock();
        let waiter = Arc::downgrade(waiter);
        if !dormant.iter().any(|known| known.ptr_eq(&waiter)) {
            dormant.push(waiter);
        }
        drop(dormant);
        self.any_dormant.store(true, Ordering::SeqCst);
    }

    /// A thread of the process is about to run guest code. Call it with no lock held.
    pub fn rouse(&self) {
        if self.any_dormant.load(Ordering::SeqCst) && self.any_dormant.swap(false, Ordering::SeqCst) {
            let dormant = std::mem::take(&mut *self.dormant.lock());
            for waiter in dormant.iter().filter_map(Weak::upgrade) {
                waiter.wake(Events::empty());
            }
        }
    }

    /// Read or change them. Timers taken out must be dropped after the lock.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Timers) -> R) -> R {
        act(&mut self.timers.lock())
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
