//! File notification: inotify(7).
//!
//! [`Watches`] knows who watches which inode; the VFS tells it of every event, which costs one load while nobody watches
//! anything. An event of a file goes to those who watch the file and, with its name, to those who watch its directory.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bitflags::bitflags;

use super::grant::Revocable;
use super::locks::InodeId;
use super::{Dentry, File, FileOps, FileType, Inode};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{Sink, UserAddr};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

bitflags! {
    /// Events and options with the values of IN_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Notice: u32 {
        /// IN_ACCESS
        const ACCESS = 0x1;
        /// IN_MODIFY
        const MODIFY = 0x2;
        /// IN_ATTRIB
        const ATTRIB = 0x4;
        /// IN_CLOSE_WRITE
        const CLOSE_WRITE = 0x8;
        /// IN_CLOSE_NOWRITE
        const CLOSE_NOWRITE = 0x10;
        /// IN_OPEN
        const OPEN = 0x20;
        /// IN_MOVED_FROM
        const MOVED_FROM = 0x40;
        /// IN_MOVED_TO
        const MOVED_TO = 0x80;
        /// IN_CREATE
        const CREATE = 0x100;
        /// IN_DELETE
        const DELETE = 0x200;
        /// IN_DELETE_SELF
        const DELETE_SELF = 0x400;
        /// IN_MOVE_SELF
        const MOVE_SELF = 0x800;
        /// IN_UNMOUNT
        const UNMOUNT = 0x2000;
        /// IN_Q_OVERFLOW
        const Q_OVERFLOW = 0x4000;
        /// IN_IGNORED
        const IGNORED = 0x8000;
        /// IN_ONLYDIR
        const ONLYDIR = 0x0100_0000;
        /// IN_DONT_FOLLOW
        const DONT_FOLLOW = 0x0200_0000;
        /// IN_EXCL_UNLINK
        const EXCL_UNLINK = 0x0400_0000;
        /// IN_MASK_CREATE
        const MASK_CREATE = 0x1000_0000;
        /// IN_MASK_ADD
        const MASK_ADD = 0x2000_0000;
        /// IN_ISDIR
        const ISDIR = 0x4000_0000;
        /// IN_ONESHOT
        const ONESHOT = 0x8000_0000;
    }
}

impl Notice {
    /// IN_ALL_EVENTS.
    pub(super) const ALL: Notice = Notice::from_bits_retain(0xfff);
}

/// Most events that wait in one instance (sysctl fs.inotify.max_queued_events).
pub(super) const MAX_QUEUED: usize = 16384;

/// Most watches of a guest (ENOSPC beyond).
pub(super) const MAX_WATCHES: usize = 65536;

/// Most instances of a user (sysctl fs.inotify.max_user_instances; EMFILE beyond).
pub(super) const MAX_INSTANCES: usize = 128;

/// Size of `struct inotify_event` without the name, in bytes.
const HEADER: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Event {
    wd: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    fn encode(&self) -> Vec<u8> {
        let len = match self.name.len() {
            0 => 0,
            n => (n + 1).next_multiple_of(HEADER),
        };
        let mut bytes = Vec::with_capacity(HEADER + len);
        bytes.extend_from_slice(&self.wd.to_ne_bytes());
        bytes.extend_from_slice(&self.mask.to_ne_bytes());
        bytes.extend_from_slice(&self.cookie.to_ne_bytes());
        bytes.extend_from_slice(&u32::try_from(len).unwrap_or_default().to_ne_bytes());
        bytes.extend_from_slice(&self.name);
        bytes.resize(HEADER + len, 0);
        bytes
    }
}

/// One inotify instance.
pub struct Inotify {
    state: Lock<State>,
    queue: WaitQueue,
    watches: Arc<Watches>,
    /// Whose it counts as.
    uid: u32,
}

