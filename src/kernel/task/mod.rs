//! Tasks: threads, processes, credentials, and how they come and go.
//!
//! State is grouped as clone(2) groups it: descriptor table, fs context, address space, signal handlers. A [`Task`] is one
//! thread; a [`ThreadGroup`] is one process.

pub mod access;
mod clone;
mod creds;
pub mod exec;
mod exit;
mod group;
pub mod pidfd;
mod pids;
mod ptrace;
mod run;
mod syscalls;
#[cfg(test)]
pub(in crate::kernel) mod testing;
mod usage;
mod vfork;
mod wait;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

pub use creds::{ALL_CAPABILITIES, Capability, Creds};
pub use group::{ExitStatus, GroupState, Rlimit, Rlimits, StateChange, ThreadGroup};
pub use pids::{PID_MAX, PidTable, Pids, Process, Zombie};
pub(in crate::kernel) use run::error_value;
pub use run::{current, current_deadline};
pub(in crate::kernel) use syscalls::dispatch;

use super::Kernel;
use super::dev::port::PortAccess;
use super::fs::{FdTable, FsContext, Places};
use super::mm::Mm;
use super::sched::{Player, Turns};
use super::signal::{self, SigHand, SigSet, SignalState, UNBLOCKABLE};
use super::sync::{Lock, Rank};
use super::syscall::CallState;
use super::user_memory::UserMemory;
use super::wait::reactor::Timer;
use super::wait::{Events, OnSignal, Registration, Wakeup};
use crate::platform::{Facts, Thread, ThreadHandle};

/// CPU time of one trap, where it has to follow from what the guest does, in nanoseconds.
const TRAP: u64 = 1000;

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
    /// Who waits in vfork(2) for it to exec or end.
    vfork: Lock<Option<Arc<vfork::Release>>>,
    /// How often it came here, where turns are given: its CPU time.
    traps: AtomicU64,
    /// Another process traces it (ptrace(2)): a quick look at `trace`.
    traced: AtomicBool,
    trace: Lock<Option<Box<ptrace::Trace>>>,
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
    /// Head of the list of robust futexes, unless the thread has named one without a trap since.
    robust_list: u64,
    /// Signal sent to this thread when its parent thread ends (PR_SET_PDEATHSIG).
    pub pdeath_signal: i32,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// Timer slack in nanoseconds.
    pub timer_slack: u64,
    /// The thread is ending or has ended: soon only its entry is left.
    pub exited: bool,
    /// What /proc shows: the number of the call it is blocked in.
    pub blocked_in: Option<u64>,
    /// When it began, on the monotonic clock.
    pub started: super::time::Instant,
    /// How it ended by itself (exit(2)), where its process had not begun to end.
    pub exit_status: Option<ExitStatus>,
    /// CPU time used on host threads it has left by execve, user and system, in nanoseconds.
    pub earlier_cpu: (u64, u64),
    /// personality(2).
    pub personality: u32,
    /// Whether reading the time stamp counter faults (PR_SET_TSC).
    pub tsc_faults: bool,
    /// Whether CPUID faults (ARCH_SET_CPUID of arch_prctl(2)).
    pub cpuid_faults: bool,
    /// Which input and output ports it may use.
    pub ports: PortAccess,
    /// Scheduling policy and the like, kept as data: the host schedules.
    pub sched: SchedState,
}

/// What sched_setattr(2), sched_setaffinity(2) and ioprio_set(2) say.
#[derive(Clone, Debug, Default)]
pub struct SchedState {
    /// SCHED_*.
    pub policy: i32,
    /// Real-time priority, 1 to 99, or 0.
    pub priority: i32,
    /// SCHED_FLAG_RESET_ON_FORK.
    pub reset_on_fork: bool,
    /// CPUs it may run on, a bit each; none for all.
    pub affinity: Option<Vec<u64>>,
    /// I/O priority class and value.
    pub ioprio: u32,
}

/// What a new task is made of.
struct Parts {
    tid: Pid,
    kernel: Arc<Kernel>,
    group: Arc<ThreadGroup>,
    shared: Shared,
    state: TaskState,
    signals: SignalState,
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
    /// One that the platform has been carrying out.
    fn own(thread: &dyn Thread) -> Call {
        let regs = thread.regs();
        let mut call = Call::new(regs.orig_rax & 0xffff_ffff, regs.args());
        call.state.own = true;
        call.note_moved(thread);
        call
    }

