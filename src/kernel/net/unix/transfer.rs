//! Sending and receiving.

use std::sync::Arc;

use zerocopy::IntoBytes;

use super::in_flight::{FilesInFlight, InFlight};
use super::names::find;
use super::{Kind, Note, Phase, State, Ucred, UnixSocket};
use crate::kernel::fs::File;
use crate::kernel::fs::pipe::broken_pipe;
use crate::kernel::net::address::{self, Given, UnixAddress};
use crate::kernel::net::buffer::{Packet, take_piece};
use crate::kernel::net::socket::{Outgoing, ReceiveFlags, Received, block};
use crate::kernel::stop::{Errno, Stop, SysResult, fail};
use crate::kernel::task::{Task, current};
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitFor};

/// Type of the control message that passes credentials.
pub(in crate::kernel::net) const SCM_CREDENTIALS: i32 = 2;

/// What Linux keeps of a send buffer for itself, in bytes.
const BUFFER_OVERHEAD: usize = 32;

impl UnixSocket {
    /// send(2). A stream that has to wait in the middle blocks with `from` stepped over what is gone.
    pub(super) fn send_any(&self, from: &mut dyn Source, outgoing: &mut Outgoing) -> SysResult<usize> {
        let to = match outgoing.to.as_deref().map(Given::parse).transpose()? {
            None | Some(Given::Unspecified) => None,
            Some(given) if self.kind == Kind::Datagram => Some(given.name()?),
            Some(given) => given.name().ok(),
        };
        let sent = match self.kind {
            Kind::Stream => self.send_stream(from, outgoing, to.is_some()),
            _ => return self.send_message(from, outgoing, to.as_ref()),
        };
        match sent {
            Err(Stop::Errno(Errno::EPIPE, _)) if !outgoing.no_signal && from.taken() == 0 => {
                Err(broken_pipe().into())
            }
            sent => sent,
        }
    }

    fn check_error(&self) -> Result<(), Errno> {
        self.state.lock().error.take().map_or(Ok(()), Err)
    }

    /// A packet of this socket's, with the present task's credentials unless it chose others.
    fn packet(&self, data: Vec<u8>, cred: Option<Ucred>, files: FilesInFlight) -> Packet<Note> {
        let charge = self.send.charge(data.len());
        let cred = cred.or_else(|| {
            current().map(|task| {
                let creds = task.creds();
                Ucred {
                    pid: task.pid(),
                    uid: creds.uid,
                    gid: creds.gid,
                }
            })
        });
        let note = Note {
            from: self.state.lock().name.clone(),
            cred: cred.unwrap_or(Ucred::NOBODY),
            files,
        };
        Packet::new(data, note, Some(charge))
    }

