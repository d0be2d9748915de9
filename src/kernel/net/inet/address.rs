//! Addresses of the Internet, and which of them are the guest's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::kernel::stop::Errno;

/// Size of `struct sockaddr_in`, in bytes.
const SOCKADDR_IN: usize = 16;
/// Size of `struct sockaddr_in6`, and the least that Linux takes for one (without a scope), in bytes.
const SOCKADDR_IN6: usize = 28;
const SOCKADDR_IN6_MIN: usize = 24;

/// An address and a port. An IPv4 address that is mapped into IPv6 is kept as an IPv4 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) struct Endpoint {
    pub(in crate::kernel) ip: IpAddr,
    pub(in crate::kernel) port: u16,
}

/// What an address argument says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Endpoint {
        endpoint: Endpoint,
        /// `struct sockaddr_in`, or an IPv4 address mapped into IPv6.
        v4: bool,
    },
    /// AF_UNSPEC, and whether what follows is all zeros, as of INADDR_ANY.
    Unspecified { any: bool },
}

/// Read an address for a socket of `domain`: EINVAL for a length that does not fit, EAFNOSUPPORT for another family, except
/// that IPv6 sockets take `struct sockaddr_in` where `either` is.
pub(super) fn parse(domain: i32, bytes: &[u8], either: bool) -> Result<Given, Errno> {
    let (family, rest) = bytes.split_first_chunk::<2>().ok_or(Errno::EINVAL)?;
    let family = i32::from(u16::from_le_bytes(*family));
    match family {
        libc::AF_UNSPEC => Ok(Given::Unspecified {
            any: rest.get(2..6).is_some_and(|ip| ip == [0; 4]),
        }),
        libc::AF_INET if domain == libc::AF_INET || either => parse_v4(bytes),
        libc::AF_INET6 if domain == libc::AF_INET6 => parse_v6(bytes),
        _ if bytes.len()
            < if domain == libc::AF_INET {
                SOCKADDR_IN
            } else {
                SOCKADDR_IN6_MIN
            } =>
        {
            Err(Errno::EINVAL)
        }
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

fn parse_v4(bytes: &[u8]) -> Result<Given, Errno> {
    let [_, _, p0, p1, a, b, c, d, ..] = *bytes else {
        return Err(Errno::EINVAL);
    };
    if bytes.len() < SOCKADDR_IN {
        return Err(Errno::EINVAL);
    }
    let endpoint = Endpoint {
        ip: Ipv4Addr::new(a, b, c, d).into(),
        port: u16::from_be_bytes([p0, p1]),
    };
    Ok(Given::Endpoint { endpoint, v4: true })
}

fn parse_v6(bytes: &[u8]) -> Result<Given, Errno> {
    if bytes.len() < SOCKADDR_IN6_MIN {
        return Err(Errno::EINVAL);
    }
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let ip = bytes[8..24].first_chunk::<16>().ok_or(Errno::EINVAL)?;
    let ip = Ipv6Addr::from(*ip).to_canonical();
    Ok(Given::Endpoint {
        endpoint: Endpoint { ip, port },
        v4: ip.is_ipv4(),
    })
}

impl Endpoint {
    /// As a guest is shown it on a socket of `domain`.
    pub(super) fn to_bytes(self, domain: i32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SOCKADDR_IN6);
        bytes.extend((domain as u16).to_le_bytes());
        bytes.extend(self.port.to_be_bytes());
        match (self.ip, domain) {
            (IpAddr::V4(ip), libc::AF_INET) => {
                bytes.extend(ip.octets());
                bytes.resize(SOCKADDR_IN, 0);
            }
            (ip, _) => {
                bytes.extend([0; 4]);
                bytes.extend(in_v6(ip).octets());
                bytes.resize(SOCKADDR_IN6, 0);
            }
        }
        bytes
    }
}

/// An address as IPv6 writes it.
pub(in crate::kernel) fn in_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// The wildcard address of a family.
pub(super) fn any(domain: i32) -> IpAddr {
    if domain == libc::AF_INET {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

/// Whether an address is the guest's: those of its loopback interface.
pub(super) fn is_own(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// Whether bind(2) takes an address: EADDRNOTAVAIL, and EINVAL for a link without its name.
pub(super) fn check_bindable(ip: IpAddr) -> Result<(), Errno> {
    match ip {
        _ if ip.is_unspecified() || is_own(ip) => Ok(()),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Err(Errno::EINVAL),
        _ => Err(Errno::EADDRNOTAVAIL),
    }
}

/// Where something sent to `ip` arrives, and which address sends it there: ENETUNREACH for all that is outside the guest.
pub(super) fn route(ip: IpAddr) -> Result<(IpAddr, IpAddr), Errno> {
    let own: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    match ip {
        _ if ip.is_unspecified() => Ok((own, own)),
        _ if is_own(ip) => Ok((ip, own)),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Err(Errno::EINVAL),
        _ => Err(Errno::ENETUNREACH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        let mut bytes = vec![2, 0];
        bytes.extend(port.to_be_bytes());
        bytes.extend(ip);
        bytes.resize(SOCKADDR_IN, 0);
        bytes
    }

    #[test]
    fn reads_and_writes_both_families() {
        let given = parse(libc::AF_INET, &v4([127, 0, 0, 1], 80), false);
        let endpoint = Endpoint {
            ip: Ipv4Addr::LOCALHOST.into(),
            port: 80,
        };
        assert_eq!(given, Ok(Given::Endpoint { endpoint, v4: true }));
        assert_eq!(endpoint.to_bytes(libc::AF_INET), v4([127, 0, 0, 1], 80));
        let mapped = endpoint.to_bytes(libc::AF_INET6);
        assert_eq!(mapped.len(), SOCKADDR_IN6);
        assert_eq!(parse(libc::AF_INET6, &mapped, false), given);
        assert_eq!(parse(libc::AF_INET, &mapped, false), Err(Errno::EAFNOSUPPORT));
        assert_eq!(
            parse(libc::AF_INET, &v4([0; 4], 0)[..15], false),
            Err(Errno::EINVAL)
        );
        assert_eq!(parse(libc::AF_INET6, &mapped[..23], false), Err(Errno::EINVAL));
        assert_eq!(parse(libc::AF_INET, &[0], false), Err(Errno::EINVAL));
    }

    #[test]
    fn only_the_loopback_is_reached() {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(route(ip("127.9.9.9")), Ok((ip("127.9.9.9"), ip("127.0.0.1"))));
        assert_eq!(route(ip("0.0.0.0")), Ok((ip("127.0.0.1"), ip("127.0.0.1"))));
        assert_eq!(route(ip("::")), Ok((ip("::1"), ip("::1"))));
        for outside in ["10.0.0.1", "224.0.0.1", "255.255.255.255", "2000::1", "ff02::1"] {
            assert_eq!(route(ip(outside)), Err(Errno::ENETUNREACH), "{outside}");
        }
    }
}
