//! Making new names: who owns them and with what mode, and telling the VFS.

use super::access::{self, SETGID};
use super::{CreateArgs, NameChange, Path};
use crate::kernel::stop::Errno;
use crate::kernel::task::{Capability, Task};

/// Attributes of a new inode in a directory: the task's umask, and the group of a set-group-id directory, which new
/// directories inherit along with the bit.
pub fn args(task: &Task, dir: &Path, mode: u32, rdev: u64) -> Result<CreateArgs, Errno> {
    let umask = task.fs().lock().umask;
    let creds = task.creds();
    let parent = dir.inode().metadata()?;
    let mut mode = mode & !umask;
    let mut gid = creds.fsgid;
    if parent.mode & SETGID != 0 {
        gid = parent.gid;
        if mode & libc::S_IFMT == libc::S_IFDIR {
            mode |= SETGID;
        } else if mode & (SETGID | 0o010) == SETGID | 0o010
            && !creds.in_group(gid)
            && !creds.capable(Capability::Fsetid)
        {
            mode &= !SETGID;
        }
    }
    Ok(CreateArgs {
        mode,
        uid: creds.fsuid,
        gid,
        rdev,
    })
}

/// Make a file, directory or node, after checking permission. EROFS, EACCES, EEXIST ...
pub fn node(task: &Task, dir: &Path, name: &[u8], mode: u32, rdev: u64) -> Result<Path, Errno> {
    access::may_create(&task.creds(), dir)?;
    let args = args(task, dir, mode, rdev)?;
    let mut change = NameChange::of(&dir.dentry);
    change.begin();
    let inode = dir.inode().create(name, &args)?;
    Ok(Path {
        mount: dir.mount.clone(),
        dentry: task.kernel.vfs.added(&dir.dentry, name, inode),
    })
}
