//! Disks and loop devices, by the tools that people use on them, and disk files that are bad.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::process::{Outcome, run};
use support::{UVM, scratch, text};

const LIMIT: Duration = Duration::from_secs(120);

/// A tool of this machine.
fn tool(command: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = run(
        Command::new(command[0]).args(&command[1..]).env("PATH", path),
        b"",
        LIMIT,
    );
    assert_eq!(done.status, 0, "{command:?}: {done:?}");
    done.stdout
}

/// A disk of so many MiB without anything on it.
fn empty(path: &Path, mib: u64) {
    let file = fs::File::create(path).expect("create");
    file.set_len(mib << 20).expect("set the length");
}

/// What a script prints in a guest of this machine's files; it ends at the first command that fails, and `not` is for those that must.
fn guest(options: &[&str], script: &str) -> Outcome {
    let script = format!("not() {{ if \"$@\" 2>/dev/null; then echo \"done: $*\"; exit 1; fi; }}\n{script}");
    let mut command = Command::new(UVM);
    command
        .arg("run")
        .args(options)
        .args(["--tmpfs", "/tmp", "/", "--", "sh", "-ec", &script]);
    run(&mut command, b"", LIMIT)
}

#[track_caller]
fn says(options: &[&str], script: &str, expected: &str) {
    let outcome = guest(options, script);
    assert_eq!(
        (outcome.status, outcome.stdout.as_str()),
        (0, expected),
        "{options:?} {script}: {outcome:?}"
    );
}

#[test]
fn file_systems_on_a_disk_that_stays_as_it_is() {
    let image = scratch("cow").join("disk");
    empty(&image, 32);
    let before = fs::read(&image).expect("read");
    let cow = format!("{}:cow", text(&image));
    let script = "mkfs.ext4 -q /dev/vda; e2fsck -fn /dev/vda >/dev/null 2>&1; blkid -o value -s TYPE /dev/vda; \
        echo contents >/tmp/file; debugfs -w -R 'write /tmp/file file' /dev/vda >/dev/null 2>&1; e2fsck -fn /dev/vda >/dev/null 2>&1; \
        mkdir /tmp/at; mount -t ext4 /dev/vda /tmp/at; cat /tmp/at/file; grep ' /tmp/at ' /proc/mounts; \
        not touch /tmp/at/new; not mount -o remount,rw /tmp/at; umount /tmp/at; \
        dd if=/dev/zero of=/dev/vda bs=1M seek=31 count=2 2>/dev/null || echo full; \
        not dd if=/dev/vda of=/dev/null iflag=direct bs=513 count=1; not dd if=/dev/zero of=/dev/vda oflag=direct bs=100 count=1; \
        dd if=/dev/vda iflag=direct bs=4096 skip=8191 2>/dev/null | wc -c; blockdev --getsize64 --getss --getro /dev/vda";
    let expected = "ext4\ncontents\n/dev/vda /tmp/at ext4 ro,relatime 0 0\nfull\n4096\n33554432\n512\n0\n";
    says(&["--disk", &cow], script, expected);
    assert!(fs::read(&image).expect("read") == before);
}

#[test]
fn much_of_a_disk_is_made_zero_in_many_steps() {
    let image = scratch("zero").join("disk");
    empty(&image, 1 << 20);
    let file = fs::File::options().write(true).open(&image).expect("open");
    std::os::unix::fs::FileExt::write_all_at(&file, &[b'x'; 48 << 20], 1 << 39).expect("write");
    let cow = format!("{}:cow", text(&image));
    let script = "at() { dd if=/dev/vda bs=1M skip=$1 count=1 2>/dev/null | tr -d '\\0' | wc -c; }; \
        at 524288; fallocate -p -o 549755813888 -l 1048576 /dev/vda; at 524288; at 524289; blkdiscard -f /dev/vda; at 524289; \
        fallocate -z -n -o 1099511623680 -l 8192 /dev/vda; not fallocate -z -o 1099511623680 -l 8192 /dev/vda; \
        not fallocate -l 4096 /dev/vda";
    says(&["--disk", &cow], script, "1048576\n0\n1048576\n0\n");
}

#[test]
fn partitions() {
    let image = scratch("partitions").join("disk");
    empty(&image, 32);
    let disk = text(&image);
    let gpt = "printf 'label: gpt\\nsize=10M\\nsize=12M\\n' | sfdisk -q /dev/vda; ls /dev/vda*; tail -n 3 /proc/partitions; \
        cat /sys/block/vda/vda2/start /sys/class/block/vda1/size; mkfs.ext4 -q /dev/vda2; e2fsck -fn /dev/vda2 >/dev/null 2>&1; \
        mkdir /tmp/at; mount /dev/vda2 /tmp/at; not blockdev --rereadpt /dev/vda; umount /tmp/at; blockdev --rereadpt /dev/vda; \
        fdisk -l /dev/vda | grep -c 'Linux filesystem'; lsblk -rno NAME,TYPE";
    let expected = "/dev/vda\n/dev/vda1\n/dev/vda2\n 254        0      32768 vda\n 254        1      10240 vda1\n \
        254        2      12288 vda2\n22528\n20480\n2\nvda disk\nvda1 part\nvda2 part\n";
    says(&["--disk", disk], gpt, expected);
    // What was written is in the file, and found again.
    says(
        &["--disk", &format!("{disk}:ro")],
        "blkid -o value -s TYPE /dev/vda2",
        "ext4\n",
    );
    let dos = "printf 'label: dos\\nsize=5M\\n,,E\\nsize=3M\\nsize=3M\\n' | sfdisk -q --wipe always /dev/vda; ls /dev/vda?";
    says(
        &["--disk", disk],
        dos,
        "/dev/vda1\n/dev/vda2\n/dev/vda5\n/dev/vda6\n",
    );
}

