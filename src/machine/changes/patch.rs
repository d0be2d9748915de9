//! Changes as a patch in git's format, which patch(1) and git-apply(1) read.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use similar::TextDiff;

use super::entry::{Entry, Side, What};
use super::quoted;
use crate::kernel::fs::reader::InodeReader;
use crate::kernel::fs::{FileType, Inode};
use crate::kernel::stop::Errno;

/// Largest file that is compared line by line, in bytes.
const TEXT_MAX: u64 = 8 << 20;

/// How long the shortest difference of two files is looked for; a longer one is taken after that.
const SEARCH: Duration = Duration::from_secs(5);

/// Lines around a difference that are shown.
const CONTEXT: usize = 3;

/// Where a zero byte makes a file a binary one, as git has it.
const LOOK_FOR_ZERO: usize = 8000;

/// Write all changes that a patch can say: of files and links. Owners, times and special files are left out.
pub(super) fn write(entries: &[Entry], out: &mut dyn Write) -> io::Result<()> {
    for entry in entries {
        let (before, after) = (file(entry.before.as_ref()), file(entry.after.as_ref()));
        if entry.what.contains(What::DELETED) && entry.kind() == FileType::Directory {
            if let Some(side) = &entry.before {
                removed_below(&entry.path, &side.inode, out)?;
            }
        } else if entry.what.contains(What::KIND) {
            if let Some(side) = entry
                .before
                .as_ref()
                .filter(|side| side.kind() == FileType::Directory)
            {
                removed_below(&entry.path, &side.inode, out)?;
            }
            // git tells of a file that became a link in two parts.
            for (before, after) in [(before, None), (None, after)] {
                if before.is_some() || after.is_some() {
                    one(&entry.path, before, after, out)?;
                }
            }
        } else if before.is_some() || after.is_some() {
            one(&entry.path, before, after, out)?;
        }
    }
    Ok(())
}

/// A side that a patch can show.
fn file(side: Option<&Side>) -> Option<&Side> {
    side.filter(|side| matches!(side.kind(), FileType::Regular | FileType::Symlink))
}

/// A directory is gone: all files below it are.
fn removed_below(path: &[u8], top: &Arc<dyn Inode>, out: &mut dyn Write) -> io::Result<()> {
    let mut left = vec![(path.to_vec(), top.clone())];
    while let Some((path, inode)) = left.pop() {
        if inode.file_type() != FileType::Directory {
            let side = Side::new(inode)?;
            if let Some(side) = file(Some(&side)) {
                one(&path, Some(side), None, out)?;
            }
            continue;
        }
        for name in InodeReader::open(&inode)?.names()?.into_iter().rev() {
            let child = inode.lookup(&name)?;
            left.push(([&path, &b"/"[..], &name].concat(), child));
        }
    }
    Ok(())
}

fn one(path: &[u8], before: Option<&Side>, after: Option<&Side>, out: &mut dyn Write) -> io::Result<()> {
    let old_name = quoted(&[b"a/", path].concat());
    let new_name = quoted(&[b"b/", path].concat());
    let (old_mode, new_mode) = (before.map(git_mode), after.map(git_mode));
    let (old, new) = (contents(before)?, contents(after)?);
    if old_mode == new_mode && old == new && old.is_some() {
        return Ok(());
    }
    writeln!(out, "diff --git {old_name} {new_name}")?;
    match (old_mode, new_mode) {
        (None, Some(mode)) => writeln!(out, "new file mode {mode}")?,
        (Some(mode), None) => writeln!(out, "deleted file mode {mode}")?,
        (Some(old), Some(new)) if old != new => writeln!(out, "old mode {old}\nnew mode {new}")?,
        _ => {}
    }
    let old_name = if before.is_some() { &old_name } else { "/dev/null" };
    let new_name = if after.is_some() { &new_name } else { "/dev/null" };
    let (Some(old), Some(new)) = (old, new) else {
        return writeln!(out, "Binary files {old_name} and {new_name} differ");
    };
    if old == new {
        return Ok(());
    }
    writeln!(out, "--- {old_name}\n+++ {new_name}")?;
    hunks(&old, &new, out)
}

/// The differences of two texts, whatever bytes they are of. Lines end with a line feed and nothing else, as for patch(1).
fn hunks(old: &[u8], new: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let lines = |text| -> Vec<&[u8]> { <[u8]>::split_inclusive(text, |byte| *byte == b'\n').collect() };
    let (old, new) = (lines(old), lines(new));
    let diff = TextDiff::configure().timeout(SEARCH).diff_slices(&old, &new);
    for group in diff.grouped_ops(CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            continue;
        };
        let range = |from: usize, to: usize| match to - from {
            // A place between lines is told by the line before it.
            0 => format!("{from},0"),
            count => format!("{},{count}", from + 1),
        };
        let old_range = range(first.old_range().start, last.old_range().end);
        let new_range = range(first.new_range().start, last.new_range().end);
        writeln!(out, "@@ -{old_range} +{new_range} @@")?;
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let line = change.value();
            write!(out, "{}", change.tag())?;
            out.write_all(line)?;
            if !line.ends_with(b"\n") {
                writeln!(out, "\n\\ No newline at end of file")?;
            }
        }
    }
    Ok(())
}

/// git knows executable files, others, and links.
fn git_mode(side: &Side) -> &'static str {
    match side.kind() {
        FileType::Symlink => "120000",
        _ if side.meta.mode & 0o111 != 0 => "100755",
        _ => "100644",
    }
}

/// The lines of a file, nothing for a side that is missing; none when it is no text or not for us to read.
fn contents(side: Option<&Side>) -> io::Result<Option<Vec<u8>>> {
    let Some(side) = side else {
        return Ok(Some(Vec::new()));
    };
    if side.kind() == FileType::Symlink {
        return Ok(Some(side.link()?));
    }
    if side.meta.size > TEXT_MAX {
        return Ok(None);
    }
    let reader = match side.reader() {
        Err(Errno::EACCES) if side.meta.size > 0 => return Ok(None),
        Err(Errno::EACCES) => return Ok(Some(Vec::new())),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    reader.take(TEXT_MAX).read_to_end(&mut bytes)?;
    let zero = bytes.iter().take(LOOK_FOR_ZERO).any(|&byte| byte == 0);
    Ok((!zero).then_some(bytes))
}
