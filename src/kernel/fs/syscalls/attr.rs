//! Attributes: chmod(2), chown(2), utimensat(2), truncate(2), umask(2).

use super::io::check_size_limit;
use super::open::set_size;
use super::{at_flags, lookup_at, path_of};
use crate::kernel::abi::fs::Utimbuf;
use crate::kernel::abi::time::{Timespec, Timeval};
use crate::kernel::fs::access::{self, Access, SETGID, SETUID};
use crate::kernel::fs::inotify::Notice;
use crate::kernel::fs::walk::WalkFlags;
use crate::kernel::fs::{Fd, FileType, Metadata, Path, SetAttr, TimeChange, Use};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, Creds};
use crate::kernel::time::Timestamp;
use crate::kernel::user_memory::{UserCString, UserRef};

/// chmod(2).
pub(super) fn chmod(cx: &mut SyscallCx<'_>, path: UserCString, mode: u32) -> SysResult<()> {
    fchmodat2(cx, Fd::CWD, path, mode, 0)
}

/// fchmodat(2) as the kernel has it: without flags.
pub(super) fn fchmodat(cx: &mut SyscallCx<'_>, dirfd: Fd, path: UserCString, mode: u32) -> SysResult<()> {
    fchmodat2(cx, dirfd, path, mode, 0)
}

/// fchmodat2(2).
pub(super) fn fchmodat2(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    mode: u32,
    flags: i32,
) -> SysResult<()> {
    let walk = at_flags(flags, libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    let path = lookup_at(cx, dirfd, path, walk)?;
    change_mode(cx, &path, mode)
}

/// fchmod(2).
pub(super) fn fchmod(cx: &mut SyscallCx<'_>, fd: Fd, mode: u32) -> SysResult<()> {
    let file = cx.task.files().get(fd)?;
    change_mode(cx, &path_of(cx, &file), mode)
}

fn change_mode(cx: &SyscallCx<'_>, path: &Path, mode: u32) -> SysResult<()> {
    if path.mount.read_only() {
        return fail!(EROFS);
    }
    if path.inode().file_type() == FileType::Symlink {
        return fail!(EOPNOTSUPP);
    }
    let creds = cx.task.creds();
    let meta = path.inode().metadata()?;
    if !access::owns(&creds, &meta) {
        return fail!(EPERM);
    }
    let mut mode = mode & 0o7777;
    if !creds.in_group(meta.gid) && !creds.capable(Capability::Fsetid) {
        mode &= !SETGID;
    }
    change(
        cx,
        path,
        &SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        },
    )
}

fn change(cx: &SyscallCx<'_>, path: &Path, change: &SetAttr) -> SysResult<()> {
    path.inode().set_attr(change)?;
    cx.kernel.vfs.watches.happened(&path.dentry, Notice::ATTRIB);
    Ok(())
}

/// chown(2).
pub(super) fn chown(cx: &mut SyscallCx<'_>, path: UserCString, uid: u32, gid: u32) -> SysResult<()> {
    fchownat(cx, Fd::CWD, path, uid, gid, 0)
}

/// lchown(2).
pub(super) fn lchown(cx: &mut SyscallCx<'_>, path: UserCString, uid: u32, gid: u32) -> SysResult<()> {
    fchownat(cx, Fd::CWD, path, uid, gid, libc::AT_SYMLINK_NOFOLLOW)
}

