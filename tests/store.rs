//! The store of images: what comes in goes out again, whatever happens meanwhile.

mod support;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::images::{Files, archive_of, base, digest, gzip, layer, layout, write_layout, zstd};
use support::process::{Outcome, run};
use support::{UVM, scratch, text};

const LIMIT: Duration = Duration::from_secs(120);

/// A user with a store of their own.
struct User {
    home: PathBuf,
}

impl User {
    fn new(name: &str) -> User {
        User { home: scratch(name) }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("XDG_DATA_HOME", self.home.join("data"))
            .env_remove("SOURCE_DATE_EPOCH");
        command.current_dir(&self.home);
        command
    }

    fn uvm(&self, arguments: &[&str]) -> Outcome {
        run(self.command(UVM).args(arguments), b"", LIMIT)
    }

    /// Stdout of what must succeed.
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.uvm(arguments);
        assert_eq!(
            (outcome.status, outcome.stderr.as_str()),
            (0, ""),
            "{arguments:?}: {outcome:?}"
        );
        outcome.stdout
    }

    /// Asserts one line of failure with these words.
    #[track_caller]
    fn refused(&self, arguments: &[&str], words: &str) {
        let outcome = self.uvm(arguments);
        assert_eq!(
            (outcome.status, outcome.stderr.lines().count()),
            (125, 1),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains(words), "'{words}': {outcome:?}");
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.home.join(name), bytes).expect("write");
        name.to_owned()
    }

    fn images(&self) -> PathBuf {
        self.home.join("data/uvm/images")
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.images().join("blobs/sha256")).expect("list the blobs");
        all.map(|entry| entry.expect("list the blobs").path()).collect()
    }

    /// Names and digests of all images.
    fn listed(&self) -> Vec<(String, String)> {
        let all: Value = serde_json::from_str(&self.ok(&["image", "ls", "--json"])).expect("JSON");
        let all = all.as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        all.map(|image| {
            assert!(image["Size"].as_u64().is_some(), "{image}");
            let name = format!("{}:{}", text(&image["Repository"]), text(&image["Tag"]));
            (name, text(&image["Digest"]))
        })
        .collect()
    }

    /// Asserts that every blob is whole, and that every image can be read and every unused blob be removed.
    #[track_caller]
    fn assert_sound(&self) {
        for blob in self.blobs() {
            let name = blob
                .file_name()
                .expect("a name")
                .to_str()
                .expect("UTF-8")
                .to_owned();
            assert_eq!(digest(&fs::read(&blob).expect("read")), name);
        }
        self.ok(&["image", "prune"]);
        for (name, _) in self.listed() {
            self.ok(&["export", "-o", "/dev/null", &name]);
        }
    }
}

fn oci() -> Files {
    let upper = layer(&[("etc/.wh.secret", ""), ("etc/new", "new\n")]);
    layout(
        &[gzip(base()), zstd(&upper)],
        &json!({"Cmd": ["busybox", "cat", "/etc/new"]}),
    )
}

