//! devpts: a directory with a node for each pseudo-terminal, and ptmx.

use std::sync::{Arc, Weak};

use super::{PTS_MAJOR, Tty};
use crate::kernel::Kernel;
use crate::kernel::fs::{
    DirEntry, File, FileOps, FileSystem, FileType, Inode, Metadata, OpenFlags, SetAttr, StatFs,
};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::time::Timestamp;

const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;
/// Inode number of node 0, as on Linux.
const FIRST_INO: u64 = 3;

/// The file system.
pub struct DevPts {
    kernel: Weak<Kernel>,
    dev: u64,
    since: Timestamp,
    this: Weak<DevPts>,
}

struct Root(Arc<DevPts>);
struct Ptmx(Arc<DevPts>);
struct Node {
    fs: Arc<DevPts>,
    tty: Arc<Tty>,
}

impl DevPts {
    /// The terminals of `kernel` as a file system with device number `dev`.
    pub fn new(kernel: &Arc<Kernel>, dev: u64) -> Arc<DevPts> {
        let since = kernel.clock.realtime();
        Arc::new_cyclic(|this| DevPts {
            kernel: Arc::downgrade(kernel),
            dev,
            since,
            this: this.clone(),
        })
    }

    fn metadata(&self, ino: u64, mode: u32, nlink: u32, rdev: u64) -> Metadata {
        Metadata {
            dev: self.dev,
            ino,
            mode,
            nlink,
            uid: 0,
            gid: 0,
            rdev,
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: self.since,
            mtime: self.since,
            ctime: self.since,
            btime: None,
        }
    }
}

impl FileSystem for DevPts {
    fn name(&self) -> &'static str {
        "devpts"
    }

    fn root(&self) -> Arc<dyn Inode> {
        match self.this.upgrade() {
            Some(fs) => Arc::new(Root(fs)),
            None => unreachable!("a file system is asked through its own reference"),
        }
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs {
            magic: 0x1cd1,
            bsize: 4096,
            namelen: 255,
            ..StatFs::default()
        })
    }

    fn options(&self) -> String {
        ",gid=5,mode=620,ptmxmode=666".to_owned()
    }
}

impl Inode for Root {
    fn metadata(&self) -> Result<Metadata, Errno> {
        Ok(self.0.metadata(ROOT_INO, libc::S_IFDIR | 0o755, 2, 0))
    }

    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.0.clone()
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Ok(Arc::new(OpenRoot(self.0.clone())))
    }

    fn set_attr(&self, _: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EPERM)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        if name == b"ptmx" {
            return Ok(Arc::new(Ptmx(self.0.clone())));
        }
        let text = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let index: u32 = text.parse().map_err(|_| Errno::ENOENT)?;
        if index.to_string() != text {
            return Err(Errno::ENOENT);
        }
        let kernel = self.0.kernel.upgrade().ok_or(Errno::ENOENT)?;
        let tty = kernel.terminals.pty(index).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(Node {
            fs: self.0.clone(),
            tty,
        }))
    }

    fn cacheable(&self) -> bool {
        false
    }
}

struct OpenRoot(Arc<DevPts>);

impl FileOps for OpenRoot {
    fn seekable(&self) -> bool {
        true
    }

    fn pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, _: &File, pos: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        let directory = Some(FileType::Directory);
        let device = Some(FileType::CharDevice);
        // A node's place is its number's, so that it stays when another one goes.
        let mut entries: Vec<(u64, u64, Option<FileType>, Vec<u8>)> = vec![
            (0, ROOT_INO, directory, b".".to_vec()),
            (1, ROOT_INO, directory, b"..".to_vec()),
            (2, PTMX_INO, device, b"ptmx".to_vec()),
        ];
        let indexes = self
            .0
            .kernel
            .upgrade()
            .map(|k| k.terminals.indexes())
            .unwrap_or_default();
        entries.extend(indexes.into_iter().map(|i| {
            let ino = FIRST_INO + u64::from(i);
            (ino, ino, device, i.to_string().into_bytes())
        }));
        for (place, ino, kind, name) in entries {
            let entry = DirEntry {
                ino,
                kind,
                name,
                next: place + 1,
            };
            if place >= pos && !emit(entry) {
                break;
            }
        }
        Ok(())
    }
}

impl Inode for Ptmx {
    fn metadata(&self) -> Result<Metadata, Errno> {
        Ok(self
            .0
            .metadata(PTMX_INO, libc::S_IFCHR | 0o666, 1, libc::makedev(5, 2)))
    }

    fn file_type(&self) -> FileType {
        FileType::CharDevice
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.0.clone()
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }

    fn set_attr(&self, _: &SetAttr) -> Result<(), Errno> {
        Ok(())
    }
}

impl Inode for Node {
    fn metadata(&self) -> Result<Metadata, Errno> {
        let index = self.tty.index;
        let rdev = libc::makedev(PTS_MAJOR, index);
        let node = self.tty.state.lock().node;
        let base = self
            .fs
            .metadata(FIRST_INO + u64::from(index), libc::S_IFCHR | node.mode, 1, rdev);
        let now = node.since;
        Ok(Metadata {
            uid: node.uid,
            gid: node.gid,
            atime: now,
            mtime: now,
            ctime: now,
            ..base
        })
    }

    fn file_type(&self) -> FileType {
        FileType::CharDevice
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        Err(Errno::ENXIO)
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        let mut state = self.tty.state.lock();
        let node = &mut state.node;
        node.mode = change.mode.unwrap_or(node.mode);
        node.uid = change.uid.unwrap_or(node.uid);
        node.gid = change.gid.unwrap_or(node.gid);
        Ok(())
    }
}
