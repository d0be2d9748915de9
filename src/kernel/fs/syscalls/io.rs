//! read(2), write(2) and their family, lseek(2), fsync(2), fallocate(2).

use std::sync::Arc;

use crate::kernel::fs::access::without_suid;
use crate::kernel::fs::grant;
use crate::kernel::fs::inotify::Notice;
use crate::kernel::fs::{Fd, File, FileType, Inode, OpenFlags, SetAttr};
use crate::kernel::mm::forget_unlinked;
use crate::kernel::signal::{self, SigInfo};
use crate::kernel::stop::{Errno, Stop, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::task::pidfd::PidFd;
use crate::kernel::user_memory::{IoVec, MAX_TRANSFER, Sink, Source, UserAddr, UserBuf, UserRef};
use crate::kernel::wait::OnSignal;

/// Where a transfer happens.
#[derive(Clone, Copy)]
pub(super) enum At {
    /// At the file's position, which moves.
    Position,
    /// At an offset of its own.
    Offset(u64),
}

/// RWF_* flags.
pub(super) const RWF_NOWAIT: u32 = 8;
const RWF_APPEND: u32 = 16;
const RWF_DSYNC: u32 = 2;
const RWF_SYNC: u32 = 4;
/// Those that do not change what is read: RWF_HIPRI is a hint.
const RWF_IGNORED: u32 = 1 | RWF_DSYNC | RWF_SYNC;

/// read(2).
pub(super) fn read(cx: &mut SyscallCx<'_>, fd: Fd, buf: UserAddr, count: u64) -> SysResult<usize> {
    let file = readable(cx, fd)?;
    let buf = UserBuf::new(&cx.memory, buf, count)?;
    if count > 0 && grant::hand_over(cx, fd, &file) {
        return Err(Stop::Own(OnSignal::Restart));
    }
    let read = read_from(cx, &file, buf, At::Position, 0)?;
    // Who got less is at the end, and seldom goes on.
    if read as u64 == count && file.ops.seekable() {
        grant::offer(cx, fd, &file, true);
    }
    grant::offer_pipe(cx, fd, &file);
    Ok(read)
}

/// write(2).
pub(super) fn write(cx: &mut SyscallCx<'_>, fd: Fd, buf: UserAddr, count: u64) -> SysResult<usize> {
    let file = writable(cx, fd)?;
    let buf = UserBuf::new(&cx.memory, buf, count)?;
    if count > 0 && grant::hand_over(cx, fd, &file) {
        return Err(Stop::Own(OnSignal::Restart));
    }
    let written = write_to(cx, &file, buf, At::Position, 0)?;
    offer_writing(cx, fd, &file, At::Position, (written, count));
    grant::offer_pipe(cx, fd, &file);
    Ok(written)
}

/// pread(2).
pub(super) fn pread64(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    buf: UserAddr,
    count: u64,
    offset: i64,
) -> SysResult<usize> {
    let at = offset_of(cx, fd, offset)?;
    let file = readable(cx, fd)?;
    let buf = UserBuf::new(&cx.memory, buf, count)?;
    let read = read_from(cx, &file, buf, at, 0)?;
    if read as u64 == count {
        grant::offer(cx, fd, &file, false);
    }
    Ok(read)
}

/// pwrite(2).
pub(super) fn pwrite64(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    buf: UserAddr,
    count: u64,
    offset: i64,
) -> SysResult<usize> {
    let at = offset_of(cx, fd, offset)?;
    let file = writable(cx, fd)?;
    let buf = UserBuf::new(&cx.memory, buf, count)?;
    let written = write_to(cx, &file, buf, at, 0)?;
    offer_writing(cx, fd, &file, at, (written, count));
    Ok(written)
}

/// All that was to be written to a plain file was: let the thread go on by itself, if that pays.
fn offer_writing(cx: &mut SyscallCx<'_>, fd: Fd, file: &Arc<File>, at: At, (written, count): (usize, u64)) {
    if written == 0 || written as u64 != count || !file.ops.seekable() {
        return;
    }
    let (end, at_position) = match at {
        At::Position => (file.pos.get(), true),
        At::Offset(offset) => (offset.saturating_add(count), false),
    };
    grant::offer_writing(cx, fd, file, end, at_position);
}

/// The memory of a vector; none when it is empty in all. Then Linux asks the file for nothing: unlike a write(2) of no bytes,
/// that sends no empty datagram.
fn vector(cx: &SyscallCx<'_>, iov: UserRef<IoVec>, count: u64) -> SysResult<Option<UserBuf>> {
    let buf = UserBuf::from_iovec(&cx.memory, iov, count)?;
    Ok((Source::remaining(&buf) > 0).then_some(buf))
}

/// readv(2).
pub(super) fn readv(cx: &mut SyscallCx<'_>, fd: Fd, iov: UserRef<IoVec>, count: u64) -> SysResult<usize> {
    read_vector(cx, fd, (iov, count), At::Position, 0)
}

/// writev(2).
pub(super) fn writev(cx: &mut SyscallCx<'_>, fd: Fd, iov: UserRef<IoVec>, count: u64) -> SysResult<usize> {
    write_vector(cx, fd, (iov, count), At::Position, 0)
}

/// preadv(2).
pub(super) fn preadv(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    iov: UserRef<IoVec>,
    count: u64,
    offset: i64,
) -> SysResult<usize> {
    let at = offset_of(cx, fd, offset)?;
    read_vector(cx, fd, (iov, count), at, 0)
}

/// pwritev(2).
pub(super) fn pwritev(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    iov: UserRef<IoVec>,
    count: u64,
    offset: i64,
) -> SysResult<usize> {
    let at = offset_of(cx, fd, offset)?;
    write_vector(cx, fd, (iov, count), at, 0)
}

/// preadv2(2).
pub(super) fn preadv2(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    iov: UserRef<IoVec>,
    count: u64,
    offset: i64,
    _offset_high: u64,
    flags: u32,
) -> SysResult<usize> {
    let at = offset_or_position(cx, fd, offset)?;
    read_vector(cx, fd, (iov, count), at, flags)
}

/// pwritev2(2).
pub(super) fn pwritev2(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    iov: UserRef<IoVec>,
    count: u64,
    offset: i64,
    _offset_high: u64,
    flags: u32,
) -> SysResult<usize> {
    let at = offset_or_position(cx, fd, offset)?;
    write_vector(cx, fd, (iov, count), at, flags)
}

/// Reads into a vector and its length, with the RWF_ flags of preadv2(2).
fn read_vector(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    (iov, count): (UserRef<IoVec>, u64),
    at: At,
    flags: u32,
) -> SysResult<usize> {
    let file = readable(cx, fd)?;
    let Some(buf) = vector(cx, iov, count)? else {
        return Ok(0);
    };
    if flags & !(RWF_IGNORED | RWF_NOWAIT) != 0 {
        return fail!(EOPNOTSUPP);
    }
    read_from(cx, &file, buf, at, flags)
}

/// Writes from a vector and its length, with the RWF_ flags of pwritev2(2).
fn write_vector(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    (iov, count): (UserRef<IoVec>, u64),
    mut at: At,
    flags: u32,
) -> SysResult<usize> {
    let file = writable(cx, fd)?;
    let Some(buf) = vector(cx, iov, count)? else {
        return Ok(0);
    };
    if flags & !(RWF_IGNORED | RWF_NOWAIT | RWF_APPEND) != 0 {
        return fail!(EOPNOTSUPP);
    }
    if flags & RWF_APPEND != 0 && file.ops.seekable() {
        at = At::Offset(file.ops.seek(&file, 0, libc::SEEK_END)?);
    }
    let wanted = Source::remaining(&buf) as u64;
    let written = write_to(cx, &file, buf, at, flags)?;
    if flags == 0 {
        offer_writing(cx, fd, &file, at, (written, wanted));
    }
    if flags & (RWF_DSYNC | RWF_SYNC) != 0 && file.ops.seekable() {
        file.ops.sync(&file, flags & RWF_SYNC == 0)?;
    }
    Ok(written)
}

/// The offset of preadv2(2) and pwritev2(2), where -1 means the file's position.
fn offset_or_position(cx: &mut SyscallCx<'_>, fd: Fd, offset: i64) -> SysResult<At> {
    if offset == -1 {
        Ok(At::Position)
    } else {
        offset_of(cx, fd, offset)
    }
}

/// An explicit offset: EINVAL when negative, EBADF, ESPIPE.
fn offset_of(cx: &mut SyscallCx<'_>, fd: Fd, offset: i64) -> SysResult<At> {
    let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    if !cx.file(fd)?.ops.seekable() {
        return fail!(ESPIPE);
    }
    Ok(At::Offset(offset))
}

/// A descriptor's file if it is open for reading; EBADF.
pub(super) fn readable(cx: &mut SyscallCx<'_>, fd: Fd) -> Result<Arc<File>, Errno> {
    let file = cx.file(fd)?;
    if file.flags().readable() {
        Ok(file)
    } else {
        Err(Errno::EBADF)
    }
}

/// A descriptor's file if it is open for writing; EBADF.
pub(super) fn writable(cx: &mut SyscallCx<'_>, fd: Fd) -> Result<Arc<File>, Errno> {
    let file = cx.file(fd)?;
    if file.flags().writable() {
        Ok(file)
    } else {
        Err(Errno::EBADF)
    }
}

/// Run one transfer; what earlier runs of a blocked call have moved is skipped and counted.
fn transfer(
    cx: &mut SyscallCx<'_>,
    file: &File,
    mut buf: UserBuf,
    at: At,
    flags: u32,
    run: impl FnOnce(&File, &mut u64, &mut UserBuf) -> SysResult<usize>,
) -> SysResult<usize> {
    let before = cx.state.progress;
    buf.skip(before);
    let result = match at {
        At::Offset(mut offset) => run(file, &mut offset, &mut buf),
        At::Position if file.ops.seekable() => run(file, &mut file.pos.lock(), &mut buf),
        At::Position => run(file, &mut 0, &mut buf),
    };
    match result {
        Ok(moved) => Ok(before + moved),
        Err(Stop::Block(_)) if flags & RWF_NOWAIT != 0 => match buf.done() {
            0 => fail!(EAGAIN),
            moved => Ok(moved),
        },
        Err(Stop::Block(wait)) => {
            cx.state.progress = buf.done();
            Err(Stop::Block(wait))
        }
        Err(Stop::Errno(..)) if before > 0 => Ok(before),
        Err(stop) => Err(stop),
    }
}

pub(super) fn read_from(
    cx: &mut SyscallCx<'_>,
    file: &Arc<File>,
    buf: UserBuf,
    at: At,
    flags: u32,
) -> SysResult<usize> {
    if let At::Offset(offset) = at {
        check_end(offset, Sink::remaining(&buf))?;
    }
    let moved = transfer(cx, file, buf, at, flags, |file, pos, buf| {
        file.ops.read(file, pos, buf)
    })?;
    if moved > 0 {
        file.happened(Notice::ACCESS);
    }
    Ok(moved)
}

pub(super) fn write_to(
    cx: &mut SyscallCx<'_>,
    file: &Arc<File>,
    mut buf: UserBuf,
    at: At,
    flags: u32,
) -> SysResult<usize> {
    if let At::Offset(offset) = at {
        check_end(offset, Source::remaining(&buf))?;
    }
    let regular = file.inode.file_type() == FileType::Regular && file.path.is_some();
    if regular {
        if Source::remaining(&buf) == 0 {
            return Ok(0);
        }
        let room = room_to_write(cx, file, at)?;
        buf.limit(usize::try_from(room).unwrap_or(usize::MAX));
        drop_privileges(cx, &file.inode)?;
    }
    let kernel = cx.kernel;
    let moved = transfer(cx, file, buf, at, flags, |file, pos, buf| {
        let moved = file.ops.write(file, pos, buf)?;
        if regular && Source::remaining(buf) > 0 && forget_unlinked(kernel) {
            // There may be space for the rest now.
            return Ok(moved + file.ops.write(file, pos, buf).unwrap_or(0));
        }
        Ok(moved)
    })?;
    if moved > 0 {
        file.happened(Notice::MODIFY);
    }
    Ok(moved)
}

/// EINVAL when a transfer would end beyond the largest file position.
fn check_end(offset: u64, len: usize) -> Result<(), Errno> {
    let end = offset.checked_add(len as u64).ok_or(Errno::EINVAL)?;
    if end > i64::MAX as u64 {
        Err(Errno::EINVAL)
    } else {
        Ok(())
    }
}

/// How many bytes RLIMIT_FSIZE lets a write to a regular file have; SIGXFSZ and EFBIG for none.
pub(super) fn room_to_write(cx: &SyscallCx<'_>, file: &File, at: At) -> SysResult<u64> {
    let limit = cx.task.group.soft_limit(libc::RLIMIT_FSIZE);
    if limit == u64::MAX {
        return Ok(MAX_TRANSFER);
    }
    let start = if file.flags().contains(OpenFlags::APPEND) {
        file.inode.metadata()?.size
    } else {
        match at {
            At::Offset(offset) => offset,
            At::Position => *file.pos.lock(),
        }
    };
    match limit.saturating_sub(start) {
        0 => Err(too_big(cx).into()),
        room => Ok(room),
    }
}

/// EFBIG, with the SIGXFSZ that goes with it.
fn too_big(cx: &SyscallCx<'_>) -> Errno {
    // A signal queue that is full changes nothing about the error.
    let _ = signal::send_to_task(cx.task, SigInfo::kernel(libc::SIGXFSZ));
    Errno::EFBIG
}

/// EFBIG and SIGXFSZ when a file would grow to `size` bytes, beyond RLIMIT_FSIZE.
pub(super) fn check_size_limit(cx: &SyscallCx<'_>, inode: &Arc<dyn Inode>, size: u64) -> Result<(), Errno> {
    if size > cx.task.group.soft_limit(libc::RLIMIT_FSIZE) && size > inode.metadata()?.size {
        return Err(too_big(cx));
    }
    Ok(())
}

/// The mode without set-user-id bits that a write by this task leaves, if that is another one.
pub(super) fn mode_after_write(cx: &SyscallCx<'_>, inode: &Arc<dyn Inode>) -> Result<Option<u32>, Errno> {
    if cx.task.creds().capable(Capability::Fsetid) {
        return Ok(None);
    }
    let mode = inode.metadata()?.mode;
    let after = without_suid(mode);
    Ok((after != mode).then_some(after & 0o7777))
}

/// A write is about to take set-user-id bits and capabilities away.
pub(super) fn drop_privileges(cx: &SyscallCx<'_>, inode: &Arc<dyn Inode>) -> SysResult<()> {
    inode.drop_capabilities()?;
    if let Some(mode) = mode_after_write(cx, inode)? {
        inode.set_attr(&SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        })?;
    }
    Ok(())
}

