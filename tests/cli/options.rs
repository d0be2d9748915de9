//! What each option does to the guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::{LIMIT, assert_told, assert_writes, guest, scratch, small_root, snapshot, uvm};
use crate::support::process::run;
use crate::support::{UVM, rootfs};

#[test]
fn exit_statuses() {
    for status in [0, 1, 2, 42, 124, 125, 126, 127, 128, 255] {
        assert_eq!(guest(&[], &format!("exit {status}")).status, status);
    }
    for (signal, number) in [("TERM", 15), ("KILL", 9), ("HUP", 1), ("USR1", 10), ("SEGV", 11)] {
        assert_eq!(
            guest(&[], &format!("kill -{signal} $$")).status,
            128 + number,
            "{signal}"
        );
    }
}

#[test]
fn environment() {
    let file = scratch("env").join("file");
    fs::write(
        &file,
        "# a comment\n\nFROM_FILE=one two\nOVERRIDDEN=file\nHOST_VARIABLE\n",
    )
    .expect("write");
    let mut command = Command::new(UVM);
    command
        .args(["run", "--env-file"])
        .arg(&file)
        .args([
            "-e",
            "GIVEN=a=b",
            "-e",
            "OVERRIDDEN=option",
            "-e",
            "EMPTY=",
            "-e",
            "UNSET_ON_THE_HOST",
        ])
        .arg(rootfs())
        .args([
            "--",
            "sh",
            "-c",
            "env | grep -E 'FILE|OVER|HOST_VAR|GIVEN|EMPTY|UNSET|SECRET' | sort",
        ])
        .env("HOST_VARIABLE", "from the host")
        .env("SECRET", "never shown")
        .env_remove("UNSET_ON_THE_HOST");
    assert_writes(
        &run(&mut command, b"", LIMIT),
        "EMPTY=\nFROM_FILE=one two\nGIVEN=a=b\nHOST_VARIABLE=from the host\nOVERRIDDEN=option\n",
    );
    assert_writes(
        &guest(&[], "echo $HOME; command -v ls; cd; pwd"),
        "/root\n/usr/bin/ls\n/root\n",
    );
    assert_writes(&guest(&["-u", "alice"], "echo $HOME"), "/home/alice\n");
    assert_writes(
        &guest(&["-e", "HOME=/mnt", "-e", "PATH=/bin"], "echo $HOME $PATH"),
        "/mnt /bin\n",
    );
}

#[test]
fn working_directory_and_user() {
    assert_writes(&guest(&["-w", "/usr/share"], "pwd"), "/usr/share\n");
    assert_writes(&guest(&["-w", "/usr/../etc"], "pwd"), "/etc\n");
    let id = "echo $(id -u) $(id -g) $(id -G)";
    assert_writes(&guest(&[], id), "0 0 0\n");
    assert_writes(&guest(&["-u", "alice"], id), "1000 1000 1000\n");
    assert_writes(&guest(&["-u", "alice:root"], id), "1000 0 0\n");
    assert_writes(&guest(&["-u", "4242:17"], id), "4242 17 17\n");
    let denied = guest(&["-u", "alice"], "echo x >/etc/passwd");
    assert_eq!(denied.status, 2, "{denied:?}");
}

