//! Host processes of stubs: who lives, and what to do when one dies.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use libc::pid_t;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::births::Births;
use super::handed::Numbers;
use super::thread::Host;

/// Lock, ignoring that another thread panicked with it: every holder leaves the data whole.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a stub is, without reaping it. An error when that was done.
fn look(pid: pid_t) -> Result<WaitStatus, Errno> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
    waitid(Id::Pid(Pid::from_raw(pid)), flags)
}

/// Whether a guest that says it has made the stub `pid` may be right.
pub(super) fn is_alive(pid: i64) -> bool {
    pid_t::try_from(pid).is_ok_and(|pid| pid > 0 && look(pid) == Ok(WaitStatus::StillAlive))
}

/// The host process of one or several guest threads.
pub(super) struct HostProcess {
    pub(super) pid: pid_t,
    dead: AtomicBool,
    threads: Mutex<Vec<Weak<Host>>>,
    /// Of descriptors that it was handed.
    pub(super) numbers: Numbers,
    /// Held while it has a file to map: the descriptor has one number.
    pub(super) mapping: Mutex<()>,
}

impl HostProcess {
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Whether it has ended though nobody reaped it yet.
    pub(super) fn has_ended(&self) -> bool {
        self.is_dead() || look(self.pid) != Ok(WaitStatus::StillAlive)
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

    /// Whether more than one thread runs in it.
    pub(super) fn has_siblings(&self) -> bool {
        self.threads().len() > 1
    }

    fn threads(&self) -> Vec<Arc<Host>> {
        lock(&self.threads).iter().filter_map(Weak::upgrade).collect()
    }
}

/// All stubs that have not been reaped.
#[derive(Default)]
pub(super) struct Processes {
    live: Mutex<HashMap<pid_t, Arc<HostProcess>>>,
    pub(super) births: Births,
}

impl Processes {
    /// Enter the stub `pid`, whose id the host vouched for. EEXIST when it is one already.
    pub(super) fn enter(&self, pid: pid_t) -> Result<Arc<HostProcess>, Errno> {
        let mut live = lock(&self.live);
        if live.contains_key(&pid) {
            return Err(Errno::EEXIST);
        }
        // It may have ended and been reaped since the host told its id. Who is reaped from now on is found here.
        let dead = look(pid).is_err();
        let process = Arc::new(HostProcess {
            pid,
            dead: AtomicBool::new(dead),
            threads: Mutex::default(),
            numbers: Numbers::default(),
            mapping: Mutex::default(),
        });
        if !dead {
            live.insert(pid, Arc::clone(&process));
        }
        Ok(process)
    }

    /// Whether the stub `pid` was entered.
    pub(super) fn knows(&self, pid: pid_t) -> bool {
        lock(&self.live).contains_key(&pid)
    }

    /// End a stub that nobody has entered.
    pub(super) fn kill_stray(&self, pid: pid_t) {
        // The number is still that stub's, unless the host has gone through all numbers since it was looked at.
        let live = lock(&self.live);
        if !live.contains_key(&pid) && look(pid).is_ok() {
            tracing::debug!(pid, "a stub that nobody was told of: killed");
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// The host reported the end of `pid`. Its threads, to be told.
    pub(super) fn reaped(&self, pid: pid_t) -> Vec<Arc<Host>> {
        self.births.forget(pid);
        let mut live = lock(&self.live);
        // A stub need not have been entered: its maker may have come to nothing meanwhile.
        let Some(process) = live.remove(&pid) else {
            return Vec::new();
        };
        process.dead.store(true, Ordering::SeqCst);
        drop(live);
        process.threads()
    }
}
