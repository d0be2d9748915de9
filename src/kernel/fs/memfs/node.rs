//! Nodes: the inodes of a tree in memory.

use std::any::Any;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::data::Data;
use super::directory::{self, Directory, Place};
use super::disk::Kept;
use super::file::{MemDirectory, MemRegular};
use super::lending::{Lending, SET_ID};
use super::xattr::{self, Attributes};
use super::{Tree, rename};
use crate::kernel::fs::grant::Revocable;
use crate::kernel::fs::{
    CreateArgs, FileOps, FileSystem, FileType, Inode, Link, Metadata, OpenFlags, SetAttr, TimeChange,
};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, LockGuard, Rank};
use crate::kernel::task::Task;
use crate::kernel::time::Timestamp;

/// An inode.
pub(super) struct Node {
    pub(super) this: Weak<Node>,
    pub(super) tree: Arc<Tree>,
    pub(super) ino: u64,
    pub(super) kind: FileType,
    /// What it stood for when it was made; contents and names that were not changed are still there.
    pub(super) lower: Option<Arc<dyn Inode>>,
    pub(super) state: Lock<State>,
    /// Of a directory.
    pub(super) directory: Option<Box<Directory>>,
    /// Of anything else: where the lower tree has it, as far as it was looked up there.
    pub(super) places: Lock<Vec<Place>>,
    /// Who reads the contents without the kernel, as long as nothing changes.
    pub(super) granted: Revocable,
    /// Who writes them without the kernel.
    pub(super) writers: Revocable,
    /// With an upper on disk.
    pub(super) kept: Option<Box<Kept>>,
}

/// Attributes and contents.
pub(super) struct State {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    pub(super) rdev: u64,
    /// Size in bytes and 512-byte blocks in use, as long as they are the lower inode's.
    pub(super) lower_extent: (u64, u64),
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) btime: Option<Timestamp>,
    /// Whether it says anything that its lower inode does not, and so is kept.
    pub(super) changed: bool,
    /// Whether the journal has to be told of this, and whether it was told before.
    pub(super) dirty: bool,
    pub(super) told: bool,
    /// Whether it was told that contents are in a data file.
    pub(super) told_data: bool,
    /// Made without a name, and may get one still (O_TMPFILE).
    pub(super) unnamed: bool,
    pub(super) data: Data,
    /// Bytes of contents it is charged for.
    pub(super) charged: u64,
    pub(super) lending: Lending,
    /// Bytes of extended attributes it is charged for.
    pub(super) xattrs_charged: u64,
    /// Names it was given by link(2), each charged as an inode.
    pub(super) links_charged: u64,
    /// None while they are the lower inode's.
    pub(super) xattrs: Option<Box<Attributes>>,
}

impl State {
    /// Note that contents were read, by the rule of the relatime mount option. That alone is no reason to keep a node.
    pub(super) fn accessed(&mut self, now: Timestamp) {
        const DAY: i64 = 24 * 60 * 60;
        if self.awaits_access() || now.sec - self.atime.sec >= DAY {
            self.atime = now;
        }
    }

    /// Whether the next access will be noted, however soon it comes.
    pub(super) fn awaits_access(&self) -> bool {
        self.atime <= self.mtime || self.atime <= self.ctime
    }

    /// Note that contents or names were changed.
    pub(super) fn modified(&mut self, now: Timestamp) {
        self.mtime = now;
        self.ctime = now;
    }

    fn set(&mut self, wanted: &SetAttr, now: Timestamp) {
        let at = |change| match change {
            TimeChange::Now => now,
            TimeChange::To(time) => time,
        };
        if let Some(mode) = wanted.mode {
            self.mode = (self.mode & libc::S_IFMT) | (mode & 0o7777);
        }
        self.uid = wanted.uid.unwrap_or(self.uid);
        self.gid = wanted.gid.unwrap_or(self.gid);
        self.atime = wanted.atime.map_or(self.atime, at);
        self.mtime = wanted.mtime.map_or(self.mtime, at);
        self.ctime = now;
    }
}

impl Node {
    /// A node for a lower inode, saying what that says.
    pub(super) fn of_lower(tree: &Arc<Tree>, lower: Arc<dyn Inode>, seen: &Metadata) -> Arc<Node> {
        let kind = lower.file_type();
        let state = State {
            mode: seen.mode,
            uid: seen.uid,
            gid: seen.gid,
            nlink: seen.nlink,
            rdev: seen.rdev,
            lower_extent: (seen.size, seen.blocks),
            atime: seen.atime,
            mtime: seen.mtime,
            ctime: seen.ctime,
            btime: seen.btime,
            changed: false,
            dirty: false,
            told: false,
            told_data: false,
            unnamed: false,
            data: Data::Lower,
            charged: 0,
            lending: Lending::default(),
            xattrs_charged: 0,
            links_charged: 0,
            xattrs: None,
        };
        Node::build(tree, seen.ino, kind, Some(lower), state)
    }

