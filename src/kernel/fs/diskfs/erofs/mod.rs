//! erofs: contents in whole blocks, in chunks, behind the inode, or compressed by LZ4.

mod compressed;
mod directory;
mod index;
mod lz4;
mod xattr;

use std::sync::Arc;

use super::cache::{Blocks, Cache};
use super::fields::{Fields, device};
use super::inode::LINK_MAX;
use super::{BadImage, Entry, Format, Medium, Part, Xattr};
use crate::kernel::fs::{FileType, Metadata, StatFs};
use crate::kernel::stop::Errno;
use crate::kernel::time::Timestamp;
use index::Index;

/// First word of the superblock.
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;

/// Where the superblock is, in bytes.
const SUPERBLOCK: u64 = 1024;

/// Size of the smaller kind of inode and the unit of their numbers, in bytes.
const INODE: u64 = 32;

/// Most bytes of unpacked contents that are remembered.
const DATA_MAX: usize = 16 << 20;

/// Features that change what must be understood.
mod feature {
    pub(super) const ZERO_PADDING: u32 = 0x1;
    pub(super) const BIG_CLUSTERS: u32 = 0x2;
    pub(super) const CHUNKS: u32 = 0x4;
    pub(super) const SECOND_HEAD: u32 = 0x8;
    /// What is understood, and what the rest is called.
    pub(super) const KNOWN: u32 = ZERO_PADDING | BIG_CLUSTERS | CHUNKS | SECOND_HEAD;
    pub(super) const OTHERS: [(u32, &str); 5] = [
        (0x10, "packed tails of compressed files (ztailpacking)"),
        (0x20, "fragments or deduplication"),
        (0x40, "long prefixes of extended attributes"),
        (0x80, "48-bit addresses"),
        (0x100, "compressed metadata"),
    ];
}

/// An erofs.
pub(super) struct Erofs {
    blocks: Blocks,
    block_bits: u8,
    root: u64,
    inodes: u64,
    count: u32,
    /// Time of all inodes that have none of their own.
    built: Timestamp,
    meta_start: u64,
    xattr_start: u64,
    /// Whether compressed blocks are filled up in front.
    zero_padding: bool,
    /// Whether what is said before an index without packs counts.
    big_clusters: bool,
    unpacked: Cache<Vec<u8>>,
}

/// What is known of a file beside its attributes.
pub(super) struct Node {
    layout: Layout,
    /// Where its extended attributes are, and how many words they take.
    xattrs: (u64, u16),
}

enum Layout {
    /// In blocks from here on; what the last one would hold may be behind the inode.
    Flat { start: u64, tail: Option<Tail> },
    /// In chunks of so many bits, which are listed at `table`, in rows of 4 or 8 bytes.
    Chunks { bits: u32, table: u64, row: u64 },
    /// Compressed.
    Compressed(Index),
    /// It has none.
    None,
}

/// The end of a file, behind its inode.
struct Tail {
    /// Where it is in the file.
    from: u64,
    at: u64,
}

fn damaged(what: &'static str) -> BadImage {
    BadImage::Damaged {
        format: Erofs::NAME,
        what,
    }
}

fn unsupported(what: impl Into<String>) -> BadImage {
    BadImage::Unsupported {
        format: Erofs::NAME,
        what: what.into(),
    }
}

