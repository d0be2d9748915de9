//! The process tree: ids, parents, process groups and sessions, all under one lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{ExitStatus, Pid, Task, ThreadGroup};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, LockGuard, Rank};

/// Highest id given out plus one (Linux's default pid_max on small machines).
pub const PID_MAX: Pid = 32768;

/// Most threads of one guest: each is a host thread, and a fork bomb must not take all that the host has.
const TASKS_MAX: usize = 4096;

/// All ids of one guest.
pub struct PidTable(Lock<Pids>);

/// The tree while it is locked.
#[derive(Default)]
pub struct Pids {
    last: Pid,
    /// Given out, not yet a task's.
    reserved: BTreeSet<Pid>,
    /// Threads by id. A process's first thread stays until the process is waited for.
    pub tasks: BTreeMap<Pid, Arc<Task>>,
    /// Processes by id, zombies included.
    pub processes: BTreeMap<Pid, Process>,
    /// Process ids by process group.
    groups: BTreeMap<Pid, BTreeSet<Pid>>,
    /// How many processes a session has.
    sessions: BTreeMap<Pid, usize>,
}

/// A process's place in the tree.
pub struct Process {
    /// Its state.
    pub group: Arc<ThreadGroup>,
    /// Parent's process id; 0 for init.
    pub parent: Pid,
    /// Thread id of the thread that made it (PR_SET_PDEATHSIG, __WNOTHREAD).
    pub parent_thread: Pid,
    /// Children's process ids.
    pub children: BTreeSet<Pid>,
    /// Process group id; changed by [`Pids::place`].
    pub pgid: Pid,
    /// Session id; changed by [`Pids::place`].
    pub sid: Pid,
    /// Set when the last thread has ended and nobody has waited for it yet.
    pub zombie: Option<Zombie>,
}

/// What is left of a process until it is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Zombie {
    /// How it ended.
    pub status: ExitStatus,
    /// Real user id at the end, for siginfo.
    pub uid: u32,
    /// CPU time of it and its waited-for children, user and system, in nanoseconds.
    pub cpu: (u64, u64),
    /// Largest resident size of it and its waited-for children, in bytes.
    pub peak: u64,
}

impl Default for PidTable {
    fn default() -> Self {
        PidTable(Lock::new(Rank::Pids, Pids::default()))
    }
}

impl PidTable {
    /// Lock the tree.
    #[track_caller]
    pub fn lock(&self) -> LockGuard<'_, Pids> {
        self.0.lock()
    }

    /// The thread with this id.
    pub fn task(&self, tid: Pid) -> Option<Arc<Task>> {
        self.lock().tasks.get(&tid).cloned()
    }

    /// The process a thread id belongs to, as kill(2) takes any of them.
    pub fn group_of_any(&self, id: Pid) -> Option<Arc<ThreadGroup>> {
        let pids = self.lock();
        let process = pids.processes.get(&id).map(|p| p.group.clone());
        process.or_else(|| pids.tasks.get(&id).map(|t| t.group.clone()))
    }

    /// The process with this id, zombies included.
    pub fn group(&self, pid: Pid) -> Option<Arc<ThreadGroup>> {
        self.lock().processes.get(&pid).map(|p| p.group.clone())
    }
}

impl Pids {
    /// An unused id, taken until [`Pids::add`] or [`Pids::release`]; EAGAIN when there is none.
    pub fn allocate(&mut self) -> Result<Pid, Errno> {
        if self.tasks.len() + self.reserved.len() >= TASKS_MAX {
            return Err(Errno::EAGAIN);
        }
        for _ in 0..PID_MAX {
            // As Linux: after a wrap the low ids stay with early daemons.
            self.last = if self.last + 1 >= PID_MAX {
                300
            } else {
                self.last + 1
            };
            if !self.in_use(self.last) {
                self.reserved.insert(self.last);
                return Ok(self.last);
            }
        }
        Err(Errno::EAGAIN)
    }

    /// The id given out last.
    pub fn last(&self) -> Pid {
        self.last
    }

    /// Give an id back that was allocated for nothing.
    pub fn release(&mut self, id: Pid) {
        self.reserved.remove(&id);
    }

    /// Enter a task; its process too when it is the first thread.
    pub fn add(&mut self, task: &Arc<Task>, process: Option<Process>) {
        let tid = task.tid();
        self.reserved.remove(&tid);
        self.tasks.insert(tid, task.clone());
        if let Some(process) = process {
            if let Some(parent) = self.processes.get_mut(&process.parent) {
                parent.children.insert(tid);
            }
            self.join(tid, process.pgid, process.sid);
            self.processes.insert(tid, process);
        }
    }

    /// Move a process to another process group and session.
    pub fn place(&mut self, pid: Pid, pgid: Pid, sid: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else {
            return;
        };
        let (old_pgid, old_sid) = (process.pgid, process.sid);
        process.pgid = pgid;
        process.sid = sid;
        self.join(pid, pgid, sid);
        // Joined before, so that leaving the same one takes nothing out for good.
        self.leave_session(old_sid);
        if old_pgid != pgid {
            self.leave_group(pid, old_pgid);
        }
    }

    fn join(&mut self, pid: Pid, pgid: Pid, sid: Pid) {
        self.groups.entry(pgid).or_default().insert(pid);
        *self.sessions.entry(sid).or_default() += 1;
    }

    fn leave_group(&mut self, pid: Pid, pgid: Pid) {
        if let Some(members) = self.groups.get_mut(&pgid) {
            members.remove(&pid);
            if members.is_empty() {
                self.groups.remove(&pgid);
            }
        }
    }

    fn leave_session(&mut self, sid: Pid) {
        if let Some(count) = self.sessions.get_mut(&sid) {
            *count -= 1;
            if *count == 0 {
                self.sessions.remove(&sid);
            }
        }
    }

    /// Take out what is left of a process that somebody has waited for, or nobody will. The caller drops it unlocked.
    pub fn reap(&mut self, pid: Pid) -> Option<(Process, Option<Arc<Task>>)> {
        let process = self.processes.remove(&pid)?;
        self.leave_group(pid, process.pgid);
        self.leave_session(process.sid);
        if let Some(parent) = self.processes.get_mut(&process.parent) {
            parent.children.remove(&pid);
        }
        Some((process, self.tasks.remove(&pid)))
    }

    /// Whether an id names a thread, a process, a process group or a session.
    fn in_use(&self, id: Pid) -> bool {
        self.tasks.contains_key(&id)
            || self.reserved.contains(&id)
            || self.processes.contains_key(&id)
            || self.groups.contains_key(&id)
            || self.sessions.contains_key(&id)
    }

    /// Processes of a process group.
    pub fn group_members(&self, pgid: Pid) -> impl Iterator<Item = &Process> {
        self.groups
            .get(&pgid)
            .into_iter()
            .flatten()
            .filter_map(|pid| self.processes.get(pid))
    }

    /// Whether no member of a process's group has a parent in another group of the same session: nobody could continue
    /// it, so terminal stops do nothing (setpgid(2)).
    pub fn is_orphaned(&self, pid: Pid) -> bool {
        let Some(pgid) = self.processes.get(&pid).map(|p| p.pgid) else {
            return true;
        };
        !self.group_members(pgid).any(|p| {
            self.processes
                .get(&p.parent)
                .is_some_and(|parent| parent.sid == p.sid && parent.pgid != pgid)
        })
    }
}
