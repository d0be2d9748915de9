//! Contents of regular files: the lower file's, on the heap, or in a memfd; and the copy-up between them.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SeekFrom, fallocate, fdatasync, fstat, ftruncate, memfd_create, seek,
};
use rustix::io::pwrite;

use super::Tree;
use super::node::{Node, State};
use crate::kernel::fs::hostfs::io::errno;
use crate::kernel::fs::{File, FileType, OpenFlags, Ticket};
use crate::kernel::stop::{Errno, Stop, SysResult};
use crate::kernel::user_memory::{CHUNK, KernelSink};
use crate::kernel::wait::WaitFor;
use crate::platform::{HostFile, PAGE_SIZE};

/// Largest contents kept on the heap, in bytes.
const SMALL: u64 = 64 << 10;

/// The same when descriptors for memfds are running out.
const SMALL_WHEN_SCARCE: u64 = 16 << 20;

/// How much of a large file one run of a handler copies up, in bytes: some milliseconds.
const PIECE: u64 = 16 << 20;

/// Contents of a file.
pub(super) enum Data {
    /// The lower inode's.
    Lower,
    /// The lower inode's still, of which this much has been copied.
    Copying { to: Arc<HostFile>, done: u64 },
    /// On the heap.
    Small(Vec<u8>),
    /// In a memfd.
    Memfd(Arc<HostFile>),
    /// In the data file of an upper on disk, which is open as long as somebody uses it.
    Stored(Weak<HostFile>),
    /// Text of a symbolic link.
    Link(Box<[u8]>),
}

/// Where to read.
pub(super) enum View {
    Lower,
    Bytes(Vec<u8>),
    Memfd(Arc<HostFile>),
}

/// Where a guest may read by itself.
pub(super) enum Lent {
    Lower,
    Memfd(Arc<HostFile>),
}

fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE)
}

/// Size in bytes and 512-byte blocks of a memfd.
fn memfd_extent(file: &HostFile) -> Result<(u64, u64), Errno> {
    let st = fstat(file).map_err(errno)?;
    Ok((st.st_size.cast_unsigned(), st.st_blocks.cast_unsigned()))
}

impl Data {
    /// Size in bytes and 512-byte blocks in use; none when they are the lower inode's.
    pub(super) fn extent(&self, of: &Node) -> Result<Option<(u64, u64)>, Errno> {
        Ok(match self {
            Data::Lower | Data::Copying { .. } => None,
            Data::Small(bytes) => Some((bytes.len() as u64, pages(bytes.len() as u64) / 512)),
            Data::Memfd(file) => Some(memfd_extent(file)?),
            Data::Stored(open) => Some(match (open.upgrade(), &of.tree.disk) {
                (Some(file), _) => memfd_extent(&file)?,
                (None, disk) => disk.as_ref().ok_or(Errno::EIO)?.extent(of.id())?,
            }),
            Data::Link(text) => Some((text.len() as u64, 0)),
        })
    }

    /// Let go of the contents.
    pub(super) fn leave(&mut self, tree: &Tree) {
        if tree.disk.is_none() && matches!(self, Data::Memfd(_) | Data::Copying { .. }) {
            tree.memfds.fetch_sub(1, Ordering::Relaxed);
        }
        *self = Data::Small(Vec::new());
    }
}

impl Tree {
    fn small_limit(&self) -> u64 {
        if self.disk.is_some() {
            0
        } else if self.memfds.load(Ordering::Relaxed) < self.memfd_limit {
            SMALL
        } else {
            SMALL_WHEN_SCARCE
        }
    }

    /// A new empty memfd. Guests may map it to be executed.
    fn memfd(&self) -> Result<Arc<HostFile>, Errno> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match memfd_create("uvm", flags) {
            // Hosts with vm.memfd_noexec=2 insist that it cannot be given to execve(2), which nobody does.
            Err(rustix::io::Errno::ACCESS) => memfd_create("uvm", flags | MemfdFlags::NOEXEC_SEAL),
            other => other,
        };
        let fd = fd.map_err(|e| match errno(e) {
            Errno::EMFILE => Errno::ENFILE,
            e => e,
        })?;
        let file = HostFile::new(fd)?;
        self.memfds.fetch_add(1, Ordering::Relaxed);
        Ok(file)
    }
}

