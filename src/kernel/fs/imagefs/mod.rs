//! imagefs: the files of a container image, read where they are in its archives.
//!
//! A [`Tree`] says what files there are; contents are pieces of [`Blob`]s, which are host files. Nothing is ever unpacked and
//! nothing can be changed: it is the lower tree of an overlay. A file that is mapped is copied into a memfd, since pieces of
//! an archive do not begin at pages.

use std::sync::Arc;

use rustix::io::pread;

use super::copies::{Copies, Original};
use super::hostfs::io::errno;
use super::{
    DirEntry, File, FileOps, FileSystem, FileType, Inode, Link, MapRequest, Metadata, OpenFlags, SetAttr,
    StatFs,
};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::task::Task;
use crate::kernel::user_memory::{CHUNK, Sink};
use crate::platform::{HostFile, PAGE_SIZE};

mod builder;
mod frozen;
mod tree;

pub use builder::{BadEntry, Builder};
pub use tree::{Attributes, Contents, Extent, Tree, Xattr, Xattrs};
use tree::{Index, Node};

/// Where contents are: a host file that does not change.
pub type Blob = Arc<HostFile>;

/// An image as a file system.
pub struct ImageFs(Arc<Image>);

/// What all its inodes share.
struct Image {
    tree: Arc<Tree>,
    blobs: Vec<Blob>,
    dev: u64,
    copies: Copies,
}

impl ImageFs {
    /// Show a tree whose contents are in these blobs.
    pub fn new(tree: Arc<Tree>, blobs: Vec<Blob>, dev: u64) -> Arc<ImageFs> {
        Arc::new(ImageFs(Arc::new(Image {
            tree,
            blobs,
            dev,
            copies: Copies::default(),
        })))
    }
}

impl FileSystem for ImageFs {
    fn name(&self) -> &'static str {
        "imagefs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        Arc::new(ImageInode {
            image: self.0.clone(),
            index: 0,
        })
    }

    fn dev(&self) -> u64 {
        self.0.dev
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        const SQUASHFS_MAGIC: u64 = 0x7371_7368;
        Ok(StatFs {
            // There is no number for this; programs know squashfs as what cannot be written.
            magic: SQUASHFS_MAGIC,
            bsize: PAGE_SIZE,
            blocks: self.0.tree.size.div_ceil(PAGE_SIZE),
            files: self.0.tree.nodes.len() as u64,
            namelen: 255,
            ..StatFs::default()
        })
    }
}

impl Image {
    fn node(&self, index: Index) -> Result<&Node, Errno> {
        self.tree.node(index).ok_or(Errno::ESTALE)
    }

    /// Read up to `want` bytes of a file at `pos`, within its size.
    fn read(&self, contents: &Contents, pos: u64, want: usize) -> Result<Vec<u8>, Errno> {
        let (blob, size) = match contents {
            Contents::Whole { blob, size, .. } | Contents::Sparse { blob, size, .. } => (*blob, *size),
            _ => return Ok(Vec::new()),
        };
        let blob = self.blobs.get(blob as usize).ok_or(Errno::EIO)?;
        let want = usize::try_from(size.saturating_sub(pos))
            .unwrap_or(want)
            .min(want);
        let mut bytes = vec![0; want];
        let end = pos + want as u64;
        let mut fill = |piece: &Extent| -> Result<(), Errno> {
            let (from, to) = (piece.at.max(pos), piece.at.saturating_add(piece.len).min(end));
            if from < to {
                let at = piece.offset.checked_add(from - piece.at).ok_or(Errno::EIO)?;
                let range = (from - pos) as usize..(to - pos) as usize;
                read_exact(blob, &mut bytes[range], at)?;
            }
            Ok(())
        };
        match contents {
            Contents::Whole { offset, size, .. } => fill(&Extent {
                at: 0,
                offset: *offset,
                len: *size,
            })?,
            Contents::Sparse { extents, .. } => {
                let first = extents.partition_point(|piece| piece.at.saturating_add(piece.len) <= pos);
                for piece in extents.iter().skip(first).take_while(|piece| piece.at < end) {
                    fill(piece)?;
                }
            }
            _ => {}
        }
        Ok(bytes)
    }
}

/// A blob that ends too early has been cut since it was indexed.
fn read_exact(blob: &HostFile, mut buf: &mut [u8], mut at: u64) -> Result<(), Errno> {
    while !buf.is_empty() {
        match pread(blob, &mut *buf, at).map_err(errno)? {
            0 => return Err(Errno::EIO),
            n => {
                buf = &mut buf[n..];
                at += n as u64;
            }
        }
    }
    Ok(())
}

fn size_of(contents: &Contents) -> u64 {
    match contents {
        Contents::Whole { size, .. } | Contents::Sparse { size, .. } => *size,
        Contents::Link(text) => text.len() as u64,
        Contents::None | Contents::Device(_) => 0,
    }
}

/// Where data is at or behind `pos`; none if there is none.
fn next_data(contents: &Contents, pos: u64) -> Option<u64> {
    match contents {
        Contents::Whole { size, .. } => (pos < *size).then_some(pos),
        Contents::Sparse { extents, .. } => {
            let first = extents.partition_point(|piece| piece.at.saturating_add(piece.len) <= pos);
            extents.get(first).map(|piece| piece.at.max(pos))
        }
        _ => None,
    }
}

/// Where a hole is at or behind `pos`, which is inside the file; the file's end is one.
fn next_hole(contents: &Contents, mut pos: u64) -> u64 {
    let size = size_of(contents);
    if !matches!(contents, Contents::Sparse { .. }) {
        return size;
    }
    if let Contents::Sparse { extents, .. } = contents {
        let first = extents.partition_point(|piece| piece.at.saturating_add(piece.len) <= pos);
        for piece in extents.iter().skip(first) {
            if piece.at > pos {
                break;
            }
            pos = piece.at.saturating_add(piece.len);
        }
    }
    pos.min(size)
}

