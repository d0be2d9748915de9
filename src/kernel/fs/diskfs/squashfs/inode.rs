//! Inodes. A file's blocks are listed behind its inode by their sizes alone, so where one is follows from all before it.

use super::meta::Cursor;
use super::{NONE, Squashfs};
use crate::kernel::fs::diskfs::fields::{Fields, device};
use crate::kernel::fs::{FileType, Metadata};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::Timestamp;

/// Most blocks of a file: 8 TiB of the largest.
const BLOCKS_MAX: u64 = 64 << 20;

/// How many sizes of blocks are read at once.
const AHEAD: usize = 1024;

/// Most marks that a file's list of blocks is given for those who look backwards.
const MARKS_MAX: u64 = 256;

/// Most blocks without contents that are told as one part.
const HOLES_MAX: usize = 1 << 16;

/// What is known of a file beside its attributes.
pub(in crate::kernel::fs::diskfs) struct Node {
    pub(super) contents: Contents,
    /// Number of its extended attributes.
    pub(super) xattrs: u32,
}

pub(in crate::kernel::fs::diskfs) enum Contents {
    File(File),
    Directory(Directory),
    /// Where the text is.
    Link(Cursor),
    Other,
}

/// A directory's names.
pub(in crate::kernel::fs::diskfs) struct Directory {
    pub(super) start: Cursor,
    /// Bytes.
    pub(super) len: u32,
    /// Where marks for names further on are, and how many.
    pub(super) marks: Option<(Cursor, u16)>,
    /// The run that was told last: where it begins in the directory, and where that is.
    pub(super) last: Lock<(u32, Cursor)>,
}

/// A regular file.
pub(in crate::kernel::fs::diskfs) struct File {
    /// Blocks of its own.
    pub(super) blocks: u64,
    /// The block that has its end, and where in it.
    pub(super) fragment: Option<(u32, u32)>,
    /// Blocks from one mark to the next.
    stride: u64,
    seen: Lock<Seen>,
}

/// Where blocks are that somebody looked for.
struct Seen {
    last: Walk,
    /// Every `stride` blocks, from the first on.
    marks: Vec<Walk>,
}

/// A block of a file: its number, where its size is, and where it is.
#[derive(Clone)]
struct Walk {
    number: u64,
    sizes: Cursor,
    at: u64,
}

impl File {
    fn new(fs: &Squashfs, size: u64, fragment: (u32, u32), at: u64, sizes: Cursor) -> Result<File, Errno> {
        let block_size = u64::from(fs.block_size);
        let fragment = (fragment.0 != NONE).then_some(fragment);
        let blocks = match fragment {
            Some(_) => size / block_size,
            None => size.div_ceil(block_size),
        };
        if blocks > BLOCKS_MAX {
            return Err(Errno::EFBIG);
        }
        let start = Walk { number: 0, sizes, at };
        Ok(File {
            blocks,
            fragment,
            stride: (blocks / MARKS_MAX).max(AHEAD as u64),
            seen: Lock::new(
                Rank::Leaf,
                Seen {
                    last: start.clone(),
                    marks: vec![start],
                },
            ),
        })
    }

    /// Where to begin to look for a block: where somebody looked last, or at a mark.
    fn nearest(&self, number: u64) -> Walk {
        let seen = self.seen.lock();
        let mark = usize::try_from(number / self.stride).unwrap_or(usize::MAX);
        let mark = &seen.marks[mark.min(seen.marks.len() - 1)];
        let near = match (mark.number..=number).contains(&seen.last.number) {
            true => &seen.last,
            false => mark,
        };
        near.clone()
    }

    fn saw(&self, walk: &Walk) {
        let mut seen = self.seen.lock();
        seen.last = walk.clone();
        if walk.number == seen.marks.len() as u64 * self.stride {
            seen.marks.push(walk.clone());
        }
    }

