//! `--overlay`: what a guest wrote is there for the next one, however the first one ended.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{assert_told, assert_writes, guest};
use crate::support::process::Outcome;
use crate::support::{UVM, rootfs};

/// A name for an upper layer of this test's own, which is not there yet.
fn upper() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("overlay");
    fs::create_dir_all(&directory).expect("create a directory");
    let path = directory.join(format!(
        "{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    ));
    // Left by a process of the same number.
    let _ = fs::remove_dir_all(&path);
    path
}

fn on(upper: &std::path::Path, script: &str) -> Outcome {
    guest(&["--overlay", upper.to_str().expect("UTF-8")], script)
}

/// All that is to be there again, of files and of links to them.
const LIST: &str = "find /w /moved /etc/opt /null /etc/shadow -printf '%p %y %m %U:%G %n %s %b %l %T@ %C@ %i\\n' | sort; \
    cat /w/hard /w/dir/sub/text; cksum /w/sparse; test ! -e /etc/hostname && test ! -e /usr/share/doc && echo gone; \
    stat -c '%t:%T' /null";

/// Changes of every kind.
const CHANGE: &str = "set -e; umask 0; mkdir -p /w/dir/sub; echo text >/w/dir/sub/text; ln /w/dir/sub/text /w/hard; \
    chown 1234:99 /w/hard; chmod 4751 /w/hard; mkfifo -m 640 /w/fifo; ln -s 'no where' /w/link; mknod /null c 1 3; \
    truncate -s 64M /w/sparse; echo end >>/w/sparse; touch -d 2001-02-03 /w/dir; rm /etc/hostname; mv /usr/share/doc /moved; \
    echo new >/moved/new; rm -rf /etc/opt; mkdir -m 711 /etc/opt; touch /etc/opt/own; chmod 604 /etc/shadow; \
    echo unlinked >/w/gone; exec 9</w/gone; rm /w/gone;";

#[test]
fn the_next_guest_sees_what_this_one_wrote() {
    let upper = upper();
    let first = on(&upper, &format!("{CHANGE} {LIST}"));
    assert_eq!((first.status, first.stderr.as_str()), (0, ""), "{first:?}");
    assert!(first.stdout.contains("\ngone\n1:3\n"), "{first:?}");
    assert_eq!(
        fs::read_dir(upper.join("data")).expect("data").count(),
        3,
        "what was unlinked is gone"
    );
    let second = on(&upper, LIST);
    assert_eq!(second, first);
    // It goes on from there.
    assert_writes(
        &on(
            &upper,
            "rm /w/hard; mv /moved /usr/share/doc; echo more >>/w/dir/sub/text",
        ),
        "",
    );
    assert_writes(
        &on(
            &upper,
            "cat /w/dir/sub/text /usr/share/doc/new; stat -c %h /w/dir/sub/text; ls /w",
        ),
        "text\nmore\nnew\n1\ndir\nfifo\nlink\nsparse\n",
    );
    fs::remove_dir_all(&upper).expect("remove");
}

#[test]
fn one_line_says_why_an_upper_is_not_opened() {
    let upper = upper();
    let path = upper.to_str().expect("UTF-8");
    assert_writes(&on(&upper, "mkdir /made"), "");
    let other = crate::uvm(["run", "--overlay", path, "/", "true"]);
    assert_told(
        &other,
        125,
        &[path, "lies upon the directory", "not upon the directory /"],
    );
    let foreign = crate::uvm(["run", "--overlay", "/etc", "/", "true"]);
    assert_told(&foreign, 125, &["/etc", "no upper layer"]);
    // Another one uses it until its standard input ends.
    let mut first = Command::new(UVM)
        .args(["run", "--overlay", path])
        .arg(rootfs())
        .args(["--", "sh", "-c", "echo begun; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start uvm");
    let mut line = String::new();
    let mut output = BufReader::new(first.stdout.take().expect("piped"));
    output.read_line(&mut line).expect("read");
    assert_told(&on(&upper, "true"), 125, &[path, "another guest is using it"]);
    drop(first.stdin.take());
    assert!(first.wait().expect("wait").success());
    let journal = upper.join("journal");
    let whole = fs::read(&journal).expect("read");
    for (bytes, word) in [
        (&whole[..8], "damaged"),
        (b"something else altogether", "version"),
    ] {
        fs::write(&journal, bytes).expect("write");
        assert_told(&on(&upper, "true"), 125, &[path, "its journal", word]);
    }
    fs::write(&journal, whole).expect("write");
    assert_writes(&on(&upper, "echo /made"), "/made\n");
    fs::remove_dir_all(&upper).expect("remove");
}

/// Writes and syncs without end, in three ways at once, and says what was synced. Beside that, names come and go.
const WRITE: &str = "exec 2>/dev/null; mkdir -p /w/a /w/b /w/c /churn; \
    (i=0; while :; do i=$((i+1)); n=$1a$i; echo contents of $n | dd of=/w/a/$n conv=fsync status=none; echo a/$n; done) & \
    (i=0; while :; do i=$((i+1)); n=$1b$i; echo contents of $n >/w/b/tmp; sync /w/b/tmp; mv /w/b/tmp /w/b/$n; sync /w/b; echo b/$n; done) & \
    (i=0; while :; do i=$((i+1)); n=$1c$i; mkdir /w/c/$n; echo contents of $n | dd of=/w/c/$n/f oflag=dsync status=none; echo c/$n/f; done) & \
    while :; do mkdir -p /churn/x/y; echo 1 >/churn/x/y/z; ln /churn/x/y/z /churn/x/l; mv /churn/x /churn/z; rm -r /churn/z; done";

#[test]
fn a_kill_loses_nothing_that_was_synced() {
    const ROUNDS: u64 = 6;
    let seed: u64 = std::env::var("UVM_FUZZ_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let upper = upper();
    let mut synced: HashSet<String> = HashSet::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(UVM)
            .args(["run", "--overlay"])
            .arg(&upper)
            .arg(rootfs())
            .args(["--", "sh", "-c", WRITE, "sh", &format!("r{round}-")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start uvm");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        // After so many files, and in the middle of whatever comes then.
        let wanted =
            1 + (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round.wrapping_mul(0xbf58_476d_1ce4_e5b9)) % 40;
        let mut text = String::new();
        for _ in 0..wanted {
            assert_ne!(
                output.read_line(&mut text).expect("read"),
                0,
                "seed {seed}: the guest ended"
            );
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        output.read_to_string(&mut text).expect("read");
        // A line that was cut may name another file.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        synced.extend(whole.lines().map(str::to_owned));
        let told = on(
            &upper,
            "cd /w && grep -r 'contents of' a b c; find / -xdev >/dev/null",
        );
        assert_eq!(told.status, 0, "seed {seed}, round {round}: {told:?}");
        let there: HashSet<&str> = told.stdout.lines().collect();
        for path in &synced {
            let name = path.split('/').nth(1).expect("a name");
            let line = format!("{path}:contents of {name}");
            assert!(
                there.contains(line.as_str()),
                "seed {seed}, round {round}: {path} is not as it was synced"
            );
        }
    }
    assert!(synced.len() > ROUNDS as usize);
    fs::remove_dir_all(&upper).expect("remove");
}