    /// Begin where the platform has come to. Only a write(2) can be left half done.
    fn note_moved(&mut self, thread: &dyn Thread) {
        let moved = thread.moved();
        if self.nr == libc::SYS_write as u64 && moved < self.args[2] {
            self.state.progress = usize::try_from(moved).unwrap_or(0);
        }
    }

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

/// Wakes a task: passes the first wakeup since the last park on to the platform, or to whoever gives turns.
pub struct TaskWaker {
    fired: AtomicBool,
    seat: Lock<Seat>,
    me: Weak<TaskWaker>,
    /// Who gives turns, and its seat there.
    turns: Option<(Arc<Turns>, u64)>,
    /// Begins to run the task on a thread of the platform's that has not begun yet.
    begin: Lock<Option<Box<dyn FnOnce() + Send>>>,
}

/// What a task has of the platform.
#[derive(Default)]
struct Seat {
    handle: Option<Arc<dyn ThreadHandle>>,
    /// What its thread is told: changed and published under one lock, so that no older value comes last.
    facts: Facts,
}

impl TaskWaker {
    fn new(kernel: &Kernel) -> Arc<TaskWaker> {
        Arc::new_cyclic(|me| TaskWaker {
            fired: AtomicBool::new(false),
            seat: Lock::new(Rank::Leaf, Seat::default()),
            me: me.clone(),
            turns: kernel.turns.as_ref().map(|turns| (turns.clone(), turns.seat())),
            begin: Lock::new(Rank::Leaf, None),
        })
    }

    /// The task's thread is now this one.
    fn attach(&self, handle: Arc<dyn ThreadHandle>) {
        let mut seat = self.seat.lock();
        handle.publish(&seat.facts);
        let old = seat.handle.replace(handle);
        drop(seat);
        drop(old);
    }

    /// The task's thread ends: a zombie keeps nothing of the platform's.
    fn detach(&self) {
        let old = self.seat.lock().handle.take();
        drop(old);
    }

    fn handle(&self) -> Option<Arc<dyn ThreadHandle>> {
        self.seat.lock().handle.clone()
    }

    /// Change what the task's thread is told.
    fn tell(&self, change: impl FnOnce(&mut Facts)) {
        let mut seat = self.seat.lock();
        change(&mut seat.facts);
        if let Some(handle) = &seat.handle {
            handle.publish(&seat.facts);
        }
    }

    /// The task is about to park: the next wakeup counts.
    fn arm(&self) {
        self.fired.store(false, Ordering::SeqCst);
    }

    /// Make the platform call the task's handler, running or parked.
    fn kick(&self) {
        match &self.turns {
            Some((turns, seat)) => {
                if let Some(me) = self.me.upgrade() {
                    turns.kick(*seat, me);
                }
            }
            None => self.interrupt(),
        }
    }
}

impl Player for TaskWaker {
    fn go(&self) {
        let begin = self.begin.lock().take();
        match begin {
            Some(begin) => begin(),
            None => self.interrupt(),
        }
    }

    fn interrupt(&self) {
        if let Some(handle) = self.handle() {
            handle.kick();
        }
    }

    fn begins(&self) -> bool {
        self.begin.lock().is_some()
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
    /// A task that nobody knows of yet, to run on the host thread of `handle`.
    fn build(parts: Parts, handle: Arc<dyn ThreadHandle>) -> Arc<Task> {
        let waker = TaskWaker::new(&parts.kernel);
        waker.tell(|facts| {
            facts.open = !parts.kernel.sees_all_calls();
            facts.cpuid = !parts.state.cpuid_faults;
            (facts.pid, facts.tid) = (parts.group.pid, parts.tid);
            creds::tell(facts, &parts.shared.creds);
        });
        waker.attach(handle);
        parts.shared.mm.add_user();
        parts.shared.files.add_user();
        Arc::new(Task {
            tid: AtomicU32::new(parts.tid.cast_unsigned()),
            kernel: parts.kernel,
            group: parts.group,
            waker,
            shared: Lock::new(Rank::Leaf, parts.shared),
            state: Lock::new(Rank::Task, parts.state),
            signals: Lock::new(Rank::Signal, parts.signals),
            run: Lock::new(Rank::Leaf, RunState::default()),
            attention: AtomicBool::new(false),
            vfork: Lock::new(Rank::Leaf, None),
            traps: AtomicU64::new(0),
            traced: AtomicBool::new(false),
            trace: Lock::new(Rank::Leaf, None),
        })
    }

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
        self.set_files(self.files().copy());
    }

    /// Its working directory, root and umask.
    pub fn fs(&self) -> Arc<Lock<FsContext>> {
        self.shared.lock().fs.clone()
    }

    /// Where its paths begin.
    pub fn places(&self) -> Arc<Places> {
        self.fs().lock().places().clone()
    }

    /// Its file system context and credentials.
    pub fn fs_and_creds(&self) -> (Arc<Lock<FsContext>>, Arc<Creds>) {
        let shared = self.shared.lock();
        (shared.fs.clone(), shared.creds.clone())
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
        let creds = Arc::new(creds);
        let old = std::mem::replace(&mut self.shared.lock().creds, creds.clone());
        drop(old);
        self.waker.tell(|facts| creds::tell(facts, &creds));
    }

    /// The process has this parent.
    fn tell_parent(&self, parent: Pid) {
        self.waker.tell(|facts| facts.ppid = parent);
    }