#[test]
fn qcow2_files_stay_sound() {
    let place = scratch("qcow2");
    let image = place.join("disk.qcow2");
    let disk = text(&image);
    for options in ["cluster_size=64k", "cluster_size=4k,compat=0.10"] {
        tool(&[
            "qemu-img", "create", "-q", "-f", "qcow2", "-o", options, disk, "40m",
        ]);
        let script = "printf 'size=10M\n,\n' | sfdisk -q /dev/vda; mkfs.ext4 -q /dev/vda2; echo contents >/tmp/file; \
            debugfs -w -R 'write /tmp/file file' /dev/vda2 >/dev/null 2>&1; e2fsck -fn /dev/vda2 >/dev/null 2>&1; \
            dd if=/dev/urandom of=/dev/vda1 bs=1M count=10 2>/dev/null; blkdiscard -f /dev/vda1; wc -c </dev/vda";
        says(&["--disk", disk], script, "41943040\n");
        tool(&["qemu-img", "check", "-q", "-f", "qcow2", disk]);
        let before = fs::read(&image).expect("read");
        let script = "mkdir /tmp/at; mount /dev/vda2 /tmp/at; cat /tmp/at/file; umount /tmp/at; head -c 10485760 /dev/vda1 | tr -d '\\0' | wc -c; \
            mkfs.ext4 -q -F /dev/vda; blkid -o value -s TYPE /dev/vda";
        says(&["--disk", &format!("{disk}:cow")], script, "contents\n0\next4\n");
        assert!(fs::read(&image).expect("read") == before);
        // What it holds is what QEMU's tools find in it.
        let raw = place.join("raw");
        tool(&[
            "qemu-img",
            "convert",
            "-f",
            "qcow2",
            "-O",
            "raw",
            disk,
            text(&raw),
        ]);
        let volume = format!("{}:/mnt:ro", text(&place));
        says(
            &["--disk", &format!("{disk}:ro"), "-v", &volume],
            "cmp /dev/vda /mnt/raw",
            "",
        );
    }
}

#[test]
fn what_may_not_be_written_is_not() {
    let image = scratch("ro").join("disk");
    fs::write(&image, vec![b'x'; 1 << 20]).expect("write");
    let disk = format!("{}:ro", text(&image));
    let script = "blockdev --getro /dev/vda; not sh -c 'echo y >/dev/vda'; head -c 3 /dev/vda; not blkdiscard -f /dev/vda";
    says(&["--disk", &disk], script, "1\nxxx");
    let small = ["--max-disk", "64k", "--disk", &format!("{}:cow", text(&image))];
    let script = "dd if=/dev/zero of=/dev/vda bs=4k 2>/dev/null || echo full; head -c 65536 /dev/vda | tr -d '\\0' | wc -c";
    says(&small, script, "full\n0\n");
    assert!(fs::read(&image).expect("read") == vec![b'x'; 1 << 20]);
}

