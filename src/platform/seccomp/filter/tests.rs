//! The program run by an interpreter over calls, addresses and hostile arguments; and by the host.

use proptest::prelude::*;

use super::*;
use crate::platform::bpf::interpreter::{Data, run};
use crate::platform::bpf::{MAX_LEN, listing};

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const TRAP: u32 = libc::SECCOMP_RET_TRAP;
const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

const TEXT: Range<u64> = 0x7fff_0000_0000..0x7fff_0000_4321;
const X32: u32 = 0x4000_0000;

fn call(number: u32, args: [u64; 6]) -> Data {
    Data {
        number,
        arch: ARCH_X86_64,
        ip: TEXT.start + 0x100,
        args,
    }
}

/// What the filter is to decide about a call from the runtime's text, said once more in other words.
fn wanted(number: u32, args: [u64; 6]) -> u32 {
    let cut = |n: usize| args[n] as u32;
    let allowed = match i64::from(number) {
        libc::SYS_munmap | libc::SYS_mprotect | libc::SYS_mremap | libc::SYS_msync | libc::SYS_mincore => {
            true
        }
        libc::SYS_mlock | libc::SYS_mlock2 | libc::SYS_munlock => true,
        libc::SYS_rt_sigreturn | libc::SYS_sigaltstack | libc::SYS_restart_syscall => true,
        libc::SYS_sched_yield
        | libc::SYS_close
        | libc::SYS_close_range
        | libc::SYS_exit
        | libc::SYS_exit_group => true,
        libc::SYS_mmap => args[3] & 0x4_0000 == 0 && matches!(cut(4), 5 | 7 | u32::MAX),
        libc::SYS_madvise => cut(2) < 100 || cut(2) == 102 || cut(2) == 103,
        libc::SYS_futex => matches!(cut(1) & !0x180, 0 | 1 | 9 | 10) || matches!(cut(1), 131..=133),
        libc::SYS_clock_gettime => cut(0) == 1,
        libc::SYS_pread64 => (32..512).contains(&cut(0)),
        libc::SYS_pwrite64 => {
            let place = (512..624).contains(&cut(0)).then(|| (cut(0) - 512) / 16);
            place.is_some_and(|place| args[2] <= 1 << 20 && args[3] < 1 << (18 + 2 * place))
        }
        libc::SYS_read | libc::SYS_write => (16..32).contains(&cut(0)),
        libc::SYS_sendmsg => cut(0) == 3,
        libc::SYS_prctl => (cut(0) == 1 && args[1] == 9) || cut(0) == 26,
        libc::SYS_membarrier => [0, 8, 16, 32, 64].contains(&cut(0)),
        libc::SYS_clone => return if cut(0) & 0x7e02_3000 == 0 { NOTIFY } else { KILL },
        libc::SYS_getppid => return NOTIFY,
        _ => false,
    };
    if allowed { ALLOW } else { KILL }
}

/// Values on both sides of every bound of the rules, with and without upper halves.
fn argument() -> impl Strategy<Value = u64> {
    let low = prop_oneof![
        0u64..140,
        Just(15),
        Just(16),
        31u64..33,
        510u64..514,
        4094u64..4098,
        520u64..632,
        (1u64 << 20) - 1..(1 << 20) + 2,
        Just(0x180),
        Just(0x189),
        Just(0x4_0022),
        (0u32..32).prop_map(|bit| 1 << bit),
        any::<u32>().prop_map(u64::from),
    ];
    let high = prop_oneof![3 => Just(0), 1 => (0u32..32).prop_map(|bit| 1u64 << bit), 1 => Just(0xffff_ffff)];
    (low, high).prop_map(|(low, high)| low | high << 32)
}

