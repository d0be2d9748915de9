//! Names: dentries and paths.
//!
//! A dentry's directory knows its children weakly; what keeps a dentry alive is its users and the bounded
//! [`super::names::NameCache`]. A lookup asks the file system only when the directory does not know the name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::inotify::Watches;
use super::names::AbsentName;
use super::{Inode, Mount};
use crate::kernel::sync::{Lock, LockGuard, Rank, lock_two};

/// How many names a directory remembers before it looks for dead ones.
const FIRST_SWEEP: usize = 32;

/// A name in a directory, with what it names. A dentry exists as long as something uses it or the cache keeps it.
pub struct Dentry {
    /// What it names.
    pub inode: Arc<dyn Inode>,
    place: Lock<Place>,
    /// Held while its names change: see [`NameChange`].
    changes: Lock<()>,
    children: Lock<Children>,
    unlinked: AtomicBool,
    /// An O_TMPFILE file, which may get a name although it has none.
    linkable: AtomicBool,
    /// Told when nobody uses it any more: of one whose name was removed.
    watches: OnceLock<Arc<Watches>>,
    /// Mounts of any tree upon it: lets the walk skip the mount table.
    pub(super) mounted_on: AtomicU32,
    /// Used since the name cache's hand last passed.
    pub(super) used: AtomicBool,
    /// One more than its slot in the name cache, or 0.
    pub(super) slot: AtomicU32,
}

#[derive(Clone)]
struct Place {
    name: Vec<u8>,
    parent: Option<Arc<Dentry>>,
}

#[derive(Default)]
struct Children {
    names: HashMap<Vec<u8>, Child>,
    /// Moves with every change of the directory, so that a lookup that raced with one is not remembered.
    generation: u64,
    /// Names are changing in the file system: nothing it says is remembered.
    changing: bool,
    sweep_at: usize,
}

enum Child {
    Known(Weak<Dentry>),
    Absent(Arc<AbsentName>),
}

/// What a directory remembers of a name.
pub(super) enum Remembered {
    /// It names this.
    Present(Arc<Dentry>),
    /// The file system said that it names nothing.
    Absent,
    /// Ask the file system, and quote this generation with its answer.
    Unknown(u64),
}

