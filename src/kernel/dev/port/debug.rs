//! The debug console: what is written there goes to uvm's log, a line at a time.

use super::PortDevice;
use crate::kernel::sync::{Lock, Rank};

/// What reads at the port, by which programs know it.
const MARK: u8 = 0xe9;

/// Longest line, in bytes.
const LINE: usize = 256;

/// The console at 0xe9.
pub(super) struct DebugConsole(Lock<Vec<u8>>);

impl Default for DebugConsole {
    fn default() -> Self {
        DebugConsole(Lock::new(Rank::Leaf, Vec::new()))
    }
}

impl PortDevice for DebugConsole {
    fn input(&self, _: u16) -> u8 {
        MARK
    }

    fn output(&self, _: u16, value: u8) {
        let whole = {
            let mut line = self.0.lock();
            if value != b'\n' {
                line.push(value);
            }
            (value == b'\n' || line.len() == LINE).then(|| std::mem::take(&mut *line))
        };
        if let Some(line) = whole {
            tracing::info!("debug console: {}", line.escape_ascii());
        }
    }
}
