//! The event loop: waits for the host's reports and calls the owners.

use std::sync::Arc;

use nix::errno::Errno;

use super::core::{Core, Slot, Task};
use super::host::HostThread;
use super::inject;
use super::mail::Letter;
use super::tracee::{Go, Status, Tracee, wait_any, wait_one};
use crate::platform::{Next, Trap};

/// Events after which all threads that stopped meanwhile are served before anyone runs on: the host reports in an order of
/// its own, in which a busy thread could hide another one for ever.
const SWEEP: u32 = 16;

/// Serve traps until no thread has an owner, or the platform is told to stop.
pub(super) fn run(core: &Arc<Core>) -> Result<(), Errno> {
    let result = serve(core);
    core.end_all();
    result
}

fn serve(core: &Arc<Core>) -> Result<(), Errno> {
    let mut events = 0;
    loop {
        read_mail(core);
        for task in core.with(|s| std::mem::take(&mut s.due)) {
            let host = task.thread.host();
            let trap = if host.is_reaped() {
                Trap::Died
            } else {
                host.take_kick();
                Trap::Interrupted
            };
            deliver(core, task, trap);
        }
        if core.mail().is_stopping() || core.with(|s| s.owned) == 0 {
            return Ok(());
        }
        ensure_bell(core)?;
        events += 1;
        if events % SWEEP == 0 && core.with(|s| s.running) > 1 {
            sweep(core)?;
        }
        if let Some((tracee, status)) = next_event(core)? {
            dispatch(core, tracee, status);
        }
    }
}

/// Collect everything that has stopped by now.
fn sweep(core: &Core) -> Result<(), Errno> {
    while let Some((tracee, status)) = ignore_interrupts(wait_any(false))? {
        note(core, tracee, status);
    }
    Ok(())
}

fn next_event(core: &Core) -> Result<Option<(Tracee, Status)>, Errno> {
    if let Some(event) = core.with(|s| s.backlog.pop_front()) {
        return Ok(Some(event));
    }
    if !core.mail().fall_asleep() || core.with(|s| !s.due.is_empty() || s.owned == 0) {
        core.mail().wake_up();
        return Ok(None);
    }
    let event = ignore_interrupts(wait_any(true));
    core.mail().wake_up();
    if let Some((tracee, status)) = event? {
        note(core, tracee, status);
    }
    Ok(core.with(|s| s.backlog.pop_front()))
}

/// Keep a report for its turn; ends at once, since the id is free from now on.
fn note(core: &Core, tracee: Tracee, status: Status) {
    if status == Status::Gone {
        core.reaped(tracee);
    } else {
        core.with(|s| s.backlog.push_back((tracee, status)));
    }
}

fn ignore_interrupts(
    event: Result<Option<(Tracee, Status)>, Errno>,
) -> Result<Option<(Tracee, Status)>, Errno> {
    match event {
        Err(Errno::EINTR) => Ok(None),
        other => other,
    }
}

fn dispatch(core: &Arc<Core>, tracee: Tracee, status: Status) {
    enum Then {
        Owner(Task, bool),
        RunOn,
        Kill,
        Nothing,
    }
    let then = core.with(|s| {
        if s.bell == Some(tracee) {
            return Then::RunOn;
        }
        let Some(entry) = s.entries.get_mut(&tracee) else {
            return Then::Kill;
        };
        match std::mem::replace(&mut entry.slot, Slot::Taken) {
            Slot::Running { task, stepping } => {
                s.running -= 1;
                Then::Owner(task, stepping)
            }
            Slot::Ending => {
                entry.slot = Slot::Ending;
                Then::RunOn
            }
            other => {
                entry.slot = other;
                Then::Nothing
            }
        }
    });
    match then {
        Then::Owner(mut task, stepping) => match task.thread.classify(status, stepping) {
            Some(trap) => deliver(core, task, trap),
            None => run_on(core, task, stepping),
        },
        // A signal from outside while it sleeps or ends: swallowed.
        Then::RunOn => {
            if let Err(e) = tracee.go(Go::Host) {
                tracing::debug!("host thread {} is gone: {e}", tracee.0);
            }
        }
        // Made by a thread that died before it could tell us.
        Then::Kill => tracee.kill_process(),
        Then::Nothing => {}
    }
}

