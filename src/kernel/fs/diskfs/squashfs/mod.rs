//! squashfs 4.0: everything compressed but the superblock, in blocks of up to 1 MiB, and tables in blocks of 8 KiB.

mod directory;
mod inode;
mod meta;
mod unpack;
mod xattr;

use std::sync::Arc;

use super::cache::Cache;
use super::fields::Fields;
use super::inode::LINK_MAX;
use super::{BadImage, Entry, Format, Medium, Part, Xattr};
use crate::kernel::fs::{Metadata, StatFs};
use crate::kernel::stop::Errno;
use inode::{Contents, Node};
use meta::{Cursor, MetaBlock};
use unpack::Compression;

/// First word of the superblock.
pub(super) const MAGIC: u32 = 0x7371_7368;

/// Most bytes of table blocks that are remembered unpacked.
const META_MAX: usize = 4 << 20;

/// Most bytes of data blocks that are remembered unpacked.
const DATA_MAX: usize = 16 << 20;

/// No fragment, no attributes, no table.
const NONE: u32 = u32::MAX;

/// A squashfs.
pub(super) struct Squashfs {
    medium: Arc<dyn Medium>,
    compression: Compression,
    block_size: u32,
    inodes: u32,
    fragments: u32,
    ids: u16,
    root: u64,
    used: u64,
    id_table: u64,
    xattr_table: u64,
    inode_table: u64,
    directory_table: u64,
    fragment_table: u64,
    meta: Cache<MetaBlock>,
    data: Cache<Vec<u8>>,
}

fn damaged(what: &'static str) -> BadImage {
    BadImage::Damaged {
        format: Squashfs::NAME,
        what,
    }
}

impl Squashfs {
    /// Read the superblock.
    pub(super) fn open(medium: Arc<dyn Medium>) -> Result<Squashfs, BadImage> {
        let mut bytes = [0; 96];
        if medium.size() < bytes.len() as u64 {
            return Err(damaged("it is cut short"));
        }
        medium.read(&mut bytes, 0)?;
        let fields = Fields(&bytes);
        let version = (fields.u16(28)?, fields.u16(30)?);
        if version != (4, 0) {
            let what = format!("version {}.{} of the format", version.0, version.1);
            return Err(BadImage::Unsupported {
                format: Squashfs::NAME,
                what,
            });
        }
        let block_size = fields.u32(12)?;
        let log = u32::from(fields.u16(22)?);
        if !(12..=20).contains(&log) || block_size != 1 << log {
            return Err(damaged("its block size is none that there is"));
        }
        let compression = Compression::by_number(fields.u16(20)?)?;
        let used = fields.u64(40)?;
        if used > medium.size() {
            return Err(damaged("it is cut short"));
        }
        Ok(Squashfs {
            compression,
            block_size,
            inodes: fields.u32(4)?,
            fragments: fields.u32(16)?,
            ids: fields.u16(26)?,
            root: fields.u64(32)?,
            used,
            id_table: fields.u64(48)?,
            xattr_table: fields.u64(56)?,
            inode_table: fields.u64(64)?,
            directory_table: fields.u64(72)?,
            fragment_table: fields.u64(80)?,
            meta: Cache::new(META_MAX),
            data: Cache::new(DATA_MAX),
            medium,
        })
    }

    /// What the file at a reference is known by: 0 is a reference, but no inode number.
    fn id_of(reference: u64) -> u64 {
        reference.saturating_add(1)
    }

    /// A block of data that takes `stored` bytes at a position and is `len` long.
    fn block(&self, at: u64, stored: u32, len: usize) -> Result<Arc<Vec<u8>>, Errno> {
        const UNCOMPRESSED: u32 = 1 << 24;
        let size = stored & (UNCOMPRESSED - 1);
        if size > self.block_size || stored > UNCOMPRESSED | self.block_size {
            return Err(Errno::EIO);
        }
        let whole = match self.data.get(at) {
            Some(known) => known,
            None => {
                let mut bytes = vec![0; size as usize];
                self.medium.read(&mut bytes, at)?;
                if stored & UNCOMPRESSED == 0 {
                    bytes = self.compression.unpack(&bytes, self.block_size as usize)?;
                }
                if bytes.len() < len {
                    return Err(Errno::EIO);
                }
                let bytes = Arc::new(bytes);
                self.data.put(at, bytes.clone(), bytes.len());
                bytes
            }
        };
        match whole.len() < len {
            true => Err(Errno::EIO),
            false => Ok(whole),
        }
    }

    /// A row of 16 bytes of a table whose blocks are listed at `table`.
    fn row(&self, table: u64, index: u32) -> Result<[u8; 16], Errno> {
        let mut row = [0; 16];
        let (block, skip) = (u64::from(index / 512), index as usize % 512 * 16);
        let mut cursor = self.table_block(table, block, skip)?;
        self.read_meta(&mut cursor, &mut row)?;
        Ok(row)
    }

