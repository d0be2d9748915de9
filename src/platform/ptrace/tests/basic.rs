//! Traps, registers and extended state of one thread.

use super::*;
use crate::platform::Fault;

#[test]
fn a_syscall_traps_and_its_result_arrives() {
    // Twice: the second call's number is the first one's result.
    let mut seen = 0;
    run(&code(&[&mov_eax(39), SYSCALL, SYSCALL]), move |thread, trap| {
        assert_eq!(trap, Trap::Syscall);
        let regs = *thread.regs();
        seen += 1;
        match seen {
            1 => {
                assert_eq!((regs.orig_rax, regs.rip), (39, CODE + 7));
                assert_eq!((regs.rcx, regs.r11), (regs.rip, regs.eflags));
                thread.regs_mut().rax = 1234;
                Next::Resume
            }
            _ => {
                assert_eq!((regs.orig_rax, regs.rip), (1234, CODE + 9));
                Next::Exit
            }
        }
    });
}

#[test]
fn nothing_but_the_platform_page_is_mapped_at_first() {
    let platform = PtracePlatform::new(false).unwrap();
    let thread = platform.spawn().unwrap();
    assert_eq!(thread.space().mappings().unwrap(), []);
    drop(thread);
    platform.run().unwrap();
}

fn first_trap(code: &[u8]) -> (Trap, crate::platform::Regs) {
    let got = Arc::new(Mutex::new(None));
    let out = Arc::clone(&got);
    run(code, move |thread, trap| {
        *out.lock().unwrap() = Some((trap, *thread.regs()));
        Next::Exit
    });
    got.lock().unwrap().take().unwrap()
}

