//! Changes to host files, for trees that the guest may write to.
//!
//! The host's own rules apply: what its user may not do (chown, mknod of a device) fails with the host's errno.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
    chmodat, chownat, ftruncate, linkat, mkdirat, mknodat, openat2, renameat_with, symlinkat, unlinkat,
    utimensat,
};

use super::host::{self, errno};
use super::inode::HostInode;
use crate::kernel::fs::{CreateArgs, FileType, SetAttr, TimeChange};
use crate::kernel::stop::Errno;
use crate::platform::HostFile;

/// [`crate::kernel::fs::Inode::set_attr`].
pub(super) fn set_attr(inode: &HostInode, wanted: &SetAttr) -> Result<(), Errno> {
    inode.check_writable()?;
    if let Some(size) = wanted.size {
        truncate(inode, size)?;
    }
    if wanted.uid.is_some() || wanted.gid.is_some() {
        let owners = inode.tree.owners;
        let uid = wanted.uid.map(|uid| Uid::from_raw(owners.host_uid(uid)));
        let gid = wanted.gid.map(|gid| Gid::from_raw(owners.host_gid(gid)));
        let fd = inode.path_fd()?;
        chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH).map_err(errno)?;
    }
    if let Some(mode) = wanted.mode {
        set_mode(inode, mode)?;
    }
    if wanted.atime.is_some() || wanted.mtime.is_some() {
        let times = Timestamps {
            last_access: timespec(wanted.atime),
            last_modification: timespec(wanted.mtime),
        };
        let fd = inode.path_fd()?;
        let (dir, name) = inode.tree.self_fd.name_of(fd.as_fd());
        utimensat(dir, name, &times, AtFlags::empty()).map_err(errno)?;
    }
    Ok(())
}

fn truncate(inode: &HostInode, size: u64) -> Result<(), Errno> {
    if inode.kind() != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    let maker = inode.open.lock().maker.clone();
    let file = match maker {
        Some(file) => file,
        None => inode.writer(true)?,
    };
    ftruncate(file.as_fd(), size).map_err(errno)
}

fn set_mode(inode: &HostInode, mode: u32) -> Result<(), Errno> {
    if inode.kind() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let fd = inode.path_fd()?;
    let (dir, name) = inode.tree.self_fd.name_of(fd.as_fd());
    chmodat(dir, name, permissions(mode), AtFlags::empty()).map_err(errno)
}

fn timespec(change: Option<TimeChange>) -> Timespec {
    match change {
        None => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        Some(TimeChange::Now) => Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        },
        Some(TimeChange::To(t)) => Timespec {
            tv_sec: t.sec,
            tv_nsec: i64::from(t.nsec),
        },
    }
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

/// [`crate::kernel::fs::Inode::create`].
pub(super) fn create(dir: &HostInode, name: &[u8], args: &CreateArgs) -> Result<Arc<HostInode>, Errno> {
    dir.check_writable()?;
    let at = dir.directory_of(name)?;
    let kind = FileType::from_mode(args.mode).ok_or(Errno::EINVAL)?;
    let mode = permissions(args.mode);
    match kind {
        FileType::Regular => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let open = || openat2(&at, name, flags, mode, beneath).map_err(errno);
            let fd = dir.tree.with_descriptors(open)?;
            return own(opened(dir, HostFile::new(fd)?)?, args);
        }
        FileType::Directory => mkdirat(at, name, mode).map_err(errno)?,
        FileType::Symlink => return Err(Errno::EINVAL),
        _ => {
            let kind = rustix::fs::FileType::from_raw_mode(args.mode);
            mknodat(at, name, kind, mode, args.rdev).map_err(errno)?;
        }
    }
    own(dir.find(name)?, args)
}

