//! Standard input, output and error, of whatever kind they are.

use std::process::Command;

use super::{LIMIT, uvm};
use crate::support::process::{Outcome, run};
use crate::support::{UVM, rootfs};

/// A bash script of this machine that runs uvm; `$run` starts a command in the guest.
fn host(script: &str, input: &[u8]) -> Outcome {
    let mut command = Command::new("bash");
    command.args([
        "-c",
        &format!("run='{UVM} run {} --'\n{script}", rootfs().display()),
    ]);
    run(&mut command, input, LIMIT)
}

#[test]
fn pass_through() {
    let input = b"line\n".repeat(200_000);
    let outcome = host("$run cat", &input);
    assert!(
        outcome.status == 0 && outcome.stdout.as_bytes() == input,
        "status {}",
        outcome.status
    );
    assert_eq!(host("$run md5sum", &input).stdout, host("md5sum", &input).stdout);
    let both = host("$run sh -c 'echo out; echo err >&2'", b"");
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    // The shell of the guest's passwd, when no command is given.
    let shell = run(
        Command::new(UVM).arg("run").arg(rootfs()),
        b"echo \"$0\" | tr -d -; exit 3\n",
        LIMIT,
    );
    assert!(
        shell.status == 3 && shell.stdout.trim_end().ends_with("bash"),
        "{shell:?}"
    );
    // What the guest has not read is left to the next reader.
    assert_eq!(
        host("{ $run head -c 5; cat; } <<<'12345rest'", b"").stdout,
        "12345rest\n"
    );
    assert_eq!(
        host(
            "f=$(mktemp); echo one >$f; $run sh -c 'echo two; echo three' >>$f; cat $f; rm $f",
            b""
        )
        .stdout,
        "one\ntwo\nthree\n"
    );
}

#[test]
fn closed_and_full() {
    for (script, status) in [
        ("$run sh -c 'exec echo hello >&-'", 1),
        ("$run sh -c 'echo hello' 2>&-", 0),
        ("$run echo hello >&-", 1),
        ("$run true <&- >&- 2>&-", 0),
        ("$run echo hello >/dev/full", 1),
        ("$run sh -c 'echo still' >/dev/null", 0),
    ] {
        let outcome = host(script, b"");
        assert_eq!(outcome.status, status, "{script}: {outcome:?}");
        assert!(outcome.stderr.lines().count() <= 1, "{script}: {outcome:?}");
    }
    let full = host(&format!("{UVM} syscalls >/dev/full"), b"");
    assert_eq!((full.status, full.stderr.lines().count()), (125, 1), "{full:?}");
    assert_eq!(uvm(["syscalls"]).status, 0);
}

#[test]
fn a_reader_that_leaves() {
    let outcome = host("$run yes | head -n 2; echo ${PIPESTATUS[0]}", b"");
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("y\ny\n141\n", ""),
        "{outcome:?}"
    );
    let quiet = host(
        &format!("{UVM} syscalls | head -n 1 | wc -l; echo ${{PIPESTATUS[0]}}"),
        b"",
    );
    assert_eq!(
        (quiet.stdout.as_str(), quiet.stderr.as_str()),
        ("1\n0\n", ""),
        "{quiet:?}"
    );
}

/// Two guests in one pipe, and many at once.
#[test]
fn guests_beside_each_other() {
    let outcome = host(
        "$run seq 1000 | $run sort -rn | $run head -n 1; echo ${PIPESTATUS[@]}",
        b"",
    );
    assert!(outcome.stdout.starts_with("1000\n"), "{outcome:?}");
    let many = host(
        "for i in $(seq 12); do $run sh -c \"echo $i; exit $i\" & done; wait; echo all",
        b"",
    );
    assert_eq!(many.stdout.lines().count(), 13, "{many:?}");
}
