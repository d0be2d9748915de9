//! AF_UNIX sockets: unix(7).
//!
//! A sender puts packets straight into the receiver's queue; each packet charges its sender's buffer until it is gone, which
//! is what flow control counts. Only connect(2) holds two sockets' locks at once, in the order of their addresses; elsewhere
//! what was found of a peer is checked again under the peer's own lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::address::UnixAddress;
use crate::kernel::fs::{File, FileOps, Inode};
use crate::kernel::stop::{Errno, Stop, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Task, current, current_deadline};
use crate::kernel::user_memory::{Sink, Source, UserAddr};
use crate::kernel::wait::{Events, OnSignal, WaitFor, WaitQueue};

mod garbage;
mod in_flight;
mod names;
mod transfer;

pub use in_flight::InFlight;
pub use names::Names;
pub(super) use transfer::{Outgoing, ReceiveFlags, Received};

/// Buffer sizes of a new socket (net.core.wmem_default), in bytes.
const DEFAULT_BUFFER: usize = 212_992;

/// Packets that wait at a datagram socket before senders wait (net.unix.max_dgram_qlen).
const DATAGRAM_BACKLOG: usize = 10;

/// Largest backlog listen(2) grants (net.core.somaxconn).
const SOMAXCONN: usize = 4096;

/// What a packet costs beside its bytes.
const PACKET_COST: usize = 256;

/// Type of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// SOCK_STREAM
    Stream,
    /// SOCK_DGRAM
    Datagram,
    /// SOCK_SEQPACKET
    SeqPacket,
}

impl Kind {
    /// Whether it listens and accepts.
    pub fn connects(self) -> bool {
        self != Kind::Datagram
    }
}

/// `struct ucred`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Ucred {
    /// Process id.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Ucred {
    /// What SO_PEERCRED shows of nobody.
    pub const NOBODY: Ucred = Ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };

    /// Of a task as SO_PEERCRED shows it.
    pub fn of(task: &Task) -> Ucred {
        let creds = task.creds();
        Ucred {
            pid: task.pid(),
            uid: creds.euid,
            gid: creds.egid,
        }
    }
}

/// An AF_UNIX socket.
pub struct UnixSocket {
    /// Its type.
    pub kind: Kind,
    me: Weak<UnixSocket>,
    /// Notified when anything about it changes: data, room, connections, the peer's end.
    queue: WaitQueue,
    /// Bytes of its packets that nobody has read yet.
    charged: AtomicUsize,
    send_buffer: AtomicUsize,
    /// Its last descriptor is closed.
    closed: AtomicBool,
    /// Its changing part.
    pub(super) state: Lock<State>,
}

/// See [`UnixSocket::state`].
pub(super) struct State {
    pub(super) name: Option<UnixAddress>,
    /// The inode its path names, which must not be reused while the socket is bound.
    bound_inode: Option<((u64, u64), Arc<dyn Inode>)>,
    phase: Phase,
    inbox: VecDeque<Packet>,
    /// SHUT_RD: nothing more is received.
    shut_read: bool,
    /// SHUT_WR: nothing more is sent.
    shut_write: bool,
    /// Reported once (SO_ERROR).
    pub(super) error: Option<Errno>,
    /// Its own credentials as its peers are shown them, fixed by listen(2), connect(2) and socketpair(2).
    own_cred: Option<Ucred>,
    pub(super) peer_cred: Ucred,
    pub(super) options: Options,
}

enum Phase {
    Unconnected,
    Listening {
        backlog: usize,
        /// Connected sockets that accept(2) has not handed out.
        pending: VecDeque<Arc<UnixSocket>>,
    },
    Connected(Arc<UnixSocket>),
}

/// Settings of setsockopt(2) that are more than remembered.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) pass_cred: bool,
    pub(super) receive_buffer: usize,
    /// In nanoseconds; none for no limit.
    pub(super) receive_timeout: Option<u64>,
    pub(super) send_timeout: Option<u64>,
    /// Options without any effect on a local socket, by number.
    pub(super) inert: Vec<(i32, i32)>,
}

/// A message or a piece of a stream.
struct Packet {
    data: Vec<u8>,
    /// Bytes of `data` a stream's reader has had.
    consumed: usize,
    from: Option<UnixAddress>,
    cred: Ucred,
    files: in_flight::FilesInFlight,
    /// Held for its drop: gives the sender its room back.
    _charge: Charge,
}

