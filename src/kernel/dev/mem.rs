//! Memory devices: null(4), random(4), full(4), and kmsg.

use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, fstat, makedev, open};

use super::kmsg::{self, Kmsg};
use crate::kernel::fs::{Driver, File, FileOps, MapRequest, OpenFlags, Path, Ticket, minor};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{CHUNK, Sink, Source};
use crate::platform::{HostFile, WriteBound};

/// Major number of memory devices.
pub const MEM_MAJOR: u32 = 1;

/// Opens the devices of [`MEM_MAJOR`].
pub struct MemDriver;

impl Driver for MemDriver {
    fn open(&self, cx: &mut SyscallCx<'_>, path: &Path, _: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        Ok(match minor(path.inode().metadata()?.rdev) {
            3 => Arc::new(Null),
            5 => Arc::new(Zero { full: false }),
            7 => Arc::new(Zero { full: true }),
            8 | 9 => Arc::new(Random),
            kmsg::MINOR => Arc::new(Kmsg(cx.kernel.log.clone())),
            _ => return Err(Errno::ENXIO.into()),
        })
    }
}

fn swallow(from: &mut dyn Source) -> SysResult<usize> {
    // Linux does not look at the bytes either, so a bad pointer is fine.
    Ok(from.remaining())
}

/// The host's own device, with which a guest thread may go on by itself: it does what this one does and leads nowhere.
/// None where the host has something else there.
fn of_host(name: &str, minor: u32, mode: OFlags) -> Option<Arc<HostFile>> {
    let flags = mode | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let device = open(name, flags, Mode::empty()).ok()?;
    let stat = fstat(&device).ok()?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || stat.st_rdev != makedev(MEM_MAJOR, minor) {
        return None;
    }
    HostFile::new(device).ok()
}

struct Null;

impl FileOps for Null {
    fn read(&self, _: &File, _: &mut u64, _: &mut dyn Sink) -> SysResult<usize> {
        Ok(0)
    }

    fn write(&self, _: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        *pos = 0;
        swallow(from)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: i64, _: i32) -> SysResult<u64> {
        Ok(0)
    }

    fn stays_at_0(&self) -> bool {
        true
    }

    fn lend_for_writing(&self, _: &File, _: &Arc<Ticket>) -> Option<(Arc<HostFile>, WriteBound)> {
        let farthest = WriteBound::ALL.last()?;
        Some((of_host("/dev/null", 3, OFlags::WRONLY)?, *farthest))
    }
}

struct Zero {
    /// /dev/full: writes fail.
    full: bool,
}

impl FileOps for Zero {
    fn read(&self, _: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        *pos = 0;
        let zeros = [0; 4096];
        fill(to, |want| Ok(zeros[..want.min(zeros.len())].to_vec()))
    }

    fn write(&self, _: &File, _: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        if self.full {
            Err(Errno::ENOSPC.into())
        } else {
            swallow(from)
        }
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: i64, _: i32) -> SysResult<u64> {
        Ok(0)
    }

    fn stays_at_0(&self) -> bool {
        true
    }

    fn lend(&self, _: &File, _: &Arc<Ticket>) -> Option<Arc<HostFile>> {
        of_host("/dev/zero", 5, OFlags::RDONLY)
    }

    fn map(&self, _: &File, request: &MapRequest) -> SysResult<Arc<HostFile>> {
        if self.full {
            return Err(Errno::ENODEV.into());
        }
        let end = request
            .offset
            .checked_add(request.len)
            .and_then(|end| i64::try_from(end).ok());
        let memory = nix::sys::memfd::memfd_create(c"zero", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
        nix::unistd::ftruncate(&memory, end.ok_or(Errno::EOVERFLOW)?)?;
        Ok(HostFile::new(memory)?)
    }
}

/// Random bytes for /dev/random, /dev/urandom and getrandom(2).
struct Random;

impl FileOps for Random {
    fn read(&self, _: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        fill(to, |want| {
            let mut bytes = vec![0; want.min(CHUNK)];
            crate::kernel::task::current()
                .ok_or(Errno::EIO)?
                .kernel
                .random
                .fill(&mut bytes)?;
            Ok(bytes)
        })
    }

    fn write(&self, _: &File, _: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        swallow(from)
    }
}

/// Put what `make` makes (at most the wanted length) until the sink has enough or its memory ends.
fn fill(to: &mut dyn Sink, make: impl Fn(usize) -> SysResult<Vec<u8>>) -> SysResult<usize> {
    let mut total = 0;
    while to.remaining() > 0 {
        let bytes = make(to.remaining())?;
        match to.put(&bytes) {
            Ok(put) => {
                total += put;
                if put < bytes.len() {
                    break;
                }
            }
            Err(errno) if total == 0 => return Err(errno.into()),
            Err(_) => break,
        }
    }
    Ok(total)
}
