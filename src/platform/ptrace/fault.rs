//! Signals that the host is about to deliver, as CPU exceptions.

use nix::errno::Errno;

use super::tracee::Tracee;
use crate::platform::{Fault, Regs};

/// `si_code` of exceptions without a more exact one.
const SI_KERNEL: i32 = 0x80;

const FPE_INTDIV: i32 = 1;
const BUS_ADRALN: i32 = 1;
const SEGV_MAPERR: i32 = 1;

/// The exception behind the signal `tracee` is stopped at; none when it was sent by somebody outside, which guests do not see.
pub(super) fn read(tracee: Tracee, regs: &Regs) -> Result<Option<Fault>, Errno> {
    let (signal, code, addr) = tracee.siginfo()?;
    // Codes of zero and below are those of kill(2) and its relatives.
    if code <= 0 {
        return Ok(None);
    }
    let (trapno, error) = match signal {
        libc::SIGSEGV if code == SI_KERNEL => (13, 0),
        libc::SIGSEGV => (14, page_fault_error(code, addr, regs)),
        libc::SIGBUS if code == BUS_ADRALN => (17, 0),
        libc::SIGBUS => (14, page_fault_error(code, addr, regs)),
        libc::SIGILL => (6, 0),
        libc::SIGFPE if code == FPE_INTDIV => (0, 0),
        libc::SIGFPE => (19, 0),
        libc::SIGTRAP if code == SI_KERNEL => (3, 0),
        libc::SIGTRAP => (1, 0),
        _ => return Ok(None),
    };
    // The host leaves the address of a trap instruction and of #GP zero.
    let addr = if code == SI_KERNEL { 0 } else { addr };
    Ok(Some(Fault {
        signal,
        code,
        addr,
        trapno,
        error,
    }))
}

/// The page fault error code, which ptrace does not show: from user mode, on a present page unless there is no mapping, and an
/// instruction fetch when the address is that of the instruction.
fn page_fault_error(code: i32, addr: u64, regs: &Regs) -> u64 {
    const PRESENT: u64 = 1;
    const USER: u64 = 4;
    const FETCH: u64 = 0x10;
    let present = if code == SEGV_MAPERR { 0 } else { PRESENT };
    let fetch = if addr == regs.rip { FETCH } else { 0 };
    USER | present | fetch
}
