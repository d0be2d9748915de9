//! Inodes of host files.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use rustix::fs::{OFlags, Statx};

use super::file::{HostDirectory, HostRegular};
use super::recent::Kept;
use super::{Tree, change, host, xattr};
use crate::kernel::fs::{
    CreateArgs, FileOps, FileSystem, FileType, Inode, Link, Metadata, OpenFlags, SetAttr,
};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::Task;
use crate::platform::HostFile;

/// A file of the host.
pub(super) struct HostInode {
    pub(super) this: Weak<HostInode>,
    pub(super) tree: Arc<Tree>,
    kind: FileType,
    key: (u64, u64),
    device_index: u64,
    /// Whether it is a directory that is shown as an empty one.
    is_empty: bool,
    /// Whether it was found in a directory that is protected.
    is_guarded: AtomicBool,
    place: Place,
    /// What the first look at it said: all there is to say in a fixed tree.
    seen: Metadata,
    link: OnceLock<Box<[u8]>>,
    /// Open descriptors of a regular file, shared by all who open it.
    pub(super) open: Lock<OpenFiles>,
}

/// Where the host has it.
enum Place {
    /// The file system's root.
    Root,
    /// Wherever it is now: held by an O_PATH descriptor.
    Held(OwnedFd),
    /// In a directory that does not change. The descriptor of a directory is a cache.
    Named {
        parent: Option<Arc<HostInode>>,
        name: Box<[u8]>,
        directory: Lock<Weak<Kept<OwnedFd>>>,
    },
}

/// Descriptors of a regular file in use.
#[derive(Default)]
pub(super) struct OpenFiles {
    reader: Weak<Kept<Arc<HostFile>>>,
    shared_reader: Weak<HostFile>,
    pub(super) writer: Weak<HostFile>,
    /// The descriptor that made it, which may write whatever the mode says, until the maker has opened it.
    pub(super) maker: Option<Arc<HostFile>>,
}

/// An O_PATH (or better) descriptor of an inode, borrowed or kept alive.
pub(super) enum PathFd<'a> {
    Borrowed(BorrowedFd<'a>),
    Kept(Arc<Kept<OwnedFd>>),
}

impl AsFd for PathFd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            PathFd::Borrowed(fd) => fd.as_fd(),
            PathFd::Kept(kept) => kept.get().as_fd(),
        }
    }
}

impl HostInode {
    pub(super) fn root(tree: Arc<Tree>, st: &Statx) -> HostInode {
        HostInode::build(tree, st, Place::Root)
    }

    /// Something found or made in a directory of a shared tree.
    pub(super) fn held(tree: Arc<Tree>, st: &Statx, fd: OwnedFd) -> HostInode {
        HostInode::build(tree, st, Place::Held(fd))
    }

    fn named(tree: Arc<Tree>, st: &Statx, parent: Arc<HostInode>, name: &[u8]) -> HostInode {
        let place = Place::Named {
            parent: Some(parent),
            name: name.into(),
            directory: Lock::new(Rank::Leaf, Weak::new()),
        };
        HostInode::build(tree, st, place)
    }

    fn build(tree: Arc<Tree>, st: &Statx, place: Place) -> HostInode {
        HostInode {
            this: Weak::new(),
            seen: tree.show(st),
            key: host::key(st),
            device_index: tree.device_index(host::key(st).0),
            tree,
            kind: host::kind(st),
            is_empty: false,
            is_guarded: AtomicBool::new(false),
            place,
            link: OnceLock::new(),
            open: Lock::new(Rank::Leaf, OpenFiles::default()),
        }
    }

    /// Which of the host's file systems it is on.
    pub(super) fn device_index(&self) -> u64 {
        self.device_index
    }

    /// Whether a name in this directory is not to be shown.
    pub(super) fn hides(&self, name: &[u8]) -> bool {
        let is_other = name != b"." && name != b"..";
        self.is_empty && is_other || self.tree.hidden.name(self.key, name)
    }

    pub(super) fn kind(&self) -> FileType {
        self.kind
    }

    /// Host device and inode number.
    pub(super) fn key(&self) -> (u64, u64) {
        self.key
    }

    fn is_protected(&self) -> bool {
        self.is_guarded.load(Ordering::Relaxed) || self.tree.protected.is_top(self.key)
    }

    /// EROFS unless the guest may change it.
    pub(super) fn check_writable(&self) -> Result<(), Errno> {
        self.tree.check_writable()?;
        if self.is_protected() {
            return Err(Errno::EROFS);
        }
        Ok(())
    }

    /// The same of a directory and of a name in it that is to go or to mean something else.
    pub(super) fn check_changeable(&self, name: &[u8]) -> Result<(), Errno> {
        self.check_writable()?;
        let key = || Ok(host::key(&host::stat_at(self.directory_of(name)?, name)?));
        self.tree.protected.check_name(key)
    }