#[derive(Default)]
struct State {
    events: VecDeque<Event>,
    last_wd: i32,
    /// What each watch descriptor is for.
    inodes: HashMap<i32, InodeId>,
}

/// One watch of one instance.
struct Watch {
    instance: Weak<Inotify>,
    wd: i32,
    mask: Notice,
    /// Keeps the inode's number from being used again.
    _inode: Arc<dyn Inode>,
}

/// All watches of a guest.
pub struct Watches {
    by_inode: Lock<HashMap<InodeId, Vec<Watch>>>,
    count: AtomicUsize,
    /// How many instances each user has.
    instances: Lock<HashMap<u32, usize>>,
    cookie: AtomicU32,
    /// Reads that nobody would hear of.
    pub(super) granted: Revocable,
}

impl Default for Watches {
    fn default() -> Self {
        Watches {
            by_inode: Lock::new(Rank::Table, HashMap::new()),
            count: AtomicUsize::new(0),
            instances: Lock::new(Rank::Leaf, HashMap::new()),
            cookie: AtomicU32::new(1),
            granted: Revocable::default(),
        }
    }
}

fn id_of(inode: &Arc<dyn Inode>) -> Option<InodeId> {
    inode.metadata().ok().map(|meta| (meta.dev, meta.ino))
}

fn is_dir(inode: &Arc<dyn Inode>) -> Notice {
    match inode.file_type() {
        FileType::Directory => Notice::ISDIR,
        _ => Notice::empty(),
    }
}