/// Call the owner, and again for as long as there is something to tell it at once. The slot is `Taken`.
fn deliver(core: &Arc<Core>, mut task: Task, mut trap: Trap) {
    loop {
        let next = Arc::clone(&task.owner).trap(&mut *task.thread, trap);
        let host = task.thread.host();
        if trap == Trap::Died || next == Next::Exit {
            core.with(|s| s.owned -= 1);
            let unmapped = task.thread.is_last();
            task.thread.end();
            if unmapped {
                core.forget_closed_files();
            }
            // Owners may do anything when they are dropped.
            drop(task.owner);
            core.mail().ended();
            return;
        }
        if host.is_reaped() {
            trap = Trap::Died;
            continue;
        }
        let kicked = host.take_kick();
        match next {
            Next::Park if kicked => trap = Trap::Woken,
            _ if kicked => trap = Trap::Interrupted,
            Next::Park => {
                let tracee = host.tracee;
                core.with(|s| {
                    if let Some(entry) = s.entries.get_mut(&tracee) {
                        entry.slot = Slot::Parked(task);
                    }
                });
                core.mail().ended();
                return;
            }
            _ => return run_on(core, task, next == Next::Step),
        }
    }
}

/// Let the guest run. The slot is `Taken`.
fn run_on(core: &Core, mut task: Task, stepping: bool) {
    let tracee = task.thread.host().tracee;
    task.thread.resume(stepping);
    core.with(|s| match s.entries.get_mut(&tracee) {
        Some(entry) => {
            entry.slot = Slot::Running { task, stepping };
            s.running += 1;
        }
        None => s.due.push(task),
    });
}

/// Begin to run a thread that has had no owner yet.
pub(super) fn start(core: &Core, task: Task) {
    let host = Arc::clone(task.thread.host());
    core.with(|s| s.owned += 1);
    core.mail().began();
    if host.is_reaped() || host.is_kicked() {
        core.with(|s| s.due.push(task));
    } else {
        run_on(core, task, false);
    }
}

fn interrupt(host: &HostThread) {
    if let Err(e) = host.tracee.interrupt() {
        // It is dying, which the host reports by itself.
        tracing::debug!("interrupting host thread {}: {e}", host.tracee.0);
    }
}

fn read_mail(core: &Arc<Core>) {
    for letter in core.mail().take() {
        match letter {
            Letter::Kicked(host) => kicked(core, &host),
            Letter::Dropped(host) => core.end(&host),
            Letter::Started(task) => start(core, task),
        }
        core.mail().ended();
    }
}

fn kicked(core: &Arc<Core>, host: &Arc<HostThread>) {
    let parked = core.with(|s| {
        let entry = s
            .entries
            .get_mut(&host.tracee)
            .filter(|e| Arc::ptr_eq(&e.host, host))?;
        match std::mem::replace(&mut entry.slot, Slot::Taken) {
            Slot::Parked(task) if host.take_kick() => {
                core.mail().began();
                Some(task)
            }
            Slot::Running { task, stepping } => {
                entry.slot = Slot::Running { task, stepping };
                interrupt(host);
                None
            }
            other => {
                entry.slot = other;
                None
            }
        }
    });
    if let Some(task) = parked {
        deliver(core, task, Trap::Woken);
    }
}

/// Have a tracee that a signal can make the host report.
fn ensure_bell(core: &Core) -> Result<(), Errno> {
    if core.with(|s| s.bell.is_some()) {
        return Ok(());
    }
    let bell = core.clone_zygote()?;
    if wait_one(bell) == Status::Gone {
        return Err(Errno::ESRCH);
    }
    core.with(|s| s.bell = Some(bell));
    core.mail().set_bell(bell)?;
    inject::call_last(bell, libc::SYS_pause, [0; 6])
}
