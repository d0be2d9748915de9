//! Host files that stay as they are in directories that the guest may write to.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::inode::HostInode;
use crate::kernel::fs::Inode;
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};

/// What the guest cannot change, however it is reached: one for all trees of a guest, as what is mounted where is the guest's to say.
pub struct Protected {
    keys: Lock<Keys>,
}

/// Host devices and inode numbers.
#[derive(Default)]
struct Keys {
    /// Files, and directories with all that is in them.
    tops: HashSet<(u64, u64)>,
    /// Directories above those, and above what is hidden: they keep their names, or something else could take their place.
    above: HashSet<(u64, u64)>,
}

impl Keys {
    fn is_empty(&self) -> bool {
        self.tops.is_empty() && self.above.is_empty()
    }
}

impl Default for Protected {
    fn default() -> Protected {
        Protected {
            keys: Lock::new(Rank::Leaf, Keys::default()),
        }
    }
}

impl Protected {
    /// Have the directories above this path of the host keep their names, if it is there: what is hidden is so by where it is.
    pub(super) fn keep_names_above(&self, path: &Path) {
        if path.symlink_metadata().is_err() {
            return;
        }
        for above in path.ancestors().skip(1) {
            if let Ok(meta) = above.metadata() {
                self.keys.lock().above.insert((meta.dev(), meta.ino()));
            }
        }
    }

    pub(super) fn is_top(&self, key: (u64, u64)) -> bool {
        self.keys.lock().tops.contains(&key)
    }

    /// EBUSY for a file that is to keep its name.
    pub(super) fn check_name(&self, key: impl FnOnce() -> Result<(u64, u64), Errno>) -> Result<(), Errno> {
        if self.keys.lock().is_empty() {
            return Ok(());
        }
        let key = match key() {
            // The call itself will say so.
            Err(Errno::ENOENT) => return Ok(()),
            key => key?,
        };
        let keys = self.keys.lock();
        if keys.tops.contains(&key) || keys.above.contains(&key) {
            return Err(Errno::EBUSY);
        }
        Ok(())
    }
}

fn host_inode(inode: &Arc<dyn Inode>) -> Option<&HostInode> {
    let any: &dyn std::any::Any = &**inode;
    any.downcast_ref()
}

/// Protect a file of the host, or a directory with all that is in it; nothing to do for any other inode.
pub fn protect(inode: &Arc<dyn Inode>) {
    if let Some(inode) = host_inode(inode) {
        inode.tree.protected.keys.lock().tops.insert(inode.key());
    }
}

/// Have a directory above what is protected keep its name.
pub fn keep_name(inode: &Arc<dyn Inode>) {
    if let Some(inode) = host_inode(inode) {
        inode.tree.protected.keys.lock().above.insert(inode.key());
    }
}
