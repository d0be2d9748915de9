//! Terminals of a guest that are connected to the outside, as its user has said.

use std::fmt;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;

use super::Options;
use crate::kernel::Kernel;
use crate::kernel::dev::console::{BackEnd, Console, HostPty, Line, OutputFile, Socket, StdStreams};
use crate::kernel::dev::tty::Device;
use crate::kernel::wait::WaitQueue;
use crate::kernel::wait::reactor::Reactor;
use crate::platform::was_closed;

/// `--console [NAME=]KIND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleTo {
    /// The guest's terminal.
    pub name: ConsoleName,
    /// What it is connected to.
    pub kind: BackEndKind,
}

/// A terminal that can be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleName {
    /// /dev/ttyS0
    TtyS0,
    /// /dev/hvc0
    Hvc0,
}

/// What a terminal can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackEndKind {
    /// uvm's own standard input and output.
    Stdio,
    /// A new pseudo-terminal of the host.
    Pty,
    /// A file of the host that takes what goes out.
    File(PathBuf),
    /// A socket of the host.
    Unix(PathBuf),
}

/// The connected terminals of a guest.
pub(super) struct Consoles {
    all: Vec<Arc<Console>>,
    on_stdio: Option<Arc<Console>>,
}

impl Consoles {
    /// Make the terminals, and connect those that the options name.
    pub(super) fn connect(kernel: &Arc<Kernel>, options: &Options) -> Result<Consoles> {
        let line = &kernel.consoles.serial;
        let serial = kernel.terminals.add_fixed(kernel, Device::Serial, 0, line);
        let mut consoles = Consoles {
            all: Vec::new(),
            on_stdio: None,
        };
        check(&options.consoles)?;
        for to in &options.consoles {
            let end = match to.name {
                ConsoleName::TtyS0 => (serial.clone(), line.clone()),
                ConsoleName::Hvc0 => {
                    let line = Arc::new(Line::default());
                    (kernel.terminals.add_fixed(kernel, Device::Hvc, 0, &line), line)
                }
            };
            let open = |reactor: &Arc<Reactor>, ready: &WaitQueue| open(to, reactor, ready);
            let console = Console::connect(&kernel.reactor, end, open)
                .with_context(|| format!("--console {}", to.kind))?;
            if to.kind == BackEndKind::Stdio {
                consoles.on_stdio = Some(console.clone());
            }
            consoles.all.push(console);
        }
        Ok(consoles)
    }

    /// The terminal on uvm's own standard input and output.
    pub(super) fn on_stdio(&self) -> Option<Arc<Console>> {
        self.on_stdio.clone()
    }

    /// What was named first is the guest's /dev/console.
    pub(super) fn choose_main(&self, kernel: &Kernel) {
        if let Some(first) = self.all.first() {
            kernel.terminals.set_console(first.tty());
        }
    }

    /// Write out what is left.
    pub(super) fn finish(&self) {
        for console in &self.all {
            console.flush();
        }
    }
}

fn check(consoles: &[ConsoleTo]) -> Result<()> {
    for (at, to) in consoles.iter().enumerate() {
        let before = &consoles[..at];
        if before.iter().any(|other| other.name == to.name) {
            bail!("--console: {} is given twice", to.name);
        }
        if to.kind == BackEndKind::Stdio && before.iter().any(|other| other.kind == to.kind) {
            bail!("--console: only one can have stdio");
        }
    }
    Ok(())
}

fn open(to: &ConsoleTo, reactor: &Arc<Reactor>, ready: &WaitQueue) -> Result<Box<dyn BackEnd>> {
    Ok(match &to.kind {
        BackEndKind::Stdio => {
            let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
            if was_closed(stdin.as_raw_fd()) || was_closed(stdout.as_raw_fd()) {
                bail!("standard input or output is closed");
            }
            let dup = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
            StdStreams::open(reactor, ready, dup(stdin.as_fd())?, dup(stdout.as_fd())?)?
        }
        BackEndKind::Pty => {
            let (back_end, path) = HostPty::open(reactor, ready).map_err(without_ptys)?;
            eprintln!("uvm: console {}: {path}", to.name);
            back_end
        }
        BackEndKind::File(path) => open_file(path, reactor, ready)?,
        BackEndKind::Unix(path) => Socket::listen(reactor, ready, path)?,
    })
}

fn without_ptys(errno: Errno) -> anyhow::Error {
    anyhow::Error::new(errno).context("this machine gives no pseudo-terminal")
}

fn open_file(path: &Path, reactor: &Arc<Reactor>, ready: &WaitQueue) -> Result<Box<dyn BackEnd>> {
    // Opening a FIFO must not wait, and a terminal not become ours.
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    Ok(OutputFile::open(reactor, ready, file.into())?)
}

impl fmt::Display for ConsoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConsoleName::TtyS0 => "ttyS0",
            ConsoleName::Hvc0 => "hvc0",
        })
    }
}

impl fmt::Display for BackEndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackEndKind::Stdio => f.write_str("stdio"),
            BackEndKind::Pty => f.write_str("pty"),
            BackEndKind::File(path) => write!(f, "file:{}", path.display()),
            BackEndKind::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
