//! procfs: the guest's processes and kernel as proc(5) shows them. Nothing in it is the host's.

mod fds;
mod maps;
mod net;
mod process;
mod root;
mod status;
mod sysctl;
mod tty;

use std::sync::{Arc, Weak};

use super::pseudo::PseudoFs;
use super::{FileSystem, FileType};
use crate::kernel::Kernel;
use crate::kernel::stop::Errno;
use crate::kernel::task::access;
use crate::kernel::task::{Pid, Process, Task, ThreadGroup, Zombie};

/// Magic of statfs(2).
const PROC_MAGIC: u64 = 0x9fa0;

/// The file system of a guest, with device number `dev`.
pub fn new(kernel: &Arc<Kernel>, dev: u64) -> Arc<dyn FileSystem> {
    let since = kernel.clock.realtime();
    PseudoFs::new("proc", PROC_MAGIC, dev, since, root::Root(Arc::downgrade(kernel)))
}

/// Clock ticks in a second (USER_HZ), which the times in these files count in.
const TICKS: u64 = 100;

fn ticks(nanos: u64) -> u64 {
    nanos / (crate::kernel::time::NANOS_PER_SEC / TICKS)
}

/// What a file of a process or thread is about. Holds nothing alive: a process that has ended has no files.
#[derive(Clone)]
struct Subject {
    kernel: Weak<Kernel>,
    pid: Pid,
    /// The thread under task/; the leader otherwise.
    tid: Pid,
    /// Whether it was reached through task/: then numbers are the thread's, not the process's.
    thread: bool,
}

/// A subject that is there now.
struct Found {
    kernel: Arc<Kernel>,
    group: Arc<ThreadGroup>,
    /// None for a zombie.
    task: Option<Arc<Task>>,
    tid: Pid,
    thread: bool,
    parent: Pid,
    pgid: Pid,
    sid: Pid,
    zombie: Option<Zombie>,
}

impl Subject {
    /// Look it up; ESRCH when it is gone.
    fn find(&self) -> Result<Found, Errno> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ESRCH)?;
        let pids = kernel.pids.lock();
        let process: &Process = pids.processes.get(&self.pid).ok_or(Errno::ESRCH)?;
        let task = pids.tasks.get(&self.tid).filter(|t| t.pid() == self.pid).cloned();
        let (group, zombie) = (process.group.clone(), process.zombie);
        let (parent, pgid, sid) = (process.parent, process.pgid, process.sid);
        drop(pids);
        if task.is_none() && (self.thread || zombie.is_none() && group.threads().is_empty()) {
            return Err(Errno::ESRCH);
        }
        let task = task.or_else(|| group.threads().first().cloned());
        Ok(Found {
            kernel,
            group,
            task,
            tid: self.tid,
            thread: self.thread,
            parent,
            pgid,
            sid,
            zombie,
        })
    }

    /// User and group that its files belong to.
    fn owner(&self) -> (u32, u32) {
        self.find().ok().and_then(|f| f.task).map_or((0, 0), |task| {
            let creds = task.creds();
            (creds.euid, creds.egid)
        })
    }
}

impl Found {
    /// Whether the running task may look inside; EACCES.
    fn check_inspect(&self) -> Result<(), Errno> {
        match (crate::kernel::task::current(), &self.task) {
            (Some(asker), Some(task)) => access::check_for_files(&asker, task).map_err(|_| Errno::EACCES),
            _ => Ok(()),
        }
    }

    /// As [`check_inspect`](Self::check_inspect), for what Linux shows only to those who may trace; EPERM.
    fn check_attach(&self) -> Result<(), Errno> {
        self.check_inspect().or(Err(Errno::EPERM))
    }

    /// The thread; ESRCH for a zombie.
    fn task(&self) -> Result<&Arc<Task>, Errno> {
        self.task.as_ref().ok_or(Errno::ESRCH)
    }

    /// R, S, T or Z.
    fn state(&self) -> char {
        let exited = |t: &Arc<Task>| t.state.lock().exited;
        if self.zombie.is_some() || self.task.as_ref().is_some_and(exited) {
            return 'Z';
        }
        if self.group.state.lock().stopped.is_some() {
            return 'T';
        }
        if self
            .task
            .as_ref()
            .is_some_and(|t| t.is_parked() || t.is_waiting())
        {
            'S'
        } else {
            'R'
        }
    }

    /// The name, as PR_SET_NAME or exec left it.
    fn comm(&self) -> Vec<u8> {
        self.task
            .as_ref()
            .map_or_else(|| self.group.last_comm(), |t| t.state.lock().comm.clone())
    }

    /// Threads that count: the one, or all of the process.
    fn threads(&self) -> Vec<Arc<Task>> {
        if self.thread {
            self.task.clone().into_iter().collect()
        } else {
            self.group.threads()
        }
    }

    /// Ids of all threads: the first one also when it alone has ended, as long as the process is there.
    fn tids(&self) -> Vec<i32> {
        let mut tids: Vec<i32> = self.group.threads().iter().map(|t| t.tid()).collect();
        if !tids.contains(&self.group.pid) {
            tids.insert(0, self.group.pid);
        }
        tids
    }

    /// User and system time in nanoseconds.
    fn cpu(&self) -> (u64, u64) {
        let ended = match (&self.zombie, self.thread) {
            (Some(zombie), _) => zombie.cpu,
            (None, true) => (0, 0),
            (None, false) => self.group.state.lock().ended_cpu,
        };
        self.threads()
            .iter()
            .map(|t| t.cpu_time())
            .fold(ended, |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// A list of names that are all the same kind.
fn names<'a>(names: impl IntoIterator<Item = &'a str>, kind: FileType) -> Vec<(String, FileType)> {
    names.into_iter().map(|name| (name.to_owned(), kind)).collect()
}
