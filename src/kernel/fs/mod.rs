//! Files: the virtual file system and its contract with file systems.
//!
//! * [`Inode`] and [`FileSystem`] are what a file system implements; they know nothing of mounts, paths or permissions.
//! * A [`dentry::Dentry`] caches a name; a [`Path`] is a dentry in a mount.
//! * [`File`] is an open file description, [`FileOps`] what it does; [`FdTable`] gives it numbers.

mod context;
mod dentry;
mod fdtable;
mod file;
mod inode;

pub use context::FsContext;
pub use dentry::{Dentry, Mount, MountFlags, Path};
pub use fdtable::{Fd, FdTable};
pub use file::{DirEntry, File, FileOps, MapRequest, OpenFlags};
pub use inode::{CreateArgs, FileSystem, FileType, Inode, Link, Metadata, SetAttr, StatFs, TimeChange};
