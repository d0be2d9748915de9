//! getpriority(2), setpriority(2), ioprio_set(2), ioprio_get(2).

use std::sync::Arc;

use super::check_owner;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, Task};

/// Where `who` is looked up: both families number it alike, from 0 and from 1.
#[derive(Clone, Copy)]
enum Scope {
    Thread,
    Group,
    User,
}

/// The threads that a scope and an id mean; ESRCH when there are none.
fn targets(cx: &SyscallCx<'_>, scope: Scope, who: i32) -> Result<Vec<Arc<Task>>, Errno> {
    let pids = cx.kernel.pids.lock();
    let found: Vec<Arc<Task>> = match scope {
        Scope::Thread if who == 0 => vec![cx.task.clone()],
        Scope::Thread => pids.tasks.get(&who).cloned().into_iter().collect(),
        Scope::Group => {
            let own = pids.processes.get(&cx.task.pid()).map_or(0, |p| p.pgid);
            let pgid = if who == 0 { own } else { who };
            pids.group_members(pgid).flat_map(|p| p.group.threads()).collect()
        }
        Scope::User => {
            let uid = if who == 0 {
                cx.task.creds().uid
            } else {
                who.cast_unsigned()
            };
            pids.tasks
                .values()
                .filter(|t| t.creds().uid == uid)
                .cloned()
                .collect()
        }
    };
    drop(pids);
    if found.is_empty() {
        Err(Errno::ESRCH)
    } else {
        Ok(found)
    }
}

fn nice_scope(which: i32) -> Result<Scope, Errno> {
    match which {
        0 => Ok(Scope::Thread),
        1 => Ok(Scope::Group),
        2 => Ok(Scope::User),
        _ => Err(Errno::EINVAL),
    }
}

/// getpriority(2), as the kernel answers it: 40 (nicest to itself) to 1.
pub(super) fn getpriority(cx: &mut SyscallCx<'_>, which: i32, who: i32) -> SysResult<i32> {
    let tasks = targets(cx, nice_scope(which)?, who)?;
    let best = tasks.iter().map(|t| t.state.lock().nice).min().unwrap_or(0);
    Ok(20 - best)
}

/// setpriority(2).
pub(super) fn setpriority(cx: &mut SyscallCx<'_>, which: i32, who: i32, nice: i32) -> SysResult<()> {
    let nice = nice.clamp(-20, 19);
    let mut result = Ok(());
    for task in targets(cx, nice_scope(which)?, who)? {
        match check_owner(cx, &task).and_then(|()| check_nice(cx, &task, nice)) {
            Ok(()) => task.state.lock().nice = nice,
            Err(errno) => result = Err(errno.into()),
        }
    }
    result
}

/// EACCES when `task` may not be given this nice value: lower than now and than RLIMIT_NICE allows.
pub(super) fn check_nice(cx: &SyscallCx<'_>, task: &Task, nice: i32) -> Result<(), Errno> {
    let lower = nice < task.state.lock().nice;
    if lower && nice < nice_of_limit(task) && !cx.task.creds().capable(Capability::SysNice) {
        Err(Errno::EACCES)
    } else {
        Ok(())
    }
}

/// The lowest nice value that RLIMIT_NICE lets anybody choose.
pub(super) fn nice_of_limit(task: &Task) -> i32 {
    let limit = task.group.soft_limit(libc::RLIMIT_NICE).min(40);
    20 - i32::try_from(limit).unwrap_or(40)
}

fn io_scope(which: i32) -> Result<Scope, Errno> {
    nice_scope(which.wrapping_sub(1))
}

/// ioprio_set(2).
pub(super) fn ioprio_set(cx: &mut SyscallCx<'_>, which: i32, who: i32, ioprio: u32) -> SysResult<()> {
    let (class, level) = (ioprio >> 13, ioprio & 7);
    match class {
        1 if !cx.task.creds().capable(Capability::SysAdmin)
            && !cx.task.creds().capable(Capability::SysNice) =>
        {
            return fail!(EPERM);
        }
        0 if level != 0 => return fail!(EINVAL),
        0..=3 => {}
        _ => return fail!(EINVAL),
    }
    for task in targets(cx, io_scope(which)?, who)? {
        check_owner(cx, &task)?;
        task.state.lock().sched.ioprio = ioprio;
    }
    Ok(())
}

/// ioprio_get(2): the highest one. What was never set follows the nice value.
pub(super) fn ioprio_get(cx: &mut SyscallCx<'_>, which: i32, who: i32) -> SysResult<u32> {
    const BEST_EFFORT: u32 = 2 << 13;
    let tasks = targets(cx, io_scope(which)?, who)?;
    let of = |task: &Arc<Task>| {
        let state = task.state.lock();
        match state.sched.ioprio {
            0 => BEST_EFFORT | u32::try_from((state.nice + 20) / 5).unwrap_or(4),
            set => set,
        }
    };
    Ok(tasks.iter().map(of).min().unwrap_or(BEST_EFFORT | 4))
}
