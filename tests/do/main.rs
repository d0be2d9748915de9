//! `uvm do`: what a guest made from this machine sees, what becomes of its changes, and that nothing else does.

mod apply;
mod kept;
#[path = "../support/mod.rs"]
mod support;
mod tools;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::process::{Outcome, run};
use support::{UVM, scratch};

const LIMIT: Duration = Duration::from_secs(120);

/// A directory of this test's own with a few files in it.
fn work(name: &str) -> PathBuf {
    let path = scratch(name);
    fs::create_dir_all(path.join("dir/sub")).expect("create a directory");
    for (file, text) in [
        ("text", "one\ntwo\nthree\n"),
        ("gone", "gone\n"),
        ("dir/a", "a\n"),
        ("dir/sub/b", "b\n"),
    ] {
        fs::write(path.join(file), text).expect("write");
    }
    symlink("text", path.join("link")).expect("link");
    path
}

fn uvm_do(directory: &Path, options: &[&str], script: &str) -> Outcome {
    let mut command = Command::new(UVM);
    command
        .arg("do")
        .args(options)
        .args(["--", "sh", "-c", script])
        .current_dir(directory);
    run(&mut command, b"", LIMIT)
}

/// What stat(2) and a read tell of a file, access time aside.
#[derive(PartialEq)]
struct Facts {
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    times: [i64; 4],
    contents: Vec<u8>,
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts {
            inode,
            mode,
            owner,
            links,
            times,
            contents,
        } = self;
        write!(
            f,
            "inode {inode} mode {mode:o} owner {owner:?} links {links} times {times:?} size {}",
            contents.len()
        )
    }
}

/// All files of a tree; of what this user may not read, that it is there.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).expect("stat");
        let mut contents = Vec::new();
        if meta.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten();
            left.extend(entries.map(|entry| entry.expect("entry").path()));
        } else if meta.is_file() {
            contents = fs::read(&path).unwrap_or_default();
        }
        let facts = Facts {
            inode: meta.ino(),
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            links: meta.nlink(),
            times: [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()],
            contents,
        };
        found.insert(path, facts);
    }
    found
}

/// Changes of all kinds.
const CHANGE: &str = "echo four >>text; sed -i s/one/ONE/ text; rm gone; mkdir -p new/deep; echo n >new/deep/file; \
    chmod 750 new; chmod 600 dir/a; rm -rf dir/sub; ln -sfn dir link; printf 'no newline' >odd; mkfifo fifo; ln new/deep/file hard";

fn paths(output: &str, directory: &Path) -> String {
    output.replace(directory.to_str().expect("UTF-8"), "")
}

#[test]
fn the_guest_is_this_machine_and_the_caller() {
    let directory = work("same");
    let script = "pwd; id -u; id -g; id -G | tr ' ' '\\n' | sort -n; umask; hostname; echo $MARK; cat text";
    let mut native = Command::new("sh");
    native
        .args(["-c", script])
        .current_dir(&directory)
        .env("MARK", "kept");
    let mut guest = Command::new(UVM);
    guest
        .args(["do", "--", "sh", "-c", script])
        .current_dir(&directory)
        .env("MARK", "kept");
    let (native, guest) = (run(&mut native, b"", LIMIT), run(&mut guest, b"", LIMIT));
    assert_eq!(
        (guest.status, &guest.stdout),
        (native.status, &native.stdout),
        "{guest:?}"
    );
    assert_eq!(uvm_do(&directory, &[], "exit 7").status, 7);
    let processes = uvm_do(&directory, &[], "ls /proc | grep -c '^[0-9]'; ls /run | wc -l");
    assert!(
        processes
            .stdout
            .lines()
            .all(|n| n.parse::<u32>().is_ok_and(|n| n < 6)),
        "{processes:?}"
    );
}

#[test]
fn changes_are_shown_and_nothing_is_written() {
    let directory = work("diff");
    let before = snapshot(&directory);
    let outcome = uvm_do(&directory, &["--diff"], CHANGE);
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert_eq!(
        paths(&outcome.stdout, &directory),
        "m /dir/a (mode 0644 to 0600)\nD /dir/sub/\nA /fifo\nD /gone\nA /hard\nM /link\nA /new/\nA /new/deep/\n\
         A /new/deep/file\nA /odd\nM /text\n"
    );
    assert_eq!(snapshot(&directory), before);
}