#[test]
fn volumes() {
    let host = scratch("volume");
    fs::write(host.join("file"), "from the host\n").expect("write");
    let volume = |options: &str| format!("{}:/data/in{options}", host.display());

    let read_only = guest(
        &["-v", &volume(":ro")],
        "cat /data/in/file; echo x >/data/in/file; rm /data/in/file; touch /data/in/new; mkdir /data/in/d",
    );
    assert_eq!(read_only.stdout, "from the host\n", "{read_only:?}");
    assert_eq!(
        read_only.stderr.matches("Read-only file system").count(),
        4,
        "{read_only:?}"
    );
    assert_eq!(
        fs::read_to_string(host.join("file")).expect("read"),
        "from the host\n"
    );

    let writable = guest(
        &["-v", &volume("")],
        "cd /data/in && echo more >>file && mkdir d && echo new >d/new && mv file renamed && chmod 750 renamed && ln -s new d/link && ls / >/dev/null && df . | tail -n 1 | awk '{ print $NF }'",
    );
    assert_writes(&writable, "/data/in\n");
    assert_eq!(
        fs::read_to_string(host.join("renamed")).expect("read"),
        "from the host\nmore\n"
    );
    assert_eq!(fs::read_to_string(host.join("d/link")).expect("read"), "new\n");
    assert_eq!(
        fs::metadata(host.join("renamed"))
            .expect("stat")
            .permissions()
            .mode()
            & 0o777,
        0o750
    );
    assert!(!host.join("file").exists());

    // A single file; and no way out of a volume by links or dots.
    let file = format!("{}:/etc/motd:ro", host.join("renamed").display());
    assert_writes(&guest(&["-v", &file], "tail -n 1 /etc/motd"), "more\n");
    std::os::unix::fs::symlink("/etc/hostname", host.join("absolute")).expect("link");
    std::os::unix::fs::symlink(
        "../../../../../../../../etc/uvm-test-escape",
        host.join("relative"),
    )
    .expect("link");
    assert_writes(
        &guest(
            &["-v", &volume("")],
            "echo guest >/etc/hostname; cat /data/in/absolute; echo x >/data/in/relative; cat /etc/uvm-test-escape; cd /data/in/../../; pwd",
        ),
        "guest\nx\n/\n",
    );
    assert!(!std::path::Path::new("/etc/uvm-test-escape").exists());
}

#[test]
fn memory_file_systems_and_host_name() {
    assert_writes(
        &guest(
            &["--tmpfs", "/scratch", "--tmpfs", "/usr/share:size=64k"],
            "stat -f -c %T /scratch; ls -A /scratch /usr/share | wc -l; echo x >/scratch/f && cat /scratch/f",
        ),
        "tmpfs\n3\nx\n",
    );
    assert_writes(
        &guest(
            &["--hostname", "box.example"],
            "hostname; uname -n; cat /proc/sys/kernel/hostname",
        ),
        "box.example\nbox.example\nbox.example\n",
    );
    assert_writes(
        &guest(&[], "uname -s -n; uname -r | cut -d. -f1"),
        "Linux uvm\n6\n",
    );
}

#[test]
fn read_only_roots() {
    let outcome = guest(
        &["--read-only", "--tmpfs", "/tmp"],
        "touch /new; echo x >/etc/passwd; rm /bin/sh; mkdir /d; touch /tmp/ok && echo tmp; echo x >/dev/null && echo null; grep ' / ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1",
    );
    assert_eq!(outcome.stdout, "tmp\nnull\nro\n", "{outcome:?}");
    assert_eq!(
        outcome.stderr.matches("Read-only file system").count(),
        4,
        "{outcome:?}"
    );
}

#[test]
fn nothing_is_written_to_the_root() {
    let root = small_root("untouched");
    let before = snapshot(&root);
    let script = "echo x >/etc/passwd; busybox rm -r /lib64; busybox mkdir /new; busybox chmod 700 /bin; busybox chown 5 /tmp; busybox mv /etc /moved; echo y >/bin/sh; busybox touch -d @0 /proc /tmp; echo done";
    let outcome = uvm(["run", root.to_str().expect("UTF-8"), "/bin/sh", "-c", script]);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, "done\n"),
        "{outcome:?}"
    );
    assert_eq!(before, snapshot(&root));
    // The next guest sees nothing of it either.
    let next = uvm([
        "run",
        root.to_str().expect("UTF-8"),
        "/bin/busybox",
        "cat",
        "/etc/passwd",
    ]);
    assert_writes(&next, "root:x:0:0:root:/:/bin/sh\n");
}

