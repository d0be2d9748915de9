//! Inodes of objects that have no name in any directory: pipes, sockets, epoll and the like.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Dentry, File, FileOps, FileSystem, FileType, Inode, Metadata, Mount, OpenFlags, Path, SetAttr, StatFs,
    TimeChange,
};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::Creds;
use crate::kernel::time::{Clock, Timestamp};

/// Device number of anonymous objects, which on Linux are in one of several invisible file systems.
const ANON_DEV: u64 = 15;

/// What an anonymous object is, as stat(2) and /proc/PID/fd tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnonKind {
    /// A FIFO named `pipe:[N]`.
    Pipe,
    /// A socket named `socket:[N]`.
    Socket,
    /// Neither, and named `anon_inode:` and this: `[eventpoll]`, `[eventfd]`, `inotify`.
    Other(&'static str),
}

/// The invisible file system of anonymous objects.
pub struct AnonFs {
    next_ino: AtomicU64,
    mount: Lock<Option<Arc<Mount>>>,
}

impl AnonFs {
    pub(in crate::kernel) fn new() -> Arc<AnonFs> {
        Arc::new(AnonFs {
            next_ino: AtomicU64::new(1000),
            mount: Lock::new(Rank::Leaf, None),
        })
    }

    /// An open file for an object, with an inode of its own. `object` is what a reopened descriptor finds again by
    /// [`AnonInode::object_as`].
    pub fn file(
        self: &Arc<Self>,
        clock: &Clock,
        creds: &Creds,
        kind: AnonKind,
        ops: Arc<dyn FileOps>,
        flags: OpenFlags,
    ) -> Arc<File> {
        let inode = self.inode(clock, creds, kind, None);
        self.file_of(&inode, ops, flags)
    }

    /// An open file for an inode that [`AnonFs::inode`] made: a pipe has two for one.
    pub fn file_of(&self, inode: &Arc<AnonInode>, ops: Arc<dyn FileOps>, flags: OpenFlags) -> Arc<File> {
        File::anonymous(ops, inode.name(), inode.clone(), flags)
    }

    /// A new inode.
    pub fn inode(
        self: &Arc<Self>,
        clock: &Clock,
        creds: &Creds,
        kind: AnonKind,
        object: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Arc<AnonInode> {
        let now = clock.realtime();
        let mode = match kind {
            AnonKind::Pipe => libc::S_IFIFO | 0o600,
            AnonKind::Socket => libc::S_IFSOCK | 0o777,
            AnonKind::Other(_) => 0o600,
        };
        Arc::new(AnonInode {
            fs: self.clone(),
            kind,
            ino: self.next_ino.fetch_add(1, Ordering::Relaxed),
            object,
            attributes: Lock::new(
                Rank::Inode,
                Attributes {
                    mode,
                    uid: creds.fsuid,
                    gid: creds.fsgid,
                    time: now,
                },
            ),
        })
    }

    /// A path for an anonymous file, through which /proc/PID/fd/N reaches it.
    pub fn path_of(self: &Arc<Self>, file: &File) -> Path {
        let known = self.mount.lock().clone();
        let mount = known.unwrap_or_else(|| {
            let fs: Arc<dyn FileSystem> = self.clone();
            let made = Mount::detached(fs, b"none");
            self.mount.lock().get_or_insert(made).clone()
        });
        Path {
            mount,
            dentry: Dentry::anonymous(file.inode.clone(), file.anon_name.clone().into_bytes()),
        }
    }
}

impl FileSystem for AnonFs {
    fn name(&self) -> &'static str {
        "anon_inodefs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(AnonRoot)
    }

    fn dev(&self) -> u64 {
        ANON_DEV
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs {
            magic: 0x0904_1934,
            bsize: 4096,
            namelen: 255,
            ..StatFs::default()
        })
    }
}

/// The root that nobody can reach.
struct AnonRoot;

impl Inode for AnonRoot {
    fn metadata(&self) -> Result<Metadata, Errno> {
        Err(Errno::ENOENT)
    }

    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        AnonFs::new()
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }

    fn set_attr(&self, _: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }
}

/// The inode of an anonymous object.
pub struct AnonInode {
    fs: Arc<AnonFs>,
    /// What it is.
    pub kind: AnonKind,
    /// Its number.
    pub ino: u64,
    object: Option<Arc<dyn Any + Send + Sync>>,
    attributes: Lock<Attributes>,
}

struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    time: Timestamp,
}

impl AnonInode {
    /// What /proc/PID/fd shows.
    pub fn name(&self) -> String {
        match self.kind {
            AnonKind::Pipe => format!("pipe:[{}]", self.ino),
            AnonKind::Socket => format!("socket:[{}]", self.ino),
            AnonKind::Other(name) => format!("anon_inode:{name}"),
        }
    }

    /// The object behind it, for who reopens it.
    pub fn object_as<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.object.clone()?.downcast().ok()
    }
}

impl Inode for AnonInode {
    fn metadata(&self) -> Result<Metadata, Errno> {
        let attributes = self.attributes.lock();
        Ok(Metadata {
            dev: ANON_DEV,
            ino: self.ino,
            mode: attributes.mode,
            nlink: 1,
            uid: attributes.uid,
            gid: attributes.gid,
            rdev: 0,
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: attributes.time,
            mtime: attributes.time,
            ctime: attributes.time,
            btime: None,
        })
    }

    fn file_type(&self) -> FileType {
        match self.kind {
            AnonKind::Pipe => FileType::Fifo,
            AnonKind::Socket => FileType::Socket,
            AnonKind::Other(_) => FileType::Regular,
        }
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        if change.size.is_some() {
            return Err(Errno::EINVAL);
        }
        if matches!(self.kind, AnonKind::Other(_)) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut attributes = self.attributes.lock();
        if let Some(mode) = change.mode {
            attributes.mode = (attributes.mode & libc::S_IFMT) | (mode & 0o7777);
        }
        attributes.uid = change.uid.unwrap_or(attributes.uid);
        attributes.gid = change.gid.unwrap_or(attributes.gid);
        if let Some(TimeChange::To(time)) = change.mtime {
            attributes.time = time;
        }
        Ok(())
    }
}
