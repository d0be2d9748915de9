//! Pipes and FIFOs: pipe(7), fifo(7).
//!
//! A [`Pipe`] is a bounded byte queue with counted ends. An anonymous pipe has two [`PipeEnd`]s from the start; the ends of a
//! FIFO are opened one by one on the pipe that the FIFO's inode stands for. While a pipe is [`hosted`], its bytes are with the host.

use std::collections::VecDeque;
use std::sync::Arc;

use self::hosted::{History, Hosted};
use super::{AnonKind, File, FileOps, OpenFlags, Ticket};
use crate::kernel::signal::{self, SigInfo};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, LockGuard, Rank, lock_two};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, Creds, current};
use crate::kernel::user_memory::{Sink, Source, UserAddr, UserRef};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};
use crate::platform::HostFile;

mod fifo;
mod hosted;
#[cfg(test)]
mod tests;

pub use fifo::Fifos;
pub use hosted::HostPipes;

/// Writes up to this many bytes are never split (PIPE_BUF).
pub const PIPE_BUF: usize = 4096;

/// Bytes a new pipe holds.
const DEFAULT_CAPACITY: usize = 64 << 10;

/// Most bytes F_SETPIPE_SZ allows (/proc/sys/fs/pipe-max-size).
pub const MAX_CAPACITY: usize = 1 << 20;

/// A pipe: what its ends share.
pub struct Pipe {
    turn: Lock<()>,
    state: Lock<State>,
    queue: WaitQueue,
}

struct State {
    data: VecDeque<u8>,
    /// How `data` is cut: lengths, and whether each is a packet (O_DIRECT) or plain bytes, which are never cut further.
    segments: VecDeque<(usize, bool)>,
    capacity: usize,
    readers: usize,
    writers: usize,
    /// How often an end was opened, ever: what opening the other end of a FIFO waits for.
    reader_opens: u64,
    writer_opens: u64,
    /// Where the bytes are, behind those in `data`, if not there.
    hosted: Option<Box<Hosted>>,
    history: History,
}

impl State {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.data.len())
    }

    /// Note `count` bytes that were appended.
    fn added(&mut self, count: usize, packet: bool) {
        match self.segments.back_mut() {
            Some((length, false)) if !packet => *length += count,
            _ if count > 0 => self.segments.push_back((count, packet)),
            _ => {}
        }
    }

    /// Drop the first `count` bytes.
    fn remove(&mut self, count: usize) {
        let mut left = count.min(self.data.len());
        self.data.drain(..left);
        while left > 0
            && let Some((length, _)) = self.segments.front_mut()
        {
            let part = left.min(*length);
            *length -= part;
            left -= part;
            if *length == 0 {
                self.segments.pop_front();
            }
        }
    }
}

impl Pipe {
    fn new() -> Arc<Pipe> {
        Arc::new(Pipe {
            turn: Lock::new(Rank::Turn, ()),
            state: Lock::new(
                Rank::Object,
                State {
                    data: VecDeque::new(),
                    segments: VecDeque::new(),
                    capacity: DEFAULT_CAPACITY,
                    readers: 0,
                    writers: 0,
                    reader_opens: 0,
                    writer_opens: 0,
                    hosted: None,
                    history: History::default(),
                },
            ),
            queue: WaitQueue::new(),
        })
    }

    /// The pipe behind an open file, if it is one.
    pub fn of(file: &File) -> Option<&Arc<Pipe>> {
        file.ops_as::<PipeEnd>().map(|end| &end.pipe)
    }

    /// Open an end, or both for O_RDWR; also how many have the other end open, and how often it was opened, ever.
    fn open(self: &Arc<Self>, flags: OpenFlags) -> (PipeEnd, usize, u64) {
        let (reads, writes) = (flags.readable(), flags.writable());
        let mut state = self.state.lock();
        state.readers += usize::from(reads);
        state.reader_opens += u64::from(reads);
        state.writers += usize::from(writes);
        state.writer_opens += u64::from(writes);
        let (present, partners) = if reads {
            (state.writers, state.writer_opens)
        } else {
            (state.readers, state.reader_opens)
        };
        drop(state);
        self.queue.notify(Events::empty());
        let end = PipeEnd {
            pipe: self.clone(),
            reads,
            writes,
            quiet_until_writer: None,
        };
        (end, present, partners)
    }

