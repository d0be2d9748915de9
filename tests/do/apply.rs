//! What `--apply` may not lose.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::support::UVM;
use super::support::process::run;
use super::{LIMIT, uvm_do, work};

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}

#[test]
fn a_file_of_another_kind_takes_its_place() {
    let directory = work("kinds");
    let script = "rm text; mkdir text; echo in >text/in; rm -r dir; echo file >dir; rm gone; ln -s dir gone; rm link; mkfifo link";
    let outcome = uvm_do(&directory, &["--apply"], script);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert_eq!(read(&directory.join("text/in")), "in\n");
    assert_eq!(read(&directory.join("dir")), "file\n");
    assert_eq!(
        fs::read_link(directory.join("gone")).expect("link"),
        Path::new("dir")
    );
    assert_eq!(fs::read_dir(&directory).expect("list").count(), 4);
}

#[test]
fn new_directories_get_their_attributes() {
    let directory = work("attributes");
    let set = |name: &str| {
        format!(
            r#"import os; os.makedirs("{name}"); os.setxattr("{name}", "user.a", b"b"); os.utime("{name}", (7, 7))"#
        )
    };
    let mut native = Command::new("python3");
    native.current_dir(&directory).args(["-c", &set("native")]);
    if run(&mut native, b"", LIMIT).status != 0 {
        eprintln!(
            "not run: the file system of {} has no extended attributes",
            directory.display()
        );
        return;
    }
    let outcome = uvm_do(
        &directory,
        &["--apply"],
        &format!("chmod 700 dir && python3 -c '{}'", set("new")),
    );
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let script =
        r#"import os; print([(os.getxattr(d, "user.a"), os.stat(d).st_mtime) for d in ("native", "new")])"#;
    let mut look = Command::new("python3");
    let told = run(look.current_dir(&directory).args(["-c", script]), b"", LIMIT);
    assert_eq!(told.stdout, "[(b'b', 7.0), (b'b', 7.0)]\n", "{told:?}");
}

/// A file of the guest may be one of this machine by another name, which something else has by now.
#[test]
fn moved_files_are_what_they_were() {
    let directory = work("moves");
    let script = "mv text text~; echo edited >text; mv gone t; mv dir/a gone; mv t dir/a; mv dir/sub d; ln -s ../d dir/sub; \
        mkdir log; for i in 1 2 3; do echo $i >log/$i; done";
    let outcome = uvm_do(&directory, &["--apply"], script);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    let all = |names: &[&str]| -> String { names.iter().map(|name| read(&directory.join(name))).collect() };
    assert_eq!(all(&["text", "text~"]), "edited\none\ntwo\nthree\n");
    assert_eq!(all(&["gone", "dir/a", "dir/sub/b", "d/b"]), "a\ngone\nb\nb\n");
    let script = "cd log; mv 3 4; mv 2 3; mv 1 2; echo 0 >1; ln 2 two; ls -l two 4; chmod 600 2";
    let outcome = uvm_do(&directory, &["--apply"], script);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert_eq!(
        all(&["log/1", "log/2", "log/3", "log/4", "log/two"]),
        "0\n1\n2\n3\n1\n"
    );
}

/// What is not made from a file, for whatever reason, is no reason to remove it.
#[test]
fn nothing_goes_for_what_does_not_come() {
    let directory = work("replaced");
    let host = directory.join("copy");
    let options = [
        &format!("--write={}", directory.join("dir").display())[..],
        "--apply",
    ];
    let script = "cp text copy && rm text && touch dir/begun; until [ -e dir/go ]; do sleep 0.05; done";
    let begun = directory.join("dir/begun");
    let writer = std::thread::spawn(move || {
        while !begun.exists() {
            std::thread::yield_now();
        }
        fs::write(&host, "the host's").expect("write");
        fs::write(begun.with_file_name("go"), "").expect("write");
    });
    let outcome = uvm_do(&directory, &options, script);
    writer.join().expect("the host does not panic");
    assert_eq!(outcome.status, 125, "{outcome:?}");
    assert_eq!(read(&directory.join("text")), "one\ntwo\nthree\n");
    let outcome = uvm_do(&directory, &["--apply=dir"], "mv dir/a elsewhere");
    assert_eq!(outcome.status, 125, "{outcome:?}");
    assert_eq!(read(&directory.join("dir/a")), "a\n");
}

