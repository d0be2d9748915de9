//! Harm: bad images, damage, kills, full disks, several processes at once. The store stays sound.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::Instant;

use serde_json::json;

use super::support::images::{archive_of, base, digest, layer, write_layout};
use super::support::process::run;
use super::support::{UVM, text};
use super::{LIMIT, User, oci};

#[test]
fn bad_images_do_not_come_in() {
    let user = User::new("bad");
    user.refused(&["image", "import", "nothing", "a"], "No such file");
    user.refused(&["image", "import", "/dev/null", "a"], "neither a directory nor");
    user.refused(
        &["image", "import", &user.file("text", &[b'x'; 2000]), "a"],
        "no tar archive",
    );
    user.refused(
        &["image", "import", &user.file("cut", &base()[..9000]), "a"],
        "cut short",
    );
    for (name, words) in [
        ("A", "no name"),
        ("../x", "no name"),
        ("a:b:c", "no name"),
        ("a@sha256:1", "no digest"),
    ] {
        user.refused(&["image", "import", "text", name], words);
    }
    for (number, words) in [
        (1, "layer 1 of 2"),
        (2, "layer 2 of 2"),
        (3, "damaged"),
        (4, "damaged"),
    ] {
        let mut files = oci();
        let last = files[number].1.len() - 1;
        files[number].1[last] ^= 1;
        // Without what the last one left: whole layers are remembered by their digests.
        fs::remove_dir_all(user.home.join("data/uvm/layers")).expect("remove");
        let place = user.home.join(format!("bad-{number}"));
        write_layout(&place, &files);
        let outcome = user.uvm(&["image", "import", text(&place), "a"]);
        assert_eq!(
            (outcome.status, outcome.stderr.lines().count()),
            (125, 1),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains(words), "'{words}': {outcome:?}");
    }
    // The layer of a `docker save` that is not the one that its configuration says.
    let config = json!({"rootfs": {"diff_ids": [format!("sha256:{}", digest(b"other"))]}}).to_string();
    let docker = [
        (
            "manifest.json".to_owned(),
            br#"[{"Config":"0.json","RepoTags":["d:t"],"Layers":["1/layer.tar"]}]"#.to_vec(),
        ),
        (format!("{}.json", "0".repeat(64)), config.clone().into_bytes()),
        (format!("{}/layer.tar", "1".repeat(64)), base().to_vec()),
    ];
    let whole = |files: &[(String, Vec<u8>)]| {
        let mut files = files.to_vec();
        let text = String::from_utf8(files[0].1.clone()).expect("UTF-8");
        files[0].1 = text
            .replace("\"0.json", &format!("\"{}.json", "0".repeat(64)))
            .replace("\"1/", &format!("\"{}/", "1".repeat(64)))
            .into_bytes();
        archive_of(&files)
    };
    user.refused(
        &["image", "import", &user.file("docker.tar", &whole(&docker))],
        "layer 1 of 1: it is damaged",
    );
    assert_eq!(
        (user.listed().len(), user.blobs()),
        (0, Vec::new()),
        "nothing came in"
    );
    let mut good = docker;
    good[1].1 = config.replace(&digest(b"other"), &digest(base())).into_bytes();
    assert!(
        user.ok(&["image", "import", &user.file("docker.tar", &whole(&good))])
            .starts_with("d:t sha256:")
    );
    user.assert_sound();
}

