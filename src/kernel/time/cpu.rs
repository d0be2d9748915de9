//! CPU-time clocks of processes and threads: clock_getcpuclockid(3).

use std::sync::{Arc, Weak};

use crate::kernel::stop::Errno;
use crate::kernel::task::{Pid, Task, ThreadGroup};
use crate::kernel::wait::Wakeup;

/// Clock ids of CPU clocks: the inverted pid above three bits that say which clock.
const THREAD_BIT: i32 = 4;
const KIND_MASK: i32 = 3;
/// User and system time, user time alone, and the scheduler's count (which is the first here too).
const KIND_VIRTUAL: i32 = 1;
const KIND_SCHED: i32 = 2;

/// Whose CPU time.
#[derive(Clone)]
enum Whose {
    Process(Weak<ThreadGroup>),
    Thread(Weak<Task>),
}

/// A CPU-time clock.
#[derive(Clone)]
pub struct CpuClock {
    whose: Whose,
    user_only: bool,
}

/// Whether Linux counts the CPU clock with this id in ticks and not in nanoseconds.
pub(super) fn counts_ticks(id: i32) -> bool {
    id < 0 && id & KIND_MASK != KIND_SCHED
}

impl CpuClock {
    /// The clock of a process.
    pub fn of_process(group: &Arc<ThreadGroup>, user_only: bool) -> CpuClock {
        CpuClock {
            whose: Whose::Process(Arc::downgrade(group)),
            user_only,
        }
    }

    /// The clock of a thread.
    pub fn of_thread(task: &Arc<Task>) -> CpuClock {
        CpuClock {
            whose: Whose::Thread(Arc::downgrade(task)),
            user_only: false,
        }
    }

    /// The clock with a negative id, as `task` sees it. EINVAL when there is no such process or, for a thread's, when it
    /// is another process's.
    pub fn from_id(task: &Arc<Task>, id: i32) -> Result<CpuClock, Errno> {
        let pid: Pid = !(id >> 3);
        let kind = id & KIND_MASK;
        if kind > KIND_SCHED {
            return Err(Errno::EINVAL);
        }
        let user_only = kind == KIND_VIRTUAL;
        if id & THREAD_BIT != 0 {
            let thread = if pid == 0 {
                task.clone()
            } else {
                task.kernel.pids.task(pid).ok_or(Errno::EINVAL)?
            };
            if !Arc::ptr_eq(&thread.group, &task.group) {
                return Err(Errno::EINVAL);
            }
            return Ok(CpuClock {
                user_only,
                ..CpuClock::of_thread(&thread)
            });
        }
        let group = if pid == 0 {
            task.group.clone()
        } else {
            task.kernel.pids.group(pid).ok_or(Errno::EINVAL)?
        };
        Ok(CpuClock::of_process(&group, user_only))
    }

    /// The present reading in nanoseconds; stands still once what it measures has ended.
    pub fn now(&self) -> u64 {
        let (user, system) = match &self.whose {
            Whose::Process(group) => group.upgrade().map_or((0, 0), |g| g.cpu_time()),
            Whose::Thread(task) => task.upgrade().map_or((0, 0), |t| t.cpu_time()),
        };
        if self.user_only {
            user
        } else {
            user.saturating_add(system)
        }
    }

    /// Have `waiter` called when the clock may go on, if it stands still because no thread of its process runs.
    pub fn doze(&self, waiter: &Arc<dyn Wakeup>) -> bool {
        let group = match &self.whose {
            Whose::Process(group) => group.upgrade(),
            Whose::Thread(task) => task.upgrade().map(|t| t.group.clone()),
        };
        let Some(group) = group else { return false };
        group.timers.doze(waiter);
        // Looked at after that: who wakes up from now on finds the waiter. One too many calls does no harm.
        let (threads, stopped) = {
            let state = group.state.lock();
            (state.threads.clone(), state.stopped.is_some())
        };
        stopped || threads.iter().all(|thread| thread.is_parked())
    }

    /// How many nanoseconds it can gain in one.
    pub fn speed(&self) -> u64 {
        let threads = match &self.whose {
            Whose::Process(group) => group.upgrade().map_or(1, |g| g.state.lock().threads.len()),
            Whose::Thread(_) => 1,
        };
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        threads.clamp(1, cpus) as u64
    }
}
