//! Extended attributes: sets that files share, each a list of names and values.

use super::meta::Cursor;
use super::{Squashfs, Xattr};
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::stop::Errno;

/// Most attributes of a file, and most bytes of all.
const COUNT_MAX: u32 = 4096;
const BYTES_MAX: usize = 1 << 20;

/// The set of this number.
pub(super) fn read(fs: &Squashfs, index: u32) -> Result<Vec<Xattr>, Errno> {
    if fs.xattr_table == u64::MAX {
        return Ok(Vec::new());
    }
    let mut table = [0; 16];
    fs.medium.read(&mut table, fs.xattr_table)?;
    let table = Fields(&table);
    let start = table.u64(0)?;
    if index >= table.u32(8)? {
        return Err(Errno::EIO);
    }
    let row = fs.row(fs.xattr_table + 16, index)?;
    let row = Fields(&row);
    let count = row.u32(8)?;
    if count > COUNT_MAX {
        return Err(Errno::EIO);
    }
    let mut cursor = Cursor::within(start, row.u64(0)?)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    for _ in 0..count {
        let (kind, name) = key(fs, &mut cursor)?;
        let value = value(fs, &mut cursor, start, kind)?;
        bytes += name.len() + value.len();
        if bytes > BYTES_MAX {
            return Err(Errno::EIO);
        }
        let prefix: &[u8] = match kind & 0xff {
            0 => b"user.",
            1 => b"trusted.",
            2 => b"security.",
            _ => continue,
        };
        found.push(([prefix, &name].concat(), value));
    }
    Ok(found)
}

fn key(fs: &Squashfs, cursor: &mut Cursor) -> Result<(u16, Vec<u8>), Errno> {
    let mut head = [0; 4];
    fs.read_meta(cursor, &mut head)?;
    let head = Fields(&head);
    let mut name = vec![0; usize::from(head.u16(2)?)];
    fs.read_meta(cursor, &mut name)?;
    Ok((head.u16(0)?, name))
}

/// The value behind a name; one that several names have is elsewhere.
fn value(fs: &Squashfs, cursor: &mut Cursor, table: u64, kind: u16) -> Result<Vec<u8>, Errno> {
    const ELSEWHERE: u16 = 0x100;
    let mut size = [0; 4];
    fs.read_meta(cursor, &mut size)?;
    let mut at = cursor.clone();
    if kind & ELSEWHERE != 0 {
        let mut reference = [0; 8];
        fs.read_meta(cursor, &mut reference)?;
        at = Cursor::within(table, u64::from_le_bytes(reference))?;
        fs.read_meta(&mut at, &mut size)?;
    }
    let len = usize::try_from(u32::from_le_bytes(size)).map_err(|_| Errno::EIO)?;
    if len > 1 << 16 {
        return Err(Errno::EIO);
    }
    let mut value = vec![0; len];
    fs.read_meta(&mut at, &mut value)?;
    if kind & ELSEWHERE == 0 {
        *cursor = at;
    }
    Ok(value)
}