#[test]
fn what_comes_out_as_it_was_is_no_change() {
    let directory = work("same-again");
    let script = "cp -p text t; echo x >>text; cat t >text; touch -r t text; rm t; mv gone g; mv g gone; \
                  chmod 600 dir/a; chmod 644 dir/a; mv dir d; mv d dir";
    let outcome = uvm_do(&directory, &["--diff"], script);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""), "{outcome:?}");
}

#[test]
fn patches_are_what_patch_reads() {
    let directory = work("patch");
    let copy = work("patch-copy");
    let file = directory.with_extension("patch");
    let to = format!("--diff-to={}", file.display());
    let outcome = uvm_do(
        &directory,
        &["--diff=patch", &to],
        "echo four >>text; sed -i s/one/ONE/ text; rm gone; echo n >dir/n; printf 'no newline' >odd; rm -r dir/sub; \
         printf 'a\\rb\\ncaf\\351\\n' >bytes",
    );
    assert_eq!((outcome.status, outcome.stdout.as_str()), (0, ""), "{outcome:?}");
    let depth = directory.components().count();
    let mut patch = Command::new("patch");
    patch
        .args([&format!("-p{depth}"), "-i"])
        .arg(&file)
        .current_dir(&copy);
    let patched = run(&mut patch, b"", LIMIT);
    assert_eq!(patched.status, 0, "{patched:?}");
    let read = |name: &str| fs::read_to_string(copy.join(name));
    assert_eq!(read("text").expect("read"), "ONE\ntwo\nthree\nfour\n");
    assert_eq!(read("odd").expect("read"), "no newline");
    assert_eq!(read("dir/n").expect("read"), "n\n");
    assert_eq!(fs::read(copy.join("bytes")).expect("read"), b"a\rb\ncaf\xe9\n");
    assert!(read("gone").is_err() && read("dir/sub/b").is_err());
}

#[test]
fn json_is_json() {
    let directory = work("json");
    let outcome = uvm_do(&directory, &["--diff=json"], CHANGE);
    let value: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let changes = value["changes"].as_array().expect("a list");
    assert_eq!(changes.len(), 11, "{outcome:?}");
    let mode = changes
        .iter()
        .find(|change| change["what"] == serde_json::json!(["mode"]))
        .expect("a mode");
    assert_eq!(
        (&mode["before"]["mode"], &mode["after"]["mode"]),
        (&"0644".into(), &"0600".into())
    );
}

#[test]
fn apply_carries_out_everything() {
    let directory = work("apply");
    let outcome = uvm_do(&directory, &["--apply"], CHANGE);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert_eq!(
        fs::read_to_string(directory.join("text")).expect("read"),
        "ONE\ntwo\nthree\nfour\n"
    );
    assert!(!directory.join("gone").exists() && !directory.join("dir/sub").exists());
    let mode = |name: &str| {
        fs::metadata(directory.join(name))
            .expect("stat")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!((mode("new"), mode("dir/a")), (0o750, 0o600));
    assert_eq!(
        fs::read_link(directory.join("link")).expect("link"),
        Path::new("dir")
    );
    let ino = |name: &str| fs::metadata(directory.join(name)).expect("stat").ino();
    assert_eq!(ino("hard"), ino("new/deep/file"));
    let left: Vec<_> = fs::read_dir(&directory)
        .expect("list")
        .map(|e| e.expect("entry").file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().starts_with(".uvm")),
        "{left:?}"
    );
}

