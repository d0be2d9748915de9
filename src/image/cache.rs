//! What is kept for the next start: decompressed layers and indexes, in `$XDG_DATA_HOME/uvm/layers`. All of it can be made anew.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, fdatasync, flock, linkat, openat};
use rustix::io::retry_on_intr;

/// The cache; without a directory where there can be none.
pub(super) struct Cache(Option<PathBuf>);

impl Cache {
    /// The caller's.
    pub(super) fn open() -> Cache {
        let directory = data_directory().map(|data| data.join("layers"));
        Cache(directory.filter(|path| make_directory(path).is_ok()))
    }

    /// Where it is.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.0.as_deref()
    }

    /// One that keeps nothing.
    #[cfg(test)]
    pub(super) fn none() -> Cache {
        Cache(None)
    }

    /// What is kept under a name.
    pub(super) fn find(&self, name: &str) -> Option<File> {
        File::open(self.0.as_ref()?.join(name)).ok()
    }

    /// A new file without a name, which goes away unless it is kept.
    pub(super) fn create(&self) -> Result<File> {
        let here = self.0.as_ref().map(|directory| unnamed(directory));
        let made = match here {
            Some(Ok(fd)) => fd,
            _ => tempfile().context("making a temporary file for a decompressed layer")?,
        };
        Ok(made.into())
    }

    /// Keep a file that [`Cache::create`] made, whole. Whether it can be kept makes no difference to who uses it now.
    pub(super) fn keep(&self, file: &File, name: &str) {
        if fdatasync(file).is_ok() {
            self.keep_unsynced(file, name);
        }
    }

    /// The same for one of which it is noticed if the machine goes down before all of it is on the disk.
    pub(super) fn keep_unsynced(&self, file: &File, name: &str) {
        let Some(directory) = &self.0 else { return };
        // Fails where another one was first, and for a file that is in another place.
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        let _ = linkat(CWD, from, CWD, directory.join(name), AtFlags::SYMLINK_FOLLOW);
    }

    /// Keep something no longer.
    pub(super) fn remove(&self, name: &str) {
        if let Some(directory) = &self.0 {
            // Another one may have been first.
            let _ = std::fs::remove_file(directory.join(name));
        }
    }
}

/// `$XDG_DATA_HOME/uvm`, as the base directory specification has it; none without a home.
pub fn data_directory() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let data = absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("uvm"))
}

/// A directory of the user's own, with those above it.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Lock a file, waiting for others.
pub(super) fn lock(file: &File, exclusive: bool) -> io::Result<()> {
    let operation = match exclusive {
        true => FlockOperation::LockExclusive,
        false => FlockOperation::LockShared,
    };
    Ok(retry_on_intr(|| flock(file, operation))?)
}

/// A new file without a name in a directory.
pub(super) fn unnamed(directory: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    openat(CWD, directory, flags, Mode::from_raw_mode(0o600))
}

/// A file in the directory of temporary ones that has no name any more.
fn tempfile() -> io::Result<OwnedFd> {
    let directory = std::env::temp_dir();
    if let Ok(fd) = unnamed(&directory) {
        return Ok(fd);
    }
    let path = directory.join(format!("uvm-layer-{}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}
