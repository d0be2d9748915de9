//! Hosted pipes: their bytes are in a pipe of the host's, of which guest threads are granted the ends.
//!
//! A pipe that sees many calls is hosted, so that threads read and write it, and wait for each other, without the kernel. The
//! kernel's own calls on it never wait: they move what can be moved at once. As soon as anything else is wanted of it (somebody is to
//! wait for it here or polls it, the last reader or writer goes, splice(2)) it is *taken back*: all grants end, those in a call are
//! interrupted, and when no thread can be in one any more the bytes come over. Until then the pipe is *ending*, and its bytes stay
//! where they are; a pipe that is taken back often is hosted no more. Who has an end is what [`State`] counts, never the host.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{pipe2, read, write};

use super::{DEFAULT_CAPACITY, Pipe, State};
use crate::kernel::fs::Ticket;
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::task::current;
use crate::kernel::time::Instant;
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};
use crate::platform::HostFile;

/// Calls by the kernel after which hosting a pipe pays, if there are as many more.
const CALLS: u32 = 16;

/// Pipes that were taken back so often are not hosted again; each time it takes four times as many calls.
const TIRED: u32 = 3;

/// Pipes hosted at a time: they take the supervisor's descriptors and the host's memory for pipes.
const MOST_PIPES: usize = 64;

/// Threads that can use one.
const MOST_USERS: usize = 16;

/// How long a thread that was interrupted may go on before its process is killed, in nanoseconds.
const PATIENCE: u64 = 20_000_000_000;

/// How many pipes are hosted.
#[derive(Clone, Default)]
pub struct HostPipes(Arc<AtomicUsize>);

/// What is remembered of a pipe to decide whether to host it.
#[derive(Default)]
pub(super) struct History {
    /// Calls since it was last taken back.
    calls: u32,
    taken_back: u32,
    /// Something was wanted of it that no hosted pipe gives.
    unfit: bool,
}

/// The pipe of the host's.
struct Host {
    /// These do not wait.
    reading: Arc<HostFile>,
    writing: Arc<HostFile>,
    /// These do.
    waiting_reading: Arc<HostFile>,
    waiting_writing: Arc<HostFile>,
}

/// A thread that uses it, or did.
struct User {
    ticket: Arc<Ticket>,
    /// It was interrupted, and will tell.
    asked: bool,
}

pub(super) struct Hosted {
    host: Host,
    users: Vec<User>,
    /// When it began to end.
    ending: Option<Option<Instant>>,
    of: Weak<Pipe>,
    all: HostPipes,
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.all.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The time; none outside of a handler, where nobody waits.
fn now() -> Option<Instant> {
    current().map(|task| task.kernel.clock.now())
}

impl Host {
    /// With `bytes` in it. An error where the host gives less room than a guest's pipe has.
    fn new(bytes: &VecDeque<u8>) -> Result<Host, Errno> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let capacity = fcntl(&writing, FcntlArg::F_GETPIPE_SZ)?;
        if usize::try_from(capacity) != Ok(DEFAULT_CAPACITY) {
            return Err(Errno::ENOMEM);
        }
        for part in [bytes.as_slices().0, bytes.as_slices().1] {
            if !part.is_empty() && write(&writing, part)? != part.len() {
                return Err(Errno::ENOMEM);
            }
        }
        // Whether a call waits is a matter of the open file description.
        let again = |fd: &dyn AsRawFd, flags: OFlag| {
            let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
            HostFile::new(open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty())?)
        };
        Ok(Host {
            waiting_reading: again(&reading, OFlag::O_RDONLY)?,
            waiting_writing: again(&writing, OFlag::O_WRONLY)?,
            reading: HostFile::new(reading)?,
            writing: HostFile::new(writing)?,
        })
    }

    /// Read without waiting; nothing when it is empty.
    fn read(&self, buf: &mut [u8]) -> usize {
        read(&*self.reading, buf).unwrap_or(0)
    }

    /// Write as much as there is room for.
    fn write(&self, bytes: &[u8]) -> usize {
        write(&*self.writing, bytes).unwrap_or(0)
    }

    fn len(&self) -> usize {
        let waiting = rustix::io::ioctl_fionread(&*self.reading).unwrap_or(0);
        usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    fn has_room(&self) -> bool {
        let mut fds = [PollFd::new(self.writing.as_fd(), PollFlags::POLLOUT)];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        polled.is_ok() && fds[0].any() == Some(true)
    }

    /// What is in it; no more than it holds, should somebody go on writing.
    fn drain(&self) -> Vec<u8> {
        let mut bytes = vec![0; DEFAULT_CAPACITY];
        let mut len = 0;
        while len < bytes.len() {
            match self.read(&mut bytes[len..]) {
                0 => break,
                more => len += more,
            }
        }
        bytes.truncate(len);
        bytes
    }
}

