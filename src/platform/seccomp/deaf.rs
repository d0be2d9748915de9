//! Threads that were told to end and do not come: guest code can block the kick, or have the runtime wait for ever.
//!
//! Whoever does so loses the whole host process, some seconds later.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::process::lock;
use super::server;
use super::thread::Host;

/// How long a thread that is told to end may run on. It has nothing more to do than to take a signal.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long it may take when it is told again, so that a pause of the whole machine is nobody's fault.
const LAST_PATIENCE: Duration = Duration::from_millis(200);

/// Those that were told, by the time at which they must have come.
#[derive(Default)]
pub(super) struct Deaf(Mutex<VecDeque<(Instant, Weak<Host>)>>);

impl Deaf {
    /// See that a thread which was told to end comes.
    pub(super) fn watch(self: &Arc<Self>, host: &Arc<Host>) {
        let mut watched = lock(&self.0);
        watched.push_back((Instant::now() + PATIENCE, Arc::downgrade(host)));
        if watched.len() > 1 {
            return;
        }
        drop(watched);
        let deaf = Arc::clone(self);
        if let Err(e) = thread::Builder::new()
            .name("deaf".into())
            .spawn(move || deaf.serve())
        {
            tracing::warn!("no thread to look after threads that end: {e}");
            lock(&self.0).clear();
        }
    }

    /// Look after all that are watched, until there is none.
    fn serve(&self) {
        loop {
            // It stays in the list while it is looked after, so that nobody starts a second host thread.
            let Some((deadline, host)) = lock(&self.0).front().cloned() else {
                return;
            };
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            if let Some(host) = host.upgrade().filter(server::interrupt_running) {
                thread::sleep(LAST_PATIENCE);
                if host.is_running() {
                    tracing::debug!(pid = host.process.pid, "a stub does not listen: killed");
                    host.process.kill();
                }
            }
            let mut watched = lock(&self.0);
            watched.pop_front();
            if watched.is_empty() {
                return;
            }
        }
    }
}
