//! Processes: what the threads of one thread group share beyond what clone(2) lets them choose.

use super::{Pid, Task};
use crate::kernel::signal::{PendingSignals, SigInfo};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::ProcessTimers;
use crate::kernel::wait::{Events, WaitQueue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// How a process ended, in wait(2)'s terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// exit(2) with these low eight bits.
    Exited(u8),
    /// Ended by this signal.
    Signaled {
        /// Its number.
        signal: i32,
        /// Whether a core dump would have been written.
        core: bool,
    },
}

impl ExitStatus {
    /// The `status` word of wait4(2).
    pub fn wait_status(self) -> i32 {
        match self {
            ExitStatus::Exited(code) => i32::from(code) << 8,
            ExitStatus::Signaled { signal, core } => signal | if core { 0x80 } else { 0 },
        }
    }
}

/// One resource's limits (getrlimit(2)); RLIM_INFINITY is `u64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Rlimit {
    pub soft: u64,
    pub hard: u64,
}

/// Limits by RLIMIT_* number.
#[derive(Clone, Debug)]
pub struct Rlimits(pub [Rlimit; 16]);

impl Default for Rlimits {
    /// What Debian gives a session, the same on every host.
    fn default() -> Self {
        const INFINITY: Rlimit = Rlimit {
            soft: u64::MAX,
            hard: u64::MAX,
        };
        let mut limits = [INFINITY; 16];
        limits[libc::RLIMIT_STACK as usize] = Rlimit {
            soft: 8 << 20,
            hard: u64::MAX,
        };
        limits[libc::RLIMIT_CORE as usize] = Rlimit {
            soft: 0,
            hard: u64::MAX,
        };
        limits[libc::RLIMIT_NPROC as usize] = Rlimit {
            soft: 30_000,
            hard: 30_000,
        };
        limits[libc::RLIMIT_NOFILE as usize] = Rlimit {
            soft: 1024,
            hard: 1 << 20,
        };
        limits[libc::RLIMIT_MEMLOCK as usize] = Rlimit {
            soft: 8 << 20,
            hard: 8 << 20,
        };
        limits[libc::RLIMIT_SIGPENDING as usize] = Rlimit {
            soft: 30_000,
            hard: 30_000,
        };
        limits[libc::RLIMIT_MSGQUEUE as usize] = Rlimit {
            soft: 819_200,
            hard: 819_200,
        };
        limits[libc::RLIMIT_NICE as usize] = Rlimit { soft: 0, hard: 0 };
        limits[libc::RLIMIT_RTPRIO as usize] = Rlimit { soft: 0, hard: 0 };
        Rlimits(limits)
    }
}

/// One guest process.
pub struct ThreadGroup {
    /// Process id, which is the first thread's id.
    pub pid: Pid,
    /// Signal sent to the parent at the end: SIGCHLD unless clone(2) said otherwise, which lasts until it execs or is
    /// reparented.
    exit_signal: AtomicI32,
    has_ended: AtomicBool,
    /// State shared by its threads.
    pub state: Lock<GroupState>,
    /// Signals sent to the process as a whole.
    pub pending: Lock<PendingSignals>,
    /// Notified when one of its threads or children changes state: what wait(2), exec and exit wait for.
    pub changed: WaitQueue,
    /// Notified once, when its last thread has ended: what a pidfd is polled for.
    pub ended: WaitQueue,
    /// Notified when a signal is queued to it or one of its threads: what sigtimedwait(2) and signalfd(2) wait for.
    pub signaled: WaitQueue,
    /// Its timers.
    pub timers: ProcessTimers,
}

