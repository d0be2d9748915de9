//! getrlimit(2), setrlimit(2), prlimit(2).

use std::sync::Arc;

use crate::kernel::abi::task::RlimitAbi;
use crate::kernel::mm;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, Pid, Rlimit, Task, exec};
use crate::kernel::time;
use crate::kernel::user_memory::UserRef;

/// Highest RLIMIT_NOFILE (fs.nr_open).
const NR_OPEN: u64 = 1 << 20;

/// getrlimit(2).
pub(super) fn getrlimit(cx: &mut SyscallCx<'_>, resource: u32, to: UserRef<RlimitAbi>) -> SysResult<()> {
    let limit = get(cx.task, resource)?;
    Ok(cx.memory.write(to, &limit)?)
}

/// setrlimit(2).
pub(super) fn setrlimit(cx: &mut SyscallCx<'_>, resource: u32, from: UserRef<RlimitAbi>) -> SysResult<()> {
    let new = cx.memory.read(from)?;
    let target = cx.task.clone();
    set(cx, &target, resource, new)
}

/// prlimit(2).
pub(super) fn prlimit64(
    cx: &mut SyscallCx<'_>,
    pid: Pid,
    resource: u32,
    from: UserRef<RlimitAbi>,
    to: UserRef<RlimitAbi>,
) -> SysResult<()> {
    let new = from.non_null().map(|from| cx.memory.read(from)).transpose()?;
    let target = match pid {
        0 => cx.task.clone(),
        pid => cx.kernel.pids.task(pid).ok_or(Errno::ESRCH)?,
    };
    check_access(cx.task, &target)?;
    let old = get(&target, resource)?;
    if let Some(new) = new {
        set(cx, &target, resource, new)?;
    }
    if let Some(to) = to.non_null() {
        cx.memory.write(to, &old)?;
    }
    Ok(())
}

fn get(task: &Task, resource: u32) -> Result<RlimitAbi, Errno> {
    let state = task.group.state.lock();
    let limit = state.limits.0.get(resource as usize).ok_or(Errno::EINVAL)?;
    Ok(RlimitAbi {
        soft: limit.soft,
        hard: limit.hard,
    })
}

fn set(cx: &mut SyscallCx<'_>, target: &Arc<Task>, resource: u32, new: RlimitAbi) -> SysResult<()> {
    let may_raise = cx.task.creds().capable(Capability::SysResource);
    {
        let mut state = target.group.state.lock();
        let Some(limit) = state.limits.0.get_mut(resource as usize) else {
            return fail!(EINVAL);
        };
        if new.soft > new.hard {
            return fail!(EINVAL);
        }
        if resource == libc::RLIMIT_NOFILE && new.hard > NR_OPEN || new.hard > limit.hard && !may_raise {
            return fail!(EPERM);
        }
        *limit = Rlimit {
            soft: new.soft,
            hard: new.hard,
        };
    }
    if mm::limits::OF_MEMORY.contains(&resource) && new.soft != u64::MAX {
        target.mm().watch_memory();
    }
    if resource == libc::RLIMIT_FSIZE {
        cx.kernel.vfs.writers.revoke();
    }
    if resource == libc::RLIMIT_CPU {
        time::watch_cpu_limit(target);
    }
    if resource == libc::RLIMIT_STACK && Arc::ptr_eq(&target.group, &cx.task.group) {
        exec::grow_stack(cx, new.soft);
    }
    Ok(())
}

/// Whether `caller` may see and change the limits of `target`; EPERM.
fn check_access(caller: &Task, target: &Task) -> Result<(), Errno> {
    if Arc::ptr_eq(&caller.group, &target.group) {
        return Ok(());
    }
    let (ours, theirs) = (caller.creds(), target.creds());
    let same = [theirs.uid, theirs.euid, theirs.suid]
        .iter()
        .all(|&u| u == ours.uid)
        && [theirs.gid, theirs.egid, theirs.sgid]
            .iter()
            .all(|&g| g == ours.gid);
    if same || ours.capable(Capability::SysResource) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
