//! Commands against a deadline: what is measured may hang or fail, and the rest is measured all the same.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest run of anything; the longest that is known takes some 20 s.
const LIMIT: Duration = Duration::from_secs(100);

/// What the command writes to its standard output, if it succeeds.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    outputs(command).map(|(output, _)| output)
}

/// What the command writes to its standard output and to its standard error, if it succeeds.
pub(crate) fn outputs(command: &mut Command) -> Result<(String, String)> {
    let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let mut stdout = child.stdout.take().context("no pipe")?;
    let mut stderr = child.stderr.take().context("no pipe")?;
    // It may write much to either.
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        stderr
            .read_to_end(&mut text)
            .map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let (text, status) = limited(child, move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    })?;
    let errors = errors.join().unwrap_or_else(|_| Ok(String::new()))?;
    if !status.success() {
        bail!("{status}: {}", last_line(&errors));
    }
    Ok((text?, errors))
}

/// Runs the command to its end without looking at what it writes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let child = spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let ((), status) = limited(child, || ())?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}

fn spawn(command: &mut Command) -> Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("start {name}"))
}

/// Calls `meanwhile`, then reaps the child; one that takes too long is killed.
fn limited<T>(mut child: Child, meanwhile: impl FnOnce() -> T) -> Result<(T, ExitStatus)> {
    let pid = Pid::from_raw(child.id().cast_signed());
    let (ended, wait) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = wait.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
        // Not reaped yet, so the number is still its own; if it has just been, nothing answers to it.
        late && kill(pid, Signal::SIGKILL).is_ok()
    });
    let value = meanwhile();
    let status = child.wait()?;
    drop(ended);
    if watchdog.join().unwrap_or(false) {
        bail!("not at an end after {LIMIT:?}");
    }
    Ok((value, status))
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().next_back().unwrap_or("no message")
}
