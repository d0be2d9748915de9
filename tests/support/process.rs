//! Commands run to their end, against a deadline.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// How a command ended and what it wrote.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The exit status, or 128 and the signal.
    pub(crate) status: i32,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "status {}\n--- stdout\n{}--- stderr\n{}---",
            self.status, self.stdout, self.stderr
        )
    }
}

/// What uvm says of a processor that was chosen where the host cannot have CPUID fault.
pub(crate) const OWN_PROCESSOR: &str =
    "this host cannot have CPUID fault: the guest sees the host's processor";

impl Outcome {
    /// The lines of stderr, but for [`OWN_PROCESSOR`].
    pub(crate) fn told(&self) -> Vec<&str> {
        let lines = self.stderr.lines();
        lines.filter(|line| !line.ends_with(OWN_PROCESSOR)).collect()
    }
}

/// The exit status as a shell tells it.
pub(crate) fn shell_status(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().expect("ended by an exit or a signal"))
}

/// Runs the command with this input, and panics with what it wrote if it outlives `limit`.
pub(crate) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let group = Pid::from_raw(child.id().cast_signed());
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // The command may well end without reading it all.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = collect(child.stdout.take().expect("a pipe"));
    let stderr = collect(child.stderr.take().expect("a pipe"));
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait().expect("wait for the command")));

    let deadline = Instant::now() + limit;
    let status = ended.recv_timeout(limit);
    // Something that the command left behind may hold the pipes open: that counts as not ending.
    let left = || deadline.saturating_duration_since(Instant::now());
    let (stdout, stderr) = (stdout.until(left), stderr.until(left));
    match (status, stdout, stderr) {
        (Ok(status), (stdout, true), (stderr, true)) => Outcome {
            stdout,
            stderr,
            status: shell_status(status),
        },
        (status, (stdout, _), (stderr, _)) => {
            let processes = describe_tree(group);
            // The group of a process that has ended may be empty by now.
            let _ = killpg(group, Signal::SIGKILL);
            panic!(
                "not at an end after {limit:?} ({status:?}): {command:?}\n--- stdout\n{stdout}--- stderr\n{stderr}--- processes\n{processes}"
            );
        }
    }
}

/// What a pipe brings, read by a thread.
struct Collected(mpsc::Receiver<Vec<u8>>);

fn collect(mut pipe: impl Read + Send + 'static) -> Collected {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(count @ 1..) = pipe.read(&mut chunk) {
            if sender.send(chunk[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    Collected(receiver)
}

impl Collected {
    /// All that came before the pipe was closed or the time was up, and whether it was closed.
    fn until(self, left: impl Fn() -> Duration) -> (String, bool) {
        let mut all = Vec::new();
        let closed = loop {
            match self.0.recv_timeout(left()) {
                Ok(chunk) => all.extend(chunk),
                Err(mpsc::RecvTimeoutError::Disconnected) => break true,
                Err(mpsc::RecvTimeoutError::Timeout) => break false,
            }
        };
        (String::from_utf8_lossy(&all).into_owned(), closed)
    }
}

/// A process, so named that a later one with its number is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    started: u64,
}

impl Process {
    /// Whether it is still there; a zombie is not.
    pub(crate) fn lives(self) -> bool {
        procfs::process::Process::new(self.pid)
            .and_then(|process| process.stat())
            .is_ok_and(|stat| stat.starttime == self.started && !matches!(stat.state, 'Z' | 'X'))
    }
}

/// The process `root` and all that descend from it.
pub(crate) fn tree(root: Pid) -> BTreeSet<Process> {
    let stats: Vec<_> = procfs::process::all_processes()
        .expect("read /proc")
        .filter_map(|process| process.ok()?.stat().ok())
        .collect();
    let mut found = BTreeSet::new();
    let mut pids = vec![root.as_raw()];
    while let Some(pid) = pids.pop() {
        found.extend(stats.iter().filter(|stat| stat.pid == pid).map(|stat| Process {
            pid,
            started: stat.starttime,
        }));
        pids.extend(stats.iter().filter(|stat| stat.ppid == pid).map(|stat| stat.pid));
    }
    found
}

fn describe_tree(root: Pid) -> String {
    let line = |process: Process| {
        let stat = procfs::process::Process::new(process.pid)
            .and_then(|process| process.stat())
            .ok()?;
        Some(format!(
            "{} {} {} {}\n",
            stat.pid, stat.ppid, stat.state, stat.comm
        ))
    };
    tree(root).into_iter().filter_map(line).collect()
}

/// Calls `done` until it says so; panics with `what` when that takes longer than `limit`.
///
/// For what cannot be waited for: another's process to be gone, a file to appear.
pub(crate) fn poll_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("send a signal");
}
