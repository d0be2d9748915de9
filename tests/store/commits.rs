//! Commits: what a guest wrote becomes a layer, and other programs read the image.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::support::images::{archive_of, base, gzip};
use super::support::process::run;
use super::support::{UVM, rootfs, text};
use super::{LIMIT, User, oci};

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
    let details: Value = serde_json::from_str(&user.ok(&["image", "inspect", "one", "base"])).expect("JSON");
    assert_eq!(
        details[0]["Config"], details[1]["Config"],
        "a commit keeps what the image says"
    );
    assert_eq!(details[0]["Config"]["Labels"]["a"], "b");
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
                .env("ROOT", rootfs()),
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
