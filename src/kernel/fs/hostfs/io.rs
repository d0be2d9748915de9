//! Moving bytes between host files and guests.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, SeekFrom, openat, seek};
use rustix::io::pread;

use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::user_memory::{CHUNK, Sink, Source};

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

/// Write all that `from` has, piece by piece from `pos` on, moving that along. `write` says how much of a piece was written
/// and where that ends.
pub(in crate::kernel::fs) fn write_pieces(
    pos: &mut u64,
    from: &mut dyn Source,
    write: impl Fn(u64, &[u8]) -> Result<(usize, u64), Errno>,
) -> SysResult<usize> {
    let mut done = 0;
    let mut buf = vec![0; from.remaining().min(CHUNK)];
    while from.remaining() > 0 {
        let want = from.remaining().min(buf.len());
        let taken = match from.take(&mut buf[..want]) {
            Ok(taken) => taken,
            Err(_) if done > 0 => break,
            Err(e) => return Err(e.into()),
        };
        let (written, end) = match write(*pos, &buf[..taken]) {
            Ok(written) => written,
            Err(e) => {
                from.untake(taken);
                if done > 0 {
                    break;
                }
                return Err(e.into());
            }
        };
        from.untake(taken - written);
        *pos = end;
        done += written;
        if written < want {
            break;
        }
    }
    Ok(done)
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
    reopen(fd, OFlags::RDONLY)
}

/// The same file through a descriptor that cannot be read.
pub(in crate::kernel::fs) fn reopen_write_only(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    reopen(fd, OFlags::WRONLY)
}

fn reopen(fd: BorrowedFd<'_>, mode: OFlags) -> Result<OwnedFd, Errno> {
    let flags = mode | OFlags::CLOEXEC;
    openat(CWD, super::host::path_of(fd), flags, Mode::empty()).map_err(errno)
}
