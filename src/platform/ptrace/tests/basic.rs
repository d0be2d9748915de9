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
    let platform = PtracePlatform::new().unwrap();
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
    // mov %eax, 0x7fffe000(USER_END's page is readable only): movabs %eax, USER_END
    let fault = first_fault(&[0xa3, 0, 0xe0, 0xff, 0xff, 0xff, 0x7f, 0, 0]);
    assert_eq!(
        (fault.signal, fault.code, fault.addr),
        (libc::SIGSEGV, 2, crate::platform::USER_END)
    );
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
