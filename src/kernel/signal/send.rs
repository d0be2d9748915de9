//! Sending signals: to a thread, a process, a process group; and what stop and continue signals do when sent.

use std::sync::Arc;

use super::pending::SIGRTMIN;
use super::{PendingSignals, STOPPING, SigHand, SigInfo, SigSet, Signal, bit};
use crate::kernel::Kernel;
use crate::kernel::stop::Errno;
use crate::kernel::task::{ExitStatus, Pid, StateChange, Task, ThreadGroup};
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

/// Send a signal to one thread (tgkill(2)). EAGAIN when its queue is full.
pub fn send_to_task(task: &Arc<Task>, info: SigInfo) -> Result<(), Errno> {
    if info.signal == libc::SIGKILL {
        return send_to_group(&task.kernel, &task.group, info);
    }
    stop_or_continue(&task.kernel, &task.group, info.signal);
    let limit = task.group.soft_limit(libc::RLIMIT_SIGPENDING);
    let wanted = {
        let mut signals = task.signals.lock();
        let blocked = signals.mask & bit(info.signal) != 0;
        if !blocked && task.sighand().ignores(info.signal) {
            return Ok(());
        }
        queue(&mut signals.pending, info, limit)?;
        !blocked
    };
    if wanted {
        task.kick();
    }
    task.group.signaled.notify(crate::kernel::wait::Events::READ);
    Ok(())
}

/// Send a signal to a process: any of its threads that does not block it takes it. EAGAIN when its queue is full.
pub fn send_to_group(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, info: SigInfo) -> Result<(), Errno> {
    if info.signal == libc::SIGKILL {
        group.state.lock().stopped = None;
        group.begin_exit(ExitStatus::Signaled {
            signal: libc::SIGKILL,
            core: false,
        });
        return Ok(());
    }
    stop_or_continue(kernel, group, info.signal);
    let threads = group.threads();
    let Some(first) = threads.first() else {
        return Ok(());
    };
    let open = |task: &&Arc<Task>| task.signals.lock().mask & bit(info.signal) == 0;
    let taker = threads.iter().find(open);
    if taker.is_some() && first.sighand().ignores(info.signal) {
        return Ok(());
    }
    let limit = group.soft_limit(libc::RLIMIT_SIGPENDING);
    queue(&mut group.pending.lock(), info, limit)?;
    if let Some(task) = taker {
        task.kick();
    }
    group.signaled.notify(crate::kernel::wait::Events::READ);
    Ok(())
}

/// Send a signal to all processes of a process group; false when it has none.
pub fn send_to_pgrp(kernel: &Arc<Kernel>, pgid: Pid, info: SigInfo) -> bool {
    let members: Vec<_> = kernel
        .pids
        .lock()
        .group_members(pgid)
        .map(|p| p.group.clone())
        .collect();
    for group in &members {
        // A full queue of one member is no reason to spare the others.
        let _ = send_to_group(kernel, group, info);
    }
    !members.is_empty()
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

/// A stop signal forgets pending continues and the other way round; SIGCONT continues even if it is blocked or ignored.
fn stop_or_continue(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, signal: Signal) {
    let forget = if signal == libc::SIGCONT {
        STOPPING
    } else if bit(signal) & STOPPING != 0 {
        bit(libc::SIGCONT)
    } else {
        return;
    };
    let threads = group.threads();
    for task in &threads {
        task.signals.lock().pending.discard(forget);
    }
    group.pending.lock().discard(forget);
    if signal == libc::SIGCONT {
        let was_stopped = {
            let mut state = group.state.lock();
            let was = state.stopped.take().is_some();
            if was {
                state.unreported = Some(StateChange::Continued);
            }
            was
        };
        if was_stopped {
            for task in &threads {
                task.kick();
            }
            tell_parent(kernel, group, StateChange::Continued);
        }
    }
}

/// Tell the parent that a child has stopped or continued: SIGCHLD and whoever waits.
pub(super) fn tell_parent(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, change: StateChange) {
    let parent = {
        let pids = kernel.pids.lock();
        let Some(process) = pids.processes.get(&group.pid) else {
            return;
        };
        pids.processes.get(&process.parent).map(|p| p.group.clone())
    };
    let Some(parent) = parent else { return };
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
        let _ = send_to_group(kernel, &parent, info);
    }
    parent.changed.notify(crate::kernel::wait::Events::READ);
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