    /// A new node of our own, with no name yet, which the caller has counted.
    pub(super) fn bare(tree: &Arc<Tree>, kind: FileType, mode: u32, uid: u32, gid: u32) -> Arc<Node> {
        let ino = tree.next_ino.fetch_add(1, Ordering::Relaxed);
        Node::ours(tree, ino, kind, mode, uid, gid)
    }

    /// A node of our own that was on disk; its state is to be restored. The caller counts it.
    pub(super) fn stored(tree: &Arc<Tree>, ino: u64, mode: u32) -> Arc<Node> {
        let kind = FileType::from_mode(mode).unwrap_or(FileType::Regular);
        Node::ours(tree, ino, kind, mode, 0, 0)
    }

    fn ours(tree: &Arc<Tree>, ino: u64, kind: FileType, mode: u32, uid: u32, gid: u32) -> Arc<Node> {
        let now = tree.now();
        let state = State {
            mode,
            uid,
            gid,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            rdev: 0,
            lower_extent: (0, 0),
            atime: now,
            mtime: now,
            ctime: now,
            btime: Some(now),
            changed: true,
            dirty: false,
            told: false,
            told_data: false,
            unnamed: false,
            data: Data::Small(Vec::new()),
            charged: 0,
            lending: Lending::default(),
            xattrs_charged: 0,
            links_charged: 0,
            xattrs: Some(Box::default()),
        };
        Node::build(tree, ino, kind, None, state)
    }

    /// A new node as asked for. ENOSPC when there are too many.
    pub(super) fn create(tree: &Arc<Tree>, args: &CreateArgs) -> Result<Arc<Node>, Errno> {
        let kind = FileType::from_mode(args.mode).ok_or(Errno::EINVAL)?;
        tree.charge_inode()?;
        let node = Node::bare(tree, kind, args.mode, args.uid, args.gid);
        node.state.lock().rdev = args.rdev;
        Ok(node)
    }

    fn build(
        tree: &Arc<Tree>,
        ino: u64,
        kind: FileType,
        lower: Option<Arc<dyn Inode>>,
        state: State,
    ) -> Arc<Node> {
        Arc::new_cyclic(|this| Node {
            this: this.clone(),
            tree: tree.clone(),
            ino,
            kind,
            lower,
            state: Lock::new(Rank::Inode, state),
            directory: (kind == FileType::Directory).then(|| Box::new(Directory::new(ino))),
            places: Lock::new(Rank::Leaf, Vec::new()),
            granted: Revocable::default(),
            writers: Revocable::default(),
            kept: tree.disk.is_some().then(Box::default),
        })
    }

    /// The state, about to be changed in a way that the lower inode does not know of.
    pub(super) fn change(&self) -> LockGuard<'_, State> {
        let mut state = self.change_contents();
        self.recall(&mut state);
        state
    }

    /// The same for a write, beside which guests may go on to write by themselves.
    pub(super) fn change_contents(&self) -> LockGuard<'_, State> {
        let mut state = self.state.lock();
        self.granted.revoke();
        if !state.changed && state.nlink > 0 {
            state.changed = true;
            self.tree.pin(self);
        }
        self.mark(&mut state);
        state
    }

    /// One name less. What this returns is to be dropped when no lock is held.
    pub(super) fn drop_link(&self, now: Timestamp) -> Option<Arc<Node>> {
        let mut state = self.change();
        state.ctime = now;
        state.nlink = match self.kind {
            FileType::Directory => 0,
            _ => state.nlink.saturating_sub(1),
        };
        if state.links_charged > 0 {
            state.links_charged -= 1;
            self.tree.uncharge_inodes(1);
        }
        if state.nlink > 0 || self.lower.is_none() {
            return None;
        }
        state.changed = false;
        drop(state);
        self.tree.unpin(self)
    }

    /// Names of this directory were changed; `directories` is by how many it now holds more.
    pub(super) fn names_changed(&self, directories: i32, now: Timestamp) {
        let mut state = self.change();
        state.modified(now);
        // A file system that does not count says 1 throughout.
        if state.nlink > 1 {
            state.nlink = state.nlink.saturating_add_signed(directories);
        }
    }

    /// A change was made: have the disk know. That it does not take it is told to who changes something next, or syncs.
    fn committed<T>(&self, done: T) -> Result<T, Errno> {
        let _ = self.tree.commit();
        Ok(done)
    }

    /// Another inode as a node of this tree: EXDEV when it is none.
    pub(super) fn sibling<'a>(&self, inode: &'a Arc<dyn Inode>) -> Result<&'a Node, Errno> {
        let any: &dyn Any = &**inode;
        any.downcast_ref::<Node>()
            .filter(|other| Arc::ptr_eq(&other.tree, &self.tree))
            .ok_or(Errno::EXDEV)
    }

    /// Whether it says anything that its lower inode does not, and whether that is contents.
    pub(super) fn differs(&self) -> (bool, bool) {
        let state = self.state.lock();
        (
            state.changed,
            !matches!(state.data, Data::Lower | Data::Copying { .. }),
        )
    }

    /// A counted reference to this.
    pub(super) fn arc(&self) -> Result<Arc<Node>, Errno> {
        self.this.upgrade().ok_or(Errno::ESTALE)
    }

    /// Size in bytes and 512-byte blocks in use.
    pub(super) fn extent(&self, state: &State) -> Result<(u64, u64), Errno> {
        match &self.directory {
            Some(directory) if self.lower.is_none() => Ok((directory.shown_size(), 0)),
            Some(_) => Ok(state.lower_extent),
            None => Ok(state.data.extent(self)?.unwrap_or(state.lower_extent)),
        }
    }
}

