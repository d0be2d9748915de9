//! A seccomp filter that every stub inherits.
//!
//! Under PTRACE_SYSEMU no guest syscall gets as far as a filter, with one exception: calls into the host's vsyscall page are
//! emulated by the host behind the tracer's back, but not behind a filter's. The filter turns those into SIGSYS, which
//! is reported as the syscall they stand for. Beside that it is a second line of defence: from the platform's page only the
//! calls that the platform makes get through, and from elsewhere none.

use super::image;
use crate::platform::bpf::{ARCH_X86_64, Field, Instruction, Test, give, if_all, if_equal, load, skip};

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
    let own = [
        Test::Is(Field::Arch, ARCH_X86_64),
        Test::Is(Field::IpHigh, (ip >> 32) as u32),
        Test::Is(Field::IpLow, ip as u32),
    ];
    let mut program = if_all(&own, &[skip(1)]);
    program.push(give(libc::SECCOMP_RET_TRAP));
    program.push(load(Field::Number));
    let allowed = [give(libc::SECCOMP_RET_ALLOW)];
    program.extend(CALLS.iter().flat_map(|number| if_equal(*number as u32, &allowed)));
    program.push(give(libc::SECCOMP_RET_KILL_PROCESS));
    program
}