/// fchownat(2).
pub(super) fn fchownat(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    uid: u32,
    gid: u32,
    flags: i32,
) -> SysResult<()> {
    let walk = at_flags(flags, libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    let path = lookup_at(cx, dirfd, path, walk)?;
    change_owner(cx, &path, uid, gid)
}

/// fchown(2).
pub(super) fn fchown(cx: &mut SyscallCx<'_>, fd: Fd, uid: u32, gid: u32) -> SysResult<()> {
    let file = cx.task.files().get(fd)?;
    change_owner(cx, &path_of(cx, &file), uid, gid)
}

fn change_owner(cx: &SyscallCx<'_>, path: &Path, uid: u32, gid: u32) -> SysResult<()> {
    if path.mount.read_only() {
        return fail!(EROFS);
    }
    let creds = cx.task.creds();
    let meta = path.inode().metadata()?;
    let uid = (uid != u32::MAX).then_some(uid);
    let gid = (gid != u32::MAX).then_some(gid);
    let owner = creds.fsuid == meta.uid;
    let uid_ok = uid.is_none_or(|uid| owner && uid == meta.uid);
    let gid_ok = gid.is_none_or(|gid| owner && (creds.in_group(gid) || gid == meta.gid));
    if !(creds.capable(Capability::Chown) || uid_ok && gid_ok) {
        return fail!(EPERM);
    }
    let mode = mode_after_chown(&creds, &meta);
    if mode.is_some() && !access::owns(&creds, &meta) {
        return fail!(EPERM);
    }
    if meta.file_type() != FileType::Directory {
        path.inode().drop_capabilities()?;
    }
    change(
        cx,
        path,
        &SetAttr {
            mode,
            uid,
            gid,
            ..SetAttr::default()
        },
    )
}

/// A change of owner takes set-user-id from all but directories, even when root makes it.
fn mode_after_chown(creds: &Creds, meta: &Metadata) -> Option<u32> {
    if meta.file_type() == FileType::Directory {
        return None;
    }
    let keeps_setgid = creds.in_group(meta.gid) || creds.capable(Capability::Fsetid);
    let mut after = access::without_suid(meta.mode);
    if !keeps_setgid {
        after &= !SETGID;
    }
    (meta.mode & (SETUID | SETGID) != 0 && after != meta.mode).then_some(after & 0o7777)
}

/// umask(2).
pub(super) fn umask(cx: &mut SyscallCx<'_>, mask: u32) -> SysResult<u32> {
    let fs = cx.task.fs();
    let mut fs = fs.lock();
    Ok(std::mem::replace(&mut fs.umask, mask & 0o777))
}

/// truncate(2).
pub(super) fn truncate(cx: &mut SyscallCx<'_>, path: UserCString, length: i64) -> SysResult<()> {
    let size = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let path = lookup_at(cx, Fd::CWD, path, WalkFlags::FOLLOW)?;
    match path.inode().file_type() {
        FileType::Regular => {}
        FileType::Directory => return fail!(EISDIR),
        _ => return fail!(EINVAL),
    }
    access::may_at(&cx.task.creds(), &path, Access::WRITE)?;
    let _in_use = cx.kernel.vfs.busy.begin(path.inode(), Use::Write)?;
    check_size_limit(cx, path.inode(), size)?;
    set_size(cx, path.inode(), size)?;
    cx.kernel.vfs.watches.happened(&path.dentry, Notice::MODIFY);
    Ok(())
}

/// ftruncate(2).
pub(super) fn ftruncate(cx: &mut SyscallCx<'_>, fd: Fd, length: i64) -> SysResult<()> {
    let size = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let file = cx.task.files().get(fd)?;
    if file.inode.file_type() != FileType::Regular || !file.flags().writable() {
        return fail!(EINVAL);
    }
    check_size_limit(cx, &file.inode, size)?;
    set_size(cx, &file.inode, size)?;
    file.happened(Notice::MODIFY);
    Ok(())
}

/// Two new times as the guest gave them; none for the present time in both.
type Times = Option<[Timespec; 2]>;

/// utimensat(2), futimens(3) included.
pub(super) fn utimensat(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    times: UserRef<[Timespec; 2]>,
    flags: i32,
) -> SysResult<()> {
    let times = match times.non_null() {
        None => None,
        Some(times) => {
            let given = cx.memory.read(times)?;
            if given.iter().all(|t| t.nsec == libc::UTIME_OMIT) {
                return Ok(());
            }
            Some(given)
        }
    };
    let walk = at_flags(flags, libc::AT_SYMLINK_NOFOLLOW | libc::AT_EMPTY_PATH)?;
    let path = if path.0.is_null() {
        if dirfd == Fd::CWD {
            return fail!(EFAULT);
        }
        if flags != 0 {
            return fail!(EINVAL);
        }
        let file = cx.task.files().get(dirfd)?;
        path_of(cx, &file)
    } else {
        lookup_at(cx, dirfd, path, walk)?
    };
    change_times(cx, &path, times)
}

/// What to change; none when both become the present time.
fn parse_times(given: [Timespec; 2]) -> Result<Option<[Option<TimeChange>; 2]>, Errno> {
    let parse = |time: Timespec| match time.nsec {
        libc::UTIME_NOW => Ok(Some(TimeChange::Now)),
        libc::UTIME_OMIT => Ok(None),
        nsec @ 0..=999_999_999 => Ok(Some(TimeChange::To(Timestamp {
            sec: time.sec,
            nsec: u32::try_from(nsec).unwrap_or_default(),
        }))),
        _ => Err(Errno::EINVAL),
    };
    let times = [parse(given[0])?, parse(given[1])?];
    Ok((times != [Some(TimeChange::Now); 2]).then_some(times))
}

fn change_times(cx: &SyscallCx<'_>, path: &Path, times: Times) -> SysResult<()> {
    let times = match times {
        Some(given) => parse_times(given)?,
        None => None,
    };
    if path.mount.read_only() {
        return fail!(EROFS);
    }
    let creds = cx.task.creds();
    let meta = path.inode().metadata()?;
    if !access::owns(&creds, &meta) {
        match times {
            Some(_) => return fail!(EPERM),
            None => access::may(&creds, &meta, Access::WRITE)?,
        }
    }
    let [atime, mtime] = times.unwrap_or([Some(TimeChange::Now); 2]);
    change(
        cx,
        path,
        &SetAttr {
            atime,
            mtime,
            ..SetAttr::default()
        },
    )
}

/// utime(2).
pub(super) fn utime(cx: &mut SyscallCx<'_>, path: UserCString, times: UserRef<Utimbuf>) -> SysResult<()> {
    let times = match times.non_null() {
        None => None,
        Some(times) => {
            let given = cx.memory.read(times)?;
            Some([given.actime, given.modtime].map(|sec| Timespec { sec, nsec: 0 }))
        }
    };
    let path = lookup_at(cx, Fd::CWD, path, WalkFlags::FOLLOW)?;
    change_times(cx, &path, times)
}

/// utimes(2).
pub(super) fn utimes(
    cx: &mut SyscallCx<'_>,
    path: UserCString,
    times: UserRef<[Timeval; 2]>,
) -> SysResult<()> {
    futimesat(cx, Fd::CWD, path, times)
}

/// futimesat(2).
pub(super) fn futimesat(
    cx: &mut SyscallCx<'_>,
    dirfd: Fd,
    path: UserCString,
    times: UserRef<[Timeval; 2]>,
) -> SysResult<()> {
    let times = match times.non_null() {
        None => None,
        Some(times) => {
            let given = cx.memory.read(times)?;
            if given.iter().any(|t| !(0..1_000_000).contains(&t.usec)) {
                return fail!(EINVAL);
            }
            Some(given.map(|t| Timespec {
                sec: t.sec,
                nsec: t.usec * 1000,
            }))
        }
    };
    let path = if path.0.is_null() {
        let file = cx.task.files().get(dirfd)?;
        path_of(cx, &file)
    } else {
        lookup_at(cx, dirfd, path, WalkFlags::FOLLOW)?
    };
    change_times(cx, &path, times)
}
