//! Moving bytes between host files and guests.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, SeekFrom, openat, seek};
use rustix::io::pread;

use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::user_memory::{CHUNK, Sink};

pub(in crate::kernel::fs) use super::host::errno;

/// Read a host file at `pos` into `to` until it is full or the file ends, moving `pos` on.
pub(in crate::kernel::fs) fn read_host(fd: impl AsFd, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
    let mut done = 0;
    let mut buf = Vec::new();
    while to.remaining() > 0 {
        let want = to.remaining().min(CHUNK);
        buf.clear();
        buf.reserve_exact(want);
        let got = match pread_some(fd.as_fd(), &mut buf, want, *pos) {
            Ok(got) => got,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        };
        if got == 0 {
            break;
        }
        let put = match to.put(&buf) {
            Ok(put) => put,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        };
        done += put;
        *pos = pos.saturating_add(put as u64);
        if put < got || got < want {
            break;
        }
    }
    Ok(done)
}

/// Append at most `want` bytes of the file at `pos` to `buf`, whose capacity the caller has seen to.
fn pread_some(fd: BorrowedFd<'_>, buf: &mut Vec<u8>, want: usize, pos: u64) -> Result<usize, Errno> {
    // The host takes no offset beyond i64; nothing is there.
    if pos > i64::MAX as u64 {
        return Ok(0);
    }
    let got = pread(fd, spare_capacity(buf), pos).map_err(errno)?;
    buf.truncate(want);
    Ok(got.min(want))
}

/// SEEK_END, SEEK_DATA and SEEK_HOLE of a host file.
pub(in crate::kernel::fs) fn seek_host(fd: impl AsFd, offset: i64, whence: i32) -> Result<u64, Errno> {
    let to = match whence {
        libc::SEEK_END => SeekFrom::End(offset),
        libc::SEEK_DATA => SeekFrom::Data(u64::try_from(offset).map_err(|_| Errno::ENXIO)?),
        libc::SEEK_HOLE => SeekFrom::Hole(u64::try_from(offset).map_err(|_| Errno::ENXIO)?),
        _ => return Err(Errno::EINVAL),
    };
    seek(fd, to).map_err(errno)
}

/// The same file through a descriptor that cannot be written.
pub(in crate::kernel::fs) fn reopen_read_only(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    openat(CWD, super::host::path_of(fd), flags, Mode::empty()).map_err(errno)
}
