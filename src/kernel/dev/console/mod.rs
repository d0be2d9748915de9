//! Consoles: serial lines between devices of the guest and what uvm's user has named for them.

mod line;

use std::sync::Arc;

pub use line::{Counts, Line, Modem};

/// The lines of a guest.
#[derive(Default)]
pub struct Consoles {
    /// What ttyS0 and the UART of COM1 share.
    pub serial: Arc<Line>,
}
