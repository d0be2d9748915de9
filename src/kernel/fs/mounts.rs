//! The mount tree: mount(2), mount_namespaces(7) without the namespaces; every mount is private.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bitflags::bitflags;

use super::{Dentry, FileSystem, Path};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};

/// Most mounts of one guest (ENOSPC beyond), as sysctl fs.mount-max but smaller.
const MOUNT_MAX: usize = 10_000;

bitflags! {
    /// Per-mount flags with the values of MS_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        /// MS_RDONLY
        const READ_ONLY = 1;
        /// MS_NOSUID
        const NOSUID = 2;
        /// MS_NODEV
        const NODEV = 4;
        /// MS_NOEXEC
        const NOEXEC = 8;
        /// MS_NOATIME
        const NOATIME = 1024;
        /// MS_NODIRATIME
        const NODIRATIME = 2048;
        /// MS_RELATIME
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
    flags: AtomicU32,
    /// What it is mounted on; none for the root mount and for detached ones.
    at: Lock<Option<Path>>,
}

impl Mount {
    fn new(
        id: u32,
        fs: Arc<dyn FileSystem>,
        root: Arc<Dentry>,
        source: &[u8],
        flags: MountFlags,
    ) -> Arc<Mount> {
        Arc::new(Mount {
            id,
            fs,
            root,
            source: source.to_vec(),
            flags: AtomicU32::new(flags.bits()),
            at: Lock::new(Rank::Leaf, None),
        })
    }

    /// A mount that is in no tree, for objects without a place in it.
    pub fn detached(fs: Arc<dyn FileSystem>, source: &[u8]) -> Arc<Mount> {
        let root = Dentry::root(fs.root());
        Mount::new(0, fs, root, source, MountFlags::empty())
    }

    /// Its flags.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// Change its flags (MS_REMOUNT|MS_BIND).
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// The way from the file system's own root to what is visible of it, for mountinfo.
    pub fn root_in_fs(&self) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = self.root.clone();
        while let Some(parent) = at.parent() {
            parts.push(at.name());
            at = parent;
        }
        if parts.is_empty() {
            return b"/".to_vec();
        }
        parts
            .iter()
            .rev()
            .flat_map(|part| [b"/", part.as_slice()].concat())
            .collect()
    }

    /// Whether nothing may be changed through it.
    pub fn read_only(&self) -> bool {
        self.flags().contains(MountFlags::READ_ONLY)
    }

    /// What it is mounted on; none for the root mount and for detached ones.
    pub fn at(&self) -> Option<Path> {
        self.at.lock().clone()
    }

    fn set_at(&self, at: Option<Path>) {
        let old = std::mem::replace(&mut *self.at.lock(), at);
        drop(old);
    }
}

/// All mounts of a guest.
pub struct MountTree(Lock<Tree>);

struct Tree {
    mounts: BTreeMap<u32, Arc<Mount>>,
    /// The mount upon a dentry (by address, kept alive by [`Mount::at`]) of a mount.
    upon: HashMap<(u32, usize), u32>,
    root: u32,
    next_id: u32,
}

/// Lowest mount id: Linux has used up some for itself before the first visible one.
const FIRST_ID: u32 = 20;

fn key(path: &Path) -> (u32, usize) {
    (path.mount.id, Arc::as_ptr(&path.dentry).addr())
}

impl MountTree {
    /// A tree of just a root.
    pub fn new(fs: Arc<dyn FileSystem>, source: &[u8], flags: MountFlags) -> MountTree {
        let root = Dentry::root(fs.root());
        let mount = Mount::new(FIRST_ID, fs, root, source, flags);
        MountTree(Lock::new(
            Rank::Mounts,
            Tree {
                mounts: BTreeMap::from([(FIRST_ID, mount)]),
                upon: HashMap::new(),
                root: FIRST_ID,
                next_id: FIRST_ID + 1,
            },
        ))
    }

    /// The root directory of the whole tree.
    pub fn root(&self) -> Path {
        let tree = self.0.lock();
        let mount = tree.mounts[&tree.root].clone();
        drop(tree);
        self.cross(Path {
            dentry: mount.root.clone(),
            mount,
        })
    }

    /// What is mounted upon a path, at the top; the path itself when nothing is.
    pub fn cross(&self, mut path: Path) -> Path {
        while path.dentry.is_mount_point() {
            let tree = self.0.lock();
            let Some(mount) = tree
                .upon
                .get(&key(&path))
                .and_then(|id| tree.mounts.get(id))
                .cloned()
            else {
                break;
            };
            path = Path {
                dentry: mount.root.clone(),
                mount,
            };
        }
        path
    }

    /// All mounts in the order of their ids.
    pub fn list(&self) -> Vec<Arc<Mount>> {
        self.0.lock().mounts.values().cloned().collect()
    }

    /// Mount a file system upon `at`, which [`MountTree::cross`] has been applied to. ENOTDIR, ENOSPC.
    pub fn mount(
        &self,
        fs: Arc<dyn FileSystem>,
        source: &[u8],
        flags: MountFlags,
        at: Path,
    ) -> Result<Arc<Mount>, Errno> {
        let root = Dentry::root(fs.root());
        self.attach(fs, root, source, flags, at)
    }

