//! Inodes and open files of any [`Format`].

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::{BadImage, Entry, Format};
use crate::kernel::fs::copies::{Copies, Original};
use crate::kernel::fs::{
    DirEntry, File, FileOps, FileSystem, FileType, Inode, Link, MapRequest, Metadata, OpenFlags, SetAttr,
    StatFs,
};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::Task;
use crate::kernel::user_memory::{CHUNK, Sink};
use crate::platform::HostFile;

/// Longest symbolic link, in bytes.
pub(super) const LINK_MAX: u64 = 4095;

/// How deep directories may be in each other: more than any path has room for.
const DEPTH_MAX: usize = 2048;

/// Largest directory that is read, in bytes: a lookup may go through all of it.
const DIRECTORY_MAX: u64 = 512 << 20;

/// Most directories of an image of which is remembered where they were found.
const PARENTS_MAX: usize = 1 << 20;

/// `.` and `..`, whose places come before those of a [`Format`].
const DOTS: usize = 2;

/// Most parts of a file that one lseek(2) looks at.
const PARTS_MAX: usize = 1 << 16;

/// An image as a file system.
pub(super) struct Volume<F: Format> {
    format: F,
    dev: u64,
    root: (Metadata, Arc<F::Node>),
    /// In which directory each directory was found: there is only one that has it.
    parents: Lock<HashMap<u64, u64>>,
    copies: Copies,
    this: Weak<Volume<F>>,
}

impl<F: Format> Volume<F> {
    /// The file system of a format, if its root is a directory.
    pub(super) fn start(format: F, dev: u64) -> Result<Arc<dyn FileSystem>, BadImage> {
        let id = format.root();
        let root = match format.node(id) {
            Ok((meta, node)) if meta.file_type() == FileType::Directory => {
                (Metadata { dev, ino: id, ..meta }, Arc::new(node))
            }
            _ => {
                return Err(BadImage::Damaged {
                    format: F::NAME,
                    what: "its root is no directory",
                });
            }
        };
        Ok(Arc::new_cyclic(|this| Volume {
            format,
            dev,
            root,
            parents: Lock::new(Rank::Leaf, HashMap::from([(id, id)])),
            copies: Copies::default(),
            this: this.clone(),
        }))
    }

    fn arc(&self) -> Arc<Volume<F>> {
        match self.this.upgrade() {
            Some(volume) => volume,
            None => unreachable!("a file system is asked through its own reference"),
        }
    }
}

impl<F: Format> FileSystem for Volume<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }

    fn root(&self) -> Arc<dyn Inode> {
        let (meta, node) = &self.root;
        Arc::new(DiskInode {
            volume: self.arc(),
            meta: *meta,
            node: node.clone(),
            parent: meta.ino,
            depth: 0,
        })
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(self.format.statfs())
    }

    fn is_read_only(&self) -> bool {
        true
    }
}

/// A file of an image.
struct DiskInode<F: Format> {
    volume: Arc<Volume<F>>,
    meta: Metadata,
    node: Arc<F::Node>,
    /// The directory that it was found in, and how deep it is.
    parent: u64,
    depth: usize,
}

impl<F: Format> DiskInode<F> {
    fn must_be(&self, kind: FileType, otherwise: Errno) -> Result<(), Errno> {
        match self.meta.file_type() == kind {
            true => Ok(()),
            false => Err(otherwise),
        }
    }

    /// ENOTDIR, or EIO for one that is larger than any can be.
    fn must_be_directory(&self) -> Result<(), Errno> {
        self.must_be(FileType::Directory, Errno::ENOTDIR)?;
        match self.meta.size > DIRECTORY_MAX {
            true => Err(Errno::EIO),
            false => Ok(()),
        }
    }

    /// Note that the directory `id` is in this one. EIO if it is in another, or above: there would be paths without number.
    fn adopt(&self, id: u64) -> Result<(), Errno> {
        let mut parents = self.volume.parents.lock();
        match parents.get(&id) {
            Some(&parent) if parent == self.meta.ino && id != self.meta.ino => return Ok(()),
            Some(_) => return Err(Errno::EIO),
            None if parents.len() >= PARENTS_MAX => return Err(Errno::ENOMEM),
            None => parents.insert(id, self.meta.ino),
        };
        Ok(())
    }

    /// Read up to `want` bytes at `pos`, within the size.
    fn read_some(&self, pos: u64, want: usize) -> Result<Vec<u8>, Errno> {
        let left = usize::try_from(self.meta.size.saturating_sub(pos)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; want.min(left)];
        if !bytes.is_empty() {
            self.volume.format.read(&self.meta, &self.node, &mut bytes, pos)?;
        }
        Ok(bytes)
    }

    /// Where data (or a hole, which the end is too) is at or behind `pos`; none if there is none.
    fn next(&self, pos: u64, data: bool) -> Result<Option<u64>, Errno> {
        let mut at = pos;
        for _ in 0..PARTS_MAX {
            if at >= self.meta.size {
                return Ok((!data).then_some(self.meta.size));
            }
            let part = self.volume.format.part(&self.meta, &self.node, at)?;
            if part.data == data {
                return Ok(Some(at));
            }
            if part.end <= at {
                return Err(Errno::EIO);
            }
            at = part.end;
        }
        // Too many to look at in one call: what was passed may count as data.
        Ok(Some(if data { at } else { self.meta.size }))
    }
}