/// The changing part of a [`ThreadGroup`].
#[derive(Default)]
pub struct GroupState {
    /// Its threads, the first one first; ended ones leave.
    pub threads: Vec<Arc<Task>>,
    /// Set once it is ending: every thread exits when it next comes to the kernel.
    pub exiting: Option<ExitStatus>,
    /// Set while a thread execs: all other threads exit.
    pub exec_by: Option<Pid>,
    /// How often SIGCONT was sent to it.
    pub continues: u64,
    /// Whether it is stopped by job control, and by which signal.
    pub stopped: Option<i32>,
    /// A stop or continue that no wait(2) has reported yet.
    pub unreported: Option<StateChange>,
    /// Resource limits.
    pub limits: Rlimits,
    /// PR_SET_CHILD_SUBREAPER.
    pub subreaper: bool,
    /// Whether it has called execve since it was forked (setpgid gives EACCES then).
    pub execed: bool,
    /// CPU time of ended threads, user and system, in nanoseconds.
    pub ended_cpu: (u64, u64),
    /// CPU time of waited-for children, user and system, in nanoseconds.
    pub children_cpu: (u64, u64),
    /// Largest resident size of address spaces it has left, in bytes.
    pub peak: u64,
    /// Largest resident size of its waited-for children and theirs, in bytes.
    pub children_peak: u64,
    /// Name of the thread that ended last: what a zombie is called.
    pub last_comm: Vec<u8>,
    /// How the first thread ended by itself: the process's status if all end so.
    pub leader_status: Option<ExitStatus>,
    /// Tasks that it traces (ptrace(2)).
    pub(super) tracees: Vec<Arc<Task>>,
    /// Threads that it traced and that ended, until wait(2) has told of them.
    pub(super) ended_tracees: Vec<(Pid, ExitStatus)>,
    /// What the signal that ended or stopped it carried, for core-dump and ptrace users.
    pub last_signal: Option<SigInfo>,
}

/// A change that wait(2) reports once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateChange {
    /// Stopped by this signal (WUNTRACED).
    Stopped(i32),
    /// Continued by SIGCONT (WCONTINUED).
    Continued,
}

impl ThreadGroup {
    /// A process without threads yet.
    pub fn new(pid: Pid, exit_signal: i32, limits: Rlimits) -> Arc<ThreadGroup> {
        Arc::new(ThreadGroup {
            pid,
            exit_signal: AtomicI32::new(exit_signal),
            has_ended: AtomicBool::new(false),
            state: Lock::new(
                Rank::Group,
                GroupState {
                    limits,
                    ..GroupState::default()
                },
            ),
            pending: Lock::new(Rank::Signal, PendingSignals::default()),
            changed: WaitQueue::new(),
            ended: WaitQueue::new(),
            signaled: WaitQueue::new(),
            timers: ProcessTimers::default(),
        })
    }

    /// Signal sent to the parent at the end; 0 for none.
    pub fn exit_signal(&self) -> i32 {
        self.exit_signal.load(Ordering::Relaxed)
    }

    /// From now on it tells its parent by SIGCHLD.
    pub(super) fn reset_exit_signal(&self) {
        self.exit_signal.store(libc::SIGCHLD, Ordering::Relaxed);
    }

    /// A limit's soft value by RLIMIT_* number.
    pub fn soft_limit(&self, resource: u32) -> u64 {
        self.state
            .lock()
            .limits
            .0
            .get(resource as usize)
            .map_or(u64::MAX, |l| l.soft)
    }

    /// Name of the thread that ended last.
    pub fn last_comm(&self) -> Vec<u8> {
        self.state.lock().last_comm.clone()
    }

    /// Whether its last thread has ended, so that it can be waited for.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }

    /// Its last thread has ended and its place in the process tree says so.
    pub(super) fn set_ended(&self) {
        self.has_ended.store(true, Ordering::SeqCst);
        self.ended.notify(Events::READ);
    }

    /// All threads at this moment.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        self.state.lock().threads.clone()
    }

    /// Begin to end the process: every thread exits when it next comes to the kernel. The first status wins.
    pub fn begin_exit(&self, status: ExitStatus) {
        let threads = {
            let mut state = self.state.lock();
            state.exiting.get_or_insert(status);
            state.stopped = None;
            state.threads.clone()
        };
        for thread in threads {
            thread.kick_to_end();
            thread.release_held();
        }
    }
}
