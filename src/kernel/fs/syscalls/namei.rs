//! Names: mkdir(2), mknod(2), symlink(2), link(2), unlink(2), rename(2).

use super::{parent_at, read_path, start_of};
use crate::kernel::fs::access::{self, Access};
use crate::kernel::fs::walk::{Last, Parent, WalkCx, WalkFlags};
use crate::kernel::fs::{Dentry, Fd, FileType, NameChange, Path, create};
use crate::kernel::mm::forget_unmapped;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::UserCString;
use std::sync::Arc;

/// mkdir(2).
pub(super) fn mkdir(cx: &mut SyscallCx<'_>, path: UserCString, mode: u32) -> SysResult<()> {
    mkdirat(cx, Fd::CWD, path, mode)
}

/// mkdirat(2).
pub(super) fn mkdirat(cx: &mut SyscallCx<'_>, dirfd: Fd, path: UserCString, mode: u32) -> SysResult<()> {
    let parent = parent_at(cx, dirfd, path)?;
    let name = free_name(cx, &parent, true)?;
    create::node(cx.task, &parent.dir, name, libc::S_IFDIR | mode & 0o1777, 0)?;
    Ok(())
}

/// mknod(2).
pub(super) fn mknod(cx: &mut SyscallCx<'_>, path: UserCString, mode: u32, dev: u32) -> SysResult<()> {
    mknodat(cx, Fd::CWD, path, mode, dev)
}

/// mknodat(2).
pub(super) fn mknodat(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    mode: u32,
    dev: u32,
) -> SysResult<()> {
    let kind = match mode & libc::S_IFMT {
        0 => FileType::Regular,
        libc::S_IFDIR => return fail!(EPERM),
        _ => FileType::from_mode(mode).ok_or(Errno::EINVAL)?,
    };
    if kind == FileType::Symlink {
        return fail!(EINVAL);
    }
    let parent = parent_at(cx, dirfd, path)?;
    let name = free_name(cx, &parent, false)?;
    let creds = cx.task.creds();
    access::may_create(&creds, &parent.dir)?;
    let device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
    // A whiteout is a device that nobody can open.
    let whiteout = kind == FileType::CharDevice && dev == 0;
    if device && !whiteout && !creds.capable(Capability::Mknod) {
        return fail!(EPERM);
    }
    let rdev = if device { u64::from(dev) } else { 0 };
    create::node(cx.task, &parent.dir, name, kind.mode() | mode & 0o7777, rdev)?;
    Ok(())
}

/// symlink(2).
pub(super) fn symlink(cx: &mut SyscallCx<'_>, target: UserCString, path: UserCString) -> SysResult<()> {
    symlinkat(cx, target, Fd::CWD, path)
}

/// symlinkat(2).
pub(super) fn symlinkat(
    cx: &mut SyscallCx<'_>,
    target: UserCString,
    dirfd: Fd,
    path: UserCString,
) -> SysResult<()> {
    let target = read_path(cx, target, WalkFlags::empty())?;
    let parent = parent_at(cx, dirfd, path)?;
    let name = free_name(cx, &parent, false)?;
    access::may_create(&cx.task.creds(), &parent.dir)?;
    let mut args = create::args(cx.task, &parent.dir, libc::S_IFLNK, 0)?;
    args.mode = libc::S_IFLNK | 0o777;
    let mut change = NameChange::of(&parent.dir.dentry);
    change.begin();
    let inode = parent.dir.inode().symlink(name, &target, &args)?;
    cx.kernel.vfs.added(&parent.dir.dentry, name, inode);
    Ok(())
}

/// The name that a call is going to make: EEXIST when it is taken or is no name, ENOENT when slashes follow a name that
/// will be no directory, EROFS.
fn free_name<'p>(cx: &SyscallCx<'_>, parent: &'p Parent, directory: bool) -> Result<&'p [u8], Errno> {
    let name = parent.name(Errno::EEXIST)?;
    match cx.kernel.vfs.child(&parent.dir.dentry, name) {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno),
    }
    if parent.trailing_slash && !directory {
        return Err(Errno::ENOENT);
    }
    if parent.dir.mount.read_only() {
        return Err(Errno::EROFS);
    }
    Ok(name)
}

/// link(2).
pub(super) fn link(cx: &mut SyscallCx<'_>, old: UserCString, new: UserCString) -> SysResult<()> {
    linkat(cx, Fd::CWD, old, Fd::CWD, new, 0)
}

