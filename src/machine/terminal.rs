//! The host's terminal while a guest has it: raw mode, and its settings restored on every way out.
//!
//! A normal end restores by drop, a panic by unwinding. Against SIGKILL there is the *guard*: a process of its own that
//! holds the read end of a pipe, and puts the settings back when the pipe closes without a word.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::SigSet;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// Hidden verb that is the guard.
pub const GUARD_VERB: &str = "__terminal-guard";

/// Tells the guard that all is restored.
const DONE: u8 = b'.';

/// Raw mode, until dropped.
pub(super) struct RawTerminal {
    tty: OwnedFd,
    saved: Termios,
    guard: Option<ChildStdin>,
}

impl RawTerminal {
    /// Put the terminal `tty` into raw mode.
    pub(super) fn enter(tty: BorrowedFd<'_>) -> Result<RawTerminal> {
        let tty = tty.try_clone_to_owned()?;
        let saved = tcgetattr(&tty).context("reading the terminal's settings")?;
        let guard = start_guard(&tty).context("starting the terminal guard")?;
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&tty, SetArg::TCSADRAIN, &raw).context("setting the terminal to raw mode")?;
        Ok(RawTerminal {
            tty,
            saved,
            guard: Some(guard),
        })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // The terminal may be gone: then there is nothing to restore.
        let _ = tcsetattr(&self.tty, SetArg::TCSADRAIN, &self.saved);
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.write_all(&[DONE]);
        }
    }
}

/// Start the guard and wait until it has read the settings. It is nobody's child: its starter ends at once.
fn start_guard(tty: &OwnedFd) -> Result<ChildStdin> {
    let mut starter = Command::new("/proc/self/exe")
        .arg(GUARD_VERB)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(tty.try_clone()?))
        .process_group(0)
        .spawn()?;
    let mut ready = starter.stdout.take().context("it has no output")?;
    let control = starter.stdin.take().context("it has no input")?;
    let mut word = [0];
    ready.read_exact(&mut word)?;
    starter.wait()?;
    Ok(control)
}

/// The guard's life. With an argument it is the guard itself, without it starts that and ends.
pub fn guard(is_guard: bool) -> Result<()> {
    SigSet::all().thread_block()?;
    if !is_guard {
        let inherit = |fd: BorrowedFd<'_>| -> Result<Stdio> { Ok(Stdio::from(fd.try_clone_to_owned()?)) };
        Command::new("/proc/self/exe")
            .args([GUARD_VERB, "--guard"])
            .stdin(inherit(std::io::stdin().as_fd())?)
            .stdout(inherit(std::io::stdout().as_fd())?)
            .stderr(inherit(std::io::stderr().as_fd())?)
            .process_group(0)
            .spawn()?;
        return Ok(());
    }
    let tty = std::io::stderr().as_fd().try_clone_to_owned()?;
    let saved = tcgetattr(&tty)?;
    std::io::stdout().write_all(&[DONE])?;
    std::io::stdout().flush()?;
    let mut word = [0];
    let mut control = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    if control.read(&mut word)? == 0 {
        tcsetattr(&tty, SetArg::TCSADRAIN, &saved)?;
    }
    Ok(())
}
