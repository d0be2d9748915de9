//! Extended attributes: xattr(7).

use super::{lookup_at, path_of};
use crate::kernel::fs::access::{self, Access, STICKY};
use crate::kernel::fs::inotify::Notice;
use crate::kernel::fs::walk::WalkFlags;
use crate::kernel::fs::{Fd, FileType, Path};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::{UserAddr, UserCString};

/// Longest name (XATTR_NAME_MAX), in bytes.
const NAME_MAX: usize = 255;

/// Longest value (XATTR_SIZE_MAX) and list of names, in bytes.
const SIZE_MAX: usize = 64 << 10;

/// What kind of attribute a name means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Namespace {
    User,
    Trusted,
    Security,
}

impl Namespace {
    /// EOPNOTSUPP for names of no known kind; POSIX ACLs are such.
    fn of(name: &[u8]) -> Result<Namespace, Errno> {
        const ALL: [(&[u8], Namespace); 3] = [
            (b"user.", Namespace::User),
            (b"trusted.", Namespace::Trusted),
            (b"security.", Namespace::Security),
        ];
        let found = ALL.iter().find(|(prefix, _)| name.starts_with(prefix));
        match found {
            Some((prefix, _)) if name.len() == prefix.len() => Err(Errno::EINVAL),
            Some((_, namespace)) => Ok(*namespace),
            None => Err(Errno::EOPNOTSUPP),
        }
    }
}

/// Where an attribute call acts.
fn at_path(cx: &SyscallCx<'_>, path: UserCString, follow: bool) -> SysResult<Path> {
    let mut walk = WalkFlags::empty();
    walk.set(WalkFlags::FOLLOW, follow);
    lookup_at(cx, Fd::CWD, path, walk)
}

fn at_fd(cx: &SyscallCx<'_>, fd: Fd) -> SysResult<Path> {
    let file = cx.task.files().get(fd)?;
    Ok(path_of(cx, &file))
}

/// A name from guest memory: ERANGE when it is empty or too long.
fn read_name(cx: &SyscallCx<'_>, name: UserCString) -> Result<Vec<u8>, Errno> {
    match cx.memory.read_cstring(name, NAME_MAX + 1) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        result => result,
    }
}

/// Whether the task may read or change this attribute.
fn may(cx: &SyscallCx<'_>, path: &Path, name: &[u8], want: Access) -> Result<(), Errno> {
    let creds = cx.task.creds();
    let writes = want == Access::WRITE;
    if writes && path.mount.read_only() {
        return Err(Errno::EROFS);
    }
    match Namespace::of(name)? {
        Namespace::Trusted if !creds.capable(Capability::SysAdmin) => {
            Err(if writes { Errno::EPERM } else { Errno::ENODATA })
        }
        Namespace::Trusted => Ok(()),
        Namespace::Security if writes => {
            let needed = if name == b"security.capability" {
                Capability::Setfcap
            } else {
                Capability::SysAdmin
            };
            if creds.capable(needed) {
                Ok(())
            } else {
                Err(Errno::EPERM)
            }
        }
        Namespace::Security => Ok(()),
        Namespace::User => {
            let meta = path.inode().metadata()?;
            // What has no type at all has no such attributes either.
            let kind = FileType::from_mode(meta.mode);
            if !matches!(kind, Some(FileType::Regular | FileType::Directory)) {
                return Err(if writes { Errno::EPERM } else { Errno::ENODATA });
            }
            let sticky = kind == Some(FileType::Directory) && meta.mode & STICKY != 0;
            if writes && sticky && !access::owns(&creds, &meta) {
                return Err(Errno::EPERM);
            }
            access::may(&creds, &meta, want)
        }
    }
}

fn set(
    cx: &SyscallCx<'_>,
    path: impl FnOnce() -> SysResult<Path>,
    name: UserCString,
    value: UserAddr,
    size: u64,
    flags: i32,
) -> SysResult<()> {
    if flags & !(libc::XATTR_CREATE | libc::XATTR_REPLACE) != 0 {
        return fail!(EINVAL);
    }
    let name = read_name(cx, name)?;
    let size = usize::try_from(size).map_err(|_| Errno::E2BIG)?;
    if size > SIZE_MAX {
        return fail!(E2BIG);
    }
    let mut bytes = vec![0; size];
    cx.memory.read_bytes(value, &mut bytes)?;
    let path = path()?;
    may(cx, &path, &name, Access::WRITE)?;
    path.inode().set_xattr(&name, &bytes, flags)?;
    cx.kernel.vfs.watches.happened(&path.dentry, Notice::ATTRIB);
    Ok(())
}

