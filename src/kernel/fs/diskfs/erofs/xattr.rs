//! Extended attributes: behind the inode, some of them by number in a part that files share.

use super::Erofs;
use crate::kernel::fs::diskfs::Xattr;
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::stop::Errno;

/// Bytes before the first one.
pub(super) const HEADER: u64 = 12;

/// Bytes of an attribute before its name.
const HEAD: usize = 4;

/// Those of an inode.
pub(super) fn read(fs: &Erofs, at: u64, words: u16) -> Result<Vec<Xattr>, Errno> {
    if words == 0 {
        return Ok(Vec::new());
    }
    let bytes = fs
        .blocks
        .bytes(at, HEADER as usize + usize::from(words - 1) * 4)?;
    let fields = Fields(&bytes);
    let shared = usize::from(fields.u8(4)?);
    let mut found = Vec::new();
    for number in 0..shared {
        let place = u64::from(fields.u32(HEADER as usize + number * 4)?) * 4 + fs.xattr_start;
        let head = fs.blocks.bytes(place, HEAD)?;
        let whole = fs.blocks.bytes(place, size(Fields(&head))?)?;
        found.extend(entry(Fields(&whole))?);
    }
    let mut next = HEADER as usize + shared * 4;
    while next + HEAD <= bytes.len() {
        let head = Fields(&bytes[next..]);
        // Nothing but zeroes up to the end.
        if head.u32(0)? == 0 {
            break;
        }
        found.extend(entry(head)?);
        next += size(head)?.next_multiple_of(4);
    }
    Ok(found)
}

/// Bytes of an attribute with its name and value.
fn size(head: Fields<'_>) -> Result<usize, Errno> {
    Ok(HEAD + usize::from(head.u8(0)?) + usize::from(head.u16(2)?))
}

/// An attribute; none of a kind that guests are not shown.
fn entry(fields: Fields<'_>) -> Result<Option<Xattr>, Errno> {
    let len = usize::from(fields.u8(0)?);
    let name = fields.bytes(HEAD, len)?;
    let value = fields.bytes(HEAD + len, usize::from(fields.u16(2)?))?;
    let prefix: &[u8] = match fields.u8(1)? {
        1 => b"user.",
        4 => b"trusted.",
        6 => b"security.",
        _ => return Ok(None),
    };
    Ok(Some(([prefix, name].concat(), value.to_vec())))
}
