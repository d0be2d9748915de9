//! One change: what is different at a path, found by comparing what was there with what is.

use std::io::Read;
use std::sync::Arc;

use bitflags::bitflags;

use super::quoted;
use crate::image::pack::{self, Xattr};
use crate::kernel::fs::memfs::Change;
use crate::kernel::fs::reader::InodeReader;
use crate::kernel::fs::{FileType, Inode, Link, Metadata, major, minor};
use crate::kernel::stop::Errno;

bitflags! {
    /// What happened at a path.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct What: u8 {
        /// There was nothing.
        const ADDED = 1;
        /// There is nothing any more, below it neither.
        const DELETED = 2;
        /// It became another kind of file.
        const KIND = 4;
        /// Contents of a file, text of a link, number of a device.
        const CONTENTS = 8;
        /// Permission bits.
        const MODE = 16;
        /// Owner or group.
        const OWNER = 32;
        /// Time of the last change of contents; not of directories.
        const TIME = 64;
        /// Extended attributes.
        const XATTRS = 128;
    }
}

/// A file on one side of a change.
pub(super) struct Side {
    pub(super) inode: Arc<dyn Inode>,
    pub(super) meta: Metadata,
}

/// A change.
pub(super) struct Entry {
    /// Names from the root on, with a slash between.
    pub(super) path: Vec<u8>,
    pub(super) before: Option<Side>,
    pub(super) after: Option<Side>,
    pub(super) what: What,
    /// The number of the host's inode of another path that it came from.
    pub(super) moved: Option<u64>,
    /// A directory that was removed and made again.
    pub(super) opaque: bool,
}

impl Side {
    pub(super) fn new(inode: Arc<dyn Inode>) -> Result<Side, Errno> {
        let meta = inode.metadata()?;
        Ok(Side { inode, meta })
    }

    pub(super) fn kind(&self) -> FileType {
        self.inode.file_type()
    }

    /// Where a symbolic link leads; nothing for anything else.
    pub(super) fn link(&self) -> Result<Vec<u8>, Errno> {
        match self.inode.read_link(None)? {
            Link::Text(text) => Ok(text),
            Link::Jump(_) => Err(Errno::EINVAL),
        }
    }

    /// Extended attributes by name.
    pub(super) fn xattrs(&self) -> Result<Vec<Xattr>, Errno> {
        pack::xattrs(&self.inode)
    }

    pub(super) fn reader(&self) -> Result<InodeReader, Errno> {
        InodeReader::open(&self.inode)
    }
}

impl Entry {
    /// What there is to say of a change; none if both sides are equal.
    pub(super) fn new(change: Change) -> anyhow::Result<Option<Entry>> {
        let before = change.before.map(Side::new).transpose()?;
        let after = change.after.map(Side::new).transpose()?;
        let what = match (&before, &after) {
            (None, None) => return Ok(None),
            (None, Some(_)) => What::ADDED,
            (Some(_), None) => What::DELETED,
            (Some(before), Some(after)) => match compare(before, after, change.rewritten) {
                // Nothing of it is left on the host to be compared with.
                Err(error) if is_gone(&error) => What::CONTENTS,
                what => what?,
            },
        };
        let entry = Entry {
            path: change.path,
            before,
            after,
            what,
            moved: change.moved,
            opaque: change.opaque,
        };
        Ok((!what.is_empty() || change.opaque).then_some(entry))
    }

    /// The side that says what kind of file this is about.
    pub(super) fn kind(&self) -> FileType {
        let side = self.after.as_ref().or(self.before.as_ref());
        side.map_or(FileType::Regular, Side::kind)
    }

    /// Whether something is there that was not, or not so.
    pub(super) fn is_new(&self) -> bool {
        self.what.intersects(What::ADDED | What::KIND)
    }

