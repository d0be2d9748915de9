//! Mistakes of the user, and files that are not what they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

use super::{LIMIT, assert_told, guest, scratch, small_root, uvm};
use crate::support::process::run;
use crate::support::{UVM, rootfs};

#[test]
fn nonsense_options() {
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["uvm --help"]),
        (&["walk"], &["walk", "uvm --help"]),
        (&["run"], &["ROOTFS", "uvm run --help"]),
        (&["image", "pull", "--nope"], &["--nope", "uvm image pull --help"]),
        (&["run", "--no-such-option", "/"], &["--no-such-option"]),
        (&["run", "--timeout", "soon", "/", "true"], &["soon"]),
        (&["run", "--timeout", "-1", "/", "true"], &["-1"]),
        (&["run", "--platform", "kvm", "/", "true"], &["kvm"]),
        (&["run", "--hostname", "two words", "/", "true"], &["two words"]),
        (&["run", "--hostname", "", "/", "true"], &["host name"]),
        (
            &["run", "--read-only", "--writable", "/", "true"],
            &["--read-only", "--writable"],
        ),
        (&["run", "--log-level", "loud", "/", "true"], &["loud"]),
        (&["run", "-v", "/tmp", "/", "true"], &["/tmp", "SRC:DST"]),
        (&["run", "-v", "/tmp:relative", "/", "true"], &["relative"]),
        (&["run", "-v", "/tmp:/x:rx", "/", "true"], &["/tmp:/x:rx"]),
        (&["run", "--tmpfs", "relative", "/", "true"], &["relative"]),
        (&["run", "--tmpfs", "/x:size=much", "/", "true"], &["much"]),
        (&["run", "-e", "=value", "/", "true"], &["=value"]),
        (
            &["run", "--env-file", "/no/such/file", "/", "true"],
            &["/no/such/file"],
        ),
        (&["syscalls", "--yaml"], &["--yaml"]),
        (&["doctor", "--yaml"], &["--yaml"]),
        (&["doctor", "now"], &["now"]),
    ];
    for (arguments, words) in cases {
        assert_told(&uvm(*arguments), 125, words);
    }
}

#[test]
fn help_and_version() {
    for (arguments, word) in [
        (["--help"].as_slice(), "Usage"),
        (&["run", "--help"], "ROOTFS"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let outcome = uvm(arguments);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
        assert!(outcome.stdout.contains(word), "{outcome:?}");
    }
}

#[test]
fn a_root_that_is_none() {
    assert_told(
        &uvm(["run", "/no/such/directory", "true"]),
        125,
        &["/no/such/directory"],
    );
    assert_told(
        &uvm(["run", "/etc/passwd", "true"]),
        125,
        &["/etc/passwd", "directory"],
    );
    assert_told(&uvm(["run", "", "true"]), 125, &[]);
    assert_told(&uvm(["run", "/dev/null", "true"]), 125, &["/dev/null"]);
    let long = format!("/{}", "long/".repeat(2000));
    assert_told(&uvm(["run", &long, "true"]), 125, &[]);
    if !geteuid().is_root() {
        let closed = scratch("closed");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).expect("chmod");
        assert_told(
            &uvm(["run", closed.to_str().expect("UTF-8"), "true"]),
            125,
            &["closed"],
        );
    }
}

#[test]
fn a_command_that_cannot_be_run() {
    let root = rootfs().to_str().expect("UTF-8");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["no-such-command"], 127, "no-such-command"),
        (&["/no/such/command"], 127, "/no/such/command"),
        (&["/etc/passwd/command"], 127, "/etc/passwd/command"),
        (&["/etc/passwd"], 126, "/etc/passwd"),
        (&["/etc"], 126, "/etc"),
        (&[""], 127, ""),
    ];
    for (command, status, word) in cases {
        let arguments = [&["run", root, "--"], *command].concat();
        assert_told(&uvm(arguments), *status, &[word]);
    }
    assert_told(
        &uvm(["run", "-u", "nosuchuser", root, "true"]),
        125,
        &["nosuchuser"],
    );
    assert_told(
        &uvm(["run", "-w", "/etc/passwd", root, "true"]),
        125,
        &["/etc/passwd"],
    );
    assert_told(
        &uvm(["run", "-v", "/no/such/source:/mnt", root, "true"]),
        125,
        &["/no/such/source"],
    );
    // A root without even a shell.
    let empty = scratch("empty");
    assert_told(&uvm(["run", empty.to_str().expect("UTF-8")]), 127, &["sh"]);
}

/// A directory with files to execute, shown in the guest as /t.
struct Programs(PathBuf);

impl Programs {
    fn new() -> Self {
        Programs(scratch("programs"))
    }

