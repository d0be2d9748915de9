//! `--stats`: what is counted, and how many calls come in by patched sites.

use super::uvm;
use crate::support::rootfs;

/// The least share, in percent, of a program's calls that come in by patched sites when it repeats them.
const PATCHED: f64 = 97.0;

/// The number in front of `what` in a report of `--stats`.
fn number(report: &str, what: &str) -> f64 {
    let (before, _) = report
        .split_once(what)
        .unwrap_or_else(|| panic!("{what}: {report}"));
    let word = before.rsplit([' ', '\n']).next().unwrap_or_default();
    word.parse()
        .unwrap_or_else(|e| panic!("{word} before {what}: {e}"))
}

/// Runs a program of `tests/rootfs/calls` and looks at where its calls came in.
fn most_calls_come_by_patched_sites(program: &str) {
    let mut arguments = ["run", "--platform", "seccomp", "--stats"]
        .map(ToOwned::to_owned)
        .to_vec();
    arguments.extend([rootfs().display().to_string(), format!("/srv/bin/{program}")]);
    let outcome = uvm(&arguments);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""), "{outcome:?}");
    let report = &outcome.stderr;
    assert!(number(report, " system calls") > 20_000.0, "{report}");
    let told = number(report, " calls to the kernel by patched sites");
    assert!(
        number(report, &format!(" % of {told} calls to the kernel")) >= PATCHED,
        "{report}"
    );
    assert!(number(report, " trapped to be made natively") < 100.0, "{report}");
}

#[test]
fn a_program_of_glibc() {
    most_calls_come_by_patched_sites("calls-glibc");
}

#[test]
fn a_static_program_of_musl() {
    most_calls_come_by_patched_sites("calls-musl");
}

#[test]
fn a_program_of_go() {
    most_calls_come_by_patched_sites("calls-go");
}
