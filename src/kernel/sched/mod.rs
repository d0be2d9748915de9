//! Scheduling: sched(7). The host schedules; policies and priorities are kept as data, affinity is passed on.

mod affinity;
mod policy;
mod priority;
mod syscalls;
mod turns;

pub(in crate::kernel) use syscalls::dispatch;
pub use turns::{Outcome, Player, Turns};

use std::sync::Arc;

use super::stop::Errno;
use super::syscall::SyscallCx;
use super::task::{Capability, Pid, Task};

/// The thread with this id; 0 is the caller.
fn target(cx: &SyscallCx<'_>, pid: Pid) -> Result<Arc<Task>, Errno> {
    match pid {
        0 => Ok(cx.task.clone()),
        pid => {
            let task = cx.kernel.pids.task(pid).ok_or(Errno::ESRCH)?;
            let exited = task.state.lock().exited;
            if exited { Err(Errno::ESRCH) } else { Ok(task) }
        }
    }
}

/// Whether the caller may change how `task` is scheduled; EPERM.
fn check_owner(cx: &SyscallCx<'_>, task: &Task) -> Result<(), Errno> {
    let (ours, theirs) = (cx.task.creds(), task.creds());
    if ours.euid == theirs.euid || ours.euid == theirs.uid || ours.capable(Capability::SysNice) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