    fn add(&self, name: &str, content: &[u8]) {
        let path = self.0.join(name);
        fs::write(&path, content).expect("write a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    fn run(&self, name: &str) -> crate::support::process::Outcome {
        let volume = format!("{}:/t:ro", self.0.display());
        let mut command = Command::new(UVM);
        command
            .args(["run", "--timeout", "20", "-v", &volume])
            .arg(rootfs())
            .arg("--")
            .arg(Path::new("/t").join(name));
        run(&mut command, b"", LIMIT)
    }
}

#[test]
fn scripts_and_their_interpreters() {
    let programs = Programs::new();
    programs.add("missing", b"#!/no/such/interpreter\n");
    programs.add("directory", b"#!/etc\n");
    programs.add("itself", b"#!/t/itself\n");
    programs.add("empty", b"");
    programs.add("blank", b"#!   \necho from the shell\n");
    programs.add("argument", b"#!/usr/bin/env -S sh -x\necho $0\n");
    programs.add("works", b"#!/bin/sh\necho \"$0 $#\"; exit 6\n");
    programs.add("windows", b"#!/bin/sh\r\necho hello\r\n");
    assert_told(&programs.run("missing"), 127, &["/t/missing"]);
    assert_told(&programs.run("directory"), 126, &["/t/directory"]);
    assert_told(&programs.run("itself"), 126, &["/t/itself"]);
    assert_told(&programs.run("empty"), 126, &["/t/empty"]);
    assert_told(&programs.run("windows"), 127, &["/t/windows"]);
    let works = programs.run("works");
    assert_eq!(
        (works.status, works.stdout.as_str()),
        (6, "/t/works 0\n"),
        "{works:?}"
    );
    assert_eq!(programs.run("argument").stdout, "/t/argument\n");
    // A shell in the guest tells the same as it does anywhere.
    let outcome = guest(
        &["-v", &format!("{}:/t", programs.0.display())],
        "/t/missing; echo $?; /t/blank; echo $?",
    );
    assert_eq!(outcome.stdout, "127\nfrom the shell\n0\n", "{outcome:?}");
}

/// A small ELF to spoil.
fn elf() -> Vec<u8> {
    fs::read(rootfs().join("usr/bin/true")).expect("read an ELF")
}

fn put(elf: &mut [u8], at: usize, bytes: &[u8]) {
    elf[at..at + bytes.len()].copy_from_slice(bytes);
}

#[test]
fn executables_of_other_kinds() {
    let programs = Programs::new();
    let spoilt: [(&str, usize, &[u8]); 8] = [
        ("arm64", 18, &183u16.to_le_bytes()),
        ("riscv", 18, &243u16.to_le_bytes()),
        ("32-bit", 4, &[1]),
        ("object", 16, &1u16.to_le_bytes()),
        ("core", 16, &4u16.to_le_bytes()),
        ("no-headers", 56, &0u16.to_le_bytes()),
        ("odd-entry-size", 54, &57u16.to_le_bytes()),
        ("headers-beyond", 32, &u64::MAX.to_le_bytes()),
    ];
    for (name, at, bytes) in spoilt {
        let mut elf = elf();
        put(&mut elf, at, bytes);
        programs.add(name, &elf);
        assert_told(&programs.run(name), 126, &[name]);
    }
    for length in [1, 4, 16, 63, 64, 100, 200] {
        programs.add("truncated", &elf()[..length]);
        assert_told(&programs.run("truncated"), 126, &["truncated"]);
    }
    programs.add("whole", &elf());
    assert_eq!(programs.run("whole").status, 0);
}

/// Headers with random fields: whatever they say, uvm tells or the guest dies, and uvm does neither hang nor panic.
#[test]
fn hostile_executables() {
    const SEED: u64 = 0x5eed_0001;
    let programs = Programs::new();
    let mut random = Random(SEED);
    for round in 0..80 {
        let mut elf = elf();
        // The file header's fields from the type on, and the program headers.
        let headers = 64 + 56 * usize::from(elf[56]);
        for _ in 0..=random.below(3) {
            let at = 16 + random.below(headers - 16 - 8);
            let interesting = [
                0,
                1,
                0xfff,
                0x1000,
                0x7fff_ffff_f000,
                u64::MAX,
                1 << 63,
                random.next(),
            ];
            let value = interesting[random.below(interesting.len())].to_le_bytes();
            let width = [1, 2, 4, 8][random.below(4)];
            put(&mut elf, at, &value[..width]);
        }
        elf.truncate([usize::MAX, headers, 5000][random.below(6).min(2)].min(elf.len()));
        programs.add("hostile", &elf);
        let outcome = programs.run("hostile");
        assert!(
            matches!(outcome.status, 0 | 1 | 126 | 127 | 129..=159) && !outcome.stderr.contains("panicked"),
            "seed {SEED:#x}, round {round}: {outcome:?}\nthe file is {}",
            programs.0.join("hostile").display()
        );
    }
}

/// The numbers of Marsaglia's xorshift: enough to vary inputs, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }
}

#[test]
fn a_full_disk() {
    let outcome = guest(
        &["--tmpfs", "/scratch:size=1m"],
        "cd /scratch && head -c 600000 /dev/zero >a && echo fits; head -c 600000 /dev/zero >b; echo $?; [ $(wc -c <b) -lt 600000 ] && echo short; rm a b; head -c 900000 /dev/zero >c && echo again; df /scratch | awk 'END { print $2 }'",
    );
    assert_eq!(outcome.stdout, "fits\n1\nshort\nagain\n1024\n", "{outcome:?}");
    assert!(outcome.stderr.contains("No space left on device"), "{outcome:?}");
}

#[test]
fn a_root_with_nothing_in_it_but_busybox() {
    let root = small_root("busybox");
    let root = root.to_str().expect("UTF-8");
    let outcome = uvm([
        "run",
        root,
        "/bin/sh",
        "-c",
        "echo $((6 * 7)); busybox ls /; no-such-command",
    ]);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (127, "42\nbin\ndev\netc\nlib\nlib64\nproc\nsys\ntmp\n"),
        "{outcome:?}"
    );
}
