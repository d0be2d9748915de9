//! rename(2) and renameat2(2).

use std::sync::Arc;

use super::directory::{self, Directory, Names};
use super::node::Node;
use crate::kernel::fs::{CreateArgs, FileType};
use crate::kernel::stop::Errno;
use crate::kernel::sync::LockGuard;

const NOREPLACE: u32 = libc::RENAME_NOREPLACE;
const EXCHANGE: u32 = libc::RENAME_EXCHANGE;
const WHITEOUT: u32 = libc::RENAME_WHITEOUT;

/// One end of a rename: a name in a directory.
struct End<'a> {
    dir: &'a Node,
    directory: &'a Directory,
    name: &'a [u8],
    /// What the lower directory has under the name.
    lower: Option<Arc<Node>>,
}

impl<'a> End<'a> {
    /// Asks the lower tree: no lock may be held.
    fn new(dir: &'a Node, name: &'a [u8]) -> Result<End<'a>, Errno> {
        Ok(End {
            dir,
            directory: dir.as_directory()?,
            name,
            lower: dir.lower_child(name)?,
        })
    }
}

/// The names of both directories, locked; those of one when they are the same.
struct Locked<'a> {
    old: LockGuard<'a, Names>,
    new: Option<LockGuard<'a, Names>>,
}

impl<'a> Locked<'a> {
    /// Directories that are above others are locked first, others by address: there is one rename at a time, and
    /// everybody else locks parents before children.
    fn lock(old: &'a Node, new: &'a Node) -> Result<Locked<'a>, Errno> {
        if std::ptr::eq(old, new) {
            return Ok(Locked {
                old: old.names(true)?,
                new: None,
            });
        }
        let new_first = if new.is_above(old) {
            true
        } else if old.is_above(new) {
            false
        } else {
            std::ptr::from_ref(new) < std::ptr::from_ref(old)
        };
        let (old, new) = if new_first {
            let new = new.names(true)?;
            (old.names(true)?, new)
        } else {
            let old = old.names(true)?;
            (old, new.names(true)?)
        };
        Ok(Locked { old, new: Some(new) })
    }

    fn target(&mut self) -> &mut Names {
        self.new.as_mut().unwrap_or(&mut self.old)
    }
}

/// [`crate::kernel::fs::Inode::rename`].
pub(super) fn rename(
    dir: &Node,
    name: &[u8],
    new_dir: &Node,
    new_name: &[u8],
    flags: u32,
) -> Result<(), Errno> {
    if flags & !(NOREPLACE | EXCHANGE | WHITEOUT) != 0
        || flags & EXCHANGE != 0 && flags & (NOREPLACE | WHITEOUT) != 0
    {
        return Err(Errno::EINVAL);
    }
    let from = End::new(dir, name)?;
    let to = End::new(new_dir, new_name)?;
    loop {
        // What is replaced must be empty if it is a directory, which may need the lower tree: find that out now.
        if let Ok(target) = directory::lookup(new_dir, new_name)
            && target.kind == FileType::Directory
        {
            target.listing()?;
        }
        match attempt(&from, &to, flags) {
            Err(Errno::EBUSY) => {}
            done => return done,
        }
    }
}

/// Carry it out. EBUSY when the target has become a directory that was not listed.
fn attempt(from: &End<'_>, to: &End<'_>, flags: u32) -> Result<(), Errno> {
    // Dropped behind the locks: the last use of a node may free much.
    let _gone;
    let _operation = from.dir.tree.operation()?;
    let _renames = from.dir.tree.renames.lock();
    let mut names = Locked::lock(from.dir, to.dir)?;
    let node = names.old.resolve(from.name, &from.lower).ok_or(Errno::ENOENT)?;
    let target = names.target().resolve(to.name, &to.lower);
    if names.target().dead {
        return Err(Errno::ENOENT);
    }
    check(from, to, &node, target.as_ref(), flags)?;
    match target {
        Some(target) if Arc::ptr_eq(&target, &node) => Ok(()),
        Some(target) if flags & EXCHANGE != 0 => {
            exchange(from, to, &mut names, node, target);
            Ok(())
        }
        target => {
            _gone = replace(from, to, &mut names, node, target, flags & WHITEOUT != 0)?;
            Ok(())
        }
    }
}