    /// Show `what` at `at` too (MS_BIND), with all mounts below it when `recursive`.
    pub fn bind(&self, what: &Path, at: Path, recursive: bool) -> Result<Arc<Mount>, Errno> {
        let below = if recursive { self.below(what) } else { Vec::new() };
        let copy = |mount: &Mount, root: &Arc<Dentry>, at: Path| {
            self.attach(mount.fs.clone(), root.clone(), &mount.source, mount.flags(), at)
        };
        let top = copy(&what.mount, &what.dentry, at)?;
        let mut copies = HashMap::from([(what.mount.id, top.clone())]);
        for mount in below {
            if let Some(place) = mount.at()
                && let Some(parent) = copies.get(&place.mount.id)
            {
                let at = Path {
                    mount: parent.clone(),
                    dentry: place.dentry,
                };
                let made = copy(&mount, &mount.root, at)?;
                copies.insert(mount.id, made);
            }
        }
        Ok(top)
    }

    /// The mounts below a path, parents first.
    pub fn below(&self, top: &Path) -> Vec<Arc<Mount>> {
        let all = self.list();
        let mut found: Vec<Arc<Mount>> = Vec::new();
        loop {
            let before = found.len();
            for mount in &all {
                let inside = mount.at().is_some_and(|at| {
                    (at.mount.id == top.mount.id && at.dentry.is_within(&top.dentry))
                        || found.iter().any(|f| f.id == at.mount.id)
                });
                if inside && mount.id != top.mount.id && !found.iter().any(|f| f.id == mount.id) {
                    found.push(mount.clone());
                }
            }
            if found.len() == before {
                return found;
            }
        }
    }

    fn attach(
        &self,
        fs: Arc<dyn FileSystem>,
        root: Arc<Dentry>,
        source: &[u8],
        flags: MountFlags,
        at: Path,
    ) -> Result<Arc<Mount>, Errno> {
        let is_dir = |dentry: &Dentry| dentry.inode.file_type() == super::FileType::Directory;
        if is_dir(&root) != is_dir(&at.dentry) {
            return Err(Errno::ENOTDIR);
        }
        if at.dentry.is_unlinked() {
            return Err(Errno::ENOENT);
        }
        let mut tree = self.0.lock();
        if tree.mounts.len() >= MOUNT_MAX {
            return Err(Errno::ENOSPC);
        }
        let mount = Mount::new(tree.next_id, fs, root, source, flags);
        tree.next_id += 1;
        tree.mounts.insert(mount.id, mount.clone());
        tree.put(&mount, at);
        Ok(mount)
    }

    /// Take a mount out of the tree. `path` must be its root (EINVAL). EBUSY when it or something below it is in use,
    /// unless `lazy` (MNT_DETACH), which takes everything below it along.
    pub fn unmount(&self, path: Path, lazy: bool) -> Result<Arc<Mount>, Errno> {
        if !path.is_mount_root() {
            return Err(Errno::EINVAL);
        }
        let below = self.below(&path);
        let mount = path.mount.clone();
        drop(path);
        let mut tree = self.0.lock();
        if mount.id == tree.root || mount.at().is_none() {
            return Err(Errno::EBUSY);
        }
        // One user is the tree, one is ours; children, open files and directories are others.
        if !lazy && Arc::strong_count(&mount) > 2 {
            return Err(Errno::EBUSY);
        }
        for gone in below.iter().rev().chain([&mount]) {
            tree.take(gone);
            tree.mounts.remove(&gone.id);
        }
        Ok(mount)
    }

    /// Move a mount to another place (MS_MOVE). EINVAL when `path` is no mount's root or the place is below it.
    pub fn relocate(&self, path: &Path, to: Path) -> Result<(), Errno> {
        if !path.is_mount_root() || path.mount.at().is_none() {
            return Err(Errno::EINVAL);
        }
        if to.mount.id == path.mount.id || self.below(path).iter().any(|m| m.id == to.mount.id) {
            return Err(Errno::ELOOP);
        }
        let mut tree = self.0.lock();
        tree.take(&path.mount);
        tree.put(&path.mount, to);
        Ok(())
    }

    /// Make `new_root` the root of the tree and put the old root upon `put_old`, which is below it (pivot_root(2)).
    pub fn pivot(&self, new_root: &Path, put_old: Path) -> Result<(), Errno> {
        let mut tree = self.0.lock();
        if !new_root.is_mount_root() || new_root.mount.id == tree.root {
            return Err(Errno::EINVAL);
        }
        let old = tree.mounts[&tree.root].clone();
        tree.take(&new_root.mount);
        tree.root = new_root.mount.id;
        tree.put(&old, put_old);
        Ok(())
    }
}

impl Tree {
    fn put(&mut self, mount: &Arc<Mount>, at: Path) {
        at.dentry.mounted_on.fetch_add(1, Ordering::Relaxed);
        self.upon.insert(key(&at), mount.id);
        mount.set_at(Some(at));
    }

    fn take(&mut self, mount: &Arc<Mount>) {
        if let Some(at) = mount.at() {
            self.upon.remove(&key(&at));
            at.dentry.mounted_on.fetch_sub(1, Ordering::Relaxed);
        }
        mount.set_at(None);
    }
}
