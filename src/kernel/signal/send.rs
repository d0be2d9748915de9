//! Sending signals: to a thread, a process, a process group; and what stop and continue signals do when sent.

use std::sync::Arc;

use super::pending::SIGRTMIN;
use super::{PendingSignals, STOPPING, SigHand, SigInfo, SigSet, Signal, bit};
use crate::kernel::Kernel;
use crate::kernel::stop::Errno;
use crate::kernel::task::{ExitStatus, Pid, Pids, StateChange, Task, ThreadGroup};
use crate::kernel::wait::Events;
use crate::platform::Fault;

/// Signals whose default action is to be ignored.
const IGNORED_BY_DEFAULT: SigSet =
    bit(libc::SIGCHLD) | bit(libc::SIGCONT) | bit(libc::SIGURG) | bit(libc::SIGWINCH);

/// Signals whose default action is a core dump.
const CORE_BY_DEFAULT: SigSet = bit(libc::SIGQUIT)
    | bit(libc::SIGILL)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGABRT)
    | bit(libc::SIGBUS)
    | bit(libc::SIGFPE)
    | bit(libc::SIGSEGV)
    | bit(libc::SIGSYS)
    | bit(libc::SIGXCPU)
    | bit(libc::SIGXFSZ);

/// Most signals one queue holds, however high RLIMIT_SIGPENDING is.
const MAX_QUEUED: usize = 30_000;

/// Default action of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Default {
    Ignore,
    Stop,
    Terminate { core: bool },
}

/// What SIG_DFL means for `signal`.
pub(super) fn default_action(signal: Signal) -> Default {
    if bit(signal) & IGNORED_BY_DEFAULT != 0 {
        Default::Ignore
    } else if bit(signal) & STOPPING != 0 {
        Default::Stop
    } else {
        Default::Terminate {
            core: bit(signal) & CORE_BY_DEFAULT != 0,
        }
    }
}

impl SigHand {
    /// Whether `signal` would do nothing if it were delivered.
    pub fn ignores(&self, signal: Signal) -> bool {
        let handler = self.action(signal).handler;
        handler == super::SIG_IGN || handler == super::SIG_DFL && default_action(signal) == Default::Ignore
    }
}

/// Whether nobody would learn of `signal`: it is ignored, and no tracer is shown it.
fn drops(task: &Task, signal: Signal) -> bool {
    !task.is_traced() && task.sighand().ignores(signal)
}

/// Send a signal to one thread (tgkill(2)). EAGAIN when its queue is full.
pub fn send_to_task(task: &Arc<Task>, info: SigInfo) -> Result<(), Errno> {
    if info.signal == libc::SIGKILL {
        return send_to_group(&task.kernel, &task.group, info);
    }
    if stops_or_continues(info.signal) {
        stop_or_continue(&task.kernel.pids.lock(), &task.group, info.signal);
    }
    let limit = task.group.soft_limit(libc::RLIMIT_SIGPENDING);
    let wanted = {
        let mut signals = task.signals.lock();
        let blocked = signals.mask & bit(info.signal) != 0;
        if !blocked && drops(task, info.signal) {
            return Ok(());
        }
        queue(&mut signals.pending, info, limit)?;
        !blocked
    };
    if wanted {
        task.kick();
    }
    task.group.signaled.notify(Events::READ);
    Ok(())
}

/// Send a signal to a process: any of its threads that does not block it takes it. EAGAIN when its queue is full.
pub fn send_to_group(kernel: &Kernel, group: &Arc<ThreadGroup>, info: SigInfo) -> Result<(), Errno> {
    if stops_or_continues(info.signal) {
        send_in_tree(&kernel.pids.lock(), group, info)
    } else {
        send_alone(group, info)
    }
}

/// As [`send_to_group`] with the process tree locked: then nobody sees what the signal tells of before the signal, and
/// no fork makes a process between those that get it.
pub fn send_in_tree(pids: &Pids, group: &Arc<ThreadGroup>, info: SigInfo) -> Result<(), Errno> {
    if stops_or_continues(info.signal) {
        stop_or_continue(pids, group, info.signal);
    }
    send_alone(group, info)
}

/// As [`send_to_group`], for a signal that neither stops nor continues.
fn send_alone(group: &Arc<ThreadGroup>, info: SigInfo) -> Result<(), Errno> {
    if info.signal == libc::SIGKILL {
        group.begin_exit(ExitStatus::Signaled {
            signal: libc::SIGKILL,
            core: false,
        });
        return Ok(());
    }
    let threads = group.threads();
    let Some(first) = threads.first() else {
        return Ok(());
    };
    let open = |task: &&Arc<Task>| task.signals.lock().mask & bit(info.signal) == 0;
    if threads.iter().any(|task| open(&task)) && drops(first, info.signal) {
        return Ok(());
    }
    let limit = group.soft_limit(libc::RLIMIT_SIGPENDING);
    queue(&mut group.pending.lock(), info, limit)?;
    // Looked for only now: who blocks the signal or ends later finds it queued and hands it on.
    if let Some(task) = group.threads().iter().find(open) {
        task.kick();
    }
    group.signaled.notify(Events::READ);
    Ok(())
}