#[test]
fn apply_of_a_part_leaves_the_rest() {
    let directory = work("part");
    let before = snapshot(&directory.join("dir"));
    let parts = ["--apply=new/deep", "--apply=text", "--apply=same"];
    let outcome = uvm_do(&directory, &parts, CHANGE);
    let told = format!(
        "uvm: do: --apply: nothing has changed at {}\n",
        directory.join("same").display()
    );
    assert_eq!((outcome.status, outcome.stderr), (125, told));
    assert_eq!(
        fs::read_to_string(directory.join("new/deep/file")).expect("read"),
        "n\n"
    );
    assert!(
        fs::read_to_string(directory.join("text"))
            .expect("read")
            .starts_with("ONE")
    );
    assert!(directory.join("gone").exists() && !directory.join("odd").exists());
    assert_eq!(snapshot(&directory.join("dir")), before);
}

#[test]
fn nothing_is_applied_after_a_failure() {
    let directory = work("failure");
    let before = snapshot(&directory);
    let outcome = uvm_do(&directory, &["--apply"], &format!("{CHANGE}; exit 3"));
    assert_eq!(outcome.status, 3, "{outcome:?}");
    assert!(outcome.stderr.contains("nothing was carried out"), "{outcome:?}");
    assert_eq!(snapshot(&directory), before);
}

/// The guest waits until the host has made its own changes: it reads a line that is written after them.
#[test]
fn what_changed_underneath_is_refused() {
    let directory = work("conflict");
    let ready = directory.join("ready");
    fs::create_dir(&ready).expect("create");
    let shared = format!("--write={}", ready.display());
    let mut guest = Command::new(UVM);
    guest
        .current_dir(&directory)
        .args(["do", "--apply", &shared, "--", "sh", "-c"]);
    guest.arg("echo x >>text; rm -r dir; echo mine >new; rm gone; touch ready/begun; until [ -e ready/go ]; do sleep 0.05; done");
    let host = {
        let directory = directory.clone();
        std::thread::spawn(move || {
            while !directory.join("ready/begun").exists() {
                std::thread::yield_now();
            }
            fs::write(directory.join("text"), "the host's").expect("write");
            fs::write(directory.join("new"), "the host's").expect("write");
            fs::write(directory.join("dir/sub/added"), "the host's").expect("write");
            fs::write(directory.join("ready/go"), "").expect("write");
        })
    };
    let outcome = run(&mut guest, b"", LIMIT);
    host.join().expect("the host's part");
    assert_eq!(outcome.status, 125, "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 4, "{outcome:?}");
    let read = |name: &str| fs::read_to_string(directory.join(name)).expect("read");
    assert_eq!(
        (read("text"), read("new")),
        ("the host's".into(), "the host's".into())
    );
    assert_eq!(read("dir/sub/b"), "b\n");
    assert_eq!(read("gone"), "gone\n", "nothing goes when something did not come");
}

#[test]
fn secrets_are_not_there() {
    let home = work("home");
    fs::create_dir_all(home.join(".ssh")).expect("create");
    fs::write(home.join(".ssh/id_ed25519"), "secret").expect("write");
    fs::write(home.join(".netrc"), "secret").expect("write");
    fs::hard_link(home.join(".netrc"), home.join("other-name")).expect("link");
    fs::write(home.join("mine"), "secret").expect("write");
    let look = |options: &[&str]| {
        let mut command = Command::new(UVM);
        command.arg("do").args(options).args(["--", "sh", "-c"]);
        command.arg("cat ~/.ssh/id_ed25519 ~/.netrc ~/other-name ~/mine; env | grep -E '^(MY_TOKEN|OPEN)='; ls -A ~ | sort | tr '\\n' ' '");
        command
            .current_dir(&home)
            .env("HOME", &home)
            .env("MY_TOKEN", "secret")
            .env("OPEN", "open");
        run(&mut command, b"", LIMIT).stdout
    };
    assert_eq!(
        look(&["--hide=./mine"]),
        "OPEN=open\ndir gone link other-name text "
    );
    assert_eq!(
        look(&["--show=~/.ssh", "--show=MY_TOKEN", "--hide=OPEN", "--hide=~/mine"])
            .matches("secret")
            .count(),
        2
    );
    let listed = run(
        Command::new(UVM).args(["do", "--list-hidden"]).env("HOME", &home),
        b"",
        LIMIT,
    );
    assert!(listed.stdout.contains("/.ssh\n"), "{listed:?}");
}

/// A guest that may write around a hidden file cannot get at it either.
#[test]
fn secrets_in_a_written_directory_stay() {
    let home = work("written-home");
    fs::write(home.join(".netrc"), "secret").expect("write");
    let mut command = Command::new(UVM);
    command.args(["do", "--write=.", "--", "sh", "-c"]);
    command.arg("cat .netrc; echo evil >.netrc; rm -f .netrc; echo evil >x; mv x .netrc; ln x .netrc; echo through >new");
    run(command.current_dir(&home).env("HOME", &home), b"", LIMIT);
    assert_eq!(fs::read_to_string(home.join(".netrc")).expect("read"), "secret");
    assert_eq!(fs::read_to_string(home.join("new")).expect("read"), "through\n");
}

#[test]
fn paths_may_be_protected_and_space_limited() {
    let directory = work("limits");
    let outcome = uvm_do(
        &directory,
        &["--ro=dir"],
        "echo x >dir/a; echo y >text && echo fine",
    );
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, "fine\n"),
        "{outcome:?}"
    );
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
    let full = uvm_do(
        &directory,
        &["--max-disk=1m"],
        "head -c 4000000 /dev/zero >big; stat -c %s big",
    );
    assert!(full.stderr.contains("No space left"), "{full:?}");
    assert_eq!(uvm_do(&directory, &["--timeout=1"], "sleep 100").status, 124);
}

