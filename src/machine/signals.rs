//! Signals that uvm itself gets: passed on to the first process, as docker run does; a resize goes to the console.

use std::io::stdin;
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::{Handle, Signals};

use super::stdio::host_size;
use crate::kernel::Kernel;
use crate::kernel::dev::console::Console;
use crate::kernel::signal::{self, SigInfo};
use crate::kernel::task::ThreadGroup;

const FORWARDED: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Ends the forwarding when told to.
pub(super) struct Forwarder(Handle);

impl Forwarder {
    pub(super) fn stop(self) {
        self.0.close();
    }
}

/// Forward signals on a thread of its own. SIGTERM, which asks uvm to end, becomes `stop` if there is one.
pub(super) fn forward(
    kernel: Arc<Kernel>,
    first: Arc<ThreadGroup>,
    console: Option<Arc<Console>>,
    stop: Option<i32>,
) -> Result<Forwarder> {
    let mut signals = Signals::new(FORWARDED.iter().chain(&[SIGWINCH])).context("catching signals")?;
    let handle = signals.handle();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for number in signals.forever() {
                if number == SIGWINCH {
                    if let Some(console) = &console {
                        console.resize(host_size(stdin().as_fd()));
                    }
                } else {
                    let asked = stop.filter(|_| number == SIGTERM);
                    let number = asked.unwrap_or(number);
                    // A process that has ended needs no signal.
                    let _ = signal::send_to_group(&kernel, &first, SigInfo::kernel(number));
                }
            }
        })?;
    Ok(Forwarder(handle))
}
