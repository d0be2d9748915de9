//! sched_setscheduler(2), sched_setattr(2) and their like.

use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::priority::{check_nice, nice_of_limit};
use super::{check_owner, target};
use crate::kernel::abi::sys::SchedAttr;
use crate::kernel::abi::time::Timespec;
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, Pid, Task};
use crate::kernel::user_memory::{UserAddr, UserRef};
use crate::platform::PAGE_SIZE;

/// SCHED_RESET_ON_FORK.
const RESET_ON_FORK: i32 = 0x4000_0000;
/// SCHED_FLAG_RESET_ON_FORK.
const FLAG_RESET_ON_FORK: u64 = 1;
/// Smallest `struct sched_attr`, in bytes.
const ATTR_MIN: u32 = 48;
/// Time slice of SCHED_RR, in nanoseconds.
const RR_SLICE: u64 = 100_000_000;
/// What other policies report as their slice, in nanoseconds.
const FAIR_SLICE: u64 = 4_000_000;
/// SCHED_DEADLINE.
const DEADLINE: i32 = 6;

/// A policy with its parameters.
struct Wanted {
    policy: i32,
    priority: i32,
    reset_on_fork: bool,
    nice: Option<i32>,
}

fn is_realtime(policy: i32) -> bool {
    matches!(policy, libc::SCHED_FIFO | libc::SCHED_RR)
}

fn is_fair(policy: i32) -> bool {
    matches!(policy, libc::SCHED_OTHER | libc::SCHED_BATCH | libc::SCHED_IDLE)
}

fn apply(cx: &SyscallCx<'_>, task: &Arc<Task>, wanted: &Wanted) -> SysResult<()> {
    let fits = if is_realtime(wanted.policy) {
        (1..=99).contains(&wanted.priority)
    } else {
        is_fair(wanted.policy) && wanted.priority == 0
    };
    if !fits {
        return fail!(EINVAL);
    }
    let privileged = cx.task.creds().capable(Capability::SysNice);
    let now = task.state.lock().sched.clone();
    if !privileged {
        let limit = i32::try_from(task.group.soft_limit(libc::RLIMIT_RTPRIO)).unwrap_or(i32::MAX);
        let rises = is_realtime(wanted.policy)
            && (wanted.policy != now.policy && limit == 0
                || wanted.priority > now.priority && wanted.priority > limit);
        let leaves_idle = now.policy == libc::SCHED_IDLE
            && wanted.policy != libc::SCHED_IDLE
            && task.state.lock().nice < nice_of_limit(task);
        if rises || leaves_idle || now.reset_on_fork && !wanted.reset_on_fork {
            return fail!(EPERM);
        }
    }
    check_owner(cx, task)?;
    if let Some(nice) = wanted.nice.filter(|_| is_fair(wanted.policy)) {
        check_nice(cx, task, nice)?;
        task.state.lock().nice = nice;
    }
    let mut state = task.state.lock();
    state.sched.policy = wanted.policy;
    state.sched.priority = wanted.priority;
    state.sched.reset_on_fork = wanted.reset_on_fork;
    Ok(())
}

/// sched_setscheduler(2).
pub(super) fn sched_setscheduler(
    cx: &mut SyscallCx<'_>,
    pid: Pid,
    policy: i32,
    param: UserRef<i32>,
) -> SysResult<()> {
    if policy < 0 || param.is_null() || pid < 0 {
        return fail!(EINVAL);
    }
    let priority = cx.memory.read(param)?;
    let task = target(cx, pid)?;
    let wanted = Wanted {
        policy: policy & !RESET_ON_FORK,
        priority,
        reset_on_fork: policy & RESET_ON_FORK != 0,
        nice: None,
    };
    apply(cx, &task, &wanted)
}

/// sched_setparam(2).
pub(super) fn sched_setparam(cx: &mut SyscallCx<'_>, pid: Pid, param: UserRef<i32>) -> SysResult<()> {
    if param.is_null() || pid < 0 {
        return fail!(EINVAL);
    }
    let priority = cx.memory.read(param)?;
    let task = target(cx, pid)?;
    let now = task.state.lock().sched.clone();
    let wanted = Wanted {
        policy: now.policy,
        priority,
        reset_on_fork: now.reset_on_fork,
        nice: None,
    };
    apply(cx, &task, &wanted)
}

/// sched_getscheduler(2).
pub(super) fn sched_getscheduler(cx: &mut SyscallCx<'_>, pid: Pid) -> SysResult<i32> {
    if pid < 0 {
        return fail!(EINVAL);
    }
    let task = target(cx, pid)?;
    let sched = task.state.lock().sched.clone();
    Ok(sched.policy | if sched.reset_on_fork { RESET_ON_FORK } else { 0 })
}

/// sched_getparam(2).
pub(super) fn sched_getparam(cx: &mut SyscallCx<'_>, pid: Pid, param: UserRef<i32>) -> SysResult<()> {
    if param.is_null() || pid < 0 {
        return fail!(EINVAL);
    }
    let priority = target(cx, pid)?.state.lock().sched.priority;
    Ok(cx.memory.write(param, &priority)?)
}

