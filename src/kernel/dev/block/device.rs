//! What a guest sees of a disk: a device, its partitions, and open files of either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::loops::Binding;
use super::partitions::{self, Partition};
use super::{Disk, SECTOR};
use crate::kernel::Kernel;
use crate::kernel::fs::diskfs::Medium;
use crate::kernel::fs::{File, FileOps, OpenFlags};
use crate::kernel::stop::{Errno, Stop, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{CHUNK, Sink, Source};

/// A device.
pub(super) struct Device {
    name: String,
    numbers: (u32, u32),
    state: Lock<State>,
    read_only: AtomicBool,
    pub(super) counts: Counts,
}

#[derive(Default)]
struct State {
    disk: Option<Arc<dyn Disk>>,
    partitions: Vec<Partition>,
    /// What a loop device is bound to.
    binding: Option<Binding>,
    /// Open files and mounts; those of partitions among them, and mounts of the whole.
    users: u32,
    part_users: u32,
    mounts: u32,
}

impl State {
    /// Let go of what a loop device is bound to, which the caller drops when it has unlocked.
    fn unbind(&mut self) -> (Option<Arc<dyn Disk>>, Option<Binding>) {
        self.partitions.clear();
        (self.disk.take(), self.binding.take())
    }
}

/// What was done with a device since the guest began.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) reads: AtomicU64,
    pub(super) sectors_read: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) sectors_written: AtomicU64,
}

impl Device {
    pub(super) fn new(name: String, numbers: (u32, u32), disk: Option<Arc<dyn Disk>>) -> Arc<Device> {
        let state = State {
            disk,
            ..State::default()
        };
        Arc::new(Device {
            name,
            numbers,
            state: Lock::new(Rank::Table, state),
            read_only: AtomicBool::new(false),
            counts: Counts::default(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Major and first minor number.
    pub(super) fn numbers(&self) -> (u32, u32) {
        self.numbers
    }

    pub(super) fn disk(&self) -> Option<Arc<dyn Disk>> {
        self.state.lock().disk.clone()
    }

    pub(super) fn size(&self) -> u64 {
        self.disk().map_or(0, |disk| disk.size() / SECTOR * SECTOR)
    }

    pub(super) fn partitions(&self) -> Vec<Partition> {
        self.state.lock().partitions.clone()
    }

    /// Name of a partition.
    pub(super) fn partition_name(&self, number: u32) -> String {
        format!("{}{number}", self.name)
    }

    pub(super) fn is_read_only(&self) -> bool {
        let by_disk = self.disk().is_some_and(|disk| disk.is_read_only());
        by_disk || self.read_only.load(Ordering::Relaxed)
    }

    pub(super) fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Relaxed);
    }

    /// What a loop device is bound to.
    pub(super) fn binding(&self) -> Option<Binding> {
        self.state.lock().binding.clone()
    }

    /// Bind a loop device, or unbind it. EBUSY when it is bound, unless it is to be bound otherwise.
    pub(super) fn bind(&self, disk: Arc<dyn Disk>, binding: Binding, again: bool) -> Result<(), Errno> {
        let mut state = self.state.lock();
        if state.disk.is_some() != again {
            return Err(if again { Errno::ENXIO } else { Errno::EBUSY });
        }
        let old = (state.disk.replace(disk), state.binding.replace(binding));
        drop(state);
        drop(old);
        Ok(())
    }

    /// Unbind a loop device for its only user, or when the others have gone. ENXIO.
    pub(super) fn unbind_at_last(&self) -> Result<(), Errno> {
        let mut state = self.state.lock();
        let users = state.users;
        let binding = state.binding.as_mut().ok_or(Errno::ENXIO)?;
        if users > 1 {
            binding.clear_itself();
            return Ok(());
        }
        let old = state.unbind();
        drop(state);
        self.set_read_only(false);
        drop(old);
        Ok(())
    }

    /// As [`Device::rescan`], for a guest. EBUSY when a partition is in use, or the whole is mounted.
    pub(super) fn rescan_unused(&self, kernel: &Kernel) -> SysResult<()> {
        let state = self.state.lock();
        let is_used = state.part_users > 0 || state.mounts > 0;
        drop(state);
        match is_used {
            true => Err(Errno::EBUSY.into()),
            false => self.rescan(kernel),
        }
    }

    /// Read the partition table again and make the nodes that follow.
    pub(super) fn rescan(&self, kernel: &Kernel) -> SysResult<()> {
        let Some(disk) = self.disk() else {
            return Err(Errno::ENXIO.into());
        };
        // A disk that cannot be read has no table.
        let found = partitions::read(&*disk).unwrap_or_default();
        let old = std::mem::replace(&mut self.state.lock().partitions, found.clone());
        let is_in = |list: &[Partition], number| list.iter().any(|one| one.number == number);
        for gone in old.iter().filter(|one| !is_in(&found, one.number)) {
            kernel
                .block
                .remove_node(kernel, &self.partition_name(gone.number));
        }
        for new in found.iter().filter(|one| !is_in(&old, one.number)) {
            let (major, first) = self.numbers;
            let numbers = (major, first + new.number);
            kernel
                .block
                .node(kernel, &self.partition_name(new.number), numbers)?;
        }
        Ok(())
    }

    /// Open it, or one of its partitions.
    pub(super) fn open(self: &Arc<Device>, partition: Option<u32>) -> Result<Opened, Errno> {
        let opened = Opened {
            device: self.clone(),
            partition,
        };
        let mut state = self.state.lock();
        state.users += 1;
        state.part_users += u32::from(partition.is_some());
        drop(state);
        // Counted first, so that dropping it is right in any case.
        opened.range()?;
        Ok(opened)
    }
}

/// A device or partition in use.
pub struct Opened {
    pub(super) device: Arc<Device>,
    pub(super) partition: Option<u32>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        let mut state = self.device.state.lock();
        state.users -= 1;
        state.part_users -= u32::from(self.partition.is_some());
        let ends = state.users == 0 && state.binding.as_ref().is_some_and(Binding::clears_itself);
        if ends {
            let old = state.unbind();
            drop(state);
            self.device.set_read_only(false);
            drop(old);
        }
    }
}

impl Opened {
    /// Where it begins on the disk and how long it is, in bytes. ENXIO for a partition that is gone.
    pub(super) fn range(&self) -> Result<(u64, u64), Errno> {
        let Some(number) = self.partition else {
            return Ok((0, self.device.size()));
        };
        let partitions = self.device.partitions();
        let found = partitions.iter().find(|one| one.number == number);
        found.map(|one| (one.start, one.len)).ok_or(Errno::ENXIO)
    }

