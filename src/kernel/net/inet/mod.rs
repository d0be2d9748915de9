//! AF_INET and AF_INET6 between the processes of a guest: ip(7), ipv6(7), tcp(7), udp(7).
//!
//! There is one interface, `lo`, and nothing that leads out of the guest. No packets are made: a stream is two queues, of which
//! each end fills the other's, and what TCP's segments would tell (that the other end sends no more, or is gone) is told at once.
//! connect(2) alone holds two sockets' locks, in the order of their addresses.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::buffer::{Inbox, SendBuffer};
use super::options::Options;
use super::socket::{Kind, Outgoing, ReceiveFlags, Received, Socket};
use crate::kernel::fs::pipe::broken_pipe;
use crate::kernel::stop::{Errno, Stop, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::{Capability, Task};
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitQueue};

pub(super) mod address;
mod datagram;
mod options;
mod ports;
mod stream;

use address::{Endpoint, Given};
pub(in crate::kernel) use ports::EPHEMERAL;
pub use ports::Ports;

/// SO_SNDBUF and SO_RCVBUF of a new stream socket, and SO_SNDBUF of one that is connected by the loopback interface, in bytes.
const STREAM_SEND: usize = 16_384;
const STREAM_RECEIVE: usize = 131_072;
const CONNECTED_SEND: usize = 2_626_560;

/// What the other end of a stream keeps of what is sent beside the sender's buffer (half its own), in bytes.
const WINDOW: usize = STREAM_RECEIVE / 2;

/// SO_SNDBUF and SO_RCVBUF of a datagram socket, in bytes.
const DATAGRAM_BUFFER: usize = 212_992;

/// First port that anybody may have (net.ipv4.ip_unprivileged_port_start).
const UNPRIVILEGED: u16 = 1024;

/// A socket of AF_INET or AF_INET6.
pub struct InetSocket {
    domain: i32,
    pub(super) kind: Kind,
    me: Weak<InetSocket>,
    ports: Arc<Ports>,
    /// User who made it.
    owner: u32,
    /// Notified when anything about it changes.
    queue: WaitQueue,
    /// What its unread data at the other end is charged to.
    send: Arc<SendBuffer>,
    /// It accepts connections: what [`Ports`] need to know without its lock.
    listens: AtomicBool,
    options: Lock<Options>,
    state: Lock<State>,
}

struct State {
    local: Option<Endpoint>,
    /// bind(2) gave it an address, or a port.
    bound_ip: bool,
    bound_port: bool,
    remote: Option<Endpoint>,
    phase: Phase,
    /// What connect(2) began without waiting has not been asked for.
    connecting: bool,
    inbox: Inbox<Note>,
    /// SHUT_RD
    shut_read: bool,
    /// SHUT_WR
    shut_write: bool,
    /// The other end sends no more.
    fin: bool,
    closed: bool,
    /// Reported once (SO_ERROR).
    error: Option<Errno>,
}

enum Phase {
    /// Of a datagram socket always.
    Unconnected,
    Listening {
        backlog: usize,
        /// Connected sockets that accept(2) has not handed out.
        pending: VecDeque<Arc<InetSocket>>,
        /// Sockets that wait for a place among those.
        waiting: VecDeque<Weak<InetSocket>>,
    },
    /// It waits at a listening socket.
    Connecting,
    Connected(Arc<InetSocket>),
    /// It was connected, and the connection was reset or both ends have ended.
    Ended,
}

/// What goes along with a message.
struct Note {
    from: Endpoint,
    to: Endpoint,
}

/// Whether a socket shares its port.
struct Sharing {
    /// SO_REUSEADDR
    address: bool,
    /// SO_REUSEPORT
    port: bool,
}

impl InetSocket {
    /// A socket that is neither bound nor connected, made by the user `owner`.
    pub(super) fn new(ports: &Arc<Ports>, domain: i32, kind: Kind, owner: u32) -> Arc<InetSocket> {
        let (send, extra, receive) = match kind {
            Kind::Stream => (STREAM_SEND, WINDOW, STREAM_RECEIVE),
            _ => (DATAGRAM_BUFFER, 0, DATAGRAM_BUFFER),
        };
        let queue = WaitQueue::new();
        Arc::new_cyclic(|me| InetSocket {
            domain,
            kind,
            me: me.clone(),
            ports: ports.clone(),
            owner,
            send: SendBuffer::new(send, extra, (2, 3), &queue, Some(ports.pool())),
            queue,
            listens: AtomicBool::new(false),
            options: Lock::new(Rank::Leaf, Options::new(receive)),
            state: Lock::new(
                Rank::Object,
                State {
                    local: None,
                    bound_ip: false,
                    bound_port: false,
                    remote: None,
                    phase: Phase::Unconnected,
                    connecting: false,
                    inbox: Inbox::default(),
                    shut_read: false,
                    shut_write: false,
                    fin: false,
                    closed: false,
                    error: None,
                },
            ),
        })
    }

    fn sharing(&self) -> Sharing {
        let options = self.options.lock();
        Sharing {
            address: options.is_on(libc::SOL_SOCKET, libc::SO_REUSEADDR),
            port: options.is_on(libc::SOL_SOCKET, libc::SO_REUSEPORT),
        }
    }

