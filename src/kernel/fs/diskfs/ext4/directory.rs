//! Directories: rows with their lengths in them, block by block. The blocks of an index look like rows without a file.

use super::{Ext4, Node, map};
use crate::kernel::fs::Metadata;
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::fs::diskfs::{Entry, kind};
use crate::kernel::stop::Errno;

/// Bytes of a row before the name.
const HEAD: usize = 8;

pub(super) fn list(
    fs: &Ext4,
    meta: &Metadata,
    node: &Node,
    from: u64,
    emit: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    // A row's place is that of its first byte, so what was told already is what ends up to there.
    let emit = &mut |entry: Entry<'_>| {
        let is_told = entry.next <= from || entry.name == b"." || entry.name == b"..";
        is_told || emit(entry)
    };
    if let Some(inline) = fs.inline(meta, node)? {
        // The parent's number comes first, and what is in the room for addresses and behind it are two blocks.
        let cut = inline.len().min(super::ROOM);
        let go_on = rows(inline.get(4..cut).unwrap_or_default(), 4, emit)?;
        return match go_on {
            true => rows(&inline[cut..], cut as u64, emit).map(|_| ()),
            false => Ok(()),
        };
    }
    let mut pos = from & !(fs.block_size() - 1);
    while pos < meta.size {
        // A hole would be an empty block, and could be of any length.
        let run = map::find(fs, node, pos >> fs.block_bits)?;
        let at = fs.block_at(run.block.ok_or(Errno::EIO)?)?;
        let len = (meta.size - pos).min(fs.block_size());
        let block = fs.blocks.bytes(at, len as usize)?;
        if !rows(&block, pos, emit)? {
            break;
        }
        pos += len;
    }
    Ok(())
}

/// Tell `emit` of the rows of a block that is at `start` in the directory; whether it wants more.
fn rows(block: &[u8], start: u64, emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<bool, Errno> {
    let fields = Fields(block);
    let mut at = 0;
    while at + HEAD <= block.len() {
        let len = match fields.u16(at + 4)? {
            // The whole of the largest block.
            0 | u16::MAX if block.len() == 1 << 16 => 1 << 16,
            len => usize::from(len),
        };
        if len < HEAD {
            return Err(Errno::EIO);
        }
        let id = u64::from(fields.u32(at)?);
        if id != 0 {
            let name = fields.bytes(at + HEAD, usize::from(fields.u8(at + 6)?))?;
            let told = Entry {
                name,
                id,
                kind: kind(fields.u8(at + 7)?),
                next: start + (at + len) as u64,
            };
            if !emit(told) {
                return Ok(false);
            }
        }
        at += len;
    }
    Ok(true)
}
