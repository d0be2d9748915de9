//! What things cost; printed, not judged. `cargo test --release -p uvm --lib ptrace -- --ignored --nocapture`

use std::time::Instant;

use super::*;
use crate::platform::ForkKind;

/// `getpid` for ever.
fn call_loop() -> Vec<u8> {
    code(&[&mov_eax(39), SYSCALL, &[0xeb, 0xf7]])
}

fn print_each(what: &str, rounds: u32, begin: Instant) {
    println!("{what}: {} ns", begin.elapsed().as_nanos() / u128::from(rounds));
}

#[test]
#[ignore = "prints costs"]
fn cost_of_a_trap() {
    const ROUNDS: u32 = 100_000;
    let mut calls = 0;
    let mut begin = Instant::now();
    run(&call_loop(), move |thread, _| {
        calls += 1;
        thread.regs_mut().rax = 1;
        if calls == 1000 {
            begin = Instant::now();
        }
        if calls == 1000 + ROUNDS {
            print_each("trap and resume", ROUNDS, begin);
            return Next::Exit;
        }
        Next::Resume
    });
}

#[test]
#[ignore = "prints costs"]
fn cost_of_operations() {
    const ROUNDS: u32 = 2000;
    run(&call_loop(), |thread, _| {
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            map(thread, 0x4000_0000, 4096, Prot::READ).unwrap();
        }
        print_each("mmap", ROUNDS, begin);
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            thread.space().read(DATA, &mut [0; 100]);
        }
        print_each("read of 100 bytes", ROUNDS, begin);
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            thread.space().mappings().unwrap();
        }
        print_each("mappings", ROUNDS, begin);
        for kind in [ForkKind::Copy, ForkKind::Share, ForkKind::Thread] {
            let begin = Instant::now();
            for _ in 0..100 {
                drop(thread.fork(kind).unwrap());
            }
            print_each(&format!("fork {kind:?}"), 100, begin);
        }
        Next::Exit
    });
    let begin = Instant::now();
    let platform = PtracePlatform::new(false).unwrap();
    drop(platform.spawn().unwrap());
    print_each("platform and first spawn", 1, begin);
    let begin = Instant::now();
    for _ in 0..100 {
        drop(platform.spawn().unwrap());
    }
    print_each("spawn", 100, begin);
    platform.run().unwrap();
}