impl Watches {
    /// Whether anybody watches anything.
    pub(super) fn any(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Whether anybody watches this.
    pub(super) fn has(&self, inode: &Arc<dyn Inode>) -> bool {
        self.any() && id_of(inode).is_some_and(|id| self.by_inode.lock().contains_key(&id))
    }

    /// Something happened to a file: tell its watchers, and by name those of its directory.
    pub fn happened(&self, dentry: &Dentry, what: Notice) {
        if !self.any() {
            return;
        }
        let what = what | is_dir(&dentry.inode);
        if let Some(parent) = dentry.parent() {
            let skip = if dentry.is_unlinked() {
                Notice::EXCL_UNLINK
            } else {
                Notice::empty()
            };
            self.tell_unless(&parent.inode, what, &dentry.name(), 0, skip);
        }
        self.tell(&dentry.inode, what, b"", 0);
    }

    /// A name appeared in or vanished from a directory.
    pub(super) fn name_changed(&self, dir: &Dentry, name: &[u8], inode: &Arc<dyn Inode>, what: Notice) {
        if self.any() {
            self.tell(&dir.inode, what | is_dir(inode), name, 0);
        }
    }

    /// An inode lost a name.
    pub(super) fn name_lost(&self, inode: &Arc<dyn Inode>) {
        if self.any() {
            self.tell(inode, Notice::ATTRIB | is_dir(inode), b"", 0);
        }
    }

    /// Nobody uses an inode by one of its former names any more: with the last name, those who watch it lose their watch.
    pub(super) fn out_of_use(&self, inode: &Arc<dyn Inode>) {
        if !self.any() {
            return;
        }
        let names = inode.metadata().map_or(0, |meta| meta.nlink);
        if names > 0 && inode.file_type() != FileType::Directory {
            return;
        }
        self.tell(inode, Notice::DELETE_SELF, b"", 0);
        if let Some(id) = id_of(inode) {
            self.forget(id);
        }
    }

    /// A name was moved, maybe to where `replaced` had its name.
    pub(super) fn moved(
        &self,
        from: (&Dentry, &[u8]),
        to: (&Dentry, &[u8]),
        inode: &Arc<dyn Inode>,
        replaced: Option<&Arc<dyn Inode>>,
    ) {
        if !self.any() {
            return;
        }
        let cookie = self.cookie.fetch_add(1, Ordering::Relaxed);
        let kind = is_dir(inode);
        self.tell(&from.0.inode, Notice::MOVED_FROM | kind, from.1, cookie);
        self.tell(&to.0.inode, Notice::MOVED_TO | kind, to.1, cookie);
        if let Some(replaced) = replaced {
            self.name_lost(replaced);
        }
        self.tell(inode, Notice::MOVE_SELF, b"", 0);
    }

    fn tell(&self, inode: &Arc<dyn Inode>, what: Notice, name: &[u8], cookie: u32) {
        self.tell_unless(inode, what, name, cookie, Notice::empty());
    }

    /// Queue an event for the watchers of an inode that want it and have none of the options in `skip`.
    fn tell_unless(&self, inode: &Arc<dyn Inode>, what: Notice, name: &[u8], cookie: u32, skip: Notice) {
        let Some(id) = id_of(inode) else { return };
        // Told without the table's lock: an instance may end with our reference to it.
        let told: Vec<_> = {
            let by_inode = self.by_inode.lock();
            let list = by_inode.get(&id).into_iter().flatten();
            list.filter(|w| w.mask.intersects(what & Notice::ALL) && !w.mask.intersects(skip))
                .filter_map(|w| Some((w.instance.upgrade()?, w.wd, w.mask.contains(Notice::ONESHOT))))
                .collect()
        };
        for (instance, wd, one_shot) in told {
            instance.push(Event {
                wd,
                mask: what.bits(),
                cookie,
                name: name.to_vec(),
            });
            if one_shot {
                // It may have been removed meanwhile.
                let _ = instance.remove(wd);
            }
        }
    }

    /// Drop all watches of an inode that is gone.
    fn forget(&self, id: InodeId) {
        let gone = self.by_inode.lock().remove(&id).unwrap_or_default();
        self.count.fetch_sub(gone.len(), Ordering::Relaxed);
        for watch in gone {
            if let Some(instance) = watch.instance.upgrade() {
                instance.ignored(watch.wd);
            }
        }
    }
}

impl Inotify {
    /// A new instance of a user's, without watches. EMFILE.
    pub(super) fn new(watches: &Arc<Watches>, uid: u32) -> Result<Inotify, Errno> {
        let mut instances = watches.instances.lock();
        let count = instances.entry(uid).or_default();
        if *count >= MAX_INSTANCES {
            return Err(Errno::EMFILE);
        }
        *count += 1;
        Ok(Inotify {
            // Taken while the table of watches is held.
            state: Lock::new(Rank::Ready, State::default()),
            queue: WaitQueue::new(),
            watches: watches.clone(),
            uid,
        })
    }

