//! What other host threads, and trap handlers, want of the tracing thread, and how it is woken for that.
//!
//! The tracing thread sleeps in wait4(2), which only an event of a tracee ends. So one tracee is kept for that: the
//! *bell*, an empty stub that sleeps in pause(2). Any host thread can send it a signal, which the host reports to the tracing
//! thread as it reports any other event, and which cannot be lost between a look at the queue and the wait.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::errno::Errno;

use super::core::Task;
use super::host::HostThread;
use super::tracee::Tracee;
use crate::platform::Activity;

/// Lock, ignoring that another thread panicked with it: every holder leaves the data whole.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One wish.
pub(super) enum Letter {
    Kicked(Arc<HostThread>),
    /// A thread object was dropped that no owner runs.
    Dropped(Arc<HostThread>),
    /// A thread is to begin to run.
    Started(Task),
}

#[derive(Default)]
pub(super) struct Mail {
    letters: Mutex<Vec<Letter>>,
    /// Whether there may be letters or a wish to stop.
    pending: AtomicBool,
    stop: AtomicBool,
    /// Whether the tracing thread is in, or just before, its wait.
    asleep: AtomicBool,
    bell: Mutex<Option<OwnedFd>>,
    /// Counts letters, and threads that are not parked, where somebody wants to know.
    activity: OnceLock<Arc<Activity>>,
}

impl Mail {
    pub(super) fn kicked(&self, host: Arc<HostThread>) {
        self.post(Letter::Kicked(host));
    }

    pub(super) fn dropped(&self, host: Arc<HostThread>) {
        self.post(Letter::Dropped(host));
    }

    pub(super) fn started(&self, task: Task) {
        self.post(Letter::Started(task));
    }

    pub(super) fn count_activity(&self, activity: Arc<Activity>) {
        // Once.
        let _ = self.activity.set(activity);
    }

    /// One more goes on.
    pub(super) fn began(&self) {
        if let Some(activity) = self.activity.get() {
            activity.begin();
        }
    }

    /// One less goes on.
    pub(super) fn ended(&self) {
        if let Some(activity) = self.activity.get() {
            activity.end();
        }
    }

    fn post(&self, letter: Letter) {
        self.began();
        lock(&self.letters).push(letter);
        self.ring();
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.ring();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn ring(&self) {
        self.pending.store(true, Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::SeqCst)
            && let Some(bell) = &*lock(&self.bell)
        {
            // SAFETY: plain numbers and a null pointer. A dead bell is noticed by the tracing thread itself.
            unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    bell.as_raw_fd(),
                    libc::SIGUSR1,
                    std::ptr::null::<libc::siginfo_t>(),
                    0,
                )
            };
        }
    }

    /// All letters since the last call.
    pub(super) fn take(&self) -> Vec<Letter> {
        if self.pending.swap(false, Ordering::SeqCst) {
            std::mem::take(&mut *lock(&self.letters))
        } else {
            Vec::new()
        }
    }

    /// Announce a wait. False when there is something to do first.
    pub(super) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let quiet = !self.pending.load(Ordering::SeqCst);
        if !quiet {
            self.wake_up();
        }
        quiet
    }

    /// The wait is over.
    pub(super) fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Use this tracee as the bell from now on.
    pub(super) fn set_bell(&self, bell: Tracee) -> Result<(), Errno> {
        // SAFETY: plain numbers.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, bell.0, 0) })?;
        // SAFETY: the host just gave us this descriptor, and nobody else knows of it.
        *lock(&self.bell) = Some(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        Ok(())
    }
}