#[test]
fn images_come_and_go() {
    let user = User::new("come-and-go");
    write_layout(&user.home.join("layout"), &oci());
    assert_eq!(user.ok(&["image", "ls"]).lines().count(), 1);
    user.refused(&["image", "import", "layout"], "give it one");
    let told = user.ok(&["image", "import", "layout", "some/name:1.0"]);
    let (name, manifest) = told.trim_end().split_once(' ').expect("a name and a digest");
    assert_eq!(name, "some/name:1.0");
    // A second name, another kind of file, a directory.
    user.ok(&[
        "image",
        "import",
        &user.file("oci.tar", &archive_of(&oci())),
        "other",
    ]);
    user.ok(&[
        "image",
        "import",
        &user.file("plain.tar.gz", &gzip(base())),
        "plain",
    ]);
    fs::create_dir(user.home.join("root")).expect("create");
    user.file("root/file", b"contents");
    user.ok(&["image", "import", "root", "directory:tag"]);
    let names: Vec<String> = user.listed().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["directory:tag", "other:latest", "plain:latest", "some/name:1.0"]
    );
    assert_eq!(user.listed()[1].1, manifest, "a manifest stays as it is");

    assert_eq!(user.ok(&["run", "other"]), "new\n");
    assert_eq!(user.ok(&["run", &format!("some/name@{manifest}")]), "new\n");
    assert_eq!(
        user.ok(&["run", "plain", "busybox", "cat", "/etc/secret"]),
        "secret\n"
    );
    user.refused(&["run", "other:1"], "no image other:1 in the store");
    user.refused(
        &["run", &format!("other@sha256:{}", "0".repeat(64))],
        "in the store",
    );
    user.refused(&["run", "./other"], "No such file");

    let seen: Value = serde_json::from_str(&user.ok(&["image", "inspect", "some/name:1.0"])).expect("JSON");
    assert_eq!(seen[0]["RepoTags"], json!(["some/name:1.0"]));
    assert_eq!(seen[0]["RepoDigests"], json!([format!("some/name@{manifest}")]));
    assert_eq!(seen[0]["Config"]["Cmd"][0], "busybox");

    // What goes out is what came in.
    user.ok(&["image", "export", "other", "out.tar"]);
    user.ok(&["image", "export", "--layout", "other", "out"]);
    user.ok(&["image", "rm", "other"]);
    // What is not there does not keep the others.
    user.refused(
        &["image", "rm", "other", "some/name:1.0"],
        "no image other:latest",
    );
    assert!(
        !user
            .images()
            .join("blobs")
            .join(manifest.replace(':', "/"))
            .exists()
    );
    assert_eq!(
        user.ok(&["image", "import", "out.tar"]),
        format!("other:latest {manifest}\n")
    );
    assert_eq!(
        user.ok(&["image", "import", "out", "again:a"]),
        format!("again:a {manifest}\n")
    );
    user.assert_sound();

    user.ok(&["image", "rm", "other", "again:a", "plain", "directory:tag"]);
    assert_eq!((user.blobs().len(), user.listed().len()), (0, 0));
}

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

/// A store that another program has written to.
#[test]
fn other_entries_are_left_alone() {
    let user = User::new("others");
    user.ok(&[
        "image",
        "import",
        &user.file("oci.tar", &archive_of(&oci())),
        "mine",
    ]);
    let path = user.images().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    let mut other = index["manifests"][0].clone();
    other["annotations"] = json!({"x": "y"});
    index["manifests"]
        .as_array_mut()
        .expect("a list")
        .push(other.clone());
    fs::write(&path, index.to_string()).expect("write");
    user.ok(&["image", "rm", "mine"]);
    let index: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    assert_eq!(index["manifests"], json!([other]));
    assert_eq!(user.blobs().len(), 4);
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

/// Indexes are kept beside the layers; a damaged one is made anew, and one of a file that changed is not used.
#[test]
fn indexes_are_made_once() {
    let user = User::new("index");
    let archive = user.file("plain.tar", base());
    let indexes = || -> Vec<PathBuf> {
        let all = fs::read_dir(user.home.join("data/uvm/layers")).expect("list");
        let paths = all.map(|entry| entry.expect("list").path());
        let is_index = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|name| text(Path::new(name)).starts_with("index-"))
        };
        paths.filter(is_index).collect()
    };
    let list = || user.ok(&["run", &archive, "busybox", "find", "/etc", "/bin"]);
    let expected = list();
    let made = indexes();
    assert_eq!(made.len(), 1);
    let whole = fs::read(&made[0]).expect("read");
    for at in [0, 9, 20, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&made[0], &bytes).expect("write");
        assert_eq!(list(), expected);
        assert_eq!(fs::read(&made[0]).expect("read"), whole);
    }
    fs::write(&made[0], b"").expect("write");
    assert_eq!(list(), expected);
    user.file(
        "plain.tar",
        &[&base()[..base().len() - 1024], &layer(&[("etc/more", "")])].concat(),
    );
    assert_eq!(list().lines().count(), expected.lines().count() + 1);
    assert_eq!(indexes().len(), 2);
}