/// A guest's root may do to its mounts what it likes: below them is nothing of the host's kernel and services.
#[test]
fn nothing_of_this_machine_is_below_the_mounts() {
    let directory = work("below");
    let bound = "mkdir m; mount --bind / m; ls m/dev m/proc m/sys m/run; ls m/etc/passwd";
    let outcome = uvm_do(&directory, &["--user=root"], bound);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, "m/dev:\n\nm/proc:\n\nm/run:\n\nm/sys:\nm/etc/passwd\n"),
        "{outcome:?}"
    );
    let pid = std::process::id();
    let unmounted = format!("umount -n /sys; umount -n /proc; ls /proc /sys; cat /proc/{pid}/environ");
    for arguments in [
        vec!["do", "--user=root"],
        vec!["run", "/"],
        vec!["run", "--writable", "/"],
    ] {
        let mut command = Command::new(UVM);
        command.args(&arguments).args(["--", "sh", "-c", &unmounted]);
        let outcome = run(&mut command, b"", LIMIT);
        assert_eq!(outcome.stdout, "/proc:\n\n/sys:\n", "{arguments:?}: {outcome:?}");
    }
    let volume = ["--volume=/:/h", "--user=root"];
    let outcome = uvm_do(&directory, &volume, "ls /h/proc /h/sys; cat /h/proc/self/environ");
    assert_eq!(outcome.stdout, "/h/proc:\n\n/h/sys:\n", "{outcome:?}");
    let outcome = uvm_do(
        &directory,
        &["--ro=/"],
        "echo >x; echo >/dev/null; cat /proc/self/comm",
    );
    assert_eq!(outcome.stdout, "cat\n", "{outcome:?}");
    assert!(outcome.stderr.contains("Read-only file system"), "{outcome:?}");
}

#[test]
fn exports_are_layers() {
    let directory = work("export");
    let (one, two) = (
        directory.with_extension("1.tar"),
        directory.with_extension("2.tar"),
    );
    // Equal changes give equal archives, times given.
    let script = format!(
        "{CHANGE}; touch -hd @1000000000 text link new new/deep new/deep/file odd fifo hard dir dir/a ."
    );
    for file in [&one, &two] {
        let outcome = uvm_do(&directory, &[&format!("--export={}", file.display())], &script);
        assert_eq!(outcome.status, 0, "{outcome:?}");
    }
    assert_eq!(fs::read(&one).expect("read"), fs::read(&two).expect("read"));
    let listed = run(Command::new("tar").arg("-tf").arg(&one), b"", LIMIT);
    let inside = directory
        .strip_prefix("/")
        .expect("absolute")
        .to_str()
        .expect("UTF-8");
    for name in ["text", ".wh.gone", "dir/.wh.sub", "new/deep/file", "fifo"] {
        assert!(
            listed
                .stdout
                .lines()
                .any(|line| line == format!("{inside}/{name}")),
            "{name}: {listed:?}"
        );
    }
}

