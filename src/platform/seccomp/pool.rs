//! The threads that serve guest threads, kept for the next one when theirs has ended.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::core::Core;
use super::placement::Server;
use super::process::lock;
use super::server;
use super::thread::Host;
use crate::platform::PATIENCE;
use crate::platform::native::cpuid;

/// Kernel handlers and what they call. Only what is used of it is ever in memory.
const STACK: usize = 1 << 20;

/// Most threads that are kept idle.
const KEPT: usize = 32;

/// All server threads.
#[derive(Default)]
pub(super) struct Pool {
    state: Mutex<State>,
    quiet: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Arc<Worker>>,
    busy: usize,
    ending: bool,
}

/// One of them.
#[derive(Default)]
struct Worker {
    rest: Mutex<Rest>,
    called: Condvar,
}

#[derive(Default)]
struct Rest {
    /// Its place, while it is idle.
    server: Option<Server>,
    next: Option<Arc<Host>>,
    ending: bool,
}

impl Pool {
    /// Have somebody serve `host` until that is over.
    pub(super) fn serve(&self, core: &Arc<Core>, host: &Arc<Host>) {
        let mut state = lock(&self.state);
        state.busy += 1;
        if let Some(worker) = state.idle.pop() {
            drop(state);
            let mut rest = lock(&worker.rest);
            if let Some(server) = &mut rest.server {
                core.placement.begin(server, host.seat());
            }
            rest.next = Some(Arc::clone(host));
            drop(rest);
            worker.called.notify_one();
            return;
        }
        drop(state);
        let (serving, first) = (Arc::clone(core), Arc::clone(host));
        let spawned = thread::Builder::new()
            .name("server".into())
            .stack_size(STACK)
            .spawn(move || work(&serving, first));
        if let Err(e) = spawned {
            tracing::error!("no thread to serve a guest thread: {e}");
            host.process.kill();
            self.done();
        }
    }

    fn done(&self) {
        lock(&self.state).busy -= 1;
        self.quiet.notify_all();
    }

    /// Wait until nobody serves any more, and send everybody home. False when somebody does not come back: then the
    /// handler of a call is at fault, and nothing that it holds may be waited for.
    pub(super) fn finish(&self) -> bool {
        let state = lock(&self.state);
        let waited = self
            .quiet
            .wait_timeout_while(state, PATIENCE, |state| state.busy > 0);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return false;
        }
        state.ending = true;
        for worker in state.idle.drain(..) {
            lock(&worker.rest).ending = true;
            worker.called.notify_one();
        }
        true
    }

    /// The work of `worker` is done: the next, if it is kept for one.
    fn next(&self, worker: &Arc<Worker>, server: Server) -> Option<(Server, Arc<Host>)> {
        lock(&worker.rest).server = Some(server);
        let mut state = lock(&self.state);
        state.busy -= 1;
        self.quiet.notify_all();
        if state.ending || state.idle.len() >= KEPT {
            return None;
        }
        state.idle.push(Arc::clone(worker));
        drop(state);
        let mut rest = lock(&worker.rest);
        loop {
            if let Some(host) = rest.next.take() {
                return rest.server.take().map(|server| (server, host));
            }
            if rest.ending {
                return None;
            }
            rest = worker.called.wait(rest).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The life of a server thread.
fn work(core: &Core, first: Arc<Host>) {
    if core.cpuid_faults {
        cpuid::join_guests();
    }
    let worker = Arc::new(Worker::default());
    let mut server = Server::new();
    core.placement.begin(&mut server, first.seat());
    let mut host = first;
    loop {
        server::serve(&mut server, &host);
        core.placement.end(&mut server, host.seat());
        // Its last reference, perhaps, which gives back its slot.
        drop(host);
        match core.pool.next(&worker, server) {
            Some((kept, next)) => (server, host) = (kept, next),
            None => return,
        }
    }
}
