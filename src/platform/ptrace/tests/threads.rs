//! Several threads and processes, kicks, and every way to end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread as host_thread;

use super::*;
use crate::platform::{ForkKind, ThreadHandle};

/// A guest that makes a syscall and spins.
fn call_and_spin() -> Vec<u8> {
    code(&[&mov_eax(39), SYSCALL, SPIN])
}

/// `mov %rax, DATA` after each syscall of number 39, for ever.
fn store_loop() -> Vec<u8> {
    let mut store = vec![0x48, 0x89, 0x04, 0x25];
    store.extend_from_slice(&(DATA as u32).to_le_bytes());
    // jmp back over 5 + 2 + 8 + 2 bytes
    code(&[&mov_eax(39), SYSCALL, &store, &[0xeb, 0xef]])
}

fn word_at(thread: &dyn Thread, addr: u64) -> u64 {
    let mut bytes = [0; 8];
    assert_eq!(thread.space().read(addr, &mut bytes), 8);
    u64::from_le_bytes(bytes)
}

/// Fork by `kind` at the first syscall; the child stores 2, then the parent looks at its own memory.
fn seen_after_fork(kind: ForkKind) -> u64 {
    let (platform, thread) = guest(&store_loop());
    let seen = Arc::new(Mutex::new(0));
    let result = Arc::clone(&seen);
    let plat = Arc::clone(&platform);
    let mut calls = 0;
    let parent = owner(move |thread, trap| {
        calls += 1;
        if calls > 1 {
            assert_eq!(trap, Trap::Woken);
            *result.lock().unwrap() = word_at(thread, DATA);
            return Next::Exit;
        }
        let mut child = thread.fork(kind).unwrap();
        assert_eq!(child.regs().rip, thread.regs().rip);
        assert_eq!(Arc::ptr_eq(child.space(), thread.space()), kind != ForkKind::Copy);
        child.regs_mut().rax = 2;
        let waker = thread.handle();
        plat.start(
            child,
            owner(move |thread, trap| {
                assert_eq!(trap, Trap::Syscall);
                assert_eq!(word_at(thread, DATA), 2);
                waker.kick();
                Next::Exit
            }),
        );
        Next::Park
    });
    platform.start(thread, parent);
    platform.run().unwrap();
    let seen = seen.lock().unwrap();
    *seen
}

#[test]
fn a_copied_space_is_private() {
    assert_eq!(seen_after_fork(ForkKind::Copy), 0);
}

#[test]
fn a_shared_space_is_one() {
    assert_eq!(seen_after_fork(ForkKind::Share), 2);
}

#[test]
fn a_thread_shares_the_space() {
    assert_eq!(seen_after_fork(ForkKind::Thread), 2);
}

#[test]
fn a_space_outlives_the_process_it_was_made_in() {
    let (platform, thread) = guest(&store_loop());
    let plat = Arc::clone(&platform);
    let first = owner(move |thread, _| {
        let mut child = thread.fork(ForkKind::Share).unwrap();
        child.regs_mut().rax = 7;
        let mut calls = 0;
        plat.start(
            child,
            owner(move |thread, _| {
                calls += 1;
                // By then the host has reported the end of the first process.
                assert_eq!(word_at(thread, DATA), 7);
                assert!(thread.space().mappings().unwrap().len() >= 3);
                assert_eq!(thread.space().peek(CODE, &mut [0; 2]), 2);
                if calls == 3 {
                    Next::Exit
                } else {
                    thread.regs_mut().rax = 7;
                    Next::Resume
                }
            }),
        );
        Next::Exit
    });
    platform.start(thread, first);
    platform.run().unwrap();
}

#[test]
fn a_running_thread_is_interrupted_from_another_host_thread() {
    let (platform, thread) = guest(&call_and_spin());
    let handle = thread.handle();
    let mut kicker = None;
    let spinning = owner(move |thread, trap| match trap {
        Trap::Syscall => {
            let handle = Arc::clone(&handle);
            kicker = Some(host_thread::spawn(move || handle.kick()));
            Next::Resume
        }
        Trap::Interrupted => {
            assert!((CODE + 5..=CODE + 7).contains(&thread.regs().rip));
            kicker.take().unwrap().join().unwrap();
            Next::Exit
        }
        other => panic!("{other:?}"),
    });
    platform.start(thread, spinning);
    platform.run().unwrap();
}

#[test]
fn a_parked_thread_is_woken() {
    let mut calls = 0;
    run(&call_and_spin(), move |thread, trap| {
        calls += 1;
        let handle = thread.handle();
        match calls {
            1 => {
                assert_eq!(trap, Trap::Syscall);
                // During the handler: takes effect afterwards.
                handle.kick();
                Next::Park
            }
            2 => {
                assert_eq!(trap, Trap::Woken);
                host_thread::spawn(move || handle.kick());
                Next::Park
            }
            3 => {
                assert_eq!(trap, Trap::Woken);
                handle.kick();
                Next::Resume
            }
            4 => {
                assert_eq!(trap, Trap::Interrupted);
                assert_eq!(thread.regs().rip, CODE + 7);
                Next::Exit
            }
            _ => panic!("called after its end"),
        }
    });
}

