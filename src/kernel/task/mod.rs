//! Tasks: threads, processes, credentials, and how they come and go.
//!
//! State is grouped as clone(2) groups it: descriptor table, fs context, address space, signal handlers. A [`Task`] is one
//! thread; a [`ThreadGroup`] is one process.

mod creds;
mod exit;
mod group;
mod pids;
mod run;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

pub use creds::{Capability, Creds};
pub use group::{ExitStatus, GroupState, Rlimit, Rlimits, StateChange, ThreadGroup};
pub use pids::{PID_MAX, PidTable, Pids, Process, Zombie};
pub use run::current;
pub(in crate::kernel) use run::error_value;

use super::Kernel;
use super::fs::{FdTable, FsContext};
use super::mm::Mm;
use super::signal::{SigHand, SigSet, SignalState, UNBLOCKABLE};
use super::sync::{Lock, Rank};
use super::syscall::CallState;
use super::user_memory::UserMemory;
use super::wait::reactor::Timer;
use super::wait::{Events, OnSignal, Registration, Wakeup};
use crate::platform::ThreadHandle;

/// A guest process or thread id.
pub type Pid = i32;

/// One guest thread.
pub struct Task {
    /// Thread id. Changes only when a thread that is not the leader execs, so read it through [`Task::tid`].
    tid: AtomicU32,
    /// The kernel it lives in.
    pub kernel: Arc<Kernel>,
    /// Its process.
    pub group: Arc<ThreadGroup>,
    /// How to make the platform look at it.
    waker: Arc<TaskWaker>,
    /// What is replaced as a whole by clone, exec and unshare.
    shared: Lock<Shared>,
    /// Small facts of the thread.
    pub state: Lock<TaskState>,
    /// Mask, alternate stack and signals sent to this thread alone.
    pub signals: Lock<SignalState>,
    /// The call it is in, only while no handler runs for it.
    run: Lock<RunState>,
    /// Something (a signal, a stop, an exit) is to be looked at before guest code runs again.
    attention: AtomicBool,
}

/// The parts of a task that it may share with others.
#[derive(Clone)]
struct Shared {
    files: Arc<FdTable>,
    fs: Arc<Lock<FsContext>>,
    mm: Arc<Mm>,
    sighand: Arc<SigHand>,
    creds: Arc<Creds>,
}

/// Small facts of a thread.
#[derive(Clone, Debug, Default)]
pub struct TaskState {
    /// Name (PR_SET_NAME), at most 15 bytes.
    pub comm: Vec<u8>,
    /// Address to clear and wake when the thread ends (CLONE_CHILD_CLEARTID).
    pub clear_child_tid: u64,
    /// Head of the robust futex list and its length.
    pub robust_list: (u64, u64),
    /// Signal sent to this thread when its parent thread ends (PR_SET_PDEATHSIG).
    pub pdeath_signal: i32,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// Timer slack in nanoseconds.
    pub timer_slack: u64,
    /// The thread has ended; only its entry is left.
    pub exited: bool,
    /// What /proc shows: the number of the call it is blocked in.
    pub blocked_in: Option<u64>,
    /// When it began, on the monotonic clock.
    pub started: super::time::Instant,
}

/// What a task is in the middle of.
#[derive(Default)]
struct RunState {
    call: Option<Call>,
}

/// A syscall that has begun and not ended.
pub(in crate::kernel) struct Call {
    /// Its number.
    pub(in crate::kernel) nr: u64,
    args: [u64; 6],
    /// What its handler keeps.
    pub(in crate::kernel) state: CallState,
    /// What a signal does to it.
    pub(in crate::kernel) on_signal: OnSignal,
    /// Kept alive while parked.
    parked: Option<(Vec<Registration>, Option<Timer>)>,
}

impl Call {
    fn new(nr: u64, args: [u64; 6]) -> Call {
        Call {
            nr,
            args,
            state: CallState::default(),
            on_signal: OnSignal::default(),
            parked: None,
        }
    }
}

