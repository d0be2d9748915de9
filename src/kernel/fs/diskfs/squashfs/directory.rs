//! Directories: names in byte order, in runs of up to 256 whose inodes are in one table block.

use super::inode::{Contents, Directory, Node};
use super::meta::Cursor;
use super::{Entry, Squashfs};
use crate::kernel::fs::FileType;
use crate::kernel::fs::diskfs::fields::Fields;
use crate::kernel::stop::Errno;

/// Most names of a run.
const RUN_MAX: u32 = 256;

/// Bits of a place that are a name's number in its run.
const PLACE_BITS: u32 = 9;

/// Longest name, in bytes.
const NAME_MAX: usize = 256;

fn directory(node: &Node) -> Result<&Directory, Errno> {
    match &node.contents {
        Contents::Directory(directory) => Ok(directory),
        _ => Err(Errno::EIO),
    }
}

pub(super) fn list(
    fs: &Squashfs,
    node: &Node,
    from: u64,
    emit: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<(), Errno> {
    let directory = directory(node)?;
    // A name's place is that of its run, and its number in that.
    let wanted = u32::try_from(from >> PLACE_BITS).map_err(|_| Errno::EINVAL)?;
    let (mut run, mut cursor) = directory.last.lock().clone();
    if run > wanted {
        (run, cursor) = (0, directory.start.clone());
    }
    while run < directory.len {
        let here = (run, cursor.clone());
        let go_on = &mut |entry: Entry<'_>| entry.next <= from || emit(entry);
        let more = tell_run(fs, &mut cursor, &mut run, directory.len, go_on)?;
        if !more {
            *directory.last.lock() = here;
            break;
        }
    }
    Ok(())
}

pub(super) fn find(fs: &Squashfs, node: &Node, name: &[u8]) -> Result<u64, Errno> {
    let directory = directory(node)?;
    let (start, len) = mark_before(fs, directory, name)?;
    let mut found = None;
    let (mut run, mut cursor) = (0, start);
    let look = &mut |entry: Entry<'_>| {
        if entry.name == name {
            found = Some(entry.id);
        }
        entry.name < name
    };
    while run < len && tell_run(fs, &mut cursor, &mut run, len, look)? {}
    found.ok_or(Errno::ENOENT)
}

/// Where to begin to look for a name, and how many bytes there are from there on.
fn mark_before(fs: &Squashfs, directory: &Directory, name: &[u8]) -> Result<(Cursor, u32), Errno> {
    let mut best = (directory.start.clone(), directory.len);
    let Some((cursor, marks)) = &directory.marks else {
        return Ok(best);
    };
    let mut cursor = cursor.clone();
    let mut text = [0; NAME_MAX];
    for _ in 0..*marks {
        let mut mark = [0; 12];
        fs.read_meta(&mut cursor, &mut mark)?;
        let mark = Fields(&mark);
        let len = mark.u32(8)?.checked_add(1).ok_or(Errno::EIO)? as usize;
        let text = text.get_mut(..len).ok_or(Errno::EIO)?;
        fs.read_meta(&mut cursor, text)?;
        if *text > *name {
            break;
        }
        // A mark is where a run begins: the block, and how far into the directory it is, which gives the offset.
        let (skip, block) = (mark.u32(0)?, mark.u32(4)?);
        let at = fs
            .directory_table
            .checked_add(u64::from(block))
            .ok_or(Errno::EIO)?;
        let offset = directory.start.offset_after(u64::from(skip));
        let left = directory.len.checked_sub(skip).ok_or(Errno::EIO)?;
        best = (Cursor::new(at, offset), left);
    }
    Ok(best)
}

/// Tell `emit` of each name of the run that begins `run` bytes into a directory of `len` bytes, and go on behind it; whether
/// more is wanted, and there may be more.
fn tell_run(
    fs: &Squashfs,
    cursor: &mut Cursor,
    run: &mut u32,
    len: u32,
    emit: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<bool, Errno> {
    let begin = *run;
    let mut left = match len.saturating_sub(begin).checked_sub(12) {
        Some(left) => left,
        None => return Ok(false),
    };
    let mut header = [0; 12];
    fs.read_meta(cursor, &mut header)?;
    let header = Fields(&header);
    let count = header.u32(0)?.checked_add(1).filter(|&count| count <= RUN_MAX);
    let count = count.ok_or(Errno::EIO)?;
    let block = u64::from(header.u32(4)?);
    let mut name = [0; NAME_MAX];
    for number in 1..=count {
        let mut entry = [0; 8];
        fs.read_meta(cursor, &mut entry)?;
        let entry = Fields(&entry);
        let len = usize::from(entry.u16(6)?) + 1;
        let name = name.get_mut(..len).ok_or(Errno::EIO)?;
        fs.read_meta(cursor, name)?;
        left = left.checked_sub(8 + len as u32).ok_or(Errno::EIO)?;
        let told = Entry {
            name,
            id: Squashfs::id_of((block << 16) | u64::from(entry.u16(0)?)),
            kind: kind(entry.u16(4)?),
            next: (u64::from(begin) << PLACE_BITS) + u64::from(number),
        };
        if !emit(told) {
            return Ok(false);
        }
    }
    *run = len - left;
    Ok(true)
}

fn kind(number: u16) -> Option<FileType> {
    Some(match number {
        1 => FileType::Directory,
        2 => FileType::Regular,
        3 => FileType::Symlink,
        4 => FileType::BlockDevice,
        5 => FileType::CharDevice,
        6 => FileType::Fifo,
        7 => FileType::Socket,
        _ => return None,
    })
}