#[test]
fn a_damaged_store_is_one_line() {
    let user = User::new("damaged");
    user.ok(&["image", "import", &user.file("plain.tar", base()), "plain"]);
    user.ok(&[
        "image",
        "import",
        &user.file("oci.tar", &archive_of(&oci())),
        "oci",
    ]);
    // A blob that the disk has spoilt is noticed when it is next read, and mended by bringing the image in again.
    let largest = user
        .blobs()
        .into_iter()
        .max_by_key(|blob| fs::metadata(blob).expect("stat").len());
    let largest = largest.expect("a blob");
    let mut bytes = fs::read(&largest).expect("read");
    bytes[5000] ^= 1;
    fs::remove_file(&largest).expect("remove");
    fs::write(&largest, &bytes).expect("write");
    user.refused(&["run", "plain", "true"], "damaged");
    user.ok(&["image", "import", "plain.tar", "plain"]);
    assert_eq!(
        user.ok(&["run", "plain", "busybox", "echo", "mended"]),
        "mended\n"
    );
    // A manifest that is gone: the others go on, and its name can be removed.
    let oci = user.listed()[0].1.replace(':', "/");
    fs::remove_file(user.images().join("blobs").join(oci)).expect("remove");
    user.refused(&["run", "oci"], "is missing");
    user.refused(&["image", "prune"], "uvm image rm oci:latest");
    let listed = user.uvm(&["image", "ls"]);
    assert_eq!(
        (listed.status, listed.stderr.lines().count()),
        (125, 1),
        "{listed:?}"
    );
    assert!(
        listed.stdout.contains("oci") && listed.stderr.contains("is missing"),
        "{listed:?}"
    );
    user.ok(&["image", "rm", "oci"]);
    user.assert_sound();
    fs::write(user.images().join("index.json"), b"{").expect("write");
    for arguments in [
        &["image", "ls"][..],
        &["run", "plain"],
        &["image", "prune"],
        &["image", "import", "plain.tar", "a"],
    ] {
        user.refused(arguments, "index.json is damaged");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_it_sound() {
    let user = User::new("killed");
    user.file("oci.tar", &archive_of(&oci()));
    user.file("plain.tar", base());
    user.ok(&["image", "import", "plain.tar", "kept"]);
    let import = ["image", "import", "oci.tar", "new"];
    let begin = Instant::now();
    user.ok(&import);
    let whole = begin.elapsed();
    // From before they have begun to after they have ended, and on until one has.
    let (mut killed, mut finished) = (0, 0);
    let mut round = 0;
    while round < 30 || finished == 0 {
        let arguments: &[&str] = match round % 3 {
            0 => &import,
            1 => &["image", "import", "plain.tar", "other"],
            _ => &["image", "rm", "new"],
        };
        let mut command = user.command(UVM);
        let mut child = command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        // A moment, not a wait for anything.
        thread::sleep(whole * round / 20);
        child.kill().expect("kill");
        match child.wait().expect("wait").signal() {
            Some(_) => killed += 1,
            None => finished += 1,
        }
        if round % 10 == 9 {
            user.assert_sound();
        }
        round += 1;
    }
    assert!(killed > 0, "the first is killed at once");
    assert_eq!(user.ok(&["run", "kept", "busybox", "echo", "fine"]), "fine\n");
    user.ok(&["image", "import", "oci.tar", "new"]);
    assert_eq!(user.ok(&["run", "new"]), "new\n");
    let left = fs::read_dir(user.images().join("partial")).expect("list");
    assert_eq!(left.count(), 0);
}

#[test]
fn several_at_once() {
    let user = User::new("several");
    user.file("plain.tar", base());
    user.file("oci.tar", &archive_of(&oci()));
    thread::scope(|scope| {
        let user = &user;
        for number in 0..3 {
            scope.spawn(move || {
                for round in 0..4 {
                    let archive = if (number + round) % 2 == 0 {
                        "plain.tar"
                    } else {
                        "oci.tar"
                    };
                    let name = format!("image-{number}:{round}");
                    user.ok(&["image", "import", archive, &name]);
                    if round % 2 == 1 {
                        user.ok(&["image", "rm", &name]);
                    }
                }
            });
        }
        scope.spawn(move || (0..6).for_each(|_| drop(user.ok(&["image", "prune"]))));
    });
    assert_eq!(user.listed().len(), 6);
    user.assert_sound();
}

/// A disk that is full, told by a limit on the size of files: every user can have one.
#[test]
fn a_full_disk_is_one_line() {
    let user = User::new("full");
    user.ok(&[
        "image",
        "import",
        &user.file("small.tar", &layer(&[("a", "a")])),
        "small",
    ]);
    user.file("oci.tar", &archive_of(&oci()));
    for archive in ["plain.tar", "oci.tar"] {
        user.file("plain.tar", base());
        for blocks in [0, 100] {
            let mut shell = user.command("bash");
            shell.args([
                "-c",
                &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""),
                "-",
                UVM,
            ]);
            let outcome = run(shell.args(["image", "import", archive, "large"]), b"", LIMIT);
            assert_eq!(
                (outcome.status, outcome.stderr.lines().count()),
                (125, 1),
                "{outcome:?}"
            );
        }
    }
    assert_eq!(user.listed().len(), 1);
    user.assert_sound();
    user.ok(&["image", "import", "oci.tar", "large"]);
    assert_eq!(user.ok(&["run", "large"]), "new\n");
}

/// The same on a disk that is full, which takes root to have.
#[test]
fn no_space_left_is_one_line() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let user = User::new("no-space");
    user.file("plain.tar", base());
    user.file("oci.tar", &archive_of(&oci()));
    fs::create_dir(user.home.join("data")).expect("create");
    let script = r#"mount -t tmpfs -o size=$1 tmpfs data; uvm=$2
        for archive in plain.tar oci.tar; do
            "$uvm" image import $archive large && exit 1
            [ -z "$(ls data/uvm/images/blobs/sha256 data/uvm/images/partial 2>/dev/null | grep -v :)" ] || ls -lR data
            "$uvm" image ls | wc -l
        done"#;
    for size in ["16k", "200k"] {
        let mut shell = user.command("unshare");
        shell.args(["--mount", "bash", "-euc", script, "-", size, UVM]);
        let outcome = run(&mut shell, b"", LIMIT);
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        assert_eq!(
            (outcome.status, outcome.stdout.as_str()),
            (0, "1\n1\n"),
            "{outcome:?}"
        );
        assert!(
            lines.len() == 2 && lines.iter().all(|line| line.contains("No space left on device")),
            "{outcome:?}"
        );
    }
}

