//! Open file descriptions and what they do.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bitflags::bitflags;

use super::inotify::{Notice, Watches};
use super::locks::{InodeId, LockOwner, LockTable};
use super::{AnonInode, AnonKind, FileType, Grants, InUse, Inode, Path, Ticket};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, LockGuard, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Creds;
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitQueue};
use crate::platform::{HostFile, WriteBound};

bitflags! {
    /// Flags of open(2) with the x86-64 values; the two access mode bits are apart, see [`OpenFlags::readable`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct OpenFlags: u32 {
        /// O_WRONLY
        const WRONLY = 0o1;
        /// O_RDWR
        const RDWR = 0o2;
        /// O_CREAT
        const CREAT = 0o100;
        /// O_EXCL
        const EXCL = 0o200;
        /// O_NOCTTY
        const NOCTTY = 0o400;
        /// O_TRUNC
        const TRUNC = 0o1000;
        /// O_APPEND
        const APPEND = 0o2000;
        /// O_NONBLOCK
        const NONBLOCK = 0o4000;
        /// O_DSYNC
        const DSYNC = 0o10000;
        /// O_ASYNC
        const ASYNC = 0o20000;
        /// O_DIRECT
        const DIRECT = 0o40000;
        /// O_LARGEFILE
        const LARGEFILE = 0o100000;
        /// O_DIRECTORY
        const DIRECTORY = 0o200000;
        /// O_NOFOLLOW
        const NOFOLLOW = 0o400000;
        /// O_NOATIME
        const NOATIME = 0o1000000;
        /// O_CLOEXEC
        const CLOEXEC = 0o2000000;
        /// O_SYNC
        const SYNC = 0o4000000;
        /// O_PATH
        const PATH = 0o10000000;
        /// O_TMPFILE
        const TMPFILE = 0o20000000;
    }
}

impl OpenFlags {
    /// What fcntl(F_SETFL) can change.
    pub const SETTABLE: OpenFlags = OpenFlags::APPEND
        .union(OpenFlags::NONBLOCK)
        .union(OpenFlags::ASYNC)
        .union(OpenFlags::DIRECT)
        .union(OpenFlags::NOATIME);

    /// Whether the access mode allows reading.
    pub fn readable(self) -> bool {
        !self.contains(OpenFlags::PATH) && matches!(self.bits() & 3, 0 | 2)
    }

    /// Whether the access mode allows writing.
    pub fn writable(self) -> bool {
        !self.contains(OpenFlags::PATH) && matches!(self.bits() & 3, 1 | 2)
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Inode number.
    pub ino: u64,
    /// Kind; none when not known (DT_UNKNOWN).
    pub kind: Option<FileType>,
    /// Name.
    pub name: Vec<u8>,
    /// Position to continue behind this entry: what seekdir(3) takes.
    pub next: u64,
}

/// What mmap(2) wants of a file.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// Offset in bytes, a multiple of the page size.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// MAP_SHARED.
    pub shared: bool,
    /// Whether the mapping may ever be written: for a private one that needs no right to the file.
    pub write: bool,
}

/// What an open file does. Objects that carry no position (pipes, sockets, terminals) leave `pos` alone.
///
/// `read` and `write` are only called when the access mode allows them. They block by `Err(Stop::Block)` unless the file is
/// O_NONBLOCK (EAGAIN then). What they moved before they block need not be told: the caller sees how far the sink or
/// source has come, and goes on from there when the call runs again.
pub trait FileOps: Send + Sync + Any {
    /// Read at `pos` and move it on.
    fn read(&self, file: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let _ = (file, pos, to);
        Err(Errno::EINVAL.into())
    }

    /// Write at `pos` (at the end with O_APPEND) and move it on.
    fn write(&self, file: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let _ = (file, pos, from);
        Err(Errno::EINVAL.into())
    }

    /// Whether pread(2) and lseek(2) make sense; ESPIPE otherwise.
    fn seekable(&self) -> bool {
        false
    }

