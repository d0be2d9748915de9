//! Every kind of image, made of a Debian system by the programs that Debian packages, runs as the directory does.
#![cfg(feature = "registry")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::process::{Outcome, run};
use support::registry::Registry;
use support::{UVM, rootfs, text};

const LIMIT: Duration = Duration::from_secs(300);

/// The small files of the Debian root, and one of each kind that has something special about it. A name is at most as long as
/// mkfs.erofs takes it.
const DIRECTORY: &str = r#"
    mkdir plain
    (cd "$ROOT" && find . -xdev -regextype posix-extended \( -path './dev/*' -o -path './srv/*' -o -path './usr/include/*' -o -path './usr/lib/gcc/*' \
        -o -path './usr/lib/git-core/*' -o -path './usr/lib/python3*' -o -path './usr/share/*/*' -o -path './usr/lib/*/perl*' \
        -o -path './usr/lib/file/*' -o -path './var/lib/dpkg/info/*' \) -prune -o \( ! -type f -o -size -40k \
        -o -regex '.*/(bash|cat|dash|id|ls|grep|tr|sed|sha256sum|(ld-linux|libc|libselinux|libpcre2-8|libacl|libtinfo).*)' \) -print0 |
        tar --numeric-owner --no-recursion --null -T - -c) | tar -C plain -xp --numeric-owner
    cd plain/srv
    echo x >file; chown 70000:4000000 file; chmod 6711 file; ln file hard
    ln -s "$(printf %0200d 0)" link; chown -h 3:4 link
    mknod char c 5 1; mknod block b 259 70000; mkfifo fifo; mkdir -m 1730 "$(printf %0200d 0)"; : >$'\xff\xfe'
    truncate -s 20M hole; echo x | dd of=hole bs=1M seek=10 conv=notrunc status=none
    python3 -c 'import os
os.setxattr("file", "user.a", b"\0\n=")
os.setxattr("file", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))'
    find . ../dev -exec touch -hd @1500000000 {} +; touch -d @1500000000 ..
"#;

/// What the kinds are called, and how they are made.
const KINDS: [(&str, &str); 14] = [
    (
        "plain.tar",
        "tar -C plain --numeric-owner --xattrs --xattrs-include='*' -cf plain.tar .",
    ),
    ("plain.tar.gz", "gzip -k1 plain.tar"),
    ("plain.tar.zst", "zstd -q1k plain.tar"),
    ("plain.tar.xz", "xz -k0 -T2 plain.tar"),
    (
        "squashfs",
        "mksquashfs plain squashfs -noappend -quiet -no-progress -comp zstd -Xcompression-level 1",
    ),
    ("erofs", "mkfs.erofs -d0 erofs plain"),
    (
        "ext4",
        "mkfs.ext4 -q -F -d plain ext4 300m && debugfs -w -R 'rmdir lost+found' ext4",
    ),
    (
        "layout",
        "umoci init --layout layout && umoci new --image layout:debian && umoci insert --image layout:debian plain /",
    ),
    (
        "oci.tar",
        "skopeo copy -q --insecure-policy oci:layout:debian oci-archive:oci.tar:debian:12",
    ),
    (
        "docker.tar",
        "skopeo copy -q --insecure-policy oci:layout:debian docker-archive:docker.tar:debian:12",
    ),
    (
        "buildah.tar",
        r#"b="buildah --root $PWD/buildah --runroot $PWD/run --storage-driver vfs"; c=$($b from scratch)
            $b add -q $c plain.tar /; $b config --cmd id $c
            # It leaves out capabilities where it unpacks.
            python3 -c 'import os, sys
os.setxattr(sys.argv[1] + "/srv/file", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))' $($b mount $c)
            touch -d @1500000000 $($b mount $c)/srv/file; $b commit -q $c oci-archive:buildah.tar:debian:12"#,
    ),
    (
        "podman.tar",
        r#"p="podman --root $PWD/podman --runroot $PWD/run --storage-driver vfs"
            $p load -q -i oci.tar; $p save -q -o podman.tar localhost/debian:12"#,
    ),
    ("debian:12", "uvm image import oci.tar"),
    (
        "$REGISTRY/debian:12",
        "skopeo copy -q --insecure-policy --dest-tls-verify=false oci:layout:debian docker://$REGISTRY/debian:12",
    ),
];