/// linkat(2).
pub(super) fn linkat(
    cx: &mut SyscallCx<'_>,
    old_dirfd: Fd,
    old: UserCString,
    new_dirfd: Fd,
    new: UserCString,
    flags: i32,
) -> SysResult<()> {
    if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return fail!(EINVAL);
    }
    let creds = cx.task.creds();
    let mut walk = WalkFlags::empty();
    walk.set(WalkFlags::FOLLOW, flags & libc::AT_SYMLINK_FOLLOW != 0);
    walk.set(WalkFlags::EMPTY_PATH, flags & libc::AT_EMPTY_PATH != 0);
    let old = read_path(cx, old, walk)?;
    if old.is_empty() && !creds.capable(Capability::DacReadSearch) {
        let file = cx.task.files().get_any(old_dirfd)?;
        if !file.was_opened_by(&creds) {
            return fail!(ENOENT);
        }
    }
    let start = start_of(cx, old_dirfd, &old)?;
    let source = WalkCx::of(cx.task).lookup(start.as_ref(), &old, walk)?;
    let parent = parent_at(cx, new_dirfd, new)?;
    let name = free_name(cx, &parent, false)?;
    if !Arc::ptr_eq(&source.mount, &parent.dir.mount) {
        return fail!(EXDEV);
    }
    let meta = source.inode().metadata()?;
    if meta.nlink == 0 && !source.dentry.is_linkable() {
        return fail!(ENOENT);
    }
    access::may_hard_link(&creds, &meta)?;
    access::may_create(&creds, &parent.dir)?;
    if meta.file_type() == FileType::Directory {
        return fail!(EPERM);
    }
    let mut change = NameChange::of(&parent.dir.dentry);
    change.begin();
    parent.dir.inode().link(name, source.inode())?;
    cx.kernel
        .vfs
        .added(&parent.dir.dentry, name, source.inode().clone());
    Ok(())
}

/// unlink(2).
pub(super) fn unlink(cx: &mut SyscallCx<'_>, path: UserCString) -> SysResult<()> {
    unlinkat(cx, Fd::CWD, path, 0)
}

/// rmdir(2).
pub(super) fn rmdir(cx: &mut SyscallCx<'_>, path: UserCString) -> SysResult<()> {
    unlinkat(cx, Fd::CWD, path, libc::AT_REMOVEDIR)
}

/// unlinkat(2).
pub(super) fn unlinkat(cx: &mut SyscallCx<'_>, dirfd: Fd, path: UserCString, flags: i32) -> SysResult<()> {
    if flags & !libc::AT_REMOVEDIR != 0 {
        return fail!(EINVAL);
    }
    let directory = flags & libc::AT_REMOVEDIR != 0;
    let parent = parent_at(cx, dirfd, path)?;
    if directory {
        match parent.last {
            Last::DotDot => return fail!(ENOTEMPTY),
            Last::Dot => return fail!(EINVAL),
            Last::Root => return fail!(EBUSY),
            Last::Name(_) => {}
        }
    }
    let name = parent.name(Errno::EISDIR)?;
    if parent.dir.mount.read_only() {
        return fail!(EROFS);
    }
    let mut change = NameChange::of(&parent.dir.dentry);
    let victim = cx.kernel.vfs.child(&parent.dir.dentry, name)?;
    if parent.trailing_slash && !directory {
        return if is_dir(&victim) {
            fail!(EISDIR)
        } else {
            fail!(ENOTDIR)
        };
    }
    may_remove(cx, &parent.dir, &victim, directory)?;
    if victim.is_mount_point() {
        return fail!(EBUSY);
    }
    change.begin();
    parent.dir.inode().unlink(name, directory)?;
    let_go(cx, &victim);
    cx.kernel.vfs.removed(&parent.dir.dentry, name, victim);
    Ok(())
}

/// A name goes. Those who watch the file are to hear when it goes too, so it is not to be held by having been mapped.
fn let_go(cx: &SyscallCx<'_>, dentry: &Arc<Dentry>) {
    if cx.kernel.vfs.watches.has(&dentry.inode) {
        forget_unmapped(cx.kernel, &|mapped| Arc::ptr_eq(&mapped.dentry, dentry));
    }
}

fn is_dir(dentry: &Dentry) -> bool {
    dentry.inode.file_type() == FileType::Directory
}

