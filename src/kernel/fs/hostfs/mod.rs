//! hostfs: a directory of the host as a file system of the guest.
//!
//! # Staying inside
//! The host's path is walked once, by whoever starts the guest. From then on everything is reached through descriptors,
//! one component at a time, with openat2(2)'s RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS and RESOLVE_NO_MAGICLINKS: links are
//! followed by the guest's own path walk, inside the guest's own tree, and what happens on the host meanwhile (a rename,
//! a directory swapped for a link) can at worst show another file below the same directory.
//!
//! Only regular files and directories are ever opened, after an O_PATH descriptor or a statx(2) has shown that they are.
//! FIFOs, sockets and devices of the host are visible, and never touched: opening one gives the guest's own.
//!
//! # Coherence
//! A [`Coherence::Fixed`] tree is taken as unchanging while the guest runs (a root file system): names and attributes are
//! read once, descriptors are a cache that can be emptied at any time. A [`Coherence::Shared`] tree (`-v SRC:DST`,
//! `--writable`) belongs to the host as much as to the guest: everything is asked anew, and each inode in use holds its
//! descriptor, so that it stays what it is when the host renames or removes it.
//!
//! # Owners
//! A supervisor that is not root, given a directory of its own user, shows that user's files as root's and that group's
//! as root's group, as rootless container tools do, so that a guest whose root made the tree finds itself the owner.
//! Other ids, and all ids when the directory is somebody else's (`/`), are shown as they are. Rights come twice: the
//! guest's by these ids, the host's when the supervisor really opens the file.
//!
//! # What is hidden
//! Paths can be left out ([`hidden`]). That is done here and not by something mounted above, so that no guest, whatever
//! it may do to its mounts, can look below; and so are paths kept from being written ([`Protected`]). Likewise what the host's kernel has there of its own ([`of_kernel`]: /proc and the like)
//! is an empty directory: the supervisor, which would be the one to look, is no part of the guest.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use rustix::fs::{CWD, Mode, OFlags, Statx, fstatfs, openat, syncfs};

use super::{FileSystem, FileType, Inode, Metadata, StatFs};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::platform::HostFile;

mod change;
mod file;
mod hidden;
mod host;
mod inode;
pub(super) mod io;
mod numbers;
mod of_kernel;
mod protected;
pub(super) mod recent;
mod xattr;

use hidden::Hidden;
pub(in crate::kernel) use host::errno as host_errno;
use inode::HostInode;
use numbers::Numbers;
pub use protected::{Protected, keep_name, protect};
use recent::Recent;

/// Whether the host may change the tree while the guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coherence {
    /// It does not: names and attributes may be remembered.
    Fixed,
    /// It may: everything is asked anew.
    Shared,
}

/// How a host directory is shown.
#[derive(Clone, Copy, Debug)]
pub struct HostFsOptions {
    /// Device number that its files show.
    pub dev: u64,
    /// Whether the host may change it.
    pub coherence: Coherence,
    /// Whether the guest may change it; only with [`Coherence::Shared`].
    pub writable: bool,
    /// Whether ids are shown as they are, whoever the supervisor is (see the module's "Owners").
    pub own_ids: bool,
    /// Whether inode numbers and the order of names follow from what the guest does and what names there are, and so are
    /// the same for each copy of the tree; only with [`Coherence::Fixed`].
    pub reproducible: bool,
}

/// What of a host directory is not shown as it is.
#[derive(Clone, Copy, Default)]
pub struct Exceptions<'a> {
    /// Absolute host paths that seem not to be there.
    pub hidden: &'a [PathBuf],
    /// Directories that seem to have nothing in them.
    pub emptied: &'a [PathBuf],
    /// What the guest cannot change; none: all is as `writable` says.
    pub protected: Option<&'a Arc<Protected>>,
}

/// A host directory as a file system.
pub struct HostFs {
    tree: Arc<Tree>,
    root: Arc<HostInode>,
}