/// A store that cannot be written, as on a medium that is read-only: images are run from it and listed, and nothing comes in.
#[test]
fn a_store_that_cannot_be_written_is_read() {
    let user = User::new("read-only");
    user.file("plain.tar", base());
    user.ok(&["image", "import", "plain.tar", "plain"]);
    // Root writes whatever the modes say, but not to a mount that is read-only.
    let script = if nix::unistd::geteuid().is_root() {
        r#"exec unshare --mount bash -euc 'mount --bind data data; mount -o remount,bind,ro data; ! touch data/x 2>/dev/null; exec "$@"' - "$@""#
    } else {
        r#"chmod -R a-w data; trap 'chmod -R u+w data' EXIT; "$@""#
    };
    let uvm = |arguments: &[&str]| {
        let mut shell = user.command("bash");
        shell.args(["-euc", script, "-", UVM]).args(arguments);
        run(&mut shell, b"", LIMIT)
    };
    for (arguments, word) in [
        (&["run", "plain", "busybox", "echo", "read"][..], "read"),
        (&["image", "ls"], "plain"),
        (&["image", "inspect", "plain"], "plain:latest"),
    ] {
        let outcome = uvm(arguments);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
        assert!(outcome.stdout.contains(word), "{outcome:?}");
    }
    for arguments in [
        &["image", "import", "plain.tar", "more"][..],
        &["image", "rm", "plain"],
        &["run", "--commit", "more", "plain", "true"],
    ] {
        let outcome = uvm(arguments);
        assert_eq!(
            (outcome.status, outcome.stderr.lines().count()),
            (125, 1),
            "{outcome:?}"
        );
    }
    assert_eq!(user.listed().len(), 1);
    user.assert_sound();
}