#[test]
fn every_kick_is_followed_by_a_call() {
    const KICKS: usize = 2000;
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let (platform, thread) = guest(&code(&[&mov_eax(39), SYSCALL, &[0xeb, 0xf7]]));
    let handle: Arc<dyn ThreadHandle> = thread.handle();
    let kicker = host_thread::spawn(move || {
        for round in 0..KICKS {
            handle.kick();
            while calls.load(Ordering::SeqCst) <= round {
                host_thread::yield_now();
            }
        }
    });
    let busy = owner(move |_, trap| {
        if trap != Trap::Syscall && counter.fetch_add(1, Ordering::SeqCst) + 1 == KICKS {
            return Next::Exit;
        }
        if counter.load(Ordering::SeqCst).is_multiple_of(3) {
            Next::Park
        } else {
            Next::Resume
        }
    });
    platform.start(thread, busy);
    platform.run().unwrap();
    kicker.join().unwrap();
}

pub(super) fn host_pid(thread: &dyn Thread) -> i32 {
    let any: &dyn std::any::Any = thread;
    any.downcast_ref::<super::super::thread::PtraceThread>()
        .unwrap()
        .host()
        .tracee
        .0
}

pub(super) fn kill(pid: i32, signal: i32) {
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::try_from(signal).unwrap(),
    )
    .unwrap();
}

#[test]
fn a_killed_thread_is_reported_whatever_it_does() {
    // While running, parked, and in the middle of its own handler.
    for how in [Next::Resume, Next::Park, Next::Step] {
        let mut calls = 0;
        run(&call_and_spin(), move |thread, trap| {
            calls += 1;
            if calls == 1 {
                kill(host_pid(thread), libc::SIGKILL);
                return how;
            }
            assert_eq!(trap, Trap::Died);
            assert_eq!(
                thread.memory(&[MemOp::Unmap {
                    addr: DATA,
                    len: 4096
                }]),
                Err(Errno::ESRCH)
            );
            assert_eq!(thread.xstate(), Err(Errno::ESRCH));
            assert!(thread.fork(ForkKind::Copy).is_err());
            thread.handle().kick();
            Next::Resume
        });
    }
    let mut calls = 0;
    run(&call_and_spin(), move |thread, trap| {
        calls += 1;
        if calls > 1 {
            assert_eq!(trap, Trap::Died);
            assert_eq!(thread.space().read(CODE, &mut [0; 1]), 0);
            assert_eq!(thread.space().mappings(), Err(Errno::ESRCH));
            return Next::Park;
        }
        kill(host_pid(thread), libc::SIGKILL);
        while thread
            .memory(&[MemOp::Unmap {
                addr: DATA,
                len: 4096,
            }])
            .is_ok()
        {}
        Next::Resume
    });
}

