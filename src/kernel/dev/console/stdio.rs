//! uvm's own standard streams as a back-end.

use std::io::IsTerminal;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::carry::{Stopped, carry_in, carry_out};
use super::{BackEnd, Line};
use crate::kernel::wait::WaitQueue;
use crate::kernel::wait::reactor::{HostWatch, Reactor};

/// What comes in at one descriptor, and goes out at another. Both are shared with others on the host, so nothing about them is changed.
///
/// A terminal that is gone takes the carrier with it. The end of any other input is only that: nobody types any more.
pub struct StdStreams {
    input: HostWatch,
    output: HostWatch,
    is_terminal: bool,
    is_gone: AtomicBool,
}

impl StdStreams {
    /// Read from `input` and write to `output`.
    pub fn open(
        reactor: &Arc<Reactor>,
        ready: &WaitQueue,
        input: OwnedFd,
        output: OwnedFd,
    ) -> Result<Box<dyn BackEnd>, Errno> {
        Ok(Box::new(StdStreams {
            is_terminal: input.is_terminal(),
            is_gone: AtomicBool::new(false),
            input: reactor.watch(input, ready)?,
            output: reactor.watch(output, ready)?,
        }))
    }
}

impl BackEnd for StdStreams {
    fn carry(&self, line: &Line) {
        if carry_in(&self.input, line) == Stopped::Ended && self.is_terminal {
            self.is_gone.store(true, Ordering::Relaxed);
        }
        line.set_carrier(!self.is_gone.load(Ordering::Relaxed));
        // Nobody is there to be told of an output that takes nothing.
        let _ = carry_out(&self.output, line);
    }
}
