//! Who has which port.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use super::InetSocket;
use super::address::Endpoint;
use crate::kernel::net::buffer::Pool;
use crate::kernel::net::socket::Kind;
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::current;

/// Ports that are given to whoever asks for none (net.ipv4.ip_local_port_range).
pub(in crate::kernel) const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// The sockets of a guest that have a port.
pub struct Ports {
    table: Lock<Table>,
    /// What the data of all sockets is kept in.
    pool: Arc<Pool>,
}

type Table = BTreeMap<(Kind, u16), Vec<Binding>>;

impl Default for Ports {
    fn default() -> Self {
        Ports {
            table: Lock::new(Rank::Table, Table::new()),
            pool: Arc::default(),
        }
    }
}

/// A socket's hold on a port.
struct Binding {
    ip: IpAddr,
    /// An IPv6 wildcard that takes IPv4 as well.
    both: bool,
    /// What the socket is connected to.
    remote: Option<Endpoint>,
    socket: Weak<InetSocket>,
}

impl Binding {
    /// Whether what is sent to `ip` can come here.
    fn covers(&self, ip: IpAddr) -> bool {
        covers(self.ip, self.both, ip)
    }
}

fn covers(own: IpAddr, both: bool, ip: IpAddr) -> bool {
    own == ip || own.is_unspecified() && (both || own.is_ipv4() == ip.is_ipv4())
}

/// Whether two sockets may share a port although their addresses overlap.
fn may_share(one: &InetSocket, other: &InetSocket) -> bool {
    let (flags, others) = (one.sharing(), other.sharing());
    let reuse = flags.address && others.address && !(other.kind == Kind::Stream && other.accepts());
    reuse || flags.port && others.port && one.owner == other.owner
}

impl Ports {
    pub(super) fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }

    /// Give `socket` a port at an address: `port`, or a free one for 0. EADDRINUSE.
    pub(super) fn bind(&self, socket: &InetSocket, ip: IpAddr, both: bool, port: u16) -> Result<u16, Errno> {
        let mut table = self.table.lock();
        let port = match port {
            0 => free_port(&table, socket.kind).ok_or(Errno::EADDRINUSE)?,
            port => port,
        };
        let holders = table.entry((socket.kind, port)).or_default();
        let overlapping = holders
            .iter()
            .filter(|held| held.covers(ip) || covers(ip, both, held.ip));
        let mut others = overlapping.filter_map(|held| held.socket.upgrade());
        if others.any(|other| !may_share(socket, &other)) {
            return Err(Errno::EADDRINUSE);
        }
        holders.push(Binding {
            ip,
            both,
            remote: None,
            socket: socket.me.clone(),
        });
        Ok(port)
    }

    /// Whether nobody else listens where `socket` is about to: EADDRINUSE.
    pub(super) fn check_listener(&self, socket: &InetSocket, port: u16) -> Result<(), Errno> {
        let table = self.table.lock();
        let Some(holders) = table.get(&(socket.kind, port)) else {
            return Ok(());
        };
        let Some(own) = holders.iter().find(|held| held.is_of(socket)) else {
            return Ok(());
        };
        let overlapping = holders
            .iter()
            .filter(|held| !held.is_of(socket) && (held.covers(own.ip) || own.covers(held.ip)));
        let mut others = overlapping.filter_map(|held| held.socket.upgrade());
        if others.any(|other| other.accepts() && !may_share(socket, &other)) {
            return Err(Errno::EADDRINUSE);
        }
        Ok(())
    }

    /// Enter a socket that accept(2) will give, whatever else has the port.
    pub(super) fn enter(&self, socket: &Arc<InetSocket>, local: Endpoint, remote: Endpoint) {
        let binding = Binding {
            ip: local.ip,
            both: false,
            remote: Some(remote),
            socket: Arc::downgrade(socket),
        };
        let mut table = self.table.lock();
        table.entry((socket.kind, local.port)).or_default().push(binding);
    }

    /// A socket is connected, or no more: what it has now.
    pub(super) fn change(&self, socket: &InetSocket, port: u16, ip: IpAddr, remote: Option<Endpoint>) {
        let mut table = self.table.lock();
        let holders = table.get_mut(&(socket.kind, port));
        if let Some(held) = holders.and_then(|held| held.iter_mut().find(|held| held.is_of(socket))) {
            held.both &= ip.is_unspecified();
            held.ip = ip;
            held.remote = remote;
        }
    }

    /// A socket gives its port back.
    pub(super) fn release(&self, socket: &InetSocket, port: u16) {
        let mut table = self.table.lock();
        if let Some(holders) = table.get_mut(&(socket.kind, port)) {
            holders.retain(|held| !held.is_of(socket));
            if holders.is_empty() {
                table.remove(&(socket.kind, port));
            }
        }
    }

    /// Who gets what `from` sends to `to`: of connected sockets the one to `from`, then who has the very address, then who has
    /// any. Of several alike the last one, or one that follows from the sender's port where they share it by SO_REUSEPORT.
    pub(super) fn find(&self, kind: Kind, to: Endpoint, from: Endpoint) -> Option<Arc<InetSocket>> {
        let table = self.table.lock();
        let holders = table.get(&(kind, to.port))?;
        let candidates = holders.iter().filter(|held| {
            held.covers(to.ip)
                && match held.remote {
                    // Connected streams have their peers already.
                    Some(remote) => kind == Kind::Datagram && remote == from,
                    None => true,
                }
        });
        let candidates: Vec<_> = candidates
            .filter_map(|held| Some((held.score(), held.socket.upgrade()?)))
            .filter(|(_, socket)| kind == Kind::Datagram || socket.accepts())
            .collect();
        let best = candidates.iter().map(|(score, _)| *score).max()?;
        let best: Vec<_> = candidates.iter().filter(|(score, _)| *score == best).collect();
        let (_, last) = best.last()?;
        if last.sharing().port {
            let (_, chosen) = best.get(usize::from(from.port) % best.len())?;
            return Some(chosen.clone());
        }
        Some(last.clone())
    }

    /// All sockets of a kind that have a port, by port.
    pub(in crate::kernel) fn list(&self, kind: Kind) -> Vec<Arc<InetSocket>> {
        let table = self.table.lock();
        let holders = table.iter().filter(|((k, _), _)| *k == kind);
        holders
            .flat_map(|(_, held)| held.iter().filter_map(|held| held.socket.upgrade()))
            .collect()
    }
}

impl Binding {
    fn is_of(&self, socket: &InetSocket) -> bool {
        std::ptr::eq(self.socket.as_ptr(), socket)
    }

    fn score(&self) -> u32 {
        u32::from(self.remote.is_some()) * 4
            + u32::from(!self.ip.is_unspecified()) * 2
            + u32::from(!self.both)
    }
}

/// A port that nobody has, from a random one on.
fn free_port(table: &Table, kind: Kind) -> Option<u16> {
    let count = u32::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
    let random = current().map_or(0, |task| u32::from_ne_bytes(task.kernel.random.bytes()));
    let begin = random % count;
    (0..count).find_map(|step| {
        let offset = u16::try_from((begin + step) % count).ok()?;
        let port = EPHEMERAL.start().checked_add(offset)?;
        (!table.contains_key(&(kind, port))).then_some(port)
    })
}
