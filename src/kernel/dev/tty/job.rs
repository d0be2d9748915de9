//! Job control: who may use a terminal, and who hears when it goes away.

use std::sync::Arc;

use super::Tty;
use crate::kernel::Kernel;
use crate::kernel::signal::{self, SigInfo, Signal, bit};
use crate::kernel::stop::{Errno, Stop, SysResult};
use crate::kernel::task::{Pid, Task};
use crate::kernel::wait::WaitFor;

/// A task's process group and session.
pub(super) fn place(task: &Task) -> (Pid, Pid) {
    let pids = task.kernel.pids.lock();
    pids.processes
        .get(&task.pid())
        .map_or((0, 0), |p| (p.pgid, p.sid))
}

/// Stop the caller with `signal` (SIGTTIN, SIGTTOU) when it is in the background of this terminal. What may not or cannot
/// be stopped gets EIO for reading and may go on writing.
pub(super) fn check_foreground(task: &Arc<Task>, tty: &Tty, signal: Signal) -> SysResult<()> {
    let (pgid, sid) = place(task);
    let (session, foreground) = tty.job();
    if session != Some(sid) || foreground == pgid || foreground == 0 {
        return Ok(());
    }
    let blocked = task.signals.lock().mask & bit(signal) != 0;
    if blocked || task.sighand().action(signal).handler == signal::SIG_IGN {
        return if signal == libc::SIGTTIN {
            Err(Errno::EIO.into())
        } else {
            Ok(())
        };
    }
    if task.kernel.pids.lock().is_orphaned(task.pid()) {
        return Err(Errno::EIO.into());
    }
    signal::send_to_pgrp(&task.kernel, pgid, SigInfo::kernel(signal));
    // The call is made again when the signal has been acted on, which another thread may have done already.
    let again = task.kernel.clock.now();
    Err(WaitFor::default().until(Some(again)).into())
}

/// SIGHUP and SIGCONT for the leader of a session whose terminal is gone, and for the foreground process group.
pub(super) fn signal_hang_up(kernel: &Arc<Kernel>, session: Pid, foreground: Pid) {
    if let Some(leader) = kernel.pids.group(session) {
        for signal in [libc::SIGHUP, libc::SIGCONT] {
            // A process that is ending takes no more signals, which is as good.
            let _ = signal::send_to_group(kernel, &leader, SigInfo::kernel(signal));
        }
    }
    if foreground > 0 && foreground != session {
        for signal in [libc::SIGHUP, libc::SIGCONT] {
            signal::send_to_pgrp(kernel, foreground, SigInfo::kernel(signal));
        }
    }
}

/// Make `tty` the controlling terminal of the caller's session. EPERM unless the caller leads a session without one;
/// a terminal that controls another session is only taken with `steal` and the right to.
pub(super) fn acquire(task: &Arc<Task>, tty: &Arc<Tty>, steal: bool) -> Result<(), Errno> {
    let (pgid, sid) = place(task);
    let owned = task.kernel.terminals.of_session(sid);
    if task.pid() == sid && owned.as_ref().is_some_and(|own| Arc::ptr_eq(own, tty)) {
        return Ok(());
    }
    if task.pid() != sid || owned.is_some() {
        return Err(Errno::EPERM);
    }
    let mut state = tty.state.lock();
    if state.session.is_some() && !steal {
        return Err(Errno::EPERM);
    }
    state.session = Some(sid);
    state.foreground = pgid;
    Ok(())
}

/// Give up the controlling terminal (TIOCNOTTY). The session's leader hangs it up for all.
pub(super) fn give_up(task: &Arc<Task>, tty: &Tty) -> Result<(), Errno> {
    let (_, sid) = place(task);
    if tty.job().0 != Some(sid) {
        return Err(Errno::ENOTTY);
    }
    if task.pid() == sid {
        let foreground = {
            let mut state = tty.state.lock();
            state.session = None;
            std::mem::take(&mut state.foreground)
        };
        for signal in [libc::SIGHUP, libc::SIGCONT] {
            signal::send_to_pgrp(&task.kernel, foreground, SigInfo::kernel(signal));
        }
    }
    Ok(())
}

/// The leader of a session has ended: its terminal is free, and the foreground process group hears of it.
pub(in crate::kernel) fn leader_ended(task: &Arc<Task>) {
    if let Some(tty) = task.kernel.terminals.of_session(task.pid()) {
        // It is the session's leader, so this cannot fail.
        let _ = give_up(task, &tty);
    }
}

/// Change the foreground process group (TIOCSPGRP). ENOTTY, EPERM, ESRCH.
pub(super) fn set_foreground(task: &Arc<Task>, tty: &Tty, pgid: Pid) -> SysResult<()> {
    match check_foreground(task, tty, libc::SIGTTOU) {
        // In an orphaned group, which cannot be stopped.
        Err(Stop::Errno(Errno::EIO, _)) => return Err(Errno::ENOTTY.into()),
        checked => checked?,
    }
    let (_, sid) = place(task);
    if tty.job().0 != Some(sid) {
        return Err(Errno::ENOTTY.into());
    }
    if pgid < 0 {
        return Err(Errno::EINVAL.into());
    }
    {
        let pids = task.kernel.pids.lock();
        let mut members = pids.group_members(pgid).peekable();
        if members.peek().is_none() {
            return Err(Errno::ESRCH.into());
        }
        if members.any(|p| p.sid != sid) {
            return Err(Errno::EPERM.into());
        }
    }
    tty.state.lock().foreground = pgid;
    Ok(())
}
