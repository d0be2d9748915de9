//! What clone(2) calls the fs context: root, working directory, umask.

use std::sync::Arc;

use super::Path;

/// Where a task's paths begin.
#[derive(Clone)]
pub struct Places {
    /// Root directory (chroot(2)).
    pub root: Path,
    /// Working directory.
    pub cwd: Path,
}

/// A task's places and umask.
#[derive(Clone)]
pub struct FsContext {
    /// Shared with the walks that began there: most calls need them, and few change them.
    places: Arc<Places>,
    /// Permission bits that new files do not get.
    pub umask: u32,
}

impl FsContext {
    /// Paths begin at `root` and `cwd`.
    pub fn new(root: Path, cwd: Path, umask: u32) -> FsContext {
        let places = Arc::new(Places { root, cwd });
        FsContext { places, umask }
    }

    /// Where paths begin now.
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// Change the root directory. The old one, which must be dropped without a lock.
    pub fn set_root(&mut self, root: Path) -> Path {
        std::mem::replace(&mut Arc::make_mut(&mut self.places).root, root)
    }

    /// Change the working directory. The old one, which must be dropped without a lock.
    pub fn set_cwd(&mut self, cwd: Path) -> Path {
        std::mem::replace(&mut Arc::make_mut(&mut self.places).cwd, cwd)
    }
}
