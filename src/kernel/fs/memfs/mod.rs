//! memfs: a tree in memory, either on its own (tmpfs) or as changes upon a tree that nobody changes (overlay).
//!
//! # Nodes and the lower tree
//! A [`node::Node`] is an inode. In an overlay it may stand for an inode of the *lower* tree: then names and contents
//! come from there until they are changed, while attributes are ours from the start. What is changed is recorded here
//! alone:
//! * a directory keeps its own names and *whiteouts* over names of its lower directory ([`directory`]);
//! * a file is *copied up* when it is first written ([`data`]): same node, same inode number, and files that are open
//!   see it. A mapping made before that goes on showing the lower file, as overlayfs documents for Linux.
//!
//! Lower inodes are found by inode number, so hard links of the lower tree are one node. A node that says nothing but
//! what the lower one says is held by its users only and made anew when wanted again; one that was changed is kept until
//! its last name is gone. Directories refer to lower inodes and not to paths, so they move freely.
//!
//! What the lower tree does not say can be listed by path ([`MemFs::changes`]): names of our own are found from the root
//! down, changed lower files from the changed ones up, by the places where they were looked up.
//!
//! # Memory
//! Unless they are kept on disk ([`disk`]), contents live on the heap while small and in a memfd when larger or mapped, which makes read(2), write(2) and shared
//! mappings agree. Contents and inodes are counted against the file system's limits (ENOSPC).
//!
//! Guest threads may write memfds by themselves ([`lending`]).
//!
//! # Lock order
//! [`Tree::renames`], names of directories (parents first), attributes, the table of lower nodes. Nothing is held while
//! the lower tree is asked, which may read a disk: what it says never changes, so it is asked before.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::hostfs::raise_descriptor_limit;
use super::{FileSystem, FileType, Inode, StatFs};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::Timestamp;
use crate::platform::PAGE_SIZE;

mod changes;
mod data;
mod directory;
mod disk;
mod file;
mod lending;
mod node;
mod options;
mod rename;
mod xattr;

pub use changes::Change;
pub use disk::{UpperError, UpperOptions};
use node::Node;
pub use options::MemFsOptions;
pub(super) use options::total_memory;

/// Inode numbers of nodes without a lower one begin here: above those that host file systems give out, and exact in a
/// double for programs that keep them in one.
const FIRST_OWN_INO: u64 = 1 << 52;

/// A tree in memory.
pub struct MemFs {
    tree: Arc<Tree>,
    root: Arc<Node>,
}

/// What all nodes of a file system share.
struct Tree {
    overlay: bool,
    options: MemFsOptions,
    /// Bytes of contents.
    used: AtomicU64,
    /// Bytes that are set aside for what guests may write by themselves, and for which files.
    reserved: AtomicU64,
    lent: Lock<Vec<Weak<Node>>>,
    /// Nodes without a lower one, and names that were added to nodes.
    inodes: AtomicU64,
    /// Files whose contents are in a memfd.
    memfds: AtomicU64,
    /// How many of those there should be: a share of the descriptors there are.
    memfd_limit: u64,
    next_ino: AtomicU64,
    /// Nodes of lower inodes, by inode number.
    known: Lock<HashMap<u64, Known>>,
    /// Held by renames, so that who is below whom stays as it was found.
    renames: Lock<()>,
    handle: Lock<Handle>,
    /// Where an overlay's changes are kept beyond memory.
    disk: Option<disk::Disk>,
}

#[derive(Default)]
struct Handle {
    fs: Weak<MemFs>,
    root: Weak<Node>,
}

/// The node of a lower inode.
struct Known {
    node: Weak<Node>,
    /// The same, once it has something to say that the lower inode does not.
    changed: Option<Arc<Node>>,
}

impl MemFs {
    /// An empty tree.
    pub fn tmpfs(options: MemFsOptions) -> Arc<MemFs> {
        let tree = Tree::new(options, false, None);
        let root = tree.bare_root();
        tree.mounted(root)
    }

    /// Changes upon the tree at `lower`, which must not change by itself. ENOTDIR, or what `lower` says.
    pub fn overlay(lower: Arc<dyn Inode>, options: MemFsOptions) -> Result<Arc<MemFs>, Errno> {
        if lower.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let tree = Tree::new(options, true, None);
        let root = tree.node_of(lower)?;
        Ok(tree.mounted(root))
    }

    /// Have what is kept on disk be complete, when nothing changes it any more.
    pub fn settle(&self) -> Result<(), Errno> {
        self.tree.sync_names()
    }

    /// Bytes of contents in it.
    pub fn used(&self) -> u64 {
        self.tree.used.load(Ordering::Relaxed)
    }

    /// When a guest first began to look at the lower tree, if the changes of earlier guests are in this.
    pub fn since(&self) -> Option<Timestamp> {
        self.tree.disk.as_ref().map(disk::Disk::since)
    }
}

impl Tree {
    fn new(options: MemFsOptions, overlay: bool, disk: Option<disk::Disk>) -> Arc<Tree> {
        Arc::new(Tree {
            overlay,
            next_ino: AtomicU64::new(if overlay { FIRST_OWN_INO } else { 1 }),
            options,
            used: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            lent: Lock::new(Rank::Leaf, Vec::new()),
            inodes: AtomicU64::new(0),
            memfds: AtomicU64::new(0),
            memfd_limit: raise_descriptor_limit() / 4,
            known: Lock::new(Rank::Table, HashMap::new()),
            renames: Lock::new(Rank::Directory, ()),
            handle: Lock::new(Rank::Leaf, Handle::default()),
            disk,
        })
    }