/// Write all of `bytes` to a memfd.
pub(super) fn fill(file: &HostFile, bytes: &[u8], at: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        let n = pwrite(file, &bytes[done..], at + done as u64).map_err(errno)?;
        if n == 0 {
            return Err(Errno::ENOSPC);
        }
        done += n;
    }
    Ok(())
}

/// The errno in a result of the lower tree, which never blocks.
pub(super) fn lower_result<T>(result: SysResult<T>) -> Result<T, Errno> {
    result.map_err(|stop| match stop {
        Stop::Errno(errno, _) => errno,
        _ => Errno::EIO,
    })
}

/// What one step of a copy-up has to do.
enum Step {
    Small(u64),
    Piece { to: Arc<HostFile>, done: u64, size: u64 },
}

/// Host files of contents.
impl Node {
    /// A new empty file for contents.
    pub(super) fn new_file(&self) -> Result<Arc<HostFile>, Errno> {
        match &self.tree.disk {
            Some(disk) => disk.create(self.id()),
            None => self.tree.memfd(),
        }
    }

    /// The host file that contents of our own are in, if they are in one.
    fn host_file(&self, data: &mut Data) -> Result<Option<Arc<HostFile>>, Errno> {
        match data {
            Data::Memfd(file) => Ok(Some(file.clone())),
            Data::Stored(open) => {
                if let Some(file) = open.upgrade() {
                    return Ok(Some(file));
                }
                let disk = self.tree.disk.as_ref().ok_or(Errno::EIO)?;
                let file = disk.file(self.id())?;
                *open = Arc::downgrade(&file);
                Ok(Some(file))
            }
            _ => Ok(None),
        }
    }

    /// Contents in this host file.
    fn held_in(&self, file: &Arc<HostFile>) -> Data {
        match &self.tree.disk {
            Some(_) => Data::Stored(Arc::downgrade(file)),
            None => Data::Memfd(file.clone()),
        }
    }

    /// The data file on disk, to be kept open or waited for.
    pub(super) fn data_file(&self) -> Result<Option<Arc<HostFile>>, Errno> {
        match &mut self.state.lock().data {
            data @ Data::Stored(_) => self.host_file(data),
            _ => Ok(None),
        }
    }
}

/// Copy-up.
impl Node {
    /// The lower file, opened for reading.
    pub(super) fn open_lower(&self) -> Result<Arc<File>, Errno> {
        let lower = self.lower.as_ref().ok_or(Errno::EIO)?;
        let ops = lower.clone().open(OpenFlags::empty())?;
        Ok(File::anonymous(
            ops,
            String::new(),
            lower.clone(),
            OpenFlags::empty(),
        ))
    }

    /// Have contents of our own: those of the lower file. A large file takes several runs of the handler, between which
    /// others run.
    pub(super) fn own(&self) -> SysResult<()> {
        if self.own_step()? {
            return Ok(());
        }
        let again = self.tree.options.clock.now();
        Err(WaitFor::default().until(Some(again)).into())
    }

    /// The same at once, for changes that cannot be taken up again.
    pub(super) fn own_now(&self) -> Result<(), Errno> {
        while !self.own_step()? {}
        Ok(())
    }

    /// The same, of the first `size` bytes, the rest being about to go.
    fn own_part(&self, size: u64) -> Result<(), Errno> {
        let whole = {
            let mut state = self.state.lock();
            let whole = state.lower_extent;
            if matches!(state.data, Data::Lower | Data::Copying { .. }) {
                state.lower_extent.0 = whole.0.min(size);
            }
            whole
        };
        let owned = self.own_now();
        if owned.is_err() {
            self.state.lock().lower_extent = whole;
        }
        owned
    }