/// lseek(2).
pub(super) fn lseek(cx: &mut SyscallCx<'_>, fd: Fd, offset: i64, whence: i32) -> SysResult<u64> {
    let file = cx.task.files().get(fd)?;
    if !(libc::SEEK_SET..=libc::SEEK_HOLE).contains(&whence) {
        return fail!(EINVAL);
    }
    if file.is_object() && file.ops_as::<PidFd>().is_none() {
        // Linux takes any seek on these and does nothing.
        return Ok(0);
    }
    if !file.ops.seekable() {
        return fail!(ESPIPE);
    }
    if file.ops.stays_at_0() {
        return Ok(0);
    }
    let mut pos = file.pos.lock();
    let to = match whence {
        libc::SEEK_SET => u64::try_from(offset).map_err(|_| Errno::EINVAL)?,
        libc::SEEK_CUR => pos.checked_add_signed(offset).ok_or(Errno::EINVAL)?,
        _ => file.ops.seek(&file, offset, whence)?,
    };
    if to > i64::MAX as u64 {
        return fail!(EINVAL);
    }
    *pos = to;
    drop(pos);
    grant::moved(cx, fd, &file);
    Ok(to)
}

/// fsync(2).
pub(super) fn fsync(cx: &mut SyscallCx<'_>, fd: Fd) -> SysResult<()> {
    let file = cx.task.files().get(fd)?;
    file.ops.sync(&file, false)
}

