//! Files: the virtual file system and its contract with file systems.
//!
//! * [`Inode`] and [`FileSystem`] are what a file system implements; they know nothing of mounts, paths or permissions.
//! * A [`Dentry`] is a name in use or remembered; a [`Path`] is a dentry in a [`Mount`]; [`walk`] finds them.
//! * [`File`] is an open file description, [`FileOps`] what it does; [`FdTable`] gives it numbers.
//! * [`Vfs`] is what all tasks share: mounts, remembered names, drivers of special files.

pub mod access;
mod anon;
mod busy;
mod context;
mod copies;
pub mod create;
mod dentry;
pub mod diskfs;
mod fdtable;
mod file;
mod grant;
pub mod hostfs;
pub mod imagefs;
mod inode;
pub mod inotify;
mod locks;
pub mod memfs;
mod mounts;
mod names;
pub mod pipe;
pub mod procfs;
pub mod pseudo;
pub mod reader;
mod special;
mod syscalls;
pub mod sysfs;
mod types;
mod vfs;
pub mod walk;

pub use anon::{AnonFs, AnonInode, AnonKind};
pub use busy::{BusyFiles, InUse, Use};
pub use context::{FsContext, Places};
pub use dentry::{Dentry, NameChange, Path};
pub use fdtable::{Fd, FdTable};
pub use file::{DirEntry, File, FileOps, FileOwner, MapRequest, OpenFlags};
pub use grant::{Grants, Ticket};
pub use inode::{CreateArgs, FileSystem, FileType, Inode, Link, Metadata, SetAttr, StatFs, TimeChange};
pub use locks::{LockOwner, LockTable, RangeLock};
pub use mounts::{Mount, MountFlags, MountTree};
pub use special::{Driver, Special, SpecialFiles, major, minor};
pub(in crate::kernel) use syscalls::dispatch;
pub use types::{FsTypes, Mounter};
pub use vfs::Vfs;

#[cfg(test)]
mod tests;
