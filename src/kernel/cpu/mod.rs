//! Instructions that fault on the host and that the virtual kernel carries out.

mod cpuid;

use std::sync::Arc;

use super::signal::{self, SigInfo};
use super::task::Task;
use crate::platform::{Fault, Thread};

/// Bytes of the longest instruction.
const MAX_INSTRUCTION: usize = 15;

/// The trap flag.
const TF: u64 = 1 << 8;
/// The resume flag, which a fault sets in what it saves.
const RF: u64 = 1 << 16;
/// Vector of a single step.
const DEBUG: u64 = 1;

/// Carry out the instruction that raised `fault`, if that is one to be carried out here. False when the fault is the guest's own.
pub(super) fn carry_out(task: &Arc<Task>, thread: &mut dyn Thread, fault: &Fault) -> bool {
    if fault.signal != libc::SIGSEGV || fault.code != libc::SI_KERNEL {
        return false;
    }
    let mut code = [0; MAX_INSTRUCTION];
    let (space, rip) = (thread.space(), thread.regs().rip);
    let mut read = space.read(rip, &mut code);
    if read == 0 {
        // What can be executed need not be readable.
        read = space.peek(rip, &mut code);
    }
    let Some(length) = cpuid::answer(task, thread, &code[..read]) else {
        return false;
    };
    let regs = thread.regs_mut();
    regs.rip = regs.rip.wrapping_add(length as u64);
    regs.eflags &= !RF;
    if regs.eflags & TF != 0 || task.is_stepped() {
        let step = Fault {
            signal: libc::SIGTRAP,
            code: libc::TRAP_TRACE,
            addr: regs.rip,
            trapno: DEBUG,
            error: 0,
        };
        signal::force(task, SigInfo::from_fault(&step));
    }
    true
}
