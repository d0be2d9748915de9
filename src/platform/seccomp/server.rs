//! Who calls the owners: a server thread for each started guest thread, and whoever wakes a parked one.
//!
//! A kick from inside a handler queues the woken thread, and the host thread that ran the handler runs the woken one's
//! next, when no lock is held any more. Kicks from elsewhere go to one thread that does nothing else.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::Core;
use super::door::Seen;
use super::marshal;
use super::placement::Server;
use super::process::lock;
use super::thread::{Host, SeccompThread};
use crate::platform::stats::Counters;
use crate::platform::{Next, Trap, TrapHandler};

/// A thread and its owner.
pub(super) struct Task {
    thread: Box<SeccompThread>,
    owner: Arc<dyn TrapHandler>,
}

/// Where a guest thread is in its life.
pub(super) enum State {
    /// The kernel has it, as a thread it did not start yet or in a trap handler.
    Held,
    /// Running guest code.
    Running { task: Task, stepping: bool },
    /// Stopped until kicked.
    Parked(Task),
    /// It ended, or was told to.
    Over,
}

thread_local! {
    /// Threads woken by the handler that runs on this host thread; none where no handler runs.
    static WOKEN: RefCell<Option<VecDeque<Task>>> = const { RefCell::new(None) };
    /// The seat of the thread whose handler runs on this host thread.
    static HANDLING: Cell<u64> = const { Cell::new(0) };
}

/// Begin to run a thread that has had no owner yet.
pub(super) fn start(core: &Arc<Core>, thread: Box<SeccompThread>, owner: Arc<dyn TrapHandler>) {
    core.begin();
    let host = Arc::clone(thread.host());
    let mut task = Task { thread, owner };
    core.patcher().catch_up(&host);
    let passing = host.space.gate.pass();
    let mut state = lock(&host.state);
    if host.kicked.load(Ordering::SeqCst) || host.process.is_dead() {
        *state = State::Parked(task);
        core.parked();
        drop(state);
        drop(passing);
        kick(&host);
    } else {
        task.thread.resume(false);
        *state = State::Running {
            task,
            stepping: false,
        };
        drop(state);
        drop(passing);
    }
    core.pool.serve(core, &host);
}

/// Make the platform call the owner soon.
pub(super) fn kick(host: &Arc<Host>) {
    host.kicked.store(true, Ordering::SeqCst);
    let mut state = lock(&host.state);
    match std::mem::replace(&mut *state, State::Held) {
        State::Parked(task) => {
            host.core.unparked();
            drop(state);
            wake(task);
        }
        State::Running { task, stepping } => {
            *state = State::Running { task, stepping };
            // Before it can be taken for a handler, whose commands the kick might break into.
            host.interrupt();
        }
        other => *state = other,
    }
}

/// Interrupt it if it runs guest code, or should; whether it does.
pub(super) fn interrupt_running(host: &Arc<Host>) -> bool {
    let state = lock(&host.state);
    let running = matches!(*state, State::Running { .. });
    if running {
        host.interrupt();
    }
    running
}

/// A host process has died: its threads' owners are to be told.
pub(super) fn died(host: &Arc<Host>) {
    host.door().ring_for_the_dead();
    let parked = {
        let mut state = lock(&host.state);
        match std::mem::replace(&mut *state, State::Held) {
            State::Parked(task) => {
                host.core.unparked();
                Some(task)
            }
            other => {
                *state = other;
                None
            }
        }
    };
    if let Some(task) = parked {
        wake(task);
    }
}

/// Have a stopped thread's owner called, here and later or by another host thread.
fn wake(task: Task) {
    let left = WOKEN.with_borrow_mut(|woken| match woken {
        Some(woken) => {
            task.thread.host().seat().woken_by(HANDLING.get());
            woken.push_back(task);
            None
        }
        None => Some(task),
    });
    if let Some(task) = left {
        let core = Arc::clone(&task.thread.host().core);
        core.woken(task);
    }
}

/// Call the owner of a woken thread, and of those that it wakes.
pub(super) fn run_woken(task: Task) {
    WOKEN.set(Some(VecDeque::from([task])));
    run_queue();
}

fn run_queue() {
    while let Some(task) = WOKEN.with_borrow_mut(|w| w.as_mut().and_then(VecDeque::pop_front)) {
        let host = Arc::clone(task.thread.host());
        deliver(&host, task, Trap::Woken);
    }
    WOKEN.set(None);
}