/// Wakes a task: passes the first wakeup since the last park on to the platform.
pub struct TaskWaker {
    fired: AtomicBool,
    handle: Lock<Option<Arc<dyn ThreadHandle>>>,
}

impl TaskWaker {
    fn new() -> Arc<TaskWaker> {
        Arc::new(TaskWaker {
            fired: AtomicBool::new(false),
            handle: Lock::new(Rank::Leaf, None),
        })
    }

    /// The task's thread is now this one.
    fn attach(&self, handle: Arc<dyn ThreadHandle>) {
        *self.handle.lock() = Some(handle);
    }

    fn handle(&self) -> Option<Arc<dyn ThreadHandle>> {
        self.handle.lock().clone()
    }

    /// The task is about to park: the next wakeup counts.
    fn arm(&self) {
        self.fired.store(false, Ordering::SeqCst);
    }

    /// Make the platform call the task's handler, running or parked.
    fn kick(&self) {
        if let Some(handle) = self.handle() {
            handle.kick();
        }
    }
}

impl Wakeup for TaskWaker {
    fn wake(&self, _: Events) {
        if !self.fired.swap(true, Ordering::SeqCst) {
            self.kick();
        }
    }
}

impl Task {
    /// Thread id.
    pub fn tid(&self) -> Pid {
        self.tid.load(Ordering::Relaxed).cast_signed()
    }

    /// Process id.
    pub fn pid(&self) -> Pid {
        self.group.pid
    }

    /// Whether it is its process's first thread.
    pub fn is_leader(&self) -> bool {
        self.tid() == self.pid()
    }

    /// Its descriptor table.
    pub fn files(&self) -> Arc<FdTable> {
        self.shared.lock().files.clone()
    }

    /// Have a descriptor table of its own (CLOSE_RANGE_UNSHARE, unshare(2) with CLONE_FILES).
    pub fn unshare_files(&self) {
        let copy = self.files().copy();
        let old = std::mem::replace(&mut self.shared.lock().files, copy);
        drop(old);
    }

    /// Its working directory, root and umask.
    pub fn fs(&self) -> Arc<Lock<FsContext>> {
        self.shared.lock().fs.clone()
    }

    /// Its address space.
    pub fn mm(&self) -> Arc<Mm> {
        self.shared.lock().mm.clone()
    }

    /// Its signal handlers.
    pub fn sighand(&self) -> Arc<SigHand> {
        self.shared.lock().sighand.clone()
    }

    /// Its credentials.
    pub fn creds(&self) -> Arc<Creds> {
        self.shared.lock().creds.clone()
    }

    /// Replace its credentials.
    pub fn set_creds(&self, creds: Creds) {
        self.shared.lock().creds = Arc::new(creds);
    }

    /// Its memory.
    pub fn memory(&self) -> UserMemory {
        UserMemory::new(self.mm().space.clone())
    }

    /// Whether it waits in a call.
    pub fn is_parked(&self) -> bool {
        self.run
            .lock()
            .call
            .as_ref()
            .is_some_and(|call| call.parked.is_some())
    }

    /// User and system CPU time so far, in nanoseconds.
    pub fn cpu_time(&self) -> (u64, u64) {
        self.waker.handle().map_or((0, 0), |h| h.cpu_time())
    }

    /// Make its handler run soon, whatever it is doing: it looks at signals, stops and exits.
    pub fn kick(&self) {
        self.attention.store(true, Ordering::SeqCst);
        self.waker.kick();
    }

    /// As [`Task::kick`] from the task's own handler, which looks before it returns.
    pub(in crate::kernel) fn kick_self(&self) {
        self.attention.store(true, Ordering::SeqCst);
    }

    /// Replace the mask of blocked signals and look again at what is pending. Returns the old mask.
    pub fn set_signal_mask(&self, mask: SigSet) -> SigSet {
        let old = std::mem::replace(&mut self.signals.lock().mask, mask & !UNBLOCKABLE);
        self.attention.store(true, Ordering::SeqCst);
        old
    }
}
