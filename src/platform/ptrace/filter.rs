//! A seccomp filter that every stub inherits.
//!
//! Under PTRACE_SYSEMU no guest syscall gets as far as a filter, with one exception: calls into the host's vsyscall page are
//! emulated by the host behind the tracer's back, but not behind a filter's. The filter turns those into SIGSYS, which
//! is reported as the syscall they stand for. Beside that it is a second line of defence: from the platform's page only the
//! calls that the platform makes get through, and from elsewhere none.

use zerocopy::{Immutable, IntoBytes};

use super::image;

/// `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Immutable, IntoBytes)]
pub(super) struct Instruction {
    code: u16,
    jump_true: u8,
    jump_false: u8,
    value: u32,
}

/// BPF_LD | BPF_W | BPF_ABS
const LOAD: u16 = 0x20;
/// BPF_JMP | BPF_JEQ | BPF_K
const JUMP_EQUAL: u16 = 0x15;
/// BPF_RET | BPF_K
const RETURN: u16 = 0x06;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const IP_LOW: u32 = 8;
const IP_HIGH: u32 = 12;

/// All calls that the platform has stubs make once they are set up.
const CALLS: [i64; 17] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_futex,
    libc::SYS_setrlimit,
    libc::SYS_clone,
    libc::SYS_exit,
    libc::SYS_prctl,
    libc::SYS_pause,
    libc::SYS_recvmsg,
    libc::SYS_close,
];

/// The program.
pub(super) fn program() -> Vec<Instruction> {
    // The host shows the address behind the instruction.
    let ip = image::SYSCALL + image::SYSCALL_LEN;
    let checks = [
        (ARCH, AUDIT_ARCH_X86_64),
        (IP_HIGH, (ip >> 32) as u32),
        (IP_LOW, ip as u32),
    ];
    let mut out = Vec::new();
    for (offset, value) in checks {
        out.push(load(offset));
        out.push(jump_over_next_if_equal(value));
        out.push(give(libc::SECCOMP_RET_TRAP));
    }
    out.push(load(NUMBER));
    for (i, number) in CALLS.iter().enumerate() {
        out.push(Instruction {
            code: JUMP_EQUAL,
            // To the end, over the other comparisons and the refusal.
            jump_true: (CALLS.len() - i) as u8,
            jump_false: 0,
            value: *number as u32,
        });
    }
    out.push(give(libc::SECCOMP_RET_KILL_PROCESS));
    out.push(give(libc::SECCOMP_RET_ALLOW));
    out
}

fn load(offset: u32) -> Instruction {
    Instruction {
        code: LOAD,
        jump_true: 0,
        jump_false: 0,
        value: offset,
    }
}

fn jump_over_next_if_equal(value: u32) -> Instruction {
    Instruction {
        code: JUMP_EQUAL,
        jump_true: 1,
        jump_false: 0,
        value,
    }
}

fn give(action: u32) -> Instruction {
    Instruction {
        code: RETURN,
        jump_true: 0,
        jump_false: 0,
        value: action,
    }
}
