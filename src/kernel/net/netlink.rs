//! AF_NETLINK for questions about the network (NETLINK_ROUTE): netlink(7), rtnetlink(7), as getifaddrs(3), getaddrinfo(3) and ip(8)
//! ask them. Nothing about the one interface changes, so there is nothing to be told of, and what would change it is EPERM.

use std::sync::Arc;

use super::buffer::{Inbox, Packet};
use super::interface;
use super::options::Options;
use super::socket::{Kind, Outgoing, ReceiveFlags, Received, Socket, block};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::{Task, current};
use crate::kernel::user_memory::{Sink, Source};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

/// SO_SNDBUF and SO_RCVBUF, in bytes.
const BUFFER: usize = 212_992;

/// Size of `struct sockaddr_nl`, `struct nlmsghdr`, `struct ifinfomsg` and `struct ifaddrmsg`, in bytes.
const ADDRESS: usize = 12;
const HEADER: usize = 16;
const LINK: usize = 16;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const GET_ROUTE: u16 = 26;
const GET_NEIGHBOUR: u16 = 30;
const GET_RULE: u16 = 34;
/// NLM_F_MULTI, NLM_F_ACK, NLM_F_DUMP
const MULTI: u16 = 2;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;

/// IFF_UP, IFF_LOOPBACK, IFF_RUNNING, IFF_LOWER_UP
const LINK_FLAGS: u32 = 0x1_0049;
/// IFA_F_PERMANENT and RT_SCOPE_HOST
const PERMANENT: u8 = 0x80;
const HOST: u8 = 254;

/// A NETLINK_ROUTE socket.
pub(super) struct RouteSocket {
    kind: Kind,
    queue: WaitQueue,
    options: Lock<Options>,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    /// Its address; 0 before it has one.
    port: u32,
    groups: u32,
    inbox: Inbox<()>,
    /// An answer was lost.
    overrun: bool,
    send_buffer: usize,
}

/// The header of a request.
#[derive(Clone, Copy)]
struct Request {
    kind: u16,
    flags: u16,
    sequence: u32,
}

impl RouteSocket {
    pub(super) fn new(kind: Kind) -> Arc<RouteSocket> {
        Arc::new(RouteSocket {
            kind,
            queue: WaitQueue::new(),
            options: Lock::new(Rank::Leaf, Options::new(BUFFER)),
            state: Lock::new(
                Rank::Object,
                State {
                    send_buffer: BUFFER,
                    ..State::default()
                },
            ),
        })
    }

    /// Its address, which is the caller's process by default.
    fn port(state: &mut State, task: Option<&Task>) -> u32 {
        if state.port == 0 {
            state.port = task.map_or(0, |task| task.pid().cast_unsigned());
        }
        state.port
    }

    fn bind_to(&self, task: &Task, address: &[u8]) -> Result<(), Errno> {
        let (port, groups) = parse(address)?;
        let mut state = self.state.lock();
        if state.port != 0 && port != 0 && port != state.port {
            return Err(Errno::EINVAL);
        }
        state.port = port;
        state.groups = groups;
        RouteSocket::port(&mut state, Some(task));
        Ok(())
    }

    /// Answer what is in a message, each to a message of its own.
    fn answer(&self, mut rest: &[u8]) {
        let mut state = self.state.lock();
        let port = RouteSocket::port(&mut state, current().as_deref());
        let room = self.options.lock().receive_buffer;
        while let Some((request, body, next)) = split(rest) {
            let mut answer = Answer {
                request,
                port,
                bytes: Vec::new(),
            };
            let result = answer.fill(body);
            if result.is_err() || request.flags & ACK != 0 && request.flags & DUMP == 0 {
                answer.error(result.err(), &rest[..HEADER]);
            }
            if answer.bytes.is_empty() {
                // Nothing was asked.
            } else if state.inbox.cost() > room {
                state.overrun = true;
            } else {
                state.inbox.push(Packet::new(answer.bytes, (), None));
            }
            rest = next;
        }
        drop(state);
        self.queue.notify(Events::READ);
    }
}

