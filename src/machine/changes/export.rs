//! Changes as the tar archive of an OCI image layer.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

use super::entry::{Entry, Side, What};
use crate::kernel::fs::{FileType, major, minor};

/// Name before that of a removed file.
const WHITEOUT: &[u8] = b".wh.";
/// Name that says that nothing of lower layers is in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Write an archive that depends on the changes alone: entries in order of their paths, times in whole seconds.
pub(super) fn write(entries: &[Entry], out: &mut dyn Write) -> io::Result<()> {
    let mut archive = Builder::new(out);
    let mut names: HashMap<u64, Vec<u8>> = HashMap::new();
    for entry in entries {
        let Some(after) = &entry.after else {
            let (directory, name) = split(&entry.path);
            marker(&mut archive, &[directory, WHITEOUT, name].concat())?;
            continue;
        };
        if entry.path.is_empty() || after.kind() == FileType::Socket {
            continue;
        }
        let known = names.get(&after.meta.ino).cloned();
        if after.kind() != FileType::Directory && after.meta.nlink > 1 {
            names.entry(after.meta.ino).or_insert_with(|| entry.path.clone());
        }
        put(&mut archive, &entry.path, after, known)?;
        // A directory hides what was in the place of it by being one.
        if entry.opaque && !entry.what.contains(What::KIND) {
            marker(&mut archive, &[&entry.path, &b"/"[..], OPAQUE].concat())?;
        }
    }
    archive.into_inner()?.flush()
}

/// A path as directory, with its slash, and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let cut = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    path.split_at(cut)
}

fn path_of(bytes: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn marker(archive: &mut Builder<&mut dyn Write>, path: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(0);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, path_of(path), io::empty())
}

/// One file: a hard link to `known`, an earlier name of the same file, if there is one.
fn put(
    archive: &mut Builder<&mut dyn Write>,
    path: &[u8],
    side: &Side,
    known: Option<Vec<u8>>,
) -> io::Result<()> {
    let meta = &side.meta;
    let mut header = Header::new_gnu();
    header.set_mode(meta.mode & 0o7777);
    header.set_uid(meta.uid.into());
    header.set_gid(meta.gid.into());
    header.set_mtime(u64::try_from(meta.mtime.sec).unwrap_or(0));
    header.set_size(0);
    if let Some(known) = known {
        header.set_entry_type(EntryType::Link);
        return archive.append_link(&mut header, path_of(path), path_of(&known));
    }
    let xattrs = side.xattrs()?;
    if !xattrs.is_empty() {
        let records = xattrs.iter().map(|(name, value)| {
            (
                format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)),
                value.as_slice(),
            )
        });
        let records: Vec<(String, &[u8])> = records.collect();
        archive.append_pax_extensions(records.iter().map(|(name, value)| (name.as_str(), *value)))?;
    }
    match side.kind() {
        FileType::Regular => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(meta.size);
            return archive.append_data(&mut header, path_of(path), side.reader()?.take(meta.size));
        }
        FileType::Symlink => {
            header.set_entry_type(EntryType::Symlink);
            return archive.append_link(&mut header, path_of(path), path_of(&side.link()?));
        }
        FileType::Directory => header.set_entry_type(EntryType::Directory),
        FileType::Fifo => header.set_entry_type(EntryType::Fifo),
        FileType::CharDevice => header.set_entry_type(EntryType::Char),
        FileType::BlockDevice => header.set_entry_type(EntryType::Block),
        FileType::Socket => return Ok(()),
    }
    if matches!(side.kind(), FileType::CharDevice | FileType::BlockDevice) {
        header.set_device_major(major(meta.rdev))?;
        header.set_device_minor(minor(meta.rdev))?;
    }
    archive.append_data(&mut header, path_of(path), io::empty())
}