/// Whether the rename is allowed, but for a target that is not empty.
fn check(
    from: &End<'_>,
    to: &End<'_>,
    node: &Arc<Node>,
    target: Option<&Arc<Node>>,
    flags: u32,
) -> Result<(), Errno> {
    let is_dir = |node: &Node| node.kind == FileType::Directory;
    if target.is_some() && flags & NOREPLACE != 0 {
        return Err(Errno::EEXIST);
    }
    if target.is_none() && flags & EXCHANGE != 0 {
        return Err(Errno::ENOENT);
    }
    if is_dir(node) && node.is_above(to.dir) {
        return Err(Errno::EINVAL);
    }
    let Some(target) = target else { return Ok(()) };
    if is_dir(target) && target.is_above(from.dir) {
        return Err(if flags & EXCHANGE != 0 {
            Errno::EINVAL
        } else {
            Errno::ENOTEMPTY
        });
    }
    if flags & EXCHANGE != 0 || Arc::ptr_eq(target, node) {
        return Ok(());
    }
    match (is_dir(node), is_dir(target)) {
        (true, false) => Err(Errno::ENOTDIR),
        (false, true) => Err(Errno::EISDIR),
        _ => Ok(()),
    }
}

/// Move the name; what this returns is to be dropped when no lock is held.
fn replace(
    from: &End<'_>,
    to: &End<'_>,
    names: &mut Locked<'_>,
    node: Arc<Node>,
    target: Option<Arc<Node>>,
    whiteout: bool,
) -> Result<Vec<Arc<Node>>, Errno> {
    let now = from.dir.tree.now();
    let mut gone = Vec::new();
    let hidden = if whiteout {
        let args = CreateArgs {
            mode: libc::S_IFCHR,
            uid: 0,
            gid: 0,
            rdev: 0,
        };
        Some(Node::create(&from.dir.tree, &args)?)
    } else {
        None
    };
    let moves_dir = i32::from(node.kind == FileType::Directory);
    let mut replaces_dir = 0;
    if let Some(target) = target {
        if target.kind == FileType::Directory {
            directory::bury(&target)?;
            replaces_dir = 1;
        }
        gone.extend(target.drop_link(now));
        gone.push(target);
    }
    match hidden {
        Some(hidden) => {
            from.dir.tell_name(from.name, &hidden);
            names.old.replace(from.directory, from.name, hidden);
        }
        None => {
            from.dir.tell_no_name(from.name, from.lower.is_some());
            names.old.clear(from.directory, from.name, &from.lower);
        }
    }
    node.set_parent(to.dir);
    node.change().ctime = now;
    to.dir.tell_name(to.name, &node);
    names.target().put(to.directory, to.name, node);
    from.dir.names_changed(-moves_dir, now);
    to.dir.names_changed(moves_dir - replaces_dir, now);
    Ok(gone)
}

/// RENAME_EXCHANGE.
fn exchange(from: &End<'_>, to: &End<'_>, names: &mut Locked<'_>, node: Arc<Node>, target: Arc<Node>) {
    let now = from.dir.tree.now();
    let is_dir = |node: &Node| i32::from(node.kind == FileType::Directory);
    let moved = is_dir(&node) - is_dir(&target);
    node.set_parent(to.dir);
    target.set_parent(from.dir);
    node.change().ctime = now;
    target.change().ctime = now;
    from.dir.tell_name(from.name, &target);
    to.dir.tell_name(to.name, &node);
    names.old.replace(from.directory, from.name, target);
    names.target().replace(to.directory, to.name, node);
    from.dir.names_changed(-moved, now);
    to.dir.names_changed(moved, now);
}
