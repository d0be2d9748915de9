//! diskfs: file systems of disk images, read where they are: squashfs, erofs, ext2 to ext4.
//!
//! A [`Format`] says what lies where on a [`Medium`], which is a host file or a device of the guest; what makes inodes and open
//! files of that is the same for all (`inode.rs`). Nothing is read before somebody asks for it. Blocks that were read are remembered up
//! to a number of bytes (`cache.rs`), and where each directory was found. Nothing can be written.
//!
//! An image is hostile: every number in it is checked, allocations are bounded by the format's own limits, each loop goes on
//! in one direction or is counted, and a directory in two places is refused. What is damaged is EIO.

mod cache;
mod erofs;
mod ext4;
mod fields;
mod inode;
mod squashfs;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{FileSystem, FileType, Metadata, StatFs};
use crate::kernel::stop::Errno;
use inode::Volume;

/// What an image is read from.
pub trait Medium: Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;
    /// Read all of `buf` from a position on; EIO beyond the end.
    fn read(&self, buf: &mut [u8], at: u64) -> Result<(), Errno>;
}

/// Why an image cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum BadImage {
    /// Something that is not there.
    #[error("its {format} uses {what}, which is not supported")]
    Unsupported {
        /// Kind of file system.
        format: &'static str,
        /// What is not supported.
        what: String,
    },
    /// It was not unmounted cleanly.
    #[error("its ext4 was not unmounted and its journal has to be replayed: run 'e2fsck -p' on it first")]
    Journal,
    /// What it says of itself cannot be.
    #[error("its {format} is damaged: {what}")]
    Damaged {
        /// Kind of file system.
        format: &'static str,
        /// What cannot be.
        what: &'static str,
    },
    /// Reading failed.
    #[error("reading it failed: {}", .0.desc())]
    Read(#[from] Errno),
}

impl BadImage {
    /// What mount(2) says.
    pub fn errno(&self) -> Errno {
        match self {
            BadImage::Read(errno) => *errno,
            BadImage::Journal => Errno::EROFS,
            _ => Errno::EINVAL,
        }
    }
}

/// A kind of file system that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// squashfs 4.0.
    Squashfs,
    /// erofs.
    Erofs,
    /// ext2, ext3 and ext4.
    Ext4,
}

/// What a medium holds, by the magic number of each kind.
pub fn recognise(medium: &dyn Medium) -> Result<Option<Kind>, Errno> {
    const BEHIND: u64 = 1024;
    let has = |at: u64, magic: &[u8]| -> Result<bool, Errno> {
        let mut found = [0; 4];
        let found = &mut found[..magic.len()];
        if medium.size() < at + magic.len() as u64 {
            return Ok(false);
        }
        medium.read(found, at)?;
        Ok(found == magic)
    };
    Ok(if has(0, &squashfs::MAGIC.to_le_bytes())? {
        Some(Kind::Squashfs)
    } else if has(BEHIND, &erofs::MAGIC.to_le_bytes())? {
        Some(Kind::Erofs)
    } else if has(BEHIND + ext4::MAGIC_AT as u64, &ext4::MAGIC.to_le_bytes())? {
        Some(Kind::Ext4)
    } else {
        None
    })
}

/// The file system on a medium, of this kind. Without `replayed` an ext4 whose journal has not been replayed is shown as it is.
pub fn open(
    medium: Arc<dyn Medium>,
    kind: Kind,
    dev: u64,
    replayed: bool,
) -> Result<Arc<dyn FileSystem>, BadImage> {
    Ok(match kind {
        Kind::Squashfs => Volume::start(squashfs::Squashfs::open(medium)?, dev)?,
        Kind::Erofs => Volume::start(erofs::Erofs::open(medium)?, dev)?,
        Kind::Ext4 => Volume::start(ext4::Ext4::open(medium, replayed)?, dev)?,
    })
}

/// Name and value of an extended attribute.
type Xattr = (Vec<u8>, Vec<u8>);

/// A name in a directory.
struct Entry<'a> {
    name: &'a [u8],
    /// Where the file is, by which it is also known to the guest.
    id: u64,
    kind: Option<FileType>,
    /// The place behind it, from which [`Format::list`] goes on.
    next: u64,
}

/// A kind of file as the directories of erofs and ext4 have it.
fn kind(number: u8) -> Option<FileType> {
    Some(match number {
        1 => FileType::Regular,
        2 => FileType::Directory,
        3 => FileType::CharDevice,
        4 => FileType::BlockDevice,
        5 => FileType::Fifo,
        6 => FileType::Socket,
        7 => FileType::Symlink,
        _ => return None,
    })
}

/// A part of a file's contents.
struct Part {
    /// Whether it holds data; else it is zero throughout.
    data: bool,
    /// Where it ends.
    end: u64,
}

/// How the files of an image are laid out. A file is known by where it is: two names of one place are one file, and whatever
/// an image says, one place is one file.
trait Format: Send + Sync + 'static {
    /// What is known of a file beside its attributes.
    type Node: Send + Sync + 'static;

    /// As mount(2) calls it.
    const NAME: &'static str;

    /// The root directory.
    fn root(&self) -> u64;

    /// A file's attributes (`dev` and `ino` are the caller's) and what else is known of it.
    fn node(&self, id: u64) -> Result<(Metadata, Self::Node), Errno>;

    /// The names in a directory but `.` and `..`, from a place on that was told ([`Entry::next`]; 0 is the first), until `emit` says false.
    fn list(
        &self,
        meta: &Metadata,
        node: &Self::Node,
        from: u64,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno>;

    /// The file of this name in a directory; ENOENT.
    fn find(&self, meta: &Metadata, node: &Self::Node, name: &[u8]) -> Result<u64, Errno> {
        let mut found = None;
        self.list(meta, node, 0, &mut |entry| {
            if entry.name == name {
                found = Some(entry.id);
            }
            found.is_none()
        })?;
        found.ok_or(Errno::ENOENT)
    }

    /// Fill `buf` from a position on, all of it within the file's size. What was zero stays: `buf` comes zeroed.
    fn read(&self, meta: &Metadata, node: &Self::Node, buf: &mut [u8], pos: u64) -> Result<(), Errno>;

    /// What is at a position within the file's size.
    fn part(&self, meta: &Metadata, node: &Self::Node, pos: u64) -> Result<Part, Errno> {
        let _ = (node, pos);
        Ok(Part {
            data: true,
            end: meta.size,
        })
    }

    /// Where a symbolic link leads.
    fn link(&self, meta: &Metadata, node: &Self::Node) -> Result<Vec<u8>, Errno>;

    /// Extended attributes.
    fn xattrs(&self, node: &Self::Node) -> Result<Vec<Xattr>, Errno>;

    /// statfs(2).
    fn statfs(&self) -> StatFs;
}