    /// Do a part of the copy-up; whether it is complete.
    fn own_step(&self) -> Result<bool, Errno> {
        let step = {
            let wanted = self.state.lock().lower_extent.0;
            self.tree.make_room(wanted);
            let mut state = self.state.lock();
            let size = state.lower_extent.0;
            match &state.data {
                Data::Lower if size <= self.tree.small_limit() => Step::Small(size),
                Data::Lower => {
                    if self.tree.room() < size.min(state.lower_extent.1.saturating_mul(512)) {
                        return Err(Errno::ENOSPC);
                    }
                    let to = self.new_file()?;
                    state.data = Data::Copying {
                        to: to.clone(),
                        done: 0,
                    };
                    Step::Piece { to, done: 0, size }
                }
                Data::Copying { to, done } => Step::Piece {
                    to: to.clone(),
                    done: *done,
                    size,
                },
                _ => return Ok(true),
            }
        };
        match step {
            Step::Small(size) => self.copy_small(size).map(|()| true),
            Step::Piece { to, done, size } => self.copy_piece(&to, done, size),
        }
    }

    fn copy_small(&self, size: u64) -> Result<(), Errno> {
        let mut bytes = KernelSink::new(usize::try_from(size).unwrap_or(0));
        // Who copies nothing need not be allowed to read: lock files of root's are empty.
        if size > 0 {
            let file = self.open_lower()?;
            lower_result(file.ops.read(&file, &mut 0, &mut bytes))?;
        }
        let mut state = self.change();
        if matches!(state.data, Data::Lower) {
            self.tree.charge(&mut state.charged, pages(size))?;
            state.data = Data::Small(bytes.bytes);
        }
        Ok(())
    }

    /// Copy one piece. Two threads may copy the same one: the lower file does not change, and nobody writes before all
    /// is there.
    fn copy_piece(&self, to: &Arc<HostFile>, done: u64, size: u64) -> Result<bool, Errno> {
        let file = self.open_lower()?;
        let end = size.min(done.saturating_add(PIECE));
        let mut at = done;
        while at < end {
            at = match lower_result(file.ops.seek(&file, at.cast_signed(), libc::SEEK_DATA)) {
                Ok(data) => data,
                Err(Errno::ENXIO) => size,
                Err(_) => at,
            };
            if at >= end {
                break;
            }
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let mut bytes = KernelSink::new(want);
            let from = at;
            if lower_result(file.ops.read(&file, &mut at, &mut bytes))? == 0 {
                at = size;
            }
            fill(to, &bytes.bytes, from)?;
        }
        if at >= size {
            ftruncate(to, size).map_err(errno)?;
            if self.tree.disk.is_some() {
                // What the guest did not write must not be lost with what it did.
                fdatasync(to).map_err(errno)?;
            }
        }
        let mut state = self.change();
        match &mut state.data {
            Data::Copying { to: now, done } if Arc::ptr_eq(now, to) => *done = at.max(*done),
            _ => return Ok(true),
        }
        if at < size {
            return Ok(false);
        }
        state.data = self.held_in(to);
        self.recharge_memfd(&mut state, to)?;
        Ok(true)
    }

    pub(super) fn recharge_memfd(&self, state: &mut State, file: &HostFile) -> Result<(), Errno> {
        let (size, blocks) = memfd_extent(file)?;
        self.recharge(state, blocks.saturating_mul(512), size);
        Ok(())
    }

    /// Move contents of our own into a memfd.
    pub(super) fn to_memfd(&self, state: &mut State) -> Result<Arc<HostFile>, Errno> {
        if let Some(file) = self.host_file(&mut state.data)? {
            return self.unsealed(state, file);
        }
        let Data::Small(bytes) = &state.data else {
            return Err(Errno::EIO);
        };
        let file = self.new_file()?;
        fill(&file, bytes, 0)?;
        state.data = self.held_in(&file);
        self.mark(state);
        self.recharge_memfd(state, &file)?;
        Ok(file)
    }
}

/// Reading and changing contents.
impl Node {
    /// Where to read up to `want` bytes at `pos`, noting the access when `touch`.
    pub(super) fn view(&self, pos: u64, want: usize, touch: bool) -> Result<View, Errno> {
        let mut state = self.state.lock();
        if touch {
            self.note_written(&mut state)?;
            state.accessed(self.tree.now());
        }
        Ok(match &mut state.data {
            Data::Small(bytes) => {
                let start = usize::try_from(pos).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(want).min(bytes.len());
                View::Bytes(bytes[start..end].to_vec())
            }
            data => self.host_file(data)?.map_or(View::Lower, View::Memfd),
        })
    }

