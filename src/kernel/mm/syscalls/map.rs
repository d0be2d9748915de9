//! mmap(2), munmap(2), mprotect(2), mremap(2), brk(2).

use std::sync::Arc;

use crate::kernel::fs::{Fd, File, MapRequest};
use crate::kernel::mm::limits::Limits;
use crate::kernel::mm::{Mm, MmState, is_noexec, is_page_aligned, memfd, page_align, user_end};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::platform::{HOST_END, HostFile, MapFlags, MemOp, PAGE_SIZE, Prot, USER_END, USER_START};

const MAP_TYPE: u32 = 0xf;
const MAP_SHARED_VALIDATE: u32 = 3;
const MAP_DROPPABLE: u32 = 8;
const MAP_LOCKED: u32 = 0x2000;
const MAP_HUGETLB: u32 = 0x4_0000;
const MAP_HUGE_SHIFT: u32 = 26;
const PROT_GROWSUP: u64 = 0x0200_0000;

/// What Linux knows for MAP_SHARED_VALIDATE on a file without synchronous faults (MAP_SYNC is not among them).
const KNOWN_FLAGS: u32 = MAP_TYPE
    | MapFlags::FIXED.bits()
    | MapFlags::ANONYMOUS.bits()
    | MapFlags::LOW32.bits()
    | MapFlags::GROWSDOWN.bits()
    | 0x0800 // MAP_DENYWRITE
    | 0x1000 // MAP_EXECUTABLE
    | MAP_LOCKED
    | MapFlags::NORESERVE.bits()
    | MapFlags::POPULATE.bits()
    | 0x1_0000 // MAP_NONBLOCK
    | 0x2_0000 // MAP_STACK
    | MAP_HUGETLB
    | 0x3f << MAP_HUGE_SHIFT;

/// mmap(2).
pub fn mmap(
    cx: &mut SyscallCx<'_>,
    addr: u64,
    length: u64,
    prot: u32,
    flags: u32,
    fd: Fd,
    offset: u64,
) -> SysResult<u64> {
    if !is_page_aligned(offset) {
        return fail!(EINVAL);
    }
    let file = if flags & MapFlags::ANONYMOUS.bits() == 0 {
        let file = cx.task.files().get(fd)?;
        if flags & MAP_HUGETLB != 0 {
            return fail!(EINVAL);
        }
        Some(file)
    } else {
        check_huge_pages(flags)?;
        None
    };
    let prot = Prot::from_bits_truncate(prot & 7);
    let len = match page_align(length) {
        _ if length == 0 => return fail!(EINVAL),
        Some(len) if len <= USER_END => len,
        _ => return fail!(ENOMEM),
    };
    let map_flags = placement(addr, len, flags)?;
    let addr = hint(addr, len, map_flags);
    let mm = cx.task.mm();
    let limits = Limits::of(cx.task);
    let locks = check_lock(&mm, &limits, flags, len)?;
    let sealed = file.as_deref().is_some_and(memfd::forbids_writing);
    let (host_file, kind) = match &file {
        Some(file) => map_file(file, prot, flags, offset, len)?,
        None => (None, anonymous_kind(flags)?),
    };
    let data = kind.contains(MapFlags::PRIVATE) && prot.contains(Prot::WRITE);
    limits.check(&*mm.space, len, data)?;

    let op = MemOp::Map {
        addr,
        len,
        prot,
        flags: map_flags | kind,
        file: host_file.as_ref().map(|f| (f, offset)),
    };
    let at = cx.thread.memory(&[op])?;
    if kind == MapFlags::SHARED && !sealed && file.as_deref().is_some_and(memfd::forbids_writing) {
        // Sealed meanwhile: the mapping could be made writable.
        cx.thread.memory(&[MemOp::Unmap { addr: at, len }])?;
        return fail!(EPERM);
    }
    let path = file
        .as_ref()
        .map(|f| f.path.clone().unwrap_or_else(|| cx.kernel.vfs.anon.path_of(f)));
    let mut state = mm.state.lock();
    state.forget(at, at.saturating_add(len));
    state.shares_memory |= kind.contains(MapFlags::SHARED);
    if let (Some(host_file), Some(path)) = (&host_file, path) {
        state.files.add(host_file, path, len);
        state.files.sweep(&*mm.space);
    }
    if let Some(flags) = locks {
        state.locked.insert(at, at.saturating_add(len));
        drop(state);
        // The host's own limit may be lower than the guest's; residence is a promise that we do not depend on.
        let _ = cx.thread.memory(&[MemOp::Lock {
            addr: at,
            len,
            flags: Some(flags),
        }]);
    }
    Ok(at)
}

