//! AF_UNIX sockets: unix(7).
//!
//! A sender puts packets straight into the receiver's queue; each packet charges its sender's buffer until it is gone, which
//! is what flow control counts. Only connect(2) holds two sockets' locks at once, in the order of their addresses; elsewhere
//! what was found of a peer is checked again under the peer's own lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::address::{self, Given, UnixAddress};
use super::buffer::{Inbox, SendBuffer};
use super::options::Options;
use super::socket::{Kind, Outgoing, ReceiveFlags, Received, Socket, SocketFile, unknown_option};
use crate::kernel::fs::{File, Inode};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::Task;
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitQueue};

mod garbage;
mod in_flight;
mod names;
mod transfer;

pub use in_flight::InFlight;
pub use names::Names;
pub(super) use transfer::SCM_CREDENTIALS;

/// Buffer sizes of a new socket (net.core.wmem_default), in bytes.
const DEFAULT_BUFFER: usize = 212_992;

/// Packets that wait at a datagram socket before senders wait (net.unix.max_dgram_qlen).
const DATAGRAM_BACKLOG: usize = 10;

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
    /// What its packets that nobody has read yet are charged to.
    send: Arc<SendBuffer>,
    options: Lock<Options>,
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
    inbox: Inbox<Note>,
    /// SHUT_RD: nothing more is received.
    shut_read: bool,
    /// SHUT_WR: nothing more is sent.
    shut_write: bool,
    /// Reported once (SO_ERROR).
    pub(super) error: Option<Errno>,
    /// Its own credentials as its peers are shown them, fixed by listen(2), connect(2) and socketpair(2).
    own_cred: Option<Ucred>,
    pub(super) peer_cred: Ucred,
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

/// What goes along with a message or a piece of a stream.
struct Note {
    from: Option<UnixAddress>,
    cred: Ucred,
    files: in_flight::FilesInFlight,
}

impl UnixSocket {
    /// A socket that is neither bound nor connected.
    pub fn new(kind: Kind) -> Arc<UnixSocket> {
        let queue = WaitQueue::new();
        Arc::new_cyclic(|me| UnixSocket {
            kind,
            me: me.clone(),
            send: SendBuffer::new(DEFAULT_BUFFER, 0, (1, 4), &queue, None),
            queue,
            options: Lock::new(Rank::Leaf, Options::new(DEFAULT_BUFFER)),
            closed: AtomicBool::new(false),
            state: Lock::new(
                Rank::Object,
                State {
                    name: None,
                    bound_inode: None,
                    phase: Phase::Unconnected,
                    inbox: Inbox::default(),
                    shut_read: false,
                    shut_write: false,
                    error: None,
                    own_cred: None,
                    peer_cred: Ucred::NOBODY,
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

    /// The local socket behind an open file.
    pub(super) fn of(file: &File) -> Option<&UnixSocket> {
        file.ops_as::<SocketFile>().and_then(|socket| socket.0.as_unix())
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

    /// Also the other direction of the peer. ENOTCONN is for other families.
    fn shut(&self, read: bool, write: bool) {
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
    fn end(&self, refused: bool) {
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
                    socket.end(true);
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

    fn ready(&self) -> Events {
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
        if self.send.has_room() && !full {
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

impl Socket for UnixSocket {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn domain(&self) -> i32 {
        libc::AF_UNIX
    }

    fn options(&self) -> &Lock<Options> {
        &self.options
    }

    fn bind(&self, task: &Task, address: &[u8]) -> SysResult<()> {
        self.bind_to(task, Given::parse(address)?)
    }

    fn listen(&self, task: &Task, backlog: i32) -> SysResult<()> {
        self.begin_listening(task, backlog)
    }

    fn connect(&self, task: &Task, address: &[u8], nonblocking: bool) -> SysResult<()> {
        self.connect_to(task, Given::parse(address)?, nonblocking)
    }

    fn accept(&self, nonblocking: bool) -> SysResult<Arc<dyn Socket>> {
        Ok(self.next_connection(nonblocking)?)
    }

    fn name(&self) -> Vec<u8> {
        address::bytes_of(self.state.lock().name.as_ref())
    }

    fn peer_name(&self) -> Result<Vec<u8>, Errno> {
        Ok(self.peer().ok_or(Errno::ENOTCONN)?.name())
    }

    fn shutdown(&self, read: bool, write: bool) -> Result<(), Errno> {
        self.shut(read, write);
        Ok(())
    }

    fn send(&self, from: &mut dyn Source, outgoing: &mut Outgoing) -> SysResult<usize> {
        self.send_any(from, outgoing)
    }

    fn receive(&self, to: &mut dyn Sink, flags: ReceiveFlags) -> SysResult<Received> {
        self.receive_any(to, flags)
    }

    fn poll(&self) -> Events {
        self.ready()
    }

    fn queues(&self, interest: Events) -> Vec<(WaitQueue, Events)> {
        let mut queues = vec![(self.queue.clone(), interest)];
        if self.kind == Kind::Datagram
            && interest.intersects(Events::WRITE)
            && let Some(peer) = self.peer()
        {
            queues.push((peer.queue.clone(), Events::WRITE));
        }
        queues
    }

    fn unread(&self) -> Result<usize, Errno> {
        let state = self.state.lock();
        match &state.phase {
            Phase::Listening { .. } => Err(Errno::EINVAL),
            _ if self.kind == Kind::Datagram => Ok(state.inbox.first_length()),
            _ => Ok(state.inbox.bytes()),
        }
    }

    fn unsent(&self) -> Result<usize, Errno> {
        Ok(self.send.charged())
    }

    fn send_buffer(&self) -> usize {
        self.send.size()
    }

    fn set_send_buffer(&self, bytes: usize) {
        self.send.set_size(bytes);
    }

    fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    fn is_listening(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Listening { .. })
    }

    fn peer_cred(&self) -> Ucred {
        self.state.lock().peer_cred
    }

    fn set_option(&self, _: &Task, level: i32, option: i32, value: &[u8]) -> Result<(), Errno> {
        match (level, option) {
            // Off it is already.
            (libc::SOL_SOCKET, libc::SO_REUSEPORT) if value.iter().all(|byte| *byte == 0) => Ok(()),
            (libc::SOL_SOCKET, libc::SO_REUSEPORT) => Err(Errno::EOPNOTSUPP),
            _ => Err(unknown_option(level)),
        }
    }

    fn option(&self, level: i32, option: i32) -> Result<Vec<u8>, Errno> {
        match (level, option) {
            (libc::SOL_SOCKET, libc::SO_REUSEPORT) => Ok(vec![0; 4]),
            _ => Err(unknown_option(level)),
        }
    }

    fn close(&self) {
        self.end(false);
    }

    fn as_unix(&self) -> Option<&UnixSocket> {
        Some(self)
    }
}
