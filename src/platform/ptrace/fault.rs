//! Signals that the host is about to deliver, as CPU exceptions.

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, OpAccess, Register};
use nix::errno::Errno;

use super::inject::USER32_CS;
use super::tracee::{SigInfo, Tracee};
use crate::platform::native::remote;
use crate::platform::{Fault, Regs, Trap};

/// Bytes of the longest instruction.
const MAX_INSTRUCTION: usize = 15;

/// `si_code` of exceptions without a more exact one.
const SI_KERNEL: i32 = 0x80;

const FPE_INTDIV: i32 = 1;
const BUS_ADRALN: i32 = 1;
const SEGV_MAPERR: i32 = 1;

/// What the signal that `tracee` is stopped at means; none when it was sent by somebody outside, which guests do not
/// see. A syscall's number is put into `regs`.
pub(super) fn read(tracee: Tracee, regs: &mut Regs) -> Result<Option<Trap>, Errno> {
    let info = tracee.siginfo()?;
    // Codes of zero and below are those of kill(2) and its relatives.
    if info.code <= 0 {
        return Ok(None);
    }
    if info.signal == libc::SIGSYS {
        // A vsyscall: the host has returned to the caller already, and only the result is missing.
        regs.orig_rax = u64::from(info.syscall.unsigned_abs());
        return Ok(Some(Trap::Syscall));
    }
    Ok(exception(tracee, &info, regs).map(Trap::Fault))
}

fn exception(tracee: Tracee, info: &SigInfo, regs: &Regs) -> Option<Fault> {
    let (signal, code) = (info.signal, info.code);
    let (trapno, error) = match signal {
        libc::SIGSEGV if code == SI_KERNEL => (13, 0),
        libc::SIGBUS if code == BUS_ADRALN => (17, 0),
        libc::SIGSEGV | libc::SIGBUS => (14, page_fault_error(tracee, info, regs)),
        libc::SIGILL => (6, 0),
        libc::SIGFPE if code == FPE_INTDIV => (0, 0),
        libc::SIGFPE => (19, 0),
        libc::SIGTRAP if code == SI_KERNEL => (3, 0),
        libc::SIGTRAP => (1, 0),
        _ => return None,
    };
    Some(Fault {
        signal,
        code,
        // The host leaves the address of a trap instruction and of #GP zero.
        addr: if code == SI_KERNEL { 0 } else { info.addr },
        trapno,
        error,
    })
}

/// The page fault error code, which ptrace does not show: from user mode; a protection violation unless there is no mapping; an
/// instruction fetch when the address is that of the instruction; a write when the instruction writes there.
fn page_fault_error(tracee: Tracee, info: &SigInfo, regs: &Regs) -> u64 {
    const PRESENT: u64 = 1;
    const WRITE: u64 = 2;
    const USER: u64 = 4;
    const FETCH: u64 = 0x10;
    let present = if info.signal == libc::SIGBUS || info.code == SEGV_MAPERR {
        0
    } else {
        PRESENT
    };
    let access = if info.addr == regs.rip {
        FETCH
    } else if writes_to(tracee, regs, info.addr) {
        WRITE
    } else {
        0
    };
    USER | present | access
}

/// Whether the instruction at `rip` writes to memory around `addr`.
fn writes_to(tracee: Tracee, regs: &Regs, addr: u64) -> bool {
    let mut bytes = [0; MAX_INSTRUCTION];
    let len = remote::read(tracee.0, regs.rip, &mut bytes);
    let bits = if regs.cs == USER32_CS { 32 } else { 64 };
    let instruction = Decoder::with_ip(bits, &bytes[..len], regs.rip, DecoderOptions::NONE).decode();
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(&instruction);
    info.used_memory().iter().any(|used| {
        let written = matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        // Vector gathers and the like have an address per element: only known to lie anywhere.
        let start = used.virtual_address(0, |register, _, _| Some(value(regs, register)));
        let len = used.memory_size().size().max(1) as u64;
        written && start.is_none_or(|start| addr.wrapping_sub(start) < len || repeats(&instruction))
    })
}

fn repeats(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix() || instruction.has_repne_prefix()
}

/// The value of an address register; segment registers count as their bases.
fn value(regs: &Regs, register: Register) -> u64 {
    let full = match register.full_register() {
        Register::RAX => regs.rax,
        Register::RBX => regs.rbx,
        Register::RCX => regs.rcx,
        Register::RDX => regs.rdx,
        Register::RSI => regs.rsi,
        Register::RDI => regs.rdi,
        Register::RBP => regs.rbp,
        Register::RSP => regs.rsp,
        Register::R8 => regs.r8,
        Register::R9 => regs.r9,
        Register::R10 => regs.r10,
        Register::R11 => regs.r11,
        Register::R12 => regs.r12,
        Register::R13 => regs.r13,
        Register::R14 => regs.r14,
        Register::R15 => regs.r15,
        Register::FS => regs.fs_base,
        Register::GS => regs.gs_base,
        _ => 0,
    };
    if register.size() == 4 {
        full & 0xffff_ffff
    } else {
        full
    }
}
