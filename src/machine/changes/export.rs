//! Changes as the tar archive of an OCI image layer.

use std::io::{self, Write};

use super::entry::{Entry, What};
use crate::image::pack::Packer;

/// Name before that of a removed file.
const WHITEOUT: &[u8] = b".wh.";
/// Name that says that nothing of lower layers is in a directory.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Write an archive that depends on the changes alone: entries in order of their paths, no times later than `latest`.
pub(super) fn write(entries: &[Entry], latest: Option<i64>, out: &mut dyn Write) -> io::Result<()> {
    let mut archive = Packer::new(out, latest);
    for entry in entries {
        let Some(after) = &entry.after else {
            let (directory, name) = split(&entry.path);
            archive.marker(&[directory, WHITEOUT, name].concat())?;
            continue;
        };
        let path: &[u8] = if entry.path.is_empty() { b"./" } else { &entry.path };
        archive.file(path, &after.inode, &after.meta)?;
        // A directory hides what was in the place of it by being one.
        if entry.opaque && !entry.what.contains(What::KIND) {
            archive.marker(&[&entry.path, &b"/"[..], OPAQUE].concat())?;
        }
    }
    archive.finish()
}

/// A path as directory, with its slash, and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let cut = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    path.split_at(cut)
}