/// An address argument: whom, and which groups. EINVAL.
fn parse(address: &[u8]) -> Result<(u32, u32), Errno> {
    if address.len() < ADDRESS {
        return Err(Errno::EINVAL);
    }
    if i32::from(u16::from_le_bytes([address[0], address[1]])) != libc::AF_NETLINK {
        return Err(Errno::EINVAL);
    }
    Ok((word(address, 4), word(address, 8)))
}

fn address_of(port: u32, groups: u32) -> Vec<u8> {
    let mut bytes = (libc::AF_NETLINK as u32).to_le_bytes().to_vec();
    bytes.extend(port.to_le_bytes());
    bytes.extend(groups.to_le_bytes());
    bytes
}

/// The 32 bits at an offset; 0 where there are none.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |word| u32::from_le_bytes(*word))
}

/// The first request of a message, what is in it, and what follows.
fn split(bytes: &[u8]) -> Option<(Request, &[u8], &[u8])> {
    let head = bytes.get(..HEADER)?;
    let length = usize::try_from(word(head, 0)).ok()?;
    let body = bytes.get(HEADER..length)?;
    let request = Request {
        kind: u16::from_le_bytes([head[4], head[5]]),
        flags: u16::from_le_bytes([head[6], head[7]]),
        sequence: word(head, 8),
    };
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((request, body, next))
}

/// Messages that answer one request.
struct Answer {
    request: Request,
    port: u32,
    bytes: Vec<u8>,
}

