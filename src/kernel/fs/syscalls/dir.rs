//! Directories: getdents(2), chdir(2), chroot(2), getcwd(2).

use super::{lookup_at, path_of};
use crate::kernel::fs::access::{self, Access};
use crate::kernel::fs::inotify::Notice;
use crate::kernel::fs::walk::WalkFlags;
use crate::kernel::fs::{DirEntry, Fd, FileType, Path};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::{PATH_MAX, UserAddr, UserCString};

/// Most bytes gathered before they go to the guest.
const BATCH: usize = 64 << 10;

/// getdents64(2).
pub(super) fn getdents64(cx: &mut SyscallCx<'_>, fd: Fd, buf: UserAddr, count: u32) -> SysResult<usize> {
    list(cx, fd, buf, count, |entry, out| {
        // ino, off, reclen, type, name with its zero; in multiples of 8.
        let len = (19 + entry.name.len() + 1).next_multiple_of(8);
        let start = out.len();
        out.extend_from_slice(&entry.ino.to_ne_bytes());
        out.extend_from_slice(&entry.next.to_ne_bytes());
        out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_ne_bytes());
        out.push(entry.kind.map_or(0, FileType::dirent));
        out.extend_from_slice(&entry.name);
        out.resize(start + len, 0);
    })
}

/// getdents(2), with the type in the last byte of each entry.
pub(super) fn getdents(cx: &mut SyscallCx<'_>, fd: Fd, buf: UserAddr, count: u32) -> SysResult<usize> {
    list(cx, fd, buf, count, |entry, out| {
        let len = (18 + entry.name.len() + 2).next_multiple_of(8);
        let start = out.len();
        out.extend_from_slice(&entry.ino.to_ne_bytes());
        out.extend_from_slice(&entry.next.to_ne_bytes());
        out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_ne_bytes());
        out.extend_from_slice(&entry.name);
        out.resize(start + len - 1, 0);
        out.push(entry.kind.map_or(0, FileType::dirent));
    })
}

/// Fill the guest's buffer with as many entries as fit. EINVAL when not even the first does.
fn list(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    buf: UserAddr,
    count: u32,
    encode: impl Fn(&DirEntry, &mut Vec<u8>),
) -> SysResult<usize> {
    let file = cx.task.files().get(fd)?;
    if file.inode.file_type() != FileType::Directory {
        return fail!(ENOTDIR);
    }
    if file.path.as_ref().is_some_and(|p| p.dentry.is_unlinked()) {
        return fail!(ENOENT);
    }
    let room = (count as usize).min(BATCH);
    let mut pos = file.pos.lock();
    let mut out = Vec::new();
    let mut next = *pos;
    let mut full = false;
    file.ops.read_dir(&file, *pos, &mut |entry| {
        let before = out.len();
        encode(&entry, &mut out);
        if out.len() > room {
            out.truncate(before);
            full = true;
            return false;
        }
        next = entry.next;
        true
    })?;
    if out.is_empty() && full {
        return fail!(EINVAL);
    }
    cx.memory.write_bytes(buf, &out)?;
    *pos = next;
    drop(pos);
    file.happened(Notice::ACCESS);
    Ok(out.len())
}

/// chdir(2).
pub(super) fn chdir(cx: &mut SyscallCx<'_>, path: UserCString) -> SysResult<()> {
    let path = lookup_at(cx, Fd::CWD, path, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?;
    enter(cx, path)
}

/// fchdir(2).
pub(super) fn fchdir(cx: &mut SyscallCx<'_>, fd: Fd) -> SysResult<()> {
    let file = cx.task.files().get_any(fd)?;
    if file.inode.file_type() != FileType::Directory {
        return fail!(ENOTDIR);
    }
    let path = path_of(cx, &file);
    enter(cx, path)
}

fn enter(cx: &SyscallCx<'_>, path: Path) -> SysResult<()> {
    access::may(&cx.task.creds(), &path.inode().metadata()?, Access::EXEC)?;
    let old = cx.task.fs().lock().set_cwd(path);
    drop(old);
    Ok(())
}

/// chroot(2).
pub(super) fn chroot(cx: &mut SyscallCx<'_>, path: UserCString) -> SysResult<()> {
    let path = lookup_at(cx, Fd::CWD, path, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?;
    let creds = cx.task.creds();
    access::may(&creds, &path.inode().metadata()?, Access::EXEC)?;
    if !creds.capable(Capability::SysChroot) {
        return fail!(EPERM);
    }
    let old = cx.task.fs().lock().set_root(path);
    drop(old);
    Ok(())
}

/// getcwd(2).
pub(super) fn getcwd(cx: &mut SyscallCx<'_>, buf: UserAddr, size: u64) -> SysResult<usize> {
    let places = cx.task.places();
    let found = places.cwd.text(&places.root);
    if found.deleted {
        return fail!(ENOENT);
    }
    let mut text = Vec::new();
    if !found.reachable {
        text.extend_from_slice(b"(unreachable)");
    }
    text.extend_from_slice(&found.text);
    text.push(0);
    if text.len() > PATH_MAX {
        return fail!(ENAMETOOLONG);
    }
    if text.len() as u64 > size {
        return Err(Errno::ERANGE.into());
    }
    cx.memory.write_bytes(buf, &text)?;
    Ok(text.len())
}