    /// lseek(2)'s SEEK_END base and SEEK_DATA/SEEK_HOLE: the new position. SEEK_SET and SEEK_CUR are the VFS's.
    fn seek(&self, file: &File, offset: i64, whence: i32) -> SysResult<u64> {
        let _ = (file, offset, whence);
        Err(Errno::ESPIPE.into())
    }

    /// Whether lseek(2) takes any offset and stays at 0, as on null(4).
    fn stays_at_0(&self) -> bool {
        false
    }

    /// What is ready now. Files that never block are always ready.
    fn poll(&self, file: &File) -> Events {
        let _ = file;
        Events::READ | Events::WRITE
    }

    /// The queues that are notified when [`FileOps::poll`] may answer otherwise, with the events each is for.
    /// Called before `poll` by whoever is going to wait, so that it can start watching a host descriptor.
    fn queues(&self, file: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        let _ = (file, interest);
        Vec::new()
    }

    /// Whether epoll(7) may watch it (EPERM for regular files and directories).
    fn pollable(&self) -> bool {
        true
    }

    /// ioctl(2). Generic ones (FIONBIO, FIOCLEX ...) are the VFS's.
    fn ioctl(&self, cx: &mut SyscallCx<'_>, file: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        let _ = (cx, file, request, arg);
        Err(Errno::ENOTTY.into())
    }

    /// fcntl(2) commands of its own: F_ADD_SEALS, F_GET_SEALS ...
    fn fcntl(&self, file: &File, command: i32, arg: u64) -> SysResult<u64> {
        let _ = (file, command, arg);
        Err(Errno::EINVAL.into())
    }

    /// Entries from position `pos` on, `.` and `..` included, until `emit` says false.
    fn read_dir(&self, file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        let _ = (file, pos, emit);
        Err(Errno::ENOTDIR.into())
    }

    /// The host file to map. ENODEV when it cannot be mapped.
    fn map(&self, file: &File, request: &MapRequest) -> SysResult<Arc<HostFile>> {
        let _ = (file, request);
        Err(Errno::ENODEV.into())
    }

    /// A host descriptor of the contents that can only read, for a guest thread to read by itself, or of the pipe's end. The ticket
    /// ends before they change in a way that the descriptor does not show, or the next read has to be noted. None where that cannot be.
    fn lend(&self, file: &File, ticket: &Arc<Ticket>) -> Option<Arc<HostFile>> {
        let _ = (file, ticket);
        None
    }

    /// A host descriptor of the contents that can only write, for a guest thread to write by itself up to a bound. The ticket ends
    /// before a write would have to do more than that. None where that cannot be.
    fn lend_for_writing(&self, file: &File, ticket: &Arc<Ticket>) -> Option<(Arc<HostFile>, WriteBound)> {
        let _ = (file, ticket);
        None
    }

    /// fsync(2), fdatasync(2).
    fn sync(&self, file: &File, data_only: bool) -> SysResult<()> {
        let _ = (file, data_only);
        Err(Errno::EINVAL.into())
    }

    /// fallocate(2) with its mode bits: how many bytes it was done to, from `offset` on. Fewer than `len`, but at least one, where all
    /// takes long: the rest is asked for again.
    fn allocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> SysResult<u64> {
        let _ = (file, mode, offset, len);
        Err(Errno::ENODEV.into())
    }

    /// Called at each close(2) of a descriptor, not only the last (what drops with the ops is the last).
    fn flush(&self, file: &File) -> SysResult<()> {
        let _ = file;
        Ok(())
    }

    /// Lines for /proc/PID/fdinfo/N behind pos, flags and mnt_id.
    fn fdinfo(&self, file: &File) -> String {
        let _ = file;
        String::new()
    }
}

