//! Directories: rows with their lengths in them, block by block. The blocks of an index look like rows without a file.

use super::{Ext4, Node};
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::fs::diskfs::{Entry, Format};
use crate::kernel::fs::{FileType, Metadata};
use crate::kernel::stop::Errno;

/// Bytes of a row before the name.
const HEAD: usize = 8;

pub(super) fn list(
    fs: &Ext4,
    meta: &Metadata,
    node: &Node,
    skip: u64,
    emit: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    let mut left = skip;
    let emit = &mut |entry: Entry<'_>| {
        if entry.name == b"." || entry.name == b".." {
            return true;
        }
        if left > 0 {
            left -= 1;
            return true;
        }
        emit(entry)
    };
    if let Some(inline) = fs.inline(meta, node)? {
        // The parent's number comes first, and what is in the room for addresses and behind it are two blocks.
        let cut = inline.len().min(super::ROOM);
        let go_on = rows(inline.get(4..cut).unwrap_or_default(), emit)?;
        return match go_on {
            true => rows(&inline[cut..], emit).map(|_| ()),
            false => Ok(()),
        };
    }
    let mut pos = 0;
    while pos < meta.size {
        let mut block = vec![0; (meta.size - pos).min(fs.block_size()) as usize];
        fs.read(meta, node, &mut block, pos)?;
        if !rows(&block, emit)? {
            break;
        }
        pos += block.len() as u64;
    }
    Ok(())
}

/// Tell `emit` of the rows of a block; whether it wants more.
fn rows(block: &[u8], emit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<bool, Errno> {
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
            let kind = kind(fields.u8(at + 7)?);
            if !emit(Entry { name, id, kind }) {
                return Ok(false);
            }
        }
        at += len;
    }
    Ok(true)
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