/// fdatasync(2).
pub(super) fn fdatasync(cx: &mut SyscallCx<'_>, fd: Fd) -> SysResult<()> {
    let file = cx.task.files().get(fd)?;
    file.ops.sync(&file, true)
}

/// sync_file_range(2): the range is widened to the file.
pub(super) fn sync_file_range(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    offset: i64,
    len: i64,
    flags: u32,
) -> SysResult<()> {
    let end = offset.checked_add(len);
    if flags & !7 != 0 || offset < 0 || len < 0 || end.is_none() {
        return fail!(EINVAL);
    }
    let file = cx.task.files().get(fd)?;
    match file.inode.file_type() {
        FileType::Regular | FileType::BlockDevice | FileType::Directory if !file.is_object() => {}
        _ => return fail!(ESPIPE),
    }
    file.ops.sync(&file, true)
}

/// sync(2).
pub(super) fn sync(cx: &mut SyscallCx<'_>) -> SysResult<()> {
    for mount in cx.kernel.vfs.mounts.list() {
        // sync(2) cannot fail.
        let _ = mount.fs.sync();
    }
    Ok(())
}

/// syncfs(2).
pub(super) fn syncfs(cx: &mut SyscallCx<'_>, fd: Fd) -> SysResult<()> {
    Ok(cx.task.files().get(fd)?.inode.fs().sync()?)
}