/// Wait for the guest to ring and call the owner, until the thread is over.
pub(super) fn serve(server: &mut Server, host: &Arc<Host>) {
    let mut seen = Seen::default();
    loop {
        seen = host.seat().wait_ring(seen);
        let taken = {
            let mut state = lock(&host.state);
            match std::mem::replace(&mut *state, State::Held) {
                State::Running { task, stepping } => Some((task, stepping)),
                State::Over => {
                    *state = State::Over;
                    None
                }
                // Not its turn: it rang without having been told to go on. Or it is dead, which its holder finds out.
                other => {
                    *state = other;
                    continue;
                }
            }
        };
        let Some((mut task, stepping)) = taken else { break };
        let trap = if host.process.is_dead() {
            Some(Trap::Died)
        } else {
            let trap = task.thread.load(stepping);
            let cpu = task.thread.cpu();
            host.core.placement.rang(server, host.seat(), cpu);
            trap
        };
        WOKEN.set(Some(VecDeque::new()));
        match trap {
            Some(trap) => deliver(host, task, trap),
            // A signal from outside, which the guest never hears of, or a call that the runtime makes itself.
            None => go_on(host, task, stepping),
        }
        run_queue();
    }
}

/// Let a thread go on that rang for nothing that its owner has to know, unless the owner was to be called anyway.
fn go_on(host: &Arc<Host>, mut task: Task, stepping: bool) {
    let passing = host.space.gate.pass();
    let mut state = lock(&host.state);
    // A thread that is stepped may be in a trampoline, which its owner must not see.
    if !stepping && host.kicked.load(Ordering::SeqCst) || host.process.is_dead() {
        drop(state);
        drop(passing);
        let trap = interrupted(&task);
        deliver(host, task, trap);
    } else {
        task.thread.resume(stepping);
        *state = State::Running { task, stepping };
    }
}

/// What a kick of a thread is that stands where guest code goes on.
fn interrupted(task: &Task) -> Trap {
    if task.thread.is_waiting() {
        Trap::Waiting
    } else {
        Trap::Interrupted
    }
}

/// Call the owner of the thread of `host` and do what it says.
fn deliver(host: &Arc<Host>, mut task: Task, mut trap: Trap) {
    let core = &host.core;
    loop {
        if core.is_stopping() {
            finish(host, task);
            return;
        }
        if host.kicked.load(Ordering::SeqCst) {
            host.kicked.store(false, Ordering::SeqCst);
        }
        if host.process.is_dead() {
            trap = Trap::Died;
        }
        HANDLING.set(host.seat().id());
        let next = marshal::during(host, || Arc::clone(&task.owner).trap(&mut *task.thread, trap));
        task.thread.set_waiting(next == Next::Again);
        if next == Next::Park {
            // Whoever it waits for may look at its memory.
            host.settle();
        }
        if next == Next::Exit || trap == Trap::Died {
            finish(host, task);
            return;
        }
        core.patcher().catch_up(host);
        let passing = host.space.gate.pass();
        let mut state = lock(&host.state);
        if host.kicked.load(Ordering::SeqCst) || host.process.is_dead() {
            drop(state);
            drop(passing);
            trap = interrupted(&task);
            continue;
        }
        if next == Next::Park {
            host.seat().parked();
            *state = State::Parked(task);
            core.parked();
        } else {
            let stepping = next == Next::Step;
            task.thread.resume(stepping);
            *state = State::Running { task, stepping };
        }
        return;
    }
}

fn finish(host: &Arc<Host>, mut task: Task) {
    *lock(&host.state) = State::Over;
    task.thread.tell_counts();
    Counters::add(&host.core.counters.answered, host.door().answered());
    Counters::add(&host.core.counters.native, host.door().native());
    let [patched, faulted] = host.door().cpuids();
    Counters::add(&host.core.counters.cpuid_patched, patched);
    Counters::add(&host.core.counters.cpuid_faults, faulted);
    Counters::add(&host.core.counters.written, host.door().written());
    task.thread.end();
    // Its server must not wait for a ring that never comes.
    host.door().ring_for_the_dead();
    let core = Arc::clone(&host.core);
    // Owners may do anything when they are dropped.
    drop(task);
    core.end();
}
