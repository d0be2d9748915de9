//! Where decompressed layers are kept for the next start: `$XDG_DATA_HOME/uvm/layers`.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fdatasync, linkat, openat};

/// The store; without a directory where there can be none.
pub(super) struct Store(Option<PathBuf>);

impl Store {
    /// The caller's.
    pub(super) fn open() -> Store {
        let absolute = |name: &str| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let data =
            absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share")));
        let directory = data.map(|data| data.join("uvm/layers"));
        let made =
            directory.filter(|path| DirBuilder::new().recursive(true).mode(0o700).create(path).is_ok());
        Store(made)
    }

    /// One that keeps nothing.
    #[cfg(test)]
    pub(super) fn none() -> Store {
        Store(None)
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

    /// Keep a file that [`Store::create`] made, whole. Whether it can be kept makes no difference to who uses it now.
    pub(super) fn keep(&self, file: &File, name: &str) {
        let Some(directory) = &self.0 else { return };
        if fdatasync(file).is_err() {
            return;
        }
        // Fails where another one was first, and for a file that is in another place.
        let from = format!("/proc/self/fd/{}", file.as_raw_fd());
        let _ = linkat(CWD, from, CWD, directory.join(name), AtFlags::SYMLINK_FOLLOW);
    }
}

fn unnamed(directory: &Path) -> rustix::io::Result<OwnedFd> {
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