/// A machine without huge pages: EINVAL for a size that x86 does not have, ENOMEM for those it has.
fn check_huge_pages(flags: u32) -> Result<(), Errno> {
    if flags & MAP_HUGETLB == 0 {
        return Ok(());
    }
    match flags >> MAP_HUGE_SHIFT {
        0 | 21 => Err(Errno::ENOMEM),
        _ => Err(Errno::EINVAL),
    }
}

/// The flags that say where, after Linux's checks of a fixed address.
fn placement(addr: u64, len: u64, flags: u32) -> Result<MapFlags, Errno> {
    let where_flags = MapFlags::from_bits_truncate(flags)
        & (MapFlags::FIXED
            | MapFlags::FIXED_NOREPLACE
            | MapFlags::LOW32
            | MapFlags::GROWSDOWN
            | MapFlags::NORESERVE
            | MapFlags::POPULATE);
    if where_flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) {
        if user_end(addr, len).is_none() {
            return Err(Errno::ENOMEM);
        }
        if !is_page_aligned(addr) {
            return Err(Errno::EINVAL);
        }
        if addr < USER_START {
            return Err(Errno::EPERM);
        }
    }
    Ok(where_flags)
}

/// The address to hand to the host: hints are made sound instead of refused.
fn hint(addr: u64, len: u64, flags: MapFlags) -> u64 {
    if flags.intersects(MapFlags::FIXED | MapFlags::FIXED_NOREPLACE) || addr == 0 {
        return addr;
    }
    let addr = (addr & !(PAGE_SIZE - 1)).max(USER_START);
    if user_end(addr, len).is_some() { addr } else { 0 }
}

/// Whether the mapping is to be locked, and by which flags of mlock2(2).
fn check_lock(mm: &Mm, limits: &Limits, flags: u32, len: u64) -> Result<Option<u32>, Errno> {
    let state = mm.state.lock();
    let wanted = flags & MAP_LOCKED != 0;
    if !wanted && state.lock_future.is_none() {
        return Ok(None);
    }
    if wanted && limits.locked == 0 {
        return Err(Errno::EPERM);
    }
    mm.watch_memory();
    if state.lock_room(limits) < len {
        return Err(Errno::EAGAIN);
    }
    Ok(Some(state.lock_future.unwrap_or(0)))
}

fn anonymous_kind(flags: u32) -> Result<MapFlags, Errno> {
    let growsdown = flags & MapFlags::GROWSDOWN.bits() != 0;
    match flags & MAP_TYPE {
        1 if !growsdown => Ok(MapFlags::SHARED | MapFlags::ANONYMOUS),
        2 => Ok(MapFlags::PRIVATE | MapFlags::ANONYMOUS),
        MAP_DROPPABLE => Err(Errno::EOPNOTSUPP),
        _ => Err(Errno::EINVAL),
    }
}

/// Check the right to map a file and get what the host is to map.
fn map_file(
    file: &Arc<File>,
    prot: Prot,
    flags: u32,
    offset: u64,
    len: u64,
) -> SysResult<(Option<Arc<HostFile>>, MapFlags)> {
    let open = file.flags();
    let kind = match flags & MAP_TYPE {
        1 => MapFlags::SHARED,
        2 => MapFlags::PRIVATE,
        MAP_SHARED_VALIDATE => {
            if flags & !(KNOWN_FLAGS | MapFlags::FIXED_NOREPLACE.bits()) != 0 {
                return fail!(EOPNOTSUPP);
            }
            MapFlags::SHARED
        }
        _ => return fail!(EINVAL),
    };
    let shared = kind == MapFlags::SHARED;
    if shared && prot.contains(Prot::WRITE) && !open.writable() {
        return fail!(EACCES);
    }
    if !open.readable() {
        return fail!(EACCES);
    }
    if prot.contains(Prot::EXEC) && file.path.as_ref().is_some_and(is_noexec) {
        return fail!(EPERM);
    }
    if shared && prot.contains(Prot::WRITE) && memfd::forbids_writing(file) {
        return fail!(EPERM);
    }
    let host_file = file.ops.map(
        file,
        &MapRequest {
            offset,
            len,
            shared,
            write: shared && open.writable(),
        },
    )?;
    if flags & MapFlags::GROWSDOWN.bits() != 0 {
        return fail!(EINVAL);
    }
    Ok((Some(host_file), kind))
}

