//! Sockets. Nothing leaves the guest: AF_INET and AF_INET6 know its loopback interface, and no other network.

pub mod address;
mod buffer;
pub mod inet;
mod interface;
mod message;
mod netlink;
mod options;
mod socket;
mod syscalls;
pub mod unix;

pub(in crate::kernel) use inet::address::{Endpoint, in_v6};
pub(in crate::kernel) use inet::{EPHEMERAL, Summary};
pub(in crate::kernel) use socket::Kind;
pub(in crate::kernel) use syscalls::dispatch;

/// Largest backlog listen(2) grants (net.core.somaxconn).
const SOMAXCONN: usize = 4096;

/// What all sockets of a guest share.
#[derive(Default)]
pub struct Net {
    /// AF_UNIX sockets that have names.
    pub unix: unix::Names,
    /// Open files on their way between processes.
    pub in_flight: unix::InFlight,
    /// Ports of AF_INET and AF_INET6.
    pub inet: std::sync::Arc<inet::Ports>,
}
