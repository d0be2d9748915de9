//! The calls of the file family, by what they act on.

mod attr;
mod dir;
mod fcntl;
mod inotify;
mod io;
mod locks;
mod mount;
mod namei;
mod open;
mod splice;
mod stat;
mod xattr;

use std::sync::Arc;

use super::walk::{Parent, WalkCx, WalkFlags};
use super::{Fd, File, Inode, Path};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::UserCString;

use super::pipe::{pipe, pipe2};
use attr::*;
use dir::*;
use fcntl::*;
use inotify::*;
use io::*;
use locks::*;
use mount::*;
use namei::*;
use open::*;
use splice::*;
use stat::*;
use xattr::*;

syscall_table::fs_rows!(crate::kernel::syscall::dispatch_rows);

/// Where a path given with a directory descriptor begins: none for the working directory. EBADF.
fn start_of(cx: &SyscallCx<'_>, dirfd: Fd, path: &[u8]) -> Result<Option<Path>, Errno> {
    if dirfd == Fd::CWD || path.first() == Some(&b'/') {
        return Ok(None);
    }
    let file = cx.task.files().get_any(dirfd)?;
    Ok(Some(path_of(cx, &file)))
}

/// The path an open file was found at, or one made up for an anonymous one.
fn path_of(cx: &SyscallCx<'_>, file: &File) -> Path {
    match &file.path {
        Some(path) => path.clone(),
        None => cx.kernel.vfs.anon.path_of(file),
    }
}

/// Read a path from guest memory: EFAULT, ENAMETOOLONG, ENOENT when it is empty and must not be.
fn read_path(cx: &SyscallCx<'_>, path: UserCString, flags: WalkFlags) -> Result<Vec<u8>, Errno> {
    let path = cx.memory.read_path(path)?;
    if path.is_empty() && !flags.contains(WalkFlags::EMPTY_PATH) {
        return Err(Errno::ENOENT);
    }
    Ok(path)
}

/// What the path argument of an `*at` call leads to.
fn lookup_at(cx: &SyscallCx<'_>, dirfd: Fd, path: UserCString, flags: WalkFlags) -> SysResult<Path> {
    let path = read_path(cx, path, flags)?;
    let start = start_of(cx, dirfd, &path)?;
    Ok(WalkCx::of(cx.task).lookup(start.as_ref(), &path, flags)?)
}

/// The directory and last component of the path argument of an `*at` call.
fn parent_at(cx: &SyscallCx<'_>, dirfd: Fd, path: UserCString) -> SysResult<Parent> {
    let path = read_path(cx, path, WalkFlags::empty())?;
    let start = start_of(cx, dirfd, &path)?;
    Ok(WalkCx::of(cx.task).parent(start.as_ref(), &path, WalkFlags::empty())?)
}

/// Walk flags of AT_SYMLINK_NOFOLLOW and AT_EMPTY_PATH; EINVAL for a flag not in `known`.
fn at_flags(flags: i32, known: i32) -> Result<WalkFlags, Errno> {
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let mut walk = WalkFlags::empty();
    walk.set(WalkFlags::FOLLOW, flags & libc::AT_SYMLINK_NOFOLLOW == 0);
    walk.set(WalkFlags::EMPTY_PATH, flags & libc::AT_EMPTY_PATH != 0);
    Ok(walk)
}

/// What tells one inode from another: device and number.
fn inode_id(inode: &Arc<dyn Inode>) -> Result<(u64, u64), Errno> {
    let meta = inode.metadata()?;
    Ok((meta.dev, meta.ino))
}