/// sched_get_priority_max(2).
pub(super) fn sched_get_priority_max(_: &mut SyscallCx<'_>, policy: i32) -> SysResult<i32> {
    priority_bound(policy, 99)
}

/// sched_get_priority_min(2).
pub(super) fn sched_get_priority_min(_: &mut SyscallCx<'_>, policy: i32) -> SysResult<i32> {
    priority_bound(policy, 1)
}

fn priority_bound(policy: i32, realtime: i32) -> SysResult<i32> {
    if is_realtime(policy) {
        Ok(realtime)
    } else if is_fair(policy) || policy == DEADLINE {
        Ok(0)
    } else {
        fail!(EINVAL)
    }
}

/// sched_rr_get_interval(2).
pub(super) fn sched_rr_get_interval(
    cx: &mut SyscallCx<'_>,
    pid: Pid,
    to: UserRef<Timespec>,
) -> SysResult<()> {
    if pid < 0 {
        return fail!(EINVAL);
    }
    let policy = target(cx, pid)?.state.lock().sched.policy;
    let slice = match policy {
        libc::SCHED_RR => RR_SLICE,
        libc::SCHED_FIFO => 0,
        _ => FAIR_SLICE,
    };
    Ok(cx.memory.write(to, &Timespec::from_nanos(slice))?)
}

/// sched_setattr(2).
pub(super) fn sched_setattr(
    cx: &mut SyscallCx<'_>,
    pid: Pid,
    attr: UserRef<SchedAttr>,
    flags: u32,
) -> SysResult<()> {
    const KNOWN_FLAGS: u64 = 0x7f;
    const KEEP_POLICY: u64 = 8;
    const KEEP_PARAMS: u64 = 0x10;
    if attr.is_null() || pid < 0 || flags != 0 {
        return fail!(EINVAL);
    }
    let attr = read_attr(cx, attr)?;
    let policy = i32::try_from(attr.policy).unwrap_or(-1);
    if policy < 0 && attr.flags & KEEP_POLICY == 0 || attr.flags & !KNOWN_FLAGS != 0 {
        return fail!(EINVAL);
    }
    let task = target(cx, pid)?;
    let now = task.state.lock().sched.clone();
    let keep_params = attr.flags & KEEP_PARAMS != 0;
    let wanted = Wanted {
        policy: if attr.flags & KEEP_POLICY != 0 {
            now.policy
        } else {
            policy
        },
        priority: if keep_params {
            now.priority
        } else {
            i32::try_from(attr.priority).unwrap_or(-1)
        },
        reset_on_fork: attr.flags & FLAG_RESET_ON_FORK != 0,
        nice: (!keep_params).then(|| attr.nice.clamp(-20, 19)),
    };
    apply(cx, &task, &wanted)
}

/// Read the structure at whatever size the caller has it: E2BIG for sizes and contents that are unknown here.
fn read_attr(cx: &SyscallCx<'_>, from: UserRef<SchedAttr>) -> SysResult<SchedAttr> {
    let known = size_of::<SchedAttr>();
    let size = match cx.memory.read(from.addr().cast::<u32>())? {
        0 => ATTR_MIN,
        size => size,
    };
    if !(ATTR_MIN..=PAGE_SIZE as u32).contains(&size) {
        let own = u32::try_from(known).unwrap_or_default();
        cx.memory.write(from.addr().cast(), &own)?;
        return fail!(E2BIG);
    }
    let mut bytes = vec![0; size as usize];
    cx.memory.read_bytes(from.addr(), &mut bytes)?;
    if bytes.iter().skip(known).any(|&b| b != 0) {
        return fail!(E2BIG);
    }
    bytes.resize(known, 0);
    match SchedAttr::read_from_bytes(&bytes) {
        Ok(attr) => Ok(attr),
        Err(_) => fail!(EINVAL),
    }
}

/// sched_getattr(2).
pub(super) fn sched_getattr(
    cx: &mut SyscallCx<'_>,
    pid: Pid,
    to: UserAddr,
    size: u32,
    flags: u32,
) -> SysResult<()> {
    if to.is_null() || pid < 0 || !(ATTR_MIN..=PAGE_SIZE as u32).contains(&size) || flags != 0 {
        return fail!(EINVAL);
    }
    let task = target(cx, pid)?;
    let (sched, nice) = {
        let state = task.state.lock();
        (state.sched.clone(), state.nice)
    };
    let fits = (size as usize).min(size_of::<SchedAttr>());
    let attr = SchedAttr {
        size: u32::try_from(fits).unwrap_or_default(),
        policy: sched.policy.cast_unsigned(),
        flags: u64::from(sched.reset_on_fork),
        nice: if is_fair(sched.policy) { nice } else { 0 },
        priority: sched.priority.cast_unsigned(),
        ..SchedAttr::default()
    };
    Ok(cx.memory.write_bytes(to, &attr.as_bytes()[..fits])?)
}
