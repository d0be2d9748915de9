//! Streams: tcp(7).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::address::{Endpoint, Given};
use super::{CONNECTED_SEND, InetSocket, Note, Phase, State};
use crate::kernel::net::SOMAXCONN;
use crate::kernel::net::buffer::{Inbox, Packet, take_piece};
use crate::kernel::net::socket::{Kind, Outgoing, ReceiveFlags, Received, block};
use crate::kernel::stop::{Errno, Stop, SysResult, fail};
use crate::kernel::sync::lock_two;
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitFor};

/// Sockets that may wait for a place in a listening socket's queue (net.ipv4.tcp_max_syn_backlog).
const WAITING_MAX: usize = 4096;

/// What a connection attempt came to.
enum Attempt {
    Made,
    Refused,
    /// The queue of the listening socket is full.
    Waits,
}

impl InetSocket {
    /// listen(2): EINVAL when it is connected, EADDRINUSE.
    pub(super) fn begin_listening(&self, backlog: i32) -> Result<(), Errno> {
        // A negative one is as good as none, and Linux compares it as unsigned.
        let wanted = usize::try_from(backlog).map_or(SOMAXCONN, |b| b.min(SOMAXCONN));
        let mut state = self.state.lock();
        match &mut state.phase {
            Phase::Listening { backlog, .. } => *backlog = wanted,
            Phase::Unconnected => {
                let local = self
                    .bind_automatically(&mut state)
                    .map_err(|_| Errno::EADDRINUSE)?;
                self.ports.check_listener(self, local.port)?;
                state.bound_port = true;
                state.phase = Phase::Listening {
                    backlog: wanted,
                    pending: VecDeque::new(),
                    waiting: VecDeque::new(),
                };
                (state.shut_read, state.shut_write) = (false, false);
                self.listens.store(true, Ordering::SeqCst);
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(())
    }

    /// connect(2). Run again after a wait it says what became of the attempt.
    pub(super) fn connect_stream(&self, given: Given, nonblocking: bool) -> SysResult<()> {
        let Given::Endpoint { endpoint, v4 } = given else {
            self.abort();
            return Ok(());
        };
        let mut state = self.state.lock();
        match &state.phase {
            Phase::Unconnected if state.connecting => {
                state.connecting = false;
                return Err(state.error.take().unwrap_or(Errno::ECONNABORTED).into());
            }
            Phase::Unconnected => {}
            Phase::Connecting if nonblocking => return fail!(EALREADY),
            Phase::Connecting => return Err(self.await_connection()),
            Phase::Connected(_) | Phase::Ended if state.connecting => {
                state.connecting = false;
                return state.error.take().map_or(Ok(()), |errno| Err(errno.into()));
            }
            Phase::Listening { .. } | Phase::Connected(_) | Phase::Ended => return fail!(EISCONN),
        }
        let (remote, source) = self.target(endpoint, v4)?;
        let local = self.bind_automatically(&mut state).map_err(|errno| match errno {
            Errno::EAGAIN => Errno::EADDRNOTAVAIL,
            errno => errno,
        })?;
        let ip = if local.ip.is_unspecified() {
            source
        } else {
            local.ip
        };
        if ip.is_ipv4() != remote.ip.is_ipv4() {
            return fail!(ENETUNREACH);
        }
        self.set_ends(&mut state, ip, Some(remote));
        state.phase = Phase::Connecting;
        (state.shut_read, state.shut_write) = (false, false);
        drop(state);
        let from = Endpoint { ip, ..local };
        let attempt = match self.ports.find(Kind::Stream, remote, from) {
            Some(listener) if !std::ptr::eq(&*listener, self) => self.attempt(&listener, from, remote),
            _ => Attempt::Refused,
        };
        let mut state = self.state.lock();
        if matches!(attempt, Attempt::Refused) && matches!(state.phase, Phase::Connecting) {
            self.refuse(&mut state);
            if !nonblocking {
                state.error = None;
                return fail!(ECONNREFUSED);
            }
        }
        state.connecting = true;
        if nonblocking {
            return fail!(EINPROGRESS);
        }
        if matches!(state.phase, Phase::Connecting) {
            return Err(self.await_connection());
        }
        state.connecting = false;
        Ok(())
    }

    /// Wait for what becomes of an attempt, with the lock held under which it was found open; EINPROGRESS when that took longer
    /// than SO_SNDTIMEO.
    fn await_connection(&self) -> Stop {
        let wait = WaitFor::queue(&self.queue, Events::WRITE);
        let timeout = self.options.lock().send_timeout;
        match block(false, timeout, wait) {
            Stop::Errno(..) => Errno::EINPROGRESS.into(),
            stop => stop,
        }
    }

    fn refuse(&self, state: &mut State) {
        state.phase = Phase::Unconnected;
        (state.shut_read, state.shut_write) = (true, true);
        state.error = Some(Errno::ECONNREFUSED);
        self.disconnect(state);
        self.queue.notify(Events::all());
    }

    /// Ask a listening socket for a connection.
    fn attempt(&self, listener: &InetSocket, from: Endpoint, to: Endpoint) -> Attempt {
        let Some(me) = self.me.upgrade() else {
            return Attempt::Refused;
        };
        {
            let (mut own, mut state) = lock_two(&self.state, &listener.state);
            if !matches!(own.phase, Phase::Connecting) {
                // Another thread undid it.
                return Attempt::Made;
            }
            let Phase::Listening {
                backlog,
                pending,
                waiting,
            } = &mut state.phase
            else {
                return Attempt::Refused;
            };
            if pending.len() > *backlog {
                waiting.retain(|socket| socket.strong_count() > 0);
                if waiting.len() < WAITING_MAX {
                    waiting.push_back(self.me.clone());
                }
                return Attempt::Waits;
            }
            let server = listener.serve(&me, to, from);
            own.phase = Phase::Connected(server.clone());
            pending.push_back(server);
        }
        self.widen();
        listener.queue.notify(Events::READ);
        self.queue.notify(Events::WRITE);
        Attempt::Made
    }

    /// The socket at this end of a connection to `client`. Call it with the listening socket's lock held.
    fn serve(&self, client: &Arc<InetSocket>, local: Endpoint, remote: Endpoint) -> Arc<InetSocket> {
        let server = InetSocket::new(&self.ports, self.domain, Kind::Stream, self.owner);
        let inherited = self.options.lock().inherit();
        *server.options.lock() = inherited;
        server.send.set_size(self.send.size());
        server.widen();
        {
            // Nobody else knows the new socket yet, so this lock cannot be waited for.
            let mut state = server.state.lock_nested();
            state.local = Some(local);
            state.bound_ip = true;
            state.bound_port = true;
            state.remote = Some(remote);
            state.phase = Phase::Connected(client.clone());
        }
        self.ports.enter(&server, local, remote);
        server
    }

    /// A connected socket has a larger buffer, unless a size was asked for.
    fn widen(&self) {
        if !self.options.lock().fixed_send_buffer {
            self.send.set_size(CONNECTED_SEND);
        }
    }

    /// The next connection for accept(2): EINVAL when it does not listen.
    pub(super) fn next_connection(&self, nonblocking: bool) -> SysResult<Arc<InetSocket>> {
        let accepted = {
            let mut state = self.state.lock();
            let Phase::Listening { pending, waiting, .. } = &mut state.phase else {
                return fail!(EINVAL);
            };
            match pending.pop_front() {
                Some(accepted) => Ok((accepted, waiting.pop_front())),
                None => Err(WaitFor::queue(&self.queue, Events::READ)),
            }
        };
        match accepted {
            Ok((accepted, waiting)) => {
                if let Some(waiting) = waiting.and_then(|socket| socket.upgrade()) {
                    self.admit(&waiting);
                }
                Ok(accepted)
            }
            Err(wait) => {
                let timeout = self.options.lock().receive_timeout;
                Err(block(nonblocking, timeout, wait))
            }
        }
    }

    /// There is a place for one that waited.
    fn admit(&self, waiting: &InetSocket) {
        let ends = {
            let state = waiting.state.lock();
            state.local.zip(state.remote)
        };
        let Some((from, to)) = ends else { return };
        if matches!(waiting.attempt(self, from, to), Attempt::Refused) {
            let mut state = waiting.state.lock();
            if matches!(state.phase, Phase::Connecting) {
                waiting.refuse(&mut state);
            }
        }
    }

    /// shutdown(2).
    pub(super) fn shutdown_stream(&self, read: bool, write: bool) -> Result<(), Errno> {
        let peer = {
            let mut state = self.state.lock();
            match &state.phase {
                Phase::Unconnected | Phase::Ended => {
                    // Linux shuts it all the same.
                    state.shut_read |= read;
                    state.shut_write |= write;
                    return Err(Errno::ENOTCONN);
                }
                Phase::Listening { .. } if !read => return Ok(()),
                Phase::Listening { .. } | Phase::Connecting => {
                    drop(state);
                    self.abort();
                    return Ok(());
                }
                Phase::Connected(_) if state.fin && state.shut_write => return Err(Errno::ENOTCONN),
                Phase::Connected(peer) => {
                    let peer = peer.clone();
                    let ends = write && !state.shut_write;
                    state.shut_read |= read;
                    state.shut_write |= write;
                    ends.then_some(peer)
                }
            }
        };
        self.queue.notify(Events::all());
        if let Some(peer) = peer {
            peer.other_end_ended(self);
        }
        Ok(())
    }

    fn is_peer(state: &State, socket: &InetSocket) -> bool {
        matches!(&state.phase, Phase::Connected(peer) if std::ptr::eq(&**peer, socket))
    }

    /// `peer` sends no more.
    fn other_end_ended(&self, peer: &InetSocket) {
        {
            let mut state = self.state.lock();
            if !InetSocket::is_peer(&state, peer) {
                return;
            }
            state.fin = true;
        }
        self.queue.notify(Events::all());
    }

    /// `peer` knows nothing of this connection any more. The error tells whether it had said that it would end.
    fn reset_by(&self, peer: &InetSocket) {
        let old = {
            let mut state = self.state.lock();
            if !InetSocket::is_peer(&state, peer) {
                return;
            }
            match (state.fin, state.shut_write) {
                (true, true) => {}
                (true, false) => state.error = Some(Errno::EPIPE),
                (false, _) => state.error = Some(Errno::ECONNRESET),
            }
            state.shut_read = true;
            state.shut_write = true;
            std::mem::replace(&mut state.phase, Phase::Ended)
        };
        self.queue.notify(Events::all());
        drop(old);
    }

    /// End whatever the socket does; it can be used anew (connect(2) with AF_UNSPEC, shutdown(2) of a listening socket).
    fn abort(&self) {
        let (phase, inbox) = {
            let mut state = self.state.lock();
            let phase = std::mem::replace(&mut state.phase, Phase::Unconnected);
            if !matches!(phase, Phase::Listening { .. }) {
                self.disconnect(&mut state);
            }
            (state.shut_read, state.shut_write, state.fin) = (false, false, false);
            (phase, std::mem::take(&mut state.inbox))
        };
        self.listens.store(false, Ordering::SeqCst);
        self.leave(phase, true);
        self.queue.notify(Events::all());
        drop(inbox);
    }

    /// The last descriptor is gone, or nobody will ever accept it (`refused`).
    pub(super) fn end(&self, refused: bool) {
        let abortive = self.options.lock().linger == (true, 0);
        let (phase, inbox, local) = {
            let mut state = self.state.lock();
            state.closed = true;
            let phase = std::mem::replace(&mut state.phase, Phase::Ended);
            (phase, std::mem::take(&mut state.inbox), state.local.take())
        };
        self.listens.store(false, Ordering::SeqCst);
        if let Some(local) = local {
            self.ports.release(self, local.port);
        }
        self.leave(phase, refused || abortive || !inbox.is_empty());
        self.queue.notify(Events::all());
        drop(inbox);
    }

    /// Tell those at the other ends that this one is gone.
    fn leave(&self, phase: Phase, reset: bool) {
        match phase {
            Phase::Unconnected | Phase::Connecting | Phase::Ended => {}
            Phase::Listening { pending, waiting, .. } => {
                for socket in pending {
                    socket.end(true);
                }
                for socket in waiting.iter().filter_map(std::sync::Weak::upgrade) {
                    let mut state = socket.state.lock();
                    if matches!(state.phase, Phase::Connecting) {
                        socket.refuse(&mut state);
                    }
                }
            }
            Phase::Connected(peer) if reset => peer.reset_by(self),
            Phase::Connected(peer) => peer.other_end_ended(self),
        }
    }

    /// Whether more can be sent, and to whom: what is wrong first, then EPIPE.
    fn receiver(&self) -> SysResult<Arc<InetSocket>> {
        let mut state = self.state.lock();
        if let Some(errno) = state.error.take() {
            return Err(errno.into());
        }
        match &state.phase {
            Phase::Connected(peer) if !state.shut_write => Ok(peer.clone()),
            Phase::Connecting => Err(WaitFor::queue(&self.queue, Events::WRITE).into()),
            _ => fail!(EPIPE),
        }
    }

    /// send(2).
    pub(super) fn send_stream(&self, from: &mut dyn Source, outgoing: &Outgoing) -> SysResult<usize> {
        let timeout = self.options.lock().send_timeout;
        let mut sent = 0;
        loop {
            let generation = self.queue.generation();
            let peer = match self.receiver() {
                Ok(peer) => peer,
                Err(_) if sent > 0 => break,
                Err(Stop::Block(wait)) => return Err(block(outgoing.nonblocking, timeout, wait)),
                Err(stop) => return Err(stop),
            };
            if from.remaining() == 0 {
                break;
            }
            if self.send.is_full() {
                let wait = WaitFor::default().and_since(&self.queue, Events::WRITE, generation);
                match block(outgoing.nonblocking, timeout, wait) {
                    Stop::Errno(..) if sent > 0 => break,
                    stop => return Err(stop),
                }
            }
            let (data, memory_ended) = match take_piece(from) {
                Err(_) if sent > 0 => break,
                piece => piece?,
            };
            let taken = data.len();
            self.deliver(&peer, data);
            sent += taken;
            if memory_ended {
                break;
            }
        }
        Ok(sent)
    }

    /// Bring bytes to the other end. What comes to one that is gone is lost, and this one is told so.
    fn deliver(&self, peer: &InetSocket, data: Vec<u8>) {
        let nowhere = super::address::any(self.domain);
        let nowhere = Endpoint { ip: nowhere, port: 0 };
        let charge = self.send.charge(data.len());
        let note = Note {
            from: nowhere,
            to: nowhere,
        };
        let packet = Packet::new(data, note, Some(charge));
        let refused = {
            let mut state = peer.state.lock();
            if state.closed || state.shut_read && state.shut_write || !InetSocket::is_peer(&state, self) {
                Some(packet)
            } else {
                state.inbox.push(packet);
                None
            }
        };
        if refused.is_some() {
            drop(refused);
            peer.reset_by(self);
            self.reset_by(peer);
        } else {
            peer.queue.notify(Events::READ);
        }
    }

    /// recv(2).
    pub(super) fn receive_stream(&self, to: &mut dyn Sink, flags: ReceiveFlags) -> SysResult<Received> {
        let mut done = Vec::new();
        let mut length = 0;
        let result = {
            let mut state = self.state.lock();
            match state.phase {
                Phase::Unconnected | Phase::Listening { .. } => return fail!(ENOTCONN),
                _ => {}
            }
            if to.remaining() == 0 && !state.inbox.is_empty() {
                return Ok(Received::default());
            }
            let inbox: &mut Inbox<Note> = &mut state.inbox;
            let copied = inbox.copy_stream(to, flags.peek, &mut done, |_| true, |_| false);
            length += *copied.as_ref().unwrap_or(&0);
            let enough = length > 0 && !(flags.wait_all && to.remaining() > 0 && !flags.peek);
            match copied {
                Err(errno) => Err(errno.into()),
                Ok(_) if enough => Ok(()),
                Ok(_) => match self.nothing_to_receive(&mut state, flags.nonblocking) {
                    Err(Stop::Errno(..)) if length > 0 => Ok(()),
                    result => result,
                },
            }
        };
        // Their room is given back with no lock held.
        drop(done);
        result.map(|()| Received {
            length,
            full_length: length,
            ..Received::default()
        })
    }

    /// Nothing is there: why, or what to wait for. Fine is the end of the stream.
    fn nothing_to_receive(&self, state: &mut State, nonblocking: bool) -> SysResult<()> {
        if state.fin {
            return Ok(());
        }
        if let Some(errno) = state.error.take() {
            return Err(errno.into());
        }
        if state.shut_read || matches!(state.phase, Phase::Ended) {
            return Ok(());
        }
        let wait = WaitFor::queue(&self.queue, Events::READ);
        let timeout = self.options.lock().receive_timeout;
        Err(block(nonblocking, timeout, wait))
    }
}
