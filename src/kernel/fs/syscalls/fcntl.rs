//! dup(2), fcntl(2), ioctl(2)'s generic part.

use std::sync::Arc;

use super::locks::{F_OFD_GETLK, F_OFD_SETLKW, record_lock};
use crate::kernel::abi::fs::OwnerEx;
use crate::kernel::fs::inotify::InotifyFile;
use crate::kernel::fs::pipe::Pipe;
use crate::kernel::fs::{Fd, File, FileOwner, FileType, OpenFlags};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{UserAddr, UserRef};

/// Values that the C library hides or that libc does not name.
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_DUPFD_QUERY: i32 = 1027;
const F_OWNER_TID: i32 = 0;
const F_OWNER_PID: i32 = 1;
const F_OWNER_PGRP: i32 = 2;

fn limit(cx: &SyscallCx<'_>) -> u64 {
    cx.task.group.soft_limit(libc::RLIMIT_NOFILE)
}

/// dup(2).
pub(super) fn dup(cx: &mut SyscallCx<'_>, old: Fd) -> SysResult<i32> {
    let files = cx.task.files();
    Ok(files.insert(files.get_any(old)?, false, 0, limit(cx))?.0)
}

/// dup2(2).
pub(super) fn dup2(cx: &mut SyscallCx<'_>, old: Fd, new: Fd) -> SysResult<i32> {
    if old == new {
        cx.task.files().get_any(old)?;
        return Ok(new.0);
    }
    dup_to(cx, old, new, false)
}

/// dup3(2).
pub(super) fn dup3(cx: &mut SyscallCx<'_>, old: Fd, new: Fd, flags: i32) -> SysResult<i32> {
    if flags & !libc::O_CLOEXEC != 0 || old == new {
        return fail!(EINVAL);
    }
    dup_to(cx, old, new, flags & libc::O_CLOEXEC != 0)
}

fn dup_to(cx: &SyscallCx<'_>, old: Fd, new: Fd, cloexec: bool) -> SysResult<i32> {
    let files = cx.task.files();
    let limit = limit(cx);
    if u64::try_from(new.0).is_ok_and(|new| new >= limit) {
        return fail!(EBADF);
    }
    let file = files.get_any(old)?;
    if let Some(replaced) = files.replace(new, file, cloexec, limit)? {
        // dup2(2) reports no error of the file that it closes.
        let _ = replaced.ops.flush(&replaced);
    }
    Ok(new.0)
}

/// fcntl(2).
pub(super) fn fcntl(cx: &mut SyscallCx<'_>, fd: Fd, cmd: i32, arg: u64) -> SysResult<u64> {
    let files = cx.task.files();
    let file = files.get_any(fd)?;
    let small = i32::try_from(arg & 0x7fff_ffff).unwrap_or_default();
    match cmd {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => {
            let from = i32::try_from(arg).map_err(|_| Errno::EINVAL)?;
            if u64::try_from(from).is_ok_and(|from| from >= limit(cx)) {
                return fail!(EINVAL);
            }
            let new = files.insert(file, cmd == libc::F_DUPFD_CLOEXEC, from, limit(cx))?;
            return Ok(u64::from(new.0.unsigned_abs()));
        }
        libc::F_GETFD => return Ok(u64::from(files.close_on_exec(fd)?)),
        libc::F_SETFD => {
            files.set_close_on_exec(fd, small & libc::FD_CLOEXEC != 0)?;
            return Ok(0);
        }
        libc::F_GETFL => return Ok(u64::from(file.flags().bits())),
        F_DUPFD_QUERY => {
            let other = files.get_any(Fd(small))?;
            return Ok(u64::from(Arc::ptr_eq(&file, &other)));
        }
        _ if file.flags().contains(OpenFlags::PATH) => return fail!(EBADF),
        _ => {}
    }
    match cmd {
        libc::F_SETFL => {
            let flags = u32::try_from(arg & u64::from(u32::MAX)).unwrap_or_default();
            let mut flags = OpenFlags::from_bits_truncate(flags);
            if flags.contains(OpenFlags::ASYNC) {
                if sends_sigio(&file) {
                    return fail!(EOPNOTSUPP);
                }
                flags -= OpenFlags::ASYNC;
            }
            file.set_flags(flags);
            Ok(0)
        }
        libc::F_SETOWN..=libc::F_GETOWN | F_SETSIG..=F_GETSIG | F_SETOWN_EX..=F_GETOWN_EX => {
            owner(cx, &file, cmd, arg)
        }
        libc::F_NOTIFY | libc::F_SETLEASE => fail!(EINVAL),
        libc::F_GETLEASE => Ok(u64::from(libc::F_UNLCK.unsigned_abs())),
        libc::F_SETPIPE_SZ | libc::F_GETPIPE_SZ => {
            let pipe = Pipe::of(&file).ok_or(Errno::EBADF)?;
            let size = match cmd {
                libc::F_GETPIPE_SZ => pipe.capacity(),
                _ => {
                    pipe.reclaim()?;
                    pipe.set_capacity(arg & u64::from(u32::MAX), &cx.task.creds())?
                }
            };
            Ok(size as u64)
        }
        libc::F_GETLK..=libc::F_SETLKW | F_OFD_GETLK..=F_OFD_SETLKW => record_lock(cx, fd, cmd, arg),
        _ => file.ops.fcntl(&file, cmd, arg),
    }
}