/// An open file description: what dup(2) and fork(2) share.
pub struct File {
    /// What it does.
    pub ops: Arc<dyn FileOps>,
    /// Where it was opened; none for what has no name (a pipe, a socket ...), which has `anon_name` instead.
    pub path: Option<Path>,
    /// What /proc/PID/fd shows for a file without a path: `pipe:[12]`, `anon_inode:[eventpoll]`.
    pub anon_name: String,
    /// The inode: for stat and permission checks. Anonymous objects have one too.
    pub inode: Arc<dyn Inode>,
    flags: AtomicU32,
    /// Position in bytes. Held while a seekable file is read or written at it, as Linux holds f_pos_lock.
    pub pos: Position,
    /// Who reads or writes it without the kernel.
    pub grants: Grants,
    /// Receiver of SIGIO (F_SETOWN): positive a pid, negative a process group.
    pub owner: Lock<FileOwner>,
    /// Set once it holds locks of its own (flock, OFD), on this inode.
    locks: OnceLock<(Arc<LockTable>, InodeId)>,
    /// Who opened it.
    opener: OnceLock<Arc<Creds>>,
    /// That it may be written.
    in_use: OnceLock<InUse>,
    /// Who hears of what is done with it; none for what has no name.
    watches: OnceLock<Arc<Watches>>,
}

/// The position of an open file description.
pub struct Position {
    lock: Lock<()>,
    value: AtomicU64,
    /// Whether a guest thread has it.
    is_lent: AtomicBool,
    /// Who may have it.
    holder: Lock<Option<Arc<Ticket>>>,
}

/// The right to use and move a position; what it was moved to counts when this is dropped.
pub struct PositionGuard<'a> {
    to: &'a AtomicU64,
    value: u64,
    _held: LockGuard<'a, ()>,
}

impl Default for Position {
    fn default() -> Self {
        Position {
            lock: Lock::new(Rank::File, ()),
            value: AtomicU64::new(0),
            is_lent: AtomicBool::new(false),
            holder: Lock::new(Rank::Leaf, None),
        }
    }
}

impl Position {
    /// Keep others from using it.
    #[track_caller]
    pub fn lock(&self) -> PositionGuard<'_> {
        let held = self.lock.lock();
        if self.is_lent.load(Ordering::SeqCst) {
            let holder = self.holder.lock().take();
            self.is_lent.store(false, Ordering::SeqCst);
            if let Some(position) = holder.and_then(|ticket| ticket.take_position()) {
                self.value.store(position, Ordering::Relaxed);
            }
        }
        PositionGuard {
            to: &self.value,
            value: self.value.load(Ordering::Relaxed),
            _held: held,
        }
    }

    /// Let a guest thread use and move it until somebody else wants it.
    pub(super) fn lend(&self, ticket: &Arc<Ticket>) {
        let position = self.lock();
        if ticket.lend_position(*position) {
            *self.holder.lock() = Some(Arc::clone(ticket));
            self.is_lent.store(true, Ordering::SeqCst);
        }
    }

    /// Where it is now, whoever is using it: for showing.
    pub fn get(&self) -> u64 {
        let holder = self.holder.lock().clone();
        let lent = holder.and_then(|ticket| ticket.position());
        lent.unwrap_or_else(|| self.value.load(Ordering::Relaxed))
    }
}

impl Deref for PositionGuard<'_> {
    type Target = u64;
    fn deref(&self) -> &u64 {
        &self.value
    }
}

impl DerefMut for PositionGuard<'_> {
    fn deref_mut(&mut self) -> &mut u64 {
        &mut self.value
    }
}

impl Drop for PositionGuard<'_> {
    fn drop(&mut self) {
        self.to.store(self.value, Ordering::Relaxed);
    }
}

/// F_SETOWN, F_SETSIG.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileOwner {
    /// pid, negated process group, or 0.
    pub pid: i32,
    /// F_OWNER_* of F_SETOWN_EX.
    pub kind: i32,
    /// Signal to send instead of SIGIO, or 0.
    pub signal: i32,
}

impl File {
    /// A description of an opened path.
    pub fn at_path(ops: Arc<dyn FileOps>, path: Path, inode: Arc<dyn Inode>, flags: OpenFlags) -> Arc<File> {
        File::build(ops, Some(path), String::new(), inode, flags)
    }