    /// The walk at a block of the list.
    fn at(&self, fs: &Squashfs, number: u64) -> Result<Walk, Errno> {
        let mut walk = self.nearest(number);
        let mut sizes = [0; AHEAD * 4];
        while walk.number < number {
            let to_mark = self.stride - walk.number % self.stride;
            let some = (number - walk.number).min(AHEAD as u64).min(to_mark);
            let sizes = &mut sizes[..some as usize * 4];
            fs.read_meta(&mut walk.sizes, sizes)?;
            for size in sizes.chunks_exact(4) {
                let stored = Fields(size).u32(0)? & 0xff_ffff;
                walk.at = walk.at.checked_add(u64::from(stored)).ok_or(Errno::EIO)?;
            }
            walk.number += some;
            self.saw(&walk);
        }
        self.saw(&walk);
        Ok(walk)
    }

    /// Where a block is and how much it takes, as the list has it.
    pub(super) fn find(&self, fs: &Squashfs, number: u64) -> Result<(u64, u32), Errno> {
        let mut walk = self.at(fs, number)?;
        let mut size = [0; 4];
        fs.read_meta(&mut walk.sizes, &mut size)?;
        Ok((walk.at, u32::from_le_bytes(size)))
    }

    /// How many blocks from this one on have no contents, as far as is looked.
    pub(super) fn holes(&self, fs: &Squashfs, number: u64) -> Result<u64, Errno> {
        let mut sizes = self.at(fs, number)?.sizes;
        let left = usize::try_from(self.blocks - number).unwrap_or(HOLES_MAX);
        let mut bytes = [0; 256];
        let mut count = 0;
        while count < left.min(HOLES_MAX) {
            let some = (left - count).min(bytes.len() / 4);
            let bytes = &mut bytes[..some * 4];
            fs.read_meta(&mut sizes, bytes)?;
            let holes = bytes.chunks_exact(4).take_while(|size| **size == [0; 4]).count();
            count += holes;
            if holes < some {
                break;
            }
        }
        Ok(count as u64)
    }
}

/// Read the inode that is known by this.
pub(super) fn read(fs: &Squashfs, id: u64) -> Result<(Metadata, Node), Errno> {
    let reference = id.checked_sub(1).filter(|reference| reference >> 48 == 0);
    let mut cursor = Cursor::within(fs.inode_table, reference.ok_or(Errno::EIO)?)?;
    let mut header = [0; 16];
    fs.read_meta(&mut cursor, &mut header)?;
    let header = Fields(&header);
    let kind = header.u16(0)?;
    let mtime = Timestamp {
        sec: i64::from(header.u32(8)?),
        nsec: 0,
    };
    let mut meta = Metadata {
        dev: 0,
        ino: id,
        mode: u32::from(header.u16(2)? & 0o7777),
        nlink: 1,
        uid: fs.id(header.u16(4)?)?,
        gid: fs.id(header.u16(6)?)?,
        rdev: 0,
        size: 0,
        blksize: fs.block_size,
        blocks: 0,
        atime: mtime,
        mtime,
        ctime: mtime,
        btime: None,
    };
    let node = match kind {
        1 | 8 => directory(fs, &mut meta, cursor, kind == 8)?,
        2 | 9 => file(fs, &mut meta, cursor, kind == 9)?,
        3 | 10 => link(fs, &mut meta, cursor, kind == 10)?,
        4..=7 | 11..=14 => special(fs, &mut meta, cursor, kind)?,
        _ => return Err(Errno::EIO),
    };
    Ok((meta, node))
}