/// What `uvm export` says of an image, as tar lists it.
fn listing(user: &User, image: &str) -> String {
    user.ok(&["export", "-o", "flat.tar", image]);
    let listed = run(
        user.command("tar")
            .args(["-tvf", "flat.tar", "--full-time", "--numeric-owner"]),
        b"",
        LIMIT,
    );
    assert_eq!(listed.status, 0, "{listed:?}");
    listed.stdout
}

#[test]
fn commits_are_layers() {
    let user = User::new("commit");
    user.ok(&[
        "image",
        "import",
        &user.file("oci.tar", &archive_of(&oci())),
        "base",
    ]);
    let script = "busybox rm /etc/new; busybox mkdir -m 2750 /srv; echo made >/srv/file; busybox chown 7:8 /srv/file; \
        busybox ln /srv/file /srv/hard; busybox ln -s file /srv/link; busybox mkfifo /srv/fifo; busybox chmod 700 /; \
        busybox touch -d @1234567890 /srv/file /srv /srv/fifo; busybox touch -hd @1234567890 /srv/link";
    let commit = |name: &str| {
        let mut command = user.command(UVM);
        command.env("SOURCE_DATE_EPOCH", "1700000000");
        let outcome = run(
            command.args(["run", "--commit", name, "base", "sh", "-c", script]),
            b"",
            LIMIT,
        );
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    };
    commit("one");
    commit("two:x");
    let digests: Vec<String> = user.listed().into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(digests[1], digests[2], "equal contents");
    let seen = user.ok(&[
        "run",
        "one",
        "sh",
        "-c",
        "busybox stat -c '%n %a %u %g %h %Y' / /srv /srv/*; busybox ls /etc",
    ]);
    let expected = "/ 700 0 0 20 1700000000\n/srv 2750 0 0 2 1234567890\n/srv/fifo 644 0 0 1 1234567890\n\
        /srv/file 644 7 8 2 1234567890\n/srv/hard 644 7 8 2 1234567890\n/srv/link 777 0 0 1 1234567890\n\
        again\nfifo\npasswd\n";
    let without_root = |text: &str| text.split_once('\n').map(|(_, rest)| rest.to_owned());
    assert!(seen.starts_with("/ 700 0 0 "), "{seen}");
    assert_eq!(without_root(&seen), without_root(expected));
    // Upon a file, a second layer upon a commit; what fails is not kept.
    user.ok(&[
        "run",
        "--commit",
        "three",
        &user.file("plain.tar.gz", &gzip(base())),
        "busybox",
        "touch",
        "/x",
    ]);
    user.ok(&["run", "--commit", "three", "three", "busybox", "touch", "/y"]);
    assert!(
        user.ok(&["run", "three", "busybox", "ls", "/"])
            .contains("x\ny\n")
    );
    let failed = user.uvm(&["run", "--commit", "four", "base", "busybox", "false"]);
    assert_eq!(
        (failed.status, failed.stderr.contains("nothing was stored")),
        (1, true),
        "{failed:?}"
    );
    fs::create_dir(user.home.join("directory")).expect("create");
    user.refused(
        &["run", "--commit", "four", "directory", "true"],
        "is a directory",
    );
    assert_eq!(user.listed().len(), 4);
    let details: Value = serde_json::from_str(&user.ok(&["image", "inspect", "three"])).expect("JSON");
    assert_eq!(details[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(3));
    assert_eq!(details[0]["History"][2]["created_by"], "uvm run busybox touch /y");
    user.assert_sound();
    // The upper layer of a run that was kept on disk, as a layer.
    user.ok(&[
        "run",
        "--overlay",
        "upper",
        "base",
        "sh",
        "-c",
        "echo kept >/kept; busybox rm /etc/passwd",
    ]);
    user.ok(&["commit", "--from-upper", "upper", "base", "kept"]);
    assert_eq!(
        user.ok(&["run", "kept", "sh", "-c", "busybox cat /kept; busybox ls /etc"]),
        "kept\nagain\nfifo\nnew\n"
    );
    user.refused(
        &["commit", "--from-upper", "nothing", "base", "x"],
        "No such file or directory",
    );
    fs::create_dir(user.home.join("empty")).expect("create");
    user.refused(
        &["commit", "--from-upper", "empty", "base", "x"],
        "empty is empty",
    );
    user.ok(&["image", "rm", "kept"]);
    // A flat archive is an image of the same files.
    let before = listing(&user, "one");
    user.ok(&["image", "import", "flat.tar", "flat"]);
    assert_eq!(listing(&user, "flat"), before);
    assert!(before.contains("7/8"), "{before}");
}

/// All that tells two trees apart, times and attributes included.
const LISTING: &str = r"find . -printf '%p %y %m %U %G %n %T@ %l\n' | sort; find . ! -type d -printf '%p %s\n' | sort
    find . -type f -exec md5sum {} + | sort";

/// A Debian system goes in, is changed, and comes out as umoci unpacks it; skopeo accepts it. Only root can unpack it so.
#[test]
fn other_programs_see_the_same() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let user = User::new("others-see");
    let shell = |script: &str| {
        let mut shell = user.command("bash");
        let outcome = run(
            shell
                .args(["-euc", script])
                .env("PATH", path_with(UVM))
                .env("ROOT", support::rootfs()),
            b"",
            LIMIT,
        );
        assert_eq!(outcome.status, 0, "{outcome:?}");
        outcome.stdout
    };
    shell(
        r#"
        tar -C "$ROOT" -cf debian.tar --no-recursion ./ ./usr ./usr/lib ./usr/lib/x86_64-linux-gnu --recursion ./bin ./sbin ./lib ./lib64 ./usr/lib64 ./etc ./var ./usr/bin ./usr/sbin \
            $(cd "$ROOT" && echo ./usr/lib/x86_64-linux-gnu/{ld-linux*,libc.so*,libselinux*,libpcre2*,libacl*,libattr*})
        uvm image import debian.tar debian:12
        uvm run --commit changed debian:12 sh -c 'rm -r /etc/apt; echo x >/etc/new; chown 3:4 /etc/new; chmod 4711 /bin/ls
            ln /etc/new /etc/hard; mkdir -p /srv/a; mv /srv/a /srv/b; touch /etc/passwd; rm -rf /var/log; mkdir /var/log
            touch /var/log/new; mknod /srv/null c 1 3; echo x | dd of=/srv/hole bs=1M seek=10; truncate -s 20M /srv/hole'
        uvm image export --layout changed out
        uvm image export changed out.tar
        skopeo inspect oci-archive:out.tar
        skopeo inspect oci:"$XDG_DATA_HOME"/uvm/images:changed:latest
        umoci unpack --image out:changed:latest bundle
        if command -v podman >/dev/null; then
            # Not here: it takes no more than 50 characters.
            run=$(mktemp -d /tmp/podman.XXXXXX)
            p="podman --root $PWD/podman --runroot $run --storage-driver vfs"
            $p load -q -i out.tar; $p image inspect changed:latest
            $p rmi -a -f; rm -rf "$run"; else echo 'podman is not installed: not tried' >&2
        fi
        mkdir flat
        uvm export changed | tar -C flat -xp --numeric-owner"#,
    );
    let ours = shell(&format!("cd flat; {LISTING}"));
    let theirs = shell(&format!("cd bundle/rootfs; {LISTING}"));
    assert!(ours.lines().count() > 1000 && ours.contains("./etc/new"));
    let differs = ours
        .lines()
        .zip(theirs.lines())
        .find(|(ours, theirs)| ours != theirs);
    assert_eq!(differs, None);
    assert_eq!(ours.len(), theirs.len());
}

/// The search path with the directory of a program first.
fn path_with(program: &str) -> String {
    let directory = Path::new(program).parent().expect("a directory");
    format!(
        "{}:{}",
        text(directory),
        std::env::var("PATH").unwrap_or_default()
    )
}
