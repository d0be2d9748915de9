//! The POST port: it shows what was written last.

use std::sync::atomic::{AtomicU8, Ordering};

use super::PortDevice;

/// The latch at 0x80.
#[derive(Default)]
pub(super) struct Post(AtomicU8);

impl PortDevice for Post {
    fn input(&self, _: u16) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    fn output(&self, _: u16, value: u8) {
        self.0.store(value, Ordering::Relaxed);
    }
}
