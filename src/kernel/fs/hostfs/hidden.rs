//! Host paths that are left out.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Statx};

use super::host;
use crate::kernel::stop::Errno;

/// Names and files that a tree does not show: the names whatever is behind them later, the files whatever else leads to
/// them.
#[derive(Default)]
pub(super) struct Hidden {
    names: HashMap<(u64, u64), HashSet<Box<[u8]>>>,
    files: HashSet<(u64, u64)>,
}

impl Hidden {
    /// What absolute paths of the host mean, and where they lead if they are links. Those that are not there are left
    /// out should they come.
    pub(super) fn new(paths: &[PathBuf]) -> Hidden {
        let mut hidden = Hidden::default();
        for path in paths {
            hidden.add(path);
            if let Ok(target) = path.canonicalize() {
                hidden.add(&target);
            }
        }
        hidden
    }

    fn add(&mut self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let stat = |path: &Path| host::stat_at(CWD, path.as_os_str().as_bytes());
        if let Ok(directory) = parent.canonicalize().map(|parent| stat(&parent))
            && let Ok(directory) = directory
        {
            let names = self.names.entry(host::key(&directory)).or_default();
            names.insert(name.as_bytes().into());
        }
        if let Ok(file) = stat(path) {
            self.files.insert(host::key(&file));
        }
    }

    /// Whether a name in this directory is not shown.
    pub(super) fn name(&self, directory: (u64, u64), name: &[u8]) -> bool {
        self.names
            .get(&directory)
            .is_some_and(|names| names.contains(name))
    }

    /// ENOENT for a file that is not shown, by whatever name.
    pub(super) fn check(&self, st: &Statx) -> Result<(), Errno> {
        if self.files.contains(&host::key(st)) {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }
}
