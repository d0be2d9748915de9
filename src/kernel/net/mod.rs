//! Sockets. There is one family, AF_UNIX; programs that ask for another find a machine without a network.

pub mod address;
mod message;
mod options;
mod syscalls;
pub mod unix;

pub(in crate::kernel) use syscalls::dispatch;

/// What all sockets of a guest share.
#[derive(Default)]
pub struct Net {
    /// AF_UNIX sockets that have names.
    pub unix: unix::Names,
    /// Open files on their way between processes.
    pub in_flight: unix::InFlight,
}