#[test]
fn mistakes_are_one_line() {
    let directory = work("mistakes");
    for (options, words) in [
        (vec!["--write=nothing"], "there is no such file"),
        (vec!["--hide=/"], "nothing would be left"),
        (vec!["--write=/"], "nothing would be left"),
        (vec!["--volume=/tmp:/"], "cover all"),
        (vec!["--volume=/proc:/x"], "not shown to guests"),
        (vec!["--show=~/.ssh/config"], "it is hidden with all of"),
        (vec!["--hide="], "an empty name"),
        (vec!["--hide=text"], "give ./text"),
        (vec!["--aply", "true"], "--aply is no option"),
        (vec!["--diff=colour"], "colour"),
        (vec!["--diff-to=x"], "--diff"),
        (vec!["--max-disk=many"], "many"),
        (vec!["--volume=/tmp"], "uvm: do: -v "),
        (vec!["--platform=ptrace", "--user=nosuchuser"], "uvm: do: "),
    ] {
        let outcome = uvm_do(&directory, &options, "true");
        assert_eq!(
            (outcome.status, outcome.stderr.lines().count()),
            (125, 1),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains(words), "{outcome:?}");
    }
    let missing = run(Command::new(UVM).args(["do", "no-such-command"]), b"", LIMIT);
    assert_eq!(missing.status, 127, "{missing:?}");
    assert!(
        missing.stderr.starts_with("uvm: do: no-such-command: "),
        "{missing:?}"
    );
}

#[test]
fn reports_tell_the_memory_of_all_processes() {
    let directory = work("memory");
    let file = directory.with_extension("json");
    let option = format!("--report={}", file.display());
    // The shell holds one half while tail holds the other.
    let script = "x=$(head -c 10000000 /dev/zero | tr '\\0' x); head -c 10000000 /dev/zero | tail -c 10000000 | wc -c; echo ${#x}";
    let outcome = uvm_do(&directory, &[&option], script);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, "10000000\n10000000\n"),
        "{outcome:?}"
    );
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
    let peak = report["peak_memory_bytes"].as_u64().expect("a number");
    assert!((20_000_000..400_000_000).contains(&peak), "{report}");
}

#[test]
fn reports_say_what_was_done() {
    let directory = work("report");
    let file = directory.with_extension("json");
    let option = format!("--report={}", file.display());
    let script =
        "cat text >copy; cat no-such-file; /sbin/swapoff text; bash -c '</dev/tcp/192.0.2.7/99'; exit 3";
    let outcome = uvm_do(&directory, &[&option], script);
    assert_eq!(outcome.status, 3, "{outcome:?}");
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("read")).expect("JSON");
    let lists = |list: &str, path: &Path| {
        let all = report[list].as_array().expect("a list");
        all.iter()
            .any(|one| one.as_str().is_some_and(|one| Path::new(one).ends_with(path)))
    };
    assert!(lists("programs", Path::new("bin/cat")), "{report}");
    assert!(lists("files_read", &directory.join("text")), "{report}");
    assert!(lists("files_written", &directory.join("copy")), "{report}");
    assert!(!lists("files_read", Path::new("no-such-file")), "{report}");
    let names = |list: &str, word: &str| {
        let all = report[list].as_array().expect("a list");
        all.iter().any(|one| one.to_string().contains(word))
    };
    assert!(names("sockets", "AF_INET"), "{report}");
    assert!(names("addresses_outside", "192.0.2.7:99"), "{report}");
    assert!(names("calls_refused", "swapoff"), "{report}");
    assert!(
        report["elapsed_seconds"]
            .as_f64()
            .is_some_and(|seconds| seconds > 0.0),
        "{report}"
    );
    assert_eq!(
        (&report["status"], &report["complete"]),
        (&3.into(), &true.into())
    );
    assert!(
        report["disk_bytes"].as_u64().is_some_and(|bytes| bytes >= 4096),
        "{report}"
    );
}