    /// Where a row of a table is that begins `skip` bytes into one of its blocks.
    fn table_block(&self, table: u64, block: u64, skip: usize) -> Result<Cursor, Errno> {
        let mut at = [0; 8];
        let list = table.checked_add(block * 8).ok_or(Errno::EIO)?;
        self.medium.read(&mut at, list)?;
        Ok(Cursor::new(u64::from_le_bytes(at), skip))
    }

    /// A user or group by its number in the image.
    fn id(&self, index: u16) -> Result<u32, Errno> {
        if index >= self.ids {
            return Err(Errno::EIO);
        }
        let mut id = [0; 4];
        let mut cursor = self.table_block(
            self.id_table,
            u64::from(index / 2048),
            usize::from(index % 2048) * 4,
        )?;
        self.read_meta(&mut cursor, &mut id)?;
        Ok(u32::from_le_bytes(id))
    }

    /// The end of a file, which shares a block with others.
    fn fragment(&self, index: u32, offset: u32, len: usize) -> Result<Arc<Vec<u8>>, Errno> {
        if index >= self.fragments {
            return Err(Errno::EIO);
        }
        let row = self.row(self.fragment_table, index)?;
        let fields = Fields(&row);
        let end = (offset as usize).checked_add(len).ok_or(Errno::EIO)?;
        self.block(fields.u64(0)?, fields.u32(8)?, end)
    }

    /// Fill `buf` with what one block has from `skip` on.
    fn read_block(
        &self,
        meta: &Metadata,
        file: &inode::File,
        number: u64,
        skip: usize,
        buf: &mut [u8],
    ) -> Result<(), Errno> {
        let block_size = u64::from(self.block_size);
        let left = meta.size.saturating_sub(number * block_size);
        let len = left.min(block_size) as usize;
        let end = skip + buf.len();
        if number < file.blocks {
            let (at, stored) = file.find(self, number)?;
            if stored == 0 {
                return Ok(());
            }
            let block = self.block(at, stored, len)?;
            buf.copy_from_slice(block.get(skip..end).ok_or(Errno::EIO)?);
        } else {
            let (index, offset) = file.fragment.ok_or(Errno::EIO)?;
            let block = self.fragment(index, offset, len)?;
            let found = block.get(offset as usize + skip..offset as usize + end);
            buf.copy_from_slice(found.ok_or(Errno::EIO)?);
        }
        Ok(())
    }
}

impl Format for Squashfs {
    type Node = Node;

    const NAME: &'static str = "squashfs";

    fn root(&self) -> u64 {
        Squashfs::id_of(self.root)
    }

    fn node(&self, id: u64) -> Result<(Metadata, Node), Errno> {
        inode::read(self, id)
    }

    fn list(
        &self,
        _: &Metadata,
        node: &Node,
        from: u64,
        emit: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<(), Errno> {
        directory::list(self, node, from, emit)
    }

    fn find(&self, _: &Metadata, node: &Node, name: &[u8]) -> Result<u64, Errno> {
        directory::find(self, node, name)
    }

    fn read(&self, meta: &Metadata, node: &Node, mut buf: &mut [u8], mut pos: u64) -> Result<(), Errno> {
        let Contents::File(file) = &node.contents else {
            return Err(Errno::EIO);
        };
        let block_size = u64::from(self.block_size);
        while !buf.is_empty() {
            let skip = (pos % block_size) as usize;
            let len = buf.len().min(self.block_size as usize - skip);
            let (part, rest) = buf.split_at_mut(len);
            self.read_block(meta, file, pos / block_size, skip, part)?;
            pos += len as u64;
            buf = rest;
        }
        Ok(())
    }

    fn part(&self, meta: &Metadata, node: &Node, pos: u64) -> Result<Part, Errno> {
        let Contents::File(file) = &node.contents else {
            return Err(Errno::EIO);
        };
        let block_size = u64::from(self.block_size);
        let number = pos / block_size;
        let holes = match number < file.blocks {
            true => file.holes(self, number)?,
            false => 0,
        };
        let end = (number + holes.max(1)).saturating_mul(block_size);
        Ok(Part {
            data: holes == 0,
            end: end.min(meta.size),
        })
    }

    fn link(&self, meta: &Metadata, node: &Node) -> Result<Vec<u8>, Errno> {
        let Contents::Link(at) = &node.contents else {
            return Err(Errno::EIO);
        };
        let mut text = vec![0; meta.size.min(LINK_MAX) as usize];
        self.read_meta(&mut at.clone(), &mut text)?;
        Ok(text)
    }

    fn xattrs(&self, node: &Node) -> Result<Vec<Xattr>, Errno> {
        match node.xattrs {
            NONE => Ok(Vec::new()),
            index => xattr::read(self, index),
        }
    }

    fn statfs(&self) -> StatFs {
        StatFs {
            magic: u64::from(MAGIC),
            bsize: u64::from(self.block_size),
            blocks: self.used.div_ceil(u64::from(self.block_size)),
            files: u64::from(self.inodes),
            namelen: 256,
            ..StatFs::default()
        }
    }
}