    /// A description of an object without a path.
    pub fn anonymous(
        ops: Arc<dyn FileOps>,
        name: String,
        inode: Arc<dyn Inode>,
        flags: OpenFlags,
    ) -> Arc<File> {
        File::build(ops, None, name, inode, flags)
    }

    fn build(
        ops: Arc<dyn FileOps>,
        path: Option<Path>,
        anon_name: String,
        inode: Arc<dyn Inode>,
        flags: OpenFlags,
    ) -> Arc<File> {
        let keep = flags - (OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NOCTTY | OpenFlags::TRUNC);
        Arc::new(File {
            ops,
            path,
            anon_name,
            inode,
            flags: AtomicU32::new((keep - OpenFlags::CLOEXEC).bits()),
            pos: Position::default(),
            grants: Grants::default(),
            owner: Lock::new(Rank::Leaf, FileOwner::default()),
            locks: OnceLock::new(),
            opener: OnceLock::new(),
            in_use: OnceLock::new(),
            watches: OnceLock::new(),
        })
    }

    /// Status flags and access mode, as F_GETFL reports them.
    pub fn flags(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Change the flags that F_SETFL can change.
    pub fn set_flags(&self, flags: OpenFlags) {
        let kept = self.flags() - OpenFlags::SETTABLE;
        let now = (kept | (flags & OpenFlags::SETTABLE)).bits();
        if self.flags.swap(now, Ordering::SeqCst) != now {
            // Who uses it without the kernel would not see that.
            self.grants.end();
        }
    }

    /// Whether calls on it do not wait.
    pub fn nonblocking(&self) -> bool {
        self.flags().contains(OpenFlags::NONBLOCK)
    }

    /// Its operations as a concrete type: how a syscall finds out that a descriptor is, say, an epoll.
    pub fn ops_as<T: FileOps>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.ops;
        any.downcast_ref()
    }

    /// Whether it is an object without a file type (an eventfd, an epoll ...): no regular file, whatever its inode says.
    pub fn is_object(&self) -> bool {
        let inode: &dyn Any = &*self.inode;
        inode
            .downcast_ref::<AnonInode>()
            .is_some_and(|inode| matches!(inode.kind, AnonKind::Other(_)))
    }

    /// What is ready now.
    pub fn poll(&self) -> Events {
        self.ops.poll(self)
    }
}

impl File {
    /// Remember that this description holds locks.
    pub(super) fn note_locks(&self, locks: &Arc<LockTable>, inode: InodeId) {
        self.locks.get_or_init(|| (locks.clone(), inode));
    }

    /// Remember who opened it.
    pub(super) fn note_opener(&self, creds: Arc<Creds>) {
        self.opener.get_or_init(|| creds);
    }

    /// Whether a task with these credentials opened it, or one that it got them from.
    pub(super) fn was_opened_by(&self, creds: &Arc<Creds>) -> bool {
        self.opener.get().is_some_and(|opener| Arc::ptr_eq(opener, creds))
    }

    /// Keep the file in use as long as this is open.
    pub(super) fn keep_in_use(&self, in_use: InUse) {
        self.in_use.get_or_init(|| in_use);
    }

    /// From now on tell `watches` what happens to it, its closing included.
    pub(super) fn watched_by(&self, watches: &Arc<Watches>) {
        self.watches.get_or_init(|| watches.clone());
    }

    /// Tell whoever watches it.
    pub(super) fn happened(&self, what: Notice) {
        if let (Some(watches), Some(path)) = (self.watches.get(), &self.path) {
            watches.happened(&path.dentry, what);
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let writable = self.flags().writable();
        self.happened(if writable {
            Notice::CLOSE_WRITE
        } else {
            Notice::CLOSE_NOWRITE
        });
        if let Some((locks, inode)) = self.locks.get() {
            let address = std::ptr::from_ref(self).addr();
            locks.release_whole(*inode, address);
            locks.release_owner(*inode, LockOwner::File(address));
        }
    }
}
