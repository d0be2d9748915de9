//! A file of the host as a back-end: it takes what goes out, and nothing comes in.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::carry::carry_out;
use super::{BackEnd, Line};
use crate::kernel::wait::WaitQueue;
use crate::kernel::wait::reactor::{HostWatch, Reactor};

/// A file that is written to.
pub struct OutputFile {
    file: HostWatch,
    has_failed: AtomicBool,
}

impl OutputFile {
    /// Write to `file`.
    pub fn open(reactor: &Arc<Reactor>, ready: &WaitQueue, file: OwnedFd) -> Result<Box<dyn BackEnd>, Errno> {
        Ok(Box::new(OutputFile {
            file: reactor.watch(file, ready)?,
            has_failed: AtomicBool::new(false),
        }))
    }
}

impl BackEnd for OutputFile {
    fn carry(&self, line: &Line) {
        line.set_carrier(true);
        if let Err(errno) = carry_out(&self.file, line)
            && !self.has_failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("a console's output is lost: {}", errno.desc());
        }
    }
}