/// [`crate::kernel::fs::Inode::create_unnamed`].
pub(super) fn create_unnamed(dir: &HostInode, args: &CreateArgs) -> Result<Arc<HostInode>, Errno> {
    dir.check_writable()?;
    let at = dir.path_fd()?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let open = || openat2(&at, ".", flags, permissions(args.mode), beneath).map_err(errno);
    let fd = dir.tree.with_descriptors(open)?;
    own(opened(dir, HostFile::new(fd)?)?, args)
}

/// The inode of a file that was just made, keeping the descriptor that made it for the open(2) that wanted it.
fn opened(dir: &HostInode, file: Arc<HostFile>) -> Result<Arc<HostInode>, Errno> {
    let tree = &dir.tree;
    let fd = tree.with_descriptors(|| tree.self_fd.reopen_path(file.as_fd()))?;
    let st = host::stat_at(&fd, b"")?;
    let inode = tree.inode(&st, |tree| HostInode::held(tree, &st, fd));
    let mut open = inode.open.lock();
    open.writer = Arc::downgrade(&file);
    open.maker = Some(file);
    drop(open);
    Ok(inode)
}

/// Give a new file the owner and mode that were asked for, as far as the host lets us: its umask has had its say, and
/// a supervisor that is not root makes files of its own user only.
fn own(inode: Arc<HostInode>, args: &CreateArgs) -> Result<Arc<HostInode>, Errno> {
    let fd = inode.path_fd()?;
    let st = host::stat_at(&fd, b"")?;
    let owners = inode.tree.owners;
    let (uid, gid) = (owners.host_uid(args.uid), owners.host_gid(args.gid));
    if (st.stx_uid, st.stx_gid) != (uid, gid) {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match chownat(&fd, "", owner.0, owner.1, AtFlags::EMPTY_PATH) {
            Ok(()) | Err(rustix::io::Errno::PERM) => {}
            Err(e) => return Err(errno(e)),
        }
    }
    if inode.kind() != FileType::Symlink && u32::from(st.stx_mode) & 0o7777 != args.mode & 0o7777 {
        set_mode(&inode, args.mode)?;
    }
    drop(fd);
    Ok(inode)
}

/// [`crate::kernel::fs::Inode::symlink`].
pub(super) fn symlink(
    dir: &HostInode,
    name: &[u8],
    target: &[u8],
    args: &CreateArgs,
) -> Result<Arc<HostInode>, Errno> {
    dir.check_writable()?;
    symlinkat(target, dir.directory_of(name)?, name).map_err(errno)?;
    own(dir.find(name)?, args)
}

/// [`crate::kernel::fs::Inode::link`].
pub(super) fn link(dir: &HostInode, name: &[u8], inode: &HostInode) -> Result<(), Errno> {
    dir.check_writable()?;
    inode.check_writable()?;
    let fd = inode.path_fd()?;
    let (old_dir, old_name) = inode.tree.self_fd.name_of(fd.as_fd());
    linkat(
        old_dir,
        old_name,
        dir.directory_of(name)?,
        name,
        AtFlags::SYMLINK_FOLLOW,
    )
    .map_err(errno)
}

/// [`crate::kernel::fs::Inode::unlink`].
pub(super) fn unlink(dir: &HostInode, name: &[u8], directory: bool) -> Result<(), Errno> {
    dir.check_changeable(name)?;
    let flags = if directory {
        AtFlags::REMOVEDIR
    } else {
        AtFlags::empty()
    };
    unlinkat(dir.directory_of(name)?, name, flags).map_err(errno)
}

/// [`crate::kernel::fs::Inode::rename`].
pub(super) fn rename(
    dir: &HostInode,
    name: &[u8],
    new_dir: &HostInode,
    new_name: &[u8],
    flags: u32,
) -> Result<(), Errno> {
    dir.check_changeable(name)?;
    new_dir.check_changeable(new_name)?;
    let flags = RenameFlags::from_bits_retain(flags);
    let (from, to) = (dir.directory_of(name)?, new_dir.directory_of(new_name)?);
    renameat_with(from, name, to, new_name, flags).map_err(errno)
}