impl<F: Format> Inode for DiskInode<F> {
    fn metadata(&self) -> Result<Metadata, Errno> {
        Ok(self.meta)
    }

    fn file_type(&self) -> FileType {
        self.meta.file_type()
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.volume.clone()
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        match self.file_type() {
            FileType::Regular | FileType::Directory => Ok(Arc::new(DiskFile(self))),
            _ => Err(Errno::ENXIO),
        }
    }

    fn set_attr(&self, _: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        self.must_be_directory()?;
        let id = self.volume.format.find(&self.meta, &self.node, name)?;
        let depth = self.depth + 1;
        if depth > DEPTH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let (meta, node) = self.volume.format.node(id)?;
        if meta.file_type() == FileType::Directory {
            self.adopt(id)?;
        }
        Ok(Arc::new(DiskInode {
            volume: self.volume.clone(),
            meta: Metadata {
                dev: self.volume.dev,
                ino: id,
                ..meta
            },
            node: Arc::new(node),
            parent: self.meta.ino,
            depth,
        }))
    }

    fn read_link(&self, _: Option<&Task>) -> Result<Link, Errno> {
        self.must_be(FileType::Symlink, Errno::EINVAL)?;
        if self.meta.size > LINK_MAX {
            return Err(Errno::EIO);
        }
        Ok(Link::Text(self.volume.format.link(&self.meta, &self.node)?))
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let all = self.volume.format.xattrs(&self.node)?;
        let found = all.into_iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or(Errno::ENODATA)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let all = self.volume.format.xattrs(&self.node)?;
        Ok(all.into_iter().map(|(name, _)| name).collect())
    }
}

/// An open file or directory.
struct DiskFile<F: Format>(Arc<DiskInode<F>>);

impl<F: Format> FileOps for DiskFile<F> {
    fn read(&self, _: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        if self.0.file_type() == FileType::Directory {
            return Err(Errno::EISDIR.into());
        }
        let mut done = 0;
        while to.remaining() > 0 {
            let want = to.remaining().min(CHUNK);
            let bytes = match self.0.read_some(*pos, want) {
                Err(_) if done > 0 => break,
                read => read?,
            };
            if bytes.is_empty() {
                break;
            }
            let put = match to.put(&bytes) {
                Err(_) if done > 0 => break,
                put => put?,
            };
            done += put;
            *pos += put as u64;
            if put < want {
                break;
            }
        }
        Ok(done)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, offset: i64, whence: i32) -> SysResult<u64> {
        let size = self.0.meta.size;
        self.0.must_be(FileType::Regular, Errno::EINVAL)?;
        let inside = u64::try_from(offset).ok().filter(|&offset| offset < size);
        let next = |data| -> Result<u64, Errno> {
            let pos = inside.ok_or(Errno::ENXIO)?;
            self.0.next(pos, data)?.ok_or(Errno::ENXIO)
        };
        Ok(match whence {
            libc::SEEK_END => size.checked_add_signed(offset).ok_or(Errno::EINVAL)?,
            libc::SEEK_DATA => next(true)?,
            libc::SEEK_HOLE => next(false)?,
            _ => return Err(Errno::EINVAL.into()),
        })
    }

    fn pollable(&self) -> bool {
        false
    }

    fn map(&self, _: &File, request: &MapRequest) -> SysResult<Arc<HostFile>> {
        if request.shared && request.write {
            return Err(Errno::EACCES.into());
        }
        self.0.must_be(FileType::Regular, Errno::ENODEV)?;
        let inode = &self.0;
        let size = inode.meta.size;
        let next_data = |pos| inode.next(pos, true);
        let read = |pos, want| inode.read_some(pos, want);
        inode.volume.copies.get(&Original {
            key: inode.meta.ino,
            size,
            next_data: &next_data,
            read: &read,
        })
    }

    fn read_dir(&self, _: &File, pos: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        let inode = &self.0;
        inode.must_be_directory()?;
        let dots: [(&[u8], u64, u64); DOTS] = [(b".", inode.meta.ino, 1), (b"..", inode.parent, 2)];
        for (name, ino, next) in dots.into_iter().skip(usize::try_from(pos).unwrap_or(DOTS)) {
            let entry = DirEntry {
                ino,
                kind: Some(FileType::Directory),
                name: name.to_vec(),
                next,
            };
            if !emit(entry) {
                return Ok(());
            }
        }
        let format = &inode.volume.format;
        let each = &mut |entry: Entry<'_>| {
            !is_name(entry.name)
                || emit(DirEntry {
                    ino: entry.id,
                    kind: entry.kind,
                    name: entry.name.to_vec(),
                    next: entry.next + DOTS as u64,
                })
        };
        let from = pos.saturating_sub(DOTS as u64);
        Ok(format.list(&inode.meta, &inode.node, from, each)?)
    }

    fn sync(&self, _: &File, _: bool) -> SysResult<()> {
        Ok(())
    }
}

/// Whether this can be a name in a directory.
fn is_name(name: &[u8]) -> bool {
    let odd = name.is_empty() || name == b"." || name == b"..";
    !odd && name.len() <= 255 && !name.iter().any(|&byte| byte == 0 || byte == b'/')
}