/// munmap(2).
pub fn munmap(cx: &mut SyscallCx<'_>, addr: u64, length: u64) -> SysResult<()> {
    let Some(len) = page_align(length).filter(|&l| l > 0 && is_page_aligned(addr)) else {
        return fail!(EINVAL);
    };
    // What Linux has above is the platform's here: a range may include it, and nothing happens to that.
    if addr.checked_add(len).is_none_or(|end| end > HOST_END) {
        return fail!(EINVAL);
    }
    let len = len.min(USER_END.saturating_sub(addr));
    if len > 0 {
        cx.thread.memory(&[MemOp::Unmap { addr, len }])?;
        cx.task.mm().state.lock().forget(addr, addr + len);
    }
    Ok(())
}

/// mprotect(2).
pub fn mprotect(cx: &mut SyscallCx<'_>, addr: u64, len: u64, prot: u64) -> SysResult<()> {
    let growsdown = u64::from(Prot::GROWSDOWN.bits());
    if prot & growsdown != 0 && prot & PROT_GROWSUP != 0 {
        return fail!(EINVAL);
    }
    if !is_page_aligned(addr) {
        return fail!(EINVAL);
    }
    if len == 0 {
        return Ok(());
    }
    let Some((len, end)) = page_align(len).and_then(|len| Some((len, user_end(addr, len)?))) else {
        return fail!(ENOMEM);
    };
    // PROT_SEM (8) is accepted and means nothing.
    if prot & !(growsdown | PROT_GROWSUP | 0xf) != 0 {
        return fail!(EINVAL);
    }
    if prot & PROT_GROWSUP != 0 {
        return fail!(EINVAL);
    }
    #[allow(clippy::cast_possible_truncation)]
    let prot = Prot::from_bits_truncate(prot as u32);
    if prot.contains(Prot::EXEC) {
        check_exec(&cx.task.mm(), addr, end)?;
    }
    cx.thread.memory(&[MemOp::Protect { addr, len, prot }])?;
    Ok(())
}

/// EACCES when part of a range maps a file of a noexec mount.
fn check_exec(mm: &Mm, start: u64, end: u64) -> Result<(), Errno> {
    let has_any = |state: &MmState| state.files.paths().any(is_noexec);
    if !has_any(&mm.state.lock()) {
        return Ok(());
    }
    let mappings = mm.space.mappings()?;
    let state = mm.state.lock();
    if mappings
        .iter()
        .any(|m| m.start < end && m.end > start && state.is_noexec(m))
    {
        Err(Errno::EACCES)
    } else {
        Ok(())
    }
}

/// mremap(2).
pub fn mremap(
    cx: &mut SyscallCx<'_>,
    old: u64,
    old_len: u64,
    new_len: u64,
    flags: u64,
    new: u64,
) -> SysResult<u64> {
    let flags = match u32::try_from(flags) {
        Ok(flags) if flags & !7 == 0 => flags.cast_signed(),
        _ => return fail!(EINVAL),
    };
    let fixed = flags & libc::MREMAP_FIXED != 0;
    let keep = flags & libc::MREMAP_DONTUNMAP != 0;
    let may_move = flags & libc::MREMAP_MAYMOVE != 0;
    if (fixed || keep) && !may_move || keep && old_len != new_len || !is_page_aligned(old) {
        return fail!(EINVAL);
    }
    let (Some(old_len), Some(new_len)) = (page_align(old_len), page_align(new_len)) else {
        return fail!(EINVAL);
    };
    if new_len == 0 {
        return fail!(EINVAL);
    }
    if user_end(old, old_len).is_none() {
        return fail!(EFAULT);
    }
    if fixed || keep {
        if !is_page_aligned(new) || user_end(new, new_len).is_none() {
            return fail!(EINVAL);
        }
        if fixed && new < USER_START {
            return fail!(EPERM);
        }
    } else if new_len > USER_END {
        return fail!(ENOMEM);
    }
    let mm = cx.task.mm();
    if new_len > old_len || keep {
        let bytes = if keep { new_len } else { new_len - old_len };
        check_remap_growth(&Limits::of(cx.task), &mm, old, bytes)?;
    }
    let at = cx.thread.memory(&[MemOp::Remap {
        old,
        old_len,
        new_len,
        flags: flags.cast_unsigned(),
        new,
    }])?;
    let mut state = mm.state.lock();
    if !state.locked.is_empty() {
        let was_locked = state.locked.overlap(old, old.saturating_add(old_len)) > 0;
        state.forget(old, old.saturating_add(old_len));
        state.forget(at, at.saturating_add(new_len));
        if was_locked {
            state.locked.insert(at, at.saturating_add(new_len));
        }
    }
    Ok(at)
}