impl Erofs {
    /// Read the superblock.
    pub(super) fn open(medium: Arc<dyn Medium>) -> Result<Erofs, BadImage> {
        let mut bytes = [0; 128];
        if medium.size() < SUPERBLOCK + bytes.len() as u64 {
            return Err(damaged("it is cut short"));
        }
        medium.read(&mut bytes, SUPERBLOCK)?;
        let fields = Fields(&bytes);
        let features = fields.u32(80)?;
        for (bit, what) in feature::OTHERS {
            if features & bit != 0 {
                return Err(unsupported(what));
            }
        }
        if features & !feature::KNOWN & !0x1f0 != 0 {
            return Err(unsupported(format!("features {features:#x}")));
        }
        if fields.u16(86)? != 0 {
            return Err(unsupported("other devices for contents"));
        }
        // With big clusters this lists the algorithms, else it is a distance of LZ4's.
        if features & feature::BIG_CLUSTERS != 0 && fields.u16(84)? & !1 != 0 {
            return Err(unsupported("compression other than LZ4"));
        }
        let block_bits = fields.u8(12)?;
        if !(9..=16).contains(&block_bits) {
            return Err(damaged("its block size is none that there is"));
        }
        if fields.u8(90)? != 0 {
            return Err(unsupported("directories of other block sizes"));
        }
        Ok(Erofs {
            blocks: Blocks::new(medium),
            block_bits,
            root: u64::from(fields.u16(14)?),
            inodes: fields.u64(16)?,
            count: fields.u32(36)?,
            built: time(fields.u64(24)?, fields.u32(32)?),
            meta_start: u64::from(fields.u32(40)?) << block_bits,
            xattr_start: u64::from(fields.u32(44)?) << block_bits,
            zero_padding: features & feature::ZERO_PADDING != 0,
            big_clusters: features & feature::BIG_CLUSTERS != 0,
            unpacked: Cache::new(DATA_MAX),
        })
    }

    fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    /// Where a block of this number is.
    fn block_at(&self, number: u32) -> u64 {
        u64::from(number) << self.block_bits
    }

    /// Size, owner, group, number of names and time of an inode.
    fn attributes(&self, inode: Fields<'_>, long: bool) -> Result<(u64, u32, u32, u32, Timestamp), Errno> {
        Ok(match long {
            false => (
                u64::from(inode.u32(8)?),
                u32::from(inode.u16(24)?),
                u32::from(inode.u16(26)?),
                u32::from(inode.u16(6)?),
                self.built,
            ),
            true => (
                inode.u64(8)?,
                inode.u32(24)?,
                inode.u32(28)?,
                inode.u32(44)?,
                time(inode.u64(32)?, inode.u32(40)?),
            ),
        })
    }

    fn layout(&self, format: u16, union: u32, meta: &Metadata, behind: u64) -> Result<Layout, Errno> {
        if !matches!(
            meta.file_type(),
            FileType::Regular | FileType::Directory | FileType::Symlink
        ) {
            return Ok(Layout::None);
        }
        Ok(match (format >> 1) & 7 {
            0 => Layout::Flat {
                start: self.block_at(union),
                tail: None,
            },
            2 => {
                let from = meta.size.saturating_sub(1) & !(self.block_size() - 1);
                Layout::Flat {
                    start: self.block_at(union),
                    tail: Some(Tail { from, at: behind }),
                }
            }
            4 => {
                const WITH_DEVICE: u32 = 0x20;
                let bits = u32::from(self.block_bits) + (union & 0x1f);
                let row: u64 = if union & WITH_DEVICE != 0 { 8 } else { 4 };
                let table = behind.next_multiple_of(row);
                Layout::Chunks { bits, table, row }
            }
            1 => Layout::Compressed(Index::open(self, behind, meta.size, false)?),
            3 => Layout::Compressed(Index::open(self, behind, meta.size, true)?),
            _ => return Err(Errno::EOPNOTSUPP),
        })
    }

    /// Where the contents at a position are, and where that ends; without a place they are zero.
    fn find(&self, meta: &Metadata, layout: &Layout, pos: u64) -> Result<(Option<u64>, u64), Errno> {
        match layout {
            Layout::Flat { start, tail } => match tail {
                Some(tail) if pos >= tail.from => Ok((tail.at.checked_add(pos - tail.from), meta.size)),
                Some(tail) => Ok((start.checked_add(pos), tail.from)),
                None => Ok((start.checked_add(pos), meta.size)),
            },
            Layout::Chunks { bits, table, row } => {
                let number = pos >> bits;
                let at = number.checked_mul(*row).and_then(|skip| table.checked_add(skip));
                let bytes = self.blocks.bytes(at.ok_or(Errno::EIO)?, *row as usize)?;
                let block = Fields(&bytes).u32(if *row == 8 { 4 } else { 0 })?;
                let begin = number << bits;
                let end = begin.saturating_add(1 << bits).min(meta.size);
                let place = match block {
                    u32::MAX => None,
                    block => Some(self.block_at(block) + (pos - begin)),
                };
                Ok((place, end))
            }
            _ => Err(Errno::EIO),
        }
    }
}