    /// Bytes waiting to be read.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.data.len() + state.len_hosted()
    }

    /// Whether nothing waits to be read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Have all others wait who move bytes.
    pub fn turn(&self) -> Turn<'_> {
        Turn {
            pipe: self,
            _held: self.turn.lock(),
        }
    }

    /// F_GETPIPE_SZ.
    pub fn capacity(&self) -> usize {
        self.state.lock().capacity
    }

    /// F_SETPIPE_SZ: the capacity it got, in whole pages by powers of two. EPERM above the limit, EBUSY when what is in
    /// it would not fit.
    pub fn set_capacity(&self, wanted: u64, creds: &Creds) -> Result<usize, Errno> {
        let wanted = usize::try_from(wanted).map_err(|_| Errno::EINVAL)?;
        if wanted > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let capacity = wanted.max(PIPE_BUF).next_power_of_two();
        if capacity > MAX_CAPACITY {
            // Even CAP_SYS_RESOURCE does not get more here: the memory is the supervisor's.
            let refused = if creds.capable(Capability::SysResource) {
                Errno::ENOMEM
            } else {
                Errno::EPERM
            };
            return Err(refused);
        }
        let mut state = self.state.lock();
        if state.data.len() > capacity {
            return Err(Errno::EBUSY);
        }
        state.capacity = capacity;
        drop(state);
        self.queue.notify(Events::WRITE);
        Ok(capacity)
    }

    /// Move (`take`) or copy up to `max` bytes to another pipe without waiting: splice(2) and tee(2) between pipes.
    /// EINVAL for the same pipe; EPIPE when nobody can read `to`. 0 means that `self` is empty and has no writers left.
    pub fn transfer(&self, to: &Pipe, max: usize, take: bool) -> SysResult<usize> {
        if std::ptr::eq(self, to) {
            return fail!(EINVAL);
        }
        let _turns = lock_two(&self.turn, &to.turn);
        let (mut source, mut target) = lock_two(&self.state, &to.state);
        if target.readers == 0 {
            drop((source, target));
            return Err(broken_pipe().into());
        }
        if max == 0 {
            return Ok(0);
        }
        if source.data.is_empty() {
            if source.writers == 0 {
                return Ok(0);
            }
            return Err(WaitFor::queue(&self.queue, Events::READ).into());
        }
        if target.room() == 0 {
            return Err(WaitFor::queue(&to.queue, Events::WRITE).into());
        }
        let room_before = source.room();
        let count = max.min(source.data.len()).min(target.room());
        target.data.extend(source.data.iter().take(count));
        target.added(count, false);
        if take {
            source.remove(count);
        }
        drop((source, target));
        to.queue.notify(Events::READ);
        if take {
            self.made_room(room_before);
        }
        Ok(count)
    }

    /// Tell writers about new room. Nobody waits for it while there is room for an atomic write.
    fn made_room(&self, room_before: usize) {
        if room_before < PIPE_BUF {
            self.queue.notify(Events::WRITE);
        }
    }

    fn read(&self, nonblocking: bool, to: &mut dyn Sink) -> SysResult<usize> {
        if to.remaining() == 0 {
            return Ok(0);
        }
        let _turn = self.turn.lock();
        let mut state = self.state.lock();
        state.settle(&self.queue);
        if state.data.is_empty() && state.is_hosted() {
            let read = state.read_hosted(to);
            if !matches!(read, Ok(0)) {
                if !state.data.is_empty() {
                    // What could not be given goes first, and so by the kernel alone.
                    state.take_back(&self.queue);
                }
                drop(state);
                self.queue.notify(Events::WRITE);
                return Ok(read?);
            }
            let waits = !nonblocking || state.writers == 0;
            if waits && !state.take_back(&self.queue) {
                return Err(state.until_back(&self.queue, Events::READ).into());
            }
        }
        if state.data.is_empty() {
            if state.writers == 0 {
                return Ok(0);
            }
            if nonblocking {
                return fail!(EAGAIN);
            }
            return Err(WaitFor::queue(&self.queue, Events::READ).into());
        }
        let room_before = state.room();
        let &(length, packet) = state.segments.front().unwrap_or(&(state.data.len(), false));
        let mut moved = 0;
        let (first, second) = state.data.as_slices();
        for part in [first, second] {
            let want = part.len().min(to.remaining()).min(length - moved);
            if want == 0 {
                continue;
            }
            match to.put(&part[..want]) {
                Ok(put) => moved += put,
                Err(_) if moved > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        // What of a packet did not fit is lost.
        state.remove(if packet { length } else { moved });
        drop(state);
        self.made_room(room_before);
        Ok(moved)
    }

    fn write(&self, nonblocking: bool, packets: bool, from: &mut dyn Source) -> SysResult<usize> {
        let _turn = self.turn.lock();
        self.append(nonblocking, packets, from)
    }

    fn append(&self, nonblocking: bool, packets: bool, from: &mut dyn Source) -> SysResult<usize> {
        let wanted = from.remaining();
        if wanted == 0 {
            return Ok(0);
        }
        let mut state = self.state.lock();
        state.settle(&self.queue);
        if state.readers == 0 {
            drop(state);
            return Err(broken_pipe().into());
        }
        let (mut moved, mut memory_ended) = (0, false);
        if packets {
            state.make_unfit();
        } else {
            (moved, memory_ended) = state.write_hosted(from)?;
        }
        let waits = moved < wanted && !memory_ended && (packets || !nonblocking);
        if state.is_hosted() && waits && !state.take_back(&self.queue) {
            if moved > 0 {
                self.queue.notify(Events::READ);
            }
            return if nonblocking {
                fail!(EAGAIN)
            } else {
                Err(state.until_back(&self.queue, Events::WRITE).into())
            };
        }
        while moved < wanted && !state.is_hosted() && !memory_ended {
            let left = wanted - moved;
            // Atomic when it is short, or a packet.
            let most = if packets { left.min(PIPE_BUF) } else { left };
            let least = if packets || wanted <= PIPE_BUF { most } else { 1 };
            if state.room() < least {
                break;
            }
            let count = most.min(state.room());
            let filled = match fill(&mut state.data, count, from) {
                Err(_) if moved > 0 => break,
                filled => filled?,
            };
            state.added(filled, packets);
            moved += filled;
            memory_ended = filled < count;
        }
        if moved == 0 && nonblocking {
            return fail!(EAGAIN);
        }
        // Made under the lock: a reader that comes now is seen.
        let wait = (moved < wanted && !memory_ended && !nonblocking)
            .then(|| WaitFor::queue(&self.queue, Events::WRITE));
        drop(state);
        if moved > 0 {
            self.queue.notify(Events::READ);
        }
        match wait {
            Some(wait) => Err(wait.into()),
            None => Ok(moved),
        }
    }
}

/// The right to move bytes from or to a pipe, which must have been [reclaimed](Pipe::reclaim): nobody else does meanwhile.
pub struct Turn<'a> {
    pipe: &'a Pipe,
    _held: LockGuard<'a, ()>,
}