impl Dentry {
    /// The root of a file system.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Dentry> {
        Dentry::build(inode, Vec::new(), None)
    }

    /// A name that is in no directory: `pipe:[12]`.
    pub fn anonymous(inode: Arc<dyn Inode>, name: Vec<u8>) -> Arc<Dentry> {
        Dentry::build(inode, name, None)
    }

    /// A name that was never in its directory (O_TMPFILE); `linkable` says whether link(2) may give it one.
    pub fn unnamed(self: &Arc<Self>, inode: Arc<dyn Inode>, name: Vec<u8>, linkable: bool) -> Arc<Dentry> {
        let dentry = Dentry::build(inode, name, Some(self.clone()));
        dentry.unlinked.store(true, Ordering::Relaxed);
        dentry.linkable.store(linkable, Ordering::Relaxed);
        dentry
    }

    fn build(inode: Arc<dyn Inode>, name: Vec<u8>, parent: Option<Arc<Dentry>>) -> Arc<Dentry> {
        Arc::new(Dentry {
            inode,
            place: Lock::new(Rank::Leaf, Place { name, parent }),
            changes: Lock::new(Rank::Names, ()),
            children: Lock::new(Rank::Dentry, Children::default()),
            unlinked: AtomicBool::new(false),
            linkable: AtomicBool::new(false),
            watches: OnceLock::new(),
            mounted_on: AtomicU32::new(0),
            used: AtomicBool::new(true),
            slot: AtomicU32::new(0),
        })
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

    /// It has no name, or no longer: tell when it is out of use too.
    pub(super) fn tell_when_gone(&self, watches: &Arc<Watches>) {
        self.watches.get_or_init(|| watches.clone());
    }

    /// Whether link(2) may name it although its inode has no name left.
    pub fn is_linkable(&self) -> bool {
        self.linkable.load(Ordering::Relaxed)
    }

    /// Whether something is mounted on it.
    pub fn is_mount_point(&self) -> bool {
        self.mounted_on.load(Ordering::Relaxed) > 0
    }

    /// Whether it is `ancestor` or below it.
    pub fn is_within(self: &Arc<Self>, ancestor: &Arc<Dentry>) -> bool {
        let mut at = Some(self.clone());
        while let Some(dentry) = at {
            if Arc::ptr_eq(&dentry, ancestor) {
                return true;
            }
            at = dentry.parent();
        }
        false
    }

    /// What this directory remembers of `name`.
    pub(super) fn remembered(&self, name: &[u8]) -> Remembered {
        let children = self.children.lock();
        match children.names.get(name) {
            Some(Child::Absent(absent)) => {
                absent.used.store(true, Ordering::Relaxed);
                Remembered::Absent
            }
            Some(Child::Known(weak)) => match weak.upgrade() {
                Some(dentry) => Remembered::Present(dentry),
                None => Remembered::Unknown(children.generation),
            },
            None => Remembered::Unknown(children.generation),
        }
    }

    /// Wait while names of this directory change.
    pub(super) fn settle(&self) {
        drop(self.changes.lock());
    }

    /// The dentry for a name that the file system has just found, unless the directory has changed since `generation`.
    pub(super) fn found(
        self: &Arc<Self>,
        name: &[u8],
        inode: Arc<dyn Inode>,
        generation: Option<u64>,
    ) -> Option<Arc<Dentry>> {
        let mut children = self.children.lock();
        if generation.is_some_and(|g| children.changing || g != children.generation) {
            return None;
        }
        // Another lookup of a name that was not known may have been faster.
        let unchanged = generation.is_some() && self.inode.cacheable();
        if let Some(Child::Known(weak)) = children.names.get(name)
            && let Some(known) = weak.upgrade()
            && (unchanged || Arc::ptr_eq(&known.inode, &inode) || known.is_mount_point())
        {
            return Some(known);
        }
        let dentry = Dentry::build(inode, name.to_vec(), Some(self.clone()));
        children.remember(name, Child::Known(Arc::downgrade(&dentry)));
        Some(dentry)
    }

    /// Remember that there is no `name`, unless the directory has changed since `generation`.
    pub(super) fn note_absent(self: &Arc<Self>, name: &[u8], generation: u64) -> Option<Arc<AbsentName>> {
        let mut children = self.children.lock();
        if children.changing || generation != children.generation {
            return None;
        }
        let absent = AbsentName::new(self, name);
        children.remember(name, Child::Absent(absent.clone()));
        Some(absent)
    }

    /// A new name was made in this directory.
    pub(super) fn added(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let dentry = Dentry::build(inode, name.to_vec(), Some(self.clone()));
        let mut children = self.children.lock();
        children.generation += 1;
        children.remember(name, Child::Known(Arc::downgrade(&dentry)));
        dentry
    }

    /// A name was removed from this directory: the dentry that was in use for it.
    pub(super) fn removed(&self, name: &[u8]) -> Option<Arc<Dentry>> {
        let mut children = self.children.lock();
        children.generation += 1;
        let gone = children.take(name)?;
        gone.unlinked.store(true, Ordering::Relaxed);
        Some(gone)
    }

    /// `name` of this directory became `new_name` of `new_dir`; with `exchange` the other way round too. Returns the
    /// dentry that was replaced, if it was in use.
    pub(super) fn moved(
        self: &Arc<Self>,
        name: &[u8],
        new_dir: &Arc<Dentry>,
        new_name: &[u8],
        exchange: bool,
    ) -> Option<Arc<Dentry>> {
        if Arc::ptr_eq(self, new_dir) {
            let mut children = self.children.lock();
            children.generation += 1;
            let moving = children.take(name);
            let other = children.take(new_name);
            children.place(new_dir, new_name, moving);
            if exchange {
                children.place(self, name, other);
                return None;
            }
            return other.inspect(|d| d.unlinked.store(true, Ordering::Relaxed));
        }
        let (mut from, mut to) = lock_two(&self.children, &new_dir.children);
        from.generation += 1;
        to.generation += 1;
        let moving = from.take(name);
        let other = to.take(new_name);
        to.place(new_dir, new_name, moving);
        if exchange {
            from.place(self, name, other);
            return None;
        }
        other.inspect(|d| d.unlinked.store(true, Ordering::Relaxed))
    }

    /// Forget `name` when nobody uses its dentry any more.
    pub(super) fn prune(&self, name: &[u8]) {
        let mut children = self.children.lock();
        if matches!(children.names.get(name), Some(Child::Known(weak)) if weak.strong_count() == 0) {
            children.names.remove(name);
        }
    }

    /// Forget that a name is absent.
    pub(super) fn forget_absent(&self, absent: &Arc<AbsentName>) {
        let mut children = self.children.lock();
        if matches!(children.names.get(&absent.name), Some(Child::Absent(a)) if Arc::ptr_eq(a, absent)) {
            children.names.remove(&absent.name);
        }
    }
}