/// A file of an image.
struct ImageInode {
    image: Arc<Image>,
    index: Index,
}

impl ImageInode {
    fn node(&self) -> Result<&Node, Errno> {
        self.image.node(self.index)
    }

    fn xattr(&self, name: &[u8]) -> Result<Option<&[u8]>, Errno> {
        let all = self.node()?.xattrs.as_deref();
        let found = all.and_then(|all| all.iter().find(|(n, _)| **n == *name));
        Ok(found.map(|(_, value)| &**value))
    }
}

/// Inode number of a file.
fn ino(index: Index) -> u64 {
    u64::from(index) + 1
}

impl Inode for ImageInode {
    fn metadata(&self) -> Result<Metadata, Errno> {
        let node = self.node()?;
        let data: u64 = match &node.contents {
            Contents::Sparse { extents, .. } => extents.iter().map(|piece| piece.len).sum(),
            Contents::Whole { size, .. } => *size,
            _ => 0,
        };
        let time = node.attributes.mtime;
        Ok(Metadata {
            dev: self.image.dev,
            ino: ino(self.index),
            mode: node.attributes.mode,
            nlink: node.nlink,
            uid: node.attributes.uid,
            gid: node.attributes.gid,
            rdev: match node.contents {
                Contents::Device(rdev) => rdev,
                _ => 0,
            },
            size: match node.kind() {
                FileType::Directory => PAGE_SIZE,
                _ => size_of(&node.contents),
            },
            blksize: 4096,
            blocks: data.div_ceil(PAGE_SIZE) * (PAGE_SIZE / 512),
            atime: time,
            mtime: time,
            ctime: time,
            btime: None,
        })
    }

    fn file_type(&self) -> FileType {
        self.node().map_or(FileType::Regular, Node::kind)
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        Arc::new(ImageFs(self.image.clone()))
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        match self.file_type() {
            FileType::Regular | FileType::Directory => Ok(Arc::new(ImageFile(self))),
            _ => Err(Errno::ENXIO),
        }
    }

    fn set_attr(&self, _change: &SetAttr) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let node = self.node()?;
        if node.kind() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let index = self.image.tree.find(node, name).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(ImageInode {
            image: self.image.clone(),
            index,
        }))
    }

    fn read_link(&self, _task: Option<&Task>) -> Result<Link, Errno> {
        match &self.node()?.contents {
            Contents::Link(text) => Ok(Link::Text(text.to_vec())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        Ok(self.xattr(name)?.ok_or(Errno::ENODATA)?.to_vec())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let all = self.node()?.xattrs.as_deref();
        Ok(all.into_iter().flatten().map(|(name, _)| name.to_vec()).collect())
    }
}

/// An open file or directory.
struct ImageFile(Arc<ImageInode>);

impl FileOps for ImageFile {
    fn read(&self, _file: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let node = self.0.node()?;
        if node.kind() == FileType::Directory {
            return Err(Errno::EISDIR.into());
        }
        let mut done = 0;
        while to.remaining() > 0 {
            let want = to.remaining().min(CHUNK);
            let bytes = match self.0.image.read(&node.contents, *pos, want) {
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

    fn seek(&self, _file: &File, offset: i64, whence: i32) -> SysResult<u64> {
        let node = self.0.node()?;
        if node.kind() == FileType::Directory {
            return Err(Errno::EINVAL.into());
        }
        let size = size_of(&node.contents);
        let inside = u64::try_from(offset).ok().filter(|&offset| offset < size);
        Ok(match whence {
            libc::SEEK_END => size.checked_add_signed(offset).ok_or(Errno::EINVAL)?,
            libc::SEEK_DATA => inside
                .and_then(|pos| next_data(&node.contents, pos))
                .ok_or(Errno::ENXIO)?,
            libc::SEEK_HOLE => next_hole(&node.contents, inside.ok_or(Errno::ENXIO)?),
            _ => return Err(Errno::EINVAL.into()),
        })
    }

    fn pollable(&self) -> bool {
        false
    }

    fn map(&self, _file: &File, request: &MapRequest) -> SysResult<Arc<HostFile>> {
        if request.shared && request.write {
            return Err(Errno::EACCES.into());
        }
        if self.0.file_type() != FileType::Regular {
            return Err(Errno::ENODEV.into());
        }
        let image = &self.0.image;
        let contents = &self.0.node()?.contents;
        let next_data = |pos| Ok(next_data(contents, pos));
        let read = |pos, want| image.read(contents, pos, want);
        image.copies.get(&Original {
            key: u64::from(self.0.index),
            size: size_of(contents),
            next_data: &next_data,
            read: &read,
        })
    }

    fn read_dir(&self, _file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        let node = self.0.node()?;
        if node.kind() != FileType::Directory {
            return Err(Errno::ENOTDIR.into());
        }
        let tree = &self.0.image.tree;
        let dots: [(&[u8], Index); 2] = [(b".", self.0.index), (b"..", node.parent)];
        for at in pos.. {
            let found = match usize::try_from(at).map_err(|_| Errno::EINVAL)? {
                dot @ 0..=1 => Some(dots[dot]),
                at => tree.entry(node, at - 2),
            };
            let Some((name, index)) = found else { break };
            let entry = DirEntry {
                ino: ino(index),
                kind: tree.node(index).map(Node::kind),
                name: name.to_vec(),
                next: at + 1,
            };
            if !emit(entry) {
                break;
            }
        }
        Ok(())
    }

    fn sync(&self, _file: &File, _data_only: bool) -> SysResult<()> {
        Ok(())
    }
}
