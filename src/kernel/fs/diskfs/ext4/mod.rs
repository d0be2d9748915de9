//! ext2, ext3 and ext4: inodes in tables by number, contents by extents, by lists of blocks, or in the inode.

mod directory;
mod map;
mod xattr;

use std::sync::Arc;

use super::cache::Blocks;
use super::fields::{Fields, device};
use super::inode::LINK_MAX;
use super::{BadImage, Entry, Format, Medium, Part, Xattr};
use crate::kernel::fs::{FileType, Metadata, StatFs};
use crate::kernel::stop::Errno;
use crate::kernel::time::Timestamp;

/// The superblock's mark, and where that is in it.
pub(super) const MAGIC: u16 = 0xef53;
pub(super) const MAGIC_AT: usize = 0x38;

/// Where the superblock is, in bytes.
const SUPERBLOCK: u64 = 1024;

/// Number of the root directory.
const ROOT: u64 = 2;

/// Size of what an inode has in any case, in bytes.
const OLD_INODE: usize = 128;

/// Bytes of an inode for contents, or where those are.
const ROOM: usize = 60;

/// Features that change what must be understood.
mod feature {
    pub(super) const JOURNAL: u32 = 0x4;
    pub(super) const EXTENTS: u32 = 0x40;
    pub(super) const WIDE: u32 = 0x80;
    pub(super) const INLINE: u32 = 0x8000;
    /// Kinds of names in directories, several mounts, groups in groups, values in inodes, seeds of checksums, large directories.
    pub(super) const HARMLESS: u32 = 0x2 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000;
    pub(super) const KNOWN: u32 = HARMLESS | JOURNAL | EXTENTS | WIDE | INLINE;
    pub(super) const OTHERS: [(u32, &str); 6] = [
        (0x1, "compression"),
        (0x8, "a journal of its own device"),
        (0x10, "block groups without a common table (meta_bg)"),
        (0x1000, "data in directories"),
        (0x10000, "encryption"),
        (0x20000, "directories that ignore case"),
    ];
}

/// An ext4.
pub(super) struct Ext4 {
    blocks: Blocks,
    block_bits: u32,
    inodes: u32,
    block_count: u64,
    free: (u64, u64),
    inodes_per_group: u32,
    inode_size: u16,
    groups_at: u64,
    group_size: u16,
}

/// What is known of a file beside its attributes.
pub(super) struct Node {
    flags: u32,
    room: [u8; ROOM],
    /// What the inode holds behind its fields: extended attributes.
    inner: Vec<u8>,
    /// The block of further ones; 0 for none.
    xattrs: u64,
}

impl Node {
    const EXTENTS: u32 = 0x8_0000;
    const INLINE: u32 = 0x1000_0000;
    const ENCRYPTED: u32 = 0x800;

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

fn damaged(what: &'static str) -> BadImage {
    BadImage::Damaged {
        format: Ext4::NAME,
        what,
    }
}

fn unsupported(what: impl Into<String>) -> BadImage {
    BadImage::Unsupported {
        format: Ext4::NAME,
        what: what.into(),
    }
}

impl Ext4 {
    /// Read the superblock.
    pub(super) fn open(medium: Arc<dyn Medium>, replayed: bool) -> Result<Ext4, BadImage> {
        let mut bytes = [0; 1024];
        if medium.size() < SUPERBLOCK + bytes.len() as u64 {
            return Err(damaged("it is cut short"));
        }
        medium.read(&mut bytes, SUPERBLOCK)?;
        let fields = Fields(&bytes);
        let old = fields.u32(0x4c)? == 0;
        let features = if old { 0 } else { fields.u32(0x60)? };
        for (bit, what) in feature::OTHERS {
            if features & bit != 0 {
                return Err(unsupported(what));
            }
        }
        if features & !feature::KNOWN != 0 {
            return Err(unsupported(format!("features {features:#x}")));
        }
        if features & feature::JOURNAL != 0 && replayed {
            return Err(BadImage::Journal);
        }
        let log = fields.u32(0x18)?;
        if log > 6 {
            return Err(damaged("its block size is none that there is"));
        }
        let block_bits = 10 + log;
        let wide = features & feature::WIDE != 0;
        let inode_size = if old { 128 } else { fields.u16(0x58)? };
        let group_size = if wide { fields.u16(0xfe)? } else { 32 };
        let inodes_per_group = fields.u32(0x28)?;
        let sizes_fit = inode_size.is_power_of_two()
            && (128..=1 << block_bits).contains(&u32::from(inode_size))
            && group_size.is_power_of_two()
            && (32..=1024).contains(&group_size);
        if !sizes_fit || (wide && group_size < 64) || inodes_per_group == 0 {
            return Err(damaged("sizes that cannot be"));
        }
        let high =
            |at: usize| -> Result<u64, Errno> { Ok(if wide { u64::from(fields.u32(at)?) << 32 } else { 0 }) };
        let block_count = u64::from(fields.u32(0x4)?) | high(0x150)?;
        let size = block_count.checked_mul(1 << block_bits);
        if size.is_none_or(|size| size > medium.size()) {
            return Err(damaged("it is cut short"));
        }
        Ok(Ext4 {
            block_bits,
            inodes: fields.u32(0)?,
            block_count,
            free: (
                u64::from(fields.u32(0xc)?) | high(0x158)?,
                u64::from(fields.u32(0x10)?),
            ),
            inodes_per_group,
            inode_size,
            groups_at: (u64::from(fields.u32(0x14)?) + 1) << block_bits,
            group_size,
            blocks: Blocks::new(medium),
        })
    }

