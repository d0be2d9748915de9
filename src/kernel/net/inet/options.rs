//! Options of ip(7), ipv6(7), tcp(7) and udp(7). Most have no effect where no packets are, and are only remembered.

use super::{InetSocket, Phase};
use crate::kernel::net::socket::Kind;
use crate::kernel::stop::Errno;
use crate::kernel::task::{Capability, Task};

/// Largest segment by the loopback interface, and before there is a connection, in bytes.
const SEGMENT: i32 = 65_483;
const SEGMENT_UNCONNECTED: i32 = 536;
/// Largest packet of the loopback interface, in bytes.
const MTU: i32 = 65_536;

const TCP_USER_TIMEOUT: i32 = 18;
const TCP_NOTSENT_LOWAT: i32 = 25;
const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
const IPV6_TCLASS: i32 = 67;

/// Size of `struct tcp_info` up to where all Linux versions have it, in bytes.
const TCP_INFO: usize = 104;
/// Size of a name in TCP_CONGESTION.
const NAME: usize = 16;

/// An option that is a number: level, option, value at first, least, largest.
struct Number(i32, i32, i32, i32, i32);

const fn switch(level: i32, option: i32, first: i32) -> Number {
    Number(level, option, first, 0, 1)
}

const IP: i32 = libc::IPPROTO_IP;
const IPV6: i32 = libc::IPPROTO_IPV6;
const TCP: i32 = libc::IPPROTO_TCP;

/// What can be set and is given back.
const NUMBERS: &[Number] = &[
    switch(libc::SOL_SOCKET, libc::SO_REUSEPORT, 0),
    Number(libc::SOL_SOCKET, libc::SO_INCOMING_CPU, 0, 0, i32::MAX),
    Number(IP, libc::IP_TOS, 0, 0, 255),
    Number(IP, libc::IP_TTL, 64, 1, 255),
    Number(IP, libc::IP_MTU_DISCOVER, 1, 0, 5),
    Number(IP, libc::IP_MULTICAST_TTL, 1, 0, 255),
    switch(IP, libc::IP_MULTICAST_LOOP, 1),
    switch(IP, libc::IP_PKTINFO, 0),
    switch(IP, libc::IP_RECVERR, 0),
    switch(IP, libc::IP_FREEBIND, 0),
    switch(IP, IP_BIND_ADDRESS_NO_PORT, 0),
    switch(IPV6, libc::IPV6_V6ONLY, 0),
    switch(IPV6, libc::IPV6_RECVPKTINFO, 0),
    switch(IPV6, libc::IPV6_RECVERR, 0),
    switch(IPV6, libc::IPV6_MULTICAST_LOOP, 1),
    Number(IPV6, libc::IPV6_UNICAST_HOPS, 64, 0, 255),
    Number(IPV6, libc::IPV6_MULTICAST_HOPS, 1, 0, 255),
    Number(IPV6, libc::IPV6_MTU_DISCOVER, 1, 0, 5),
    Number(IPV6, IPV6_TCLASS, 0, 0, 255),
    switch(TCP, libc::TCP_NODELAY, 0),
    switch(TCP, libc::TCP_CORK, 0),
    switch(TCP, libc::TCP_QUICKACK, 1),
    Number(TCP, libc::TCP_MAXSEG, SEGMENT_UNCONNECTED, 88, 32_767),
    Number(TCP, libc::TCP_KEEPIDLE, 7200, 1, 32_767),
    Number(TCP, libc::TCP_KEEPINTVL, 75, 1, 32_767),
    Number(TCP, libc::TCP_KEEPCNT, 9, 1, 127),
    Number(TCP, libc::TCP_SYNCNT, 6, 1, 127),
    Number(TCP, libc::TCP_DEFER_ACCEPT, 0, 0, 65_535),
    Number(TCP, libc::TCP_LINGER2, 60, -1, 120),
    Number(TCP, libc::TCP_WINDOW_CLAMP, 0, 0, i32::MAX),
    Number(TCP, TCP_USER_TIMEOUT, 0, 0, i32::MAX),
    Number(TCP, TCP_NOTSENT_LOWAT, 0, 0, i32::MAX),
];

