//! `--keep`, `--resume` and `uvm kept`.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{CHANGE, LIMIT, paths, work};
use crate::support::UVM;
use crate::support::process::{Outcome, run};

fn command(data: &Path, directory: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(UVM);
    command
        .args(arguments)
        .current_dir(directory)
        .env("XDG_DATA_HOME", data);
    run(&mut command, b"", LIMIT)
}

fn resumed(data: &Path, directory: &Path, options: &[&str], script: &str) -> Outcome {
    let arguments = [&["do"], options, &["--", "sh", "-c", script]].concat();
    command(data, directory, &arguments)
}

#[test]
fn a_guest_goes_on_where_another_ended() {
    let (directory, data) = (work("kept"), work("kept-data"));
    let first = resumed(&data, &directory, &["--keep", "one", "--diff"], CHANGE);
    assert_eq!(first.status, 0, "{first:?}");
    assert!(first.stdout.contains("/new/deep/file\n"), "{first:?}");
    let second = resumed(&data, &directory, &["--resume", "one", "--diff"], "true");
    assert_eq!((second.status, &second.stdout), (0, &first.stdout), "{second:?}");
    let taken = resumed(&data, &directory, &["--keep", "one"], "true");
    assert_eq!(
        (taken.status, taken.stderr.lines().count()),
        (125, 1),
        "{taken:?}"
    );
    let missing = resumed(&data, &directory, &["--resume", "two"], "true");
    assert_eq!(
        (missing.status, missing.stderr.lines().count()),
        (125, 1),
        "{missing:?}"
    );
    assert_eq!(command(&data, &directory, &["kept"]).stdout, "one\n");
    // What this machine changed since the first guest began is left alone; the rest is carried out.
    fs::write(directory.join("text"), "changed here\n").expect("write");
    let applied = resumed(
        &data,
        &directory,
        &["--resume", "one", "--apply"],
        "echo late >late",
    );
    assert_eq!(applied.status, 125, "{applied:?}");
    let told = paths(&applied.stderr, &directory);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[2..],
        ["uvm: do: --apply: /text: changed on this machine since the guest began; left as it is"]
    );
    assert!(
        lines[..2]
            .iter()
            .all(|line| line.contains(": kept, as something else")),
        "{told}"
    );
    assert_eq!(fs::read(directory.join("text")).expect("read"), b"changed here\n");
    assert_eq!(fs::read(directory.join("new/deep/file")).expect("read"), b"n\n");
    assert_eq!(fs::read(directory.join("late")).expect("read"), b"late\n");
    assert!(directory.join("gone").exists());
    assert_eq!(command(&data, &directory, &["kept", "rm", "one"]).status, 0);
    assert_eq!(command(&data, &directory, &["kept", "ls"]).stdout, "");
    let gone = command(&data, &directory, &["kept", "rm", "one"]);
    assert_eq!((gone.status, gone.stderr.lines().count()), (125, 1), "{gone:?}");
}

#[test]
fn what_never_ran_keeps_no_name() {
    let (directory, data) = (work("free"), work("free-data"));
    let failed = command(&data, &directory, &["do", "--keep", "one", "no-such-command"]);
    assert_eq!(
        (failed.status, failed.stderr.lines().count()),
        (127, 1),
        "{failed:?}"
    );
    assert_eq!(command(&data, &directory, &["kept"]).stdout, "");
    assert_eq!(resumed(&data, &directory, &["--keep", "one"], "true").status, 0);
    assert_eq!(command(&data, &directory, &["kept"]).stdout, "one\n");
}

#[test]
fn names_do_not_lead_elsewhere() {
    let (directory, data) = (work("names"), work("names-data"));
    for name in ["../x", "/x", "", ".", ".x", "a/b", "-x"] {
        let refused = resumed(&data, &directory, &[&format!("--keep={name}")], "true");
        assert_eq!(
            (refused.status, refused.stderr.lines().count()),
            (125, 1),
            "{name}: {refused:?}"
        );
        let refused = command(&data, &directory, &["kept", "rm", "--", name]);
        assert_eq!(
            (refused.status, refused.stderr.lines().count()),
            (125, 1),
            "{name}: {refused:?}"
        );
    }
}