impl Inode for Node {
    fn metadata(&self) -> Result<Metadata, Errno> {
        let mut state = self.state.lock();
        self.note_written(&mut state)?;
        let (size, blocks) = self.extent(&state)?;
        Ok(Metadata {
            dev: self.tree.options.dev,
            ino: self.ino,
            mode: state.mode,
            nlink: state.nlink,
            uid: state.uid,
            gid: state.gid,
            rdev: state.rdev,
            size,
            blksize: 4096,
            blocks,
            atime: state.atime,
            mtime: state.mtime,
            ctime: state.ctime,
            btime: state.btime,
        })
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.tree.file_system()
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        match self.kind {
            FileType::Regular => Ok(Arc::new(MemRegular::open(self, flags)?)),
            FileType::Directory => Ok(Arc::new(MemDirectory::new(self))),
            _ => Err(Errno::ENXIO),
        }
    }

    fn set_attr(&self, wanted: &SetAttr) -> Result<(), Errno> {
        self.tree.ready()?;
        if let Some(size) = wanted.size {
            self.truncate(size)?;
        }
        let now = self.tree.now();
        let mut state = self.change();
        if wanted.mode.is_some_and(|mode| mode & SET_ID != 0) {
            self.seal(&mut state)?;
        }
        state.set(wanted, now);
        drop(state);
        self.committed(())
    }

    fn drop_capabilities(&self) -> Result<(), Errno> {
        match xattr::drop_capabilities(self)? {
            true => self.committed(()),
            false => Ok(()),
        }
    }

    fn keep_from_writing(&self) -> Result<(), Errno> {
        self.seal(&mut self.state.lock())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Ok(directory::lookup(self, name)?)
    }

    fn create(&self, name: &[u8], args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        let made = directory::add_new(self, name, || Node::create(&self.tree, args))?;
        self.committed(made)
    }

    fn create_unnamed(&self, args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        let node = Node::create(&self.tree, args)?;
        let mut state = node.state.lock();
        state.nlink = 0;
        state.unnamed = true;
        drop(state);
        Ok(node)
    }

    fn symlink(&self, name: &[u8], target: &[u8], args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        let args = CreateArgs {
            mode: libc::S_IFLNK | 0o777,
            ..*args
        };
        let made = directory::add_new(self, name, || {
            let node = Node::create(&self.tree, &args)?;
            node.set_link(target)?;
            Ok(node)
        })?;
        self.committed(made)
    }

    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> Result<(), Errno> {
        directory::add_link(self, name, self.sibling(inode)?)?;
        self.committed(())
    }

    fn unlink(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        directory::remove(self, name, directory)?;
        self.committed(())
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        rename::rename(self, name, self.sibling(new_dir)?, new_name, flags)?;
        self.committed(())
    }

    fn read_link(&self, task: Option<&Task>) -> Result<Link, Errno> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        if let Data::Link(text) = &self.state.lock().data {
            return Ok(Link::Text(text.to_vec()));
        }
        self.lower.as_ref().ok_or(Errno::EINVAL)?.read_link(task)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        xattr::get(self, name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
        xattr::set(self, name, value, flags)?;
        self.committed(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        xattr::list(self)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        xattr::remove(self, name)?;
        self.committed(())
    }
}

impl Drop for Node {
    /// Lets go of a directory's contents and of those above one after the other: a tree may be deeper than the stack.
    fn drop(&mut self) {
        let id = self.id();
        let state = self.state.get_mut();
        if let (Some(disk), Data::Stored(_) | Data::Copying { .. }, 0) =
            (&self.tree.disk, &state.data, state.nlink)
        {
            disk.condemn(id, state.charged);
        }
        state.lending.give_up(&self.tree, &state.data);
        self.tree.recharge(&mut state.charged, 0);
        self.tree.recharge(&mut state.xattrs_charged, 0);
        state.data.leave(&self.tree);
        let itself = u64::from(self.lower.is_none());
        self.tree.uncharge_inodes(itself + state.links_charged);
        let mut held = directory::take_children(self);
        held.extend(directory::take_parents(self));
        while let Some(node) = held.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                held.append(&mut directory::take_children(&mut node));
                held.extend(directory::take_parents(&mut node));
            }
        }
    }
}
