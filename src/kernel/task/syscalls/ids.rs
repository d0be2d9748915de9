//! Ids of processes and threads, process groups, sessions: getpid(2), setpgid(2), setsid(2) and their like.

use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Pid, access};
use crate::kernel::user_memory::UserRef;

/// Size of `struct robust_list_head`, in bytes.
const ROBUST_HEAD: u64 = 24;

/// getpid(2).
pub(super) fn getpid(cx: &mut SyscallCx<'_>) -> SysResult<Pid> {
    Ok(cx.task.pid())
}

/// gettid(2).
pub(super) fn gettid(cx: &mut SyscallCx<'_>) -> SysResult<Pid> {
    Ok(cx.task.tid())
}

/// getppid(2): 0 for the first process.
pub(super) fn getppid(cx: &mut SyscallCx<'_>) -> SysResult<Pid> {
    let pids = cx.kernel.pids.lock();
    Ok(pids.processes.get(&cx.task.pid()).map_or(0, |p| p.parent))
}

/// getpgrp(2).
pub(super) fn getpgrp(cx: &mut SyscallCx<'_>) -> SysResult<Pid> {
    getpgid(cx, 0)
}

/// getpgid(2).
pub(super) fn getpgid(cx: &mut SyscallCx<'_>, pid: Pid) -> SysResult<Pid> {
    place(cx, pid).map(|(pgid, _)| pgid)
}

/// getsid(2).
pub(super) fn getsid(cx: &mut SyscallCx<'_>, pid: Pid) -> SysResult<Pid> {
    place(cx, pid).map(|(_, sid)| sid)
}

/// Process group and session of a thread's process; 0 means the caller.
fn place(cx: &SyscallCx<'_>, id: Pid) -> SysResult<(Pid, Pid)> {
    let pids = cx.kernel.pids.lock();
    let pid = match id {
        0 => cx.task.pid(),
        id => pids.tasks.get(&id).map_or(id, |t| t.pid()),
    };
    match pids.processes.get(&pid) {
        Some(process) => Ok((process.pgid, process.sid)),
        None => fail!(ESRCH),
    }
}

/// setpgid(2).
pub(super) fn setpgid(cx: &mut SyscallCx<'_>, pid: Pid, pgid: Pid) -> SysResult<()> {
    let own = cx.task.pid();
    let pid = if pid == 0 { own } else { pid };
    let pgid = if pgid == 0 { pid } else { pgid };
    if pgid < 0 {
        return fail!(EINVAL);
    }
    let mut pids = cx.kernel.pids.lock();
    let own_sid = pids.processes.get(&own).map_or(0, |p| p.sid);
    let Some(target) = pids.processes.get(&pid) else {
        let is_thread = pids.tasks.contains_key(&pid);
        return if is_thread { fail!(EINVAL) } else { fail!(ESRCH) };
    };
    if target.parent == own {
        if target.sid != own_sid {
            return fail!(EPERM);
        }
        if target.group.state.lock().execed {
            return fail!(EACCES);
        }
    } else if pid != own {
        return fail!(ESRCH);
    }
    if target.sid == pid {
        return fail!(EPERM);
    }
    if pgid != pid && !pids.group_members(pgid).any(|p| p.sid == own_sid) {
        return fail!(EPERM);
    }
    pids.place(pid, pgid, own_sid);
    Ok(())
}

/// setsid(2).
pub(super) fn setsid(cx: &mut SyscallCx<'_>) -> SysResult<Pid> {
    let pid = cx.task.pid();
    let mut pids = cx.kernel.pids.lock();
    if pids.group_members(pid).next().is_some() {
        return fail!(EPERM);
    }
    pids.place(pid, pid, pid);
    Ok(pid)
}

/// set_tid_address(2).
pub(super) fn set_tid_address(cx: &mut SyscallCx<'_>, addr: u64) -> SysResult<Pid> {
    cx.task.state.lock().clear_child_tid = addr;
    Ok(cx.task.tid())
}

/// set_robust_list(2).
pub(super) fn set_robust_list(cx: &mut SyscallCx<'_>, head: u64, len: u64) -> SysResult<()> {
    if len != ROBUST_HEAD {
        return fail!(EINVAL);
    }
    cx.task.set_robust_list(head);
    Ok(())
}

/// get_robust_list(2).
pub(super) fn get_robust_list(
    cx: &mut SyscallCx<'_>,
    pid: Pid,
    head: UserRef<u64>,
    len: UserRef<u64>,
) -> SysResult<()> {
    let target = match pid {
        0 => cx.task.clone(),
        pid => cx.kernel.pids.task(pid).ok_or(Errno::ESRCH)?,
    };
    access::check_for_files(cx.task, &target)?;
    cx.memory.write(len, &ROBUST_HEAD)?;
    Ok(cx.memory.write(head, &target.robust_list())?)
}
