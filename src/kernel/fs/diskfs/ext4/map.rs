//! Which blocks hold a file's contents: by a tree of extents, or by the lists of ext2 and ext3.

use super::{Ext4, Node, ROOM};
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::stop::Errno;

/// How many blocks a file without extents has by their numbers.
const DIRECT: u64 = 12;

/// How deep a tree of extents can be.
const DEPTH_MAX: u16 = 5;

/// Blocks of a file that follow each other.
pub(super) struct Run {
    /// The first one; none for a hole.
    pub(super) block: Option<u64>,
    /// How many, from the one that was asked for on: at least one.
    pub(super) blocks: u64,
}

/// Most blocks of a file.
pub(super) fn blocks_max(fs: &Ext4, node: &Node) -> u64 {
    const NUMBERS: u64 = 1 << 32;
    let per_list = fs.block_size() / 4;
    match node.has(Node::EXTENTS) {
        true => NUMBERS,
        false => NUMBERS.min(DIRECT + per_list + per_list.pow(2) + per_list.pow(3)),
    }
}

/// The run that a block of a file is in.
pub(super) fn find(fs: &Ext4, node: &Node, number: u64) -> Result<Run, Errno> {
    match node.has(Node::EXTENTS) {
        true => by_extents(fs, node, number),
        false => by_lists(fs, node, number),
    }
}

fn by_extents(fs: &Ext4, node: &Node, number: u64) -> Result<Run, Errno> {
    const MAGIC: u16 = 0xf30a;
    let mut bytes = node.room.to_vec();
    let mut expected = None;
    // Where what lies behind begins: a hole reaches no further.
    let mut next = u64::MAX;
    loop {
        let header = Fields(&bytes);
        let (count, depth) = (usize::from(header.u16(2)?), header.u16(6)?);
        let fits = header.u16(0)? == MAGIC && depth <= DEPTH_MAX && (count + 1) * 12 <= bytes.len();
        if !fits || expected.is_some_and(|expected| expected != depth) {
            return Err(Errno::EIO);
        }
        let start = |at: usize| header.u32((at + 1) * 12).map_or(u64::MAX, u64::from);
        // The last one that does not begin behind the block.
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            match start(middle) <= number {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        if low < count {
            next = next.min(start(low));
        }
        let hole = Run {
            block: None,
            blocks: next.saturating_sub(number).max(1),
        };
        let Some(at) = low.checked_sub(1) else {
            return Ok(hole);
        };
        let row = (at + 1) * 12;
        if depth > 0 {
            let child = u64::from(header.u32(row + 4)?) | u64::from(header.u16(row + 8)?) << 32;
            expected = Some(depth - 1);
            bytes = fs.blocks.bytes(fs.block_at(child)?, fs.block_size() as usize)?;
            continue;
        }
        let len = header.u16(row + 4)?;
        // Longer ones are promised space that nobody has written to.
        let (len, written) = if len > 0x8000 {
            (len - 0x8000, false)
        } else {
            (len, true)
        };
        let skip = number - start(at);
        if skip >= u64::from(len) {
            return Ok(hole);
        }
        let block = u64::from(header.u32(row + 8)?) | u64::from(header.u16(row + 6)?) << 32;
        return Ok(Run {
            block: written.then_some(block + skip),
            blocks: u64::from(len) - skip,
        });
    }
}

/// Twelve blocks by their numbers, then a list of numbers, a list of lists, and a list of those.
fn by_lists(fs: &Ext4, node: &Node, number: u64) -> Result<Run, Errno> {
    let per_block = fs.block_size() / 4;
    let room = Fields(&node.room);
    let mut left = number;
    if left < DIRECT {
        return Ok(run(u64::from(room.u32(left as usize * 4)?), 1));
    }
    left -= DIRECT;
    for level in 1..=3u32 {
        let covers = per_block.pow(level);
        if left >= covers {
            left -= covers;
            continue;
        }
        let mut block = u64::from(room.u32(ROOM - (4 - level as usize) * 4)?);
        let mut below = covers;
        while below > 1 {
            if block == 0 {
                return Ok(run(0, below - left % below));
            }
            below /= per_block;
            let at = fs.block_at(block)? + left / below % per_block * 4;
            block = u64::from(Fields(&fs.blocks.bytes(at, 4)?).u32(0)?);
        }
        return Ok(run(block, 1));
    }
    Err(Errno::EIO)
}

fn run(block: u64, blocks: u64) -> Run {
    Run {
        block: (block != 0).then_some(block),
        blocks,
    }
}
