//! What all tasks of a guest share of its files, and the name cache's rules.
//!
//! Every change of a directory goes through [`Vfs::added`], [`Vfs::removed`] and [`Vfs::moved`] after the file system has
//! made it, so that what is remembered of names stays true and watchers hear of it. One [`super::NameChange`] is held
//! around both.

use std::sync::Arc;

use super::anon::AnonFs;
use super::dentry::Remembered;
use super::grant::Revocable;
use super::inotify::{Notice, Watches};
use super::locks::LockTable;
use super::names::NameCache;
use super::pipe::HostPipes;
use super::special::SpecialFiles;
use super::types::FsTypes;
use super::{BusyFiles, Dentry, FileSystem, FileType, FsContext, Inode, MountFlags, MountTree};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};

/// Longest name, in bytes.
const NAME_MAX: usize = 255;

/// How often a lookup is repeated when its directory changes meanwhile.
const LOOKUP_TRIES: usize = 8;

/// The guest's files.
pub struct Vfs {
    /// What is mounted where.
    pub mounts: MountTree,
    /// Names kept alive without users.
    pub names: NameCache,
    /// Who opens devices and FIFOs.
    pub special: SpecialFiles,
    /// What mount(2) can mount.
    pub types: FsTypes,
    /// Inodes of objects without a name.
    pub anon: Arc<AnonFs>,
    /// Who wants to hear of changes.
    pub watches: Arc<Watches>,
    /// Who writes files without the kernel, and so past its limits.
    pub writers: Revocable,
    /// Files that are being written or executed.
    pub busy: Arc<BusyFiles>,
    /// Locks on files.
    pub locks: Arc<LockTable>,
    /// Pipes whose bytes are with the host.
    pub host_pipes: HostPipes,
}

impl Vfs {
    /// Files with just a root.
    pub fn new(root: Arc<dyn FileSystem>, source: &[u8], flags: MountFlags) -> Vfs {
        Vfs {
            mounts: MountTree::new(root, source, flags),
            names: NameCache::default(),
            special: SpecialFiles::default(),
            types: FsTypes::default(),
            anon: AnonFs::new(),
            watches: Arc::default(),
            writers: Revocable::default(),
            busy: Arc::default(),
            locks: Arc::default(),
            host_pipes: HostPipes::default(),
        }
    }

    /// A context at the root, for a first task.
    pub fn context(&self, umask: u32) -> Arc<Lock<FsContext>> {
        let root = self.mounts.root();
        let context = FsContext::new(root.clone(), root, umask);
        Arc::new(Lock::new(Rank::FsContext, context))
    }

    /// The dentry of `name` in a directory. ENAMETOOLONG, ENOENT, ENOTDIR, or what the file system says.
    pub fn child(&self, dir: &Arc<Dentry>, name: &[u8]) -> Result<Arc<Dentry>, Errno> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let cacheable = dir.inode.cacheable();
        for _ in 0..LOOKUP_TRIES {
            let remembered = dir.remembered(name);
            let generation = match remembered {
                Remembered::Present(dentry) if cacheable => {
                    self.names.keep(&dentry);
                    return Ok(dentry);
                }
                Remembered::Absent if cacheable => return Err(Errno::ENOENT),
                Remembered::Unknown(generation) => Some(generation),
                _ => None,
            };
            match dir.inode.lookup(name) {
                Ok(inode) => {
                    let Some(dentry) = dir.found(name, inode, generation) else {
                        dir.settle();
                        continue;
                    };
                    if cacheable {
                        self.names.keep(&dentry);
                    }
                    return Ok(dentry);
                }
                Err(Errno::ENOENT) => {
                    if cacheable
                        && let Some(generation) = generation
                        && let Some(absent) = dir.note_absent(name, generation)
                    {
                        self.names.keep_absent(absent);
                    }
                    return Err(Errno::ENOENT);
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(dir.added(name, dir.inode.lookup(name)?))
    }

    /// A name was made in a directory.
    pub fn added(&self, dir: &Arc<Dentry>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let dentry = dir.added(name, inode);
        self.watches
            .name_changed(dir, name, &dentry.inode, Notice::CREATE);
        if dir.inode.cacheable() {
            self.names.keep(&dentry);
        }
        dentry
    }

    /// The name of `victim` was removed from a directory.
    pub fn removed(&self, dir: &Arc<Dentry>, name: &[u8], victim: Arc<Dentry>) {
        if let Some(gone) = dir.removed(name) {
            self.names.forget(&gone);
        }
        let inode = victim.inode.clone();
        if inode.file_type() != FileType::Directory {
            self.watches.name_lost(&inode);
        }
        victim.tell_when_gone(&self.watches);
        drop(victim);
        self.watches.name_changed(dir, name, &inode, Notice::DELETE);
    }

    /// The name of `moving` became another; with `exchange` two names were swapped.
    pub fn moved(
        &self,
        from: (&Arc<Dentry>, &[u8]),
        to: (&Arc<Dentry>, &[u8]),
        moving: &Arc<Dentry>,
        other: Option<&Arc<Dentry>>,
        exchange: bool,
    ) {
        if let Some(replaced) = from.0.moved(from.1, to.0, to.1, exchange) {
            self.names.forget(&replaced);
        }
        let replaced = other.filter(|_| !exchange);
        if let Some(replaced) = replaced {
            replaced.tell_when_gone(&self.watches);
        }
        let replaced = replaced.map(|dentry| &dentry.inode);
        self.watches
            .moved((from.0, from.1), (to.0, to.1), &moving.inode, replaced);
        if let Some(other) = other.filter(|_| exchange) {
            self.watches
                .moved((to.0, to.1), (from.0, from.1), &other.inode, None);
        }
    }
}
