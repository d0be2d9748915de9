//! Host signals: SIGSYS for calls, the fault signals for exceptions, one more for the kick.

use core::arch::global_asm;

use super::clock;
use super::commands;
use super::cpuid::{self, Met};
use super::entry::{self, Fast};
use super::futex::{self, Outcome};
use super::memory;
use super::sys;
use super::thread::Block;
use crate::abi::{Exception, KICK, RUNTIME_BASE, RUNTIME_MAX, Registers, action, kind};

const SIGILL: i32 = 4;
const SIGTRAP: i32 = 5;
const SIGBUS: i32 = 7;
const SIGFPE: i32 = 8;
const SIGSEGV: i32 = 11;
const SIGSYS: i32 = 31;
const HANDLED: [i32; 7] = [SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS, KICK];

const SA_SIGINFO: u64 = 4;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SIG_SETMASK: u64 = 2;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
/// The alignment check, and the trap flag.
const AC: u64 = 1 << 18;
pub const TF: u64 = 1 << 8;
/// The resume flag, which a fault has set in what it saves.
pub const RF: u64 = 1 << 16;
/// `si_code` of a general protection fault.
const SI_KERNEL: i32 = 0x80;

/// `ucontext_t` up to the pointer to the floating-point state.
#[repr(C)]
pub struct Context {
    flags: u64,
    link: u64,
    stack: [u64; 3],
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    /// cs, gs, fs, ss from the lowest 16 bits up.
    segments: u64,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    pub fpstate: u64,
}

/// `siginfo_t` as SIGSYS and the fault signals fill it.
#[repr(C)]
pub struct Info {
    signal: i32,
    errno: i32,
    code: i32,
    pad: i32,
    addr: u64,
    number: i32,
    arch: u32,
}

/// Handle these signals and block all others.
pub fn install() {
    let mut blocked = u64::MAX;
    for signal in HANDLED {
        blocked &= !(1 << (signal - 1));
        // A call or a fault may happen in a handler: what the maker of a thread had blocked, the thread has.
        let nodefer = if signal == KICK { 0 } else { SA_NODEFER };
        let flags = SA_SIGINFO | SA_RESTORER | SA_ONSTACK | nodefer;
        let action = [
            uvm_on_signal as *const () as u64,
            flags,
            entry::uvm_sigreturn as *const () as u64,
            0,
        ];
        sys::call(
            sys::RT_SIGACTION,
            [signal as u64, action.as_ptr() as u64, 0, 8, 0, 0],
        );
    }
    sys::call(
        sys::RT_SIGPROCMASK,
        [SIG_SETMASK, &raw const blocked as u64, 0, 8, 0, 0],
    );
}

global_asm!(
    r#"
    # The host leaves the alignment check as the guest has it, and with it compiled code would fault.
    .globl uvm_on_signal
uvm_on_signal:
    pushfq
    and dword ptr [rsp], {no_ac}
    popfq
    jmp {on_signal}
"#,
    no_ac = const !AC as i32,
    on_signal = sym on_signal,
);

unsafe extern "C" {
    safe fn uvm_on_signal();
}

