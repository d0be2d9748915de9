//! mount(2), umount2(2), pivot_root(2).

use super::{lookup_at, read_path};
use crate::kernel::fs::walk::{WalkCx, WalkFlags};
use crate::kernel::fs::{Fd, FileType, MountFlags, Path};
use crate::kernel::mm::forget_unmapped;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::{PATH_MAX, UserCString};

/// The old way to say that flags follow.
const MAGIC: u64 = 0xc0ed_0000;
const MAGIC_MASK: u64 = 0xffff_0000;

fn may_mount(cx: &SyscallCx<'_>) -> Result<(), Errno> {
    if cx.task.creds().capable(Capability::SysAdmin) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// An optional string argument of mount(2).
fn option(cx: &SyscallCx<'_>, from: UserCString) -> Result<Vec<u8>, Errno> {
    if from.0.is_null() {
        return Ok(Vec::new());
    }
    cx.memory.read_cstring(from, PATH_MAX)
}

/// mount(2). Every mount is private: MS_PRIVATE, MS_SLAVE and MS_UNBINDABLE change nothing, MS_SHARED is refused. What is
/// mounted goes upon all that lies at the target, which a walk to `.` does not cross.
pub(super) fn mount(
    cx: &mut SyscallCx<'_>,
    source: UserCString,
    target: UserCString,
    fstype: UserCString,
    flags: u64,
    data: UserCString,
) -> SysResult<()> {
    let fstype = option(cx, fstype)?;
    let source_name = option(cx, source)?;
    let data = option(cx, data)?;
    let flags = if flags & MAGIC_MASK == MAGIC {
        flags & !MAGIC_MASK
    } else {
        flags
    };
    let at = lookup_at(cx, Fd::CWD, target, WalkFlags::FOLLOW)?;
    may_mount(cx)?;
    let mounts = &cx.kernel.vfs.mounts;
    let per_mount = mount_flags(flags);
    let private = libc::MS_PRIVATE | libc::MS_SLAVE | libc::MS_UNBINDABLE;
    if flags & libc::MS_REMOUNT != 0 {
        if !at.is_mount_root() {
            return fail!(EINVAL);
        }
        if at.mount.fs.is_read_only() && !per_mount.contains(MountFlags::READ_ONLY) {
            return fail!(EROFS);
        }
        at.mount.set_flags(per_mount);
        return Ok(());
    }
    if flags & libc::MS_BIND != 0 {
        let what = source_path(cx, source)?;
        mounts.bind(&what, mounts.cross(at), flags & libc::MS_REC != 0)?;
        return Ok(());
    }
    if flags & libc::MS_SHARED != 0 {
        return fail!(EINVAL);
    }
    if flags & private != 0 {
        return if at.is_mount_root() { Ok(()) } else { fail!(EINVAL) };
    }
    if flags & libc::MS_MOVE != 0 {
        let what = source_path(cx, source)?;
        return Ok(mounts.relocate(&what, mounts.cross(at))?);
    }
    let mounter = cx.kernel.vfs.types.find(&fstype)?;
    let fs = mounter(cx.task, &source_name, &data)?;
    let name = if source_name.is_empty() {
        b"none".to_vec()
    } else {
        source_name
    };
    let mut per_mount = per_mount;
    if fs.is_read_only() {
        per_mount |= MountFlags::READ_ONLY;
    }
    mounts.mount(fs, &name, per_mount, mounts.cross(at))?;
    Ok(())
}

fn source_path(cx: &SyscallCx<'_>, source: UserCString) -> SysResult<Path> {
    if source.0.is_null() {
        return fail!(EINVAL);
    }
    lookup_at(cx, Fd::CWD, source, WalkFlags::FOLLOW)
}

/// The flags of a mount itself; relatime is what there is when nothing else is said.
fn mount_flags(flags: u64) -> MountFlags {
    let mut mount = MountFlags::from_bits_truncate(u32::try_from(flags & 0xffff_ffff).unwrap_or_default());
    let strict = flags & libc::MS_STRICTATIME != 0;
    mount.set(
        MountFlags::RELATIME,
        !strict && !mount.contains(MountFlags::NOATIME),
    );
    mount
}

/// umount2(2).
pub(super) fn umount2(cx: &mut SyscallCx<'_>, target: UserCString, flags: i32) -> SysResult<()> {
    let known = libc::MNT_FORCE | libc::MNT_DETACH | libc::MNT_EXPIRE | libc::UMOUNT_NOFOLLOW;
    if flags & !known != 0 {
        return fail!(EINVAL);
    }
    may_mount(cx)?;
    let mut walk = WalkFlags::empty();
    walk.set(WalkFlags::FOLLOW, flags & libc::UMOUNT_NOFOLLOW == 0);
    let path = lookup_at(cx, Fd::CWD, target, walk)?;
    if flags & libc::MNT_EXPIRE != 0 {
        // Marking for a second call is not offered: nothing expires here.
        return fail!(EINVAL);
    }
    let vfs = &cx.kernel.vfs;
    let path = vfs.mounts.cross(path);
    forget_unmapped(cx.kernel, &|mapped| mapped.mount.id == path.mount.id);
    let mount = vfs.mounts.unmount(path, flags & libc::MNT_DETACH != 0)?;
    vfs.names.forget_fs(&mount.fs);
    Ok(())
}

/// pivot_root(2).
pub(super) fn pivot_root(
    cx: &mut SyscallCx<'_>,
    new_root: UserCString,
    put_old: UserCString,
) -> SysResult<()> {
    may_mount(cx)?;
    let new_root = read_path(cx, new_root, WalkFlags::empty())?;
    let put_old = read_path(cx, put_old, WalkFlags::empty())?;
    let walk = WalkCx::of(cx.task);
    let flags = WalkFlags::FOLLOW | WalkFlags::DIRECTORY;
    let new_root = walk.lookup(None, &new_root, flags)?;
    let put_old = walk.lookup(None, &put_old, flags)?;
    let root = walk.places.root.clone();
    drop(walk);
    let mounts = &cx.kernel.vfs.mounts;
    let put_old = mounts.cross(put_old);
    if !root.is_mount_root() || root.mount.at().is_some() {
        return fail!(EINVAL);
    }
    let same = new_root.mount.id == root.mount.id || put_old.mount.id == root.mount.id;
    if same {
        return fail!(EBUSY);
    }
    let below = put_old.mount.id == new_root.mount.id
        || mounts.below(&new_root).iter().any(|m| m.id == put_old.mount.id);
    if !below || put_old.inode().file_type() != FileType::Directory {
        return fail!(EINVAL);
    }
    mounts.pivot(&new_root, put_old)?;
    let tasks: Vec<_> = cx.kernel.pids.lock().tasks.values().cloned().collect();
    for task in tasks {
        let fs = task.fs();
        let mut fs = fs.lock();
        if fs.places().root.same(&root) {
            fs.set_root(new_root.clone());
        }
        if fs.places().cwd.same(&root) {
            fs.set_cwd(new_root.clone());
        }
    }
    Ok(())
}
