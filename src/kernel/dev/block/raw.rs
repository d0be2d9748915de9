//! A host file as a disk.

use std::sync::Arc;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, fdatasync, fstat, seek};
use rustix::io::{pread, pwrite};

use super::Disk;
use crate::kernel::fs::hostfs::host_errno;
use crate::kernel::stop::{Errno, SysResult};
use crate::platform::HostFile;

/// How much is written at once where a part cannot be made zero otherwise, and how much of it in one call, in bytes.
const PIECE: usize = 64 << 10;
pub(super) const PIECES: u64 = 8 << 20;

/// A regular host file, of the size that it had when it was opened.
pub struct Raw {
    file: Arc<HostFile>,
    size: u64,
    read_only: bool,
}

impl Raw {
    /// The whole of a file that is open for what is wanted.
    pub fn new(file: Arc<HostFile>, read_only: bool) -> Result<Raw, Errno> {
        let size = fstat(&*file).map_err(host_errno)?.st_size.cast_unsigned();
        Ok(Raw {
            file,
            size,
            read_only,
        })
    }
}

/// Read all of `buf`. What lies behind the end of the file is EIO: somebody has cut it.
pub(super) fn read_exact(file: &HostFile, mut buf: &mut [u8], mut at: u64) -> Result<(), Errno> {
    while !buf.is_empty() {
        match pread(file, &mut *buf, at).map_err(host_errno)? {
            0 => return Err(Errno::EIO),
            n => {
                buf = &mut buf[n..];
                at += n as u64;
            }
        }
    }
    Ok(())
}

/// Write all of `bytes`.
pub(super) fn write_all(file: &HostFile, mut bytes: &[u8], mut at: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match pwrite(file, bytes, at).map_err(host_errno)? {
            0 => return Err(Errno::ENOSPC),
            n => {
                bytes = &bytes[n..];
                at += n as u64;
            }
        }
    }
    Ok(())
}

/// Make a part of a file zero, by a hole where the host can: how many bytes, which are [`PIECES`] at least or all.
pub(super) fn make_zero(file: &HostFile, at: u64, len: u64) -> Result<u64, Errno> {
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if len == 0 || fallocate(file, hole, at, len).is_ok() {
        return Ok(len);
    }
    let zeroes = [0; PIECE];
    let (len, mut done) = (len.min(PIECES), 0);
    while done < len {
        let some = (len - done).min(PIECE as u64);
        write_all(file, &zeroes[..some as usize], at + done)?;
        done += some;
    }
    Ok(len)
}

impl Disk for Raw {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, buf: &mut [u8], at: u64) -> SysResult<()> {
        Ok(read_exact(&self.file, buf, at)?)
    }

    fn write(&self, bytes: &[u8], at: u64) -> SysResult<()> {
        Ok(write_all(&self.file, bytes, at)?)
    }

    fn zero(&self, at: u64, len: u64) -> SysResult<u64> {
        Ok(make_zero(&self.file, at, len)?)
    }

    fn skip_zeroes(&self, at: u64, end: u64) -> u64 {
        match seek(&*self.file, SeekFrom::Data(at)) {
            Ok(data) => data.clamp(at, end),
            Err(rustix::io::Errno::NXIO) => end,
            Err(_) => at,
        }
    }

    fn flush(&self) -> SysResult<()> {
        Ok(fdatasync(&*self.file).map_err(host_errno)?)
    }
}
