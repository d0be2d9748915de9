//! Directories: blocks with rows of 12 bytes in front and the names behind them, all in byte order.

use super::{Erofs, Node};
use crate::kernel::fs::Metadata;
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::fs::diskfs::{Entry, Format, kind};
use crate::kernel::stop::Errno;

/// Size of a row, in bytes.
const ROW: usize = 12;

/// A block of a directory.
struct Block {
    bytes: Vec<u8>,
    /// Where it is in the directory.
    pos: u64,
}

impl Block {
    fn read(fs: &Erofs, meta: &Metadata, node: &Node, number: u64) -> Result<Block, Errno> {
        let pos = number * fs.block_size();
        let len = meta.size.saturating_sub(pos).min(fs.block_size());
        let mut bytes = vec![0; len as usize];
        fs.read(meta, node, &mut bytes, pos)?;
        Ok(Block { bytes, pos })
    }

    /// How many names it has: the first one begins behind the last row.
    fn count(&self) -> Result<usize, Errno> {
        let first = usize::from(Fields(&self.bytes).u16(8)?);
        if first < ROW || first % ROW != 0 || first > self.bytes.len() {
            return Err(Errno::EIO);
        }
        Ok(first / ROW)
    }

    fn entry(&self, at: usize, count: usize) -> Result<Entry<'_>, Errno> {
        let fields = Fields(&self.bytes);
        let row = at * ROW;
        let start = usize::from(fields.u16(row + 8)?);
        let end = match at + 1 < count {
            true => usize::from(fields.u16(row + ROW + 8)?),
            false => self.bytes.len(),
        };
        let name = self.bytes.get(start..end).ok_or(Errno::EIO)?;
        let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        Ok(Entry {
            name: &name[..len],
            id: fields.u64(row)?,
            kind: kind(fields.u8(row + 10)?),
            next: self.pos + (row + ROW) as u64,
        })
    }
}

fn blocks(fs: &Erofs, meta: &Metadata) -> u64 {
    meta.size.div_ceil(fs.block_size())
}

pub(super) fn list(
    fs: &Erofs,
    meta: &Metadata,
    node: &Node,
    from: u64,
    emit: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    // A name's place is that of its row.
    for number in from / fs.block_size()..blocks(fs, meta) {
        let block = Block::read(fs, meta, node, number)?;
        let count = block.count()?;
        for at in 0..count {
            let entry = block.entry(at, count)?;
            let is_told = entry.next <= from || entry.name == b"." || entry.name == b"..";
            if !is_told && !emit(entry) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The last block that does not begin behind the name has it, if any has.
pub(super) fn find(fs: &Erofs, meta: &Metadata, node: &Node, name: &[u8]) -> Result<u64, Errno> {
    let (mut low, mut high) = (0, blocks(fs, meta));
    while low < high {
        let middle = low + (high - low) / 2;
        let block = Block::read(fs, meta, node, middle)?;
        let count = block.count()?;
        if block.entry(0, count)?.name > name {
            high = middle;
            continue;
        }
        for at in 0..count {
            let entry = block.entry(at, count)?;
            if entry.name == name {
                return Ok(entry.id);
            }
        }
        if block.entry(count - 1, count)?.name > name {
            break;
        }
        low = middle + 1;
    }
    Err(Errno::ENOENT)
}
