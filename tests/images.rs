//! Images: each kind runs as the directory that it was made from, and bad ones are one clear line.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use support::images::{Files, archive_of, base, digest, gzip, header, layer, layout, write_layout, xz, zstd};
use support::process::{Outcome, run};
use support::{UVM, scratch, text};

const LIMIT: Duration = Duration::from_secs(120);

/// Runs uvm with a store of this test process's own.
fn uvm(arguments: &[&str]) -> Outcome {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    let store = STORE.get_or_init(|| scratch("store"));
    run(
        Command::new(UVM).args(arguments).env("XDG_DATA_HOME", store),
        b"",
        LIMIT,
    )
}

/// What tells two roots apart, but for sizes and times of directories.
const LOOK: &str = "busybox id; busybox find / -xdev ! -type d -exec busybox stat -c '%n %f %u %g %s %h %Y' {} + | busybox sort; \
    busybox find / -xdev -type d -exec busybox stat -c '%n %f %u %g' {} + | busybox sort; \
    busybox find / -xdev -type f -exec busybox md5sum {} + | busybox sort";

fn look(image: &Path) -> String {
    let outcome = uvm(&["run", text(image), "--", "sh", "-c", LOOK]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    outcome.stdout
}

#[test]
fn all_kinds_show_the_same() {
    let place = scratch("kinds");
    let file = |name: &str, bytes: &[u8]| {
        fs::write(place.join(name), bytes).expect("write");
        look(&place.join(name))
    };
    let expected = file("plain.tar", base());
    assert!(expected.starts_with("uid=0(root) gid=0 "), "{expected}");
    assert!(
        expected.contains("/etc/fifo 19c0 0 0 0 1 1500000000"),
        "{expected}"
    );
    assert!(
        expected.contains("/etc/again 8180 0 0 7 2 1500000000"),
        "{expected}"
    );
    for (name, bytes) in [
        ("tar.gz", gzip(base())),
        ("tar.zst", zstd(base())),
        ("tar.xz", xz(base())),
    ] {
        assert_eq!(file(name, &bytes), expected, "{name}");
        assert_eq!(look(&place.join(name)), expected, "{name}, the second time");
    }
    let files = layout(&[gzip(base())], &json!({}));
    write_layout(&place.join("layout"), &files);
    assert_eq!(look(&place.join("layout")), expected);
    assert_eq!(file("oci.tar", &archive_of(&files)), expected);
    assert_eq!(file("oci.tar.gz", &gzip(&archive_of(&files))), expected);
    let manifest = json!([{"Config": "c.json", "RepoTags": ["a:b"], "Layers": ["l/layer.tar"]}]);
    let (name, id) = (digest(b"config"), digest(b"layer"));
    let manifest = manifest
        .to_string()
        .replace("c.json", &format!("{name}.json"))
        .replace("l/", &format!("{id}/"));
    let docker = [
        (format!("{name}.json"), b"{}".to_vec()),
        (format!("{id}/layer.tar"), base().to_vec()),
        ("manifest.json".to_owned(), manifest.into_bytes()),
    ];
    assert_eq!(file("docker.tar", &archive_of(&docker)), expected);
    // The directory that the archive makes, where owners are root's anyway: that of a rootless guest or of root.
    let directory = place.join("directory");
    fs::create_dir(&directory).expect("create");
    let mut unpack = Command::new("tar");
    unpack.args(["-xpf", text(&place.join("plain.tar")), "-C", text(&directory)]);
    assert_eq!(run(&mut unpack, b"", LIMIT).status, 0);
    let other = look(&directory);
    let lines = |look: &str| -> Vec<String> {
        look.lines()
            .filter(|line| !line.starts_with("/ "))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(lines(&other), lines(&expected));
}

/// Runs a tool that makes file systems.
fn tool(command: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = run(
        Command::new(command[0]).args(&command[1..]).env("PATH", path),
        b"",
        LIMIT,
    );
    assert_eq!(made.status, 0, "{command:?}: {made:?}");
}

#[test]
fn file_systems_show_the_same() {
    let place = scratch("disks");
    let (directory, image) = (place.join("directory"), place.join("image"));
    fs::create_dir(&directory).expect("create");
    fs::write(place.join("plain.tar"), base()).expect("write");
    let (directory, image) = (text(&directory), text(&image));
    tool(&["tar", "-xpf", text(&place.join("plain.tar")), "-C", directory]);
    let expected = look(Path::new(directory));
    let lines = |look: &str| -> Vec<String> {
        // The root is the image's own, and ext4 has a directory more.
        let own = |line: &&str| !line.starts_with("/ ") && !line.contains("lost+found");
        look.lines().filter(own).map(str::to_owned).collect()
    };
    // What an unprivileged user's directory becomes in a file system without an option for owners.
    let me = fs::metadata(directory).map(|st| {
        use std::os::unix::fs::MetadataExt;
        format!(" {} {}", st.uid(), st.gid())
    });
    let me = me.expect("stat");
    for command in [
        vec!["mksquashfs", directory, image, "-noappend", "-quiet", "-all-root"],
        vec![
            "mksquashfs",
            directory,
            image,
            "-noappend",
            "-quiet",
            "-all-root",
            "-comp",
            "zstd",
        ],
        vec!["mkfs.erofs", "--all-root", image, directory],
        vec!["mkfs.erofs", "--all-root", "-zlz4hc", image, directory],
        vec!["mkfs.ext4", "-q", "-F", "-d", directory, image, "32m"],
    ] {
        let _ = fs::remove_file(image);
        tool(&command);
        let found = look(Path::new(image));
        let found = match command[0] {
            "mkfs.ext4" => found.replace(&me, " 0 0"),
            _ => found,
        };
        assert_eq!(lines(&found), lines(&expected), "{command:?}");
        // What the guest writes stays its own.
        let script =
            "busybox rm /etc/secret; echo x >/etc/passwd; busybox mv /etc /new; busybox cat /new/passwd";
        let changed = uvm(&["run", image, "--", "sh", "-c", script]);
        assert_eq!(
            (changed.status, changed.stdout.as_str()),
            (0, "x\n"),
            "{changed:?}"
        );
        if command[0] != "mkfs.ext4" {
            assert_eq!(look(Path::new(image)), found);
        }
    }
}

#[test]
fn bad_file_systems_are_one_line() {
    let place = scratch("bad-disks");
    let (directory, image) = (place.join("directory"), place.join("image"));
    fs::create_dir(&directory).expect("create");
    fs::write(directory.join("file"), "contents").expect("write");
    let (directory, path) = (text(&directory), text(&image));
    let damage = |words: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(&image).expect("read");
        change(&mut bytes);
        let damaged = place.join("damaged");
        fs::write(&damaged, bytes).expect("write");
        refused(&damaged, words);
    };
    tool(&["mksquashfs", directory, path, "-noappend", "-quiet"]);
    damage("squashfs is damaged: it is cut short", &|bytes| {
        bytes.truncate(100)
    });
    damage("lzo compression, which is not supported", &|bytes| bytes[20] = 3);
    damage("root is no directory", &|bytes| bytes[32..40].fill(0xee));
    let _ = fs::remove_file(&image);
    tool(&["mkfs.erofs", path, directory]);
    damage("erofs uses fragments", &|bytes| bytes[1024 + 80] = 0x20);
    damage("erofs is damaged", &|bytes| bytes[1024 + 12] = 99);
    tool(&["mkfs.ext4", "-q", "-F", path, "1m"]);
    damage("ext4 is damaged: it is cut short", &|bytes| {
        bytes.truncate(1 << 18)
    });
    damage("run 'e2fsck -p' on it first", &|bytes| bytes[1024 + 0x60] |= 4);
    damage("encryption, which is not supported", &|bytes| {
        bytes[1024 + 0x62] |= 1
    });
}

#[test]
fn layers_and_configuration() {
    let place = scratch("layers");
    let upper = layer(&[
        ("etc/.wh.secret", ""),
        ("etc/new", "new\n"),
        ("tmp/.wh..wh..opq", ""),
    ]);
    let config = json!({
        "Env": ["PATH=/bin", "FROM=image", "OTHER=image"],
        "Entrypoint": ["busybox", "sh", "-c"],
        "Cmd": ["busybox id -u; busybox pwd; echo $FROM $OTHER; busybox ls /etc"],
        "User": "ann",
        "WorkingDir": "/etc",
    });
    write_layout(&place, &layout(&[base().to_vec(), zstd(&upper)], &config));
    let image = text(&place);
    let plain = uvm(&["run", image]);
    assert_eq!(
        plain.stdout, "1000\n/etc\nimage image\nagain\nfifo\nnew\npasswd\n",
        "{plain:?}"
    );
    let other = uvm(&[
        "run",
        "-e",
        "FROM=option",
        "-w",
        "/bin",
        "-u",
        "0",
        image,
        "busybox id -u; busybox pwd; echo $FROM",
    ]);
    assert_eq!(other.stdout, "0\n/bin\noption\n", "{other:?}");
    let none = uvm(&["run", "--entrypoint", "", image, "/bin/busybox", "echo", "none"]);
    assert_eq!(none.stdout, "none\n", "{none:?}");
    let entry = uvm(&["run", "--entrypoint", "/bin/busybox", image, "echo", "instead"]);
    assert_eq!(entry.stdout, "instead\n", "{entry:?}");
    // The guest may change everything; the image stays as it is.
    let changed = uvm(&[
        "run",
        "-u",
        "root",
        image,
        "busybox rm -rf /etc; echo x >/bin/busybox; echo done",
    ]);
    assert_eq!(changed.stdout, "done\n", "{changed:?}");
    assert_eq!(uvm(&["run", image]).stdout, plain.stdout);
}

#[track_caller]
fn refused(path: &Path, words: &str) {
    let outcome = uvm(&["run", text(path), "true"]);
    assert_eq!(
        (outcome.status, outcome.stderr.lines().count()),
        (125, 1),
        "{outcome:?}"
    );
    assert!(
        outcome.stderr.starts_with("uvm: run: ") && outcome.stderr.contains(words),
        "'{words}': {outcome:?}"
    );
}

/// An archive whose one entry has this path, which no builder would write.
fn odd_path(path: &str) -> Vec<u8> {
    let mut header = header(tar::EntryType::Regular, 0o644, 0);
    header.as_gnu_mut().expect("GNU").name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_cksum();
    [&header.as_bytes()[..], &[0; 1024]].concat()
}

#[test]
fn bad_archives_are_one_line() {
    let place = scratch("bad");
    let write = |name: &str, bytes: &[u8]| {
        fs::write(place.join(name), bytes).expect("write");
        place.join(name)
    };
    refused(&write("empty", b""), "no tar archive");
    refused(&write("text", &[b'x'; 2000]), "no tar archive");
    refused(&write("climbs", &odd_path("a/../../b")), "climbs out");
    refused(&write("cut", &base()[..base().len() / 2]), "cut short");
    let compressed = gzip(base());
    refused(&write("cut.gz", &compressed[..compressed.len() / 2]), "gzip");
    let mut flipped = compressed;
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    refused(&write("flipped.gz", &flipped), "");
    let mut dead = tar::Builder::new(Vec::new());
    dead.append_link(&mut header(tar::EntryType::Link, 0o644, 0), "a", "/etc/passwd")
        .expect("append");
    refused(&write("hard", &dead.into_inner().expect("finish")), "hard link");
    refused(&place.join("missing"), "No such file");
    refused(Path::new("/dev/null"), "neither a directory nor");
}

#[test]
fn bad_layouts_are_one_line() {
    let broken = |what: &str, change: &dyn Fn(&mut Files)| {
        let place = scratch("layout");
        let mut files = layout(&[gzip(base())], &json!({}));
        change(&mut files);
        write_layout(&place, &files);
        refused(&place, what);
    };
    let layer_at = 1;
    broken("another length", &|files| files[layer_at].1.push(0));
    broken("layer 1 of 1", &|files| {
        let last = files[layer_at].1.len() - 1;
        files[layer_at].1[last] ^= 1;
    });
    broken("is missing", &|files| drop(files.remove(layer_at)));
    broken("damaged", &|files| files[2].1[5] ^= 1);
    let index = |value: Value| {
        move |files: &mut Files| {
            files.last_mut().expect("an index").1 = value.to_string().into_bytes();
        }
    };
    broken(
        "no sha256 digest",
        &index(json!({"manifests": [{"digest": "sha256:../../../../etc/passwd"}]})),
    );
    broken("no image", &index(json!({"manifests": []})));
    broken("index without manifests", &index(json!({})));
    broken("index.json", &|files| {
        files.last_mut().expect("an index").1 = b"{".to_vec()
    });
    broken("'application/x', which is not supported", &|files| {
        let text = String::from_utf8(files[3].1.clone()).expect("UTF-8");
        let mut manifest: Value = serde_json::from_str(&text).expect("JSON");
        manifest["layers"][0]["mediaType"] = json!("application/x");
        let text = manifest.to_string().into_bytes();
        let name = digest(&text);
        files.insert(1, (format!("blobs/sha256/{name}"), text));
        let index = json!({"manifests": [{"digest": format!("sha256:{name}")}]});
        files.last_mut().expect("an index").1 = index.to_string().into_bytes();
    });
    // An index that names itself cannot be made, as it would have to hold its own digest; one below the other can.
    broken("nested", &|files| {
        let mut inner = files.last().expect("an index").1.clone();
        for _ in 0..5 {
            let name = digest(&inner);
            files.insert(1, (format!("blobs/sha256/{name}"), inner));
            inner = json!({"manifests": [{"digest": format!("sha256:{name}")}]})
                .to_string()
                .into_bytes();
        }
        files.last_mut().expect("an index").1 = inner;
    });
}

/// Who asks uvm to end asks the command as the image says.
#[test]
fn the_stop_signal_is_the_images() {
    let place = scratch("stop");
    let script = "trap 'echo asked; exit 7' QUIT; echo ready; while :; do busybox usleep 1000; done";
    let config = json!({"Cmd": ["busybox", "sh", "-c", script], "StopSignal": "SIGQUIT"});
    write_layout(&place, &layout(&[base().to_vec()], &config));
    let mut guest = Command::new(UVM)
        .args(["run", text(&place)])
        .env("XDG_DATA_HOME", scratch("stop-data"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("start uvm");
    let mut output = BufReader::new(guest.stdout.take().expect("piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("read");
    assert_eq!(line, "ready\n");
    let pid = nix::unistd::Pid::from_raw(guest.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
    output.read_to_string(&mut line).expect("read");
    assert_eq!(line, "ready\nasked\n");
    assert_eq!(guest.wait().expect("wait").code(), Some(7));
}

/// The last file of a name counts, and a name is any bytes.
#[test]
fn odd_names_are_names() {
    let place = scratch("odd");
    let twice = layer(&[("etc/twice", "first"), ("etc/XX", "odd"), ("etc/twice", "last")]);
    let mut odd = Vec::new();
    let mut archive = tar::Archive::new(&twice[..]);
    for entry in archive
        .entries()
        .expect("entries")
        .map(|entry| entry.expect("an entry"))
    {
        let mut header = entry.header().clone();
        if let Some(at) = header.as_bytes().windows(2).position(|two| two == b"XX") {
            header.as_mut_bytes()[at..at + 2].copy_from_slice(b"\xff\xfe");
            header.set_cksum();
        }
        odd.extend_from_slice(header.as_bytes());
        let start = usize::try_from(entry.raw_file_position()).expect("an offset");
        odd.extend_from_slice(&twice[start..start + 512]);
    }
    let whole = [&base()[..base().len() - 1024], &odd, &[0; 1024]].concat();
    fs::write(place.join("odd.tar"), whole).expect("write");
    let script = "busybox cat /etc/twice /etc/$(printf '\\377\\376'); busybox ls /etc | busybox od -An -c | busybox head -c 8";
    let seen = uvm(&["run", text(&place.join("odd.tar")), "sh", "-c", script]);
    assert_eq!((seen.status, seen.stderr.as_str()), (0, ""), "{seen:?}");
    assert!(seen.stdout.starts_with("lastodd"), "{seen:?}");
}

/// What is almost only a hole stays one: committed, exported, read in place, and unpacked by GNU tar.
#[test]
fn holes_take_no_room() {
    let place = scratch("holes");
    fs::write(place.join("plain.tar"), base()).expect("write");
    let shell = |script: &str| {
        let mut shell = Command::new("bash");
        shell.args(["-euc", script]).current_dir(&place);
        let outcome = run(shell.env("UVM", UVM).env("XDG_DATA_HOME", &place), b"", LIMIT);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        outcome.stdout
    };
    let look = "busybox stat -c '%s %b' /hole; busybox dd if=/hole bs=1M skip=5000 count=1 2>/dev/null | busybox head -c 7";
    let seen = shell(&format!(
        r#"
        "$UVM" run --commit holes plain.tar sh -c 'busybox truncate -s 10737418240 /hole
            echo middle | busybox dd of=/hole bs=1M seek=5000 conv=notrunc 2>/dev/null'
        "$UVM" export -o flat.tar holes
        mkdir root; tar -xf flat.tar -C root hole
        [ "$(du -sm . | cut -f1)" -lt 30 ] || du -a . >&2
        cmp -n 7 -i 5242880000:0 root/hole <(echo middle)
        stat -c '%s' root/hole; tar -tvf flat.tar hole | awk '{{ print $3 }}'
        python3 -c 'import tarfile; print(tarfile.open("flat.tar").getmember("hole").size)'
        "$UVM" run flat.tar sh -c "{look}"
        "$UVM" image import flat.tar flat >/dev/null
        "$UVM" export -o again.tar flat; cmp flat.tar again.tar
        du -sm . | awk '{{ print ($1 < 60) }}'"#
    ));
    let size = "10737418240\n".repeat(3);
    assert_eq!(seen, format!("{size}10737418240 1024\nmiddle\n1\n"));
}

/// Appended to an archive that python3 opens: everything in it that tries to lead out of the image.
const TRICKS: &str = r#"
import io, os, sys, tarfile
archive, away = sys.argv[1:]
with tarfile.open(archive, "a") as tar:
    def put(name, kind=tarfile.REGTYPE, link="", device=(0, 0)):
        info = tarfile.TarInfo(name)
        info.type, info.linkname, (info.devmajor, info.devminor) = kind, link, device
        info.size = 7 if kind == tarfile.REGTYPE else 0
        tar.addfile(info, io.BytesIO(b"inside\n"))
    put("/absolute")
    put("out", tarfile.SYMTYPE, away)
    put("out/by-link")
    put("up", tarfile.SYMTYPE, "../../../../../../../../../.." + away)
    put("up/by-dots")
    put("hard", tarfile.LNKTYPE, "/absolute")
    put("hard-by-link", tarfile.LNKTYPE, "out/by-link")
    host = os.stat(os.path.dirname(archive)).st_dev
    put("disk", tarfile.BLKTYPE, device=(os.major(host), os.minor(host)))
    put("memory", tarfile.CHRTYPE, device=(1, 1))
"#;

/// Whatever an archive says, it says of the image: nothing of this machine is read, written or opened.
#[test]
fn tricks_stay_inside() {
    let place = scratch("tricks");
    let (archive, away) = (place.join("tricks.tar"), place.join("away"));
    fs::write(&archive, base()).expect("write");
    fs::create_dir(&away).expect("create");
    let mut python = Command::new("python3");
    python.args(["-c", TRICKS, text(&archive), text(&away)]);
    let made = run(&mut python, b"", LIMIT);
    assert_eq!(made.status, 0, "{made:?}");
    let script = format!(
        "busybox cat /absolute {0}/by-link {0}/by-dots /hard /hard-by-link; \
         for f in /disk /memory; do busybox head -c 1 $f && echo opened; done 2>/dev/null; busybox stat -c %F /disk /memory",
        text(&away)
    );
    let seen = uvm(&["run", text(&archive), "sh", "-c", &script]);
    let expected = format!(
        "{}block special file\ncharacter special file\n",
        "inside\n".repeat(5)
    );
    assert_eq!(
        (seen.status, seen.stdout.as_str(), seen.stderr.as_str()),
        (0, expected.as_str(), "")
    );
    assert_eq!(uvm(&["image", "import", text(&archive), "tricks"]).status, 0);
    assert_eq!(uvm(&["export", "-o", "/dev/null", "tricks"]).status, 0);
    assert_eq!(fs::read_dir(&away).expect("list").count(), 0);
}