/// Whether Linux would send SIGIO for such a file with O_ASYNC, which is refused here rather than never sent.
fn sends_sigio(file: &File) -> bool {
    let kind = file.inode.file_type();
    matches!(kind, FileType::Fifo | FileType::Socket | FileType::CharDevice)
        || file.ops_as::<InotifyFile>().is_some()
}

/// ESRCH for an owner that is no process, or no process group if it is negative.
fn check_owner(cx: &SyscallCx<'_>, pid: i32) -> Result<(), Errno> {
    let pids = cx.kernel.pids.lock();
    let known = match pid {
        0 => true,
        1.. => pids.tasks.contains_key(&pid),
        _ => pids.group_members(pid.wrapping_neg()).next().is_some(),
    };
    if known { Ok(()) } else { Err(Errno::ESRCH) }
}

/// Who gets SIGIO, and which signal it is.
fn owner(cx: &SyscallCx<'_>, file: &File, cmd: i32, arg: u64) -> SysResult<u64> {
    let number = i32::try_from(arg.cast_signed()).ok();
    let given: OwnerEx = match cmd {
        libc::F_SETOWN => {
            check_owner(cx, number.filter(|&pid| pid != i32::MIN).ok_or(Errno::EINVAL)?)?;
            OwnerEx::default()
        }
        F_SETOWN_EX => {
            let given = cx.memory.read::<OwnerEx>(UserAddr(arg).cast())?;
            if !(F_OWNER_TID..=F_OWNER_PGRP).contains(&given.kind) {
                return fail!(EINVAL);
            }
            let pid = u32::try_from(given.pid).map_err(|_| Errno::ESRCH)?.cast_signed();
            check_owner(cx, if given.kind == F_OWNER_PGRP { -pid } else { pid })?;
            given
        }
        _ => OwnerEx::default(),
    };
    let mut owner = file.owner.lock();
    match cmd {
        libc::F_SETOWN => {
            let pid = number.unwrap_or(0);
            owner.kind = if pid < 0 { F_OWNER_PGRP } else { F_OWNER_PID };
            owner.pid = pid;
            Ok(0)
        }
        libc::F_GETOWN => Ok(i64::from(owner.pid).cast_unsigned()),
        F_SETSIG => {
            owner.signal = number.filter(|n| (0..=64).contains(n)).ok_or(Errno::EINVAL)?;
            Ok(0)
        }
        F_GETSIG => Ok(u64::from(owner.signal.unsigned_abs())),
        F_SETOWN_EX => {
            let is_group = given.kind == F_OWNER_PGRP;
            let pid = if is_group { -given.pid } else { given.pid };
            *owner = FileOwner {
                pid,
                kind: given.kind,
                signal: owner.signal,
            };
            Ok(0)
        }
        _ => {
            let value = OwnerEx {
                kind: owner.kind,
                pid: owner.pid.wrapping_abs(),
            };
            cx.memory.write(UserAddr(arg).cast(), &value)?;
            Ok(0)
        }
    }
}

/// ioctl(2): what concerns every descriptor is done here, the rest by the file.
pub(super) fn ioctl(cx: &mut SyscallCx<'_>, fd: Fd, request: u32, arg: u64) -> SysResult<u64> {
    const FIOCLEX: u32 = 0x5451;
    const FIONCLEX: u32 = 0x5450;
    const FIONBIO: u32 = 0x5421;
    const FIOASYNC: u32 = 0x5452;
    const FIONREAD: u32 = 0x541b;
    const FIGETBSZ: u32 = 2;
    const FICLONE: u32 = 0x4004_9409;
    const FICLONERANGE: u32 = 0x4020_940d;
    let file = cx.file(fd)?;
    let number: UserRef<i32> = UserAddr(arg).cast();
    match request {
        FIOCLEX | FIONCLEX => {
            cx.task.files().set_close_on_exec(fd, request == FIOCLEX)?;
            Ok(0)
        }
        FIONBIO => {
            let mut flags = file.flags();
            flags.set(OpenFlags::NONBLOCK, cx.memory.read(number)? != 0);
            file.set_flags(flags);
            Ok(0)
        }
        FIOASYNC => match cx.memory.read(number)? {
            0 => Ok(0),
            _ if sends_sigio(&file) => fail!(EOPNOTSUPP),
            _ => fail!(ENOTTY),
        },
        FIONREAD if file.inode.file_type() == FileType::Regular && !file.is_object() => {
            let size = file.inode.metadata()?.size;
            let left = size.cast_signed().saturating_sub(file.pos.lock().cast_signed());
            let left = i32::try_from(left).unwrap_or(i32::MAX);
            cx.memory.write(number, &left)?;
            Ok(0)
        }
        FIGETBSZ if file.path.is_some() => {
            let size = i32::try_from(file.inode.metadata()?.blksize).unwrap_or(i32::MAX);
            cx.memory.write(number, &size)?;
            Ok(0)
        }
        FICLONE | FICLONERANGE => fail!(EOPNOTSUPP),
        _ => file.ops.ioctl(cx, &file, request, arg),
    }
}