/// The Debian root too, by what changes most of a system.
#[test]
fn nothing_is_written_to_debian() {
    let before = snapshot(rootfs());
    let outcome = guest(
        &[],
        "dpkg -i /srv/repository/*.deb && useradd carol && rm -rf /usr/share /var && find /etc -exec touch -h {} + && chmod -R 700 /home && mv /usr/lib/file /usr/moved && echo changed",
    );
    assert!(outcome.stdout.ends_with("changed\n"), "{outcome:?}");
    assert_eq!(before, snapshot(rootfs()));
}

#[test]
fn writable_roots() {
    let root = small_root("writable");
    let path = root.to_str().expect("UTF-8");
    assert_writes(
        &uvm([
            "run",
            "--writable",
            path,
            "/bin/sh",
            "-c",
            "echo kept >/etc/new; busybox mkdir /d; busybox mv /d /e; echo x >/tmp/t; busybox chmod 600 /tmp/t; busybox rm /lib/x86_64-linux-gnu/libresolv.so.2",
        ]),
        "",
    );
    assert_eq!(fs::read_to_string(root.join("etc/new")).expect("read"), "kept\n");
    assert!(
        root.join("e").is_dir()
            && !root.join("d").exists()
            && !root.join("lib/x86_64-linux-gnu/libresolv.so.2").exists()
    );
    assert_eq!(
        fs::metadata(root.join("tmp/t"))
            .expect("stat")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
}

#[test]
fn time_limits() {
    assert_eq!(guest(&["--timeout", "0.2"], "sleep 1000").status, 124);
    assert_eq!(
        guest(&["--timeout", "0.2"], "trap '' TERM INT HUP; while :; do :; done").status,
        124
    );
    assert_eq!(
        guest(&["--timeout", "0.2"], "sleep 1000 & sleep 1000 & kill -STOP $$").status,
        124
    );
    assert_eq!(guest(&["--timeout", "1000"], "exit 3").status, 3);
}

#[test]
fn traces() {
    let traced = guest(&["--trace"], "echo hello; exec true");
    assert_eq!(
        (traced.status, traced.stdout.as_str()),
        (0, "hello\n"),
        "{traced:?}"
    );
    for part in [
        "execve(\"",
        "write(1, \"hello\\n\", 6)",
        "ENOENT",
        "exit_group(0)",
    ] {
        assert!(traced.stderr.contains(part), "{part}: {traced:?}");
    }
    let file = scratch("trace").join("file");
    let quiet = guest(&[&format!("--trace={}", file.display())], "echo hello");
    assert_writes(&quiet, "hello\n");
    assert!(
        fs::read_to_string(&file)
            .expect("read the trace")
            .contains("write(1, \"hello\\n\", 6)")
    );
    assert_told(
        &guest(&["--trace=/no/such/place"], "true"),
        125,
        &["/no/such/place"],
    );
}

#[test]
fn this_machine_as_the_root() {
    let outcome = uvm([
        "run",
        "/",
        "--",
        "sh",
        "-c",
        "test -e /etc/passwd && echo x >/etc/uvm-test-file && cat /etc/uvm-test-file; hostname",
    ]);
    assert_writes(&outcome, "x\nuvm\n");
    assert!(!std::path::Path::new("/etc/uvm-test-file").exists());
}

#[test]
fn the_syscall_table() {
    let table = uvm(["syscalls"]);
    assert_eq!((table.status, table.stderr.as_str()), (0, ""), "{table:?}");
    assert!(
        table.stdout.contains("openat2") && table.stdout.lines().count() > 350,
        "{table:?}"
    );
    let json = uvm(["syscalls", "--json"]);
    assert_eq!(json.status, 0, "{json:?}");
    let mut check = Command::new("python3");
    check.args([
        "-c",
        "import json, sys; rows = json.load(sys.stdin); print(len(rows) > 350, rows[0]['name'])",
    ]);
    assert_eq!(
        run(&mut check, json.stdout.as_bytes(), LIMIT).stdout,
        "True read\n"
    );
}
