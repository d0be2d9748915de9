//! Moving bytes between a line and a descriptor of the host.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::{read, write};

use super::Line;
use crate::kernel::wait::Events;
use crate::kernel::wait::reactor::HostWatch;

/// What a descriptor that polls writable takes without blocking, in bytes.
const CHUNK: usize = 1024;

/// How often that is moved at once: the guest may fill and empty a line as fast as this does, and others use this thread.
const ROUNDS: usize = 64;

/// Why no more bytes were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// There are none, or the line or the host has no room; whoever changes that has the back-end called.
    Waiting,
    /// The host's side has ended.
    Ended,
}

/// Bytes come in, as far as the line has room.
pub(super) fn carry_in(from: &HostWatch, line: &Line) -> Stopped {
    let mut bytes = [0; CHUNK];
    for _ in 0..ROUNDS {
        let room = line.input_room().min(CHUNK);
        if room == 0 {
            return Stopped::Waiting;
        }
        if from.poll(Events::IN).is_empty() {
            from.arm(Events::IN);
            return Stopped::Waiting;
        }
        match read(from.as_fd(), &mut bytes[..room]) {
            Ok(0) => return Stopped::Ended,
            Ok(n) => line.put_input(&bytes[..n]),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                from.arm(Events::IN);
                return Stopped::Waiting;
            }
            Err(_) => return Stopped::Ended,
        }
    }
    from.arm(Events::IN);
    Stopped::Waiting
}

/// Bytes go out, as far as the host takes them. What it refuses for good is lost.
pub(super) fn carry_out(to: &HostWatch, line: &Line) -> Result<Stopped, Errno> {
    let mut moved = false;
    let mut rounds = 0..ROUNDS;
    let stopped = loop {
        if line.output_len() == 0 {
            break Ok(Stopped::Waiting);
        }
        if rounds.next().is_none() || to.poll(Events::OUT).is_empty() {
            to.arm(Events::OUT);
            break Ok(Stopped::Waiting);
        }
        let bytes = line.take_output(CHUNK);
        match write(to.as_fd(), &bytes) {
            Ok(n) => {
                moved |= n > 0;
                line.untake_output(&bytes[n..]);
            }
            Err(Errno::EINTR) => line.untake_output(&bytes),
            Err(Errno::EAGAIN) => {
                line.untake_output(&bytes);
                to.arm(Events::OUT);
                break Ok(Stopped::Waiting);
            }
            refused => {
                moved = true;
                break match refused {
                    Err(Errno::EPIPE | Errno::ECONNRESET | Errno::EIO) => Ok(Stopped::Ended),
                    refused => refused.map(|_| Stopped::Waiting),
                };
            }
        }
    };
    if moved {
        line.output_went();
    }
    stopped
}