extern "C" fn on_signal(signal: i32, info: &Info, context: &mut Context) {
    let block = Block::around(core::ptr::from_ref(context) as u64);
    if signal == SIGSYS && clock::holds(context.rip) {
        context.rax = clock::ENOSYS.cast_unsigned();
        return;
    }
    let in_runtime = (RUNTIME_BASE..RUNTIME_BASE + RUNTIME_MAX).contains(&context.rip);
    let mut noted = false;
    if signal == SIGSEGV && info.code == SI_KERNEL && !in_runtime {
        match cpuid::faulted(block, context) {
            Met::Answered => return,
            Met::Noted => noted = true,
            Met::Other => {}
        }
    }
    if in_runtime {
        if signal == SIGTRAP && entry::step_over_cpuid(context) {
            return;
        }
        if let Some(to) = memory::fixup(context.rip)
            && signal != KICK
        {
            context.rip = to;
            return;
        }
        let fast = entry::leave_fast(block, context);
        if matches!(fast, Fast::Again) {
            // The ring tells, or the way out of a call that the runtime makes itself.
            block.pending = 1;
            return;
        }
        if matches!(fast, Fast::Answered) {
            // As if it had come just behind the call.
        } else if entry::is_restoring(context.rip) {
            // SAFETY: the frame holds all the registers that were being loaded.
            let regs = unsafe { (*block.frame()).regs };
            store(context, &regs);
            entry::load_bases(block, regs.fs_base, regs.gs_base);
        } else if signal == KICK {
            block.pending = 1;
            if let Some(to) = futex::kicked(context.rip) {
                context.rip = to;
            }
            if entry::is_returning(context.rip) {
                context.rip = entry::uvm_sigreturn as *const () as u64;
            }
            return;
        } else if signal == SIGTRAP {
            // Stepping guest code that came in by a patched site: it goes on stepping later.
            block.stepping = TF;
            context.eflags &= !TF;
            return;
        }
    }
    let kind = match signal {
        KICK => kind::INTERRUPT,
        SIGSYS if info.arch == AUDIT_ARCH_X86_64 => kind::SYSCALL,
        SIGSYS => kind::FOREIGN,
        _ if noted => kind::CPUID,
        _ => kind::FAULT,
    };
    let mut regs = load(block, context);
    if signal == SIGSYS {
        regs.orig_rax = regs.rax;
    }
    let exception = Exception {
        signal,
        code: info.code,
        addr: info.addr,
        trapno: context.trapno,
        error: context.err,
    };
    if kind == kind::SYSCALL {
        match futex::call(block, &mut regs, Some(context)) {
            Outcome::Made(result) => {
                context.rax = result as u64;
                return;
            }
            Outcome::Told(action) => return go_on(block, context, action),
            Outcome::Rings => {}
        }
    }
    block.ring(kind, false, &regs, exception);
    let action = commands::serve(block, Some(context));
    go_on(block, context, action);
}

/// A kick came between the last ring and the return from a signal handler. 0: the handler had interrupted the runtime itself,
/// which looks after it.
#[unsafe(no_mangle)]
extern "C" fn uvm_interrupted_signal(block: &mut Block, context: &mut Context) -> u32 {
    if (RUNTIME_BASE..RUNTIME_BASE + RUNTIME_MAX).contains(&context.rip) {
        return 0;
    }
    let regs = load(block, context);
    block.ring(kind::INTERRUPT, false, &regs, Exception::default());
    let action = commands::serve(block, Some(context));
    go_on(block, context, action);
    1
}

/// Give the guest the registers that it is to go on with.
fn go_on(block: &mut Block, context: &mut Context, action: u32) {
    let answer = block.answer();
    if action == action::RESUME_FULL {
        store(context, &answer.regs);
        entry::load_bases(block, answer.regs.fs_base, answer.regs.gs_base);
    } else {
        context.rax = answer.rax;
    }
}

fn load(block: &Block, c: &Context) -> Registers {
    let gs = sys::gs_base();
    Registers {
        r15: c.r15,
        r14: c.r14,
        r13: c.r13,
        r12: c.r12,
        rbp: c.rbp,
        rbx: c.rbx,
        r11: c.r11,
        r10: c.r10,
        r9: c.r9,
        r8: c.r8,
        rax: c.rax,
        rcx: c.rcx,
        rdx: c.rdx,
        rsi: c.rsi,
        rdi: c.rdi,
        orig_rax: u64::MAX,
        rip: c.rip,
        cs: c.segments & 0xffff,
        eflags: c.eflags,
        rsp: c.rsp,
        ss: c.segments >> 48,
        fs_base: sys::fs_base(),
        gs_base: if gs == block.me as u64 { 0 } else { gs },
        ..Registers::default()
    }
}

/// Have the guest go on with these registers.
pub fn store(c: &mut Context, r: &Registers) {
    (c.r15, c.r14, c.r13, c.r12) = (r.r15, r.r14, r.r13, r.r12);
    (c.r11, c.r10, c.r9, c.r8) = (r.r11, r.r10, r.r9, r.r8);
    (c.rbp, c.rbx, c.rax, c.rcx) = (r.rbp, r.rbx, r.rax, r.rcx);
    (c.rdx, c.rsi, c.rdi) = (r.rdx, r.rsi, r.rdi);
    (c.rip, c.eflags, c.rsp) = (r.rip, r.eflags, r.rsp);
    c.segments = c.segments & 0x0000_ffff_ffff_0000 | r.cs & 0xffff | (r.ss & 0xffff) << 48;
}