/// The right to change names of one directory or two, in the file system and here. What is remembered of names and what the
/// file system has stay the same for everybody else, because nobody changes them meanwhile, and lookups between
/// [`NameChange::begin`] and the end wait or are not remembered.
pub struct NameChange<'a> {
    dirs: [Option<&'a Dentry>; 2],
    begun: bool,
    _held: (LockGuard<'a, ()>, Option<LockGuard<'a, ()>>),
}

impl<'a> NameChange<'a> {
    /// Change names of a directory.
    pub fn of(dir: &'a Dentry) -> NameChange<'a> {
        NameChange {
            dirs: [Some(dir), None],
            begun: false,
            _held: (dir.changes.lock(), None),
        }
    }

    /// Change names of two directories, which may be one.
    pub fn of_two(one: &'a Dentry, two: &'a Dentry) -> NameChange<'a> {
        if std::ptr::eq(one, two) {
            return NameChange::of(one);
        }
        let (first, second) = lock_two(&one.changes, &two.changes);
        NameChange {
            dirs: [Some(one), Some(two)],
            begun: false,
            _held: (first, Some(second)),
        }
    }

    /// Call it right before the file system changes its names.
    pub fn begin(&mut self) {
        self.begun = true;
        self.mark(true);
    }

    fn mark(&self, changing: bool) {
        for dir in self.dirs.into_iter().flatten() {
            let mut children = dir.children.lock();
            children.changing = changing;
            children.generation += 1;
        }
    }
}

impl Drop for NameChange<'_> {
    fn drop(&mut self) {
        if self.begun {
            self.mark(false);
        }
    }
}

impl Children {
    fn remember(&mut self, name: &[u8], child: Child) {
        if self.names.len() >= self.sweep_at.max(FIRST_SWEEP) {
            self.names
                .retain(|_, c| !matches!(c, Child::Known(weak) if weak.strong_count() == 0));
            self.sweep_at = self.names.len() * 2;
        }
        self.names.insert(name.to_vec(), child);
    }

    fn take(&mut self, name: &[u8]) -> Option<Arc<Dentry>> {
        match self.names.remove(name)? {
            Child::Known(weak) => weak.upgrade(),
            Child::Absent(_) => None,
        }
    }

    /// Put a dentry that was in use for another name here.
    fn place(&mut self, dir: &Arc<Dentry>, name: &[u8], dentry: Option<Arc<Dentry>>) {
        let Some(dentry) = dentry else { return };
        let old = std::mem::replace(
            &mut *dentry.place.lock(),
            Place {
                name: name.to_vec(),
                parent: Some(dir.clone()),
            },
        );
        self.remember(name, Child::Known(Arc::downgrade(&dentry)));
        drop(old);
    }
}

impl Drop for Dentry {
    /// Release the chain of parents in a loop: a path can be deeper than the host stack.
    fn drop(&mut self) {
        if let Some(watches) = self.watches.get() {
            watches.out_of_use(&self.inode);
        }
        let mut parent = self.place.get_mut().parent.take();
        while let Some(mut dentry) = parent.and_then(Arc::into_inner) {
            parent = dentry.place.get_mut().parent.take();
        }
    }
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

    /// Whether it is the root of its mount.
    pub fn is_mount_root(&self) -> bool {
        Arc::ptr_eq(&self.mount.root, &self.dentry)
    }
}
