//! What a file system implements.

use std::any::Any;
use std::sync::Arc;

use super::{FileOps, OpenFlags, Path};
use crate::kernel::stop::Errno;
use crate::kernel::task::Task;
use crate::kernel::time::Timestamp;

/// The type bits of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FileType {
    Fifo,
    CharDevice,
    Directory,
    BlockDevice,
    Regular,
    Symlink,
    Socket,
}

impl FileType {
    /// From the S_IFMT bits of a mode.
    pub fn from_mode(mode: u32) -> Option<FileType> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFIFO => FileType::Fifo,
            libc::S_IFCHR => FileType::CharDevice,
            libc::S_IFDIR => FileType::Directory,
            libc::S_IFBLK => FileType::BlockDevice,
            libc::S_IFREG => FileType::Regular,
            libc::S_IFLNK => FileType::Symlink,
            libc::S_IFSOCK => FileType::Socket,
            _ => return None,
        })
    }

    /// The S_IFMT bits.
    pub fn mode(self) -> u32 {
        match self {
            FileType::Fifo => libc::S_IFIFO,
            FileType::CharDevice => libc::S_IFCHR,
            FileType::Directory => libc::S_IFDIR,
            FileType::BlockDevice => libc::S_IFBLK,
            FileType::Regular => libc::S_IFREG,
            FileType::Symlink => libc::S_IFLNK,
            FileType::Socket => libc::S_IFSOCK,
        }
    }

    /// `d_type` of getdents64(2).
    pub fn dirent(self) -> u8 {
        u8::try_from(self.mode() >> 12).unwrap_or_default()
    }
}

/// What stat(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Device of the file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// 512-byte blocks in use.
    pub blocks: u64,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of contents.
    pub mtime: Timestamp,
    /// Last change of attributes.
    pub ctime: Timestamp,
    /// Birth, where known.
    pub btime: Option<Timestamp>,
}

impl Metadata {
    /// The type bits of the mode.
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Regular)
    }
}

/// A new time for [`SetAttr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeChange {
    /// The clock's present time (UTIME_NOW).
    Now,
    /// This time.
    To(Timestamp),
}

/// Attributes to change; permission was checked by the VFS. The change time moves with every change.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct SetAttr {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Truncate or extend; for regular files.
    pub size: Option<u64>,
    pub atime: Option<TimeChange>,
    pub mtime: Option<TimeChange>,
}

/// Attributes of a new inode, as the VFS has worked them out (umask, setgid directory).
#[derive(Clone, Copy, Debug)]
pub struct CreateArgs {
    /// Type and permission bits: any type but a symbolic link.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, for device nodes.
    pub rdev: u64,
}

/// Where a symbolic link leads.
#[derive(Clone)]
pub enum Link {
    /// A path to walk.
    Text(Vec<u8>),
    /// Straight to an object, as /proc/PID/fd/N does; readlink(2) shows the path's name.
    Jump(Path),
}

/// statfs(2) of a file system, in units of `bsize`.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct StatFs {
    pub magic: u64,
    pub bsize: u64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub namelen: u64,
}

/// One instance of a file system.
pub trait FileSystem: Send + Sync {
    /// Type name as in /proc/mounts.
    fn name(&self) -> &'static str;
    /// Its root directory.
    fn root(&self) -> Arc<dyn Inode>;
    /// Device number of its files.
    fn dev(&self) -> u64;
    /// statfs(2).
    fn statfs(&self) -> Result<StatFs, Errno>;
    /// Whether nothing can ever be written to it.
    fn is_read_only(&self) -> bool {
        false
    }
    /// Options for /proc/mounts, beginning with a comma when not empty.
    fn options(&self) -> String {
        String::new()
    }
    /// syncfs(2).
    fn sync(&self) -> Result<(), Errno> {
        Ok(())
    }
}

/// A file, directory, link or node of a file system.
///
/// Names are single components, never empty, `.` or `..`, never holding a slash or a zero; at most 255 bytes. Permission
/// and mount flags were checked by the VFS, which also holds no lock while it calls. An operation that a kind of inode
/// does not have keeps the default: ENOTDIR for names in what is no directory, EPERM or EINVAL otherwise.
pub trait Inode: Send + Sync + Any {
    /// stat(2).
    fn metadata(&self) -> Result<Metadata, Errno>;

    /// The kind of inode, which never changes.
    fn file_type(&self) -> FileType;

    /// The file system it belongs to.
    fn fs(&self) -> Arc<dyn FileSystem>;

    /// Open a regular file or directory, or anything else that needs no device or pipe behind it.
    /// Devices, FIFOs and sockets are opened by the VFS and do not come here.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno>;

    /// Change attributes.
    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno>;

    /// Contents or owner are about to change: take capabilities (security.capability) away, where the host does not do that.
    fn drop_capabilities(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Nobody has it open for writing, and it is going to be executed: see that nobody writes it all the same.
    fn keep_from_writing(&self) -> Result<(), Errno> {
        Ok(())
    }

    /// Find a name. ENOENT when there is none.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let _ = name;
        Err(Errno::ENOTDIR)
    }

    /// Whether the VFS may remember what [`Inode::lookup`] (also a failed one) of this directory said until it changes
    /// the directory itself. False where names come and go by themselves (procfs, shared host directories).
    fn cacheable(&self) -> bool {
        true
    }

    /// Make a file, directory or node. EEXIST when the name is taken.
    fn create(&self, name: &[u8], args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        let _ = (name, args);
        Err(Errno::EPERM)
    }

    /// Make an inode without a name (O_TMPFILE). EOPNOTSUPP when the file system cannot.
    fn create_unnamed(&self, args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        let _ = args;
        Err(Errno::EOPNOTSUPP)
    }

    /// Make a symbolic link.
    fn symlink(&self, name: &[u8], target: &[u8], args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        let _ = (name, target, args);
        Err(Errno::EPERM)
    }

    /// Give an inode of the same file system one more name.
    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> Result<(), Errno> {
        let _ = (name, inode);
        Err(Errno::EPERM)
    }

    /// Remove a name; `directory` says which of unlink(2) and rmdir(2) it is. ENOTEMPTY, EISDIR, ENOTDIR as there.
    fn unlink(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        let _ = (name, directory);
        Err(Errno::EPERM)
    }

    /// Move `name` to `new_name` in `new_dir` of the same file system, replacing what is there, atomically.
    /// `flags` of renameat2(2): RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT.
    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        let _ = (name, new_dir, new_name, flags);
        Err(Errno::EPERM)
    }

    /// Where a symbolic link leads, for the task that follows it (none while the guest is being built).
    fn read_link(&self, task: Option<&Task>) -> Result<Link, Errno> {
        let _ = task;
        Err(Errno::EINVAL)
    }

    /// Value of an extended attribute; ENODATA, EOPNOTSUPP.
    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let _ = name;
        Err(Errno::EOPNOTSUPP)
    }

    /// Set an extended attribute; `flags` of setxattr(2).
    fn set_xattr(&self, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
        let _ = (name, value, flags);
        Err(Errno::EOPNOTSUPP)
    }

    /// Names of the extended attributes.
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        Ok(Vec::new())
    }

    /// Remove an extended attribute.
    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        let _ = name;
        Err(Errno::EOPNOTSUPP)
    }
}