fn first_fault(code: &[u8]) -> Fault {
    match first_trap(code).0 {
        Trap::Fault(fault) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn exceptions_are_reported_as_linux_does() {
    // mov 0x1000, %eax
    let fault = first_fault(&[0x8b, 0x04, 0x25, 0, 0x10, 0, 0]);
    assert_eq!(
        (fault.signal, fault.code, fault.addr, fault.trapno),
        (libc::SIGSEGV, 1, 0x1000, 14)
    );
    // movabs %eax, USER_END: that page is readable only
    let fault = first_fault(&code(&[&[0xa3], &crate::platform::USER_END.to_le_bytes()]));
    assert_eq!(
        (fault.signal, fault.code, fault.addr),
        (libc::SIGSEGV, 2, crate::platform::USER_END)
    );
    // The error codes: user, present, write.
    assert_eq!(fault.error, 7);
    // mov (%rax), %eax with rax = 0; add %eax, 0x2000; movsb from null to DATA; jmp to null
    assert_eq!(first_fault(&[0x8b, 0x00]).error, 4);
    assert_eq!(first_fault(&[0x01, 0x04, 0x25, 0, 0x20, 0, 0]).error, 6);
    assert_eq!(first_fault(&[0xbf, 0, 0, 0x20, 0, 0xa4]).error, 4);
    assert_eq!(first_fault(&[0xbe, 0, 0, 0x20, 0, 0xa4]).error, 6);
    assert_eq!(first_fault(&[0xff, 0xe0]).error, 0x14);
    // hlt
    let fault = first_fault(&[0xf4]);
    assert_eq!(
        (fault.signal, fault.code, fault.addr, fault.trapno),
        (libc::SIGSEGV, 0x80, 0, 13)
    );
    // ud2
    let fault = first_fault(&[0x0f, 0x0b]);
    assert_eq!(
        (fault.signal, fault.code, fault.addr, fault.trapno),
        (libc::SIGILL, 2, CODE, 6)
    );
    // xor %ecx, %ecx; div %ecx
    let fault = first_fault(&[0x31, 0xc9, 0xf7, 0xf1]);
    assert_eq!(
        (fault.signal, fault.code, fault.addr, fault.trapno),
        (libc::SIGFPE, 1, CODE + 2, 0)
    );
    // int3
    let (trap, regs) = first_trap(&[0xcc]);
    assert!(matches!(trap, Trap::Fault(f) if f.signal == libc::SIGTRAP && f.code == 0x80 && f.trapno == 3));
    assert_eq!(regs.rip, CODE + 1);
}

#[test]
fn foreign_syscalls_are_told_apart() {
    assert_eq!(
        first_trap(&code(&[&mov_eax(20), &[0xcd, 0x80]])).0,
        Trap::ForeignSyscall
    );
    assert_eq!(first_trap(&code(&[&mov_eax(20), SYSCALL])).0, Trap::Syscall);
}

#[test]
fn jumping_into_the_platform_page_is_an_ordinary_syscall() {
    // movabs $SYSCALL, %rbx; jmp *%rbx
    let mut jump = vec![0x48, 0xbb];
    jump.extend_from_slice(&super::super::image::SYSCALL.to_le_bytes());
    jump.extend_from_slice(&[0xff, 0xe3]);
    let (trap, regs) = first_trap(&code(&[&mov_eax(60), &jump]));
    assert_eq!((trap, regs.orig_rax), (Trap::Syscall, 60));
}

#[test]
fn stepping_runs_one_instruction() {
    let mut steps = 0;
    // nop; nop; syscall
    let (platform, thread) = guest(&code(&[&mov_eax(39), &[0x90, 0x90], SYSCALL, &[0x90]]));
    thread.handle().kick();
    let owner = owner(move |thread, trap| {
        steps += 1;
        let offset = thread.regs().rip - CODE;
        let stepped =
            matches!(trap, Trap::Fault(f) if f.signal == libc::SIGTRAP && f.code == 2 && f.trapno == 1);
        match steps {
            1 => {
                assert_eq!((trap, offset), (Trap::Interrupted, 0));
                Next::Step
            }
            2..=4 => {
                assert!(stepped, "{trap:?}");
                assert_eq!(offset, [5, 6, 7][steps - 2]);
                assert_eq!(thread.regs().eflags & 0x100, 0);
                Next::Step
            }
            5 => {
                assert_eq!((trap, offset), (Trap::Syscall, 9));
                assert_eq!(thread.regs().r11, thread.regs().eflags);
                Next::Step
            }
            6 => {
                assert!(stepped, "{trap:?}");
                assert_eq!(offset, 10);
                Next::Resume
            }
            _ => Next::Exit,
        }
    });
    platform.start(thread, owner);
    platform.run().unwrap();
}

/// Offset of xmm0 in an XSAVE image.
const XMM0: usize = 160;

#[test]
fn vector_registers_survive_traps_and_injected_calls() {
    // movabs $0x1122334455667788, %rcx; movq %rcx, %xmm0
    let load = [
        0x48, 0xb9, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x66, 0x48, 0x0f, 0x6e, 0xc1,
    ];
    // movq %xmm0, %rdi
    let store = [0x66, 0x48, 0x0f, 0x7e, 0xc7];
    let mut calls = 0;
    run(
        &code(&[&load, &mov_eax(39), SYSCALL, &store, SYSCALL]),
        move |thread, _| {
            calls += 1;
            if calls == 1 {
                map(thread, 0x4000_0000, 4096, Prot::READ).unwrap();
                let mut image = thread.xstate().unwrap();
                assert_eq!(image[XMM0..XMM0 + 8], 0x1122_3344_5566_7788u64.to_le_bytes());
                image[XMM0] = 0x99;
                thread.set_xstate(&image).unwrap();
                map(thread, 0x4000_0000, 4096, Prot::READ).unwrap();
                let child = thread.fork(crate::platform::ForkKind::Copy);
                assert_eq!(child.unwrap().xstate().unwrap()[XMM0], 0x99);
                return Next::Resume;
            }
            assert_eq!(thread.regs().rdi, 0x1122_3344_5566_7799);
            Next::Exit
        },
    );
}

#[test]
fn bad_extended_state_is_refused() {
    run(SYSCALL, |thread, _| {
        let good = thread.xstate().unwrap();
        assert_eq!(thread.set_xstate(&[]), Err(Errno::EINVAL));
        assert_eq!(thread.set_xstate(&vec![0; good.len() + 64]), Err(Errno::EINVAL));
        // Reserved mxcsr bits, an unknown feature, a reserved header byte.
        for (at, value) in [(27, 0xff), (519, 0x40), (530, 1)] {
            let mut image = good.clone();
            image[512] |= 3;
            image[at] = value;
            assert_eq!(thread.set_xstate(&image), Err(Errno::EINVAL), "byte {at}");
        }
        thread
            .set_xstate(&good[..576])
            .unwrap_or_else(|e| assert_eq!(e, Errno::EINVAL));
        thread.set_xstate(&good).unwrap();
        assert_eq!(thread.xstate().unwrap(), good);
        Next::Exit
    });
}

#[test]
fn hostile_registers_fault_the_guest_only() {
    let mut calls = 0;
    run(SYSCALL, move |thread, trap| {
        calls += 1;
        let regs = thread.regs_mut();
        match calls {
            1 => {
                *regs = crate::platform::Regs {
                    rip: 0xdead_0000_0000_0000,
                    rsp: u64::MAX / 3,
                    cs: 0,
                    ss: 0xffff,
                    ds: 0x10,
                    fs: u64::MAX,
                    gs: 7,
                    fs_base: u64::MAX,
                    gs_base: 1 << 63,
                    // All but the trap flag.
                    eflags: !0x100,
                    ..crate::platform::Regs::default()
                };
                Next::Resume
            }
            2 => {
                assert!(
                    matches!(trap, Trap::Fault(f) if f.signal == libc::SIGSEGV),
                    "{trap:?}"
                );
                assert_eq!(regs.cs, 0x33);
                regs.rip = u64::MAX - 10;
                Next::Resume
            }
            3 => {
                assert!(
                    matches!(trap, Trap::Fault(f) if f.signal == libc::SIGSEGV),
                    "{trap:?}"
                );
                regs.rip = CODE;
                Next::Resume
            }
            _ => {
                assert_eq!(trap, Trap::Syscall);
                Next::Exit
            }
        }
    });
}

#[test]
fn a_segment_base_loaded_by_the_guest_does_no_harm() {
    // movabs $0xffff800000000000, %rcx; wrfsbase %rcx; twice syscall
    let load = [
        0x48, 0xb9, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff, 0xf3, 0x48, 0x0f, 0xae, 0xd1,
    ];
    let mut calls = 0;
    run(&code(&[&load, SYSCALL, SYSCALL]), move |thread, trap| {
        if trap != Trap::Syscall {
            println!("no wrfsbase here: {trap:?}");
            return Next::Exit;
        }
        calls += 1;
        map(thread, 0x4000_0000, 4096, Prot::READ).unwrap();
        match calls {
            1 => {
                thread.regs_mut().gs_base = 0x5000;
                Next::Resume
            }
            _ => {
                assert_eq!(thread.regs().fs_base, 0xffff_8000_0000_0000);
                assert_eq!(thread.regs().gs_base, 0x5000);
                Next::Exit
            }
        }
    });
}

#[test]
fn the_trap_flag_of_the_guest_itself() {
    // pushf; orl $0x100, (%rsp); popf; nop
    let mut calls = 0;
    run(
        &code(&[
            &[0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90, 0x90],
            &mov_eax(39),
            SYSCALL,
        ]),
        move |thread, trap| {
            calls += 1;
            assert!(
                matches!(trap, Trap::Fault(f) if f.signal == libc::SIGTRAP && f.code == 2),
                "{trap:?}"
            );
            assert_eq!(
                (thread.regs().rip, thread.regs().eflags & 0x100),
                (CODE + 9 + calls, 0x100)
            );
            if calls == 1 { Next::Resume } else { Next::Exit }
        },
    );
}

#[test]
fn time_stamp_reads_can_be_trapped() {
    // rdtsc; syscall
    let mut calls = 0;
    run(&code(&[SYSCALL, &[0x0f, 0x31], SYSCALL]), move |thread, trap| {
        calls += 1;
        match calls {
            1 => {
                thread.trap_tsc(true).unwrap();
                Next::Resume
            }
            2 => {
                assert!(matches!(trap, Trap::Fault(f) if f.signal == libc::SIGSEGV && f.code == 0x80));
                thread.trap_tsc(false).unwrap();
                Next::Resume
            }
            _ => {
                assert_eq!(trap, Trap::Syscall);
                Next::Exit
            }
        }
    });
}

#[test]
fn affinity_is_the_hosts() {
    run(SYSCALL, |thread, _| {
        assert_eq!(thread.set_affinity(&[0]), Err(Errno::EINVAL));
        thread.set_affinity(&[u64::MAX, u64::MAX]).unwrap();
        Next::Exit
    });
}

#[test]
fn the_hosts_vsyscall_page_is_caught() {
    // mov $0xffffffffff600400, %rbx (time); call *%rbx; nop
    let call = [0x48, 0xc7, 0xc3, 0, 4, 0x60, 0xff, 0xff, 0xd3];
    let (trap, regs) = first_trap(&code(&[&call, &[0x90]]));
    match trap {
        Trap::Syscall => assert_eq!((regs.orig_rax, regs.rip, regs.rsp), (201, CODE + 9, STACK)),
        // A host without that page.
        other => assert!(
            matches!(other, Trap::Fault(f) if f.signal == libc::SIGSEGV),
            "{other:?}"
        ),
    }
}
