//! Transfers between descriptors: sendfile(2), copy_file_range(2), splice(2), tee(2), vmsplice(2).

use std::sync::Arc;

use super::inode_id;
use super::io::{At, RWF_NOWAIT, drop_privileges, read_from, readable, room_to_write, writable, write_to};
use crate::kernel::fs::inotify::Notice;
use crate::kernel::fs::pipe::Pipe;
use crate::kernel::fs::{Fd, File, FileType, OpenFlags};
use crate::kernel::stop::{Errno, Stop, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{IoVec, KernelSink, KernelSource, MAX_TRANSFER, Source, UserBuf, UserRef};
use crate::kernel::wait::{Events, WaitFor};

/// How much is on its way at once, in bytes.
const CHUNK: usize = 64 << 10;

const SPLICE_NONBLOCK: u32 = 2;
const SPLICE_FLAGS: u32 = 15;

/// A file and where in it a transfer is: at an offset that the guest gave, or at the file's position.
struct Place {
    file: Arc<File>,
    offset: Option<u64>,
}

impl Place {
    /// `offset` is read from guest memory when the guest gave one.
    fn new(cx: &SyscallCx<'_>, file: Arc<File>, offset: UserRef<i64>) -> SysResult<Place> {
        let offset = match offset.non_null() {
            None => None,
            Some(at) => Some(u64::try_from(cx.memory.read(at)?).map_err(|_| Errno::EINVAL)?),
        };
        Ok(Place { file, offset })
    }

    fn is_regular(&self) -> bool {
        self.file.inode.file_type() == FileType::Regular && self.file.path.is_some()
    }

    fn position(&self) -> u64 {
        match self.offset {
            Some(offset) => offset,
            None if self.file.ops.seekable() => *self.file.pos.lock(),
            None => 0,
        }
    }

    fn advance(&mut self, by: usize) {
        match &mut self.offset {
            Some(offset) => *offset = offset.saturating_add(by as u64),
            None if self.file.ops.seekable() => {
                let mut pos = self.file.pos.lock();
                *pos = pos.saturating_add(by as u64);
            }
            None => {}
        }
    }

    /// Tell the guest where its offset has come to.
    fn finish(&self, cx: &SyscallCx<'_>, at: UserRef<i64>) -> SysResult<()> {
        if let (Some(offset), Some(at)) = (self.offset, at.non_null()) {
            cx.memory.write(at, &offset.cast_signed())?;
        }
        Ok(())
    }

    /// Up to `max` bytes at the place, which is not moved.
    fn read(&self, max: usize) -> SysResult<Vec<u8>> {
        let mut sink = KernelSink::new(max);
        self.file.ops.read(&self.file, &mut self.position(), &mut sink)?;
        Ok(sink.bytes)
    }

    /// Write at the place and move it: how many bytes went, and why not more.
    fn write(&mut self, cx: &SyscallCx<'_>, bytes: &[u8]) -> (usize, SysResult<()>) {
        if self.is_regular()
            && let Err(stop) = drop_privileges(cx, &self.file.inode)
        {
            return (0, Err(stop));
        }
        let mut source = KernelSource::new(bytes);
        let result = self.file.ops.write(&self.file, &mut self.position(), &mut source);
        let written = bytes.len() - source.remaining();
        self.advance(written);
        (written, result.map(|_| ()))
    }
}

/// Bytes have gone from one file to another: who watches them hears of it.
fn tell(from: &File, to: &File, moved: usize) {
    if moved > 0 {
        from.happened(Notice::ACCESS);
        to.happened(Notice::MODIFY);
    }
}

/// Move bytes from a seekable file until `len` of them, the end of the file, or the output says stop.
fn pump(cx: &mut SyscallCx<'_>, from: &mut Place, to: &mut Place, len: usize) -> SysResult<usize> {
    let mut moved = cx.state.progress;
    while moved < len {
        let bytes = match from.read((len - moved).min(CHUNK)) {
            Ok(bytes) => bytes,
            Err(_) if moved > 0 => break,
            Err(stop) => return Err(stop),
        };
        if bytes.is_empty() {
            break;
        }
        let (written, result) = to.write(cx, &bytes);
        from.advance(written);
        moved += written;
        match result {
            Ok(()) if written == bytes.len() => {}
            Ok(()) => break,
            Err(Stop::Block(wait)) => {
                cx.state.progress = moved;
                return Err(Stop::Block(wait));
            }
            Err(_) if moved > 0 => break,
            Err(stop) => return Err(stop),
        }
    }
    tell(&from.file, &to.file, moved);
    Ok(moved)
}

/// RLIMIT_FSIZE's say on how much goes into a file.
fn limited(cx: &SyscallCx<'_>, to: &Place, len: usize) -> SysResult<usize> {
    if to.file.inode.file_type() != FileType::Regular || len == 0 {
        return Ok(len);
    }
    let at = to.offset.map_or(At::Position, At::Offset);
    let room = room_to_write(cx, &to.file, at)?;
    Ok(len.min(usize::try_from(room).unwrap_or(usize::MAX)))
}

fn cut(len: u64) -> usize {
    usize::try_from(len.min(MAX_TRANSFER)).unwrap_or_default()
}

/// sendfile(2).
pub(super) fn sendfile(
    cx: &mut SyscallCx<'_>,
    out: Fd,
    input: Fd,
    offset: UserRef<i64>,
    count: u64,
) -> SysResult<usize> {
    let file = readable(cx, input)?;
    let mut from = Place::new(cx, file, offset)?;
    if !from.file.ops.seekable() && !offset.is_null() {
        return fail!(ESPIPE);
    }
    let mut to = Place {
        file: writable(cx, out)?,
        offset: None,
    };
    if !from.file.ops.seekable() || from.file.inode.file_type() == FileType::Directory {
        return fail!(EINVAL);
    }
    if to.file.flags().contains(OpenFlags::APPEND) {
        return fail!(EINVAL);
    }
    if let Some(start) = &mut from.offset {
        // An earlier run of the call has come this far; the guest hears of it at the end.
        *start = start.saturating_add(cx.state.progress as u64);
    }
    let len = limited(cx, &to, cut(count))?;
    let moved = pump(cx, &mut from, &mut to, len)?;
    from.finish(cx, offset)?;
    Ok(moved)
}

/// copy_file_range(2).
pub(super) fn copy_file_range(
    cx: &mut SyscallCx<'_>,
    input: Fd,
    off_in: UserRef<i64>,
    out: Fd,
    off_out: UserRef<i64>,
    len: u64,
    flags: u32,
) -> SysResult<usize> {
    let (source, target) = (cx.task.files().get(input)?, cx.task.files().get(out)?);
    let mut from = Place::new(cx, source, off_in)?;
    let mut to = Place::new(cx, target, off_out)?;
    if flags != 0 {
        return fail!(EINVAL);
    }
    for place in [&from, &to] {
        match place.file.inode.file_type() {
            FileType::Regular if !place.file.is_object() => {}
            FileType::Directory => return fail!(EISDIR),
            _ => return fail!(EINVAL),
        }
    }
    let appends = to.file.flags().contains(OpenFlags::APPEND);
    if !from.file.flags().readable() || !to.file.flags().writable() || appends {
        return fail!(EBADF);
    }
    let (start, target) = (from.position(), to.position());
    if start.checked_add(len).is_none() || target.checked_add(len).is_none() {
        return fail!(EOVERFLOW);
    }
    let len = len.min(from.file.inode.metadata()?.size.saturating_sub(start));
    let overlap = start < target.saturating_add(len) && target < start.saturating_add(len);
    if overlap && inode_id(&from.file.inode)? == inode_id(&to.file.inode)? {
        return fail!(EINVAL);
    }
    let len = cut(len);
    let len = limited(cx, &to, len)?;
    let moved = pump(cx, &mut from, &mut to, len)?;
    from.finish(cx, off_in)?;
    to.finish(cx, off_out)?;
    Ok(moved)
}

/// Unless `file` is ready for `events` (or has an error or hang-up), wait for it.
fn wait_ready(file: &File, events: Events) -> SysResult<()> {
    let queues = file.ops.queues(file, events);
    let wait = queues.iter().fold(WaitFor::default(), |wait, (queue, events)| {
        wait.and(queue, *events)
    });
    if file.poll().intersects(events | Events::ERR | Events::HUP) {
        return Ok(());
    }
    Err(wait.into())
}

/// EAGAIN instead of a wait when the call must not wait.
fn unless_blocking<T>(result: SysResult<T>, nonblocking: bool) -> SysResult<T> {
    match result {
        Err(Stop::Block(_)) if nonblocking => fail!(EAGAIN),
        result => result,
    }
}

/// splice(2).
pub(super) fn splice(
    cx: &mut SyscallCx<'_>,
    input: Fd,
    off_in: UserRef<i64>,
    out: Fd,
    off_out: UserRef<i64>,
    len: u64,
    flags: u32,
) -> SysResult<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return fail!(EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (source, target) = (readable(cx, input)?, writable(cx, out)?);
    let (pipe_in, pipe_out) = (Pipe::of(&source).cloned(), Pipe::of(&target).cloned());
    if pipe_in.is_some() && !off_in.is_null() || pipe_out.is_some() && !off_out.is_null() {
        return fail!(ESPIPE);
    }
    for (offset, file) in [(off_in, &source), (off_out, &target)] {
        if !offset.is_null() && !file.ops.seekable() {
            return fail!(EINVAL);
        }
    }
    let asked = flags & SPLICE_NONBLOCK != 0;
    let nonblocking =
        asked || pipe_in.is_some() && source.nonblocking() || pipe_out.is_some() && target.nonblocking();
    for pipe in pipe_in.iter().chain(&pipe_out) {
        unless_blocking(pipe.reclaim(), nonblocking)?;
    }
    let mut from = Place::new(cx, source, off_in)?;
    let mut to = Place::new(cx, target, off_out)?;
    let len = cut(len);
    let result = match (pipe_in, pipe_out) {
        (None, None) => return fail!(EINVAL),
        (Some(a), Some(b)) => a.transfer(&b, len, true),
        (Some(pipe), None) => out_of_pipe(cx, &pipe, &from.file, &mut to, len),
        (None, Some(pipe)) => into_pipe(&mut from, &pipe, &to.file, len),
    };
    let moved = unless_blocking(result, nonblocking)?;
    tell(&from.file, &to.file, moved);
    from.finish(cx, off_in)?;
    to.finish(cx, off_out)?;
    Ok(moved)
}

fn out_of_pipe(cx: &SyscallCx<'_>, pipe: &Pipe, file: &File, to: &mut Place, len: usize) -> SysResult<usize> {
    if to.file.flags().contains(OpenFlags::APPEND) {
        return fail!(EINVAL);
    }
    let len = limited(cx, to, len)?;
    let turn = pipe.turn();
    wait_ready(file, Events::READ)?;
    let bytes = turn.peek(len);
    if bytes.is_empty() {
        return Ok(0);
    }
    let (written, result) = to.write(cx, &bytes);
    turn.consume(written);
    if written > 0 {
        Ok(written)
    } else {
        result.map(|()| 0)
    }
}

fn into_pipe(from: &mut Place, pipe: &Pipe, file: &File, len: usize) -> SysResult<usize> {
    let turn = pipe.turn();
    wait_ready(file, Events::WRITE)?;
    let room = turn.room().min(len);
    if room == 0 {
        return fail!(EPIPE);
    }
    let bytes = from.read(room)?;
    if bytes.is_empty() {
        return Ok(0);
    }
    let mut source = KernelSource::new(&bytes);
    let result = turn.write(file, &mut source);
    let written = bytes.len() - source.remaining();
    from.advance(written);
    if written > 0 { Ok(written) } else { result }
}

/// tee(2).
pub(super) fn tee(cx: &mut SyscallCx<'_>, input: Fd, out: Fd, len: u64, flags: u32) -> SysResult<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return fail!(EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    let (source, target) = (readable(cx, input)?, writable(cx, out)?);
    let (Some(from), Some(to)) = (Pipe::of(&source), Pipe::of(&target)) else {
        return fail!(EINVAL);
    };
    let nonblocking = flags & SPLICE_NONBLOCK != 0 || source.nonblocking() || target.nonblocking();
    for pipe in [from, to] {
        unless_blocking(pipe.reclaim(), nonblocking)?;
    }
    let copied = unless_blocking(from.transfer(to, cut(len), false), nonblocking)?;
    tell(&source, &target, copied);
    Ok(copied)
}

/// vmsplice(2): the pages are copied, which a caller that leaves them alone cannot tell.
pub(super) fn vmsplice(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    iov: UserRef<IoVec>,
    count: u64,
    flags: u32,
) -> SysResult<usize> {
    if flags & !SPLICE_FLAGS != 0 {
        return fail!(EINVAL);
    }
    let file = cx.task.files().get(fd)?;
    if Pipe::of(&file).is_none() {
        return fail!(EBADF);
    }
    let buf = UserBuf::from_iovec(&cx.memory, iov, count)?;
    let rwf = if flags & SPLICE_NONBLOCK != 0 {
        RWF_NOWAIT
    } else {
        0
    };
    if file.flags().writable() {
        write_to(cx, &file, buf, At::Position, rwf)
    } else {
        read_from(cx, &file, buf, At::Position, rwf)
    }
}