/// A file that the host adds to a directory that goes, even while changes are carried out.
#[test]
fn what_comes_meanwhile_is_not_removed() {
    let directory = work("meanwhile");
    let added = directory.join("dir/sub/added");
    let (watched, to_add) = (directory.clone(), added.clone());
    let host = std::thread::spawn(move || {
        let ours = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".uvm-apply");
        let begun = || {
            let names = fs::read_dir(&watched).expect("list");
            names.flatten().any(|entry| ours(&entry.file_name()))
        };
        while !begun() && watched.join("dir/sub").exists() {
            std::thread::yield_now();
        }
        fs::write(to_add, "precious").is_ok()
    });
    uvm_do(
        &directory,
        &["--apply"],
        "yes | head -c 100000000 >big; rm -r dir/sub",
    );
    if host.join().expect("the host does not panic") {
        assert_eq!(read(&added), "precious");
    }
}

#[test]
fn links_lead_to_what_is_applied() {
    let directory = work("behind");
    std::os::unix::fs::symlink("dir", directory.join("way")).expect("link");
    let outcome = uvm_do(&directory, &["--apply=way"], "echo new >dir/new; echo not >text");
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert_eq!(read(&directory.join("dir/new")), "new\n");
    assert_eq!(read(&directory.join("text")), "one\ntwo\nthree\n");
    let outcome = uvm_do(&directory, &["--apply=wya"], "echo new >dir/newer");
    assert_eq!(outcome.status, 125, "{outcome:?}");
}

