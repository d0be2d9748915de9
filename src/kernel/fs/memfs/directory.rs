//! Names in directories: our own over those of the lower directory.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use super::node::Node;
use crate::kernel::fs::{DirEntry, File, FileType, Inode, OpenFlags};
use crate::kernel::stop::{Errno, Stop};
use crate::kernel::sync::{Lock, LockGuard, Rank};

/// The names of a directory.
pub(super) struct Directory {
    names: Lock<Names>,
    parent: Lock<Parent>,
    /// Names of our own, for the size shown.
    count: AtomicU64,
    /// What the lower directory lists, read when first needed.
    listing: OnceLock<Arc<Listing>>,
}

/// The directory that a directory is in.
struct Parent {
    ino: u64,
    node: ParentNode,
}

/// Going up must always be possible, and nodes must not hold each other in a circle.
enum ParentNode {
    /// It is the root, or was removed.
    None,
    /// The parent has this among its own names, and so holds it and is itself kept.
    Holds(Weak<Node>),
    /// The parent has this from its lower directory, under this name, and does not hold it.
    Lower(Arc<Node>, Box<[u8]>),
}

/// A name under which a lower directory has a file.
pub(super) struct Place {
    pub(super) parent: Arc<Node>,
    pub(super) name: Box<[u8]>,
}

/// Most names remembered of a lower file that has many.
const PLACES_MAX: usize = 64;

/// What this directory says of names, where it says anything else than the lower one.
#[derive(Default)]
pub(super) struct Names {
    own: HashMap<Arc<[u8]>, Slot>,
    /// Names that are nodes, by position: the order of being made.
    order: BTreeMap<u64, Arc<[u8]>>,
    next: u64,
    /// Removed: nothing can be made in it any more.
    pub(super) dead: bool,
}

enum Slot {
    /// There is no such name, whatever the lower directory says.
    Whiteout,
    /// This node, at this position of the listing.
    Node(Arc<Node>, u64),
}

/// Position of the first name of our own in a listing, behind all lower ones.
const OWN_POSITIONS: u64 = 1 << 32;

/// The names of a lower directory in its order, which does not change: positions in it are positions in ours.
#[derive(Default)]
pub(super) struct Listing {
    names: Vec<u8>,
    entries: Vec<Listed>,
}

struct Listed {
    start: u32,
    len: u16,
    kind: Option<FileType>,
    ino: u64,
}

impl Listing {
    fn push(&mut self, entry: &DirEntry) -> Option<()> {
        self.entries.push(Listed {
            start: u32::try_from(self.names.len()).ok()?,
            len: u16::try_from(entry.name.len()).ok()?,
            kind: entry.kind,
            ino: entry.ino,
        });
        self.names.extend_from_slice(&entry.name);
        Some(())
    }

    /// All names in it.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|entry| self.name(entry))
    }

    fn name(&self, entry: &Listed) -> &[u8] {
        let start = entry.start as usize;
        &self.names[start..start + usize::from(entry.len)]
    }
}

impl Directory {
    /// Of a directory that is its own parent until told otherwise.
    pub(super) fn new(ino: u64) -> Directory {
        let parent = Parent {
            node: ParentNode::None,
            ino,
        };
        Directory {
            names: Lock::new(Rank::Directory, Names::default()),
            parent: Lock::new(Rank::Leaf, parent),
            count: AtomicU64::new(0),
            listing: OnceLock::new(),
        }
    }

    /// The size that tmpfs shows: 20 bytes a name.
    pub(super) fn shown_size(&self) -> u64 {
        40 + 20 * self.count.load(Ordering::Relaxed)
    }
}

impl Names {
    /// What `name` means, given what the lower directory has under it.
    pub(super) fn resolve(&self, name: &[u8], lower: &Option<Arc<Node>>) -> Option<Arc<Node>> {
        match self.own.get(name) {
            Some(Slot::Node(node, _)) => Some(node.clone()),
            Some(Slot::Whiteout) => None,
            None => lower.clone(),
        }
    }