/// What all inodes of a file system share.
struct Tree {
    options: HostFsOptions,
    root: OwnedFd,
    root_stat: Statx,
    self_fd: host::SelfFd,
    owners: OwnerView,
    hidden: Hidden,
    protected: Arc<Protected>,
    /// Inodes in use by host device and inode number, so that a file is one inode however it was reached.
    inodes: Lock<HashMap<(u64, u64), Weak<HostInode>>>,
    /// Which of the host's file systems are its kernel's own.
    kernels: of_kernel::Known,
    /// Host devices met, the root's first: a part of the inode numbers shown.
    devices: Lock<Vec<u64>>,
    /// The inode numbers shown, where they are not made from the host's.
    numbers: Option<Numbers>,
    directories: Recent<OwnedFd>,
    files: Recent<Arc<HostFile>>,
    handle: Lock<Weak<HostFs>>,
}

/// What it means to a user that [`HostFs::open`] failed.
pub fn explain(error: Errno) -> anyhow::Error {
    match error {
        Errno::EOPNOTSUPP => {
            anyhow::anyhow!("what this machine's kernel has there of its own is not shown to guests")
        }
        error => error.into(),
    }
}

impl HostFs {
    /// Show the host directory at `path`. Fails as opening it for reading fails.
    pub fn open(path: &Path, options: HostFsOptions) -> Result<Arc<HostFs>, Errno> {
        HostFs::open_but(path, options, Exceptions::default())
    }

    /// The same with exceptions. EOPNOTSUPP for a directory of the host's kernel.
    pub fn open_but(
        path: &Path,
        options: HostFsOptions,
        exceptions: Exceptions<'_>,
    ) -> Result<Arc<HostFs>, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(host::errno)?;
        let root_stat = host::stat_at(&root, b"")?;
        let kernels = of_kernel::Known::default();
        if kernels.has(host::key(&root_stat).0, || Ok(&root))? {
            return Err(Errno::EOPNOTSUPP);
        }
        let protected = exceptions.protected.cloned().unwrap_or_default();
        if options.writable {
            exceptions
                .hidden
                .iter()
                .for_each(|path| protected.keep_names_above(path));
        }
        let self_fd = host::SelfFd::open()?;
        let descriptors = raise_descriptor_limit();
        let keep = usize::try_from(descriptors / 16).unwrap_or(usize::MAX);
        let tree = Arc::new(Tree {
            options,
            root,
            root_stat,
            self_fd,
            owners: if options.own_ids {
                OwnerView::default()
            } else {
                OwnerView::of(&root_stat)
            },
            hidden: Hidden::new(exceptions.hidden, exceptions.emptied),
            protected,
            kernels,
            inodes: Lock::new(Rank::Table, HashMap::new()),
            devices: Lock::new(Rank::Leaf, vec![host::key(&root_stat).0]),
            numbers: options.reproducible.then(Numbers::new),
            directories: Recent::new(keep.clamp(8, 1024)),
            files: Recent::new(keep.clamp(8, 512)),
            handle: Lock::new(Rank::Leaf, Weak::new()),
        });
        Ok(tree.file_system())
    }
}

impl Tree {
    /// The file system of this tree: the one that is mounted if it is.
    fn file_system(self: &Arc<Self>) -> Arc<HostFs> {
        if let Some(fs) = self.handle.lock().upgrade() {
            return fs;
        }
        let make = |tree| HostInode::root(tree, &self.root_stat);
        let fs = Arc::new(HostFs {
            tree: self.clone(),
            root: self.inode(&self.root_stat, make),
        });
        *self.handle.lock() = Arc::downgrade(&fs);
        fs
    }

    fn is_fixed(&self) -> bool {
        self.options.coherence == Coherence::Fixed
    }

    /// EROFS unless the guest may change the host's files.
    fn check_writable(&self) -> Result<(), Errno> {
        if self.options.writable {
            Ok(())
        } else {
            Err(Errno::EROFS)
        }
    }