    /// A descriptor good for `*at` calls, for anything but a leaf of a fixed tree.
    pub(super) fn path_fd(&self) -> Result<PathFd<'_>, Errno> {
        match &self.place {
            Place::Root => Ok(PathFd::Borrowed(self.tree.root.as_fd())),
            Place::Held(fd) => Ok(PathFd::Borrowed(fd.as_fd())),
            Place::Named { .. } => self.reopen_directory(),
        }
    }

    /// The descriptor of a directory of a fixed tree; those on the way that were let go are opened again.
    fn reopen_directory(&self) -> Result<PathFd<'_>, Errno> {
        let mut closed = Vec::new();
        let mut at = self;
        let mut fd = loop {
            match &at.place {
                Place::Root => break PathFd::Borrowed(self.tree.root.as_fd()),
                Place::Held(fd) => break PathFd::Borrowed(fd.as_fd()),
                Place::Named {
                    directory, parent, ..
                } => {
                    if let Some(kept) = directory.lock().upgrade() {
                        break PathFd::Kept(kept);
                    }
                    closed.push(at);
                    at = parent.as_deref().ok_or(Errno::ESTALE)?;
                }
            }
        };
        while let Some(inode) = closed.pop() {
            let Place::Named { name, directory, .. } = &inode.place else {
                return Err(Errno::ESTALE);
            };
            let opened = self.tree.with_descriptors(|| host::open_path(&fd, name))?;
            let kept = self.tree.directories.insert(opened);
            *directory.lock() = Arc::downgrade(&kept);
            fd = PathFd::Kept(kept);
        }
        Ok(fd)
    }

    /// How `*at` calls reach it: a descriptor, and a name in it or nothing for the descriptor itself.
    pub(super) fn at(&self) -> Result<(PathFd<'_>, &[u8]), Errno> {
        match &self.place {
            Place::Named {
                parent: Some(parent),
                name,
                ..
            } if self.kind != FileType::Directory => Ok((parent.path_fd()?, name)),
            _ => Ok((self.path_fd()?, b"")),
        }
    }

    /// A descriptor of this directory to use `name` in; ENOENT for what is hidden. The VFS hands in single components only; that nothing else gets
    /// to the host does not rest on it.
    pub(super) fn directory_of(&self, name: &[u8]) -> Result<PathFd<'_>, Errno> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return Err(Errno::EINVAL);
        }
        if self.kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        if self.hides(name) {
            return Err(Errno::ENOENT);
        }
        self.path_fd()
    }

    /// The inode that the host has at `name`.
    pub(super) fn find(&self, name: &[u8]) -> Result<Arc<HostInode>, Errno> {
        let directory = self.directory_of(name)?;
        if self.tree.is_fixed() {
            let st = host::stat_at(&directory, name)?;
            self.tree.hidden.check(&st)?;
            let open = || self.tree.with_descriptors(|| host::open_path(&directory, name));
            let is_empty = self.shows_empty(&st, open)?;
            let parent = self.this.upgrade().ok_or(Errno::ESTALE)?;
            let make = |tree| HostInode::named(tree, &st, parent, name).emptied(is_empty);
            return Ok(self.tree.inode(&st, make));
        }
        let fd = self.tree.with_descriptors(|| host::open_path(&directory, name))?;
        let st = host::stat_at(&fd, b"")?;
        self.tree.hidden.check(&st)?;
        let is_empty = self.shows_empty(&st, || Ok(&fd))?;
        let make = |tree| HostInode::held(tree, &st, fd).emptied(is_empty);
        let found = self.tree.inode(&st, make);
        if self.tree.options.writable && self.is_protected() {
            found.is_guarded.store(true, Ordering::Relaxed);
        }
        Ok(found)
    }

    /// Whether something in this directory is shown as an empty directory; ENOENT for what cannot be and is not to be shown.
    fn shows_empty<F: AsFd>(
        &self,
        st: &Statx,
        open: impl FnOnce() -> Result<F, Errno>,
    ) -> Result<bool, Errno> {
        let key = host::key(st);
        let is_kernels = key.0 != self.key.0 && self.tree.kernels.has(key.0, open)?;
        if is_kernels && host::kind(st) != FileType::Directory {
            return Err(Errno::ENOENT);
        }
        Ok(is_kernels || self.tree.hidden.empties(key))
    }

    fn emptied(mut self, is_empty: bool) -> HostInode {
        self.is_empty = is_empty;
        self
    }

    /// A host descriptor to read a regular file.
    pub(super) fn reader(&self) -> Result<Arc<HostFile>, Errno> {
        {
            let open = self.open.lock();
            if let Some(kept) = open.reader.upgrade() {
                return Ok(kept.get().clone());
            }
            if let Some(file) = open.shared_reader.upgrade() {
                return Ok(file);
            }
        }
        let file = HostFile::new(self.open_host(OFlags::RDONLY)?)?;
        // An unchanging file that was wanted once is likely wanted again: the libraries of every new process are.
        let kept = self.tree.is_fixed().then(|| self.tree.files.insert(file.clone()));
        let mut open = self.open.lock();
        open.shared_reader = Arc::downgrade(&file);
        if let Some(kept) = kept {
            open.reader = Arc::downgrade(&kept);
        }
        Ok(file)
    }

    /// A host descriptor to write a regular file, and to read it unless `write_only`.
    pub(super) fn writer(&self, write_only: bool) -> Result<Arc<HostFile>, Errno> {
        self.check_writable()?;
        if let Some(file) = self.open.lock().writer.upgrade() {
            return Ok(file);
        }
        let file = match self.open_host(OFlags::RDWR) {
            Err(Errno::EACCES) if write_only => return HostFile::new(self.open_host(OFlags::WRONLY)?),
            other => HostFile::new(other?)?,
        };
        self.open.lock().writer = Arc::downgrade(&file);
        Ok(file)
    }

    fn open_host(&self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let (dir, name) = self.at()?;
        self.tree.with_descriptors(|| {
            if name.is_empty() {
                // The descriptor cannot come to mean anything but what `kind` was read from.
                return self.tree.self_fd.reopen(dir.as_fd(), flags);
            }
            let fd = host::open_name(&dir, name, flags)?;
            if host::kind(&host::stat_at(&fd, b"")?) == self.kind {
                Ok(fd)
            } else {
                Err(Errno::ESTALE)
            }
        })
    }

    fn open_regular(self: &Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        let maker = self.open.lock().maker.take();
        let file = match (maker, flags.writable()) {
            (Some(file), true) => file,
            (None, true) => self.writer(!flags.readable())?,
            // A descriptor that can write is not for a file that may not: mappings of it could be made writable.
            (maker, false) => match (self.reader(), maker) {
                (Err(Errno::EACCES), Some(file)) => file,
                (reader, _) => reader?,
            },
        };
        Ok(Arc::new(HostRegular::new(self.clone(), file)))
    }

    /// Another inode as one of this tree: EXDEV when it is none.
    pub(super) fn sibling<'a>(&self, inode: &'a Arc<dyn Inode>) -> Result<&'a HostInode, Errno> {
        let any: &dyn std::any::Any = &**inode;
        any.downcast_ref::<HostInode>()
            .filter(|other| Arc::ptr_eq(&other.tree, &self.tree))
            .ok_or(Errno::EXDEV)
    }
}