    /// Give a node this name, instead of whatever had it.
    pub(super) fn put(&mut self, directory: &Directory, name: &[u8], node: Arc<Node>) {
        let name: Arc<[u8]> = name.into();
        let position = OWN_POSITIONS + self.next;
        self.next += 1;
        if let Some(Slot::Node(_, old)) = self.own.insert(name.clone(), Slot::Node(node, position)) {
            self.order.remove(&old);
        } else {
            directory.count.fetch_add(1, Ordering::Relaxed);
        }
        self.order.insert(position, name);
    }

    /// Exchange the node behind a name in place.
    pub(super) fn replace(&mut self, directory: &Directory, name: &[u8], node: Arc<Node>) {
        match self.own.get_mut(name) {
            Some(Slot::Node(old, _)) => *old = node,
            _ => self.put(directory, name, node),
        }
    }

    /// Make the name mean nothing, given what the lower directory has under it.
    pub(super) fn clear(&mut self, directory: &Directory, name: &[u8], lower: &Option<Arc<Node>>) {
        let old = match lower {
            Some(_) => self.own.insert(name.into(), Slot::Whiteout),
            None => self.own.remove(name),
        };
        if let Some(Slot::Node(_, position)) = old {
            self.order.remove(&position);
            directory.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether there is no name left, given what the lower directory lists.
    pub(super) fn is_empty(&self, listing: &Listing) -> bool {
        let hidden = |entry| self.own.contains_key(listing.name(entry));
        self.order.is_empty() && listing.entries.iter().all(hidden)
    }
}

impl Node {
    /// As a directory: ENOTDIR.
    pub(super) fn as_directory(&self) -> Result<&Directory, Errno> {
        self.directory.as_deref().ok_or(Errno::ENOTDIR)
    }

    /// The names of a directory, locked; `nested` when another directory's are held.
    pub(super) fn names(&self, nested: bool) -> Result<LockGuard<'_, Names>, Errno> {
        let names = &self.as_directory()?.names;
        Ok(if nested { names.lock_nested() } else { names.lock() })
    }

    /// The directory that a directory is in; none for the root.
    pub(super) fn parent(&self) -> Option<Arc<Node>> {
        match &self.directory.as_ref()?.parent.lock().node {
            ParentNode::None => None,
            ParentNode::Holds(parent) => parent.upgrade(),
            ParentNode::Lower(parent, _) => Some(parent.clone()),
        }
    }

    /// Where the lower tree has this, as far as it was looked up there and not moved since.
    pub(super) fn places_below(&self) -> Vec<(Arc<Node>, Box<[u8]>)> {
        if let Some(directory) = &self.directory {
            return match &directory.parent.lock().node {
                ParentNode::Lower(parent, name) => vec![(parent.clone(), name.clone())],
                _ => Vec::new(),
            };
        }
        let places = self.places.lock();
        places
            .iter()
            .map(|at| (at.parent.clone(), at.name.clone()))
            .collect()
    }

    /// Say which directory a directory is in, which has it among its own names.
    pub(super) fn set_parent(&self, parent: &Node) {
        self.put_parent(parent.ino, ParentNode::Holds(parent.this.clone()));
    }

    fn put_parent(&self, ino: u64, node: ParentNode) {
        if let Some(directory) = &self.directory {
            let old = std::mem::replace(&mut *directory.parent.lock(), Parent { ino, node });
            drop(old);
        }
    }

    /// Whether this directory is `other` or above it. Call it with renames locked out.
    pub(super) fn is_above(&self, other: &Node) -> bool {
        if self.ino == other.ino {
            return true;
        }
        let mut at = other.parent();
        while let Some(node) = at {
            if node.ino == self.ino {
                return true;
            }
            at = node.parent();
        }
        false
    }

    /// This was found in the lower directory of `parent`, where it is unless it was moved since.
    fn adopt(&self, parent: &Node, name: &[u8]) -> Result<(), Errno> {
        self.found_below(parent, name);
        let parent = parent.arc()?;
        let Some(directory) = &self.directory else {
            let mut places = self.places.lock();
            let known = |at: &Place| Arc::ptr_eq(&at.parent, &parent) && *at.name == *name;
            if places.len() < PLACES_MAX && !places.iter().any(known) {
                places.reserve_exact(1);
                places.push(Place {
                    parent,
                    name: name.into(),
                });
            }
            return Ok(());
        };
        let mut at = directory.parent.lock();
        if matches!(at.node, ParentNode::None) {
            *at = Parent {
                ino: parent.ino,
                node: ParentNode::Lower(parent, name.into()),
            };
        }
        Ok(())
    }

    /// What the lower directory has under `name`. Asks the lower tree: no lock may be held.
    pub(super) fn lower_child(&self, name: &[u8]) -> Result<Option<Arc<Node>>, Errno> {
        let Some(lower) = &self.lower else { return Ok(None) };
        let found = match lower.lookup(name) {
            Err(Errno::ENOENT) => return Ok(None),
            found => self.tree.node_of(found?)?,
        };
        found.adopt(self, name)?;
        Ok(Some(found))
    }

    /// What the lower directory lists. Asks the lower tree: no lock may be held.
    pub(super) fn listing(&self) -> Result<Arc<Listing>, Errno> {
        let directory = self.as_directory()?;
        if let Some(known) = directory.listing.get() {
            return Ok(known.clone());
        }
        let mut listing = Listing::default();
        if let Some(lower) = &self.lower {
            read_listing(lower, &mut listing)?;
        }
        // Whoever was first read the same.
        Ok(directory.listing.get_or_init(|| Arc::new(listing)).clone())
    }

    /// The lower directory's listing if it has been read, or if there is none to read.
    pub(super) fn known_listing(&self) -> Option<Arc<Listing>> {
        match &self.lower {
            None => Some(Arc::default()),
            Some(_) => self.directory.as_ref()?.listing.get().cloned(),
        }
    }
}

fn read_listing(lower: &Arc<dyn Inode>, listing: &mut Listing) -> Result<(), Errno> {
    let ops = lower.clone().open(OpenFlags::DIRECTORY)?;
    let file = File::anonymous(ops, String::new(), lower.clone(), OpenFlags::DIRECTORY);
    let mut complete = true;
    let read = file.ops.read_dir(&file, 0, &mut |entry| {
        if entry.name != b"." && entry.name != b".." {
            complete = listing.push(&entry).is_some();
        }
        complete
    });
    match read {
        Ok(()) if complete => Ok(()),
        Ok(()) => Err(Errno::EOVERFLOW),
        Err(Stop::Errno(errno, _)) => Err(errno),
        Err(_) => Err(Errno::EIO),
    }
}

/// Find a name. ENOENT.
pub(super) fn lookup(dir: &Node, name: &[u8]) -> Result<Arc<Node>, Errno> {
    {
        let names = dir.names(false)?;
        match names.own.get(name) {
            Some(Slot::Node(node, _)) => return Ok(node.clone()),
            Some(Slot::Whiteout) => return Err(Errno::ENOENT),
            None => {}
        }
    }
    dir.lower_child(name)?.ok_or(Errno::ENOENT)
}

/// Make a new node under a new name. EEXIST, ENOENT in a removed directory, ENOSPC.
pub(super) fn add_new(
    dir: &Node,
    name: &[u8],
    make: impl FnOnce() -> Result<Arc<Node>, Errno>,
) -> Result<Arc<Node>, Errno> {
    let directory = dir.as_directory()?;
    let lower = dir.lower_child(name)?;
    let _operation = dir.tree.operation()?;
    let mut names = dir.names(false)?;
    if names.dead {
        return Err(Errno::ENOENT);
    }
    if names.resolve(name, &lower).is_some() {
        return Err(Errno::EEXIST);
    }
    let node = make()?;
    node.set_parent(dir);
    dir.tell_name(name, &node);
    names.put(directory, name, node.clone());
    let directories = i32::from(node.kind == FileType::Directory);
    dir.names_changed(directories, dir.tree.now());
    Ok(node)
}

/// Give a node one more name. EPERM for a directory, ENOENT for a node whose last name is gone, EMLINK.
pub(super) fn add_link(dir: &Node, name: &[u8], node: &Node) -> Result<(), Errno> {
    let directory = dir.as_directory()?;
    let lower = dir.lower_child(name)?;
    let now = dir.tree.now();
    let _operation = dir.tree.operation()?;
    let mut names = dir.names(false)?;
    if names.dead {
        return Err(Errno::ENOENT);
    }
    if names.resolve(name, &lower).is_some() {
        return Err(Errno::EEXIST);
    }
    if node.kind == FileType::Directory {
        return Err(Errno::EPERM);
    }
    let this = node.arc()?;
    {
        let mut state = node.change();
        if state.nlink == 0 && !state.unnamed {
            return Err(Errno::ENOENT);
        }
        let nlink = state.nlink.checked_add(1).ok_or(Errno::EMLINK)?;
        dir.tree.charge_inode()?;
        state.links_charged += 1;
        state.nlink = nlink;
        state.unnamed = false;
        state.ctime = now;
    }
    dir.tell_name(name, node);
    names.put(directory, name, this);
    dir.names_changed(0, now);
    Ok(())
}

/// unlink(2), or rmdir(2) for a `directory`.
pub(super) fn remove(dir: &Node, name: &[u8], directory: bool) -> Result<(), Errno> {
    let lower = dir.lower_child(name)?;
    let now = dir.tree.now();
    loop {
        let seen = lookup(dir, name)?;
        match (directory, seen.kind) {
            (true, FileType::Directory) => {}
            (false, FileType::Directory) => return Err(Errno::EISDIR),
            (true, _) => return Err(Errno::ENOTDIR),
            (false, _) => {}
        }
        if directory {
            seen.listing()?;
        }
        // Dropped behind the lock: the last use of a node may free much.
        let _unpinned;
        let _operation = dir.tree.operation()?;
        let mut names = dir.names(false)?;
        let node = names.resolve(name, &lower).ok_or(Errno::ENOENT)?;
        if !Arc::ptr_eq(&node, &seen) {
            continue;
        }
        if directory {
            bury(&node)?;
        }
        names.clear(dir.as_directory()?, name, &lower);
        dir.tell_no_name(name, lower.is_some());
        _unpinned = node.drop_link(now);
        dir.names_changed(-i32::from(directory), now);
        return Ok(());
    }
}

/// Make a directory one that nothing can be made in any more. ENOTEMPTY. Its parent's names are locked, and its lower
/// directory has been listed.
pub(super) fn bury(node: &Node) -> Result<(), Errno> {
    let listing = node.known_listing().ok_or(Errno::EBUSY)?;
    let mut names = node.names(true)?;
    if !names.is_empty(&listing) {
        return Err(Errno::ENOTEMPTY);
    }
    names.dead = true;
    Ok(())
}

/// Entries from `pos` on until `emit` says false: `.` and `..`, what the lower directory lists and is not hidden, then
/// names of our own in the order of being made. Whatever happens to other names meanwhile, one that stays has its place.
pub(super) fn list(dir: &Node, pos: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> Result<(), Errno> {
    const FIRST_LOWER: u64 = 2;
    let listing = dir.listing()?;
    let directory = dir.as_directory()?;
    if dir.names(false)?.dead {
        return Err(Errno::ENOENT);
    }
    let dots: [(&[u8], u64); 2] = [(b".", dir.ino), (b"..", directory.parent.lock().ino)];
    for (at, (name, ino)) in (0u64..).zip(dots) {
        let entry = DirEntry {
            ino,
            kind: Some(FileType::Directory),
            name: name.to_vec(),
            next: at + 1,
        };
        if at >= pos && !emit(entry) {
            return Ok(());
        }
    }
    let skip = usize::try_from(pos.saturating_sub(FIRST_LOWER)).unwrap_or(usize::MAX);
    for (at, entry) in listing.entries.iter().enumerate().skip(skip) {
        let name = listing.name(entry);
        if dir.names(false)?.own.contains_key(name) {
            continue;
        }
        let entry = DirEntry {
            ino: entry.ino,
            kind: entry.kind,
            name: name.to_vec(),
            next: FIRST_LOWER + at as u64 + 1,
        };
        if !emit(entry) {
            return Ok(());
        }
    }
    let mut from = pos.max(OWN_POSITIONS);
    while let Some(entry) = own_entry(dir, from)? {
        from = entry.next;
        if !emit(entry) {
            break;
        }
    }
    Ok(())
}

/// The first name of our own at or behind a position.
fn own_entry(dir: &Node, from: u64) -> Result<Option<DirEntry>, Errno> {
    let names = dir.names(false)?;
    let Some((&position, name)) = names.order.range(from..).next() else {
        return Ok(None);
    };
    let Some(Slot::Node(node, _)) = names.own.get(name) else {
        return Ok(None);
    };
    Ok(Some(DirEntry {
        ino: node.ino,
        kind: Some(node.kind),
        name: name.to_vec(),
        next: position + 1,
    }))
}

impl Node {
    /// Have a directory hold no names any more.
    pub(super) fn forget_names(&self) {
        let old = self.names(false).map(|mut names| std::mem::take(&mut *names));
        drop(old);
    }
}

/// Have a directory say this of a name, before anybody uses it; nothing is a whiteout.
pub(super) fn put_own(dir: &Node, name: &[u8], node: Option<&Arc<Node>>) -> Result<(), Errno> {
    let directory = dir.as_directory()?;
    let mut names = dir.names(false)?;
    match node {
        Some(node) => {
            names.put(directory, name, node.clone());
            drop(names);
            node.set_parent(dir);
        }
        None => {
            names.own.insert(name.into(), Slot::Whiteout);
        }
    }
    Ok(())
}

/// Take the nodes out of a directory that is going away.
pub(super) fn take_children(node: &mut Node) -> Vec<Arc<Node>> {
    let Some(directory) = &mut node.directory else {
        return Vec::new();
    };
    let own = std::mem::take(&mut directory.names.get_mut().own);
    let node_of = |slot| match slot {
        Slot::Node(node, _) => Some(node),
        Slot::Whiteout => None,
    };
    own.into_values().filter_map(node_of).collect()
}

/// Take the ways up out of a node that is going away.
pub(super) fn take_parents(node: &mut Node) -> Vec<Arc<Node>> {
    let Some(directory) = &mut node.directory else {
        let places = std::mem::take(node.places.get_mut());
        return places.into_iter().map(|at| at.parent).collect();
    };
    match std::mem::replace(&mut directory.parent.get_mut().node, ParentNode::None) {
        ParentNode::Lower(parent, _) => vec![parent],
        _ => Vec::new(),
    }
}

/// A name, and the node behind it; none for a whiteout.
type OwnName = (Arc<[u8]>, Option<Arc<Node>>);

/// What a directory's own names say, in no order.
pub(super) fn own_names(node: &Node) -> Result<Vec<OwnName>, Errno> {
    let names = node.names(false)?;
    let said = names.own.iter().map(|(name, slot)| match slot {
        Slot::Node(node, _) => (name.clone(), Some(node.clone())),
        Slot::Whiteout => (name.clone(), None),
    });
    Ok(said.collect())
}