/// Whether the task may take this name out of a directory, by unlink(2) or rmdir(2)'s rules.
fn may_remove(cx: &SyscallCx<'_>, dir: &Path, victim: &Arc<Dentry>, directory: bool) -> Result<(), Errno> {
    access::may_remove(&cx.task.creds(), dir, &victim.inode.metadata()?)?;
    match (directory, is_dir(victim)) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

/// rename(2).
pub(super) fn rename(cx: &mut SyscallCx<'_>, old: UserCString, new: UserCString) -> SysResult<()> {
    renameat2(cx, Fd::CWD, old, Fd::CWD, new, 0)
}

/// renameat(2).
pub(super) fn renameat(
    cx: &mut SyscallCx<'_>,
    old_dirfd: Fd,
    old: UserCString,
    new_dirfd: Fd,
    new: UserCString,
) -> SysResult<()> {
    renameat2(cx, old_dirfd, old, new_dirfd, new, 0)
}

/// renameat2(2).
pub(super) fn renameat2(
    cx: &mut SyscallCx<'_>,
    old_dirfd: Fd,
    old: UserCString,
    new_dirfd: Fd,
    new: UserCString,
    flags: u32,
) -> SysResult<()> {
    const ALL: u32 = libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT;
    let exchange = flags & libc::RENAME_EXCHANGE != 0;
    if flags & !ALL != 0 || exchange && flags & !libc::RENAME_EXCHANGE != 0 {
        return fail!(EINVAL);
    }
    if flags & libc::RENAME_WHITEOUT != 0 && !cx.task.creds().capable(Capability::Mknod) {
        return fail!(EPERM);
    }
    let from = parent_at(cx, old_dirfd, old)?;
    let to = parent_at(cx, new_dirfd, new)?;
    if !Arc::ptr_eq(&from.dir.mount, &to.dir.mount) {
        return fail!(EXDEV);
    }
    let name = from.name(Errno::EBUSY)?;
    let taken = if flags & libc::RENAME_NOREPLACE != 0 {
        Errno::EEXIST
    } else {
        Errno::EBUSY
    };
    let new_name = to.name(taken)?;
    if from.dir.mount.read_only() {
        return fail!(EROFS);
    }
    let mut change = NameChange::of_two(&from.dir.dentry, &to.dir.dentry);
    let moving = cx.kernel.vfs.child(&from.dir.dentry, name)?;
    let replaced = match cx.kernel.vfs.child(&to.dir.dentry, new_name) {
        Ok(_) if flags & libc::RENAME_NOREPLACE != 0 => return fail!(EEXIST),
        Ok(dentry) => Some(dentry),
        Err(Errno::ENOENT) if !exchange => None,
        Err(errno) => return Err(errno.into()),
    };
    check_slashes(&from, &to, &moving, replaced.as_ref().filter(|_| exchange))?;
    check_ancestors(&from, &to, &moving, replaced.as_ref(), exchange)?;
    if replaced.as_ref().is_some_and(|r| same_inode(r, &moving)) {
        return Ok(());
    }
    may_rename(cx, &from.dir, &to.dir, &moving, replaced.as_ref(), exchange)?;
    if moving.is_mount_point() || replaced.as_ref().is_some_and(|r| r.is_mount_point()) {
        return fail!(EBUSY);
    }
    change.begin();
    from.dir.inode().rename(name, to.dir.inode(), new_name, flags)?;
    if let Some(replaced) = replaced.as_ref().filter(|_| !exchange) {
        let_go(cx, replaced);
    }
    let (from, to) = ((&from.dir.dentry, name), (&to.dir.dentry, new_name));
    cx.kernel
        .vfs
        .moved(from, to, &moving, replaced.as_ref(), exchange);
    Ok(())
}

/// Two names of one inode: rename(2) then does nothing.
fn same_inode(a: &Dentry, b: &Dentry) -> bool {
    if Arc::ptr_eq(&a.inode, &b.inode) {
        return true;
    }
    match (a.inode.metadata(), b.inode.metadata()) {
        (Ok(a), Ok(b)) => (a.dev, a.ino) == (b.dev, b.ino),
        _ => false,
    }
}

/// ENOTDIR when slashes follow a name of what is no directory.
fn check_slashes(
    from: &Parent,
    to: &Parent,
    moving: &Dentry,
    exchanged: Option<&Arc<Dentry>>,
) -> Result<(), Errno> {
    if let Some(other) = exchanged
        && !is_dir(other)
        && to.trailing_slash
    {
        return Err(Errno::ENOTDIR);
    }
    let slashes = from.trailing_slash || exchanged.is_none() && to.trailing_slash;
    if !is_dir(moving) && slashes {
        return Err(Errno::ENOTDIR);
    }
    Ok(())
}

/// EINVAL for moving a directory into itself, ENOTEMPTY for moving something onto a directory that it is in.
fn check_ancestors(
    from: &Parent,
    to: &Parent,
    moving: &Arc<Dentry>,
    replaced: Option<&Arc<Dentry>>,
    exchange: bool,
) -> Result<(), Errno> {
    if to.dir.dentry.is_within(moving) {
        return Err(Errno::EINVAL);
    }
    if replaced.is_some_and(|r| from.dir.dentry.is_within(r)) {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    Ok(())
}

/// Permission for a rename, for both names.
fn may_rename(
    cx: &SyscallCx<'_>,
    from: &Path,
    to: &Path,
    moving: &Arc<Dentry>,
    replaced: Option<&Arc<Dentry>>,
    exchange: bool,
) -> Result<(), Errno> {
    let creds = cx.task.creds();
    access::may_remove(&creds, from, &moving.inode.metadata()?)?;
    match replaced {
        None => access::may_create(&creds, to)?,
        Some(victim) if exchange => access::may_remove(&creds, to, &victim.inode.metadata()?)?,
        Some(victim) => may_remove(cx, to, victim, is_dir(moving))?,
    }
    if Arc::ptr_eq(&from.dentry, &to.dentry) {
        return Ok(());
    }
    // A directory that moves elsewhere has its `..` changed.
    let changes = [Some(moving), replaced.filter(|_| exchange)];
    for dentry in changes.into_iter().flatten().filter(|d| is_dir(d)) {
        access::may(&creds, &dentry.inode.metadata()?, Access::WRITE)?;
    }
    Ok(())
}
