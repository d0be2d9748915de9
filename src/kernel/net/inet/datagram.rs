//! Datagrams: udp(7).

use std::net::IpAddr;

use super::address::{self, Endpoint, Given};
use super::{InetSocket, Note, State};
use crate::kernel::net::buffer::Packet;
use crate::kernel::net::socket::{ControlMessage, Kind, Outgoing, ReceiveFlags, Received, block};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitFor};

/// Longest message by IPv4 and by IPv6, in bytes.
const LONGEST_V4: usize = 65_507;
const LONGEST_V6: usize = 65_527;

/// Index of the loopback interface.
const LOOPBACK: u32 = 1;

impl InetSocket {
    /// connect(2): from now on only `given` is sent to and received from.
    pub(super) fn connect_datagram(&self, given: Given) -> Result<(), Errno> {
        let Given::Endpoint { endpoint, v4 } = given else {
            self.disconnect(&mut self.state.lock());
            return Ok(());
        };
        let (remote, source) = self.target(endpoint, v4)?;
        let mut state = self.state.lock();
        let local = self.bind_automatically(&mut state)?;
        let keeps = state.bound_ip || !local.ip.is_unspecified() && local.ip.is_ipv4() == remote.ip.is_ipv4();
        let ip = if keeps { local.ip } else { source };
        if ip.is_ipv4() != remote.ip.is_ipv4() {
            return Err(Errno::ENETUNREACH);
        }
        self.set_ends(&mut state, ip, Some(remote));
        Ok(())
    }

    /// shutdown(2). Linux shuts one that is not connected as well, and says all the same that it is not.
    pub(super) fn shutdown_datagram(&self, read: bool, write: bool) -> Result<(), Errno> {
        let connected = {
            let mut state = self.state.lock();
            state.shut_read |= read;
            state.shut_write |= write;
            state.remote.is_some()
        };
        self.queue.notify(Events::all());
        if connected { Ok(()) } else { Err(Errno::ENOTCONN) }
    }

    /// send(2). What finds nobody is lost; a connected socket is told of that by its next call.
    pub(super) fn send_datagram(&self, from: &mut dyn Source, outgoing: &Outgoing) -> SysResult<usize> {
        let to = match &outgoing.to {
            Some(bytes) => Some(address::parse(self.domain, bytes, true)?),
            None => None,
        };
        let to = match to {
            Some(Given::Endpoint { endpoint, v4 }) if endpoint.port != 0 => Some((endpoint, v4)),
            Some(Given::Endpoint { .. }) => return fail!(EINVAL),
            Some(Given::Unspecified { .. }) | None => None,
        };
        let length = from.remaining();
        let (source, target, connected) = self.ends(to)?;
        let longest = if target.ip.is_ipv4() {
            LONGEST_V4
        } else {
            LONGEST_V6
        };
        if length > longest {
            return fail!(EMSGSIZE);
        }
        let mut data = vec![0; length];
        if length > 0 && from.take(&mut data)? < length {
            return fail!(EFAULT);
        }
        let note = Note {
            from: source,
            to: target,
        };
        match self.ports.find(Kind::Datagram, target, source) {
            // Beyond what all sockets together may keep it is lost.
            Some(receiver) => {
                if let Some(charge) = self.ports.pool().charge(length) {
                    receiver.deliver_datagram(Packet::new(data, note, Some(charge)));
                }
            }
            None if connected => {
                self.state.lock().error = Some(Errno::ECONNREFUSED);
                self.queue.notify(Events::all());
            }
            None => {}
        }
        Ok(length)
    }

    /// From where to where a message goes, and whether that is where the socket is connected to: EDESTADDRREQ, and what the last
    /// message met.
    fn ends(&self, to: Option<(Endpoint, bool)>) -> SysResult<(Endpoint, Endpoint, bool)> {
        let routed = match to {
            Some((endpoint, v4)) => Some(self.target(endpoint, v4)?),
            None => None,
        };
        let mut state = self.state.lock();
        if let Some(errno) = state.error.take() {
            return Err(errno.into());
        }
        if state.shut_write {
            return fail!(EPIPE);
        }
        let (target, source) = match (routed, state.remote) {
            (Some(routed), _) => routed,
            (None, Some(remote)) => (remote, address::route(remote.ip)?.1),
            (None, None) => return fail!(EDESTADDRREQ),
        };
        let local = self.bind_automatically(&mut state)?;
        let ip = if local.ip.is_unspecified() {
            source
        } else {
            local.ip
        };
        if ip.is_ipv4() != target.ip.is_ipv4() {
            return fail!(ENETUNREACH);
        }
        let connected = state.remote == Some(target);
        Ok((Endpoint { ip, ..local }, target, connected))
    }

    /// Take a message in; it is lost when the buffer is full.
    fn deliver_datagram(&self, packet: Packet<Note>) {
        let room = self.options.lock().receive_buffer;
        let refused = {
            let mut state = self.state.lock();
            if state.closed || state.inbox.cost() > room {
                Some(packet)
            } else {
                state.inbox.push(packet);
                None
            }
        };
        if refused.is_none() {
            self.queue.notify(Events::READ);
        }
    }

    /// recv(2).
    pub(super) fn receive_datagram(&self, to: &mut dyn Sink, flags: ReceiveFlags) -> SysResult<Received> {
        let message = {
            let mut state = self.state.lock();
            if let Some(errno) = state.error.take() {
                return Err(errno.into());
            }
            let ends = |note: &mut Note| (note.from, note.to);
            let Some(message) = state.inbox.take_message(to, flags.peek, ends) else {
                self.nothing_came(&state, flags.nonblocking)?;
                return Ok(Received::default());
            };
            message
        };
        drop(message.done);
        let (from, target) = message.note;
        Ok(Received {
            length: message.copied?,
            full_length: message.full_length,
            from: from.to_bytes(self.domain),
            control: self.packet_info(target.ip),
            ..Received::default()
        })
    }

    fn nothing_came(&self, state: &State, nonblocking: bool) -> SysResult<()> {
        if state.shut_read {
            return Ok(());
        }
        let wait = WaitFor::queue(&self.queue, Events::READ);
        let timeout = self.options.lock().receive_timeout;
        Err(block(nonblocking, timeout, wait))
    }

    /// What IP_PKTINFO and IPV6_RECVPKTINFO tell of a message that was sent to `ip`.
    fn packet_info(&self, ip: IpAddr) -> Vec<ControlMessage> {
        let options = self.options.lock();
        let mut control = Vec::new();
        if let (IpAddr::V4(ip), true) = (ip, options.is_on(libc::IPPROTO_IP, libc::IP_PKTINFO)) {
            let mut info = LOOPBACK.to_le_bytes().to_vec();
            info.extend(ip.octets());
            info.extend(ip.octets());
            control.push((libc::IPPROTO_IP, libc::IP_PKTINFO, info));
        }
        if self.domain == libc::AF_INET6 && options.is_on(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) {
            let mut info = address::in_v6(ip).octets().to_vec();
            info.extend(LOOPBACK.to_le_bytes());
            control.push((libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info));
        }
        control
    }
}
