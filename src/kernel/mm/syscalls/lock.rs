//! mlock(2), mlock2(2), munlock(2), mlockall(2), munlockall(2).
//!
//! What is locked is the kernel's own account, checked against the guest's RLIMIT_MEMLOCK. The host is asked too, but its
//! own limit, which all guests of a user share, does not make a call fail that Linux would let pass.

use crate::kernel::mm::limits::Limits;
use crate::kernel::mm::{covers, page_align, user_end};
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::platform::{MemOp, PAGE_SIZE};

/// MLOCK_ONFAULT of mlock2(2).
const ONFAULT: u32 = 1;

/// mlock(2).
pub fn mlock(cx: &mut SyscallCx<'_>, addr: u64, len: u64) -> SysResult<()> {
    lock(cx, addr, len, 0)
}

/// mlock2(2).
pub fn mlock2(cx: &mut SyscallCx<'_>, addr: u64, len: u64, flags: u32) -> SysResult<()> {
    if flags & !ONFAULT != 0 {
        return fail!(EINVAL);
    }
    lock(cx, addr, len, flags)
}

/// The whole pages that `len` bytes at `addr` touch: start and length.
fn pages(addr: u64, len: u64) -> Option<(u64, u64)> {
    let start = addr & !(PAGE_SIZE - 1);
    Some((start, page_align(len.checked_add(addr - start)?)?))
}

fn lock(cx: &mut SyscallCx<'_>, addr: u64, len: u64, flags: u32) -> SysResult<()> {
    let limits = Limits::of(cx.task);
    if limits.locked == 0 {
        return fail!(EPERM);
    }
    let Some((start, len)) = pages(addr, len) else {
        return fail!(EINVAL);
    };
    let Some(end) = user_end(start, len) else {
        return fail!(ENOMEM);
    };
    let mm = cx.task.mm();
    mm.watch_memory();
    {
        let state = mm.state.lock();
        if state.lock_room(&limits) < len - state.locked.overlap(start, end) {
            return fail!(ENOMEM);
        }
    }
    if len == 0 {
        return Ok(());
    }
    let op = MemOp::Lock {
        addr: start,
        len,
        flags: Some(flags),
    };
    if cx.thread.memory(&[op]).is_err() && !covers(&mm.space.mappings()?, start, end) {
        return fail!(ENOMEM);
    }
    mm.state.lock().locked.insert(start, end);
    Ok(())
}

/// munlock(2).
pub fn munlock(cx: &mut SyscallCx<'_>, addr: u64, len: u64) -> SysResult<()> {
    let Some((start, len)) = pages(addr, len) else {
        return fail!(EINVAL);
    };
    let Some(end) = user_end(start, len) else {
        return fail!(ENOMEM);
    };
    if len == 0 {
        return Ok(());
    }
    cx.thread.memory(&[MemOp::Lock {
        addr: start,
        len,
        flags: None,
    }])?;
    cx.task.mm().state.lock().locked.remove(start, end);
    Ok(())
}

/// mlockall(2).
pub fn mlockall(cx: &mut SyscallCx<'_>, flags: i32) -> SysResult<()> {
    let known = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    if flags & !known != 0 || flags & (libc::MCL_CURRENT | libc::MCL_FUTURE) == 0 {
        return fail!(EINVAL);
    }
    let limits = Limits::of(cx.task);
    if limits.locked == 0 {
        return fail!(EPERM);
    }
    let mm = cx.task.mm();
    mm.watch_memory();
    let mlock2_flags = if flags & libc::MCL_ONFAULT != 0 {
        ONFAULT
    } else {
        0
    };
    if flags & libc::MCL_CURRENT != 0 {
        let mappings = mm.space.mappings()?;
        let total: u64 = mappings.iter().map(|m| m.end - m.start).sum();
        if total > limits.locked {
            return fail!(ENOMEM);
        }
        for mapping in &mappings {
            let _ = cx.thread.memory(&[MemOp::Lock {
                addr: mapping.start,
                len: mapping.end - mapping.start,
                flags: Some(mlock2_flags),
            }]);
        }
        let mut state = mm.state.lock();
        for mapping in &mappings {
            state.locked.insert(mapping.start, mapping.end);
        }
    }
    mm.state.lock().lock_future = (flags & libc::MCL_FUTURE != 0).then_some(mlock2_flags);
    Ok(())
}

/// munlockall(2).
pub fn munlockall(cx: &mut SyscallCx<'_>) -> SysResult<()> {
    let mm = cx.task.mm();
    let locked = {
        let mut state = mm.state.lock();
        state.lock_future = None;
        std::mem::take(&mut state.locked)
    };
    for (start, end) in locked.iter() {
        let _ = cx.thread.memory(&[MemOp::Lock {
            addr: start,
            len: end - start,
            flags: None,
        }]);
    }
    Ok(())
}