impl Turn<'_> {
    /// Bytes that can be written without waiting.
    pub fn room(&self) -> usize {
        self.pipe.state.lock().room()
    }

    /// Copy up to `max` bytes without taking them.
    pub fn peek(&self, max: usize) -> Vec<u8> {
        let state = self.pipe.state.lock();
        state.data.iter().take(max).copied().collect()
    }

    /// Drop the first `count` bytes, which a [`Turn::peek`] has moved elsewhere.
    pub fn consume(&self, count: usize) {
        let mut state = self.pipe.state.lock();
        let before = state.room();
        state.remove(count);
        drop(state);
        self.pipe.made_room(before);
    }

    /// Write by this end of the pipe.
    pub fn write(&self, end: &File, from: &mut dyn Source) -> SysResult<usize> {
        let packets = end.flags().contains(OpenFlags::DIRECT);
        self.pipe.append(end.nonblocking(), packets, from)
    }
}

/// EPIPE, with the SIGPIPE that goes with it. Call it with no lock held.
pub(crate) fn broken_pipe() -> Errno {
    if let Some(task) = current() {
        let info = SigInfo::user(libc::SIGPIPE, task.pid(), task.creds().uid);
        // A signal queue that is full changes nothing about the error.
        let _ = signal::send_to_task(&task, info);
    }
    Errno::EPIPE
}

/// Append `count` bytes of `from`, or as many as can be had; EFAULT for none.
fn fill(data: &mut VecDeque<u8>, count: usize, from: &mut dyn Source) -> Result<usize, Errno> {
    const ZEROES: [u8; PIPE_BUF] = [0; PIPE_BUF];
    let old = data.len();
    // By slices: resizing goes byte by byte where nothing is optimised, as in tests.
    while data.len() < old + count {
        data.extend(&ZEROES[..PIPE_BUF.min(old + count - data.len())]);
    }
    let mut moved = 0;
    let (first, second) = data.as_mut_slices();
    let in_first = old.min(first.len());
    let in_second = old - in_first;
    let mut failed = None;
    for part in [&mut first[in_first..], &mut second[in_second..]] {
        if part.is_empty() {
            continue;
        }
        let want = part.len();
        match from.take(part) {
            Ok(taken) => {
                moved += taken;
                if taken < want {
                    break;
                }
            }
            Err(errno) => {
                failed = Some(errno);
                break;
            }
        }
    }
    data.truncate(old + moved);
    match failed {
        Some(errno) if moved == 0 => Err(errno),
        _ => Ok(moved),
    }
}

