//! How the parent of vfork(2) is held and let go.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::kernel::wait::{Events, OnSignal, WaitFor, WaitQueue};

/// Set once the child has its own memory or has ended.
#[derive(Default)]
pub(super) struct Release {
    done: AtomicBool,
    queue: WaitQueue,
}

impl Release {
    /// Let the parent go.
    pub(super) fn release(&self) {
        self.done.store(true, Ordering::SeqCst);
        self.queue.notify(Events::READ);
    }

    /// What the parent has to wait for; none when it may go. Only a kill ends the wait.
    pub(super) fn wait(&self) -> Option<WaitFor> {
        let generation = self.queue.generation();
        if self.done.load(Ordering::SeqCst) {
            return None;
        }
        let wait = WaitFor::default().and_since(&self.queue, Events::empty(), generation);
        Some(wait.on_signal(OnSignal::Uninterruptible))
    }
}
