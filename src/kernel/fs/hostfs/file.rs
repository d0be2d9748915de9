//! Open host files and directories.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    FallocateFlags, FsWord, OFlags, RawDir, SeekFrom, fallocate, fcntl_getfl, fdatasync, fstat, fstatfs,
    fsync, seek,
};
use rustix::io::{ReadWriteFlags, pwritev2};

use super::host::errno;
use super::inode::HostInode;
use super::io::{read_host, reopen_read_only, seek_host, write_pieces};
use crate::kernel::fs::{DirEntry, File, FileOps, FileType, MapRequest, OpenFlags, Ticket};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::user_memory::{Sink, Source};
use crate::platform::HostFile;

/// A regular file.
pub(super) struct HostRegular {
    /// Keeps the inode, and with it what others must find in it, as long as the file is open.
    _inode: Arc<HostInode>,
    file: Arc<HostFile>,
}

impl HostRegular {
    pub(super) fn new(inode: Arc<HostInode>, file: Arc<HostFile>) -> HostRegular {
        HostRegular { _inode: inode, file }
    }

    /// Write one piece at `pos`, or at the end; the number of bytes and where they end.
    fn write_piece(&self, flags: OpenFlags, pos: u64, bytes: &[u8]) -> Result<(usize, u64), Errno> {
        let mut how = ReadWriteFlags::empty();
        if flags.contains(OpenFlags::SYNC) {
            how |= ReadWriteFlags::SYNC;
        } else if flags.contains(OpenFlags::DSYNC) {
            how |= ReadWriteFlags::DSYNC;
        }
        if flags.contains(OpenFlags::APPEND) {
            how |= ReadWriteFlags::APPEND;
        }
        let done = pwritev2(&*self.file, &[std::io::IoSlice::new(bytes)], pos, how).map_err(errno)?;
        let end = if flags.contains(OpenFlags::APPEND) {
            fstat(&*self.file).map_err(errno)?.st_size.cast_unsigned()
        } else {
            pos.saturating_add(done as u64)
        };
        Ok((done, end))
    }
}

/// The same file by a descriptor that only reads. None for what the host makes up for whoever reads it.
fn lendable(file: &Arc<HostFile>) -> Option<Arc<HostFile>> {
    const MADE_UP: [FsWord; 7] = [
        libc::PROC_SUPER_MAGIC,
        libc::SYSFS_MAGIC,
        libc::CGROUP_SUPER_MAGIC,
        libc::CGROUP2_SUPER_MAGIC,
        libc::DEBUGFS_MAGIC,
        libc::TRACEFS_MAGIC,
        libc::SECURITYFS_MAGIC,
    ];
    let file_system = fstatfs(&**file).ok()?.f_type;
    if MADE_UP.contains(&file_system) {
        return None;
    }
    if fcntl_getfl(&**file).ok()? & OFlags::RWMODE == OFlags::RDONLY {
        return Some(Arc::clone(file));
    }
    HostFile::new(reopen_read_only(file.as_fd()).ok()?).ok()
}

impl FileOps for HostRegular {
    fn read(&self, _file: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        read_host(&*self.file, pos, to)
    }

    fn write(&self, file: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let flags = file.flags();
        write_pieces(pos, from, |pos, bytes| self.write_piece(flags, pos, bytes))
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _file: &File, offset: i64, whence: i32) -> SysResult<u64> {
        Ok(seek_host(&*self.file, offset, whence)?)
    }

    fn pollable(&self) -> bool {
        false
    }

    fn map(&self, _file: &File, _request: &MapRequest) -> SysResult<Arc<HostFile>> {
        Ok(self.file.clone())
    }

    fn lend(&self, _file: &File, _ticket: &Arc<Ticket>) -> Option<Arc<HostFile>> {
        // Whatever reads or changes it acts on the same host file: no need to end anything.
        lendable(&self.file)
    }

    fn sync(&self, _file: &File, data_only: bool) -> SysResult<()> {
        let synced = if data_only {
            fdatasync(&*self.file)
        } else {
            fsync(&*self.file)
        };
        Ok(synced.map_err(errno)?)
    }

    fn allocate(&self, _file: &File, mode: i32, offset: u64, len: u64) -> SysResult<u64> {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        fallocate(&*self.file, mode, offset, len).map_err(errno)?;
        Ok(len)
    }
}