    fn accepts(&self) -> bool {
        self.listens.load(Ordering::SeqCst)
    }

    fn is_v6_only(&self) -> bool {
        let options = self.options.lock();
        options.is_on(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)
    }

    /// A wildcard of this socket takes IPv4 as well.
    fn takes_both(&self) -> bool {
        self.domain == libc::AF_INET6 && !self.is_v6_only()
    }

    /// Give a socket without a port one, at an address of its own or any.
    fn bind_automatically(&self, state: &mut State) -> Result<Endpoint, Errno> {
        if let Some(local) = state.local {
            return Ok(local);
        }
        let ip = address::any(self.domain);
        let port = self.ports.bind(self, ip, self.takes_both(), 0);
        let local = Endpoint {
            ip,
            port: port.map_err(|_| Errno::EAGAIN)?,
        };
        state.local = Some(local);
        Ok(local)
    }

    /// The socket has this address from now on, and sends to `remote`.
    fn set_ends(&self, state: &mut State, ip: std::net::IpAddr, remote: Option<Endpoint>) {
        state.remote = remote;
        if let Some(local) = &mut state.local {
            local.ip = ip;
            self.ports.change(self, local.port, ip, remote);
        }
    }

    /// Undo connect(2): the address that only it gave is gone, and the port if that was not asked for either.
    fn disconnect(&self, state: &mut State) {
        state.connecting = false;
        if let Some(local) = state.local {
            if state.bound_port {
                let ip = if state.bound_ip {
                    local.ip
                } else {
                    address::any(self.domain)
                };
                self.set_ends(state, ip, None);
            } else {
                self.ports.release(self, local.port);
                state.local = None;
            }
        }
        state.remote = None;
    }

    /// Where `given` leads, for a socket that is to send there: with the address that it sends from.
    fn target(&self, endpoint: Endpoint, v4: bool) -> Result<(Endpoint, std::net::IpAddr), Errno> {
        if v4 && self.domain == libc::AF_INET6 && self.is_v6_only() {
            return Err(Errno::ENETUNREACH);
        }
        let (ip, source) = address::route(endpoint.ip)?;
        let port = endpoint.port;
        Ok((Endpoint { ip, port }, source))
    }

    fn ready(&self) -> Events {
        let state = self.state.lock();
        let mut events = Events::empty();
        if let Phase::Listening { pending, .. } = &state.phase {
            return if pending.is_empty() { events } else { Events::READ };
        }
        let shut_read = state.shut_read || state.fin;
        if state.error.is_some() {
            events |= Events::ERR;
        }
        if shut_read {
            events |= Events::READ | Events::RDHUP;
        }
        let ended = self.kind == Kind::Stream && matches!(state.phase, Phase::Unconnected | Phase::Ended);
        if ended || shut_read && state.shut_write {
            events |= Events::HUP;
        }
        if !state.inbox.is_empty() {
            events |= Events::READ;
        }
        let writable = state.shut_write || self.send.has_room();
        if writable && !matches!(state.phase, Phase::Connecting) {
            events |= Events::WRITE;
        }
        events
    }

    /// What a guest sees of a socket in /proc/net: its ends, state, waiting bytes and owner.
    pub(in crate::kernel) fn summary(&self) -> Summary {
        let state = self.state.lock();
        let nothing = Endpoint {
            ip: address::any(self.domain),
            port: 0,
        };
        let waiting = match &state.phase {
            Phase::Listening { pending, .. } => pending.len(),
            _ => state.inbox.bytes(),
        };
        Summary {
            domain: self.domain,
            local: state.local.unwrap_or(nothing),
            remote: state.remote.unwrap_or(nothing),
            state: self.tcp_state(&state),
            unsent: self.send.unsent(),
            waiting,
            owner: self.owner,
            inode: self.options.lock().inode,
        }
    }

    /// The state of tcp(7) by number.
    fn tcp_state(&self, state: &State) -> u8 {
        const ESTABLISHED: u8 = 1;
        const SYN_SENT: u8 = 2;
        const FIN_WAIT2: u8 = 5;
        const CLOSE: u8 = 7;
        const CLOSE_WAIT: u8 = 8;
        const LISTEN: u8 = 10;
        match &state.phase {
            Phase::Unconnected if self.kind == Kind::Datagram && state.remote.is_some() => ESTABLISHED,
            Phase::Unconnected | Phase::Ended => CLOSE,
            Phase::Listening { .. } => LISTEN,
            Phase::Connecting => SYN_SENT,
            Phase::Connected(_) => match (state.fin, state.shut_write) {
                (false, false) => ESTABLISHED,
                (true, false) => CLOSE_WAIT,
                (false, true) => FIN_WAIT2,
                (true, true) => CLOSE,
            },
        }
    }
}

/// See [`InetSocket::summary`].
pub(in crate::kernel) struct Summary {
    pub(in crate::kernel) domain: i32,
    pub(in crate::kernel) local: Endpoint,
    pub(in crate::kernel) remote: Endpoint,
    pub(in crate::kernel) state: u8,
    pub(in crate::kernel) unsent: usize,
    pub(in crate::kernel) waiting: usize,
    pub(in crate::kernel) owner: u32,
    pub(in crate::kernel) inode: u64,
}