impl State {
    /// Whether the bytes are with the host, though it may be ending.
    pub(super) fn is_hosted(&self) -> bool {
        self.hosted.is_some()
    }

    /// If it is ending, look whether it can be taken back now.
    pub(super) fn settle(&mut self, queue: &WaitQueue) {
        if self.hosted.as_ref().is_some_and(|hosted| hosted.ending.is_some()) {
            self.take_back(queue);
        }
    }

    /// Have the bytes here. False when some thread has to be waited for: `queue` will be notified.
    pub(super) fn take_back(&mut self, queue: &WaitQueue) -> bool {
        let Some(hosted) = &mut self.hosted else {
            return true;
        };
        let was_ending = hosted.ending.is_some();
        // The time is known in handlers alone.
        hosted.ending = Some(hosted.ending.flatten().or_else(now));
        if !was_ending {
            self.history.calls = 0;
            self.history.taken_back += 1;
            hosted.users.iter().for_each(|user| user.ticket.end());
        }
        if !hosted.is_quiet() {
            return false;
        }
        let bytes = hosted.host.drain();
        self.hosted = None;
        self.added(bytes.len(), false);
        self.data.extend(bytes);
        queue.notify(Events::READ | Events::WRITE);
        true
    }

    /// Wait until it is taken back, or for `events`. For threads that do not come there is an end.
    pub(super) fn until_back(&self, queue: &WaitQueue, events: Events) -> WaitFor {
        let since = self.hosted.as_ref().and_then(|hosted| hosted.ending.flatten());
        let deadline = since.map(|since| since.after(PATIENCE));
        WaitFor::queue(queue, events).until(deadline)
    }

    /// No hosting from now on.
    pub(super) fn make_unfit(&mut self) {
        self.history.unfit = true;
    }

    /// Bytes with the host.
    pub(super) fn len_hosted(&self) -> usize {
        self.hosted.as_ref().map_or(0, |hosted| hosted.host.len())
    }

    /// Whether a write of PIPE_BUF would find room there. None when it is not hosted.
    pub(super) fn has_room_hosted(&self) -> Option<bool> {
        self.hosted.as_ref().map(|hosted| hosted.host.has_room())
    }

    /// Read without waiting what is with the host; 0 when there is nothing.
    pub(super) fn read_hosted(&mut self, to: &mut dyn Sink) -> Result<usize, Errno> {
        let Some(hosted) = &self.hosted else { return Ok(0) };
        let mut bytes = vec![0; to.remaining().min(DEFAULT_CAPACITY)];
        let len = hosted.host.read(&mut bytes);
        if len == 0 {
            return Ok(0);
        }
        let put = to.put(&bytes[..len]);
        let left = &bytes[put.unwrap_or(0)..len];
        if !left.is_empty() {
            // Before all that is with the host.
            self.data.extend(left);
            self.added(left.len(), false);
        }
        put
    }

    /// Write without waiting to the host's; also whether the source's memory ended.
    pub(super) fn write_hosted(&mut self, from: &mut dyn Source) -> Result<(usize, bool), Errno> {
        let Some(hosted) = &self.hosted else {
            return Ok((0, false));
        };
        let mut moved = 0;
        let mut bytes = vec![0; from.remaining().min(DEFAULT_CAPACITY)];
        while from.remaining() > 0 {
            let want = from.remaining().min(bytes.len());
            let got = match from.take(&mut bytes[..want]) {
                Err(_) if moved > 0 => return Ok((moved, true)),
                got => got?,
            };
            let written = hosted.host.write(&bytes[..got]);
            from.untake(got - written);
            moved += written;
            if written < got {
                break;
            }
            if got < want {
                return Ok((moved, true));
            }
        }
        Ok((moved, false))
    }
}