fn any_call() -> impl Strategy<Value = (u32, [u64; 6])> {
    let calls: Vec<u32> = entries(Io::Enlightened)
        .iter()
        .map(|entry| entry.row.nr)
        .collect();
    let number = prop_oneof![
        6 => proptest::sample::select(calls),
        1 => 0u32..1100,
        1 => any::<u32>(),
    ];
    (number, [(); 6].map(|()| argument()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn hostile_arguments((number, args) in any_call()) {
        let program = program(TEXT, Io::Enlightened);
        let (decision, _) = run(&program, &call(number, args));
        prop_assert_eq!(decision, wanted(number, args));
    }

    #[test]
    fn from_elsewhere_everything_traps((number, args) in any_call(), ip in any::<u64>(), flip in 14u32..64) {
        let program = program(TEXT, Io::Enlightened);
        for ip in [ip, (TEXT.start + 0x100) ^ (1 << flip), TEXT.end + 1, TEXT.start, TEXT.start + 1] {
            if (TEXT.start + 2..=TEXT.end).contains(&ip) {
                continue;
            }
            let (decision, _) = run(&program, &Data { ip, ..call(number, args) });
            prop_assert_eq!(decision, TRAP, "{:#x}", ip);
        }
        for arch in [0x4000_0003, 0, !ARCH_X86_64] {
            let (decision, _) = run(&program, &Data { arch, ..call(number, args) });
            prop_assert_eq!(decision, TRAP, "{:#x}", arch);
        }
    }
}

#[test]
fn every_number() {
    let program = program(TEXT, Io::Enlightened);
    for number in (0..2000).chain([u32::MAX, i32::MAX as u32, 0x8000_0000]) {
        for args in [[0; 6], [u64::MAX; 6], [20; 6], [600; 6], [1 << 32; 6]] {
            let decide = |number, ip| {
                let data = Data {
                    ip,
                    ..call(number, args)
                };
                run(&program, &data).0
            };
            for ip in [TEXT.start + 2, TEXT.start + 0x100, TEXT.end] {
                assert_eq!(decide(number, ip), wanted(number, args), "{number} {args:x?}");
                assert_eq!(decide(number | X32, ip), KILL, "x32 {number} {args:x?}");
            }
            for ip in [
                0,
                2,
                0x40_0000,
                TEXT.start,
                TEXT.end + 1,
                TEXT.start | 1 << 63,
                u64::MAX,
            ] {
                assert_eq!(decide(number, ip), TRAP, "{number} at {ip:x}");
                assert_eq!(decide(number | X32, ip), TRAP, "x32 {number} at {ip:x}");
            }
        }
    }
}

#[test]
fn mediated_no_call_takes_a_file() {
    let program = program(TEXT, Io::Mediated);
    for number in 0..500 {
        for fd in [16, 100, 511, 512] {
            let (decision, _) = run(&program, &call(number, [fd; 6]));
            let takes = matches!(
                i64::from(number),
                libc::SYS_read | libc::SYS_pread64 | libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_mmap
            );
            assert!(!takes || decision == KILL, "{number} {fd}");
        }
    }
}

#[test]
fn rows_and_rules_belong_together() {
    for row in syscall_table::rows() {
        let ruled = RULES.iter().any(|(number, _)| *number == i64::from(row.nr));
        let wants = matches!(row.host, Host::Checked | Host::Asked);
        assert_eq!(ruled, wants, "{}", row.name);
        if row.answered == syscall_table::Answered::Native {
            assert_ne!(row.host, Host::Never, "{} is answered by the host", row.name);
        }
    }
    let listed = |number: &i64| {
        entries(Io::Enlightened)
            .iter()
            .any(|entry| i64::from(entry.row.nr) == *number)
    };
    assert!(FREQUENT.iter().all(listed));
}

#[test]
fn frequent_calls_have_short_paths() {
    let program = program(TEXT, Io::Enlightened);
    assert!(
        program.len() < 256 && program.len() <= MAX_LEN,
        "{}",
        program.len()
    );
    let steps = |number: i64, args| {
        let (decision, steps) = run(&program, &call(number as u32, args));
        assert_eq!(decision, ALLOW, "{number}");
        steps
    };
    // Nine instructions come before the first call's.
    assert!(steps(libc::SYS_futex, [0, 128, 0, 0, 0, 0]) <= 14);
    assert!(steps(libc::SYS_pread64, [40; 6]) <= 15);
    assert!(steps(libc::SYS_read, [20; 6]) <= 16);
    assert!(steps(libc::SYS_write, [20; 6]) <= 17);
    assert!(steps(libc::SYS_mmap, [0, 0, 0, 0, u64::MAX, 0]) <= 24);
    assert!(steps(libc::SYS_munmap, [0; 6]) <= 20);
}

#[test]
fn conditions_are_told_with_the_names_of_arguments() {
    let entries = entries(Io::Enlightened);
    let told = |name: &str| {
        let entry = entries.iter().find(|entry| entry.row.name == name);
        entry.map(Entry::conditions).unwrap_or_default()
    };
    assert_eq!(told("pread64"), ["fd is 32 to 511"]);
    assert_eq!(told("pwrite64").len(), 7);
    assert_eq!(told("read"), ["fd is 16 to 31"]);
    assert_eq!(told("write"), ["fd is 16 to 31"]);
    assert_eq!(
        told("futex"),
        [
            "futex_op without 0x180 is one of 0 1 9 10",
            "futex_op is one of 131 132 133"
        ]
    );
    assert_eq!(
        told("prctl"),
        ["option is 1, arg2 is 9, arg2 >> 32 is 0", "option is 26"]
    );
    assert!(told("munmap").is_empty());
    assert!(listing(&program(TEXT, Io::Enlightened)).all(|line| !line.contains('?')));
}

/// The host itself, asked by children that install the filter and make one call each.
mod installed {
    use super::*;
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    use zerocopy::IntoBytes;

    /// Where the children have `syscall; ret` at its first byte.
    const PAGE: u64 = 0x7000_0000_0000;
    const TEXT: Range<u64> = PAGE..PAGE + 4096;

    type HostCall = extern "C" fn(u64, u64, u64, u64, u64, u64, u64) -> i64;

    /// The status with which a child ends that was told of a trap.
    const TRAPPED: i32 = 77;

    #[derive(Debug, PartialEq, Eq)]
    enum End {
        /// The call was made, and returned this, cut to what an exit status holds.
        Returned(i32),
        Trapped,
        Killed,
    }

    /// What becomes of a child that makes this call from the runtime's text, or from elsewhere, under the filter.
    fn end_of(own: bool, number: i64, args: [u64; 6]) -> End {
        let program = program(TEXT, Io::Enlightened);
        // SAFETY: the child only makes host calls on memory that it has, then ends.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => child(&program, own, number, args),
            ForkResult::Parent { child } => match waitpid(child, None).expect("wait") {
                WaitStatus::Exited(_, TRAPPED) => End::Trapped,
                WaitStatus::Exited(_, status) => End::Returned(status),
                WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGSYS, _) => End::Killed,
                other => panic!("{other:?}"),
            },
        }
    }

    fn child(program: &[Instruction], own: bool, number: i64, args: [u64; 6]) -> ! {
        let header = (program.len() as u64, program.as_bytes().as_ptr() as u64);
        // SAFETY: the page is new and holds code that does what its type says; the program outlives the call.
        unsafe {
            let page = libc::mmap(
                PAGE as *mut libc::c_void,
                4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            );
            if page as u64 != PAGE {
                libc::_exit(70);
            }
            // mov rax,rdi; rdi,rsi; rsi,rdx; rdx,rcx; r10,r8; r8,r9; r9,[rsp+8]; syscall; ret
            let code = b"\x48\x89\xf8\x48\x89\xf7\x48\x89\xd6\x48\x89\xca\x4d\x89\xc2\x4d\x89\xc8\x4c\x8b\x4c\x24\x08\x0f\x05\xc3";
            std::ptr::copy_nonoverlapping(code.as_ptr(), page.cast(), code.len());
            if libc::mprotect(page, 4096, libc::PROT_READ | libc::PROT_EXEC) != 0 {
                libc::_exit(71);
            }
            let host: HostCall = std::mem::transmute(page);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = trapped as *const () as usize;
            libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut());
            libc::setrlimit(
                libc::RLIMIT_CORE,
                &libc::rlimit {
                    rlim_cur: 0,
                    rlim_max: 0,
                },
            );
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            let mode = libc::SECCOMP_SET_MODE_FILTER;
            if libc::syscall(libc::SYS_seccomp, mode, 0, &raw const header) != 0 {
                libc::_exit(72);
            }
            let [a, b, c, d, e, f] = args;
            let result = if own {
                host(number as u64, a, b, c, d, e, f)
            } else {
                libc::syscall(number, a, b, c, d, e, f)
            };
            host(libc::SYS_exit_group as u64, result as u64 & 63, 0, 0, 0, 0, 0);
        }
        loop {
            std::hint::spin_loop();
        }
    }

    extern "C" fn trapped(_: i32) {
        // SAFETY: the page was filled before this handler was installed.
        let host: HostCall = unsafe { std::mem::transmute(PAGE) };
        host(libc::SYS_exit_group as u64, TRAPPED as u64, 0, 0, 0, 0, 0);
    }

    #[test]
    fn the_host_decides_as_the_interpreter_does() {
        assert_eq!(end_of(true, libc::SYS_sched_yield, [0; 6]), End::Returned(0));
        assert_eq!(
            end_of(true, libc::SYS_munmap, [1, 0, 0, 0, 0, 0]),
            End::Returned(-libc::EINVAL & 63)
        );
        assert_eq!(end_of(false, libc::SYS_sched_yield, [0; 6]), End::Trapped);
        assert_eq!(end_of(true, libc::SYS_getpid, [0; 6]), End::Killed);
        assert_eq!(end_of(false, libc::SYS_getpid, [0; 6]), End::Trapped);
        let x32 = i64::from(X32);
        assert_eq!(end_of(true, libc::SYS_sched_yield | x32, [0; 6]), End::Killed);
        assert_eq!(end_of(false, libc::SYS_sched_yield | x32, [0; 6]), End::Trapped);
        // A descriptor that no test beside this one has, by its lower half and with bits above it.
        assert_eq!(
            end_of(true, libc::SYS_pread64, [500; 6]),
            End::Returned(-libc::EBADF & 63)
        );
        assert_eq!(
            end_of(true, libc::SYS_pread64, [500 | 1 << 40; 6]),
            End::Returned(-libc::EBADF & 63)
        );
        assert_eq!(end_of(true, libc::SYS_pread64, [0; 6]), End::Killed);
        // So much and so far is let through with this number, and no more.
        let pwrite = |len, at| end_of(true, libc::SYS_pwrite64, [520, 0, len, at, 0, 0]);
        assert_eq!(pwrite(1 << 20, (1 << 18) - 1), End::Returned(-libc::EBADF & 63));
        assert_eq!(pwrite(1, 1 << 18), End::Killed);
        assert_eq!(pwrite(1, 1 << 32), End::Killed);
        assert_eq!(pwrite(1 + (1 << 20), 0), End::Killed);
        assert_eq!(pwrite(1 << 32, 0), End::Killed);
        // Whatever else acts on a descriptor that was handed in.
        for number in [
            libc::SYS_read,
            libc::SYS_readv,
            libc::SYS_preadv,
            libc::SYS_lseek,
            libc::SYS_write,
            libc::SYS_pwrite64,
            libc::SYS_ftruncate,
            libc::SYS_fcntl,
            libc::SYS_ioctl,
            libc::SYS_dup,
        ] {
            assert_eq!(end_of(true, number, [500; 6]), End::Killed, "{number}");
        }
        assert_eq!(end_of(true, libc::SYS_mmap, [0, 4096, 1, 2, 500, 0]), End::Killed);
        assert_eq!(
            end_of(true, libc::SYS_prctl, [1, 9, 0, 0, 0, 0]),
            End::Returned(0)
        );
        assert_eq!(end_of(true, libc::SYS_prctl, [1, 0, 0, 0, 0, 0]), End::Killed);
        // Nobody listens: the host says that there is no such call.
        assert_eq!(
            end_of(true, libc::SYS_clone, [17, 0, 0, 0, 0, 0]),
            End::Returned(-libc::ENOSYS & 63)
        );
        assert_eq!(
            end_of(true, NR_HELLO as i64, [0; 6]),
            End::Returned(-libc::ENOSYS & 63)
        );
        let user_namespace = libc::CLONE_NEWUSER as u64 | 17;
        assert_eq!(
            end_of(true, libc::SYS_clone, [user_namespace, 0, 0, 0, 0, 0]),
            End::Killed
        );
    }
}
