//! stat(2), statx(2), statfs(2), access(2), readlink(2).

use super::{at_flags, lookup_at, path_of};
use crate::kernel::abi::fs::{Stat, Statfs, Statx};
use crate::kernel::fs::access::{self, Access};
use crate::kernel::fs::walk::{WalkCx, WalkFlags};
use crate::kernel::fs::{Fd, FileType, Link, Metadata, MountFlags, Path};
use crate::kernel::mm::forget_unlinked;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Creds;
use crate::kernel::user_memory::{UserAddr, UserCString, UserRef};

/// stat(2).
pub(super) fn stat(cx: &mut SyscallCx<'_>, path: UserCString, buf: UserRef<Stat>) -> SysResult<()> {
    let path = lookup_at(cx, Fd::CWD, path, WalkFlags::FOLLOW)?;
    put_stat(cx, &path.inode().metadata()?, buf)
}

/// lstat(2).
pub(super) fn lstat(cx: &mut SyscallCx<'_>, path: UserCString, buf: UserRef<Stat>) -> SysResult<()> {
    let path = lookup_at(cx, Fd::CWD, path, WalkFlags::empty())?;
    put_stat(cx, &path.inode().metadata()?, buf)
}

/// fstat(2).
pub(super) fn fstat(cx: &mut SyscallCx<'_>, fd: Fd, buf: UserRef<Stat>) -> SysResult<()> {
    let file = cx.task.files().get_any(fd)?;
    put_stat(cx, &file.inode.metadata()?, buf)
}

/// fstatat(2).
pub(super) fn newfstatat(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    buf: UserRef<Stat>,
    flags: i32,
) -> SysResult<()> {
    let known = libc::AT_SYMLINK_NOFOLLOW
        | libc::AT_NO_AUTOMOUNT
        | libc::AT_EMPTY_PATH
        | libc::AT_STATX_FORCE_SYNC
        | libc::AT_STATX_DONT_SYNC;
    let walk = at_flags(flags, known)?;
    let path = lookup_at(cx, dirfd, path, walk)?;
    put_stat(cx, &path.inode().metadata()?, buf)
}

fn put_stat(cx: &SyscallCx<'_>, meta: &Metadata, buf: UserRef<Stat>) -> SysResult<()> {
    Ok(cx.memory.write(buf, &Stat::from(meta))?)
}

/// statx(2).
pub(super) fn statx(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    flags: i32,
    mask: u32,
    buf: UserRef<Statx>,
) -> SysResult<()> {
    const RESERVED: u32 = 0x8000_0000;
    const MNT_ID: u32 = 0x1000;
    const ATTR_MOUNT_ROOT: u64 = 0x2000;
    let sync = libc::AT_STATX_FORCE_SYNC | libc::AT_STATX_DONT_SYNC;
    let known = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH | sync;
    if mask & RESERVED != 0 || flags & sync == sync {
        return fail!(EINVAL);
    }
    let walk = at_flags(flags, known)?;
    let path = lookup_at(cx, dirfd, path, walk)?;
    let mut statx = Statx::from(&path.inode().metadata()?);
    statx.mask |= MNT_ID;
    statx.mnt_id = u64::from(path.mount.id);
    statx.attributes_mask = ATTR_MOUNT_ROOT;
    if path.is_mount_root() {
        statx.attributes = ATTR_MOUNT_ROOT;
    }
    Ok(cx.memory.write(buf, &statx)?)
}

/// statfs(2).
pub(super) fn statfs(cx: &mut SyscallCx<'_>, path: UserCString, buf: UserRef<Statfs>) -> SysResult<()> {
    let path = lookup_at(cx, Fd::CWD, path, WalkFlags::FOLLOW)?;
    put_statfs(cx, &path, buf)
}

/// fstatfs(2).
pub(super) fn fstatfs(cx: &mut SyscallCx<'_>, fd: Fd, buf: UserRef<Statfs>) -> SysResult<()> {
    let file = cx.task.files().get_any(fd)?;
    put_statfs(cx, &path_of(cx, &file), buf)
}

