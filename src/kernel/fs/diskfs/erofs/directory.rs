//! Directories: blocks with rows of 12 bytes in front and the names behind them, all in byte order.

use super::{Erofs, Node};
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::fs::diskfs::{Entry, Format};
use crate::kernel::fs::{FileType, Metadata};
use crate::kernel::stop::Errno;

/// Size of a row, in bytes.
const ROW: usize = 12;

/// A block of a directory.
struct Block(Vec<u8>);

impl Block {
    fn read(fs: &Erofs, meta: &Metadata, node: &Node, number: u64) -> Result<Block, Errno> {
        let pos = number * fs.block_size();
        let len = meta.size.saturating_sub(pos).min(fs.block_size());
        let mut bytes = vec![0; len as usize];
        fs.read(meta, node, &mut bytes, pos)?;
        Ok(Block(bytes))
    }

    /// How many names it has: the first one begins behind the last row.
    fn count(&self) -> Result<usize, Errno> {
        let first = usize::from(Fields(&self.0).u16(8)?);
        if first < ROW || first % ROW != 0 || first > self.0.len() {
            return Err(Errno::EIO);
        }
        Ok(first / ROW)
    }

    fn entry(&self, at: usize, count: usize) -> Result<Entry<'_>, Errno> {
        let fields = Fields(&self.0);
        let row = at * ROW;
        let start = usize::from(fields.u16(row + 8)?);
        let end = match at + 1 < count {
            true => usize::from(fields.u16(row + ROW + 8)?),
            false => self.0.len(),
        };
        let name = self.0.get(start..end).ok_or(Errno::EIO)?;
        let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        Ok(Entry {
            name: &name[..len],
            id: fields.u64(row)?,
            kind: kind(fields.u8(row + 10)?),
        })
    }
}

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

fn blocks(fs: &Erofs, meta: &Metadata) -> u64 {
    meta.size.div_ceil(fs.block_size())
}

pub(super) fn list(
    fs: &Erofs,
    meta: &Metadata,
    node: &Node,
    skip: u64,
    emit: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    let mut left = skip;
    for number in 0..blocks(fs, meta) {
        let block = Block::read(fs, meta, node, number)?;
        let count = block.count()?;
        for at in 0..count {
            let entry = block.entry(at, count)?;
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            if left > 0 {
                left -= 1;
            } else if !emit(entry) {
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