    fn block_size(&self) -> u64 {
        1 << self.block_bits
    }

    /// Where a block of this number is. EIO for one that is not there.
    fn block_at(&self, number: u64) -> Result<u64, Errno> {
        match number < self.block_count {
            true => Ok(number << self.block_bits),
            false => Err(Errno::EIO),
        }
    }

    /// The bytes of an inode.
    fn inode(&self, number: u64) -> Result<Vec<u8>, Errno> {
        if number == 0 || number > u64::from(self.inodes) {
            return Err(Errno::EIO);
        }
        let per_group = u64::from(self.inodes_per_group);
        let (group, index) = ((number - 1) / per_group, (number - 1) % per_group);
        let size = u64::from(self.group_size);
        let group = self
            .blocks
            .bytes(self.groups_at + group * size, usize::from(self.group_size))?;
        let group = Fields(&group);
        let high = if size > 32 { u64::from(group.u32(0x28)?) } else { 0 };
        let table = self.block_at(u64::from(group.u32(8)?) | high << 32)?;
        let inode_size = u64::from(self.inode_size);
        self.blocks
            .bytes(table + index * inode_size, usize::from(self.inode_size))
    }

    /// What of a file's contents an inode holds, if they are there: in the room for addresses, and in an attribute.
    fn inline(&self, meta: &Metadata, node: &Node) -> Result<Option<Vec<u8>>, Errno> {
        let is_short_link =
            meta.file_type() == FileType::Symlink && !node.has(Node::EXTENTS) && meta.size < ROOM as u64;
        if !node.has(Node::INLINE) && !is_short_link {
            return Ok(None);
        }
        let mut bytes = node.room.to_vec();
        if node.has(Node::INLINE) {
            bytes.extend(xattr::inline_rest(self, node)?);
        }
        bytes.truncate(usize::try_from(meta.size).unwrap_or(usize::MAX));
        Ok(Some(bytes))
    }
}

/// A time: 32 bits of seconds, and in a newer inode two more and the nanoseconds.
fn time(inode: Fields<'_>, at: usize, extra: Option<usize>) -> Result<Timestamp, Errno> {
    let sec = i64::from(inode.u32(at)?.cast_signed());
    let extra = match extra {
        Some(at) => inode.u32(at)?,
        None => 0,
    };
    Ok(Timestamp {
        sec: sec + (i64::from(extra & 3) << 32),
        nsec: (extra >> 2).min(999_999_999),
    })
}

/// The number of a device: 16 bits, or 32 in the word behind them.
fn device_of(room: Fields<'_>) -> Result<u64, Errno> {
    Ok(match room.u32(0)? {
        0 => device(room.u32(4)?),
        short => libc::makedev((short >> 8) & 0xff, short & 0xff),
    })
}

impl Format for Ext4 {
    type Node = Node;

    const NAME: &'static str = "ext4";

    fn root(&self) -> u64 {
        ROOT
    }

