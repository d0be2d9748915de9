//! How long `/bin/true` takes natively and in a guest, and what an idle guest costs: `cargo bench --bench startup`.
//!
//! The kinds take turns, and the shortest run of each counts: the others tell of the machine's other work.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 30;

/// One run of the command from the outside: fork, exec, wait.
fn time(command: &mut Command) -> Duration {
    let start = Instant::now();
    let status = command.stdin(Stdio::null()).status().expect("start the command");
    let took = start.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    took
}

fn uvm(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uvm"));
    command.arg("run").args(arguments);
    command
}

/// The root file system of the tests, if there is one.
fn rootfs() -> Option<PathBuf> {
    let make = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rootfs/make");
    let made = Command::new(make).stderr(Stdio::inherit()).output().ok()?;
    let path = String::from_utf8(made.stdout).ok()?;
    made.status.success().then(|| path.trim_end().into())
}

fn main() {
    let rootfs = rootfs();
    let mut kinds = vec![
        ("native /bin/true", Command::new("/bin/true")),
        ("uvm run /", uvm(&["/", "/bin/true"])),
    ];
    if let Some(path) = &rootfs {
        kinds.push((
            "uvm run ROOTFS",
            uvm(&[path.to_str().expect("a path in UTF-8"), "/bin/true"]),
        ));
    }
    let mut least = vec![Duration::MAX; kinds.len()];
    for _ in 0..ROUNDS {
        for ((_, command), least) in kinds.iter_mut().zip(&mut least) {
            *least = time(command).min(*least);
        }
    }
    println!(
        "{:<20} {:>12} {:>8} {:>14}",
        "start and end", "ns", "x", "more, ns"
    );
    for ((name, _), took) in kinds.iter().zip(&least) {
        let ratio = took.as_secs_f64() / least[0].as_secs_f64();
        println!(
            "{name:<20} {:>12} {ratio:>8.2} {:>14}",
            took.as_nanos(),
            (*took - least[0]).as_nanos()
        );
    }

    let seconds = 2;
    let busy = processor_time(&mut uvm(&["/", "/bin/true"]));
    let idle = processor_time(&mut uvm(&["/", "/bin/sleep", &seconds.to_string()]));
    println!(
        "processor time of a guest that only starts and ends: {busy:?}; that also sleeps {seconds} s: {idle:?}"
    );
}

/// User and system time of a command and all its descendants, as wait4(2) tells it: to the microsecond.
fn processor_time(command: &mut Command) -> Duration {
    let children = || {
        let usage =
            nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).expect("getrusage");
        let micros = |time: nix::sys::time::TimeVal| {
            u64::try_from(nix::sys::time::TimeValLike::num_microseconds(&time))
                .expect("a time since the start")
        };
        Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
    };
    let before = children();
    time(command);
    children() - before
}