/// An open directory with its own host descriptor: the host's positions are ours.
pub(super) struct HostDirectory {
    inode: Arc<HostInode>,
    fd: OwnedFd,
    /// Where the host's descriptor stands; held while it is used to read.
    at: Lock<u64>,
}

/// What one getdents(2) of the host is asked for, in bytes.
const LISTING: usize = 32 << 10;

impl HostDirectory {
    pub(super) fn new(inode: Arc<HostInode>, fd: OwnedFd) -> HostDirectory {
        let at = Lock::new(Rank::Leaf, 0);
        HostDirectory { inode, fd, at }
    }

    /// The next entries from position `pos` on, and where they end: at `pos` when there are no more.
    fn read_some(&self, pos: u64) -> Result<(Vec<DirEntry>, u64), Errno> {
        let mut buf = Vec::with_capacity(LISTING);
        let mut entries = Vec::new();
        let mut at = self.at.lock();
        if *at != pos {
            if pos > i64::MAX as u64 {
                return Ok((entries, pos));
            }
            seek(&self.fd, SeekFrom::Start(pos)).map_err(errno)?;
            *at = pos;
        }
        let mut next = pos;
        {
            let mut listing = RawDir::new(self.fd.as_fd(), buf.spare_capacity_mut());
            // Stop with what one call brought: the descriptor then stands behind the last entry given out.
            while let Some(entry) = listing.next() {
                let entry = entry.map_err(errno)?;
                next = entry.next_entry_cookie();
                if !self.inode.hides(entry.file_name().to_bytes()) {
                    entries.push(listed(&entry));
                }
                if listing.is_buffer_empty() {
                    break;
                }
            }
        }
        *at = next;
        Ok((entries, next))
    }

    /// All entries from position `pos` on, by name, the directory itself and the one above first; positions are places in that order.
    fn read_sorted(&self, pos: u64) -> Result<Vec<DirEntry>, Errno> {
        let mut all = Vec::new();
        let mut at = 0;
        loop {
            let (mut entries, next) = self.read_some(at)?;
            if next == at {
                break;
            }
            at = next;
            all.append(&mut entries);
        }
        let order = |entry: &DirEntry| !matches!(&*entry.name, b"." | b"..");
        all.sort_by(|a, b| (order(a), &a.name).cmp(&(order(b), &b.name)));
        for (entry, place) in all.iter_mut().zip(1..) {
            entry.next = place;
        }
        let begin = usize::try_from(pos).unwrap_or(usize::MAX).min(all.len());
        Ok(all.split_off(begin))
    }

    /// Give out entries, under the inode numbers that the guest sees, until one is not taken.
    fn emit(&self, entries: Vec<DirEntry>, emit: &mut dyn FnMut(DirEntry) -> bool) -> bool {
        entries.into_iter().all(|entry| {
            let ino = self.inode.tree.number(self.inode.device_index(), entry.ino);
            emit(DirEntry { ino, ..entry })
        })
    }
}

/// An entry with the host's inode number.
fn listed(entry: &rustix::fs::RawDirEntry<'_>) -> DirEntry {
    DirEntry {
        ino: entry.ino(),
        kind: kind(entry.file_type()),
        name: entry.file_name().to_bytes().to_vec(),
        next: entry.next_entry_cookie(),
    }
}

fn kind(host: rustix::fs::FileType) -> Option<FileType> {
    FileType::from_mode(host.as_raw_mode())
}

impl FileOps for HostDirectory {
    fn read(&self, _file: &File, _pos: &mut u64, _to: &mut dyn Sink) -> SysResult<usize> {
        Err(Errno::EISDIR.into())
    }

    fn seekable(&self) -> bool {
        true
    }

    fn pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, _file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        if self.inode.tree.options.reproducible {
            self.emit(self.read_sorted(pos)?, emit);
            return Ok(());
        }
        let mut pos = pos;
        loop {
            let (entries, next) = self.read_some(pos)?;
            if next == pos || !self.emit(entries, emit) {
                return Ok(());
            }
            pos = next;
        }
    }

    fn sync(&self, _file: &File, data_only: bool) -> SysResult<()> {
        if self.inode.tree.check_writable().is_err() {
            return Ok(());
        }
        let synced = if data_only {
            fdatasync(&self.fd)
        } else {
            fsync(&self.fd)
        };
        Ok(synced.map_err(errno)?)
    }
}