    /// Whether somebody traces it may have changed: then its calls must be seen.
    fn review_openness(&self) {
        self.waker
            .tell(|facts| facts.open = !self.kernel.sees_all_calls() && !self.is_traced());
    }

    /// Have CPUID fault, or not.
    pub fn set_cpuid_faults(&self, faults: bool) {
        self.state.lock().cpuid_faults = faults;
        self.waker.tell(|facts| facts.cpuid = !faults);
    }

    /// Whether somebody who traces it has it execute one instruction.
    pub fn is_stepped(&self) -> bool {
        self.is_traced() && self.trace_steps()
    }

    /// Its memory.
    pub fn memory(&self) -> UserMemory {
        UserMemory::new(self.shared.lock().mm.space.clone())
    }

    /// Whether it waits in a call.
    pub fn is_parked(&self) -> bool {
        self.run
            .lock()
            .call
            .as_ref()
            .is_some_and(|call| call.parked.is_some())
    }

    /// Whether it sleeps without the kernel's knowledge, by a futex of its own.
    pub fn is_waiting(&self) -> bool {
        self.waker.handle().is_some_and(|handle| handle.is_waiting())
    }

    /// Head of its list of robust futexes: get_robust_list(2).
    pub fn robust_list(&self) -> u64 {
        match self.waker.handle().map_or(0, |handle| handle.robust_list()) {
            0 => self.state.lock().robust_list,
            named => named,
        }
    }

    /// Have it begin at `head`; 0 for none.
    pub fn set_robust_list(&self, head: u64) {
        self.state.lock().robust_list = head;
        if let Some(handle) = self.waker.handle() {
            handle.forget_robust_list();
        }
    }

    /// User and system CPU time so far, in nanoseconds.
    pub fn cpu_time(&self) -> (u64, u64) {
        if self.kernel.turns.is_some() {
            return (self.traps.load(Ordering::SeqCst) * TRAP, 0);
        }
        let earlier = self.state.lock().earlier_cpu;
        let (user, system) = self.waker.handle().map_or((0, 0), |h| h.cpu_time());
        (earlier.0 + user, earlier.1 + system)
    }

    /// Replace its descriptor table by one of its own. The old one's files are closed when nobody else uses it.
    fn set_files(&self, files: Arc<FdTable>) {
        files.add_user();
        let old = std::mem::replace(&mut self.shared.lock().files, files);
        old.drop_user();
    }

    /// Replace its fs context by one of its own (unshare(2)).
    fn set_fs(&self, fs: Arc<Lock<FsContext>>) -> Arc<Lock<FsContext>> {
        std::mem::replace(&mut self.shared.lock().fs, fs)
    }

    /// Move to another address space; the old one.
    fn set_mm(&self, mm: Arc<Mm>) -> Arc<Mm> {
        mm.add_user();
        let old = std::mem::replace(&mut self.shared.lock().mm, mm);
        old.drop_user();
        old
    }

    /// Replace its signal handlers.
    fn set_sighand(&self, sighand: Arc<SigHand>) {
        let old = std::mem::replace(&mut self.shared.lock().sighand, sighand);
        drop(old);
    }

    /// Make its handler run soon, whatever it is doing: it looks at signals, stops and exits.
    pub fn kick(&self) {
        self.attention.store(true, Ordering::SeqCst);
        self.waker.kick();
    }

    /// As [`Task::kick`], for one that is to end: guest code that keeps it from coming loses its host process.
    pub fn kick_to_end(&self) {
        self.attention.store(true, Ordering::SeqCst);
        if self.waker.turns.is_some() {
            self.waker.kick();
        } else if let Some(handle) = self.waker.handle() {
            handle.end();
        }
    }

    /// Begin to run guest code on `thread`.
    fn start(self: &Arc<Self>, thread: Box<dyn Thread>) {
        if self.waker.turns.is_some() {
            let task = self.clone();
            let begin = move || {
                // So that its handler is called before anything runs: its turn may be over meanwhile.
                task.waker.interrupt();
                task.kernel.platform.start(thread, task.clone());
            };
            *self.waker.begin.lock() = Some(Box::new(begin));
            self.waker.kick();
            return;
        }
        self.kernel.platform.start(thread, self.clone());
        // Whatever was sent to it before found nobody to interrupt.
        if self.attention.load(Ordering::SeqCst) {
            self.waker.kick();
        }
    }

    /// As [`Task::kick`] from the task's own handler, which looks before it returns.
    pub(in crate::kernel) fn kick_self(&self) {
        self.attention.store(true, Ordering::SeqCst);
    }

    /// Replace the mask of blocked signals and look again at what is pending. Returns the old mask.
    pub fn set_signal_mask(&self, mask: SigSet) -> SigSet {
        let mask = mask & !UNBLOCKABLE;
        let old = std::mem::replace(&mut self.signals.lock().mask, mask);
        self.attention.store(true, Ordering::SeqCst);
        if mask & !old != 0 {
            signal::hand_on(self, mask & !old);
        }
        old
    }
}