/// An unprivileged user's directory that cannot be written until the guest has changed that.
#[test]
fn rights_that_were_given_first() {
    let directory = work("given");
    for (path, mode) in [("dir/sub", 0o555), ("dir", 0o555)] {
        fs::set_permissions(directory.join(path), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    let outcome = uvm_do(
        &directory,
        &["--apply"],
        "chmod -R u+w dir; rm -r dir/sub; echo new >dir/new; mkdir -m 300 blind",
    );
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert_eq!(read(&directory.join("dir/new")), "new\n");
    assert!(!directory.join("dir/sub").exists() && directory.join("blind").exists());
    fs::set_permissions(directory.join("blind"), fs::Permissions::from_mode(0o700)).expect("chmod");
}

/// What cannot be told is no reason to lose the guest's work.
#[test]
fn changes_are_carried_out_though_they_cannot_be_shown() {
    let directory = work("unshown");
    let mut guest = Command::new("sh");
    guest.current_dir(&directory);
    let outcome = run(
        guest.args([
            "-c",
            "\"$0\" do --diff --apply -- sh -c 'echo work >file' >/dev/full",
            UVM,
        ]),
        b"",
        LIMIT,
    );
    assert_eq!(outcome.status, 125, "{outcome:?}");
    assert_eq!(read(&directory.join("file")), "work\n");
}

/// What guest root makes set-id for itself is not so for the caller, and capabilities come along where they can.
#[test]
fn rights_are_the_files_own() {
    let directory = work("rights");
    // cap_net_raw+ep
    let capability = r#"import os; os.setxattr("cap", "security.capability", bytes.fromhex("010000020020000000000000" + 16 * "0"))"#;
    let script = format!("cp /bin/true id; cp /bin/true cap; chmod 4755 id; python3 -c '{capability}'");
    let outcome = uvm_do(&directory, &["--user", "root", "--apply"], &script);
    let is_root = nix::unistd::geteuid().is_root();
    let mode = fs::metadata(directory.join("id"))
        .expect("stat")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, if is_root { 0o4755 } else { 0o755 }, "{outcome:?}");
    if is_root {
        assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
        let mut look = Command::new("python3");
        let script = r#"import os; print(os.getxattr("cap", "security.capability").hex())"#;
        let told = run(look.current_dir(&directory).args(["-c", script]), b"", LIMIT);
        assert_eq!(
            told.stdout, "0100000200200000000000000000000000000000\n",
            "{told:?}"
        );
    } else {
        assert!(outcome.stderr.contains("/cap: "), "{outcome:?}");
    }
}

#[test]
fn what_the_guest_could_not_see_is_not_removed() {
    let directory = work("unseen");
    let secret = directory.join(".docker/config.json");
    fs::create_dir(directory.join(".docker")).expect("create");
    fs::write(&secret, "secret").expect("write");
    fs::write(directory.join(".docker/other"), "other").expect("write");
    for script in [
        "rm -rf ~/.docker",
        "mv ~/.docker ~/elsewhere",
        "rm -rf ~/.docker; echo file >~/.docker",
    ] {
        let mut guest = Command::new(UVM);
        guest.current_dir(&directory).env("HOME", &directory);
        let outcome = run(
            guest.args(["do", "--apply", "--", "sh", "-c", script]),
            b"",
            LIMIT,
        );
        assert_eq!(outcome.status, 125, "{script}: {outcome:?}");
        assert!(
            outcome.stderr.contains("that the guest could not see"),
            "{script}: {outcome:?}"
        );
        assert_eq!(read(&secret), "secret", "{script}");
        assert_eq!(read(&directory.join(".docker/other")), "other", "{script}");
    }
}

/// What is to stay stays, whatever guest root does to its mounts; and what is mounted below it can be written.
#[test]
fn what_is_protected_stays() {
    let directory = work("protected");
    fs::create_dir(directory.join("out")).expect("create");
    let script = "echo y >out/file; for path in dir/sub dir .; do umount $PWD/$path 2>/dev/null; done; cd /; cd - >/dev/null; \
        echo evil >dir/sub/b; chmod 777 dir/sub/b; touch -d @0 dir/sub; rm -f dir/sub/b; echo new >dir/sub/new; mv dir/sub dir/other; \
        mv dir other; ln dir/sub/b hard; mv text dir/sub; python3 -c 'import os; os.setxattr(\"dir/sub/b\", \"user.a\", b\"b\")' 2>/dev/null || echo refused >&2; truncate -s 0 dir/sub/b; \
        mknod dir/sub/node p; ln -s x dir/sub/link; echo ok >dir/a";
    let before = super::snapshot(&directory.join("dir/sub"));
    let all = format!("{0}:{0}", directory.display());
    let part = format!("{0}/dir/sub:{0}/dir/sub:ro", directory.display());
    let guests: [&[&str]; 2] = [
        &["do", "--user", "root", "--write", ".", "--ro", "dir/sub"],
        &[
            "run",
            "-v",
            &all,
            "-v",
            &part,
            "-w",
            directory.to_str().expect("UTF-8"),
            "/",
        ],
    ];
    for options in guests {
        let mut guest = Command::new(UVM);
        guest
            .current_dir(&directory)
            .args(options)
            .args(["--", "sh", "-c", script]);
        let outcome = run(&mut guest, b"", LIMIT);
        assert_eq!(outcome.status, 0, "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 13, "{outcome:?}");
        assert_eq!(super::snapshot(&directory.join("dir/sub")), before, "{outcome:?}");
        assert_eq!(read(&directory.join("text")), "one\ntwo\nthree\n");
        assert_eq!(read(&directory.join("dir/a")), "ok\n");
        assert!(!directory.join("hard").exists());
    }
    let outcome = uvm_do(
        &directory,
        &["--ro", ".", "--write", "out"],
        "echo z >out/file; echo x >text",
    );
    assert_eq!(
        (outcome.status, read(&directory.join("out/file"))),
        (2, "z\n".to_owned()),
        "{outcome:?}"
    );
    let options = ["--user", "root", "--ro", "dir", "--apply"];
    let outcome = uvm_do(
        &directory,
        &options,
        "umount $PWD/dir && cd $PWD && echo x >dir/a && echo applied >text",
    );
    assert_eq!(outcome.status, 125, "{outcome:?}");
    assert!(outcome.stderr.contains("/dir/a: --ro says"), "{outcome:?}");
    assert_eq!(read(&directory.join("dir/a")), "ok\n");
    assert_eq!(read(&directory.join("text")), "applied\n");
}

/// A file that is given another name goes from its old one only when it has come to the new one.
#[test]
fn a_move_that_fails_leaves_the_file() {
    let directory = work("moved");
    let ready = directory.join("ready");
    fs::create_dir(&ready).expect("create");
    let shared = format!("--write={}", ready.display());
    let host = {
        let directory = directory.clone();
        std::thread::spawn(move || {
            while !directory.join("ready/begun").exists() {
                std::thread::yield_now();
            }
            fs::write(directory.join("moved"), "the host's").expect("write");
            fs::remove_file(directory.join("text")).expect("remove");
            fs::write(directory.join("ready/go"), "").expect("write");
        })
    };
    let script =
        "mv gone moved; echo x >>text; touch ready/begun; until [ -e ready/go ]; do sleep 0.05; done";
    let outcome = uvm_do(&directory, &["--apply", &shared], script);
    host.join().expect("the host does not panic");
    assert_eq!(outcome.status, 125, "{outcome:?}");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{outcome:?}");
    assert!(
        lines[0].contains("/gone: kept") && lines[1].contains("/moved: changed on this machine"),
        "{outcome:?}"
    );
    assert!(lines[2].contains("/text: changed on this machine"), "{outcome:?}");
    assert_eq!(read(&directory.join("gone")), "gone\n");
    assert_eq!(read(&directory.join("moved")), "the host's");
    assert!(!directory.join("text").exists());
}