    /// Write at `pos`, or at the end when there is none, after [`Node::own`]. How much was written and where that ends.
    pub(super) fn write_at(&self, pos: Option<u64>, bytes: &[u8]) -> Result<(usize, u64), Errno> {
        self.tree
            .make_room(self.tree.small_limit().saturating_add(bytes.len() as u64));
        let now = self.tree.now();
        let mut state = self.change_contents();
        let appends = pos.is_none();
        let pos = match (pos, &state.data) {
            (_, Data::Lower | Data::Copying { .. } | Data::Link(_)) => return Err(Errno::EIO),
            (Some(pos), _) => pos,
            (None, data) => data.extent(self)?.ok_or(Errno::EIO)?.0,
        };
        if bytes.is_empty() {
            return Ok((0, pos));
        }
        let end = pos.checked_add(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        if end > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        let done = if matches!(state.data, Data::Small(_)) && end <= self.tree.small_limit() {
            self.write_small(&mut state, pos, bytes)?
        } else {
            let file = self.to_memfd(&mut state)?;
            let allowed = self.fits(&state, &file, pos, bytes.len())?;
            let bytes = &bytes[..allowed];
            let (done, end) = if appends && self.may_be_written(&state) {
                self.append(&file, bytes)?
            } else {
                let done = pwrite(&file, bytes, pos).map_err(errno)?;
                (done, pos + done as u64)
            };
            self.recharge_memfd(&mut state, &file)?;
            self.note_own_write(&mut state)?;
            state.modified(now);
            return Ok((done, end));
        };
        state.modified(now);
        Ok((done, pos + done as u64))
    }

    fn write_small(&self, state: &mut State, pos: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let Data::Small(own) = &state.data else {
            return Err(Errno::EIO);
        };
        let pos = usize::try_from(pos).map_err(|_| Errno::EFBIG)?;
        let size = own.len().max(pos + bytes.len());
        self.resize_small(state, size)?;
        if let Data::Small(own) = &mut state.data {
            own[pos..pos + bytes.len()].copy_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    /// Set the length of contents on the heap. ENOSPC, ENOMEM.
    fn resize_small(&self, state: &mut State, size: usize) -> Result<(), Errno> {
        self.tree.charge(&mut state.charged, pages(size as u64))?;
        let Data::Small(own) = &mut state.data else {
            return Err(Errno::EIO);
        };
        let more = size.saturating_sub(own.len());
        own.try_reserve(more).map_err(|_| Errno::ENOMEM)?;
        own.resize(size, 0);
        own.shrink_to(2 * size);
        Ok(())
    }

    /// Make a new node a symbolic link. Long texts count as contents.
    pub(super) fn set_link(&self, text: &[u8]) -> Result<(), Errno> {
        const SHORT: usize = 128;
        self.tree.make_room(text.len() as u64);
        let mut state = self.state.lock();
        if text.len() > SHORT {
            self.tree.charge(&mut state.charged, pages(text.len() as u64))?;
        }
        state.data = Data::Link(text.into());
        Ok(())
    }

    /// How many of `len` bytes at `pos` of a memfd may be written within the limit: what is there already costs
    /// nothing. ENOSPC when none.
    fn fits(&self, state: &State, file: &HostFile, pos: u64, len: usize) -> Result<usize, Errno> {
        let end = pos + len as u64;
        let mut room = self.room(state, end);
        if pages(end) - pos / PAGE_SIZE * PAGE_SIZE <= room {
            return Ok(len);
        }
        let mut at = pos;
        while at < end {
            let data = match seek(file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => end,
                Err(e) => return Err(errno(e)),
            };
            if data <= at {
                at = seek(file, SeekFrom::Hole(at)).map_err(errno)?.min(end);
                continue;
            }
            let hole_end = data.min(end);
            let start = at / PAGE_SIZE * PAGE_SIZE;
            let affordable = start.saturating_add(room / PAGE_SIZE * PAGE_SIZE);
            if affordable < hole_end {
                at = at.max(affordable);
                break;
            }
            room = room.saturating_sub(pages(hole_end - start));
            at = hole_end;
        }
        match usize::try_from(at - pos) {
            Ok(0) | Err(_) => Err(Errno::ENOSPC),
            Ok(n) => Ok(n.min(len)),
        }
    }

    /// truncate(2). EINVAL for what is no regular file, EFBIG.
    pub(super) fn truncate(&self, size: u64) -> Result<(), Errno> {
        if self.kind != FileType::Regular {
            return Err(Errno::EINVAL);
        }
        if size > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        if size > 0 {
            self.own_part(size)?;
        }
        self.tree.make_room(size.min(SMALL_WHEN_SCARCE));
        let now = self.tree.now();
        let mut state = self.change();
        match &mut state.data {
            // Nothing of it is wanted: no need to copy it first.
            Data::Lower | Data::Copying { .. } => state.data.leave(&self.tree),
            Data::Small(_) if size <= self.tree.small_limit() => {
                self.resize_small(&mut state, usize::try_from(size).map_err(|_| Errno::EFBIG)?)?;
            }
            _ => {
                let file = self.to_memfd(&mut state)?;
                ftruncate(&file, size).map_err(errno)?;
                self.recharge_memfd(&mut state, &file)?;
            }
        }
        state.modified(now);
        Ok(())
    }

    /// fallocate(2) as tmpfs has it: space, or a hole. EOPNOTSUPP, ENOSPC.
    pub(super) fn allocate(&self, mode: i32, offset: u64, len: u64) -> SysResult<()> {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if !(mode.is_empty() || mode == FallocateFlags::KEEP_SIZE || mode == hole) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        self.own()?;
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        self.tree.make_room(len);
        let now = self.tree.now();
        let mut state = self.change();
        let file = self.to_memfd(&mut state)?;
        if mode != hole {
            let len = usize::try_from(len).map_err(|_| Errno::EFBIG)?;
            if end > i64::MAX as u64 {
                return Err(Errno::EFBIG.into());
            }
            if self.fits(&state, &file, offset, len)? < len {
                return Err(Errno::ENOSPC.into());
            }
        }
        fallocate(&file, mode, offset, len).map_err(errno)?;
        self.recharge_memfd(&mut state, &file)?;
        state.modified(now);
        Ok(())
    }

    /// What a guest may read by itself until the ticket ends: with the next change, and not while the next read has to be
    /// noted, as `touch` says.
    pub(super) fn lend(&self, touch: bool, ticket: &Arc<Ticket>) -> Option<Lent> {
        let mut state = self.state.lock();
        self.recall(&mut state);
        if touch && state.awaits_access() {
            return None;
        }
        let lent = match &mut state.data {
            Data::Lower => Lent::Lower,
            data @ (Data::Memfd(_) | Data::Stored(_)) => Lent::Memfd(self.host_file(data).ok()??),
            Data::Small(_) if self.tree.memfds.load(Ordering::Relaxed) < self.tree.memfd_limit / 2 => {
                Lent::Memfd(self.to_memfd(&mut state).ok()?)
            }
            _ => return None,
        };
        self.granted.add(ticket);
        Some(lent)
    }

    /// A host file with contents of our own, to be mapped, and written when it `writes`. None while they are the lower file's.
    pub(super) fn mappable(&self, writes: bool) -> Result<Option<Arc<HostFile>>, Errno> {
        let mut state = self.state.lock();
        let file = match &state.data {
            Data::Lower | Data::Copying { .. } => return Ok(None),
            Data::Memfd(file) if !writes && !self.awaits_copy(&state) => file.clone(),
            _ => self.to_memfd(&mut state)?,
        };
        self.note_mapped(&mut state);
        Ok(Some(file))
    }
}

/// A descriptor of a memfd that can only be written.
pub(super) fn write_only(file: &HostFile) -> Result<Arc<HostFile>, Errno> {
    HostFile::new(crate::kernel::fs::hostfs::io::reopen_write_only(file.as_fd())?)
}

/// A descriptor of a memfd that cannot be written, nor mappings of it ever be made writable.
pub(super) fn read_only(file: &HostFile) -> Result<Arc<HostFile>, Errno> {
    HostFile::new(crate::kernel::fs::hostfs::io::reopen_read_only(file.as_fd())?)
}
