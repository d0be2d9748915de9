//! Host processes of stubs: who lives, and what to do when one dies.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use libc::pid_t;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::thread::Host;

/// Lock, ignoring that another thread panicked with it: every holder leaves the data whole.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The host process of one or several guest threads.
pub(super) struct HostProcess {
    pub(super) pid: pid_t,
    dead: AtomicBool,
    threads: Mutex<Vec<Weak<Host>>>,
}

impl HostProcess {
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Whether it has ended though nobody reaped it yet.
    pub(super) fn has_ended(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        self.is_dead() || waitid(Id::Pid(Pid::from_raw(self.pid)), flags) != Ok(WaitStatus::StillAlive)
    }

    /// End it, whatever it does.
    pub(super) fn kill(&self) {
        if !self.is_dead()
            && let Err(e) = kill(Pid::from_raw(self.pid), Signal::SIGKILL)
        {
            tracing::debug!("killing stub {}: {e}", self.pid);
        }
    }

    /// One more thread runs in it.
    pub(super) fn add(&self, host: &Arc<Host>) {
        let mut threads = lock(&self.threads);
        threads.retain(|t| t.strong_count() > 0);
        threads.push(Arc::downgrade(host));
    }

    fn threads(&self) -> Vec<Arc<Host>> {
        lock(&self.threads).iter().filter_map(Weak::upgrade).collect()
    }
}

/// All stubs that have not been reaped.
#[derive(Default)]
pub(super) struct Processes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: HashMap<pid_t, Arc<HostProcess>>,
    /// Reaped before they were entered.
    early: HashSet<pid_t>,
}

impl Processes {
    /// Enter the stub `pid`, whose id the host vouched for. EEXIST when it is one already.
    pub(super) fn enter(&self, pid: pid_t) -> Result<Arc<HostProcess>, Errno> {
        let mut state = lock(&self.state);
        if state.live.contains_key(&pid) {
            return Err(Errno::EEXIST);
        }
        let dead = state.early.remove(&pid);
        let process = Arc::new(HostProcess {
            pid,
            dead: AtomicBool::new(dead),
            threads: Mutex::default(),
        });
        if !dead {
            state.live.insert(pid, Arc::clone(&process));
        }
        Ok(process)
    }

    /// The host reported the end of `pid`. Its threads, to be told.
    pub(super) fn reaped(&self, pid: pid_t) -> Vec<Arc<Host>> {
        let mut state = lock(&self.state);
        let Some(process) = state.live.remove(&pid) else {
            state.early.insert(pid);
            return Vec::new();
        };
        process.dead.store(true, Ordering::SeqCst);
        drop(state);
        process.threads()
    }
}
