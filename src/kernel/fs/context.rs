//! What clone(2) calls the fs context: root, working directory, umask.

use super::Path;

/// Where a task's paths begin.
#[derive(Clone)]
pub struct FsContext {
    /// Root directory (chroot(2)).
    pub root: Path,
    /// Working directory.
    pub cwd: Path,
    /// Permission bits that new files do not get.
    pub umask: u32,
}
