//! `--deterministic`, `--seed` and `uvm verify`.

use super::*;

/// Builds a program of this directory.
fn program(name: &str) -> PathBuf {
    let path = scratch("deterministic").join(name);
    let built = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-static", "-pthread", "-o"])
        .arg(&path)
        .arg(support::test_file(&format!("cli/{name}.c")))
        .status()
        .expect("run the C compiler");
    assert!(built.success(), "{name}.c does not compile");
    path
}

fn run_seeded(seed: &str, trace: Option<&Path>, program: &Path) -> Outcome {
    let mut command = Command::new(UVM);
    command.args(["run", "--deterministic", "--seed", seed]);
    if let Some(trace) = trace {
        let mut option = std::ffi::OsString::from("--trace=");
        option.push(trace);
        command.arg(option);
    }
    run(command.arg("/").arg("--").arg(program), b"", LIMIT)
}

#[test]
fn a_seed_makes_the_same_calls_a_hundred_times() {
    let program = program("mixed");
    let directory = scratch("traces");
    let traced = |seed: &str, name: &str| {
        let path = directory.join(name);
        let outcome = run_seeded(seed, Some(&path), &program);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        (outcome.stdout, fs::read(path).expect("read the trace"))
    };
    let first = traced("1", "first");
    assert!(first.1.len() > 1000, "there is a trace");
    for _ in 0..99 {
        assert!(traced("1", "again") == first, "another run with the same seed");
    }
    let other = traced("2", "other");
    assert!(other.0 != first.0 && other.1 != first.1, "another seed");
    // Nothing hangs on whether somebody looks.
    assert_eq!(run_seeded("1", None, &program).stdout, first.0);
}

#[test]
fn a_race_is_found_by_its_seed_and_shown_again() {
    let program = program("racy");
    let mut command = Command::new(UVM);
    command
        .args(["verify", "--seeds", "300", "/", "--"])
        .arg(&program);
    let found = run(&mut command, b"", LIMIT);
    assert_eq!((found.status, found.stderr.as_str()), (1, ""), "{found:?}");
    let seed = found.stdout.split_ascii_whitespace().nth(1).expect("the seed");
    assert!(
        found.stdout.contains("the first system calls that differ"),
        "{found:?}"
    );
    let right = run_seeded("0", None, &program);
    for _ in 0..5 {
        let wrong = run_seeded(seed, None, &program);
        assert_ne!(
            (wrong.status, &wrong.stdout),
            (right.status, &right.stdout),
            "seed {seed}"
        );
    }
}

#[test]
fn two_runs_are_compared() {
    let verify = |arguments: &[&str]| uvm([&["verify"], arguments].concat());
    let script = "date; echo $$; (sleep 100; echo a) & echo b; wait; head -c 8 /dev/urandom | od";
    let root = rootfs().to_str().expect("UTF-8");
    let same = verify(&["--seed", "9", root, "--", "sh", "-c", script]);
    assert_eq!(same.status, 0, "{same:?}");
    assert!(same.stdout.contains("seed 9 are the same"), "{same:?}");
    // The second run sees what the first one wrote.
    let shared = scratch("verify");
    let volume = format!("{}:/shared", shared.display());
    let script = "echo x >>/shared/f; wc -c </shared/f";
    let other = verify(&["-v", &volume, root, "--", "sh", "-c", script]);
    assert_eq!(other.status, 1, "{other:?}");
    assert!(other.stdout.contains("they write something else"), "{other:?}");
    let seeds = verify(&["--seeds", "3", root, "--", "echo", "hello"]);
    assert_writes(&seeds, "3 seeds end the same, with exit status 0\n");
}

#[test]
fn a_loop_that_waits_for_another_thread_is_interrupted_and_told() {
    let outcome = run_seeded("4", None, &program("spinning"));
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, "seen\n"),
        "{outcome:?}"
    );
    let told = outcome.told();
    assert!(
        told.len() == 1 && told[0].contains("without a system call"),
        "{outcome:?}"
    );
}

#[test]
fn what_does_not_go_together_is_told() {
    assert_told(
        &guest(&["--deterministic", "--clock", "travel"], "true"),
        125,
        &["--clock"],
    );
    assert_told(
        &guest(&["--deterministic", "--cpus", "4"], "true"),
        125,
        &["--cpus 4"],
    );
    assert_told(&guest(&["--seed", "3"], "true"), 125, &["--deterministic"]);
    assert_told(
        &guest(&["--deterministic", "--seed=-1"], "true"),
        125,
        &["--seed"],
    );
    assert_told(&uvm(["verify", "--seeds", "1", "/"]), 125, &["--seeds"]);
    assert_told(
        &uvm(["verify", "/no-such-root", "--", "true"]),
        125,
        &["no-such-root"],
    );
}

#[test]
fn a_guest_that_only_waits_for_its_timers_is_ended() {
    let script = "$SIG{ALRM} = 'IGNORE'; setitimer(0, 0.001, 0.001); select(undef, undef, undef, 1e9)";
    let mut command = Command::new(UVM);
    command.args(["run", "--deterministic", "--timeout", "0.5", "/", "--"]);
    command.args(["perl", "-MTime::HiRes=setitimer", "-e", script]);
    assert_eq!(run(&mut command, b"", LIMIT).status, 124);
}

/// A copy of a small tree of files, made in this order: their places and inode numbers on the host depend on it.
fn copy_of_tree(name: &str, files: &[&str]) -> PathBuf {
    let copy = scratch(name);
    for file in files {
        let path = copy.join(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
        fs::write(&path, file).expect("write a file");
    }
    fs::hard_link(copy.join("etc/b"), copy.join("link")).expect("link a file");
    for file in ["", "bin", "etc", "etc/a", "etc/b", "usr", "usr/c", "bin/tree"] {
        let file = fs::File::open(copy.join(file)).expect("open a file");
        file.set_modified(std::time::UNIX_EPOCH).expect("set a time");
    }
    copy
}

#[test]
fn copies_of_a_tree_are_seen_alike() {
    let program = program("tree");
    let seen = |name: &str, files: &[&str]| {
        let root = copy_of_tree(name, files);
        fs::copy(&program, root.join("bin/tree")).expect("copy the program");
        let trace = scratch("traces").join(name);
        let mut option = std::ffi::OsString::from("--trace=");
        option.push(&trace);
        let mut command = Command::new(UVM);
        command
            .args(["run", "--deterministic", "--seed", "5"])
            .arg(option);
        let outcome = run(command.arg(&root).args(["--", "/bin/tree"]), b"", LIMIT);
        assert!(outcome.status == 0 && outcome.told().is_empty(), "{outcome:?}");
        (outcome.stdout, fs::read_to_string(trace).expect("read the trace"))
    };
    let first = seen("tree-1", &["bin/tree", "etc/a", "etc/b", "usr/c"]);
    assert!(first.0.contains("/etc/b"), "{}", first.0);
    let second = seen("tree-2", &["usr/c", "etc/b", "etc/a", "bin/tree"]);
    assert_eq!(first.0, second.0);
    assert_eq!(first.1, second.1);
}
