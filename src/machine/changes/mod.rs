//! What a guest changed on its root: listed, shown, carried out on the host, or written to an archive.

mod apply;
mod entry;
mod export;
mod json;
mod make;
mod patch;
mod place;
mod removal;

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::kernel::fs::FileType;
use crate::kernel::fs::memfs::MemFs;
use crate::kernel::time::Timestamp;
pub use apply::Refused;
use entry::{Entry, What};

/// The changes of a guest, parents before children, names in byte order.
pub struct Changes {
    entries: Vec<Entry>,
    /// When the guest began to look at the host's files.
    since: Timestamp,
}

impl Changes {
    /// What `upper` says otherwise than the host directory it lies upon, which was opened at `since`.
    pub fn of(upper: &MemFs, since: Timestamp) -> Result<Changes> {
        let mut entries = Vec::new();
        for change in upper.changes().context("listing the changes")? {
            let path = String::from_utf8_lossy(&change.path).into_owned();
            entries.extend(Entry::new(change).with_context(|| format!("looking at the change of /{path}"))?);
        }
        Ok(Changes { entries, since })
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One line for each change: what happened, the path, and old and new attributes where those changed.
    pub fn write_stat(&self, out: &mut dyn Write) -> io::Result<()> {
        for entry in &self.entries {
            writeln!(out, "{}", entry.summary())?;
        }
        Ok(())
    }

    /// A JSON object with a list of changes.
    pub fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(&self.entries, out)
    }

    /// A patch in git's format.
    pub fn write_patch(&self, out: &mut dyn Write) -> io::Result<()> {
        patch::write(&self.entries, out)
    }

    /// Carry out the changes at and below `paths` (absolute; all changes if there are none) on the host directory `root`.
    /// Nothing is changed at and below those that are `protected`. Returns what was not carried out.
    pub fn apply(
        &self,
        root: &std::path::Path,
        paths: &[PathBuf],
        protected: &[PathBuf],
    ) -> Result<Vec<Refused>> {
        let (chosen, others): (Vec<&Entry>, Vec<&Entry>) =
            self.entries.iter().partition(|entry| is_chosen(entry, paths));
        let spared = apply::Spared {
            protected,
            wanted: others.iter().filter_map(|entry| entry.moved).collect(),
        };
        apply::apply(root, &chosen, self.since, spared)
    }

    /// Whether anything has changed at or below a path.
    pub fn has(&self, path: &std::path::Path) -> bool {
        self.entries.iter().any(|entry| absolute(entry).starts_with(path))
    }

    /// Write the changes as the tar archive of an OCI image layer: what was removed is a whiteout. Times that are later than
    /// `latest`, in seconds, become that.
    pub fn export(&self, latest: Option<i64>, out: &mut dyn Write) -> io::Result<()> {
        export::write(&self.entries, latest, out)
    }
}

/// Where a change is, from the guest's root on.
fn absolute(entry: &Entry) -> PathBuf {
    std::path::Path::new("/").join(std::ffi::OsStr::from_bytes(&entry.path))
}

/// Whether a change is at or below one of these paths, or makes a directory above one of them.
fn is_chosen(entry: &Entry, paths: &[PathBuf]) -> bool {
    let path = absolute(entry);
    let makes_parent = |chosen: &PathBuf| {
        entry.what.contains(What::ADDED) && entry.kind() == FileType::Directory && chosen.starts_with(&path)
    };
    paths.is_empty()
        || paths
            .iter()
            .any(|chosen| path.starts_with(chosen) || makes_parent(chosen))
}

/// A path as text: as it is, or quoted in C's manner if it has control characters, quotes or bytes that are not UTF-8.
fn quoted(path: &[u8]) -> String {
    use std::fmt::Write;
    let plain = |c: char| !c.is_control() && c != '"' && c != '\\';
    if let Ok(text) = std::str::from_utf8(path)
        && text.chars().all(plain)
    {
        return text.to_owned();
    }
    let mut shown = String::from("\"");
    for &byte in path {
        // Writing to a string does not fail.
        let _ = match byte {
            b'"' | b'\\' => write!(shown, "\\{}", char::from(byte)),
            b'\n' => write!(shown, "\\n"),
            b'\t' => write!(shown, "\\t"),
            b' '..=b'~' => write!(shown, "{}", char::from(byte)),
            _ => write!(shown, "\\{byte:03o}"),
        };
    }
    shown.push('"');
    shown
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn odd_names_cannot_pass_for_others() {
        assert_eq!(quoted("a b/ä".as_bytes()), "a b/ä");
        assert_eq!(quoted(b"a\x1b[2J\n\xff\"\\"), r#""a\033[2J\n\377\"\\""#);
    }
}