    /// The disk, the place on it, and how much there is of `want` bytes at `pos`.
    pub(super) fn place(&self, pos: u64, want: u64) -> Result<(Arc<dyn Disk>, u64, u64), Errno> {
        let (start, len) = self.range()?;
        let some = len.saturating_sub(pos).min(want);
        let disk = self.device.disk().ok_or(Errno::ENXIO)?;
        // A partition may reach beyond what a disk has become.
        let at = start.checked_add(pos).ok_or(Errno::EIO)?;
        let some = some.min(disk.size().saturating_sub(at));
        Ok((disk, at, some))
    }

    /// Make a part zero: how much of it, as [`Disk::zero`] says.
    pub(super) fn zero(&self, at: u64, len: u64) -> SysResult<u64> {
        if self.device.is_read_only() {
            return Err(Errno::EPERM.into());
        }
        let (disk, place, some) = self.place(at, len)?;
        if some < len {
            return Err(Errno::EINVAL.into());
        }
        disk.zero(place, len)
    }
}

/// A device that a file system is read from.
pub struct DeviceMedium(Opened);

impl DeviceMedium {
    /// To be mounted.
    pub fn new(opened: Opened) -> DeviceMedium {
        opened.device.state.lock().mounts += u32::from(opened.partition.is_none());
        DeviceMedium(opened)
    }
}

impl Drop for DeviceMedium {
    fn drop(&mut self) {
        self.0.device.state.lock().mounts -= u32::from(self.0.partition.is_none());
    }
}

impl Medium for DeviceMedium {
    fn size(&self) -> u64 {
        self.0.range().map_or(0, |(_, len)| len)
    }

    fn read(&self, buf: &mut [u8], at: u64) -> Result<(), Errno> {
        let want = buf.len() as u64;
        let (disk, place, some) = self.0.place(at, want)?;
        if some < want {
            return Err(Errno::EIO);
        }
        match disk.read(buf, place) {
            Ok(()) => Ok(()),
            Err(Stop::Errno(errno, _)) => Err(errno),
            Err(_) => Err(Errno::EIO),
        }
    }
}

/// An open block device.
pub(super) struct BlockFile(Opened);

impl BlockFile {
    pub(super) fn new(opened: Opened) -> BlockFile {
        BlockFile(opened)
    }

    /// What it is open on.
    pub(super) fn opened(&self) -> &Opened {
        &self.0
    }

