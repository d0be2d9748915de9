//! The console: a terminal whose master end is the terminal that uvm itself was started on.
//!
//! The host's terminal is in raw mode meanwhile (the machine sees to that), so every byte typed comes here and every
//! control character is this kernel's business.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use nix::errno::Errno;
use nix::unistd::{read, write};

use super::ends::Slave;
use super::{Tty, WinSize};
use crate::kernel::Kernel;
use crate::kernel::fs::walk::{WalkCx, WalkFlags};
use crate::kernel::fs::{File, OpenFlags};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::Pid;
use crate::kernel::wait::reactor::HostWatch;
use crate::kernel::wait::{Events, Registration, WaitQueue, Wakeup};

/// What a terminal that polls writable takes without blocking, in bytes.
const CHUNK: usize = 1024;

/// Carries bytes between the host's terminal and the guest's. Only the reactor's thread carries, so order is kept.
pub struct Console {
    tty: Arc<Tty>,
    /// Where bytes typed come from.
    input: HostWatch,
    /// Where output goes.
    output: HostWatch,
    registrations: Lock<Vec<Registration>>,
    /// Asks the reactor when the guest's side changes.
    bell: Arc<Bell>,
}

struct Bell(Weak<Console>);

impl Console {
    /// Connect the host's terminal, readable at `input` and writable at `output`.
    pub fn connect(kernel: &Arc<Kernel>, input: OwnedFd, output: OwnedFd) -> Result<Arc<Console>, Errno> {
        let tty = kernel.terminals.new_pty(kernel, 0)?;
        {
            let mut state = tty.state.lock();
            state.locked = false;
            state.discipline.termios.iflag |= libc::IUTF8;
        }
        let ready = WaitQueue::new();
        let (input, output) = (
            kernel.reactor.watch(input, &ready)?,
            kernel.reactor.watch(output, &ready)?,
        );
        let console = Arc::new_cyclic(|this| Console {
            tty: tty.clone(),
            input,
            output,
            registrations: Lock::new(Rank::Leaf, Vec::new()),
            bell: Arc::new(Bell(this.clone())),
        });
        let (carrier, bell): (Arc<dyn Wakeup>, Arc<dyn Wakeup>) = (console.clone(), console.bell.clone());
        let registrations = vec![
            ready.register(Events::empty(), &carrier),
            tty.master_queue.register(Events::empty(), &bell),
        ];
        *console.registrations.lock() = registrations;
        *kernel.terminals.console.lock() = Some(tty);
        console.input.arm(Events::IN);
        Ok(console)
    }

    /// The guest's terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    /// The guest's terminal as an open file, for standard input, output and error.
    pub fn open(&self, kernel: &Kernel) -> Result<Arc<File>, Errno> {
        let name = format!("/dev/pts/{}", self.tty.index);
        let path = WalkCx::at_root(&kernel.vfs).lookup(None, name.as_bytes(), WalkFlags::default())?;
        let inode = path.inode().clone();
        Ok(File::at_path(
            Arc::new(Slave::new(&self.tty)),
            path,
            inode,
            OpenFlags::RDWR,
        ))
    }

    /// Make it the controlling terminal of the session that `leader` leads.
    pub fn control(&self, leader: Pid) {
        let mut state = self.tty.state.lock();
        state.session = Some(leader);
        state.foreground = leader;
    }

    /// The host's terminal has this size now.
    pub fn resize(&self, size: WinSize) {
        self.tty.resize(size);
    }

    /// Write out all that waits, as far as the host takes it. Only when the reactor has stopped.
    pub fn flush(&self) {
        self.carry_output();
    }

    fn carry_input(&self) {
        while !self.tty.state.lock().discipline.is_full() && !self.input.poll(Events::IN).is_empty() {
            let mut bytes = [0; 256];
            match read(self.input.as_fd(), &mut bytes) {
                Ok(0) | Err(Errno::EIO) => return self.tty.hang_up(),
                Ok(n) => self.tty.input(&bytes[..n]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => return,
            }
        }
        if !self.tty.state.lock().discipline.is_full() {
            self.input.arm(Events::IN);
        }
    }

    fn carry_output(&self) {
        let mut moved = false;
        loop {
            if self.output.poll(Events::OUT).is_empty() {
                if self.tty.state.lock().discipline.output_len() > 0 {
                    self.output.arm(Events::OUT);
                }
                break;
            }
            let bytes = self.tty.state.lock().discipline.take_output(CHUNK);
            if bytes.is_empty() {
                break;
            }
            moved = true;
            match write(self.output.as_fd(), &bytes) {
                Ok(n) => self.tty.state.lock().discipline.untake_output(&bytes[n..]),
                Err(Errno::EINTR | Errno::EAGAIN) => {
                    self.tty.state.lock().discipline.untake_output(&bytes);
                }
                // The host's terminal is gone: so is what was to be shown on it.
                Err(_) => break,
            }
        }
        if moved {
            self.tty.slave_queue.notify(Events::WRITE);
        }
    }
}

impl Wakeup for Console {
    fn wake(&self, _: Events) {
        self.carry_input();
        self.carry_output();
    }
}

impl Wakeup for Bell {
    fn wake(&self, _: Events) {
        if let Some(console) = self.0.upgrade() {
            // The host's terminal is nearly always ready, so this is how the reactor is called at once.
            console.output.arm(Events::OUT);
            // Room for input may have come, too.
            console.input.arm(Events::IN);
        }
    }
}
