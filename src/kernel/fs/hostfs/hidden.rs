//! Host paths that are left out.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Statx};

use super::host;
use crate::kernel::fs::FileType;
use crate::kernel::stop::Errno;

/// Names and files that a tree does not show: the names whatever is behind them later, the files whatever else leads to
/// them.
#[derive(Default)]
pub(super) struct Hidden {
    names: HashMap<(u64, u64), HashSet<Box<[u8]>>>,
    files: HashSet<(u64, u64)>,
    /// Directories that have nothing in them.
    emptied: HashSet<(u64, u64)>,
}

impl Hidden {
    /// What absolute paths of the host mean, and where they lead if they are links. Those that are not there are left
    /// out should they come, if the directory that they would be in is there.
    pub(super) fn new(paths: &[PathBuf], emptied: &[PathBuf]) -> Hidden {
        let key = |path: &PathBuf| std::fs::metadata(path).ok().map(|st| (st.dev(), st.ino()));
        let mut hidden = Hidden {
            emptied: emptied.iter().filter_map(key).collect(),
            ..Hidden::default()
        };
        let mut directories = HashMap::new();
        for path in paths {
            let is_link = hidden.add(path, &mut directories);
            if is_link && let Ok(target) = path.canonicalize() {
                hidden.add(&target, &mut directories);
            }
        }
        hidden
    }

    /// Hide one. Says whether it is a link. `directories` are those that were looked at before: most paths are in a few.
    fn add(&mut self, path: &Path, directories: &mut HashMap<PathBuf, Option<(u64, u64)>>) -> bool {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return false;
        };
        let look = || std::fs::metadata(parent).ok().map(|st| (st.dev(), st.ino()));
        let known = directories.get(parent).copied();
        let directory = known.unwrap_or_else(|| {
            let found = look();
            directories.insert(parent.to_owned(), found);
            found
        });
        let Some(directory) = directory else {
            return false;
        };
        let names = self.names.entry(directory).or_default();
        names.insert(name.as_bytes().into());
        let Ok(file) = host::stat_at(CWD, path.as_os_str().as_bytes()) else {
            return false;
        };
        self.files.insert(host::key(&file));
        host::kind(&file) == FileType::Symlink
    }

    /// Whether a name in this directory is not shown.
    pub(super) fn name(&self, directory: (u64, u64), name: &[u8]) -> bool {
        self.names
            .get(&directory)
            .is_some_and(|names| names.contains(name))
    }

    /// Whether nothing in this directory is shown.
    pub(super) fn empties(&self, directory: (u64, u64)) -> bool {
        self.emptied.contains(&directory)
    }

    /// ENOENT for a file that is not shown, by whatever name.
    pub(super) fn check(&self, st: &Statx) -> Result<(), Errno> {
        if self.files.contains(&host::key(st)) {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }
}
