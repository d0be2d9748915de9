//! Python's own tests of time, threads and asyncio under a clock that travels.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::UVM;
use support::process::run;

/// Where Debian has them.
const SUITES: &str = "/usr/lib/python3.11/test";
/// A guard against one that hangs; the machine may be busy.
const LIMIT: Duration = Duration::from_secs(900);

/// A suite as a guest of this machine's files, by a clock that travels in this way. It fails if any test in it does.
fn passes(suite: &str, clock: &str) {
    if !Path::new(SUITES).join("test_asyncio").is_dir() {
        eprintln!("skipped: {SUITES} has no tests; Debian's package libpython3.11-testsuite brings them");
        return;
    }
    if std::env::var("UVM_PLATFORM").is_ok_and(|platform| platform == "ptrace") {
        eprintln!("skipped: the suites take minutes on the ptrace platform");
        return;
    }
    let mut command = Command::new(UVM);
    command.args([
        "run", "--clock", clock, "--tmpfs", "/tmp", "-w", "/tmp", "/", "--",
    ]);
    // Not as the guest's first process: to that one come orphans, and the tests complain of children that they have not made.
    command.args([
        "/bin/sh",
        "-c",
        "/usr/bin/python3.11 -m test --fail-env-changed \"$0\"; exit $?",
        suite,
    ]);
    let done = run(&mut command, b"", LIMIT);
    assert_eq!(done.status, 0, "{suite}: {done:?}");
}

#[test]
fn time() {
    passes("test_time", "travel");
}

#[test]
fn threading() {
    passes("test_threading", "travel");
}

/// Some of its tests measure that they take less than a tenth of a second, which on a busy machine they do by a clock alone that
/// stands still while they run.
#[test]
fn asyncio() {
    passes("test_asyncio", "travel=inf-cpu");
}