/// One end of a pipe (or both, for a FIFO opened O_RDWR): the operations of an open file.
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    reads: bool,
    writes: bool,
    /// A FIFO's reading end opened without waiting shows no hang-up before a first writer has come: the number of writers
    /// there had been.
    quiet_until_writer: Option<u64>,
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        state.readers -= usize::from(self.reads);
        state.writers -= usize::from(self.writes);
        let (no_readers, no_writers) = (state.readers == 0, state.writers == 0);
        if no_readers || no_writers {
            // Who waits by itself is to see that. Whether others have the host's ends means nothing.
            state.take_back(&self.pipe.queue);
        }
        drop(state);
        if self.reads && no_readers {
            self.pipe.queue.notify(Events::ERR | Events::WRITE);
        }
        if self.writes && no_writers {
            self.pipe.queue.notify(Events::HUP | Events::READ);
        }
    }
}

impl FileOps for PipeEnd {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        self.pipe.read(file.nonblocking(), to)
    }

    /// A write that moved only a part of what is offered and has to wait blocks with `from` stepped over that part.
    fn write(&self, file: &File, _: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let packets = file.flags().contains(OpenFlags::DIRECT);
        self.pipe.write(file.nonblocking(), packets, from)
    }

    fn poll(&self, _: &File) -> Events {
        let state = self.pipe.state.lock();
        let mut events = Events::empty();
        if self.reads {
            if !state.data.is_empty() || state.len_hosted() > 0 {
                events |= Events::READ;
            }
            if state.writers == 0 && self.quiet_until_writer != Some(state.writer_opens) {
                events |= Events::HUP;
            }
        }
        if self.writes {
            let has_room = state.has_room_hosted();
            if has_room.unwrap_or_else(|| state.room() >= PIPE_BUF) {
                events |= Events::WRITE;
            }
            if state.readers == 0 {
                events |= Events::ERR;
            }
        }
        events
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        let mut state = self.pipe.state.lock();
        state.make_unfit();
        state.take_back(&self.pipe.queue);
        drop(state);
        vec![(self.pipe.queue.clone(), interest)]
    }

    fn lend(&self, file: &File, ticket: &Arc<Ticket>) -> Option<Arc<HostFile>> {
        let plain = file.path.is_none() && !file.flags().contains(OpenFlags::DIRECT);
        if !plain || self.reads && self.writes {
            return None;
        }
        self.pipe.lend(self.reads, !file.nonblocking(), ticket)
    }

    fn ioctl(&self, cx: &mut SyscallCx<'_>, _: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        if u64::from(request) != libc::FIONREAD {
            return fail!(ENOTTY);
        }
        let waiting = i32::try_from(self.pipe.len()).unwrap_or(i32::MAX);
        cx.memory.write(UserAddr(arg).cast(), &waiting)?;
        Ok(0)
    }
}

/// A new pipe's reading and writing end.
fn pair() -> (PipeEnd, PipeEnd) {
    let pipe = Pipe::new();
    (pipe.open(OpenFlags::empty()).0, pipe.open(OpenFlags::WRONLY).0)
}

/// pipe(2).
pub(crate) fn pipe(cx: &mut SyscallCx<'_>, fds: UserRef<[i32; 2]>) -> SysResult<()> {
    pipe2(cx, fds, 0)
}

/// pipe2(2).
pub(crate) fn pipe2(cx: &mut SyscallCx<'_>, fds: UserRef<[i32; 2]>, flags: u32) -> SysResult<()> {
    let flags = OpenFlags::from_bits_retain(flags);
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT).contains(flags) {
        return fail!(EINVAL);
    }
    let (reading, writing) = pair();
    let anon = &cx.kernel.vfs.anon;
    let object = reading.pipe.clone();
    let inode = anon.inode(&cx.kernel.clock, &cx.task.creds(), AnonKind::Pipe, Some(object));
    let keep = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let reading = anon.file_of(&inode, Arc::new(reading), keep);
    let writing = anon.file_of(&inode, Arc::new(writing), keep | OpenFlags::WRONLY);
    install_pair(cx, [reading, writing], flags.contains(OpenFlags::CLOEXEC), fds)
}

/// Give both files numbers and tell the guest; on failure neither stays.
pub(crate) fn install_pair(
    cx: &mut SyscallCx<'_>,
    files: [Arc<File>; 2],
    close_on_exec: bool,
    to: UserRef<[i32; 2]>,
) -> SysResult<()> {
    let table = cx.task.files();
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    let [one, two] = files;
    let first = table.insert(one, close_on_exec, 0, limit)?;
    let second = match table.insert(two, close_on_exec, 0, limit) {
        Ok(second) => second,
        Err(errno) => {
            let _ = table.remove(first);
            return Err(errno.into());
        }
    };
    if let Err(errno) = cx.memory.write(to, &[first.0, second.0]) {
        let _ = (table.remove(first), table.remove(second));
        return Err(errno.into());
    }
    Ok(())
}
