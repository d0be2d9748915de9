//! Random file calls natively and under uvm: the same seed must tell the same story.
//!
//! `tests/differential/files.c` makes the calls. A difference is told with its seed, by which it can be had again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Calls of one run.
const STEPS: &str = "1500";

/// Runs.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=12;

/// A directory that goes with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("uvm-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("create a directory");
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Random modes do not keep root out; another user's leftovers are made accessible first.
        let _ = Command::new("chmod").args(["-R", "u+rwx"]).arg(&self.0).output();
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn build() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/files.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("differential-files");
    let status = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-static", "-o"])
        .arg(&program)
        .arg(source)
        .status()
        .expect("run the C compiler `cc`");
    assert!(status.success(), "files.c does not compile");
    program
}

/// What a command printed; it must succeed.
fn told(command: &mut Command) -> String {
    let output = command.output().expect("start the command");
    assert!(output.status.success(), "{command:?} ends so: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn native(program: &Path, seed: &str) -> String {
    let base = Scratch::new(&format!("differential-{seed}"));
    told(Command::new(program).arg(&base.0).args([seed, STEPS]))
}

fn under_uvm(program: &Path, seed: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uvm"));
    let volume = format!("{}:/mnt:ro", program.parent().expect("a directory").display());
    let script = "mkdir /tmp/base && exec /mnt/differential-files /tmp/base \"$0\" \"$1\"";
    told(
        command
            .args([
                "run", "-v", &volume, "--tmpfs", "/tmp", "/", "--", "/bin/sh", "-c", script,
            ])
            .args([seed, STEPS]),
    )
}

#[test]
fn random_file_calls_are_answered_as_on_linux() {
    if !nix::unistd::geteuid().is_root() {
        // The guest's root has an equal natively only in root: both sides must be allowed the same.
        return;
    }
    let program = build();
    for seed in SEEDS {
        let seed = seed.to_string();
        let (wanted, got) = (native(&program, &seed), under_uvm(&program, &seed));
        let lines = wanted.lines().zip(got.lines());
        if let Some((number, (wanted, got))) = lines.enumerate().find(|(_, (a, b))| a != b) {
            panic!("seed {seed}, line {number}:\n Linux: {wanted}\n   uvm: {got}");
        }
        assert_eq!(wanted.len(), got.len(), "seed {seed}: one story is longer");
    }
}