    fn send_stream(
        &self,
        from: &mut dyn Source,
        outgoing: &mut Outgoing,
        addressed: bool,
    ) -> SysResult<usize> {
        let peer = {
            let state = self.state.lock();
            let connected = match &state.phase {
                Phase::Connected(peer) => Some(peer.clone()),
                _ => None,
            };
            if addressed {
                return if connected.is_some() {
                    fail!(EISCONN)
                } else {
                    fail!(EOPNOTSUPP)
                };
            }
            if state.shut_write {
                return fail!(EPIPE);
            }
            connected.ok_or(Errno::ENOTCONN)?
        };
        let timeout = self.options.lock().send_timeout;
        let mut sent = 0;
        while from.remaining() > 0 {
            let generation = self.queue.generation();
            let step = {
                let mut state = self.state.lock();
                if state.shut_write {
                    Err(Errno::EPIPE)
                } else {
                    state.error.take().map_or(Ok(()), Err)
                }
            };
            match step {
                Err(_) if sent > 0 => break,
                step => step?,
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
            let files = flight(std::mem::take(&mut outgoing.files), &peer)?;
            let packet = self.packet(data, outgoing.cred, files);
            match peer.deliver(packet) {
                Err(_) if sent > 0 => break,
                delivered => delivered?,
            }
            sent += taken;
            if memory_ended {
                break;
            }
        }
        Ok(sent)
    }

    /// Put a packet into this socket's queue; EPIPE when it receives no more.
    fn deliver(&self, packet: Packet<Note>) -> Result<(), Errno> {
        {
            let mut state = self.state.lock();
            if state.shut_read {
                drop(state);
                return Err(Errno::EPIPE);
            }
            state.inbox.push(packet);
        }
        self.queue.notify(Events::READ);
        Ok(())
    }

    fn send_message(
        &self,
        from: &mut dyn Source,
        outgoing: &mut Outgoing,
        to: Option<&UnixAddress>,
    ) -> SysResult<usize> {
        let target = self.target(to)?;
        let length = from.remaining();
        if length > self.send.size().saturating_sub(BUFFER_OVERHEAD) {
            return fail!(EMSGSIZE);
        }
        self.check_error()?;
        let timeout = self.options.lock().send_timeout;
        if self.state.lock().shut_write {
            return fail!(EPIPE);
        }
        if target.is_closed() {
            return Err(self.dead_target(&target).into());
        }
        if self.kind == Kind::Datagram && !target.may_receive_from(self) {
            return fail!(EPERM);
        }
        let own = self.queue.generation();
        let theirs = target.queue.generation();
        if self.send.is_full() {
            let wait = WaitFor::default().and_since(&self.queue, Events::WRITE, own);
            return Err(block(outgoing.nonblocking, timeout, wait));
        }
        if target.is_full_for(self) {
            let wait = WaitFor::default().and_since(&target.queue, Events::WRITE, theirs);
            return Err(block(outgoing.nonblocking, timeout, wait));
        }
        let mut data = vec![0; length];
        let taken = if length > 0 { from.take(&mut data)? } else { 0 };
        if taken < length {
            return fail!(EFAULT);
        }
        let files = flight(std::mem::take(&mut outgoing.files), &target)?;
        let packet = self.packet(data, outgoing.cred, files);
        target.deliver(packet)?;
        Ok(length)
    }

    /// Where a message goes: ENOTCONN without an address and a peer.
    fn target(&self, to: Option<&UnixAddress>) -> SysResult<Arc<UnixSocket>> {
        let peer = self.peer();
        match to {
            Some(_) if self.kind == Kind::SeqPacket => {
                // A connected one sends to its peer whatever the address says.
                Ok(peer.ok_or(Errno::ENOTCONN)?)
            }
            Some(name) => {
                let task = current().ok_or(Errno::ENOTCONN)?;
                Ok(find(&task, self.kind, name)?)
            }
            None => Ok(peer.ok_or(Errno::ENOTCONN)?),
        }
    }

    /// What sending to a closed socket gives; a datagram socket is not connected to it any more.
    fn dead_target(&self, target: &Arc<UnixSocket>) -> Errno {
        if self.kind == Kind::SeqPacket {
            return Errno::EPIPE;
        }
        let mut state = self.state.lock();
        let old = match &state.phase {
            Phase::Connected(peer) if Arc::ptr_eq(peer, target) => {
                Some(std::mem::replace(&mut state.phase, Phase::Unconnected))
            }
            _ => None,
        };
        drop(state);
        drop(old);
        Errno::ECONNREFUSED
    }

    /// recv(2).
    pub(super) fn receive_any(&self, to: &mut dyn Sink, flags: ReceiveFlags) -> SysResult<Received> {
        match self.kind {
            Kind::Stream => self.receive_stream(to, flags),
            _ => self.receive_message(to, flags),
        }
    }

    /// What a receiver is told of a message's sender.
    fn describe(&self, received: &mut Received, from: Option<&UnixAddress>, cred: Ucred) {
        if let Some(from) = from {
            received.from = address::bytes_of(Some(from));
        }
        if self.options.lock().pass_cred {
            let cred = cred.as_bytes().to_vec();
            received.control.push((libc::SOL_SOCKET, SCM_CREDENTIALS, cred));
        }
    }

    /// Nothing is there: why, or what to wait for. None is the end of the stream.
    fn nothing_to_receive(&self, state: &mut State, nonblocking: bool) -> SysResult<()> {
        if let Some(errno) = state.error.take() {
            return Err(errno.into());
        }
        // A datagram socket that does not wait is told nothing of an end.
        if state.shut_read && !(nonblocking && self.kind == Kind::Datagram) {
            return Ok(());
        }
        let wait = WaitFor::queue(&self.queue, Events::READ);
        let timeout = self.options.lock().receive_timeout;
        Err(block(nonblocking, timeout, wait))
    }

    fn receive_stream(&self, to: &mut dyn Sink, flags: ReceiveFlags) -> SysResult<Received> {
        let mut received = Received::default();
        let mut done = Vec::new();
        let result = {
            let mut state = self.state.lock();
            if !matches!(state.phase, Phase::Connected(_)) {
                return fail!(EINVAL);
            }
            if to.remaining() == 0 && !state.inbox.is_empty() {
                return Ok(received);
            }
            let copied = self.copy_stream(&mut state, to, flags, &mut received, &mut done);
            let enough = received.length > 0 && !(flags.wait_all && to.remaining() > 0 && !flags.peek);
            if copied.is_ok() && !enough && received.files.is_empty() {
                match self.nothing_to_receive(&mut state, flags.nonblocking) {
                    // What there is, when it ends here or nobody waits.
                    Ok(()) => Ok(()),
                    Err(Stop::Errno(..)) if received.length > 0 => Ok(()),
                    Err(stop) => Err(stop),
                }
            } else {
                copied.map_err(Into::into)
            }
        };
        // Their room and files are given back with no lock held.
        drop(done);
        result.map(|()| received)
    }

    fn receive_message(&self, to: &mut dyn Sink, flags: ReceiveFlags) -> SysResult<Received> {
        let message = {
            let mut state = self.state.lock();
            if self.kind == Kind::SeqPacket && !matches!(state.phase, Phase::Connected(_)) {
                return fail!(ENOTCONN);
            }
            let message = state.inbox.take_message(to, flags.peek, |note| {
                let files = if flags.peek {
                    note.files.copy()
                } else {
                    note.files.take()
                };
                (note.from.clone(), note.cred, files)
            });
            let Some(message) = message else {
                self.nothing_to_receive(&mut state, flags.nonblocking)?;
                return Ok(Received::default());
            };
            message
        };
        if message.done.is_some() && self.kind == Kind::Datagram {
            self.queue.notify(Events::WRITE);
        }
        drop(message.done);
        let (from, cred, files) = message.note;
        let mut received = Received {
            length: message.copied?,
            full_length: message.full_length,
            files,
            ..Received::default()
        };
        self.describe(&mut received, from.as_ref(), cred);
        Ok(received)
    }

    /// Copy from the queue: packets of one sender where credentials are passed, up to and including the first with files.
    fn copy_stream(
        &self,
        state: &mut State,
        to: &mut dyn Sink,
        flags: ReceiveFlags,
        received: &mut Received,
        done: &mut Vec<Packet<Note>>,
    ) -> Result<(), Errno> {
        let check_cred = self.options.lock().pass_cred;
        let mut cred = None;
        let mut from = None;
        let last_cred = std::cell::Cell::new(None);
        let copied = state.inbox.copy_stream(
            to,
            flags.peek,
            done,
            |note| !check_cred || last_cred.get().is_none_or(|cred| cred == note.cred),
            |note| {
                last_cred.set(Some(note.cred));
                cred = Some(note.cred);
                from = note.from.clone();
                let has_files = !note.files.is_empty();
                received.files = if flags.peek {
                    note.files.copy()
                } else {
                    note.files.take()
                };
                has_files
            },
        );
        received.length = copied?;
        received.full_length = received.length;
        if let Some(cred) = cred {
            self.describe(received, from.as_ref(), cred);
        }
        Ok(())
    }
}

fn flight(files: Vec<Arc<File>>, receiver: &UnixSocket) -> Result<FilesInFlight, Errno> {
    match current() {
        Some(task) => in_flight_of(&task).send(files, receiver),
        None => InFlight::default().send(files, receiver),
    }
}

fn in_flight_of(task: &Task) -> &InFlight {
    &task.kernel.net.in_flight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::net::socket::Socket;
    use crate::kernel::task::testing::Caller;
    use crate::kernel::user_memory::{KernelSink, KernelSource};
    use crate::kernel::wait::testing::until_done;

    const CRED: Ucred = Ucred {
        pid: 1,
        uid: 0,
        gid: 0,
    };

    fn send(socket: &UnixSocket, bytes: &[u8]) -> SysResult<usize> {
        socket.send_any(&mut KernelSource::new(bytes), &mut Outgoing::plain(true))
    }

    fn receive(socket: &UnixSocket, max: usize) -> Result<Vec<u8>, Option<Errno>> {
        let mut sink = KernelSink::new(max);
        let flags = ReceiveFlags {
            nonblocking: true,
            ..ReceiveFlags::default()
        };
        match socket.receive_any(&mut sink, flags) {
            Ok(_) => Ok(sink.bytes),
            Err(Stop::Errno(errno, _)) => Err(Some(errno)),
            Err(_) => Err(None),
        }
    }

    fn errno<T>(result: SysResult<T>) -> Option<Errno> {
        match result {
            Err(Stop::Errno(errno, _)) => Some(errno),
            _ => None,
        }
    }

    #[test]
    fn a_stream_glues_and_ends() {
        let (a, b) = UnixSocket::pair(Kind::Stream, CRED);
        assert_eq!(receive(&b, 9), Err(Some(Errno::EAGAIN)));
        assert!(matches!(send(&a, b"abc"), Ok(3)));
        assert!(matches!(send(&a, b"def"), Ok(3)));
        assert_eq!(receive(&b, 4), Ok(b"abcd".to_vec()));
        assert_eq!(receive(&b, 4), Ok(b"ef".to_vec()));
        a.close();
        assert_eq!(receive(&b, 4), Ok(Vec::new()));
        assert_eq!(errno(send(&b, b"x")), Some(Errno::EPIPE));
    }

    #[test]
    fn messages_keep_their_ends() {
        let (a, b) = UnixSocket::pair(Kind::SeqPacket, CRED);
        assert!(matches!(send(&a, b"abc"), Ok(3)));
        assert!(matches!(send(&a, b""), Ok(0)));
        assert_eq!(receive(&b, 2), Ok(b"ab".to_vec()));
        assert_eq!(receive(&b, 2), Ok(Vec::new()));
        assert_eq!(receive(&b, 2), Err(Some(Errno::EAGAIN)));
    }

    #[test]
    fn unread_data_resets() {
        let (a, b) = UnixSocket::pair(Kind::Stream, CRED);
        assert!(matches!(send(&a, b"unread"), Ok(6)));
        b.close();
        assert_eq!(receive(&a, 1), Err(Some(Errno::ECONNRESET)));
        assert_eq!(receive(&a, 1), Ok(Vec::new()));
    }

    #[test]
    fn a_full_buffer_refuses_until_it_is_read() {
        let (a, b) = UnixSocket::pair(Kind::Stream, CRED);
        let text = vec![7; 1 << 20];
        let Ok(sent) = send(&a, &text) else {
            panic!("nothing sent")
        };
        assert!(sent < text.len());
        assert_eq!(errno(send(&a, &text)), Some(Errno::EAGAIN));
        assert!(!a.ready().intersects(Events::WRITE));
        assert_eq!(receive(&b, text.len()).map(|got| got.len()), Ok(sent));
        assert!(a.ready().intersects(Events::WRITE));
    }

    #[test]
    fn a_connection_that_is_closed_as_it_is_accepted_ends_for_both() {
        const ROUNDS: usize = 300;
        let caller = Caller::new();
        let task = &caller.task;
        let name = || Given::Name(UnixAddress::Abstract(b"name".to_vec()));
        let listener = UnixSocket::new(Kind::Stream);
        assert!(listener.bind_to(task, name()).is_ok() && listener.begin_listening(task, 1).is_ok());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let socket = UnixSocket::new(Kind::Stream);
                        assert_eq!(until_done(|| socket.connect_to(task, name(), false)), Ok(()));
                        let flags = ReceiveFlags::default();
                        let end = until_done(|| socket.receive_any(&mut KernelSink::new(1), flags));
                        assert_eq!(end.map(|received| received.length), Ok(0));
                        socket.close();
                    }
                });
            }
            for _ in 0..2 * ROUNDS {
                let accepted = until_done(|| listener.next_connection(false)).expect("a connection");
                accepted.close();
            }
        });
        listener.close();
    }
}
