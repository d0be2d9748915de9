//! Files that uvm writes for its user: whole or not at all, and known to be writable before any work is done for them.

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::images::{base, layer};
use support::process::{Outcome, run};
use support::{UVM, scratch};

const LIMIT: Duration = Duration::from_secs(120);

/// A user with a directory and a store of their own.
struct User {
    home: PathBuf,
}

impl User {
    fn new(name: &str) -> User {
        User { home: scratch(name) }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("XDG_DATA_HOME", self.home.join("data"))
            .env_remove("SOURCE_DATE_EPOCH")
            .current_dir(&self.home);
        command
    }

    #[track_caller]
    fn ok(&self, program: &str, arguments: &[&str]) -> String {
        let outcome = run(&mut self.command(program, arguments), b"", LIMIT);
        let seen = (outcome.status, outcome.stderr.as_str());
        assert_eq!(seen, (0, ""), "{arguments:?}: {outcome:?}");
        outcome.stdout
    }

    /// Asserts one line of failure with these words.
    #[track_caller]
    fn refused(&self, command: &mut Command, words: &str) {
        let outcome: Outcome = run(command, b"", LIMIT);
        let seen = (outcome.status, outcome.stderr.lines().count());
        assert_eq!(seen, (125, 1), "{outcome:?}");
        assert!(outcome.stderr.contains(words), "'{words}': {outcome:?}");
    }

    fn names(&self) -> Vec<String> {
        let all = fs::read_dir(&self.home).expect("list");
        let mut names: Vec<String> = all
            .map(|entry| entry.expect("list").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }
}

#[test]
fn what_was_there_stays_until_the_new_one_is_whole() {
    let user = User::new("outputs");
    let image = layer(&[("file", "contents")]);
    fs::write(user.home.join("image.tar"), &image).expect("write");
    symlink("image.tar", user.home.join("link.tar")).expect("link");
    for output in ["image.tar", "./link.tar"] {
        let mut command = user.command(UVM, &["export", "-o", output, "image.tar"]);
        user.refused(&mut command, "the image itself");
        assert_eq!(fs::read(user.home.join("image.tar")).expect("read"), image);
    }
    // One that is there is replaced, through a link, and keeps its mode.
    fs::write(user.home.join("old"), "old").expect("write");
    user.ok("chmod", &["600", "old"]);
    symlink("old", user.home.join("to-old")).expect("link");
    user.ok(UVM, &["export", "-o", "to-old", "image.tar"]);
    user.ok(UVM, &["export", "-o", "new", "image.tar"]);
    let read = |name: &str| fs::read(user.home.join(name)).expect("read");
    assert_eq!(read("old"), read("new"));
    assert!(user.home.join("to-old").is_symlink());
    let mode = fs::metadata(user.home.join("old")).expect("stat").mode();
    assert_eq!(mode & 0o7777, 0o600);
    let mut command = user.command(
        "bash",
        &["-c", "\"$0\" export -o /dev/stdout image.tar | cmp - new", UVM],
    );
    assert_eq!(run(&mut command, b"", LIMIT).status, 0);
    // A disk that is full: what was there stays, and nothing is left beside it.
    fs::write(user.home.join("large.tar"), base()).expect("write");
    let script = "trap '' XFSZ; ulimit -f 100; \"$0\" export -o old large.tar";
    user.refused(&mut user.command("bash", &["-c", script, UVM]), "-o old");
    assert_eq!(read("old"), read("new"));
    let left: Vec<String> = user.names();
    let expected = [
        "data",
        "image.tar",
        "large.tar",
        "link.tar",
        "new",
        "old",
        "to-old",
    ];
    assert_eq!(left, expected);
}

#[test]
fn nothing_is_run_for_what_cannot_be_kept() {
    let user = User::new("outputs-first");
    fs::write(user.home.join("image.tar"), base()).expect("write");
    let digest = format!("x@sha256:{}", "0".repeat(64));
    let says = ["sh", "-c", "echo ran >&2"];
    let commit = |name: &str| {
        let words = ["run", "--commit", name, "image.tar"];
        user.command(UVM, &[&words[..], &says[..]].concat())
    };
    user.refused(&mut commit(&digest), "has a digest");
    user.refused(commit("x").env("SOURCE_DATE_EPOCH", "abc"), "SOURCE_DATE_EPOCH");
    user.refused(commit("x").env_remove("XDG_DATA_HOME").env_remove("HOME"), "HOME");
    for option in ["--export", "--report", "--diff-to"] {
        let words = ["do", "--diff", option, "nowhere/x", "--"];
        let mut command = user.command(UVM, &[&words[..], &says[..]].concat());
        user.refused(&mut command, option);
    }
    let words = ["do", "--export", "x.tar", "--"];
    let mut command = user.command(UVM, &[&words[..], &says[..]].concat());
    user.refused(command.env("SOURCE_DATE_EPOCH", "abc"), "SOURCE_DATE_EPOCH");
    // The guest does not see it, and it is not there where the guest did not begin.
    let listed = user.ok(UVM, &["do", "--export", "x.tar", "--", "ls", "-A"]);
    assert_eq!(listed, "data\nimage.tar\n");
    assert!(user.home.join("x.tar").is_file());
}

#[test]
fn texts_of_links_stay_as_they_are() {
    let user = User::new("outputs-links");
    let root = user.home.join("root");
    fs::create_dir(&root).expect("create");
    let long = format!("{}//./end/", "long/".repeat(40));
    let texts = [
        "dir//x/./y/",
        "./a",
        "../../b/..",
        "/",
        &long,
        &"x".repeat(100),
        &"x".repeat(101),
    ];
    for (number, text) in texts.iter().enumerate() {
        symlink(text, root.join(number.to_string())).expect("link");
    }
    user.ok(UVM, &["image", "import", "root", "links"]);
    user.ok(UVM, &["export", "-o", "out.tar", "links"]);
    fs::create_dir(user.home.join("out")).expect("create");
    user.ok("tar", &["-C", "out", "-xf", "out.tar"]);
    for (number, text) in texts.iter().enumerate() {
        let found = fs::read_link(user.home.join("out").join(number.to_string())).expect("a link");
        assert_eq!(found, Path::new(text));
    }
}

#[test]
fn what_the_hosts_kernel_tells_makes_no_image() {
    let user = User::new("outputs-kernel");
    for directory in ["/proc/self", "/sys/kernel"] {
        let mut command = user.command(UVM, &["image", "import", directory, "early"]);
        user.refused(&mut command, "not shown to guests");
    }
}

/// What is mounted in a directory, and uvm's own store, are no part of an image of it.
#[test]
fn imports_stay_on_one_file_system() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let user = User::new("outputs-mounts");
    fs::create_dir_all(user.home.join("mounted")).expect("create");
    fs::write(user.home.join("file"), "x").expect("write");
    let script = "mount -t tmpfs none mounted && touch mounted/inner && exec \"$0\" image import . here";
    let mut command = user.command("unshare", &["-m", "sh", "-ec", script, UVM]);
    let imported = run(&mut command, b"", LIMIT);
    if imported.stderr.contains("unshare") || imported.stderr.contains("mount:") {
        return;
    }
    assert_eq!(
        (imported.status, imported.stderr.as_str()),
        (0, ""),
        "{imported:?}"
    );
    user.ok(UVM, &["export", "-o", "here.tar", "here"]);
    let listed = user.ok("tar", &["-tf", "here.tar"]);
    let names: Vec<&str> = listed.lines().map(|name| name.trim_start_matches("./")).collect();
    assert_eq!(names, ["", "data/", "file", "mounted/"]);
}