impl Socket for InetSocket {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn domain(&self) -> i32 {
        self.domain
    }

    fn protocol(&self) -> i32 {
        match self.kind {
            Kind::Stream => libc::IPPROTO_TCP,
            _ => libc::IPPROTO_UDP,
        }
    }

    fn options(&self) -> &Lock<Options> {
        &self.options
    }

    fn bind(&self, task: &Task, bytes: &[u8]) -> SysResult<()> {
        let (endpoint, v4) = match address::parse(self.domain, bytes, false)? {
            Given::Endpoint { endpoint, v4 } => (endpoint, v4),
            // Old programs leave the family out.
            Given::Unspecified { any: true } if self.domain == libc::AF_INET && bytes.len() >= 16 => {
                let port = u16::from_be_bytes([bytes[2], bytes[3]]);
                let ip = address::any(self.domain);
                (Endpoint { ip, port }, true)
            }
            Given::Unspecified { .. } => return fail!(EAFNOSUPPORT),
        };
        if v4 && self.domain == libc::AF_INET6 && self.is_v6_only() {
            return fail!(EINVAL);
        }
        address::check_bindable(endpoint.ip)?;
        let privileged = task.creds().capable(Capability::NetBindService);
        if (1..UNPRIVILEGED).contains(&endpoint.port) && !privileged {
            return fail!(EACCES);
        }
        let mut state = self.state.lock();
        if state.local.is_some() || state.closed || !matches!(state.phase, Phase::Unconnected) {
            return fail!(EINVAL);
        }
        let both = endpoint.ip.is_unspecified() && !v4 && self.takes_both();
        let port = self.ports.bind(self, endpoint.ip, both, endpoint.port)?;
        state.local = Some(Endpoint { port, ..endpoint });
        state.bound_ip = !endpoint.ip.is_unspecified();
        state.bound_port = endpoint.port != 0;
        Ok(())
    }

    fn listen(&self, _: &Task, backlog: i32) -> SysResult<()> {
        match self.kind {
            Kind::Stream => Ok(self.begin_listening(backlog)?),
            _ => fail!(EOPNOTSUPP),
        }
    }

    fn connect(&self, _: &Task, bytes: &[u8], nonblocking: bool) -> SysResult<()> {
        let given = address::parse(self.domain, bytes, self.kind == Kind::Datagram)?;
        match self.kind {
            Kind::Stream => self.connect_stream(given, nonblocking),
            _ => Ok(self.connect_datagram(given)?),
        }
    }

    fn accept(&self, nonblocking: bool) -> SysResult<Arc<dyn Socket>> {
        match self.kind {
            Kind::Stream => Ok(self.next_connection(nonblocking)?),
            _ => fail!(EOPNOTSUPP),
        }
    }

    fn name(&self) -> Vec<u8> {
        self.summary().local.to_bytes(self.domain)
    }

    fn peer_name(&self) -> Result<Vec<u8>, Errno> {
        let state = self.state.lock();
        let both_ended = state.fin && state.shut_write;
        let connected = match state.phase {
            Phase::Connected(_) => !both_ended,
            Phase::Unconnected => self.kind == Kind::Datagram,
            _ => false,
        };
        let remote = state.remote.filter(|_| connected).ok_or(Errno::ENOTCONN)?;
        Ok(remote.to_bytes(self.domain))
    }

    fn shutdown(&self, read: bool, write: bool) -> Result<(), Errno> {
        match self.kind {
            Kind::Stream => self.shutdown_stream(read, write),
            _ => self.shutdown_datagram(read, write),
        }
    }

    fn send(&self, from: &mut dyn Source, outgoing: &mut Outgoing) -> SysResult<usize> {
        if self.kind == Kind::Datagram {
            return self.send_datagram(from, outgoing);
        }
        match self.send_stream(from, outgoing) {
            Err(Stop::Errno(Errno::EPIPE, _)) if !outgoing.no_signal && from.taken() == 0 => {
                Err(broken_pipe().into())
            }
            sent => sent,
        }
    }

    fn receive(&self, to: &mut dyn Sink, flags: ReceiveFlags) -> SysResult<Received> {
        match self.kind {
            Kind::Stream => self.receive_stream(to, flags),
            _ => self.receive_datagram(to, flags),
        }
    }

    fn poll(&self) -> Events {
        self.ready()
    }

    fn queues(&self, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.queue.clone(), interest)]
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
        match &self.state.lock().phase {
            Phase::Listening { .. } => Err(Errno::EINVAL),
            _ => Ok(self.send.unsent()),
        }
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
        self.accepts()
    }

    fn set_option(&self, task: &Task, level: i32, option: i32, value: &[u8]) -> Result<(), Errno> {
        self.set_own_option(task, level, option, value)
    }

    fn option(&self, level: i32, option: i32) -> Result<Vec<u8>, Errno> {
        self.own_option(level, option)
    }

    fn close(&self) {
        self.end(false);
    }
}