fn get(
    cx: &SyscallCx<'_>,
    path: impl FnOnce() -> SysResult<Path>,
    name: UserCString,
    value: UserAddr,
    size: u64,
) -> SysResult<usize> {
    let name = read_name(cx, name)?;
    let path = path()?;
    may(cx, &path, &name, Access::READ)?;
    let bytes = path.inode().get_xattr(&name)?;
    put(cx, &bytes, value, size)
}

/// Write an answer out; with a size of 0 only tell how long it is. ERANGE when it does not fit.
fn put(cx: &SyscallCx<'_>, bytes: &[u8], to: UserAddr, size: u64) -> SysResult<usize> {
    if size != 0 {
        if bytes.len() as u64 > size {
            return fail!(ERANGE);
        }
        cx.memory.write_bytes(to, bytes)?;
    }
    Ok(bytes.len())
}

fn list(cx: &SyscallCx<'_>, path: &Path, to: UserAddr, size: u64) -> SysResult<usize> {
    let privileged = cx.task.creds().capable(Capability::SysAdmin);
    let mut bytes = Vec::new();
    for name in path.inode().list_xattr()? {
        if privileged || !name.starts_with(b"trusted.") {
            bytes.extend_from_slice(&name);
            bytes.push(0);
        }
    }
    put(cx, &bytes, to, size)
}

fn remove(cx: &SyscallCx<'_>, path: impl FnOnce() -> SysResult<Path>, name: UserCString) -> SysResult<()> {
    let name = read_name(cx, name)?;
    let path = path()?;
    may(cx, &path, &name, Access::WRITE)?;
    path.inode().remove_xattr(&name)?;
    cx.kernel.vfs.watches.happened(&path.dentry, Notice::ATTRIB);
    Ok(())
}

/// setxattr(2).
pub(super) fn setxattr(
    cx: &mut SyscallCx<'_>,
    path: UserCString,
    name: UserCString,
    value: UserAddr,
    size: u64,
    flags: i32,
) -> SysResult<()> {
    set(cx, || at_path(cx, path, true), name, value, size, flags)
}

/// lsetxattr(2).
pub(super) fn lsetxattr(
    cx: &mut SyscallCx<'_>,
    path: UserCString,
    name: UserCString,
    value: UserAddr,
    size: u64,
    flags: i32,
) -> SysResult<()> {
    set(cx, || at_path(cx, path, false), name, value, size, flags)
}

/// fsetxattr(2).
pub(super) fn fsetxattr(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    name: UserCString,
    value: UserAddr,
    size: u64,
    flags: i32,
) -> SysResult<()> {
    set(cx, || at_fd(cx, fd), name, value, size, flags)
}

/// getxattr(2).
pub(super) fn getxattr(
    cx: &mut SyscallCx<'_>,
    path: UserCString,
    name: UserCString,
    value: UserAddr,
    size: u64,
) -> SysResult<usize> {
    get(cx, || at_path(cx, path, true), name, value, size)
}

/// lgetxattr(2).
pub(super) fn lgetxattr(
    cx: &mut SyscallCx<'_>,
    path: UserCString,
    name: UserCString,
    value: UserAddr,
    size: u64,
) -> SysResult<usize> {
    get(cx, || at_path(cx, path, false), name, value, size)
}

/// fgetxattr(2).
pub(super) fn fgetxattr(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    name: UserCString,
    value: UserAddr,
    size: u64,
) -> SysResult<usize> {
    get(cx, || at_fd(cx, fd), name, value, size)
}

/// listxattr(2).
pub(super) fn listxattr(
    cx: &mut SyscallCx<'_>,
    path: UserCString,
    to: UserAddr,
    size: u64,
) -> SysResult<usize> {
    let path = at_path(cx, path, true)?;
    list(cx, &path, to, size)
}

/// llistxattr(2).
pub(super) fn llistxattr(
    cx: &mut SyscallCx<'_>,
    path: UserCString,
    to: UserAddr,
    size: u64,
) -> SysResult<usize> {
    let path = at_path(cx, path, false)?;
    list(cx, &path, to, size)
}

/// flistxattr(2).
pub(super) fn flistxattr(cx: &mut SyscallCx<'_>, fd: Fd, to: UserAddr, size: u64) -> SysResult<usize> {
    let path = at_fd(cx, fd)?;
    list(cx, &path, to, size)
}

/// removexattr(2).
pub(super) fn removexattr(cx: &mut SyscallCx<'_>, path: UserCString, name: UserCString) -> SysResult<()> {
    remove(cx, || at_path(cx, path, true), name)
}

/// lremovexattr(2).
pub(super) fn lremovexattr(cx: &mut SyscallCx<'_>, path: UserCString, name: UserCString) -> SysResult<()> {
    remove(cx, || at_path(cx, path, false), name)
}

/// fremovexattr(2).
pub(super) fn fremovexattr(cx: &mut SyscallCx<'_>, fd: Fd, name: UserCString) -> SysResult<()> {
    remove(cx, || at_fd(cx, fd), name)
}