/// A packet's share of its sender's buffer.
struct Charge {
    sender: Weak<UnixSocket>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.upgrade() {
            sender.charged.fetch_sub(self.bytes, Ordering::SeqCst);
            if sender.has_room() {
                sender.queue.notify(Events::WRITE);
            }
        }
    }
}

impl UnixSocket {
    /// A socket that is neither bound nor connected.
    pub fn new(kind: Kind) -> Arc<UnixSocket> {
        Arc::new_cyclic(|me| UnixSocket {
            kind,
            me: me.clone(),
            queue: WaitQueue::new(),
            charged: AtomicUsize::new(0),
            send_buffer: AtomicUsize::new(DEFAULT_BUFFER),
            closed: AtomicBool::new(false),
            state: Lock::new(
                Rank::Object,
                State {
                    name: None,
                    bound_inode: None,
                    phase: Phase::Unconnected,
                    inbox: VecDeque::new(),
                    shut_read: false,
                    shut_write: false,
                    error: None,
                    own_cred: None,
                    peer_cred: Ucred::NOBODY,
                    options: Options {
                        pass_cred: false,
                        receive_buffer: DEFAULT_BUFFER,
                        receive_timeout: None,
                        send_timeout: None,
                        inert: Vec::new(),
                    },
                },
            ),
        })
    }

    /// Two sockets connected to each other.
    pub fn pair(kind: Kind, cred: Ucred) -> (Arc<UnixSocket>, Arc<UnixSocket>) {
        let (a, b) = (UnixSocket::new(kind), UnixSocket::new(kind));
        for (one, other) in [(&a, &b), (&b, &a)] {
            let mut state = one.state.lock();
            state.phase = Phase::Connected(other.clone());
            state.own_cred = Some(cred);
            state.peer_cred = cred;
        }
        (a, b)
    }

    /// The socket behind an open file; ENOTSOCK.
    pub fn of(file: &File) -> Result<&Arc<UnixSocket>, Errno> {
        file.ops_as::<SocketFile>().map(|s| &s.0).ok_or(Errno::ENOTSOCK)
    }

    /// Whether a writer would be told that there is room (at most a quarter of the buffer is used).
    fn has_room(&self) -> bool {
        self.charged.load(Ordering::SeqCst).saturating_mul(4) <= self.send_buffer.load(Ordering::Relaxed)
    }

    /// SO_SNDBUF in bytes.
    pub(super) fn send_buffer(&self) -> usize {
        self.send_buffer.load(Ordering::Relaxed)
    }

    pub(super) fn set_send_buffer(&self, bytes: usize) {
        self.send_buffer.store(bytes, Ordering::Relaxed);
        self.queue.notify(Events::WRITE);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn peer(&self) -> Option<Arc<UnixSocket>> {
        match &self.state.lock().phase {
            Phase::Connected(peer) => Some(peer.clone()),
            _ => None,
        }
    }

    /// Name of the socket it is connected to; ENOTCONN.
    pub(super) fn peer_name(&self) -> Result<Option<UnixAddress>, Errno> {
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        let name = peer.state.lock().name.clone();
        Ok(name)
    }

    pub(super) fn is_listening(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Listening { .. })
    }

    /// Wait, or fail at once: EAGAIN when the caller does not wait or has waited long enough.
    fn block(&self, nonblocking: bool, timeout: Option<u64>, wait: WaitFor) -> Stop {
        if nonblocking {
            return Errno::EAGAIN.into();
        }
        let (Some(timeout), Some(task)) = (timeout, current()) else {
            return wait.into();
        };
        let now = task.kernel.clock.now();
        let deadline = current_deadline().unwrap_or_else(|| now.after(timeout));
        if now >= deadline {
            return Errno::EAGAIN.into();
        }
        wait.until(Some(deadline)).on_signal(OnSignal::Eintr).into()
    }

    /// shutdown(2): also the other direction of the peer. ENOTCONN is for other families.
    pub(super) fn shutdown(&self, read: bool, write: bool) {
        let peer = {
            let mut state = self.state.lock();
            state.shut_read |= read;
            state.shut_write |= write;
            match &state.phase {
                Phase::Connected(peer) if self.kind.connects() => Some(peer.clone()),
                _ => None,
            }
        };
        self.queue.notify(Events::all());
        if let Some(peer) = peer {
            {
                let mut state = peer.state.lock();
                state.shut_read |= write;
                state.shut_write |= read;
            }
            peer.queue.notify(Events::all());
        }
    }

