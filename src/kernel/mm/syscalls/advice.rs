//! madvise(2), process_madvise(2), msync(2), mincore(2), process_mrelease(2).

use crate::kernel::fs::Fd;
use crate::kernel::mm::{covers, is_page_aligned, page_align, user_end};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, access, pidfd};
use crate::kernel::user_memory::{IoVec, MAX_IOV, UserRef};
use crate::platform::MemOp;

/// Advice whose effect stays within the caller's own memory, so that the host may be given it.
const HARMLESS: [i32; 22] = [
    libc::MADV_NORMAL,
    libc::MADV_RANDOM,
    libc::MADV_SEQUENTIAL,
    libc::MADV_WILLNEED,
    libc::MADV_DONTNEED,
    libc::MADV_FREE,
    libc::MADV_REMOVE,
    libc::MADV_DONTFORK,
    libc::MADV_DOFORK,
    libc::MADV_HUGEPAGE,
    libc::MADV_NOHUGEPAGE,
    libc::MADV_DONTDUMP,
    libc::MADV_DODUMP,
    libc::MADV_WIPEONFORK,
    libc::MADV_KEEPONFORK,
    libc::MADV_COLD,
    libc::MADV_PAGEOUT,
    libc::MADV_POPULATE_READ,
    libc::MADV_POPULATE_WRITE,
    libc::MADV_COLLAPSE,
    102, // MADV_GUARD_INSTALL
    103, // MADV_GUARD_REMOVE
];

/// madvise(2). Merging equal pages is not offered, as in a kernel without KSM: it would let a guest measure the host.
pub fn madvise(cx: &mut SyscallCx<'_>, addr: u64, length: u64, advice: i32) -> SysResult<()> {
    match advice {
        libc::MADV_HWPOISON | libc::MADV_SOFT_OFFLINE => return fail!(EPERM),
        advice if !HARMLESS.contains(&advice) => return fail!(EINVAL),
        _ if !is_page_aligned(addr) => return fail!(EINVAL),
        _ => {}
    }
    let Some(len) = page_align(length).filter(|&len| addr.checked_add(len).is_some()) else {
        return fail!(EINVAL);
    };
    if len == 0 {
        return Ok(());
    }
    if user_end(addr, len).is_none() {
        return fail!(ENOMEM);
    }
    cx.thread.memory(&[MemOp::Advise {
        addr,
        len,
        advice: advice.cast_unsigned(),
    }])?;
    Ok(())
}

/// process_madvise(2). For another process it only checks: the advice that Linux takes there changes nothing that a
/// program could see, and the host is not told.
pub fn process_madvise(
    cx: &mut SyscallCx<'_>,
    pidfd: Fd,
    iov: UserRef<IoVec>,
    count: u64,
    advice: i32,
    flags: u32,
) -> SysResult<u64> {
    if flags != 0 || count > MAX_IOV {
        return fail!(EINVAL);
    }
    let ranges = cx.memory.read_array(iov, count as usize)?;
    let group = pidfd::group_of(cx, pidfd)?;
    let own = group.pid == cx.task.pid();
    let target = access::live_thread(&group).ok_or(Errno::ESRCH)?;
    if !own {
        let remote = [
            libc::MADV_COLD,
            libc::MADV_PAGEOUT,
            libc::MADV_WILLNEED,
            libc::MADV_COLLAPSE,
        ];
        if !remote.contains(&advice) {
            return fail!(EINVAL);
        }
        access::check(cx.task, &target)?;
        if !cx.task.creds().capable(Capability::SysNice) {
            return fail!(EPERM);
        }
    }
    let mut done = 0u64;
    for range in ranges {
        let step = if own {
            madvise(cx, range.base, range.len, advice)
        } else {
            check_range(&target.mm().space.mappings()?, range.base, range.len)
        };
        match step {
            Ok(()) => done = done.saturating_add(range.len),
            Err(_) if done > 0 => break,
            Err(stop) => return Err(stop),
        }
    }
    Ok(done)
}

fn check_range(mappings: &[crate::platform::Mapping], addr: u64, len: u64) -> SysResult<()> {
    if !is_page_aligned(addr) {
        return fail!(EINVAL);
    }
    match page_align(len).and_then(|len| user_end(addr, len)) {
        Some(end) if covers(mappings, addr, end) => Ok(()),
        _ => fail!(ENOMEM),
    }
}

/// msync(2).
pub fn msync(cx: &mut SyscallCx<'_>, addr: u64, length: u64, flags: i32) -> SysResult<()> {
    let known = libc::MS_ASYNC | libc::MS_INVALIDATE | libc::MS_SYNC;
    let both = libc::MS_ASYNC | libc::MS_SYNC;
    if flags & !known != 0 || !is_page_aligned(addr) || flags & both == both {
        return fail!(EINVAL);
    }
    let Some((len, _)) = page_align(length).and_then(|len| Some((len, user_end(addr, len)?))) else {
        return fail!(ENOMEM);
    };
    if len == 0 {
        return Ok(());
    }
    cx.thread.memory(&[MemOp::Sync {
        addr,
        len,
        flags: flags.cast_unsigned(),
    }])?;
    Ok(())
}

/// mincore(2).
pub fn mincore(cx: &mut SyscallCx<'_>, addr: u64, length: u64, vec: u64) -> SysResult<()> {
    if !is_page_aligned(addr) {
        return fail!(EINVAL);
    }
    let Some((len, _)) = page_align(length).and_then(|len| Some((len, user_end(addr, len)?))) else {
        return fail!(ENOMEM);
    };
    if user_end(vec, len / crate::platform::PAGE_SIZE).is_none() {
        return fail!(EFAULT);
    }
    if len == 0 {
        return Ok(());
    }
    cx.thread.memory(&[MemOp::Mincore { addr, len, vec }])?;
    Ok(())
}

/// process_mrelease(2): memory of a dying process goes at once anyway.
pub fn process_mrelease(cx: &mut SyscallCx<'_>, pidfd: Fd, flags: u32) -> SysResult<()> {
    if flags != 0 {
        return fail!(EINVAL);
    }
    let group = pidfd::group_of(cx, pidfd)?;
    let state = group.state.lock();
    if state.threads.is_empty() {
        return fail!(ESRCH);
    }
    if state.exiting.is_none() {
        return fail!(EINVAL);
    }
    Ok(())
}
