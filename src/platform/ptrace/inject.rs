//! Host calls made by a stopped tracee on the supervisor's behalf.
//!
//! The only host syscall instruction that ever runs in a stub is the one in the platform's page: it is entered with
//! registers set here, in a page that no guest operation can change, and everything it needs is in registers. Threads
//! that share the address space may run meanwhile, so no call made this way in a guest's stub may take its arguments from guest
//! memory or have its answer trusted there.

use nix::errno::Errno;

use super::image;
use super::tracee::{Go, Status, Tracee};
use crate::platform::Regs;

/// User code segment of 64-bit programs.
pub(super) const USER_CS: u64 = 0x33;
/// User code segment of 32-bit programs, which a guest can jump to by itself.
pub(super) const USER32_CS: u64 = 0x23;
/// User stack and data segment.
pub(super) const USER_DS: u64 = 0x2b;

/// Flags of clone(2) for a process with a copy of its maker's memory. CLONE_PTRACE: it is traced, with our options, from
/// its first instant. CLONE_PARENT: it is our child, so that no guest has to reap it. CLONE_FILES: see [`super::zygote`].
pub(super) const CLONE_COPY: u64 =
    (libc::CLONE_PTRACE | libc::CLONE_PARENT | libc::CLONE_FILES | libc::CLONE_FS) as u64;

/// Only the reserved bit and the interrupt flag.
const CLEAN_FLAGS: u64 = 0x202;

/// Let `tracee`, which is stopped, make one host call at the syscall instruction at `at`. Gives the result and leaves
/// it stopped with the registers returned second. ESRCH when it died.
pub(super) fn call(
    tracee: Tracee,
    wait: &dyn Fn() -> Status,
    at: u64,
    number: i64,
    args: [u64; 6],
) -> Result<(Result<u64, Errno>, Regs), Errno> {
    tracee.set_general(&call_regs(at, number, args))?;
    loop {
        tracee.go(Go::Host)?;
        let status = wait();
        match status {
            Status::Gone => return Err(Errno::ESRCH),
            // The trap instruction behind the call, or a fault there when the call moved the page away.
            Status::Signal(libc::SIGTRAP | libc::SIGSEGV) => {
                let regs = tracee.regs()?;
                let moved = status == Status::Signal(libc::SIGSEGV) && regs.rip == at + image::SYSCALL_LEN;
                if regs.rip == at + image::CALL_LEN || moved {
                    return Ok((decode(regs.rax), regs));
                }
            }
            // A signal from outside, a late interrupt: swallowed. The host goes on with, or restarts, the call.
            _ => {}
        }
    }
}

/// Set `tracee` up to make one host call that does not return, and let it run.
pub(super) fn call_last(tracee: Tracee, number: i64, args: [u64; 6]) -> Result<(), Errno> {
    tracee.set_general(&call_regs(image::SYSCALL, number, args))?;
    tracee.go(Go::Host)
}

fn call_regs(at: u64, number: i64, args: [u64; 6]) -> Regs {
    Regs {
        rax: number as u64,
        rdi: args[0],
        rsi: args[1],
        rdx: args[2],
        r10: args[3],
        r8: args[4],
        r9: args[5],
        rip: at,
        cs: USER_CS,
        ss: USER_DS,
        eflags: CLEAN_FLAGS,
        // Not inside a syscall: the host must not restart anything.
        orig_rax: u64::MAX,
        ..Regs::default()
    }
}

fn decode(rax: u64) -> Result<u64, Errno> {
    let signed = rax as i64;
    if (-4095..0).contains(&signed) {
        Err(Errno::from_raw(-signed as i32))
    } else {
        Ok(rax)
    }
}
