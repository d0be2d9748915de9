//! What is known of a guest thread's host thread and process, shared by everything that refers to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::mail::Mail;
use super::space::PtraceSpace;
use super::tracee::Tracee;
use crate::platform::native::stat;
use crate::platform::{Facts, ThreadHandle};

/// A host process: the threads of one ForkKind::Thread family.
pub(super) struct HostProcess {
    pub(super) leader: Tracee,
    /// Threads neither dead nor told to end.
    pub(super) live: AtomicUsize,
    /// Threads that the host still has a record of.
    pub(super) unreaped: AtomicUsize,
}

impl HostProcess {
    pub(super) fn new(leader: Tracee) -> Arc<HostProcess> {
        Arc::new(HostProcess {
            leader,
            live: AtomicUsize::new(0),
            unreaped: AtomicUsize::new(0),
        })
    }
}

/// A host thread, from its making until nobody refers to it any more.
pub(super) struct HostThread {
    pub(super) tracee: Tracee,
    pub(super) process: Arc<HostProcess>,
    pub(super) space: Arc<PtraceSpace>,
    mail: Arc<Mail>,
    kicked: AtomicBool,
    reaped: AtomicBool,
}

impl HostThread {
    pub(super) fn new(
        tracee: Tracee,
        process: Arc<HostProcess>,
        space: Arc<PtraceSpace>,
        mail: Arc<Mail>,
    ) -> Arc<HostThread> {
        process.live.fetch_add(1, Ordering::Relaxed);
        process.unreaped.fetch_add(1, Ordering::Relaxed);
        space.add(tracee);
        Arc::new(HostThread {
            tracee,
            process,
            space,
            mail,
            kicked: AtomicBool::new(false),
            reaped: AtomicBool::new(false),
        })
    }

    /// The host reported its end: its id is no longer ours.
    pub(super) fn set_reaped(&self) {
        self.space.remove(self.tracee);
        self.reaped.store(true, Ordering::Release);
        self.process.unreaped.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn is_reaped(&self) -> bool {
        self.reaped.load(Ordering::Acquire)
    }

    /// Whether somebody kicked since the last call.
    pub(super) fn take_kick(&self) -> bool {
        self.kicked.swap(false, Ordering::SeqCst)
    }

    pub(super) fn is_kicked(&self) -> bool {
        self.kicked.load(Ordering::SeqCst)
    }

    /// Whether waiting for it alone could last until siblings are reaped: the host keeps a dead leader back as long
    /// as its process has other threads.
    pub(super) fn may_be_held_back(&self) -> bool {
        self.process.leader == self.tracee && self.process.unreaped.load(Ordering::Relaxed) > 1
    }

    pub(super) fn mail(&self) -> &Arc<Mail> {
        &self.mail
    }
}

/// The kernel's handle.
pub(super) struct Handle(pub(super) Arc<HostThread>);

impl ThreadHandle for Handle {
    fn kick(&self) {
        let host = &self.0;
        if !host.is_reaped() && !host.kicked.swap(true, Ordering::SeqCst) {
            host.mail.kicked(Arc::clone(host));
        }
    }

    fn cpu_time(&self) -> (u64, u64) {
        if self.0.is_reaped() {
            return (0, 0);
        }
        stat::cpu_time(self.0.tracee.0, self.0.tracee.0).unwrap_or((0, 0))
    }

    /// Every call traps here.
    fn publish(&self, _: &Facts) {}
}