/// `leaving` does not take signals of `set` any more, because it blocks them or ends: what is pending of them for its
/// process is another thread's.
pub fn hand_on(leaving: &Task, set: SigSet) {
    let group = &leaving.group;
    let mut pending = group.pending.lock().set() & set;
    if pending == 0 {
        return;
    }
    for thread in group.threads() {
        let takes = pending & !thread.signals.lock().mask;
        if takes != 0 && !std::ptr::eq(&*thread, leaving) {
            thread.kick();
            pending &= !takes;
        }
    }
}

/// Send a signal to all processes of a process group; false when it has none.
pub fn send_to_pgrp(kernel: &Kernel, pgid: Pid, info: SigInfo) -> bool {
    let pids = kernel.pids.lock();
    let mut any = false;
    for process in pids.group_members(pgid) {
        any = true;
        // A full queue of one member is no reason to spare the others.
        let _ = send_in_tree(&pids, &process.group, info);
    }
    any
}

/// Make a thread take a fault: a signal that it cannot block or ignore, because it cannot go on.
pub fn force(task: &Arc<Task>, info: SigInfo) {
    let sighand = task.sighand();
    {
        let mut signals = task.signals.lock();
        let mut actions = sighand.actions.lock_nested();
        if let Some(action) = usize::try_from(info.signal - 1)
            .ok()
            .and_then(|i| actions.get_mut(i))
        {
            let blocked = signals.mask & bit(info.signal) != 0;
            if blocked || action.handler == super::SIG_IGN {
                action.handler = super::SIG_DFL;
                signals.mask &= !bit(info.signal);
            }
        }
        signals.pending.push(info);
    }
    task.kick_self();
}

/// Queue a signal of a process that may have `limit` queued. Standard signals merge anyhow; a real-time one beyond the limit
/// is refused, unless it comes from kill(2), which only needs one to be pending.
fn queue(pending: &mut PendingSignals, info: SigInfo, limit: u64) -> Result<(), Errno> {
    let limit = usize::try_from(limit).map_or(MAX_QUEUED, |limit| limit.min(MAX_QUEUED));
    if info.signal >= SIGRTMIN && pending.len() >= limit {
        if info.code != libc::SI_USER {
            return Err(Errno::EAGAIN);
        }
        if pending.set() & bit(info.signal) != 0 {
            return Ok(());
        }
    }
    pending.push(info);
    Ok(())
}

/// Whether sending a signal does something to a process by itself.
fn stops_or_continues(signal: Signal) -> bool {
    (bit(libc::SIGCONT) | STOPPING) & bit(signal) != 0
}

/// A stop signal forgets pending continues and the other way round; SIGCONT continues even if it is blocked or ignored.
fn stop_or_continue(pids: &Pids, group: &Arc<ThreadGroup>, signal: Signal) {
    let continues = signal == libc::SIGCONT;
    let forget = if continues { STOPPING } else { bit(libc::SIGCONT) };
    for task in group.threads() {
        task.signals.lock().pending.discard(forget);
    }
    group.pending.lock().discard(forget);
    if !continues {
        return;
    }
    let threads = {
        let mut state = group.state.lock();
        // A stop signal that a thread has taken from its queue already is void too.
        state.continues += 1;
        if state.stopped.take().is_none() {
            return;
        }
        state.unreported = Some(StateChange::Continued);
        state.threads.clone()
    };
    for task in threads {
        task.kick();
    }
    tell_parent(pids, group, StateChange::Continued);
}

/// Tell the parent that a child has stopped or continued: SIGCHLD and whoever waits.
pub(super) fn tell_parent(pids: &Pids, group: &Arc<ThreadGroup>, change: StateChange) {
    let parent = pids.processes.get(&group.pid).map(|p| p.parent);
    let Some(parent) = parent.and_then(|pid| pids.processes.get(&pid)).map(|p| &p.group) else {
        return;
    };
    let (code, status) = match change {
        StateChange::Stopped(signal) => (libc::CLD_STOPPED, signal),
        StateChange::Continued => (libc::CLD_CONTINUED, libc::SIGCONT),
    };
    let quiet = parent.threads().first().is_none_or(|t| {
        let action = t.sighand().action(libc::SIGCHLD);
        action.handler == super::SIG_IGN || action.flags & super::SA_NOCLDSTOP != 0
    });
    if !quiet {
        let uid = group.threads().first().map_or(0, |t| t.creds().uid);
        let fields = super::SigFields::Child {
            pid: group.pid,
            uid,
            status,
            utime: 0,
            stime: 0,
        };
        let info = SigInfo {
            signal: libc::SIGCHLD,
            errno: 0,
            code,
            fields,
        };
        let _ = send_in_tree(pids, parent, info);
    }
    parent.changed.notify(Events::READ);
}

impl SigInfo {
    /// A CPU exception.
    pub fn from_fault(fault: &Fault) -> SigInfo {
        let fields = super::SigFields::Fault {
            addr: fault.addr,
            trapno: fault.trapno,
            error: fault.error,
        };
        SigInfo {
            signal: fault.signal,
            errno: 0,
            code: fault.code,
            fields,
        }
    }
}
