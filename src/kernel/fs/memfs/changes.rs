//! What an overlay says otherwise than its lower tree, path by path.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::node::Node;
use super::{MemFs, Tree, directory};
use crate::kernel::fs::{FileType, Inode};
use crate::kernel::stop::Errno;

/// A path at which an overlay may differ from its lower tree. Whether it does is seen by comparing the two inodes: a file
/// that was written may have got its old contents.
#[derive(Clone)]
pub struct Change {
    /// Names from the root on, with a slash between; empty for the root.
    pub path: Vec<u8>,
    /// What the lower tree has there.
    pub before: Option<Arc<dyn Inode>>,
    /// What is there now. None: it was removed, with all that is below it.
    pub after: Option<Arc<dyn Inode>>,
    /// Whether contents (of what is no directory) are not the lower inode's.
    pub rewritten: bool,
    /// The number of the lower inode of another path that it is or was made from, by renaming or linking.
    pub moved: Option<u64>,
    /// Whether this directory shows nothing of the lower directory of this path, but for what comes behind in this list.
    pub opaque: bool,
}

/// Changed nodes of lower inodes, and what is on the way to them, by inode number of the directory.
type Below = HashMap<u64, BTreeMap<Box<[u8]>, Arc<Node>>>;

struct Visit {
    path: Vec<u8>,
    before: Option<Arc<dyn Inode>>,
    node: Option<Arc<Node>>,
}

impl MemFs {
    /// Everything that may differ from the lower tree, parents before children, names in byte order. A lower file of
    /// several names is told under those that were looked up. Call it when nothing changes the tree any more.
    pub fn changes(&self) -> Result<Vec<Change>, Errno> {
        let below = self.tree.changed_below();
        let mut found = Vec::new();
        let mut left = vec![Visit {
            path: Vec::new(),
            before: self.root.lower.clone(),
            node: Some(self.root.clone()),
        }];
        while let Some(visit) = left.pop() {
            let from = left.len();
            if let Some(change) = look(visit, &below, &mut left)? {
                found.push(change);
            }
            // The last one pushed is the next one looked at.
            left[from..].reverse();
        }
        Ok(found)
    }
}

impl Tree {
    /// Changed nodes by where their lower inodes are, and the directories above them.
    fn changed_below(&self) -> Below {
        let mut left: Vec<Arc<Node>> = {
            let known = self.known.lock();
            known.values().filter_map(|known| known.changed.clone()).collect()
        };
        let mut below = Below::new();
        let mut seen = HashSet::new();
        while let Some(node) = left.pop() {
            if !seen.insert(node.ino) {
                continue;
            }
            for (parent, name) in node.places_below() {
                below.entry(parent.ino).or_default().insert(name, node.clone());
                left.push(parent);
            }
        }
        below
    }
}

fn is_directory(inode: &Arc<dyn Inode>) -> bool {
    inode.file_type() == FileType::Directory
}

/// What there is to say of one path; what is to be looked at below it comes behind `left`.
fn look(visit: Visit, below: &Below, left: &mut Vec<Visit>) -> Result<Option<Change>, Errno> {
    let Visit { path, before, node } = visit;
    let Some(node) = node else {
        let gone = Change {
            path,
            before,
            after: None,
            rewritten: false,
            moved: None,
            opaque: false,
        };
        return Ok(gone.before.is_some().then_some(gone));
    };
    let same = match (&before, &node.lower) {
        (Some(before), Some(lower)) => {
            Arc::ptr_eq(before, lower) || before.metadata()?.ino == lower.metadata()?.ino
        }
        _ => false,
    };
    let (changed, rewritten) = node.differs();
    let over = before.as_ref().filter(|before| is_directory(before));
    let mut opaque = false;
    if node.kind == FileType::Directory {
        opaque = !same && over.is_some();
        let is_below =
            |name: &[u8]| same && below.get(&node.ino).is_some_and(|names| names.contains_key(name));
        let names = if same {
            changed_names(&node, below)?
        } else {
            all_names(&node, over)?
        };
        for (name, child) in names {
            let there = over.and_then(|over| over.lookup(&name).ok());
            // Where the lower tree lost it meanwhile, what it had there when the guest changed it.
            let lost = || {
                child
                    .as_ref()
                    .filter(|_| is_below(&name))
                    .and_then(|child| child.lower.clone())
            };
            let before = there.or_else(lost);
            if before.is_some() || child.is_some() {
                left.push(Visit {
                    path: join(&path, &name),
                    before,
                    node: child,
                });
            }
        }
    }
    let here = Change {
        path,
        before,
        moved: node
            .lower
            .as_ref()
            .filter(|_| !same)
            .and_then(|lower| Some(lower.metadata().ok()?.ino)),
        after: Some(node),
        rewritten: rewritten || !same,
        opaque,
    };
    Ok((changed || !same).then_some(here))
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return name.to_vec();
    }
    [path, b"/", name].concat()
}

type NamesFound = BTreeMap<Vec<u8>, Option<Arc<Node>>>;

/// The names in a directory where it may differ from the lower directory that it stands for.
fn changed_names(node: &Node, below: &Below) -> Result<NamesFound, Errno> {
    let mut names = NamesFound::new();
    for (name, child) in below.get(&node.ino).into_iter().flatten() {
        names.insert(name.to_vec(), Some(child.clone()));
    }
    for (name, child) in directory::own_names(node)? {
        names.insert(name.to_vec(), child);
    }
    Ok(names)
}

/// All names in a directory, and as removed those that only the lower directory of its path has.
fn all_names(node: &Node, over: Option<&Arc<dyn Inode>>) -> Result<NamesFound, Errno> {
    let mut names = NamesFound::new();
    if let Some(over) = over {
        let known = node.tree.node_of(over.clone())?;
        for name in known.listing()?.names() {
            names.insert(name.to_vec(), None);
        }
    }
    let mut here = Vec::new();
    directory::list(node, 0, &mut |entry| {
        here.push(entry.name);
        true
    })?;
    for name in here {
        if name != b"." && name != b".." {
            let child = directory::lookup(node, &name)?;
            names.insert(name, Some(child));
        }
    }
    Ok(names)
}
