//! Names: dentries, mounts and paths.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use bitflags::bitflags;

use super::{FileSystem, Inode};
use crate::kernel::sync::{Lock, Rank};

/// A name in a directory, with what it names. A dentry exists as long as something uses it or the cache keeps it.
pub struct Dentry {
    /// What it names.
    pub inode: Arc<dyn Inode>,
    place: Lock<Place>,
    children: Lock<HashMap<Vec<u8>, Weak<Dentry>>>,
    unlinked: AtomicBool,
    /// Mounts of any tree upon it: lets the walk skip the mount table.
    pub(super) mounted_on: AtomicU32,
}

#[derive(Clone)]
struct Place {
    name: Vec<u8>,
    parent: Option<Arc<Dentry>>,
}

impl Dentry {
    /// The root of a file system.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Dentry::build(inode, Vec::new(), None)
    }

    fn build(inode: Arc<dyn Inode>, name: Vec<u8>, parent: Option<Arc<Dentry>>) -> Arc<Dentry> {
        Arc::new(Dentry {
            inode,
            place: Lock::new(Rank::Leaf, Place { name, parent }),
            children: Lock::new(Rank::Dentry, HashMap::new()),
            unlinked: AtomicBool::new(false),
            mounted_on: AtomicU32::new(0),
        })
    }

    /// The dentry for `name` in this directory, which is `inode`: the one in use if there is one for the same inode.
    pub fn child(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let mut children = self.children.lock();
        if let Some(known) = children.get(name).and_then(Weak::upgrade)
            && Arc::ptr_eq(&known.inode, &inode)
        {
            return known;
        }
        let dentry = Dentry::build(inode, name.to_vec(), Some(self.clone()));
        children.insert(name.to_vec(), Arc::downgrade(&dentry));
        dentry
    }

    /// The dentry for `name` if somebody uses it.
    pub fn known_child(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        self.children.lock().get(name).and_then(Weak::upgrade)
    }

    /// The directory it is in; none for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// Its name; empty for a root.
    pub fn name(&self) -> Vec<u8> {
        self.place.lock().name.clone()
    }

    /// Whether the name was removed while the dentry was in use.
    pub fn is_unlinked(&self) -> bool {
        self.unlinked.load(Ordering::Relaxed)
    }
}

bitflags! {
    /// Per-mount flags with the values of MS_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    #[allow(missing_docs)]
    pub struct MountFlags: u32 {
        const READ_ONLY = 1;
        const NOSUID = 2;
        const NODEV = 4;
        const NOEXEC = 8;
        const NOATIME = 1024;
        const NODIRATIME = 2048;
        const RELATIME = 1 << 21;
    }
}

/// A file system at a place in the tree.
pub struct Mount {
    /// Identity as in /proc/self/mountinfo.
    pub id: u32,
    /// The file system.
    pub fs: Arc<dyn FileSystem>,
    /// What of it is visible: its root, or a subtree for a bind mount.
    pub root: Arc<Dentry>,
    /// Device or source name, as in /proc/mounts.
    pub source: Vec<u8>,
    /// Flags (MountFlags).
    pub flags: AtomicU32,
    /// What it is mounted on; none for the root mount and for detached ones.
    pub(super) at: Lock<Option<Path>>,
}

/// A dentry as reached through a mount.
#[derive(Clone)]
pub struct Path {
    /// Through this mount.
    pub mount: Arc<Mount>,
    /// To this name.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// What it leads to.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.dentry.inode
    }

    /// Whether both are the same name in the same mount.
    pub fn same(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
}
