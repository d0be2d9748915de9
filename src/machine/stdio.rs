//! Standard input, output and error of the first process.

use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use anyhow::{Context, Result};
use nix::sys::stat::fstat;

use super::terminal::RawTerminal;
use crate::kernel::Kernel;
use crate::kernel::dev::console::{Console, Line, StdStreams};
use crate::kernel::dev::stream;
use crate::kernel::dev::tty::WinSize;
use crate::kernel::fs::{Fd, FdTable, File};
use crate::platform::was_closed;

/// The guest's side of the standard descriptors, and the terminal if there is one.
pub(super) struct Stdio {
    pub(super) files: Arc<FdTable>,
    pub(super) console: Option<Arc<Console>>,
    /// Restores the host's terminal when dropped.
    raw: Option<RawTerminal>,
}

impl Stdio {
    /// Connect them: to the terminal that uvm's own are connected to, or else to one that stands for the host's, where
    /// they are that; passed through otherwise. A closed one stays closed.
    pub(super) fn connect(kernel: &Arc<Kernel>, given: Option<Arc<Console>>) -> Result<Stdio> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let is_given = given.is_some();
        let console = match given {
            Some(console) => Some(console),
            None if stdin.is_terminal() => {
                let out = if stdout.is_terminal() {
                    stdout.as_fd()
                } else {
                    stdin.as_fd()
                };
                Some(open_console(kernel, stdin.as_fd(), out)?)
            }
            None => None,
        };
        if let Some(console) = console.as_ref().filter(|_| stdin.is_terminal()) {
            console.resize(host_size(stdin.as_fd()));
        }
        let raw = stdin
            .is_terminal()
            .then(|| RawTerminal::enter(stdin.as_fd()))
            .transpose()?;
        let output = fstat(&stdout).ok().map(|stat| (stat.st_dev, stat.st_ino));
        let files = Arc::new(FdTable::default());
        let mut streams: Vec<(Fd, Arc<File>, (u64, u64))> = Vec::new();
        for (number, fd) in (0..).map(Fd).zip([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]) {
            if was_closed(fd.as_raw_fd()) {
                continue;
            }
            let stat = fstat(fd)?;
            let identity = (stat.st_dev, stat.st_ino);
            let is_console =
                is_same_terminal(fd, stdin.as_fd()) || is_given && (number.0 < 2 || Some(identity) == output);
            let file = match &console {
                Some(console) if is_console => console.open(kernel)?,
                _ => match streams.iter().find(|(n, _, id)| n.0 > 0 && *id == identity) {
                    // `2>&1`: one open file, so one position.
                    Some((_, file, _)) => file.clone(),
                    None => stream::open(&kernel.reactor, fd).context("standard descriptors")?,
                },
            };
            files.replace(number, file.clone(), false, 3)?;
            streams.push((number, file, identity));
        }
        Ok(Stdio { files, console, raw })
    }

    /// Show what is left and give the host's terminal back.
    pub(super) fn finish(&mut self) {
        if let Some(console) = &self.console {
            console.flush();
        }
        self.raw = None;
    }
}

/// A pseudo-terminal that stands for the host's, and is the console.
fn open_console(kernel: &Arc<Kernel>, input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> Result<Arc<Console>> {
    let line = Arc::new(Line::default());
    let tty = kernel.terminals.new_pty_on(kernel, &line)?;
    kernel.terminals.set_console(&tty);
    let (input, output) = (input.try_clone_to_owned()?, output.try_clone_to_owned()?);
    let console = Console::connect(&kernel.reactor, (tty, line), |reactor, ready| {
        StdStreams::open(reactor, ready, input, output)
    })?;
    Ok(console)
}

/// Size of the host's terminal; nothing when it has none.
pub(super) fn host_size(tty: BorrowedFd<'_>) -> WinSize {
    let (cols, rows) = terminal_size::terminal_size_of(tty).map_or((0, 0), |(w, h)| (w.0, h.0));
    WinSize {
        rows,
        cols,
        xpixel: 0,
        ypixel: 0,
    }
}

fn is_same_terminal(fd: BorrowedFd<'_>, tty: BorrowedFd<'_>) -> bool {
    let rdev = |fd| fstat(fd).map(|s| s.st_rdev);
    fd.is_terminal() && rdev(fd).is_ok() && rdev(fd) == rdev(tty)
}