    fn mounted(self: &Arc<Self>, root: Arc<Node>) -> Arc<MemFs> {
        let fs = Arc::new(MemFs {
            tree: self.clone(),
            root,
        });
        let handle = Handle {
            fs: Arc::downgrade(&fs),
            root: Arc::downgrade(&fs.root),
        };
        *self.handle.lock() = handle;
        fs
    }

    /// The file system of this tree: the one that is mounted, or what is left of it for files still open.
    fn file_system(self: &Arc<Self>) -> Arc<MemFs> {
        let (fs, root) = {
            let handle = self.handle.lock();
            (handle.fs.upgrade(), handle.root.upgrade())
        };
        fs.unwrap_or_else(|| self.mounted(root.unwrap_or_else(|| self.bare_root())))
    }

    fn bare_root(self: &Arc<Self>) -> Arc<Node> {
        let options = &self.options;
        let mode = libc::S_IFDIR | (options.mode & 0o7777);
        self.inodes.fetch_add(1, Ordering::Relaxed);
        Node::bare(self, FileType::Directory, mode, options.uid, options.gid)
    }

    fn now(&self) -> Timestamp {
        self.options.clock.realtime()
    }

    /// Count one more inode, or one more name of one: ENOSPC.
    fn charge_inode(&self) -> Result<(), Errno> {
        if self.inodes.fetch_add(1, Ordering::Relaxed) >= self.options.inodes {
            self.inodes.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Uncount inodes or names.
    fn uncharge_inodes(&self, count: u64) {
        self.inodes.fetch_sub(count, Ordering::Relaxed);
    }

    /// Bytes that are not used.
    fn free(&self) -> u64 {
        self.options
            .size
            .saturating_sub(self.used.load(Ordering::Relaxed))
    }

    /// Replace what a file is charged for. The caller has looked at [`Tree::room`] before growing.
    fn recharge(&self, charged: &mut u64, now: u64) {
        if now >= *charged {
            self.used.fetch_add(now - *charged, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(*charged - now, Ordering::Relaxed);
        }
        *charged = now;
    }

    /// Replace what something in the supervisor's own memory is charged for. ENOSPC.
    fn charge(&self, charged: &mut u64, now: u64) -> Result<(), Errno> {
        if now > *charged && now - *charged > self.room() {
            return Err(Errno::ENOSPC);
        }
        self.recharge(charged, now);
        Ok(())
    }

    /// The node of a lower inode: the one there is, or a new one that says the same.
    fn node_of(self: &Arc<Self>, lower: Arc<dyn Inode>) -> Result<Arc<Node>, Errno> {
        let seen = lower.metadata()?;
        Ok(match self.known_node(seen.ino) {
            Some(node) => node,
            None => self.learn(Node::of_lower(self, lower, &seen)),
        })
    }

    fn known_node(&self, ino: u64) -> Option<Arc<Node>> {
        self.known.lock().get(&ino).and_then(|known| known.node.upgrade())
    }

    /// Make a new node known, unless another came first.
    fn learn(&self, node: Arc<Node>) -> Arc<Node> {
        let mut known = self.known.lock();
        if let Some(first) = known.get(&node.ino).and_then(|known| known.node.upgrade()) {
            drop(known);
            return first;
        }
        if known.len() == known.capacity() {
            known.retain(|_, known| known.node.strong_count() > 0);
        }
        let entry = Known {
            node: Arc::downgrade(&node),
            changed: None,
        };
        known.insert(node.ino, entry);
        node
    }

    /// Keep the node of a lower inode: it has been changed.
    fn pin(&self, node: &Node) {
        let Some(this) = node.this.upgrade() else { return };
        if let Some(known) = self.known.lock().get_mut(&node.ino) {
            known.changed = Some(this);
        }
    }

    /// The last name of a changed node is gone: it lives as long as it is open. The result is to be dropped unlocked.
    fn unpin(&self, node: &Node) -> Option<Arc<Node>> {
        self.known.lock().get_mut(&node.ino)?.changed.take()
    }
}

impl Drop for MemFs {
    /// The kept nodes hold the tree and the tree holds them: end that when nothing is mounted any more.
    fn drop(&mut self) {
        let known = std::mem::take(&mut *self.tree.known.lock());
        for node in known.values().filter_map(|known| known.changed.as_ref()) {
            // A directory may hold a file that remembers having been found there.
            let places = std::mem::take(&mut *node.places.lock());
            drop(places);
        }
        drop(known);
    }
}

impl FileSystem for MemFs {
    fn name(&self) -> &'static str {
        if self.tree.overlay { "overlay" } else { "tmpfs" }
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn dev(&self) -> u64 {
        self.tree.options.dev
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        const TMPFS_MAGIC: u64 = 0x0102_1994;
        const OVERLAYFS_MAGIC: u64 = 0x794c_7630;
        let tree = &self.tree;
        let (whole, left) = match &tree.disk {
            Some(disk) => disk.space()?,
            None => (u64::MAX, u64::MAX),
        };
        let free = tree.free().min(left) / PAGE_SIZE;
        let files = tree.options.inodes;
        Ok(StatFs {
            magic: if tree.overlay {
                OVERLAYFS_MAGIC
            } else {
                TMPFS_MAGIC
            },
            bsize: PAGE_SIZE,
            blocks: tree.options.size.min(whole) / PAGE_SIZE,
            bfree: free,
            bavail: free,
            files,
            ffree: files.saturating_sub(tree.inodes.load(Ordering::Relaxed)),
            namelen: 255,
        })
    }

    fn sync(&self) -> Result<(), Errno> {
        self.tree.sync_all()
    }

    fn options(&self) -> String {
        self.tree.options.shown(self.tree.overlay)
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
