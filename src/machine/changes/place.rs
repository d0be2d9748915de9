//! Where changes are carried out. Everything is reached from one descriptor of the root by openat2(2) without following a link, so
//! that what happens on the host meanwhile cannot lead elsewhere.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType as HostType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, openat, openat2,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::apply::Problem;
use crate::kernel::time::Timestamp;

/// The tree that is changed.
pub(super) struct Host {
    root: OwnedFd,
    /// Number of the next name of our own.
    next: u64,
}

/// A directory of the host and a name in it.
pub(super) struct Place<'a> {
    pub(super) directory: OwnedFd,
    pub(super) name: &'a [u8],
}

impl Host {
    pub(super) fn open(root: &Path) -> rustix::io::Result<Host> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty())?;
        Ok(Host { root, next: 0 })
    }

    /// Where a path of the guest is on the host.
    pub(super) fn place<'a>(&self, path: &'a [u8]) -> Result<Place<'a>, Problem> {
        let (above, name) = split(path);
        let above = if above.is_empty() { b"." } else { above };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match openat2(&self.root, above, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(Problem::Changed),
            opened => opened?,
        };
        Ok(Place { directory, name })
    }

    /// A path beside this one with a name that nobody else uses.
    pub(super) fn own_path(&mut self, path: &[u8]) -> Vec<u8> {
        let (above, _) = split(path);
        let name = format!(".uvm-apply-{}-{}", std::process::id(), self.next);
        self.next += 1;
        let slash: &[u8] = if above.is_empty() { b"" } else { b"/" };
        [above, slash, name.as_bytes()].concat()
    }
}

/// The directory of a path, empty for the root, and the last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(cut) => (&path[..cut], &path[cut + 1..]),
        None => (b"", path),
    }
}

impl Place<'_> {
    /// What is there; none if nothing is.
    pub(super) fn stat(&self) -> Result<Option<Stat>, Problem> {
        match statat(&self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// A descriptor of what is there, a link itself, that can only be used to name it.
    pub(super) fn open(&self) -> Result<OwnedFd, Problem> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.directory, self.name, flags, Mode::empty()) {
            Err(Errno::NOENT) => Err(Problem::Changed),
            opened => Ok(opened?),
        }
    }

    /// Remove what is no directory.
    pub(super) fn unlink(&self) -> Result<(), Problem> {
        Ok(unlinkat(&self.directory, self.name, AtFlags::empty())?)
    }

    /// Give it a name where nothing is.
    pub(super) fn rename(&self, to: &Place<'_>) -> Result<(), Problem> {
        self.renamed(to, RenameFlags::NOREPLACE)
    }

    /// Have the two change places. Where the file system cannot, this one's file replaces the other.
    pub(super) fn exchange(&self, with: &Place<'_>) -> Result<(), Problem> {
        self.renamed(with, RenameFlags::EXCHANGE)
    }

    fn renamed(&self, to: &Place<'_>, flags: RenameFlags) -> Result<(), Problem> {
        let rename = |flags| renameat_with(&self.directory, self.name, &to.directory, to.name, flags);
        let renamed = match rename(flags) {
            // A file system that knows no flags.
            Err(Errno::INVAL) if flags == RenameFlags::EXCHANGE || to.stat()?.is_none() => {
                rename(RenameFlags::empty())
            }
            renamed => renamed,
        };
        match renamed {
            Err(Errno::EXIST) => Err(Problem::Taken),
            Err(Errno::NOENT) => Err(Problem::Changed),
            renamed => Ok(renamed?),
        }
    }
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    HostType::from_raw_mode(stat.st_mode) == HostType::Directory
}

/// When attributes of a file were last changed.
pub(super) fn ctime(stat: &Stat) -> Timestamp {
    timestamp(stat.st_ctime, stat.st_ctime_nsec)
}

/// When its contents were.
pub(super) fn mtime(stat: &Stat) -> Timestamp {
    timestamp(stat.st_mtime, stat.st_mtime_nsec)
}

fn timestamp(sec: i64, nsec: u64) -> Timestamp {
    Timestamp {
        sec,
        nsec: u32::try_from(nsec).unwrap_or(0),
    }
}

pub(super) fn is_later(time: Timestamp, since: Timestamp) -> bool {
    (time.sec, time.nsec) > (since.sec, since.nsec)
}