    /// Run a host call that opens a descriptor; when there are none left, let go of the remembered ones and try again.
    fn with_descriptors<T>(&self, call: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
        match call() {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                self.directories.clear();
                self.files.clear();
                call().map_err(|e| if e == Errno::EMFILE { Errno::ENFILE } else { e })
            }
            other => other,
        }
    }

    /// Metadata as the guest sees it.
    fn show(&self, st: &Statx) -> Metadata {
        let mut shown = host::metadata(st);
        shown.ino = self.number(self.device_index(shown.dev), shown.ino);
        shown.dev = self.options.dev;
        shown.uid = self.owners.show_uid(shown.uid);
        shown.gid = self.owners.show_gid(shown.gid);
        shown
    }

    /// The inode number that the guest sees of a host file.
    fn number(&self, device_index: u64, ino: u64) -> u64 {
        match &self.numbers {
            Some(numbers) => numbers.of(device_index, ino),
            None => shown_ino(device_index, ino),
        }
    }

    /// Which of the host's file systems a device is, the root's being 0.
    fn device_index(&self, dev: u64) -> u64 {
        let mut devices = self.devices.lock();
        let known = devices.iter().position(|&d| d == dev);
        known.unwrap_or_else(|| {
            devices.push(dev);
            devices.len() - 1
        }) as u64
    }

    /// The inode in use for a host file, or the one that `make` makes.
    fn inode(self: &Arc<Self>, st: &Statx, make: impl FnOnce(Arc<Tree>) -> HostInode) -> Arc<HostInode> {
        let key = host::key(st);
        let kind = host::kind(st);
        if let Some(known) = self.known(key, kind) {
            return known;
        }
        let made = Arc::new_cyclic(|this| {
            let mut inode = make(self.clone());
            inode.this = this.clone();
            inode
        });
        let mut inodes = self.inodes.lock();
        if let Some(known) = inodes.get(&key).and_then(Weak::upgrade)
            && known.kind() == kind
        {
            drop(inodes);
            return known;
        }
        if inodes.len() == inodes.capacity() {
            inodes.retain(|_, inode| inode.strong_count() > 0);
        }
        inodes.insert(key, Arc::downgrade(&made));
        made
    }

    fn known(&self, key: (u64, u64), kind: FileType) -> Option<Arc<HostInode>> {
        let known = self.inodes.lock().get(&key).and_then(Weak::upgrade)?;
        (known.kind() == kind).then_some(known)
    }
}

impl FileSystem for HostFs {
    fn name(&self) -> &'static str {
        "hostfs"
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    fn dev(&self) -> u64 {
        self.tree.options.dev
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        let st = fstatfs(&self.tree.root).map_err(host::errno)?;
        Ok(StatFs {
            magic: st.f_type.cast_unsigned(),
            bsize: st.f_bsize.cast_unsigned(),
            blocks: st.f_blocks,
            bfree: st.f_bfree,
            bavail: st.f_bavail,
            files: st.f_files,
            ffree: st.f_ffree,
            namelen: st.f_namelen.cast_unsigned(),
        })
    }

    fn sync(&self) -> Result<(), Errno> {
        if self.tree.options.writable {
            syncfs(self.tree.root.as_fd()).map_err(host::errno)?;
        }
        Ok(())
    }
}

/// The host's inode number, made different from all others where the tree spans host file systems.
fn shown_ino(device_index: u64, ino: u64) -> u64 {
    const DEVICE_SHIFT: u32 = 44;
    if device_index == 0 {
        return ino;
    }
    let low = (1u64 << DEVICE_SHIFT) - 1;
    ((ino ^ (ino >> DEVICE_SHIFT)) & low) + ((device_index & 0xff) << DEVICE_SHIFT)
}

/// Which host ids are shown as root's.
#[derive(Clone, Copy, Debug, Default)]
struct OwnerView {
    uid: Option<u32>,
    gid: Option<u32>,
}

impl OwnerView {
    fn of(root: &Statx) -> OwnerView {
        let uid = nix::unistd::geteuid().as_raw();
        if uid == 0 || root.stx_uid != uid {
            return OwnerView::default();
        }
        OwnerView {
            uid: Some(uid),
            gid: Some(nix::unistd::getegid().as_raw()),
        }
    }

    fn show_uid(self, uid: u32) -> u32 {
        if self.uid == Some(uid) { 0 } else { uid }
    }

    fn show_gid(self, gid: u32) -> u32 {
        if self.gid == Some(gid) { 0 } else { gid }
    }

    fn host_uid(self, uid: u32) -> u32 {
        self.uid.filter(|_| uid == 0).unwrap_or(uid)
    }

    fn host_gid(self, gid: u32) -> u32 {
        self.gid.filter(|_| gid == 0).unwrap_or(gid)
    }
}

/// Raise the supervisor's own soft limit of descriptors as far as it goes; the limit in force.
pub(super) fn raise_descriptor_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    const FALLBACK: u64 = 1024;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return FALLBACK;
    };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}

#[cfg(test)]
mod tests;