impl Answer {
    fn message(&mut self, kind: u16, flags: u16, body: &[u8]) {
        let length = u32::try_from(HEADER + body.len()).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(flags.to_le_bytes());
        self.bytes.extend(self.request.sequence.to_le_bytes());
        self.bytes.extend(self.port.to_le_bytes());
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// An error, or that there was none.
    fn error(&mut self, errno: Option<Errno>, head: &[u8]) {
        let mut body = (-errno.map_or(0, |errno| errno as i32)).to_le_bytes().to_vec();
        body.extend(head);
        self.message(ERROR, 0, &body);
    }

    /// What the request asks for: EPERM for changes, ENODEV, EOPNOTSUPP.
    fn fill(&mut self, body: &[u8]) -> Result<(), Errno> {
        let family = i32::from(*body.first().ok_or(Errno::EINVAL)?);
        let dump = self.request.flags & DUMP == DUMP;
        match self.request.kind {
            GET_LINK if dump => self.message(NEW_LINK, MULTI, &link()),
            GET_LINK => {
                if word(body, 4) != interface::INDEX.cast_unsigned() && !names_loopback(body) {
                    return Err(Errno::ENODEV);
                }
                self.message(NEW_LINK, 0, &link());
                return Ok(());
            }
            GET_ADDRESS if dump => {
                for (own, body) in [(libc::AF_INET, v4()), (libc::AF_INET6, v6())] {
                    if family == libc::AF_UNSPEC || family == own {
                        self.message(NEW_ADDRESS, MULTI, &body);
                    }
                }
            }
            // There is nothing beyond the interface.
            GET_ROUTE | GET_NEIGHBOUR | GET_RULE if dump => {}
            GET_ROUTE => return Err(Errno::ENETUNREACH),
            // Nothing is asked.
            kind if kind < NEW_LINK => return Ok(()),
            // RTM_GETxxx are 2 above a multiple of 4, and all others change something.
            kind if kind & 3 != 2 => return Err(Errno::EPERM),
            _ => return Err(Errno::EOPNOTSUPP),
        }
        self.message(DONE, MULTI, &0i32.to_le_bytes());
        Ok(())
    }
}

/// Whether a request asks by name (IFLA_IFNAME) for the loopback interface.
fn names_loopback(body: &[u8]) -> bool {
    const NAME: u16 = 3;
    let mut rest = body.get(LINK..).unwrap_or_default();
    while let [l0, l1, k0, k1, data @ ..] = rest {
        let length = usize::from(u16::from_le_bytes([*l0, *l1]));
        let Some(value) = length.checked_sub(4).and_then(|length| data.get(..length)) else {
            return false;
        };
        if u16::from_le_bytes([*k0, *k1]) == NAME {
            return value.split(|byte| *byte == 0).next() == Some(interface::NAME);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// Put an attribute behind others.
fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// `struct ifinfomsg` of the loopback interface with its attributes.
fn link() -> Vec<u8> {
    let mut bytes = vec![0; 2];
    bytes.extend(interface::HARDWARE.to_le_bytes());
    bytes.extend(interface::INDEX.to_le_bytes());
    bytes.extend(LINK_FLAGS.to_le_bytes());
    bytes.extend([0; 4]);
    let name = [interface::NAME, &[0]].concat();
    attribute(&mut bytes, libc::IFLA_IFNAME, &name);
    attribute(&mut bytes, libc::IFLA_TXQLEN, &interface::QUEUE.to_le_bytes());
    attribute(&mut bytes, libc::IFLA_OPERSTATE, &[0]);
    attribute(&mut bytes, libc::IFLA_MTU, &interface::MTU.to_le_bytes());
    attribute(&mut bytes, libc::IFLA_QDISC, b"noqueue\0");
    attribute(&mut bytes, libc::IFLA_ADDRESS, &[0; 6]);
    attribute(&mut bytes, libc::IFLA_BROADCAST, &[0; 6]);
    bytes
}

/// `struct ifaddrmsg` with its attributes.
fn interface_address(family: i32, prefix: u8, ip: &[u8], more: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    const FLAGS: u16 = 8;
    let mut bytes = vec![family as u8, prefix, PERMANENT, HOST];
    bytes.extend(interface::INDEX.to_le_bytes());
    attribute(&mut bytes, libc::IFA_ADDRESS, ip);
    more(&mut bytes);
    attribute(&mut bytes, FLAGS, &u32::from(PERMANENT).to_le_bytes());
    bytes
}

fn v4() -> Vec<u8> {
    let ip = [127, 0, 0, 1];
    interface_address(libc::AF_INET, 8, &ip, |bytes| {
        attribute(bytes, libc::IFA_LOCAL, &ip);
        let label = [interface::NAME, &[0]].concat();
        attribute(bytes, libc::IFA_LABEL, &label);
    })
}

fn v6() -> Vec<u8> {
    let ip = std::net::Ipv6Addr::LOCALHOST.octets();
    interface_address(libc::AF_INET6, 128, &ip, |_| {})
}

impl Socket for RouteSocket {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn domain(&self) -> i32 {
        libc::AF_NETLINK
    }

    fn options(&self) -> &Lock<Options> {
        &self.options
    }

    fn bind(&self, task: &Task, address: &[u8]) -> SysResult<()> {
        Ok(self.bind_to(task, address)?)
    }

    fn connect(&self, _: &Task, address: &[u8], _: bool) -> SysResult<()> {
        match parse(address)? {
            (0, _) => Ok(()),
            // Only the kernel answers.
            _ => fail!(ECONNREFUSED),
        }
    }

    fn name(&self) -> Vec<u8> {
        let state = self.state.lock();
        address_of(state.port, state.groups)
    }

    fn peer_name(&self) -> Result<Vec<u8>, Errno> {
        Ok(address_of(0, 0))
    }

    fn shutdown(&self, _: bool, _: bool) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    fn send(&self, from: &mut dyn Source, outgoing: &mut Outgoing) -> SysResult<usize> {
        if let Some(address) = &outgoing.to
            && parse(address)?.0 != 0
        {
            return fail!(ECONNREFUSED);
        }
        let length = from.remaining();
        if length > self.send_buffer() {
            return fail!(EMSGSIZE);
        }
        let mut data = vec![0; length];
        if length > 0 && from.take(&mut data)? < length {
            return fail!(EFAULT);
        }
        self.answer(&data);
        Ok(length)
    }

    fn receive(&self, to: &mut dyn Sink, flags: ReceiveFlags) -> SysResult<Received> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.overrun) {
            return fail!(ENOBUFS);
        }
        let Some(message) = state.inbox.take_message(to, flags.peek, |()| ()) else {
            let wait = WaitFor::queue(&self.queue, Events::READ);
            let timeout = self.options.lock().receive_timeout;
            return Err(block(flags.nonblocking, timeout, wait));
        };
        Ok(Received {
            length: message.copied?,
            full_length: message.full_length,
            from: address_of(0, 0),
            ..Received::default()
        })
    }

    fn poll(&self) -> Events {
        let state = self.state.lock();
        let mut events = Events::WRITE;
        if !state.inbox.is_empty() {
            events |= Events::READ;
        }
        if state.overrun {
            events |= Events::ERR;
        }
        events
    }

    fn queues(&self, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.queue.clone(), interest)]
    }