impl Drop for HostInode {
    /// Lets go of the directories above one after the other: the chain may be longer than the stack is deep.
    fn drop(&mut self) {
        let Place::Named { parent, .. } = &mut self.place else {
            return;
        };
        let mut next = parent.take();
        while let Some(mut inode) = next.and_then(Arc::into_inner) {
            next = match &mut inode.place {
                Place::Named { parent, .. } => parent.take(),
                _ => None,
            };
        }
    }
}

impl Inode for HostInode {
    fn metadata(&self) -> Result<Metadata, Errno> {
        if self.tree.is_fixed() {
            return Ok(self.seen);
        }
        let (dir, name) = self.at()?;
        Ok(self.tree.show(&host::stat_at(dir, name)?))
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.tree.file_system()
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        match self.kind {
            FileType::Regular => self.open_regular(flags),
            FileType::Directory => {
                let open = || host::open_name(self.path_fd()?, b".", OFlags::RDONLY | OFlags::DIRECTORY);
                let fd = self.tree.with_descriptors(open)?;
                Ok(Arc::new(HostDirectory::new(self.clone(), fd)))
            }
            _ => Err(Errno::ENXIO),
        }
    }

    fn set_attr(&self, wanted: &SetAttr) -> Result<(), Errno> {
        change::set_attr(self, wanted)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        Ok(self.find(name)?)
    }

    fn cacheable(&self) -> bool {
        self.tree.is_fixed()
    }

    fn create(&self, name: &[u8], args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        Ok(change::create(self, name, args)?)
    }

    fn create_unnamed(&self, args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        Ok(change::create_unnamed(self, args)?)
    }

    fn symlink(&self, name: &[u8], target: &[u8], args: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        Ok(change::symlink(self, name, target, args)?)
    }

    fn link(&self, name: &[u8], inode: &Arc<dyn Inode>) -> Result<(), Errno> {
        change::link(self, name, self.sibling(inode)?)
    }

    fn unlink(&self, name: &[u8], directory: bool) -> Result<(), Errno> {
        change::unlink(self, name, directory)
    }

    fn rename(
        &self,
        name: &[u8],
        new_dir: &Arc<dyn Inode>,
        new_name: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        change::rename(self, name, self.sibling(new_dir)?, new_name, flags)
    }

    fn read_link(&self, _task: Option<&Task>) -> Result<Link, Errno> {
        self.link_text().map(Link::Text)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        xattr::get(self, name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
        xattr::set(self, name, value, flags)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>, Errno> {
        xattr::list(self)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        xattr::remove(self, name)
    }
}

impl HostInode {
    fn link_text(&self) -> Result<Vec<u8>, Errno> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        if let Some(known) = self.link.get() {
            return Ok(known.to_vec());
        }
        let (dir, name) = self.at()?;
        let text = host::read_link(dir, name)?;
        if self.tree.is_fixed() {
            // Whoever was first said the same.
            let _ = self.link.set(text.clone().into_boxed_slice());
        }
        Ok(text)
    }
}
