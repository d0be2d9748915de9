//! What is left when something is killed from outside, and limits of the host.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};

use super::memory::{map_file, memfd};
use super::threads::{host_pid, kill};
use super::*;
use crate::platform::{ForkKind, HostFile};

/// All stubs that are children of this host thread.
fn stubs() -> Vec<i32> {
    let path = format!("/proc/self/task/{}/children", nix::unistd::gettid());
    let text = fs::read_to_string(path).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn the_zygote_can_be_killed() {
    let (platform, mut thread) = guest(SPIN);
    let sibling = thread.fork(ForkKind::Thread).unwrap();
    let (_, file) = memfd(b"first");
    let (_, other) = memfd(b"other");
    let shared = MapFlags::SHARED | MapFlags::FIXED;
    for round in 0..3 {
        let area = 0x4000_0000 + round * 0x10000;
        map_file(&mut *thread, area, &file, shared).unwrap();
        for pid in stubs() {
            if pid != host_pid(&*thread) {
                kill(pid, libc::SIGKILL);
            }
        }
        // One that is in the old zygote's table, and one that is not.
        map_file(&mut *thread, area + 4096, &file, shared).unwrap();
        let (_, new) = memfd(b"newer");
        for (at, file, content) in [(area + 8192, &other, b"other"), (area + 12288, &new, b"newer")] {
            map_file(&mut *thread, at, file, shared).unwrap();
            let mut buf = [0; 5];
            assert_eq!(thread.space().read(at, &mut buf), 5);
            assert_eq!(&buf, content);
        }
        let spawned = platform.spawn().unwrap();
        assert_eq!(spawned.space().mappings().unwrap(), []);
    }
    drop((sibling, thread));
    platform.run().unwrap();
    no_children();
}

#[test]
fn the_bell_can_be_killed() {
    let (platform, thread) = guest(&code(&[SYSCALL, SPIN]));
    let mut calls = 0;
    let spinning = owner(move |thread, trap| {
        calls += 1;
        let handle = thread.handle();
        if calls == 3 {
            assert_eq!(trap, Trap::Woken);
            return Next::Exit;
        }
        for pid in stubs() {
            if pid != host_pid(thread) {
                kill(pid, libc::SIGKILL);
            }
        }
        std::thread::spawn(move || handle.kick());
        Next::Park
    });
    platform.start(thread, spinning);
    platform.run().unwrap();
    no_children();
}

#[test]
fn a_full_host_is_a_clean_error() {
    let (platform, mut thread) = guest(SPIN);
    let pid = host_pid(&*thread);
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let limit = |resource, value: &libc::rlimit| {
        // SAFETY: a live value, and a process of ours.
        unsafe { libc::prlimit(pid, resource, value, std::ptr::null_mut()) }
    };
    assert_eq!(limit(libc::RLIMIT_NPROC, &none), 0);
    match thread.fork(ForkKind::Copy) {
        Err(e) => assert_eq!(e, Errno::EAGAIN),
        // Root is above that limit.
        Ok(_) => assert!(nix::unistd::geteuid().is_root()),
    }
    assert_eq!(limit(libc::RLIMIT_AS, &none), 0);
    assert_eq!(
        map(&mut *thread, 0x4000_0000, 4096, Prot::READ),
        Err(Errno::ENOMEM)
    );
    drop(thread);
    platform.run().unwrap();
}

#[test]
#[ignore = "run by nothing_outlives_a_killed_supervisor"]
fn supervisor_to_be_killed() {
    let (platform, thread) = guest(SPIN);
    let mut main = guest_in(&platform, &code(&[SYSCALL, SPIN]));
    let sibling = main.fork(ForkKind::Thread).unwrap();
    let quiet = owner(|_, _| Next::Resume);
    platform.start(thread, Arc::clone(&quiet));
    platform.start(sibling, quiet);
    platform.start(
        main,
        owner(|_, _| {
            for pid in stubs() {
                println!("\nstub {pid}");
            }
            println!("\nready");
            Next::Resume
        }),
    );
    platform.run().unwrap();
}

#[test]
fn nothing_outlives_a_killed_supervisor() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--nocapture", "supervisor_to_be_killed"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let pids: Vec<i32> = lines
        .take_while(|line| line != "ready")
        .filter_map(|line| line.strip_prefix("stub ")?.parse().ok())
        .collect();
    assert_eq!(pids.len(), 4, "zygote, bell, two guests");
    let open = |&pid: &i32| {
        // SAFETY: plain numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        assert!(fd >= 0);
        // SAFETY: just opened and not otherwise known.
        unsafe { OwnedFd::from_raw_fd(fd as i32) }
    };
    let fds: Vec<OwnedFd> = pids.iter().map(open).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    for fd in &fds {
        let mut polled = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut polled, PollTimeout::NONE), Ok(1));
    }
}

#[test]
fn stubs_are_out_of_reach_of_terminal_signals() {
    let (platform, thread) = guest(SPIN);
    let pid = nix::unistd::Pid::from_raw(host_pid(&*thread));
    assert_ne!(nix::unistd::getpgid(Some(pid)), nix::unistd::getpgid(None));
    assert_ne!(nix::unistd::getsid(Some(pid)), nix::unistd::getsid(None));
    drop(thread);
    platform.run().unwrap();
}

#[test]
fn files_on_an_overlay_are_recognised() {
    // In a mount namespace of this thread's own, where the host allows one.
    let dir = std::env::temp_dir().join(format!("uvm-overlay-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let mounted = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| {
            mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )
        })
        .and_then(|()| mount(Some("t"), &dir, Some("tmpfs"), MsFlags::empty(), None::<&str>))
        .and_then(|()| {
            for name in ["lower", "upper", "work", "merged"] {
                fs::create_dir(dir.join(name)).unwrap();
            }
            fs::write(dir.join("lower/file"), "content").unwrap();
            let d = dir.display();
            let options = format!("lowerdir={d}/lower:/etc,upperdir={d}/upper,workdir={d}/work");
            mount(
                Some("o"),
                &dir.join("merged"),
                Some("overlay"),
                MsFlags::empty(),
                Some(options.as_str()),
            )
        });
    match mounted {
        Ok(()) => {
            let (platform, mut thread) = guest(SPIN);
            for name in ["file", "passwd"] {
                let file = File::open(dir.join("merged").join(name)).unwrap();
                let key = file.metadata().map(|m| (m.dev(), m.ino())).unwrap();
                let file = HostFile::new(file.into()).unwrap();
                thread
                    .memory(&[MemOp::Map {
                        addr: 0x4000_0000,
                        len: 4096,
                        prot: Prot::READ,
                        flags: MapFlags::PRIVATE | MapFlags::FIXED,
                        file: Some((&file, 0)),
                    }])
                    .unwrap();
                let maps = thread.space().mappings().unwrap();
                let map = maps.iter().find(|m| m.start == 0x4000_0000).unwrap();
                assert_eq!(map.file, Some(key), "{name}");
            }
            drop(thread);
            platform.run().unwrap();
        }
        Err(e) => println!("no overlay here: {e}"),
    }
    fs::remove_dir_all(&dir).ok();
}
