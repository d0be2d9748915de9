//! Permission checks: path_resolution(7), capabilities(7).

use bitflags::bitflags;

use super::{FileType, Metadata, MountFlags, Path};
use crate::kernel::stop::Errno;
use crate::kernel::task::{Capability, Creds};

bitflags! {
    /// Wanted access, with the values of R_OK, W_OK and X_OK.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Access: u32 {
        /// Read a file, list a directory.
        const READ = 4;
        /// Write a file, change names in a directory.
        const WRITE = 2;
        /// Execute a file, search a directory.
        const EXEC = 1;
    }
}

/// S_ISVTX
pub const STICKY: u32 = 0o1000;
/// S_ISGID
pub const SETGID: u32 = 0o2000;
/// S_ISUID
pub const SETUID: u32 = 0o4000;

/// Whether `creds` have `want` on an inode, by its mode and by capabilities. EACCES.
pub fn may(creds: &Creds, meta: &Metadata, want: Access) -> Result<(), Errno> {
    let class = if creds.fsuid == meta.uid {
        meta.mode >> 6
    } else if creds.in_group(meta.gid) {
        meta.mode >> 3
    } else {
        meta.mode
    };
    if class & want.bits() == want.bits() {
        return Ok(());
    }
    let directory = meta.file_type() == FileType::Directory;
    let executable = directory || meta.mode & 0o111 != 0;
    let overridden = creds.capable(Capability::DacOverride) && (executable || !want.contains(Access::EXEC));
    let readable = if directory {
        Access::READ | Access::EXEC
    } else {
        Access::READ
    };
    let searched = creds.capable(Capability::DacReadSearch) && readable.contains(want);
    if overridden || searched {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// [`may`] for what a path leads to, with the mount's say: EROFS for writing to a read-only mount (devices, FIFOs and
/// sockets excepted), EACCES for executing a file of a noexec mount.
pub fn may_at(creds: &Creds, path: &Path, want: Access) -> Result<(), Errno> {
    let kind = path.inode().file_type();
    if want.contains(Access::WRITE)
        && path.mount.read_only()
        && matches!(kind, FileType::Regular | FileType::Directory | FileType::Symlink)
    {
        return Err(Errno::EROFS);
    }
    if want.contains(Access::EXEC)
        && kind == FileType::Regular
        && path.mount.flags().contains(MountFlags::NOEXEC)
    {
        return Err(Errno::EACCES);
    }
    may(creds, &path.inode().metadata()?, want)
}

/// Whether names may be added to a directory. EROFS, EACCES, ENOENT for a removed one.
pub fn may_create(creds: &Creds, dir: &Path) -> Result<(), Errno> {
    if dir.dentry.is_unlinked() {
        return Err(Errno::ENOENT);
    }
    may_at(creds, dir, Access::WRITE | Access::EXEC)
}

/// Whether the name of `victim` may be removed from `dir`: write permission and the sticky bit. EROFS, EACCES, EPERM.
pub fn may_remove(creds: &Creds, dir: &Path, victim: &Metadata) -> Result<(), Errno> {
    may_at(creds, dir, Access::WRITE | Access::EXEC)?;
    let parent = dir.inode().metadata()?;
    let own = creds.fsuid == victim.uid || creds.fsuid == parent.uid;
    if parent.mode & STICKY != 0 && !own && !creds.capable(Capability::Fowner) {
        return Err(Errno::EPERM);
    }
    Ok(())
}

/// Whether `creds` count as the owner of an inode.
pub fn owns(creds: &Creds, meta: &Metadata) -> bool {
    creds.fsuid == meta.uid || creds.capable(Capability::Fowner)
}

/// Whether a symbolic link in a directory may be followed (sysctl fs.protected_symlinks): in a sticky directory that all
/// may write to, only when it belongs to the follower or to the directory's owner. EACCES.
pub fn may_follow(creds: &Creds, dir: &Metadata, link: &Metadata) -> Result<(), Errno> {
    let shared = dir.mode & (STICKY | 0o002) == STICKY | 0o002;
    if shared && link.uid != creds.fsuid && link.uid != dir.uid {
        return Err(Errno::EACCES);
    }
    Ok(())
}

/// Whether a hard link to an inode may be made (sysctl fs.protected_hardlinks). EPERM.
pub fn may_hard_link(creds: &Creds, meta: &Metadata) -> Result<(), Errno> {
    let setgid_exec = meta.mode & (SETGID | 0o010) == SETGID | 0o010;
    let safe = meta.file_type() == FileType::Regular
        && meta.mode & SETUID == 0
        && !setgid_exec
        && may(creds, meta, Access::READ | Access::WRITE).is_ok();
    if safe || owns(creds, meta) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// The mode of a file whose contents or owner an unprivileged task has just changed: without set-user-id, and without
/// set-group-id where that means a program.
pub fn without_suid(mode: u32) -> u32 {
    let setgid = if mode & 0o010 != 0 { SETGID } else { 0 };
    mode & !(SETUID | setgid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::Timestamp;

    fn meta(mode: u32, uid: u32, gid: u32) -> Metadata {
        Metadata {
            dev: 1,
            ino: 1,
            mode,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            btime: None,
        }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let user = Creds::of_user(1000, 1000, &[50]);
        let file = |mode, uid, gid| meta(libc::S_IFREG | mode, uid, gid);
        assert_eq!(
            may(&user, &file(0o077, 1000, 50), Access::READ),
            Err(Errno::EACCES)
        );
        assert_eq!(may(&user, &file(0o707, 0, 50), Access::READ), Err(Errno::EACCES));
        assert_eq!(may(&user, &file(0o604, 0, 0), Access::READ), Ok(()));
        assert_eq!(may(&user, &file(0o070, 0, 50), Access::all()), Ok(()));
        assert_eq!(may(&user, &file(0o060, 0, 50), Access::all()), Err(Errno::EACCES));
    }

    #[test]
    fn root_executes_only_what_somebody_may() {
        let root = Creds::of_user(0, 0, &[]);
        assert_eq!(
            may(&root, &meta(libc::S_IFREG, 7, 7), Access::EXEC),
            Err(Errno::EACCES)
        );
        assert_eq!(may(&root, &meta(libc::S_IFREG | 1, 7, 7), Access::all()), Ok(()));
        assert_eq!(may(&root, &meta(libc::S_IFDIR, 7, 7), Access::all()), Ok(()));
    }

    #[test]
    fn read_search_reads_and_searches_but_does_not_write() {
        let mut creds = Creds::of_user(9, 9, &[]);
        creds.effective = 1 << Capability::DacReadSearch as u8;
        let dir = meta(libc::S_IFDIR, 0, 0);
        assert_eq!(may(&creds, &dir, Access::READ | Access::EXEC), Ok(()));
        assert_eq!(may(&creds, &dir, Access::WRITE), Err(Errno::EACCES));
        assert_eq!(may(&creds, &meta(libc::S_IFREG, 0, 0), Access::READ), Ok(()));
        assert_eq!(
            may(&creds, &meta(libc::S_IFREG | 0o100, 0, 0), Access::EXEC),
            Err(Errno::EACCES)
        );
    }

    #[test]
    fn setgid_without_execute_survives() {
        assert_eq!(without_suid(0o6755), 0o755);
        assert_eq!(without_suid(0o6745), 0o2745);
    }
}