/// The limits for a mapping that grows: whether it is data is asked of the host only when there is a limit on data.
fn check_remap_growth(limits: &Limits, mm: &Mm, at: u64, bytes: u64) -> Result<(), Errno> {
    let data = limits.data != u64::MAX
        && mm
            .space
            .mappings()?
            .iter()
            .any(|m| (m.start..m.end).contains(&at) && !m.shared && m.prot.contains(Prot::WRITE));
    limits.check(&*mm.space, bytes, data)
}

/// brk(2): the new break, or the present one when it cannot be that.
///
/// The heap is an anonymous mapping of ours; the host's own break is never used.
pub fn brk(cx: &mut SyscallCx<'_>, addr: u64) -> SysResult<u64> {
    let mm = cx.task.mm();
    let limits = Limits::of(cx.task);
    // Two threads that move the break must not mix.
    let _moving = mm.moving_break.lock();
    let (start, present, lock_future, lock_room) = {
        let state = mm.state.lock();
        let room = state.lock_room(&limits);
        (state.brk_start, state.brk, state.lock_future.is_some(), room)
    };
    let (Some(old_end), Some(new_end)) = (page_align(present), page_align(addr)) else {
        return Ok(present);
    };
    if addr < start || new_end > USER_END {
        return Ok(present);
    }
    let op = if new_end < old_end {
        Some(MemOp::Unmap {
            addr: new_end,
            len: old_end - new_end,
        })
    } else if new_end > old_end {
        let bytes = new_end - old_end;
        let over_data = addr - start > limits.data;
        let over_locked = lock_future && lock_room < bytes;
        if over_data || over_locked || limits.check(&*mm.space, bytes, true).is_err() {
            return Ok(present);
        }
        Some(MemOp::Map {
            addr: old_end,
            len: bytes,
            prot: Prot::READ | Prot::WRITE,
            flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED_NOREPLACE,
            file: None,
        })
    } else {
        None
    };
    if let Some(op) = op
        && cx.thread.memory(&[op]).is_err()
    {
        return Ok(present);
    }
    let mut state = mm.state.lock();
    if new_end < old_end {
        state.forget(new_end, old_end);
    } else if lock_future && new_end > old_end {
        state.locked.insert(old_end, new_end);
    }
    state.brk = addr;
    Ok(addr)
}

/// pkey_mprotect(2): without protection keys only key -1 (none) exists.
pub fn pkey_mprotect(cx: &mut SyscallCx<'_>, addr: u64, len: u64, prot: u64, pkey: i32) -> SysResult<()> {
    if pkey != -1 {
        return fail!(EINVAL);
    }
    mprotect(cx, addr, len, prot)
}

/// pkey_alloc(2): as on a processor without protection keys, all are taken.
pub fn pkey_alloc(_: &mut SyscallCx<'_>, flags: u64, access_rights: u64) -> SysResult<i32> {
    if flags != 0 || access_rights & !3 != 0 {
        return fail!(EINVAL);
    }
    fail!(ENOSPC)
}

/// pkey_free(2): no key was ever given out.
pub fn pkey_free(_: &mut SyscallCx<'_>, _pkey: i32) -> SysResult<()> {
    fail!(EINVAL)
}
