//! flock(2) and fcntl(2)'s locks.

use std::sync::Arc;

use super::inode_id;
use crate::kernel::abi::fs::Flock;
use crate::kernel::fs::locks::{LockOwner, Outcome, RangeLock, Waiting};
use crate::kernel::fs::{Fd, File};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{UserAddr, UserRef};

pub(super) const F_OFD_GETLK: i32 = 36;
pub(super) const F_OFD_SETLK: i32 = 37;
pub(super) const F_OFD_SETLKW: i32 = 38;

/// flock(2) for mandatory locks, which are gone from Linux: it takes the request and does nothing.
const LOCK_MAND: i32 = 32;

/// flock(2).
pub(super) fn flock(cx: &mut SyscallCx<'_>, fd: Fd, operation: i32) -> SysResult<()> {
    if operation & LOCK_MAND != 0 {
        return Ok(());
    }
    let exclusive = match operation & !libc::LOCK_NB {
        libc::LOCK_SH => Some(false),
        libc::LOCK_EX => Some(true),
        libc::LOCK_UN => None,
        _ => return fail!(EINVAL),
    };
    let file = cx.file(fd)?;
    let inode = inode_id(&file.inode)?;
    let locks = &cx.kernel.vfs.locks;
    let holder = Arc::as_ptr(&file).addr();
    let Some(exclusive) = exclusive else {
        locks.release_whole(inode, holder);
        return Ok(());
    };
    file.note_locks(locks, inode);
    match locks.take_whole(inode, holder, exclusive) {
        Outcome::Done => Ok(()),
        Outcome::Conflict(..) if operation & libc::LOCK_NB != 0 => fail!(EWOULDBLOCK),
        Outcome::Conflict(wait, _) => Err(wait.into()),
    }
}

/// F_GETLK, F_SETLK, F_SETLKW and their OFD_ kin.
pub(super) fn record_lock(cx: &mut SyscallCx<'_>, fd: Fd, cmd: i32, arg: u64) -> SysResult<u64> {
    let file = &cx.file(fd)?;
    let at: UserRef<Flock> = UserAddr(arg).cast();
    let mut given = cx.memory.read(at)?;
    let ofd = matches!(cmd, F_OFD_GETLK | F_OFD_SETLK | F_OFD_SETLKW);
    if ofd && given.pid != 0 {
        return fail!(EINVAL);
    }
    let wanted = range_of(cx, file, &given, ofd)?;
    let inode = inode_id(&file.inode)?;
    let locks = cx.kernel.vfs.locks.clone();
    if matches!(cmd, libc::F_GETLK | F_OFD_GETLK) {
        let found = match i32::from(given.kind) {
            // F_OFD_GETLK alone takes this for the question what its own file holds.
            libc::F_UNLCK if ofd => locks.own(inode, &wanted),
            libc::F_UNLCK => return fail!(EINVAL),
            _ => locks.conflict(inode, &wanted),
        };
        match found {
            Some(held) => describe(&mut given, &held),
            None => given.kind = lock_kind(libc::F_UNLCK),
        }
        cx.memory.write(at, &given)?;
        return Ok(0);
    }
    // A wait of an earlier run is over.
    cx.state.data = None;
    match i32::from(given.kind) {
        libc::F_UNLCK => {
            locks.release(inode, &wanted);
            return Ok(0);
        }
        libc::F_RDLCK if !file.flags().readable() => return fail!(EBADF),
        libc::F_WRLCK if !file.flags().writable() => return fail!(EBADF),
        _ => {}
    }
    if ofd {
        file.note_locks(&locks, inode);
    } else {
        cx.task.files().note_locks(&locks);
    }
    let waits = matches!(cmd, libc::F_SETLKW | F_OFD_SETLKW);
    match locks.take(inode, wanted) {
        // Closing the descriptor meanwhile may have found nothing to release.
        Outcome::Done if !ofd && !is_open_at(cx, fd, file) => {
            locks.release(inode, &wanted);
            fail!(EBADF)
        }
        Outcome::Done => Ok(0),
        Outcome::Conflict(..) if !waits => fail!(EAGAIN),
        Outcome::Conflict(wait, holder) => {
            if !ofd {
                let waiting: Waiting = locks.wait(wanted.owner, holder)?;
                cx.state.data = Some(Box::new(waiting));
            }
            Err(wait.into())
        }
    }
}

fn is_open_at(cx: &SyscallCx<'_>, fd: Fd, file: &Arc<File>) -> bool {
    cx.task
        .files()
        .get_any(fd)
        .is_ok_and(|now| Arc::ptr_eq(&now, file))
}

fn lock_kind(kind: i32) -> i16 {
    i16::try_from(kind).unwrap_or_default()
}

/// The bytes that a `struct flock` means.
fn range_of(cx: &SyscallCx<'_>, file: &Arc<File>, given: &Flock, ofd: bool) -> Result<RangeLock, Errno> {
    let kind = i32::from(given.kind);
    if !matches!(kind, libc::F_RDLCK | libc::F_WRLCK | libc::F_UNLCK) {
        return Err(Errno::EINVAL);
    }
    let base = match i32::from(given.whence) {
        libc::SEEK_SET => 0,
        libc::SEEK_CUR => *file.pos.lock(),
        libc::SEEK_END => file.inode.metadata()?.size,
        _ => return Err(Errno::EINVAL),
    };
    let start = base
        .cast_signed()
        .checked_add(given.start)
        .ok_or(Errno::EOVERFLOW)?;
    let (first, last) = match given.len {
        0 => (start, i64::MAX),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, start - 1),
    };
    let start = u64::try_from(first).map_err(|_| Errno::EINVAL)?;
    let end = u64::try_from(last).map_err(|_| Errno::EINVAL)?;
    Ok(RangeLock {
        owner: if ofd {
            LockOwner::File(Arc::as_ptr(file).addr())
        } else {
            LockOwner::Table(Arc::as_ptr(&cx.task.files()).addr())
        },
        pid: if ofd { -1 } else { cx.task.pid() },
        exclusive: kind == libc::F_WRLCK,
        start,
        end,
    })
}

/// Tell F_GETLK of a lock.
fn describe(given: &mut Flock, held: &RangeLock) {
    given.kind = lock_kind(if held.exclusive {
        libc::F_WRLCK
    } else {
        libc::F_RDLCK
    });
    given.whence = i16::try_from(libc::SEEK_SET).unwrap_or_default();
    given.start = held.start.cast_signed();
    given.len = match held.end {
        end if end == i64::MAX.cast_unsigned() => 0,
        end => (end - held.start + 1).cast_signed(),
    };
    given.pid = held.pid;
}