#[test]
fn a_killed_process_of_several_threads_is_reported_by_each() {
    let (platform, thread) = guest(&call_and_spin());
    let died = Arc::new(AtomicUsize::new(0));
    let plat = Arc::clone(&platform);
    let count = Arc::clone(&died);
    let leader = owner(move |thread, trap| {
        if trap == Trap::Died {
            count.fetch_add(1, Ordering::SeqCst);
            return Next::Resume;
        }
        for next in [Next::Resume, Next::Park, Next::Resume] {
            let count = Arc::clone(&count);
            let mut sibling = thread.fork(ForkKind::Thread).unwrap();
            sibling.regs_mut().rip = CODE;
            plat.start(
                sibling,
                owner(move |_, trap| {
                    if trap == Trap::Died {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    next
                }),
            );
        }
        kill(host_pid(thread), libc::SIGKILL);
        // The leader's end is held back by the host until the others are reaped.
        while thread
            .memory(&[MemOp::Unmap {
                addr: DATA,
                len: 4096,
            }])
            .is_ok()
        {}
        Next::Resume
    });
    platform.start(thread, leader);
    platform.run().unwrap();
    assert_eq!(died.load(Ordering::SeqCst), 4);
}

#[test]
fn foreign_signals_are_not_seen() {
    let mut calls = 0;
    run(&store_loop(), move |thread, trap| {
        assert_eq!(trap, Trap::Syscall);
        calls += 1;
        let signals = [
            libc::SIGSTOP,
            libc::SIGCONT,
            libc::SIGTERM,
            libc::SIGTRAP,
            libc::SIGSEGV,
            libc::SIGTSTP,
            libc::SIGCHLD,
        ];
        kill(host_pid(thread), signals[calls % signals.len()]);
        map(thread, AREA, 4096, Prot::READ).unwrap();
        if calls == 70 { Next::Exit } else { Next::Resume }
    });
}

const AREA: u64 = 0x4000_0000;

#[test]
fn threads_end_one_by_one_and_the_leader_first() {
    let (platform, thread) = guest(&store_loop());
    let plat = Arc::clone(&platform);
    let leader = owner(move |thread, _| {
        for id in 0..4u64 {
            let mut sibling = thread.fork(ForkKind::Thread).unwrap();
            sibling.regs_mut().rax = id;
            let mut calls = 0;
            plat.start(
                sibling,
                owner(move |thread, trap| {
                    assert_eq!(trap, Trap::Syscall);
                    map(thread, AREA, 4096, Prot::READ).unwrap();
                    calls += 1;
                    if calls > 5 * id { Next::Exit } else { Next::Resume }
                }),
            );
        }
        Next::Exit
    });
    platform.start(thread, leader);
    platform.run().unwrap();
}

#[test]
fn five_hundred_threads() {
    const THREADS: usize = 500;
    let (platform, thread) = guest(&store_loop());
    let plat = Arc::clone(&platform);
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let leader = owner(move |thread, _| {
        for _ in 0..THREADS {
            let count = Arc::clone(&count);
            let mut calls = 0;
            plat.start(
                thread.fork(ForkKind::Thread).unwrap(),
                owner(move |_, trap| {
                    assert_eq!(trap, Trap::Syscall);
                    calls += 1;
                    if calls < 10 {
                        return Next::Resume;
                    }
                    count.fetch_add(1, Ordering::SeqCst);
                    Next::Exit
                }),
            );
        }
        Next::Exit
    });
    platform.start(thread, leader);
    platform.run().unwrap();
    assert_eq!(ended.load(Ordering::SeqCst), THREADS);
}

#[test]
fn unstarted_threads_go_away_when_dropped() {
    run(&store_loop(), |thread, trap| {
        if trap == Trap::Died {
            return Next::Exit;
        }
        for kind in [ForkKind::Copy, ForkKind::Share, ForkKind::Thread] {
            drop(thread.fork(kind).unwrap());
        }
        let kept = thread.fork(ForkKind::Thread).unwrap();
        kill(host_pid(thread), libc::SIGKILL);
        drop(kept);
        Next::Resume
    });
}

#[test]
fn a_busy_guest_starves_nobody() {
    // One guest that traps without end, several that wait for their turn.
    let (platform, thread) = guest(&store_loop());
    let others = Arc::new(AtomicUsize::new(0));
    for _ in 0..3 {
        let others = Arc::clone(&others);
        let mut calls = 0;
        let slow = guest_in(&platform, &store_loop());
        platform.start(
            slow,
            owner(move |_, _| {
                calls += 1;
                if calls < 200 {
                    return Next::Resume;
                }
                others.fetch_add(1, Ordering::SeqCst);
                Next::Exit
            }),
        );
    }
    let busy = owner(move |_, _| {
        if others.load(Ordering::SeqCst) < 3 {
            Next::Resume
        } else {
            Next::Exit
        }
    });
    platform.start(thread, busy);
    platform.run().unwrap();
}

#[test]
fn stop_ends_everything_from_another_host_thread() {
    let (platform, thread) = guest(&call_and_spin());
    let plat = Arc::clone(&platform);
    let spinning = owner(move |_, trap| {
        assert_eq!(trap, Trap::Syscall);
        let plat = Arc::clone(&plat);
        host_thread::spawn(move || plat.stop());
        Next::Resume
    });
    platform.start(guest_in(&platform, SPIN), owner(|_, trap| panic!("{trap:?}")));
    platform.start(thread, spinning);
    platform.run().unwrap();
    no_children();
}

#[test]
fn a_thread_can_be_started_from_another_host_thread() {
    let (platform, thread) = guest(&call_and_spin());
    let second = Mutex::new(Some(guest_in(&platform, SYSCALL)));
    let plat = Arc::clone(&platform);
    let first = owner(move |thread, trap| match second.lock().unwrap().take() {
        Some(second) => {
            let (plat, first) = (Arc::clone(&plat), thread.handle());
            let ends = owner(move |_, trap| {
                assert_eq!(trap, Trap::Syscall);
                first.kick();
                Next::Exit
            });
            host_thread::spawn(move || plat.start(second, ends));
            Next::Park
        }
        None => {
            assert_eq!(trap, Trap::Woken);
            Next::Exit
        }
    });
    platform.start(thread, first);
    platform.run().unwrap();
    no_children();
}

#[test]
fn time_is_counted() {
    let mut calls = 0;
    run(&store_loop(), move |thread, _| {
        calls += 1;
        let (user, system) = thread.handle().cpu_time();
        if user + system == 0 || calls < 10 {
            Next::Resume
        } else {
            Next::Exit
        }
    });
}
