//! The programs of `tests/guest/attacks`, run in a root of their own beside a file that they must not reach.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::support::process::poll_until;
use super::{
    PLATFORMS, PROGRAM_TIMEOUT, STATIC, build_from, finish_within, fuzz, source_dir, sources_in, start,
};

/// What a program says when it has found nothing of the platform's in its address space.
const NO_PLATFORM: &str = ": no platform region";

const CANARY: &str = "outer\n";

/// How long processes may take to be gone after their supervisor.
const LIMIT: Duration = Duration::from_secs(20);

macro_rules! attacks {
    ($($name:ident),* $(,)?) => {
        const ATTACKS: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { run_attack(stringify!($name)); })*
    };
}

attacks! {
    exhaustion,
    fake_runtime,
    foreign_entry,
    forged_pages,
    handed_files,
    handed_pipes,
    handed_writes,
    host_signals,
    native_clone,
    platform_memory,
    runtime_calls,
    segment_bases,
}

#[test]
fn all_attacks_are_run() {
    assert_eq!(sources_in(&source_dir().join("attacks")), ATTACKS);
}

/// Natively, where there is nothing to attack; then on each platform.
fn run_attack(name: &str) {
    let folder = source_dir().join("attacks");
    let headers = [
        folder.join("attack.h"),
        folder.join("jump.h"),
        folder.join("layout.h"),
        source_dir().join("hostile/hostile.h"),
    ];
    let program = build_from(
        &folder.join(name).with_extension("c"),
        &headers,
        "attacks",
        STATIC,
    );
    expect_ok(name, &Command::new(&program));
    for platform in PLATFORMS {
        attack(name, platform, &program);
    }
}

fn attack(name: &str, platform: &str, program: &Path) {
    let ground = Ground::new(&format!("{name}-{platform}"), program);
    let mut command = Command::new(env!("CARGO_BIN_EXE_uvm"));
    command
        .args(["run", "--platform", platform])
        .arg(&ground.root)
        .args(["--", "/attack", "--canary"])
        .arg(&ground.canary)
        .args(["--layout", &fuzz::layout()]);
    if name == "fake_runtime" {
        command.args(fuzz::options());
    }
    let output = expect_ok(name, &command);
    if *platform == *"seccomp" {
        assert!(
            !output.contains(NO_PLATFORM),
            "{name} does not find the platform that it is to attack:\n{output}"
        );
    }
    ground.check(name);
}

/// Runs the command in a session of its own, of which nothing may be left.
fn expect_ok(name: &str, command: &Command) -> String {
    // Signals to the process group must not reach the tests. setsid(1) becomes the program.
    let mut session = Command::new("setsid");
    session.arg(command.get_program()).args(command.get_args());
    let child = start(&mut session);
    let id = child.id().cast_signed();
    let (status, output) = finish_within(PROGRAM_TIMEOUT + fuzz::time(), child, &session);
    poll_until("the guest's processes are gone", LIMIT, || members(id) == 0);
    let said_ok = output.lines().any(|line| line.starts_with(&format!("ok {name}")));
    assert!(
        status.success() && said_ok,
        "{command:?} ends with {status} after:\n{output}"
    );
    output
}

/// How many processes are in the session.
fn members(session: i32) -> usize {
    procfs::process::all_processes()
        .expect("read /proc")
        .filter_map(|process| process.ok()?.stat().ok())
        .filter(|stat| stat.session == session && !matches!(stat.state, 'Z' | 'X'))
        .count()
}

/// A guest's root with little in it, and outside of it a file that must stay as it is.
struct Ground {
    root: PathBuf,
    outside: PathBuf,
    canary: PathBuf,
}

impl Ground {
    fn new(name: &str, program: &Path) -> Ground {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("attacks").join(name);
        // It may be there from an earlier run.
        let _ = fs::remove_dir_all(&directory);
        let (root, outside) = (directory.join("root"), directory.join("outside"));
        for path in [root.join("etc"), root.join("tmp"), outside.clone()] {
            fs::create_dir_all(path).expect("make a directory");
        }
        fs::write(root.join("etc/passwd"), "inner:x:0:0:root:/:/bin/sh\n")
            .expect("write a file of the guest");
        fs::copy(program, root.join("attack")).expect("copy the program");
        let canary = outside.join("canary");
        fs::write(&canary, CANARY).expect("write a file");
        Ground {
            root,
            outside,
            canary,
        }
    }

    /// Nothing was made, changed or removed.
    fn check(&self, name: &str) {
        let names = |path: &Path| -> BTreeSet<_> {
            let entries = fs::read_dir(path).expect("read a directory");
            entries
                .map(|entry| entry.expect("read a directory").file_name())
                .collect()
        };
        assert_eq!(names(&self.outside), BTreeSet::from(["canary".into()]), "{name}");
        assert_eq!(fs::read_to_string(&self.canary).expect("read"), CANARY, "{name}");
        let of_root = ["etc", "tmp", "attack"].map(Into::into);
        assert_eq!(names(&self.root), BTreeSet::from(of_root), "{name}");
    }
}
