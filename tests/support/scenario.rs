//! The same command natively and in a guest, compared.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::process::{Outcome, run};
use super::{UVM, native_runs, recordings, rootfs, test_file};

/// The environment of every scenario, on both sides.
const ENVIRONMENT: &[&str] = &[
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL=C.UTF-8",
    "TZ=UTC",
    "DEBIAN_FRONTEND=noninteractive",
];

/// One command, and how its outcomes are compared.
#[must_use = "a scenario does nothing until it is compared"]
pub(crate) struct Scenario {
    name: &'static str,
    command: Vec<String>,
    user: &'static str,
    input: Vec<u8>,
    status: i32,
    stderr: bool,
    normalise: Vec<fn(&str) -> String>,
    limit: Duration,
}

impl Scenario {
    /// A script for a shell of the root file system: `sh`, `bash`...
    pub(crate) fn shell(name: &'static str, shell: &str, script: &str) -> Self {
        let command = [shell, "-c", script, name].map(String::from).to_vec();
        Scenario {
            name,
            command,
            user: "root",
            input: Vec::new(),
            status: 0,
            stderr: true,
            normalise: Vec::new(),
            limit: Duration::from_secs(120),
        }
    }

    /// A script for sh.
    pub(crate) fn sh(name: &'static str, script: &str) -> Self {
        Self::shell(name, "sh", script)
    }

    /// A program for an interpreter that takes it on its standard input: `python3`, `perl`.
    pub(crate) fn program(name: &'static str, interpreter: &str, program: &str) -> Self {
        Scenario {
            command: vec![interpreter.into(), "-".into()],
            ..Self::sh(name, "")
        }
        .input(program)
    }

    /// Runs as this user of the guest instead of root.
    pub(crate) fn user(self, user: &'static str) -> Self {
        Scenario { user, ..self }
    }

    /// What it reads.
    pub(crate) fn input(self, input: impl Into<Vec<u8>>) -> Self {
        Scenario {
            input: input.into(),
            ..self
        }
    }

    /// The status it must end with natively, 0 if not said: a scenario that fails on both sides compares nothing.
    pub(crate) fn status(self, status: i32) -> Self {
        Scenario { status, ..self }
    }

    /// Stderr is not compared: it tells times, or mixes what several processes write.
    pub(crate) fn any_stderr(self) -> Self {
        Scenario {
            stderr: false,
            ..self
        }
    }

    /// Both outputs go through this before they are compared.
    pub(crate) fn normalise(mut self, function: fn(&str) -> String) -> Self {
        self.normalise.push(function);
        self
    }

    /// How long either side may take.
    pub(crate) fn limit(self, limit: Duration) -> Self {
        Scenario { limit, ..self }
    }

    /// Runs both sides and compares them.
    #[track_caller]
    pub(crate) fn compare(self) {
        let native = self.native();
        assert_eq!(native.status, self.status, "{} natively: {native:?}", self.name);
        let guest = run(&mut self.guest_command(), &self.input, self.limit);
        let (native, guest) = (self.normalised(native), self.normalised(guest));
        assert!(
            native == guest,
            "{} differs:\n{}",
            self.name,
            difference(&native, &guest)
        );
    }

    /// The outcome natively: run here by root, who records it for others.
    fn native(&self) -> Outcome {
        let recording = self.recording();
        if native_runs() {
            let mut command = Command::new(test_file("support/native"));
            command
                .arg(rootfs())
                .args([self.user, "/"])
                .args(self.whole_command());
            let outcome = run(&mut command, &self.input, self.limit);
            fs::create_dir_all(&recording).expect("make the directory of recordings");
            for (file, content) in [
                ("stdout", &outcome.stdout),
                ("stderr", &outcome.stderr),
                ("status", &outcome.status.to_string()),
            ] {
                fs::write(recording.join(file), content).expect("record the native outcome");
            }
            return outcome;
        }
        let read = |file| {
            fs::read_to_string(recording.join(file)).unwrap_or_else(|_| {
                panic!(
                    "{}: no native outcome is recorded: run this test as root first",
                    self.name
                )
            })
        };
        Outcome {
            stdout: read("stdout"),
            stderr: read("stderr"),
            status: read("status").parse().expect("a number"),
        }
    }

    /// Where the outcome is kept; another one as soon as the scenario changes.
    fn recording(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (&self.command, self.user, &self.input, ENVIRONMENT).hash(&mut hasher);
        recordings().join(format!("{}-{:016x}", self.name, hasher.finish()))
    }

    fn whole_command(&self) -> impl Iterator<Item = &str> {
        let home = if self.user == "root" {
            "HOME=/root"
        } else {
            "HOME=/home/alice"
        };
        ["/usr/bin/env", "-i", home]
            .into_iter()
            .chain(ENVIRONMENT.iter().copied())
            .chain(self.command.iter().map(String::as_str))
    }

    fn guest_command(&self) -> Command {
        let mut command = Command::new(UVM);
        command
            .args(["run", "-u", self.user, "-w", "/"])
            .arg(rootfs())
            .arg("--")
            .args(self.whole_command());
        command
    }

    fn normalised(&self, outcome: Outcome) -> Outcome {
        let normalise = |text: String| self.normalise.iter().fold(text, |text, function| function(&text));
        Outcome {
            stdout: normalise(outcome.stdout),
            stderr: if self.stderr {
                normalise(outcome.stderr)
            } else {
                String::new()
            },
            status: outcome.status,
        }
    }
}

/// What a person wants to see of two long outcomes: diff(1) of them.
fn difference(native: &Outcome, guest: &Outcome) -> String {
    diff(native, guest).unwrap_or_else(|_| format!("natively {native:?}\nin the guest {guest:?}"))
}

fn diff(native: &Outcome, guest: &Outcome) -> std::io::Result<String> {
    let path = |name: &str| {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{:?}", thread::current().id()))
    };
    let (natively, in_guest) = (path("natively"), path("in-the-guest"));
    fs::write(&natively, format!("{native:?}\n"))?;
    fs::write(&in_guest, format!("{guest:?}\n"))?;
    let output = Command::new("diff")
        .arg("-U2")
        .args([&natively, &in_guest])
        .output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