#[test]
fn loop_devices_and_images_on_them() {
    let place = scratch("loop");
    let directory = place.join("directory");
    fs::create_dir_all(directory.join("d")).expect("create");
    fs::write(directory.join("d/file"), "text ".repeat(5000)).expect("write");
    let from = text(&directory);
    let [squashfs, erofs, ext4] = ["squashfs", "erofs", "ext4"].map(|name| place.join(name));
    tool(&["mksquashfs", from, text(&squashfs), "-noappend", "-quiet"]);
    tool(&["mkfs.erofs", "-zlz4", text(&erofs), from]);
    tool(&["mkfs.ext4", "-q", "-F", "-d", from, text(&ext4), "8m"]);
    let volume = format!("{}:/mnt", text(&place));
    for kind in ["squashfs", "erofs", "ext4"] {
        let script = format!(
            "mkdir /tmp/at; mount -o loop,ro -t {kind} /mnt/{kind} /tmp/at; cmp /tmp/at/d/file /mnt/directory/d/file; \
             cut -d' ' -f1-3 /proc/mounts | grep ^.dev.loop; cat /sys/block/loop0/loop/backing_file; umount /tmp/at; losetup -a"
        );
        let expected = format!("/dev/loop0 /tmp/at {kind}\n/mnt/{kind}\n");
        says(&["-v", &volume], &script, &expected);
    }
    let script = "cp /mnt/ext4 /tmp/a; losetup -f; losetup -o 4096 --sizelimit 8192 --show -f /tmp/a; blockdev --getsize64 /dev/loop0; \
        dd if=/dev/loop0 bs=4k skip=1 2>/dev/null | cmp - /tmp/a -i 0:8192 -n 4096; losetup -d /dev/loop0; \
        losetup /dev/loop3 /tmp/a; losetup -nO NAME,BACK-FILE; e2fsck -fn /dev/loop3 >/dev/null 2>&1; \
        printf abc | dd of=/dev/loop3 conv=notrunc 2>/dev/null; head -c 3 /tmp/a; not losetup /dev/loop3 /mnt/erofs; \
        not losetup /dev/loop4 /dev/loop3; losetup -D; losetup -a; grep -c '^.squashfs$' /proc/filesystems";
    says(
        &["-v", &volume],
        script,
        "/dev/loop0\n/dev/loop0\n8192\n/dev/loop3 /tmp/a\nabc1\n",
    );
    // A file that is cut, and a file system that somebody still uses.
    let script = "head -c 8192 /mnt/ext4 >/tmp/a; losetup /dev/loop0 /tmp/a; echo -n >/tmp/a; not dd if=/dev/loop0 of=/dev/null; \
        mkdir /tmp/at; mount -o loop,ro /mnt/squashfs /tmp/at; exec 3</tmp/at/d/file; umount -l /tmp/at; wc -c <&3; \
        cat /sys/block/loop[01]/loop/autoclear; exec 3<&-; losetup -d /dev/loop0; losetup -a";
    says(&["-v", &volume], script, "25000\n0\n1\n");
    // A file system that is none, and one that is another.
    let script = "mkdir /tmp/at; losetup /dev/loop0 /mnt/erofs; not mount -t squashfs /dev/loop0 /tmp/at; \
        mount /dev/loop0 /tmp/at; ls /tmp/at; \
        not losetup -d /dev/loop1; losetup -d /dev/loop0; ls /tmp/at/d; umount /tmp/at; losetup -a";
    says(&["-v", &volume], script, "d\nfile\n");
}

#[test]
fn bad_disks_are_one_line() {
    let place = scratch("bad");
    let refused = |disk: &str, words: &str| {
        let outcome = guest(&["--disk", disk], "true");
        assert_eq!(
            (outcome.status, outcome.stderr.lines().count()),
            (125, 1),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains(words), "'{words}': {outcome:?}");
    };
    let file = |name: &str, bytes: &[u8]| {
        fs::write(place.join(name), bytes).expect("write");
        text(&place.join(name)).to_owned()
    };
    refused(&file("empty", b""), "it is empty");
    refused(&file("short", b"x"), "smaller than a sector");
    refused(text(&place), "Is a directory");
    refused("/dev/null", "no regular file");
    refused("/not/there:cow", "No such file");
    refused(":cow", "give FILE, with");
    refused("", "give FILE, with");
    let qcow2 = place.join("disk.qcow2");
    tool(&["qemu-img", "create", "-q", "-f", "qcow2", text(&qcow2), "8m"]);
    let whole = fs::read(&qcow2).expect("read");
    // What a guest may have written there itself does not say what a file holds.
    let odd = file("odd", &whole);
    refused(&odd, "say which it is by FILE:qcow2 or FILE:raw");
    says(&["--disk", &format!("{odd}:raw")], "head -c 3 /dev/vda", "QFI");
    says(
        &["--disk", &format!("{odd}:qcow2:ro")],
        "wc -c </dev/vda",
        "8388608\n",
    );
    refused(
        &format!("{shared}:qcow2", shared = file("none", &[0; 4096])),
        "no qcow2 file",
    );
    refused(
        &file("cut.qcow2", &whole[..300]),
        "qcow2 is damaged: it is cut short",
    );
    refused(&file("tables.qcow2", &whole[..70_000]), "qcow2 is damaged");
    tool(&[
        "qemu-img",
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        text(&qcow2),
        text(&place.join("over.qcow2")),
    ]);
    refused(
        text(&place.join("over.qcow2")),
        "has a backing file, which is not supported",
    );
    // A table that is somewhere else is an error for the guest that reads it.
    let mut bytes = whole;
    let list = u64::from_be_bytes(*bytes[40..].first_chunk().expect("a header")) as usize;
    bytes[list..list + 8].copy_from_slice(&(1u64 << 40).to_be_bytes());
    let disk = file("outside.qcow2", &bytes);
    let script = "not dd if=/dev/vda of=/dev/null; not dd if=/dev/zero of=/dev/vda count=8; echo still here";
    says(&["--disk", &disk], script, "still here\n");
    let shared = file("shared", &[0; 4096]);
    let twice = guest(&["--disk", &shared, "--disk", &shared], "true");
    assert!(
        twice.status == 125 && twice.stderr.contains("in use by another guest"),
        "{twice:?}"
    );
    let script = "wc -c </dev/vdb";
    says(
        &[
            "--disk",
            &format!("{shared}:cow"),
            "--disk",
            &format!("{shared}:ro"),
        ],
        script,
        "4096\n",
    );
}
