//! Extended attributes: behind an inode's fields, in a block, and large values in inodes of their own.

use super::{Ext4, Node};
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::fs::diskfs::{Format, Xattr};
use crate::kernel::stop::Errno;

const MAGIC: u32 = 0xea02_0000;

/// Bytes of a row before the name.
const HEAD: usize = 16;

/// Longest value, in bytes.
const VALUE_MAX: u32 = 1 << 16;

/// `system.data`: what did not fit into the room of an inode with contents in it.
const SYSTEM: u8 = 7;
const REST: &[u8] = b"data";

/// A row: kind and name, and where its value is.
struct Row<'a> {
    kind: u8,
    name: &'a [u8],
    offset: usize,
    inode: u32,
    len: u32,
}

/// Tell `visit` of the rows in `bytes` from `first` on.
fn rows(
    bytes: &[u8],
    first: usize,
    visit: &mut dyn FnMut(Row<'_>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let fields = Fields(bytes);
    let mut at = first;
    // Four zeroes are the end, and so is the end of the bytes.
    while at + HEAD <= bytes.len() && fields.u32(at)? != 0 {
        let len = usize::from(fields.u8(at)?);
        visit(Row {
            kind: fields.u8(at + 1)?,
            name: fields.bytes(at + HEAD, len)?,
            offset: usize::from(fields.u16(at + 2)?),
            inode: fields.u32(at + 4)?,
            len: fields.u32(at + 8)?,
        })?;
        at += (HEAD + len).next_multiple_of(4);
    }
    Ok(())
}

/// The value of a row whose offsets count from the beginning of `bytes`.
fn value(fs: &Ext4, bytes: &[u8], row: &Row<'_>) -> Result<Vec<u8>, Errno> {
    if row.len > VALUE_MAX {
        return Err(Errno::EIO);
    }
    if row.inode == 0 {
        return Ok(Fields(bytes).bytes(row.offset, row.len as usize)?.to_vec());
    }
    let (meta, node) = fs.node(u64::from(row.inode))?;
    if meta.size < u64::from(row.len) {
        return Err(Errno::EIO);
    }
    let mut value = vec![0; row.len as usize];
    fs.read(&meta, &node, &mut value, 0)?;
    Ok(value)
}

/// What an inode holds behind its fields, without the mark before it; nothing where there is none.
fn inner(node: &Node) -> &[u8] {
    match Fields(&node.inner).u32(0) {
        Ok(MAGIC) => &node.inner[4..],
        _ => &[],
    }
}

/// What did not fit into the room of an inode with contents in it.
pub(super) fn inline_rest(fs: &Ext4, node: &Node) -> Result<Vec<u8>, Errno> {
    let bytes = inner(node);
    let mut rest = Vec::new();
    rows(bytes, 0, &mut |row| {
        if row.kind == SYSTEM && row.name == REST {
            rest = match row.inode {
                0 => value(fs, bytes, &row)?,
                _ => return Err(Errno::EIO),
            };
        }
        Ok(())
    })?;
    Ok(rest)
}

/// Those of a file that guests are shown.
pub(super) fn read(fs: &Ext4, node: &Node) -> Result<Vec<Xattr>, Errno> {
    const FIRST: usize = 32;
    const BYTES_MAX: usize = 1 << 20;
    let mut found = Vec::new();
    let mut total = 0;
    let mut take = |bytes: &[u8], first: usize| {
        rows(bytes, first, &mut |row| {
            let prefix: &[u8] = match row.kind {
                1 => b"user.",
                4 => b"trusted.",
                6 => b"security.",
                _ => return Ok(()),
            };
            let value = value(fs, bytes, &row)?;
            total += value.len();
            if total > BYTES_MAX {
                return Err(Errno::EIO);
            }
            found.push(([prefix, row.name].concat(), value));
            Ok(())
        })
    };
    take(inner(node), 0)?;
    if node.xattrs != 0 {
        let block = fs
            .blocks
            .bytes(fs.block_at(node.xattrs)?, fs.block_size() as usize)?;
        if Fields(&block).u32(0)? != MAGIC {
            return Err(Errno::EIO);
        }
        take(&block, FIRST)?;
    }
    Ok(found)
}
