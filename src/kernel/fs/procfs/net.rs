//! /proc/net: the guest's sockets and its one interface.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Weak;

use super::super::FileType;
use super::super::pseudo::{Entry, PseudoDir, PseudoFile};
use super::names;
use crate::kernel::Kernel;
use crate::kernel::net::{Endpoint, Kind, Summary, in_v6};
use crate::kernel::stop::Errno;

type Make = fn(&Kernel) -> String;

/// Every file by its name.
const FILES: &[(&str, Make)] = &[
    ("dev", |_| DEVICES.to_owned()),
    ("if_inet6", |_| {
        "00000000000000000000000000000001 01 80 10 80       lo\n".to_owned()
    }),
    ("route", |_| {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        format!("{head:<127}\n")
    }),
    ("tcp", |k| sockets(k, Kind::Stream, libc::AF_INET)),
    ("tcp6", |k| sockets(k, Kind::Stream, libc::AF_INET6)),
    ("udp", |k| sockets(k, Kind::Datagram, libc::AF_INET)),
    ("udp6", |k| sockets(k, Kind::Datagram, libc::AF_INET6)),
    ("unix", |_| {
        "Num       RefCount Protocol Flags    Type St Inode Path\n".to_owned()
    }),
];

/// Nothing is counted, as no packets are made.
const DEVICES: &str = "Inter-|   Receive                                                |  Transmit\n \
face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
lo:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0\n";

/// An address and a port as these files have them: each 32 bits in the processor's order.
fn endpoint(end: Endpoint, domain: i32) -> String {
    let mut text = String::new();
    let octets = match end.ip {
        IpAddr::V4(ip) if domain == libc::AF_INET => ip.octets().to_vec(),
        ip => in_v6(ip).octets().to_vec(),
    };
    for [a, b, c, d] in octets.as_chunks::<4>().0 {
        let _ = write!(text, "{d:02X}{c:02X}{b:02X}{a:02X}");
    }
    let _ = write!(text, ":{:04X}", end.port);
    text
}

/// A table of sockets. Those without a port are not in it, as on Linux.
fn sockets(kernel: &Kernel, kind: Kind, domain: i32) -> String {
    let wide = domain == libc::AF_INET6;
    let column = if wide {
        "local_address                         remote_address                        st"
    } else {
        "local_address rem_address   st"
    };
    let tail = "tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
    let datagram = kind == Kind::Datagram;
    let (head, width) = match (datagram, wide) {
        (false, false) => (format!("  sl  {column} {tail}"), 149),
        (true, false) => (format!("   sl  {column} {tail} ref pointer drops"), 127),
        (false, true) => (format!("  sl  {column} {tail}"), 0),
        (true, true) => (format!("  sl  {column} {tail} ref pointer drops"), 0),
    };
    let mut text = format!("{head:<width$}\n");
    let all = kernel.net.inet.list(kind);
    let summaries = all.iter().map(|socket| socket.summary());
    for (number, socket) in summaries.filter(|socket| socket.domain == domain).enumerate() {
        let line = line(number, &socket, datagram);
        let _ = writeln!(text, "{line:<width$}");
    }
    text
}

fn line(number: usize, socket: &Summary, datagram: bool) -> String {
    let width = if datagram { 5 } else { 4 };
    let tail = if datagram {
        "2 0000000000000000 0"
    } else {
        "1 0000000000000000 100 0 0 10 0"
    };
    format!(
        "{number:width$}: {} {} {:02X} {:08X}:{:08X} 00:00000000 00000000 {:5} {:8} {} {tail}",
        endpoint(socket.local, socket.domain),
        endpoint(socket.remote, socket.domain),
        socket.state,
        socket.unsent,
        socket.waiting,
        socket.owner,
        0,
        socket.inode,
    )
}

/// The directory: the same for all processes.
pub(super) struct Net(pub(super) Weak<Kernel>);

impl PseudoDir for Net {
    fn list(&self) -> Vec<(String, FileType)> {
        names(FILES.iter().map(|(name, _)| *name), FileType::Regular)
    }

    fn find(&self, name: &str) -> Option<Entry> {
        let (_, make) = FILES.iter().find(|(known, _)| *known == name)?;
        Some(Entry::file(NetFile {
            kernel: self.0.clone(),
            make: *make,
        }))
    }
}

struct NetFile {
    kernel: Weak<Kernel>,
    make: Make,
}

impl PseudoFile for NetFile {
    fn text(&self) -> Result<Vec<u8>, Errno> {
        let kernel = self.kernel.upgrade().ok_or(Errno::EIO)?;
        Ok((self.make)(&kernel).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_words_of_the_processor() {
        let v4 = Endpoint {
            ip: [127, 0, 0, 1].into(),
            port: 80,
        };
        assert_eq!(endpoint(v4, libc::AF_INET), "0100007F:0050");
        let v6 = Endpoint {
            ip: std::net::Ipv6Addr::LOCALHOST.into(),
            port: 80,
        };
        assert_eq!(
            endpoint(v6, libc::AF_INET6),
            "00000000000000000000000001000000:0050"
        );
        assert_eq!(
            endpoint(v4, libc::AF_INET6),
            "0000000000000000FFFF00000100007F:0050"
        );
    }
}
