//! `uvm doctor`, and which platform a guest gets: on this machine, and in environments that allow less.

use std::path::Path;
use std::process::Command;

use super::{LIMIT, assert_told, assert_writes, uvm};
use crate::support::process::{Outcome, run};
use crate::support::{UVM, launcher};

/// Runs uvm by a launcher, and with no wish of the environment: what is tested is the choice.
fn within(launcher: &Path, arguments: &[&str]) -> Outcome {
    let mut uvm = Command::new(launcher);
    uvm.env_remove("UVM_PLATFORM").arg(UVM).args(arguments);
    run(&mut uvm, b"", LIMIT)
}

/// What a Python expression says of the report `r`, whose facts are also in `f` by id.
#[track_caller]
fn ask(report: &Outcome, expression: &str) -> String {
    let script = format!(
        "import json, sys\nr = json.load(sys.stdin)\nf = {{x['id']: x for x in r['facts']}} if 'facts' in r else {{}}\nprint(({expression}))"
    );
    let mut python = Command::new("python3");
    let outcome = run(python.args(["-c", &script]), report.stdout.as_bytes(), LIMIT);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    outcome.stdout.trim_end().to_owned()
}

#[test]
fn this_host() {
    let text = uvm(["doctor"]);
    assert_eq!((text.status, text.stderr.as_str()), (0, ""), "{text:?}");
    assert!(text.stdout.starts_with("uvm run uses the "), "{text:?}");
    let json = uvm(["doctor", "--json"]);
    assert_eq!((json.status, json.stderr.as_str()), (0, ""), "{json:?}");
    // The tests need a platform, so there is one.
    assert_eq!(ask(&json, "r['platform'] in ('seccomp', 'ptrace')"), "True");
    assert_eq!(
        ask(&json, "sorted(p['name'] for p in r['platforms'])"),
        "['ptrace', 'seccomp']"
    );
    assert_eq!(ask(&json, "len(f) >= 18 and f['memory-file']['present']"), "True");
    for fact in [
        "ptrace",
        "seccomp-listener",
        "fsgsbase",
        "cpuid-faulting",
        "vsyscall",
    ] {
        let told = ask(
            &json,
            &format!("set(f['{fact}']) >= {{'what', 'detail', 'needed_for', 'without'}}"),
        );
        assert_eq!(told, "True", "{fact}");
    }
}

#[test]
fn the_table_of_instructions() {
    let json = uvm(["doctor", "--json"]);
    let known = "all(isinstance(i['traps'], bool) and i['handled'] and i['class'] in \
        ('privileged', 'control-sensitive', 'behaviour-sensitive', 'innocuous') for i in r['instructions'])";
    assert_eq!(ask(&json, known), "True");
    for (name, told) in [
        ("CPUID", "i['traps'] == f['cpuid-faulting']['present']"),
        ("SGDT", "i['traps'] == f['umip']['present']"),
        ("RDPID", "not i['traps'] and 'number' in i['visible']"),
        ("HLT", "i['traps'] and i['by'] == 'itself'"),
    ] {
        let row = format!("[{told} for i in r['instructions'] if i['names'].startswith('{name}')]");
        assert_eq!(ask(&json, &row), "[True]", "{name}");
    }
    assert_eq!(
        ask(
            &json,
            "len([o for o in r['options'] if o['option'].startswith('--cpu x86-64-v')])"
        ),
        "4"
    );
    let text = uvm(["doctor"]).stdout;
    assert!(!text.contains("unknown") && !text.contains("?"), "{text}");
}

#[test]
fn the_filter() {
    let text = uvm(["doctor", "--filter"]);
    assert_eq!((text.status, text.stderr.as_str()), (0, ""), "{text:?}");
    for line in [
        "    17  pread64           allow   fd is 32 to 511",
        "    11  munmap            allow   any",
        "   0  load architecture",
    ] {
        assert!(text.stdout.lines().any(|told| told == line), "{line}: {text:?}");
    }
    let json = uvm(["doctor", "--filter", "--json"]);
    assert_eq!(
        ask(
            &json,
            "[(c['action'], c['conditions']) for c in r['calls'] if c['name'] == 'sendmsg']"
        ),
        "[('allow', ['sockfd is 3'])]"
    );
    assert_eq!(ask(&json, "r['program'][-1].endswith('return kill')"), "True");
    // What the table says of the host is what the filter lets through.
    let table = ask(
        &uvm(["syscalls", "--json"]),
        "[x['name'] for x in r if x['host'] != 'never']",
    );
    assert_eq!(
        ask(
            &json,
            "[c['name'] for c in sorted(r['calls'], key=lambda c: c['number'])]"
        ),
        table
    );
}

#[test]
fn where_ptrace_is_forbidden() {
    let launcher = launcher("no_ptrace");
    let report = within(&launcher, &["doctor", "--json"]);
    assert_eq!(
        ask(&report, "f['ptrace']['present'], f['process-vm']['present']"),
        "(False, False)"
    );
    assert_eq!(
        ask(
            &report,
            "[p['missing'][:20] for p in r['platforms'] if p['name'] == 'ptrace']"
        ),
        "['the host lacks ptrac']"
    );
    let run = ["run", "--platform", "ptrace", "/", "/bin/true"];
    assert_told(
        &within(&launcher, &run),
        125,
        &["ptrace platform", "the host lacks ptrace", "seccomp filter"],
    );
    assert_eq!(
        (report.status, ask(&report, "r['platform']").as_str()),
        (0, "seccomp")
    );
    let asked = ["run", "--platform", "seccomp", "/", "/bin/echo", "hello"];
    assert_writes(&within(&launcher, &asked), "hello\n");
    // Without a wish there is a word about it only when another platform would have come first.
    let plain = within(&launcher, &["run", "/", "/bin/echo", "hello"]);
    assert_eq!((plain.status, plain.stdout.as_str()), (0, "hello\n"), "{plain:?}");
    assert!(plain.stderr.lines().count() <= 1, "{plain:?}");
}

#[test]
fn within_a_container_of_docker() {
    let launcher = launcher("docker_profile");
    let report = within(&launcher, &["doctor", "--json"]);
    assert_eq!(report.status, 0, "{report:?}");
    assert_eq!(
        ask(&report, "[p['missing'] for p in r['platforms']]"),
        "[None, None]"
    );
    for platform in ["ptrace", "seccomp"] {
        let outcome = within(
            &launcher,
            &["run", "--platform", platform, "/", "/bin/echo", "hello"],
        );
        assert_writes(&outcome, "hello\n");
    }
    assert_writes(&within(&launcher, &["run", "/", "/bin/echo", "hello"]), "hello\n");
}

#[test]
fn where_another_listens() {
    let launcher = launcher("supervised");
    let report = within(&launcher, &["doctor", "--json"]);
    assert_eq!(
        ask(
            &report,
            "[(p['name'], 'user notification' in (p['missing'] or '')) for p in r['platforms']]"
        ),
        "[('ptrace', False), ('seccomp', True)]"
    );
    let asked = within(&launcher, &["run", "--platform", "seccomp", "/", "/bin/true"]);
    assert_told(
        &asked,
        125,
        &["seccomp platform", "user notification", "listens already"],
    );
    let plain = within(&launcher, &["run", "/", "/bin/echo", "hello"]);
    assert_eq!((plain.status, plain.stdout.as_str()), (0, "hello\n"), "{plain:?}");
}