/// posix_fadvise(2): advice is checked and otherwise left to the host.
pub(super) fn fadvise64(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    _offset: i64,
    len: i64,
    advice: i32,
) -> SysResult<()> {
    let file = cx.task.files().get(fd)?;
    if file.inode.file_type() == FileType::Fifo {
        return fail!(ESPIPE);
    }
    if len < 0 || !(libc::POSIX_FADV_NORMAL..=libc::POSIX_FADV_NOREUSE).contains(&advice) {
        return fail!(EINVAL);
    }
    Ok(())
}

/// readahead(2): the host reads ahead by itself.
pub(super) fn readahead(cx: &mut SyscallCx<'_>, fd: Fd, offset: i64, _count: u64) -> SysResult<()> {
    let file = readable(cx, fd)?;
    if file.inode.file_type() != FileType::Regular || file.is_object() || offset < 0 {
        return fail!(EINVAL);
    }
    Ok(())
}

/// fallocate(2).
pub(super) fn fallocate(cx: &mut SyscallCx<'_>, fd: Fd, mode: i32, offset: i64, len: i64) -> SysResult<()> {
    const KEEP_SIZE: i32 = 1;
    const PUNCH_HOLE: i32 = 2;
    const COLLAPSE: i32 = 8;
    const ZERO: i32 = 16;
    const INSERT: i32 = 32;
    const UNSHARE: i32 = 64;
    let file = cx.file(fd)?;
    let (Ok(start), Ok(length)) = (u64::try_from(offset), u64::try_from(len)) else {
        return fail!(EINVAL);
    };
    if length == 0 {
        return fail!(EINVAL);
    }
    let keeps_size = mode & KEEP_SIZE != 0;
    let known = match mode & !KEEP_SIZE {
        0 | ZERO | UNSHARE => true,
        PUNCH_HOLE => keeps_size,
        COLLAPSE | INSERT => !keeps_size,
        _ => false,
    };
    if !known {
        return fail!(EOPNOTSUPP);
    }
    if !file.flags().writable() {
        return fail!(EBADF);
    }
    match file.inode.file_type() {
        FileType::Regular | FileType::BlockDevice => {}
        FileType::Fifo => return fail!(ESPIPE),
        FileType::Directory => return fail!(EISDIR),
        _ => return fail!(ENODEV),
    }
    let end = start.saturating_add(length);
    if end > i64::MAX as u64 {
        return fail!(EFBIG);
    }
    if file.inode.file_type() == FileType::Regular {
        if mode & (KEEP_SIZE | PUNCH_HOLE) == 0 {
            check_size_limit(cx, &file.inode, end)?;
        }
        drop_privileges(cx, &file.inode)?;
    }
    cx.in_steps(length, |done| {
        file.ops.allocate(&file, mode, start + done, length - done)
    })?;
    file.happened(Notice::MODIFY);
    Ok(())
}
