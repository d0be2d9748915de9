//! Devices and other ends that lead out of the guest.

pub mod block;
pub mod console;
pub mod kmsg;
mod mem;
pub mod port;
pub mod rtc;
pub mod stream;
pub mod tty;

use std::sync::Arc;

use super::fs::pipe::Fifos;
use super::fs::{Special, SpecialFiles};
use tty::{
    ConsoleDriver, ControllingDriver, HVC_MAJOR, LineDriver, PTS_MAJOR, PtmxDriver, PtsDriver, SERIAL_MAJOR,
};

/// Nodes that /dev has: name, major, minor, permission bits.
pub const NODES: [(&str, u32, u32, u32); 14] = [
    block::CONTROL_NODE,
    port::NODE,
    rtc::NODE,
    kmsg::NODE,
    ("null", mem::MEM_MAJOR, 3, 0o666),
    ("zero", mem::MEM_MAJOR, 5, 0o666),
    ("full", mem::MEM_MAJOR, 7, 0o666),
    ("random", mem::MEM_MAJOR, 8, 0o666),
    ("urandom", mem::MEM_MAJOR, 9, 0o666),
    ("tty", 5, 0, 0o666),
    ("console", 5, 1, 0o600),
    ("ptmx", 5, 2, 0o666),
    ("ttyS0", SERIAL_MAJOR, 64, 0o660),
    ("hvc0", HVC_MAJOR, 0, 0o600),
];

/// Make the drivers of all devices and of FIFOs known.
pub fn register(special: &SpecialFiles) {
    block::register(special);
    special.register(Special::CharMajor(mem::MEM_MAJOR), Arc::new(mem::MemDriver));
    special.register(
        Special::Char(port::NODE.1, port::NODE.2),
        Arc::new(port::PortDriver),
    );
    special.register(Special::Char(rtc::NODE.1, rtc::NODE.2), Arc::new(rtc::RtcDriver));
    special.register(Special::Char(5, 0), Arc::new(ControllingDriver));
    special.register(Special::Char(5, 1), Arc::new(ConsoleDriver));
    special.register(Special::Char(5, 2), Arc::new(PtmxDriver));
    special.register(Special::CharMajor(PTS_MAJOR), Arc::new(PtsDriver));
    for major in [SERIAL_MAJOR, HVC_MAJOR] {
        special.register(Special::CharMajor(major), Arc::new(LineDriver));
    }
    special.register(Special::Fifo, Arc::new(Fifos::default()));
}