    /// Watch an inode, or change how it is watched: the watch descriptor. EEXIST, ENOSPC.
    pub(super) fn add(self: &Arc<Self>, inode: &Arc<dyn Inode>, mask: Notice) -> Result<i32, Errno> {
        let id = id_of(inode).ok_or(Errno::ENOENT)?;
        let kept = mask & (Notice::ALL | Notice::EXCL_UNLINK | Notice::ONESHOT);
        let mut by_inode = self.watches.by_inode.lock();
        let list = by_inode.entry(id).or_default();
        let own = Arc::downgrade(self);
        if let Some(known) = list.iter_mut().find(|watch| watch.instance.ptr_eq(&own)) {
            if mask.contains(Notice::MASK_CREATE) {
                return Err(Errno::EEXIST);
            }
            known.mask = if mask.contains(Notice::MASK_ADD) {
                known.mask | kept
            } else {
                kept
            };
            return Ok(known.wd);
        }
        if self.watches.count.fetch_add(1, Ordering::SeqCst) >= MAX_WATCHES {
            self.watches.count.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        self.watches.granted.revoke();
        let mut state = self.state.lock();
        state.last_wd += 1;
        let wd = state.last_wd;
        state.inodes.insert(wd, id);
        list.push(Watch {
            instance: own,
            wd,
            mask: kept,
            _inode: inode.clone(),
        });
        Ok(wd)
    }

    /// Stop watching. EINVAL for a descriptor that is none.
    pub(super) fn remove(&self, wd: i32) -> Result<(), Errno> {
        let id = self.state.lock().inodes.get(&wd).copied().ok_or(Errno::EINVAL)?;
        self.unregister(id, |watch| watch.wd == wd);
        self.ignored(wd);
        Ok(())
    }

    /// Take watches of this instance out of the table. The inodes go when the lock has gone.
    fn unregister(&self, id: InodeId, which: impl Fn(&Watch) -> bool) {
        let own = std::ptr::from_ref(self);
        let mut by_inode = self.watches.by_inode.lock();
        let Some(list) = by_inode.get_mut(&id) else { return };
        let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(list)
            .into_iter()
            .partition(|watch| watch.instance.as_ptr() == own && which(watch));
        self.watches.count.fetch_sub(gone.len(), Ordering::Relaxed);
        if kept.is_empty() {
            by_inode.remove(&id);
        } else {
            *list = kept;
        }
        drop(by_inode);
        drop(gone);
    }

    /// A watch has ended.
    fn ignored(&self, wd: i32) {
        self.state.lock().inodes.remove(&wd);
        self.push(Event {
            wd,
            mask: Notice::IGNORED.bits(),
            cookie: 0,
            name: Vec::new(),
        });
    }

    fn push(&self, event: Event) {
        let mut state = self.state.lock();
        if state.events.back() == Some(&event) {
            return;
        }
        match state.events.len() {
            n if n < MAX_QUEUED => state.events.push_back(event),
            MAX_QUEUED => state.events.push_back(Event {
                wd: -1,
                mask: Notice::Q_OVERFLOW.bits(),
                cookie: 0,
                name: Vec::new(),
            }),
            _ => return,
        }
        drop(state);
        self.queue.notify(Events::READ);
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let inodes: Vec<InodeId> = self.state.get_mut().inodes.values().copied().collect();
        for id in inodes {
            self.unregister(id, |_| true);
        }
        if let Entry::Occupied(mut count) = self.watches.instances.lock().entry(self.uid) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// An open inotify descriptor.
pub(super) struct InotifyFile(pub(super) Arc<Inotify>);

impl FileOps for InotifyFile {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let mut moved = 0;
        let mut state = self.0.state.lock();
        while let Some(event) = state.events.front() {
            let bytes = event.encode();
            if bytes.len() > to.remaining() {
                break;
            }
            if to.put(&bytes)? < bytes.len() {
                return fail!(EFAULT);
            }
            moved += bytes.len();
            state.events.pop_front();
        }
        if moved > 0 {
            return Ok(moved);
        }
        if !state.events.is_empty() {
            return fail!(EINVAL);
        }
        if file.nonblocking() {
            return fail!(EAGAIN);
        }
        Err(WaitFor::queue(&self.0.queue, Events::READ).into())
    }

    fn poll(&self, _: &File) -> Events {
        match self.0.state.lock().events.is_empty() {
            true => Events::empty(),
            false => Events::READ,
        }
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.0.queue.clone(), interest)]
    }

    fn ioctl(&self, cx: &mut SyscallCx<'_>, _: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        const FIONREAD: u32 = 0x541b;
        if request != FIONREAD {
            return fail!(ENOTTY);
        }
        let waiting: usize = self.0.state.lock().events.iter().map(|e| e.encode().len()).sum();
        let waiting = i32::try_from(waiting).unwrap_or(i32::MAX);
        cx.memory.write(UserAddr(arg).cast(), &waiting)?;
        Ok(0)
    }

    fn fdinfo(&self, _: &File) -> String {
        let state = self.0.state.lock();
        let lines = state.inodes.iter();
        lines
            .map(|(wd, (dev, ino))| format!("inotify wd:{wd:x} ino:{ino:x} sdev:{dev:x}\n"))
            .collect()
    }
}
