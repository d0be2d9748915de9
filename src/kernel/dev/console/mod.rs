//! Consoles: terminals of the guest whose other end is outside of it, where uvm's user has said.
//!
//! A [`Console`] joins three parts: a terminal ([`Tty`]), a [`Line`], and a [`BackEnd`], which is one file of this folder for each kind.
//! All that comes in is carried by the reactor's thread, so order is kept; what goes out goes from the terminal to the line at once, and
//! from there to the host by the reactor's thread.

mod carry;
mod file;
mod line;
mod pty;
mod socket;
mod stdio;

use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

pub use file::OutputFile;
pub use line::{Counts, Line, Modem};
pub use pty::HostPty;
pub use socket::{Socket, SocketError};
pub use stdio::StdStreams;

use super::tty::{Tty, WinSize};
use crate::kernel::Kernel;
use crate::kernel::fs::walk::{WalkCx, WalkFlags};
use crate::kernel::fs::{File, OpenFlags};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::Pid;
use crate::kernel::wait::reactor::{HostWatch, Reactor};
use crate::kernel::wait::{Events, Registration, WaitQueue, Wakeup};

/// The lines of a guest.
#[derive(Default)]
pub struct Consoles {
    /// What ttyS0 and the UART of COM1 share.
    pub serial: Arc<Line>,
}

/// What is at the outer end of a line.
pub trait BackEnd: Send + Sync {
    /// Move what can be moved without waiting, tell the line who is there, and have the reactor watch for the rest. It is called by
    /// one thread at a time, whenever a descriptor that it watches is ready or the line has changed.
    fn carry(&self, line: &Line);
}

/// A terminal of the guest that is connected to the outside.
pub struct Console {
    tty: Arc<Tty>,
    line: Arc<Line>,
    back_end: Box<dyn BackEnd>,
    registrations: Lock<Vec<Registration>>,
    /// Rung when the guest's side changes.
    bell: Arc<Bell>,
}

/// Has the reactor call: its descriptor is ready whenever it is asked for.
struct Bell(HostWatch);

impl Console {
    /// Connect a terminal and the line that it is on. `make` is given the queue for the back-end's watches.
    pub fn connect<E: From<Errno>>(
        reactor: &Arc<Reactor>,
        (tty, line): (Arc<Tty>, Arc<Line>),
        make: impl FnOnce(&Arc<Reactor>, &WaitQueue) -> Result<Box<dyn BackEnd>, E>,
    ) -> Result<Arc<Console>, E> {
        let ready = WaitQueue::new();
        let back_end = make(reactor, &ready)?;
        let always_writable = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let bell = Arc::new(Bell(reactor.watch(always_writable.into(), &ready)?));
        line.connect();
        let console = Arc::new(Console {
            tty,
            line,
            back_end,
            registrations: Lock::new(Rank::Leaf, Vec::new()),
            bell,
        });
        let (carrier, bell): (Arc<dyn Wakeup>, Arc<dyn Wakeup>) = (console.clone(), console.bell.clone());
        let any = Events::empty();
        *console.registrations.lock() = vec![
            ready.register(any, &carrier),
            console.tty.outer_queue().register(any, &bell),
            console.line.guest_queue().register(any, &bell),
            console.line.outer_queue().register(any, &bell),
        ];
        // Who is there is known before the guest looks.
        console.back_end.carry(&console.line);
        console.bell.ring();
        Ok(console)
    }

    /// The guest's terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    /// The guest's terminal as an open file, for standard input, output and error.
    pub fn open(&self, kernel: &Kernel) -> Result<Arc<File>, Errno> {
        let name = self.tty.path();
        let path = WalkCx::at_root(&kernel.vfs).lookup(None, name.as_bytes(), WalkFlags::default())?;
        let inode = path.inode().clone();
        Ok(File::at_path(self.tty.open_file(), path, inode, OpenFlags::RDWR))
    }

    /// Make it the controlling terminal of the session that `leader` leads.
    pub fn control(&self, leader: Pid) {
        self.tty.control(leader);
    }

    /// The host's terminal has this size now.
    pub fn resize(&self, size: WinSize) {
        self.tty.resize(size);
    }

    /// Write out all that waits, as far as the host takes it. Only when the reactor has stopped.
    pub fn flush(&self) {
        loop {
            let before = self.tty.output_len();
            self.tty.transmit();
            self.back_end.carry(&self.line);
            if self.tty.output_len() >= before {
                return;
            }
        }
    }
}

impl Wakeup for Console {
    fn wake(&self, _: Events) {
        self.back_end.carry(&self.line);
        // What was sent before somebody left comes before the hang-up.
        self.tty.take_input();
        self.tty.follow_carrier();
        self.tty.transmit();
        self.back_end.carry(&self.line);
        self.tty.output_went();
    }
}

impl Bell {
    fn ring(&self) {
        self.0.arm(Events::OUT);
    }
}

impl Wakeup for Bell {
    fn wake(&self, _: Events) {
        self.ring();
    }
}