impl Hosted {
    /// Whether no thread can be in a call of its own any more, all grants having ended. Whoever is interrupted.
    fn is_quiet(&mut self) -> bool {
        let began = self.ending.flatten();
        let is_late = began
            .zip(now())
            .is_some_and(|(began, now)| now.since(began) >= PATIENCE);
        self.users.retain(|user| user.ticket.is_busy());
        for user in &mut self.users {
            if is_late {
                user.ticket.kill();
            } else if !user.asked {
                user.asked = true;
                let pipe = Weak::clone(&self.of);
                user.ticket.when_quiet(Box::new(move || {
                    if let Some(pipe) = pipe.upgrade() {
                        pipe.state.lock().settle(&pipe.queue);
                    }
                }));
            }
        }
        self.users.retain(|user| !is_late && user.ticket.is_busy());
        self.users.is_empty()
    }
}

impl Pipe {
    /// Whether its ends may be granted.
    pub fn is_hosted(&self) -> bool {
        let state = self.state.lock();
        state
            .hosted
            .as_ref()
            .is_some_and(|hosted| hosted.ending.is_none())
    }

    /// Count a call by the kernel; whether hosting pays.
    pub fn pays(&self) -> bool {
        let mut state = self.state.lock();
        let history = &mut state.history;
        history.calls = history.calls.saturating_add(1);
        !history.unfit && history.taken_back < TIRED && history.calls >= CALLS << (2 * history.taken_back)
    }

    /// Host it, if it is one that can be. Not while a writer waits here, who may have written half of what it has to.
    pub fn host(self: &Arc<Self>, all: &HostPipes) -> bool {
        let mut state = self.state.lock();
        let plain = state.segments.iter().all(|(_, packet)| !packet);
        let has_ends = state.readers > 0 && state.writers > 0;
        if state.hosted.is_some() || state.history.unfit || !has_ends {
            return false;
        }
        if !plain || state.capacity != DEFAULT_CAPACITY || self.queue.is_awaited(Events::OUT) {
            return false;
        }
        if all.0.fetch_add(1, Ordering::SeqCst) >= MOST_PIPES {
            all.0.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        let Ok(host) = Host::new(&state.data) else {
            all.0.fetch_sub(1, Ordering::SeqCst);
            state.make_unfit();
            return false;
        };
        state.hosted = Some(Box::new(Hosted {
            host,
            users: Vec::new(),
            ending: None,
            of: Arc::downgrade(self),
            all: all.clone(),
        }));
        state.data.clear();
        state.segments.clear();
        drop(state);
        // Who waits here may wait by itself now.
        self.queue.notify(Events::READ | Events::WRITE);
        true
    }

    /// The host's end for a thread to read or write by itself. None when it is not hosted, or ending.
    pub(super) fn lend(&self, reads: bool, waits: bool, ticket: &Arc<Ticket>) -> Option<Arc<HostFile>> {
        let mut state = self.state.lock();
        let hosted = state.hosted.as_mut().filter(|hosted| hosted.ending.is_none())?;
        hosted
            .users
            .retain(|user| !user.ticket.is_over() || user.ticket.is_busy());
        if hosted.users.len() >= MOST_USERS {
            return None;
        }
        hosted.users.push(User {
            ticket: Arc::clone(ticket),
            asked: false,
        });
        let host = &hosted.host;
        let end = match (reads, waits) {
            (true, true) => &host.waiting_reading,
            (true, false) => &host.reading,
            (false, true) => &host.waiting_writing,
            (false, false) => &host.writing,
        };
        Some(Arc::clone(end))
    }

    /// Have the bytes here, for good: for calls that do more than read and write.
    pub fn reclaim(&self) -> SysResult<()> {
        let mut state = self.state.lock();
        state.make_unfit();
        if state.take_back(&self.queue) {
            Ok(())
        } else {
            Err(state.until_back(&self.queue, Events::empty()).into())
        }
    }
}