    fn node(&self, id: u64) -> Result<(Metadata, Node), Errno> {
        const HUGE: u32 = 0x4_0000;
        let bytes = self.inode(id)?;
        let inode = Fields(&bytes);
        // How many bytes of fields there are behind those of old inodes.
        let newer = match bytes.len() > OLD_INODE {
            true => OLD_INODE + usize::from(inode.u16(0x80)?),
            false => OLD_INODE,
        };
        let extra = |at: usize| (newer >= at + 4).then_some(at);
        let mode = u32::from(inode.u16(0)?);
        let kind = FileType::from_mode(mode).ok_or(Errno::EIO)?;
        let node = Node {
            flags: inode.u32(0x20)?,
            room: *inode.bytes(0x28, ROOM)?.first_chunk().ok_or(Errno::EIO)?,
            inner: bytes.get(newer..).unwrap_or_default().to_vec(),
            xattrs: u64::from(inode.u32(0x68)?) | u64::from(inode.u16(0x76)?) << 32,
        };
        if node.has(Node::ENCRYPTED) {
            return Err(Errno::EOPNOTSUPP);
        }
        let high = match kind {
            FileType::Regular | FileType::Directory => u64::from(inode.u32(0x6c)?) << 32,
            _ => 0,
        };
        let size = i64::try_from(u64::from(inode.u32(4)?) | high).map_err(|_| Errno::EIO)?;
        let limit = match kind {
            // Each of its blocks has names in it.
            FileType::Directory => self.blocks.size(),
            _ => map::blocks_max(self, &node) << self.block_bits,
        };
        if size.cast_unsigned() > limit {
            return Err(Errno::EIO);
        }
        let mut blocks = u64::from(inode.u32(0x1c)?) | u64::from(inode.u16(0x74)?) << 32;
        if node.has(HUGE) {
            blocks <<= self.block_bits - 9;
        }
        let meta = Metadata {
            dev: 0,
            ino: id,
            mode,
            nlink: u32::from(inode.u16(0x1a)?),
            uid: u32::from(inode.u16(2)?) | u32::from(inode.u16(0x78)?) << 16,
            gid: u32::from(inode.u16(0x18)?) | u32::from(inode.u16(0x7a)?) << 16,
            rdev: match kind {
                FileType::BlockDevice | FileType::CharDevice => device_of(Fields(&node.room))?,
                _ => 0,
            },
            size: size.cast_unsigned(),
            blksize: 4096,
            blocks,
            atime: time(inode, 0x8, extra(0x8c))?,
            mtime: time(inode, 0x10, extra(0x88))?,
            ctime: time(inode, 0xc, extra(0x84))?,
            btime: match extra(0x94) {
                Some(at) => Some(time(inode, 0x90, Some(at))?),
                None => None,
            },
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

    fn read(&self, meta: &Metadata, node: &Node, mut buf: &mut [u8], mut pos: u64) -> Result<(), Errno> {
        if let Some(inline) = self.inline(meta, node)? {
            let start = usize::try_from(pos).map_err(|_| Errno::EIO)?;
            let found = inline.get(start..).unwrap_or_default();
            let len = found.len().min(buf.len());
            buf[..len].copy_from_slice(&found[..len]);
            return Ok(());
        }
        while !buf.is_empty() {
            let run = map::find(self, node, pos >> self.block_bits)?;
            let skip = pos & (self.block_size() - 1);
            let room = run.blocks.saturating_mul(self.block_size()) - skip;
            let len = buf.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (part, rest) = buf.split_at_mut(len);
            if let Some(block) = run.block {
                // The last of its blocks must be there too; reading sees to that.
                let at = self.block_at(block)? + skip;
                self.blocks.read_contents(meta.file_type(), part, at)?;
            }
            pos += len as u64;
            buf = rest;
        }
        Ok(())
    }

    fn part(&self, meta: &Metadata, node: &Node, pos: u64) -> Result<Part, Errno> {
        if node.has(Node::INLINE) {
            return Ok(Part {
                data: true,
                end: meta.size,
            });
        }
        let run = map::find(self, node, pos >> self.block_bits)?;
        let end = ((pos >> self.block_bits).saturating_add(run.blocks)).saturating_mul(self.block_size());
        Ok(Part {
            data: run.block.is_some(),
            end: end.min(meta.size),
        })
    }

    fn link(&self, meta: &Metadata, node: &Node) -> Result<Vec<u8>, Errno> {
        let mut text = vec![0; meta.size.min(LINK_MAX) as usize];
        self.read(meta, node, &mut text, 0)?;
        Ok(text)
    }

    fn xattrs(&self, node: &Node) -> Result<Vec<Xattr>, Errno> {
        xattr::read(self, node)
    }

    fn statfs(&self) -> StatFs {
        StatFs {
            magic: u64::from(MAGIC),
            bsize: self.block_size(),
            blocks: self.block_count,
            bfree: self.free.0,
            bavail: self.free.0,
            files: u64::from(self.inodes),
            ffree: self.free.1,
            namelen: 255,
        }
    }
}
