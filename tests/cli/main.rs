//! The command line as a user meets it: options, messages, exit statuses, and what is left behind.

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod clocks;
mod deterministic;
mod doctor;
mod options;
mod overlay;
mod processor;
mod robustness;
mod stats;
mod streams;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::process::{Outcome, run};
use support::{UVM, rootfs, scratch};

/// How long one run of uvm may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs uvm with these arguments and nothing to read.
fn uvm(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
    run(Command::new(UVM).args(arguments), b"", LIMIT)
}

/// Runs a script in the Debian guest, with these options.
fn guest(options: &[&str], script: &str) -> Outcome {
    run(
        Command::new(UVM)
            .arg("run")
            .args(options)
            .arg(rootfs())
            .args(["--", "sh", "-c", script]),
        b"",
        LIMIT,
    )
}

/// The outcome is a failure of this status, told in one line on stderr that says all of `words`.
#[track_caller]
fn assert_told(outcome: &Outcome, status: i32, words: &[&str]) {
    assert_eq!(outcome.status, status, "{outcome:?}");
    assert_eq!(outcome.stdout, "", "{outcome:?}");
    assert!(outcome.stderr.starts_with("uvm: "), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 1, "one line: {outcome:?}");
    for word in words {
        assert!(outcome.stderr.contains(word), "says '{word}': {outcome:?}");
    }
}

/// The outcome is a success that wrote this and nothing else.
#[track_caller]
fn assert_writes(outcome: &Outcome, stdout: &str) {
    assert_eq!(
        (outcome.status, outcome.stdout.as_str(), outcome.stderr.as_str()),
        (0, stdout, ""),
        "{outcome:?}"
    );
}

/// A root file system of its own with nothing but busybox.
fn small_root(name: &str) -> PathBuf {
    let root = scratch(name);
    for directory in [
        "bin",
        "etc",
        "tmp",
        "proc",
        "dev",
        "sys",
        "lib64",
        "lib/x86_64-linux-gnu",
    ] {
        fs::create_dir_all(root.join(directory)).expect("create a directory");
    }
    for file in [
        "bin/busybox",
        "lib64/ld-linux-x86-64.so.2",
        "lib/x86_64-linux-gnu/libc.so.6",
        "lib/x86_64-linux-gnu/libresolv.so.2",
    ] {
        fs::copy(rootfs().join(file), root.join(file)).expect("copy from the Debian root");
    }
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).expect("link sh");
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("write passwd");
    root
}

/// What tells that anything in a tree was written: modes, owners, sizes and times of all files.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, impl PartialEq + std::fmt::Debug + use<>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        // What this user cannot read, a guest of this user cannot write.
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.expect("read a directory").path();
            let meta = fs::symlink_metadata(&path).expect("stat");
            if meta.is_dir() {
                directories.push(path.clone());
            }
            let facts = (
                meta.ino(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.size(),
                meta.nlink(),
            );
            let times = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
            found.insert(path, (facts, times));
        }
    }
    found
}