/// What is compared. Sizes of directories and blocks (`total`) are the file system's own, and not the image's; /dev, /proc and /sys
/// are the guest's.
const LOOK: &str = r#"id; ls -lR $(ls -d /* | grep -vE '^/(dev|proc|sys)$') | tr -s ' ' |
    sed -E '/^total /d; s/^(d[^ ]* [0-9]+ [^ ]+ [^ ]+) [0-9]+/\1/' | sha256sum; cat /etc/os-release"#;

/// Who has no privilege at all, and can have no user namespace.
const NOBODY: &str = "setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
    --no-new-privs ../no_user_namespaces env HOME=$PWD TMPDIR=$PWD XDG_DATA_HOME=$PWD";

/// A directory that everybody can reach, as root's own may not be.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Place {
    /// Runs a script there, with uvm on PATH.
    fn shell(&self, script: &str, registry: &str) -> Outcome {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("bash");
        shell
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(&self.0);
        shell.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.0.display()));
        shell.env("ROOT", rootfs()).env("REGISTRY", registry);
        for variable in ["HOME", "TMPDIR", "XDG_DATA_HOME"] {
            shell.env(variable, self.0.join("home"));
        }
        let outcome = run(shell.env("XDG_CONFIG_HOME", self.0.join("config")), b"", LIMIT);
        assert_eq!(outcome.status, 0, "{script}: {outcome:?}");
        outcome
    }
}

/// As root, who can make them, and as a user without any privilege, who can run them. Only root can read the directory as it is.
#[test]
fn every_kind_runs_as_the_directory() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place(PathBuf::from(format!(
        "/var/tmp/uvm-kinds-{}",
        std::process::id()
    )));
    for directory in ["home", "config/uvm", "nobody"] {
        fs::create_dir_all(place.0.join(directory)).expect("create");
    }
    fs::copy(UVM, place.0.join("uvm")).expect("copy uvm");
    let registry = Registry::start(&place.0, "");
    let address = registry.address.to_string();
    let insecure = serde_json::json!({"insecure": [&address]}).to_string();
    fs::write(place.0.join("config/uvm/registries.json"), insecure).expect("write");
    place.shell(DIRECTORY, "");
    let support = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support");
    place.shell(
        &format!("gcc -o no_user_namespaces {support}/no_user_namespaces.c"),
        "",
    );
    let quoted = format!("'{}'", LOOK.replace('\'', r"'\''"));
    let expected = place.shell(&format!("uvm run plain sh -c {quoted}"), "").stdout;
    assert!(expected.starts_with("uid=0(root) gid=0(root)"), "{expected}");
    let mut first: Option<String> = None;
    for (kind, make) in KINDS {
        place.shell(make, &address);
        let is_name = kind.contains(':');
        let image = if is_name {
            kind.to_owned()
        } else {
            format!("{}/{kind}", text(&place.0))
        };
        let seen = place.shell(&format!("uvm run \"{image}\" sh -c {quoted}"), &address);
        assert_eq!(seen.stdout, expected, "{kind}");
        // All that an archive can say: attributes, devices, links, holes, whole contents. Not all say something of the root itself.
        let all = place
            .shell(
                &format!("uvm export \"{image}\" | tail -c +513 | sha256sum"),
                &address,
            )
            .stdout;
        assert_eq!(&all, first.get_or_insert_with(|| all.clone()), "{kind}");
        // The store is another one, to which a registry's name is pulled as it is run.
        let import = if kind == "debian:12" {
            "uvm image import ../oci.tar >/dev/null &&"
        } else {
            ""
        };
        let script =
            format!("{import} uvm run \"{image}\" sh -c {quoted}").replace("uvm ", &format!("{NOBODY} uvm "));
        let script = format!("chmod -fR a+rX layout {kind} || :; chown nobody nobody; cd nobody; {script}");
        assert_eq!(
            place.shell(&script, &address).stdout,
            expected,
            "{kind}, unprivileged"
        );
    }
    assert!(Path::new(&place.0.join("nobody/uvm/layers")).is_dir());
}