    /// What is read or written past the page cache (O_DIRECT of open(2)) is whole sectors, up to the end. EINVAL.
    fn check_direct(&self, file: &File, pos: u64, len: usize) -> Result<(), Errno> {
        let (_, size) = self.0.range()?;
        let some = size.saturating_sub(pos).min(len as u64);
        let whole = pos.is_multiple_of(SECTOR) && some.is_multiple_of(SECTOR);
        match some > 0 && !whole && file.flags().contains(OpenFlags::DIRECT) {
            true => Err(Errno::EINVAL),
            false => Ok(()),
        }
    }
}

impl FileOps for BlockFile {
    fn read(&self, file: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        self.check_direct(file, *pos, to.remaining())?;
        let mut done = 0;
        while to.remaining() > 0 {
            let (disk, at, some) = self.0.place(*pos, to.remaining().min(CHUNK) as u64)?;
            if some == 0 {
                break;
            }
            let mut bytes = vec![0; some as usize];
            let put = disk.read(&mut bytes, at).and_then(|()| Ok(to.put(&bytes)?));
            let put = match put {
                Err(_) if done > 0 => break,
                put => put?,
            };
            let counts = &self.0.device.counts;
            counts.reads.fetch_add(1, Ordering::Relaxed);
            counts
                .sectors_read
                .fetch_add(some.div_ceil(SECTOR), Ordering::Relaxed);
            done += put;
            *pos += put as u64;
            if put < bytes.len() {
                break;
            }
        }
        Ok(done)
    }

    fn write(&self, file: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        if self.0.device.is_read_only() {
            return Err(Errno::EPERM.into());
        }
        self.check_direct(file, *pos, from.remaining())?;
        let mut done = 0;
        while from.remaining() > 0 {
            let (disk, at, some) = self.0.place(*pos, from.remaining().min(CHUNK) as u64)?;
            if some == 0 {
                break;
            }
            let mut bytes = vec![0; some as usize];
            let taken = match from.take(&mut bytes) {
                Err(_) if done > 0 => break,
                taken => taken?,
            };
            if let Err(stop) = disk.write(&bytes[..taken], at) {
                from.untake(taken);
                // What has to wait runs again from where the source is now.
                if done > 0 && matches!(stop, Stop::Errno(..)) {
                    break;
                }
                return Err(stop);
            }
            let counts = &self.0.device.counts;
            counts.writes.fetch_add(1, Ordering::Relaxed);
            counts
                .sectors_written
                .fetch_add(some.div_ceil(SECTOR), Ordering::Relaxed);
            done += taken;
            *pos += taken as u64;
            if taken < bytes.len() {
                break;
            }
        }
        if done == 0 && from.remaining() > 0 {
            return Err(Errno::ENOSPC.into());
        }
        Ok(done)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, offset: i64, whence: i32) -> SysResult<u64> {
        let (_, len) = self.0.range()?;
        let inside = u64::try_from(offset).ok().filter(|&offset| offset < len);
        Ok(match whence {
            libc::SEEK_END => len.checked_add_signed(offset).ok_or(Errno::EINVAL)?,
            libc::SEEK_DATA => inside.ok_or(Errno::ENXIO)?,
            libc::SEEK_HOLE => inside.map(|_| len).ok_or(Errno::ENXIO)?,
            _ => return Err(Errno::EINVAL.into()),
        })
    }

    fn pollable(&self) -> bool {
        false
    }

    fn sync(&self, _: &File, _: bool) -> SysResult<()> {
        match self.0.device.disk() {
            Some(disk) => disk.flush(),
            None => Ok(()),
        }
    }

    fn allocate(&self, _: &File, mode: i32, offset: u64, len: u64) -> SysResult<u64> {
        const KEEP_SIZE: i32 = libc::FALLOC_FL_KEEP_SIZE;
        let zeroes = [
            libc::FALLOC_FL_ZERO_RANGE,
            libc::FALLOC_FL_ZERO_RANGE | KEEP_SIZE,
            libc::FALLOC_FL_PUNCH_HOLE | KEEP_SIZE,
        ];
        if mode != 0 && !zeroes.contains(&mode) {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let (_, size) = self.0.range()?;
        let there = size.saturating_sub(offset);
        if there == 0 || len > there && mode & KEEP_SIZE == 0 {
            return Err(Errno::EINVAL.into());
        }
        let inside = len.min(there);
        if !offset.is_multiple_of(SECTOR) || !inside.is_multiple_of(SECTOR) {
            return Err(Errno::EINVAL.into());
        }
        if mode == 0 {
            return Err(Errno::EOPNOTSUPP.into());
        }
        let done = self.0.zero(offset, inside)?;
        // What lies behind the end is done as well.
        Ok(if done == inside { len } else { done })
    }

    fn ioctl(&self, cx: &mut SyscallCx<'_>, file: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        super::ioctl::run(&self.0, cx, file, request, arg)
    }
}