fn directory(fs: &Squashfs, meta: &mut Metadata, mut cursor: Cursor, long: bool) -> Result<Node, Errno> {
    let mut bytes = [0; 24];
    let body = &mut bytes[..if long { 24 } else { 16 }];
    fs.read_meta(&mut cursor, body)?;
    let body = Fields(body);
    let (nlink, size, block, offset, xattrs, marks) = match long {
        false => (
            body.u32(4)?,
            u32::from(body.u16(8)?),
            body.u32(0)?,
            body.u16(10)?,
            NONE,
            0,
        ),
        true => (
            body.u32(0)?,
            body.u32(4)?,
            body.u32(8)?,
            body.u16(18)?,
            body.u32(20)?,
            body.u16(16)?,
        ),
    };
    meta.mode |= FileType::Directory.mode();
    meta.nlink = nlink;
    meta.size = u64::from(size);
    let start = fs.directory_table.checked_add(u64::from(block));
    let start = Cursor::new(start.ok_or(Errno::EIO)?, usize::from(offset));
    let directory = Directory {
        last: Lock::new(Rank::Leaf, (0, start.clone())),
        start,
        // What it says counts `.` and `..`, which are not there, as three bytes.
        len: size.saturating_sub(3),
        marks: (marks > 0).then_some((cursor, marks)),
    };
    Ok(Node {
        contents: Contents::Directory(directory),
        xattrs,
    })
}

fn file(fs: &Squashfs, meta: &mut Metadata, mut cursor: Cursor, long: bool) -> Result<Node, Errno> {
    let mut bytes = [0; 40];
    let body = &mut bytes[..if long { 40 } else { 16 }];
    fs.read_meta(&mut cursor, body)?;
    let body = Fields(body);
    let (start, size, sparse, fragment, xattrs) = match long {
        false => (
            u64::from(body.u32(0)?),
            u64::from(body.u32(12)?),
            0,
            (body.u32(4)?, body.u32(8)?),
            NONE,
        ),
        true => {
            meta.nlink = body.u32(24)?;
            (
                body.u64(0)?,
                body.u64(8)?,
                body.u64(16)?,
                (body.u32(28)?, body.u32(32)?),
                body.u32(36)?,
            )
        }
    };
    meta.mode |= FileType::Regular.mode();
    meta.size = size;
    meta.blocks = size.saturating_sub(sparse).div_ceil(512);
    Ok(Node {
        contents: Contents::File(File::new(fs, size, fragment, start, cursor)?),
        xattrs,
    })
}

fn link(fs: &Squashfs, meta: &mut Metadata, mut cursor: Cursor, long: bool) -> Result<Node, Errno> {
    let mut body = [0; 8];
    fs.read_meta(&mut cursor, &mut body)?;
    let body = Fields(&body);
    meta.mode |= FileType::Symlink.mode();
    meta.nlink = body.u32(0)?;
    meta.size = u64::from(body.u32(4)?);
    let text = cursor.clone();
    let mut xattrs = [0xff; 4];
    if long && meta.size <= super::LINK_MAX {
        cursor.skip(fs, meta.size)?;
        fs.read_meta(&mut cursor, &mut xattrs)?;
    }
    Ok(Node {
        contents: Contents::Link(text),
        xattrs: u32::from_le_bytes(xattrs),
    })
}

/// Devices, FIFOs and sockets.
fn special(fs: &Squashfs, meta: &mut Metadata, mut cursor: Cursor, kind: u16) -> Result<Node, Errno> {
    let long = kind > 7;
    let (file_type, has_number) = match kind - if long { 7 } else { 0 } {
        4 => (FileType::BlockDevice, true),
        5 => (FileType::CharDevice, true),
        6 => (FileType::Fifo, false),
        _ => (FileType::Socket, false),
    };
    let mut word = [0; 4];
    fs.read_meta(&mut cursor, &mut word)?;
    meta.mode |= file_type.mode();
    meta.nlink = u32::from_le_bytes(word);
    if has_number {
        fs.read_meta(&mut cursor, &mut word)?;
        meta.rdev = device(u32::from_le_bytes(word));
    }
    let mut xattrs = [0xff; 4];
    if long {
        fs.read_meta(&mut cursor, &mut xattrs)?;
    }
    Ok(Node {
        contents: Contents::Other,
        xattrs: u32::from_le_bytes(xattrs),
    })
}