impl InetSocket {
    /// ENOPROTOOPT, also for levels that are not the protocol's.
    fn number(&self, level: i32, option: i32) -> Result<&'static Number, Errno> {
        let known = match level {
            TCP => self.kind == Kind::Stream,
            IPV6 => self.domain == libc::AF_INET6,
            _ => true,
        };
        let mut numbers = NUMBERS.iter().filter(|_| known);
        let found = numbers.find(|number| (number.0, number.1) == (level, option));
        found.ok_or(Errno::ENOPROTOOPT)
    }

    /// setsockopt(2): ENOPROTOOPT, EINVAL.
    pub(super) fn set_own_option(
        &self,
        task: &Task,
        level: i32,
        option: i32,
        value: &[u8],
    ) -> Result<(), Errno> {
        match (level, option) {
            (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => return bind_to_device(value),
            (TCP, libc::TCP_CONGESTION) if self.kind == Kind::Stream => {
                let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
                return if name == CONGESTION {
                    Ok(())
                } else {
                    Err(Errno::ENOENT)
                };
            }
            _ => {}
        }
        let &Number(level, option, first, least, most) = self.number(level, option)?;
        let value = match *value {
            [a, b, c, d, ..] => i32::from_le_bytes([a, b, c, d]),
            // Options of IP may be bytes.
            [byte, ..] if level == IP => i32::from(byte),
            _ => return Err(Errno::EINVAL),
        };
        let value = match (least, most, value) {
            (0, 1, value) => i32::from(value != 0),
            // As if nothing had been set.
            (_, 255, -1) if level != TCP => first,
            _ if (least..=most).contains(&value) => value,
            _ => return Err(Errno::EINVAL),
        };
        match (level, option) {
            (IPV6, libc::IPV6_V6ONLY) if self.state.lock().local.is_some() => return Err(Errno::EINVAL),
            (IP, libc::IP_FREEBIND) if value != 0 && !task.creds().capable(Capability::NetAdmin) => {
                return Err(Errno::EPERM);
            }
            _ => {}
        }
        self.options.lock().remember(level, option, value);
        Ok(())
    }

    /// getsockopt(2): ENOPROTOOPT.
    pub(super) fn own_option(&self, level: i32, option: i32) -> Result<Vec<u8>, Errno> {
        let number = match (level, option) {
            (libc::SOL_SOCKET, libc::SO_BINDTODEVICE) => return Ok(Vec::new()),
            (TCP, libc::TCP_INFO) if self.kind == Kind::Stream => return Ok(self.tcp_info()),
            (TCP, libc::TCP_CONGESTION) if self.kind == Kind::Stream => {
                let mut name = CONGESTION.to_vec();
                name.resize(NAME, 0);
                return Ok(name);
            }
            (TCP, libc::TCP_MAXSEG) if self.is_connected() => SEGMENT,
            (IP, libc::IP_MTU) if self.state.lock().remote.is_some() => MTU,
            (IP, libc::IP_MTU) => return Err(Errno::ENOTCONN),
            _ => {
                let &Number(level, option, first, ..) = self.number(level, option)?;
                let set = self.options.lock().remembered(level, option);
                set.unwrap_or(first)
            }
        };
        Ok(number.to_le_bytes().to_vec())
    }

    fn is_connected(&self) -> bool {
        self.kind == Kind::Stream && matches!(self.state.lock().phase, Phase::Connected(_))
    }

    /// `struct tcp_info`: its state, the options that both ends know, and the sizes of segments. Nothing is ever lost or sent again.
    fn tcp_info(&self) -> Vec<u8> {
        const TIMESTAMPS_SACK_SCALE: u8 = 7;
        let state = self.state.lock();
        let mut info = vec![0; TCP_INFO];
        info[0] = self.tcp_state(&state);
        if matches!(state.phase, Phase::Connected(_)) {
            info[5] = TIMESTAMPS_SACK_SCALE;
            info[6] = 7 << 4 | 7;
            let segment = SEGMENT.to_le_bytes();
            // Sent and received segments, and the path's MTU.
            info[16..20].copy_from_slice(&segment);
            info[20..24].copy_from_slice(&segment);
            info[60..64].copy_from_slice(&MTU.to_le_bytes());
        }
        info
    }
}

/// The only way of congestion control.
const CONGESTION: &[u8] = b"cubic";

/// SO_BINDTODEVICE: to the one interface there is, or to none. ENODEV.
fn bind_to_device(name: &[u8]) -> Result<(), Errno> {
    match name.split(|byte| *byte == 0).next().unwrap_or_default() {
        b"" | b"lo" => Ok(()),
        _ => Err(Errno::ENODEV),
    }
}