    /// One line: a letter, the path, and what became of attributes.
    pub(super) fn summary(&self) -> String {
        let letter = match self.what {
            what if what.contains(What::ADDED) => 'A',
            what if what.contains(What::DELETED) => 'D',
            what if what.contains(What::KIND) => 'K',
            what if what.contains(What::CONTENTS) => 'M',
            _ => 'm',
        };
        let slash = if self.kind() == FileType::Directory {
            "/"
        } else {
            ""
        };
        let path = match self.path.as_slice() {
            b"" => b"/".to_vec(),
            path => [b"/", path, slash.as_bytes()].concat(),
        };
        let mut text = format!("{letter} {}", quoted(&path));
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return text;
        };
        let (old, new) = (&before.meta, &after.meta);
        let mut notes = Vec::new();
        if self.what.contains(What::MODE) {
            notes.push(format!(
                "mode {:04o} to {:04o}",
                old.mode & 0o7777,
                new.mode & 0o7777
            ));
        }
        if self.what.contains(What::OWNER) {
            notes.push(format!(
                "owner {}:{} to {}:{}",
                old.uid, old.gid, new.uid, new.gid
            ));
        }
        for (bit, note) in [(What::TIME, "time"), (What::XATTRS, "extended attributes")] {
            if self.what.contains(bit) && !self.what.contains(What::CONTENTS) {
                notes.push(note.to_owned());
            }
        }
        if self.opaque {
            notes.push("removed and made again".to_owned());
        }
        if !notes.is_empty() {
            text += &format!(" ({})", notes.join(", "));
        }
        text
    }
}

/// The differences between two files.
fn compare(before: &Side, after: &Side, rewritten: bool) -> anyhow::Result<What> {
    let (old, new) = (&before.meta, &after.meta);
    let mut what = What::empty();
    if before.kind() != after.kind() {
        return Ok(What::KIND);
    }
    let contents = rewritten
        && match after.kind() {
            FileType::Regular => !same_contents(before, after)?,
            FileType::Symlink => before.link()? != after.link()?,
            FileType::CharDevice | FileType::BlockDevice => {
                (major(old.rdev), minor(old.rdev)) != (major(new.rdev), minor(new.rdev))
            }
            _ => false,
        };
    what.set(What::CONTENTS, contents);
    let is_link = after.kind() == FileType::Symlink;
    what.set(What::MODE, !is_link && (old.mode ^ new.mode) & 0o7777 != 0);
    what.set(What::OWNER, (old.uid, old.gid) != (new.uid, new.gid));
    let times = after.kind() != FileType::Directory && old.mtime != new.mtime;
    what.set(What::TIME, times);
    what.set(What::XATTRS, before.xattrs()? != after.xattrs()?);
    Ok(what)
}

/// Whether a file of the host is no longer there.
fn is_gone(error: &anyhow::Error) -> bool {
    let by_read = error
        .downcast_ref::<std::io::Error>()
        .and_then(|error| error.raw_os_error());
    let errno = error.downcast_ref::<Errno>().copied();
    matches!(
        errno.or(by_read.map(Errno::from_raw)),
        Some(Errno::ENOENT | Errno::ESTALE)
    )
}

fn same_contents(before: &Side, after: &Side) -> anyhow::Result<bool> {
    const PIECE: u64 = 128 << 10;
    if before.meta.size != after.meta.size {
        return Ok(false);
    }
    if after.meta.size == 0 {
        return Ok(true);
    }
    let mut before = match before.reader() {
        // It was written anew by who could not read it.
        Err(Errno::EACCES) => return Ok(false),
        opened => opened?,
    };
    let mut after = after.reader()?;
    loop {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        before.skip_hole()?;
        after.skip_hole()?;
        let data = before.position().min(after.position());
        before.set_position(data);
        after.set_position(data);
        before.by_ref().take(PIECE).read_to_end(&mut one)?;
        after.by_ref().take(PIECE).read_to_end(&mut other)?;
        if one != other {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}