    fn unread(&self) -> Result<usize, Errno> {
        Ok(self.state.lock().inbox.first_length())
    }

    fn unsent(&self) -> Result<usize, Errno> {
        Ok(0)
    }

    fn send_buffer(&self) -> usize {
        self.state.lock().send_buffer
    }

    fn set_send_buffer(&self, bytes: usize) {
        self.state.lock().send_buffer = bytes;
    }

    fn take_error(&self) -> Option<Errno> {
        std::mem::take(&mut self.state.lock().overrun).then_some(Errno::ENOBUFS)
    }

    fn set_option(&self, _: &Task, level: i32, option: i32, value: &[u8]) -> Result<(), Errno> {
        if level != libc::SOL_NETLINK || !(1..=LAST_OPTION).contains(&option) {
            return Err(Errno::ENOPROTOOPT);
        }
        let value = value.first_chunk().ok_or(Errno::EINVAL)?;
        let mut options = self.options.lock();
        options.remember(level, option, i32::from_le_bytes(*value));
        Ok(())
    }

    fn option(&self, level: i32, option: i32) -> Result<Vec<u8>, Errno> {
        if level != libc::SOL_NETLINK || !(1..=LAST_OPTION).contains(&option) {
            return Err(Errno::ENOPROTOOPT);
        }
        let value = self.options.lock().remembered(level, option);
        Ok(value.unwrap_or(0).to_le_bytes().to_vec())
    }

    fn close(&self) {
        let inbox = std::mem::take(&mut self.state.lock().inbox);
        drop(inbox);
    }
}

/// NETLINK_GET_STRICT_CHK, the last option there is.
const LAST_OPTION: i32 = 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(kind: u16, flags: u16, body: &[u8]) -> Result<Vec<u16>, Errno> {
        let request = Request {
            kind,
            flags,
            sequence: 7,
        };
        let mut answer = Answer {
            request,
            port: 1,
            bytes: Vec::new(),
        };
        answer.fill(body)?;
        let mut kinds = Vec::new();
        let mut rest = answer.bytes.as_slice();
        while let Some((message, _, next)) = split(rest) {
            kinds.push(message.kind);
            rest = next;
        }
        Ok(kinds)
    }

    #[test]
    fn tells_of_the_loopback_interface() {
        assert_eq!(ask(GET_LINK, DUMP, &[0; 16]), Ok(vec![NEW_LINK, DONE]));
        let both = vec![NEW_ADDRESS, NEW_ADDRESS, DONE];
        assert_eq!(ask(GET_ADDRESS, DUMP, &[0]), Ok(both));
        assert_eq!(ask(GET_ADDRESS, DUMP, &[10]), Ok(vec![NEW_ADDRESS, DONE]));
        assert_eq!(ask(GET_ROUTE, DUMP, &[0; 12]), Ok(vec![DONE]));
        assert_eq!(ask(GET_LINK, 0, &[0; 16]), Err(Errno::ENODEV));
        assert_eq!(ask(NEW_LINK, 0, &[0; 16]), Err(Errno::EPERM));
        assert_eq!(ask(GET_LINK, DUMP, &[]), Err(Errno::EINVAL));
        let mut by_name = vec![0; LINK];
        attribute(&mut by_name, 3, b"lo\0");
        assert_eq!(ask(GET_LINK, 0, &by_name), Ok(vec![NEW_LINK]));
        by_name[LINK] = 0;
        assert_eq!(ask(GET_LINK, 0, &by_name), Err(Errno::ENODEV));
    }

    #[test]
    fn lengths_that_lie_end_the_message() {
        for length in [0u32, 3, 15, 17, u32::MAX] {
            let mut bytes = vec![0; HEADER];
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            assert!(split(&bytes).is_none(), "{length}");
        }
    }
}