fn put_statfs(cx: &SyscallCx<'_>, path: &Path, buf: UserRef<Statfs>) -> SysResult<()> {
    const ST_VALID: u64 = 0x20;
    const ST_RELATIME: u64 = 0x1000;
    forget_unlinked(cx.kernel);
    let fs = path.inode().fs();
    let mut statfs = Statfs::from(&fs.statfs()?);
    let dev = fs.dev();
    statfs.fsid = [
        u32::try_from(dev & u64::from(u32::MAX)).unwrap_or_default(),
        u32::try_from(dev >> 32).unwrap_or_default(),
    ];
    let flags = path.mount.flags();
    // ST_RDONLY to ST_NODIRATIME have the values of MS_*, ST_RELATIME has not.
    statfs.flags = ST_VALID | u64::from((flags - MountFlags::RELATIME).bits());
    if flags.contains(MountFlags::RELATIME) {
        statfs.flags |= ST_RELATIME;
    }
    Ok(cx.memory.write(buf, &statfs)?)
}

/// access(2).
pub(super) fn access(cx: &mut SyscallCx<'_>, path: UserCString, mode: u32) -> SysResult<()> {
    faccessat2(cx, Fd::CWD, path, mode, 0)
}

/// faccessat(2) as the kernel has it: without flags.
pub(super) fn faccessat(cx: &mut SyscallCx<'_>, dirfd: Fd, path: UserCString, mode: u32) -> SysResult<()> {
    faccessat2(cx, dirfd, path, mode, 0)
}

/// faccessat2(2).
pub(super) fn faccessat2(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    mode: u32,
    flags: i32,
) -> SysResult<()> {
    let Some(want) = Access::from_bits(mode) else {
        return fail!(EINVAL);
    };
    let walk = at_flags(
        flags,
        libc::AT_EACCESS | libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH,
    )?;
    let creds = cx.task.creds();
    let mut walker = WalkCx::of(cx.task);
    if flags & libc::AT_EACCESS == 0 {
        walker.creds = std::sync::Arc::new(real(&creds));
    }
    let path = super::read_path(cx, path, walk)?;
    let start = super::start_of(cx, dirfd, &path)?;
    let found = walker.lookup(start.as_ref(), &path, walk)?;
    let kind = found.inode().file_type();
    let noexec = want.contains(Access::EXEC)
        && kind == FileType::Regular
        && found.mount.flags().contains(MountFlags::NOEXEC);
    if noexec {
        return fail!(EACCES);
    }
    if !want.is_empty() {
        access::may(&walker.creds, &found.inode().metadata()?, want)?;
    }
    let device = matches!(
        kind,
        FileType::CharDevice | FileType::BlockDevice | FileType::Fifo | FileType::Socket
    );
    if want.contains(Access::WRITE) && !device && found.mount.read_only() {
        return fail!(EROFS);
    }
    Ok(())
}

/// What access(2) asks about: the real ids, with the capabilities that a program with those would have.
fn real(creds: &Creds) -> Creds {
    let mut real = creds.clone();
    real.fsuid = creds.uid;
    real.fsgid = creds.gid;
    real.effective = if creds.uid == 0 { creds.permitted } else { 0 };
    real
}

/// readlink(2).
pub(super) fn readlink(
    cx: &mut SyscallCx<'_>,
    path: UserCString,
    buf: UserAddr,
    size: i32,
) -> SysResult<usize> {
    readlinkat(cx, Fd::CWD, path, buf, size)
}

/// readlinkat(2).
pub(super) fn readlinkat(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    buf: UserAddr,
    size: i32,
) -> SysResult<usize> {
    let size = usize::try_from(size)
        .ok()
        .filter(|&size| size > 0)
        .ok_or(Errno::EINVAL)?;
    let text = super::read_path(cx, path, WalkFlags::EMPTY_PATH)?;
    let start = super::start_of(cx, dirfd, &text)?;
    if text.is_empty() && start.is_none() {
        return fail!(ENOENT);
    }
    let found = WalkCx::of(cx.task).lookup(start.as_ref(), &text, WalkFlags::EMPTY_PATH)?;
    if found.inode().file_type() != FileType::Symlink {
        // An empty path names the descriptor itself, which is then no link to be found.
        return if text.is_empty() {
            fail!(ENOENT)
        } else {
            fail!(EINVAL)
        };
    }
    let target = match found.inode().read_link(Some(cx.task))? {
        Link::Text(text) => text,
        Link::Jump(path) => path.text(&cx.task.places().root).shown(),
    };
    let len = target.len().min(size);
    cx.memory.write_bytes(buf, &target[..len])?;
    Ok(len)
}