fn time(sec: u64, nsec: u32) -> Timestamp {
    Timestamp {
        sec: sec.cast_signed(),
        nsec: nsec.min(999_999_999),
    }
}

impl Format for Erofs {
    type Node = Node;

    const NAME: &'static str = "erofs";

    fn root(&self) -> u64 {
        self.root
    }

    fn node(&self, id: u64) -> Result<(Metadata, Node), Errno> {
        if id >> 48 != 0 {
            return Err(Errno::EIO);
        }
        let at = self.meta_start + id * INODE;
        let mut bytes = [0; 64];
        self.blocks.read(&mut bytes[..32], at)?;
        let format = Fields(&bytes).u16(0)?;
        let long = format & 1 != 0;
        if long {
            self.blocks.read(&mut bytes[32..], at + 32)?;
        }
        let fields = Fields(&bytes);
        let union = fields.u32(16)?;
        let (size, uid, gid, nlink, mtime) = self.attributes(fields, long)?;
        let mode = u32::from(fields.u16(4)?);
        let kind = FileType::from_mode(mode).ok_or(Errno::EIO)?;
        let is_device = matches!(kind, FileType::BlockDevice | FileType::CharDevice);
        let meta = Metadata {
            dev: 0,
            ino: id,
            mode,
            nlink,
            uid,
            gid,
            rdev: if is_device { device(union) } else { 0 },
            size: i64::try_from(size).map_err(|_| Errno::EIO)?.cast_unsigned(),
            blksize: 4096,
            blocks: size.div_ceil(self.block_size()) << (self.block_bits - 9),
            atime: mtime,
            mtime,
            ctime: mtime,
            btime: None,
        };
        let words = fields.u16(2)?;
        let xattrs_at = at + if long { 64 } else { 32 };
        let xattrs_len = match words {
            0 => 0,
            words => xattr::HEADER + u64::from(words - 1) * 4,
        };
        let node = Node {
            layout: self.layout(format, union, &meta, xattrs_at + xattrs_len)?,
            xattrs: (xattrs_at, words),
        };
        Ok((meta, node))
    }

    fn list(
        &self,
        meta: &Metadata,
        node: &Node,
        from: u64,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        directory::list(self, meta, node, from, emit)
    }

    fn find(&self, meta: &Metadata, node: &Node, name: &[u8]) -> Result<u64, Errno> {
        directory::find(self, meta, node, name)
    }

    fn read(&self, meta: &Metadata, node: &Node, mut buf: &mut [u8], mut pos: u64) -> Result<(), Errno> {
        if let Layout::Compressed(index) = &node.layout {
            return compressed::read(self, meta, index, buf, pos);
        }
        while !buf.is_empty() {
            let (place, end) = Erofs::find(self, meta, &node.layout, pos)?;
            let room = usize::try_from(end.saturating_sub(pos)).unwrap_or(usize::MAX);
            let len = buf.len().min(room);
            if len == 0 {
                return Err(Errno::EIO);
            }
            let (part, rest) = buf.split_at_mut(len);
            if let Some(at) = place {
                self.blocks.read_contents(meta.file_type(), part, at)?;
            }
            pos += len as u64;
            buf = rest;
        }
        Ok(())
    }

    fn part(&self, meta: &Metadata, node: &Node, pos: u64) -> Result<Part, Errno> {
        match &node.layout {
            Layout::Chunks { .. } => {
                let (place, end) = Erofs::find(self, meta, &node.layout, pos)?;
                let data = place.is_some();
                Ok(Part { data, end })
            }
            _ => Ok(Part {
                data: true,
                end: meta.size,
            }),
        }
    }

    fn link(&self, meta: &Metadata, node: &Node) -> Result<Vec<u8>, Errno> {
        let mut text = vec![0; meta.size.min(LINK_MAX) as usize];
        self.read(meta, node, &mut text, 0)?;
        Ok(text)
    }

    fn xattrs(&self, node: &Node) -> Result<Vec<Xattr>, Errno> {
        let (at, words) = node.xattrs;
        xattr::read(self, at, words)
    }

    fn statfs(&self) -> StatFs {
        StatFs {
            magic: u64::from(MAGIC),
            bsize: self.block_size(),
            blocks: u64::from(self.count),
            files: self.inodes,
            namelen: 255,
            ..StatFs::default()
        }
    }
}