    /// The last descriptor is gone, or nobody will ever accept it (`refused`).
    fn close(&self, refused: bool) {
        self.closed.store(true, Ordering::SeqCst);
        let (phase, inbox) = {
            let mut state = self.state.lock();
            state.shut_read = true;
            state.shut_write = true;
            state.bound_inode = None;
            let phase = std::mem::replace(&mut state.phase, Phase::Unconnected);
            (phase, std::mem::take(&mut state.inbox))
        };
        match phase {
            Phase::Unconnected => {}
            Phase::Listening { pending, .. } => {
                for socket in pending {
                    socket.close(true);
                }
            }
            Phase::Connected(peer) => self.leave(&peer, refused || !inbox.is_empty()),
        }
        // Senders that wait for this queue find it closed.
        self.queue.notify(Events::all());
        drop(inbox);
    }

    /// Tell the socket this one was connected to that it is gone.
    fn leave(&self, peer: &UnixSocket, reset: bool) {
        if !self.kind.connects() {
            return;
        }
        {
            let mut state = peer.state.lock();
            if !matches!(&state.phase, Phase::Connected(p) if std::ptr::eq(&**p, self)) {
                return;
            }
            state.shut_read = true;
            state.shut_write = true;
            if reset {
                state.error = Some(Errno::ECONNRESET);
            }
        }
        peer.queue.notify(Events::all());
    }

    fn poll(&self) -> Events {
        let mut events = Events::empty();
        let peer = {
            let state = self.state.lock();
            if state.error.is_some() {
                events |= Events::ERR;
            }
            if state.shut_read && state.shut_write {
                events |= Events::HUP;
            }
            if state.shut_read {
                events |= Events::RDHUP | Events::READ;
            }
            let waiting = match &state.phase {
                Phase::Listening { pending, .. } => !pending.is_empty(),
                _ => !state.inbox.is_empty(),
            };
            if waiting {
                events |= Events::READ;
            }
            match &state.phase {
                Phase::Listening { .. } => return events,
                Phase::Unconnected if self.kind.connects() => {
                    events |= Events::HUP;
                    None
                }
                Phase::Unconnected => None,
                Phase::Connected(peer) => Some(peer.clone()),
            }
        };
        let full = peer.is_some_and(|peer| self.kind == Kind::Datagram && peer.is_full_for(self));
        if self.has_room() && !full {
            events |= Events::WRITE | Events::WRBAND;
        }
        events
    }

    /// Whether a datagram socket's queue is too long for one more packet of `sender`. Two that are connected to each other
    /// are bounded by their buffers alone.
    fn is_full_for(&self, sender: &UnixSocket) -> bool {
        let state = self.state.lock();
        let mutual = matches!(&state.phase, Phase::Connected(p) if std::ptr::eq(&**p, sender));
        !mutual && state.inbox.len() > DATAGRAM_BACKLOG
    }
}

/// The operations of an open socket; closes it when dropped.
pub struct SocketFile(pub Arc<UnixSocket>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.0.close(false);
    }
}

impl FileOps for SocketFile {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        // Unlike recv(2), read(2) of nothing neither waits nor takes a message.
        if to.remaining() == 0 {
            return Ok(0);
        }
        let flags = ReceiveFlags {
            nonblocking: file.nonblocking(),
            ..ReceiveFlags::default()
        };
        Ok(self.0.receive(to, flags)?.length)
    }

    fn write(&self, file: &File, _: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let mut outgoing = Outgoing::plain(file.nonblocking());
        self.0.send(from, &mut outgoing)
    }

    fn poll(&self, _: &File) -> Events {
        self.0.poll()
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        let mut queues = vec![(self.0.queue.clone(), interest)];
        if self.0.kind == Kind::Datagram
            && interest.intersects(Events::WRITE)
            && let Some(peer) = self.0.peer()
        {
            queues.push((peer.queue.clone(), Events::WRITE));
        }
        queues
    }

    fn ioctl(&self, cx: &mut SyscallCx<'_>, _: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        let value = match u64::from(request) {
            libc::FIONREAD => {
                let state = self.0.state.lock();
                match &state.phase {
                    Phase::Listening { .. } => return fail!(EINVAL),
                    _ if self.0.kind == Kind::Datagram => state.inbox.front().map_or(0, |p| p.data.len()),
                    _ => state.inbox.iter().map(|p| p.data.len() - p.consumed).sum(),
                }
            }
            libc::TIOCOUTQ => self.0.charged.load(Ordering::SeqCst),
            _ => return fail!(ENOTTY),
        };
        let value = i32::try_from(value).unwrap_or(i32::MAX);
        cx.memory.write(UserAddr(arg).cast(), &value)?;
        Ok(0)
    }
}
