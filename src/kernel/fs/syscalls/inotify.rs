//! inotify_init(2), inotify_add_watch(2), inotify_rm_watch(2).

use std::sync::Arc;

use super::lookup_at;
use crate::kernel::fs::access::{self, Access};
use crate::kernel::fs::inotify::{Inotify, InotifyFile, Notice};
use crate::kernel::fs::walk::WalkFlags;
use crate::kernel::fs::{AnonKind, Fd, File, OpenFlags};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::UserCString;

/// inotify_init(2).
pub(super) fn inotify_init(cx: &mut SyscallCx<'_>) -> SysResult<i32> {
    inotify_init1(cx, 0)
}

/// inotify_init1(2).
pub(super) fn inotify_init1(cx: &mut SyscallCx<'_>, flags: u32) -> SysResult<i32> {
    let flags = OpenFlags::from_bits_retain(flags);
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return fail!(EINVAL);
    }
    let vfs = &cx.kernel.vfs;
    let ops = InotifyFile(Arc::new(Inotify::new(&vfs.watches, cx.task.creds().euid)?));
    let kind = AnonKind::Other("inotify");
    let keep = flags & OpenFlags::NONBLOCK;
    let file = vfs
        .anon
        .file(&cx.kernel.clock, &cx.task.creds(), kind, Arc::new(ops), keep);
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    let cloexec = flags.contains(OpenFlags::CLOEXEC);
    Ok(cx.task.files().insert(file, cloexec, 0, limit)?.0)
}

fn instance(file: &File) -> Result<&Arc<Inotify>, Errno> {
    file.ops_as::<InotifyFile>()
        .map(|file| &file.0)
        .ok_or(Errno::EINVAL)
}

/// inotify_add_watch(2).
pub(super) fn inotify_add_watch(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    path: UserCString,
    mask: u32,
) -> SysResult<i32> {
    let mask = Notice::from_bits_truncate(mask);
    if mask.is_empty() || mask.contains(Notice::MASK_ADD | Notice::MASK_CREATE) {
        return fail!(EINVAL);
    }
    let file = cx.task.files().get(fd)?;
    let instance = instance(&file)?;
    let mut walk = WalkFlags::empty();
    walk.set(WalkFlags::FOLLOW, !mask.contains(Notice::DONT_FOLLOW));
    walk.set(WalkFlags::DIRECTORY, mask.contains(Notice::ONLYDIR));
    let path = lookup_at(cx, Fd::CWD, path, walk)?;
    access::may(&cx.task.creds(), &path.inode().metadata()?, Access::READ)?;
    Ok(instance.add(path.inode(), mask)?)
}

/// inotify_rm_watch(2).
pub(super) fn inotify_rm_watch(cx: &mut SyscallCx<'_>, fd: Fd, wd: i32) -> SysResult<()> {
    let file = cx.task.files().get(fd)?;
    Ok(instance(&file)?.remove(wd)?)
}
