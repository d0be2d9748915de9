//! Instructions that fault on the host and that the virtual kernel carries out.

mod cpuid;
mod memory;
mod missing;
mod ports;
mod tsc;

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
    let protection = fault.signal == libc::SIGSEGV && fault.code == libc::SI_KERNEL;
    let invalid = fault.signal == libc::SIGILL && task.kernel.processor.emulates_missing();
    if !protection && !invalid {
        return false;
    }
    let mut code = [0; MAX_INSTRUCTION];
    let (space, rip) = (thread.space(), thread.regs().rip);
    let read = space.code(rip, &mut code);
    let code = &code[..read];
    let met = if !protection {
        missing::carry_out(thread, code)
    } else if let Some(length) = cpuid::answer(task, thread, code).or_else(|| tsc::answer(task, thread, code))
    {
        let regs = thread.regs_mut();
        regs.rip = regs.rip.wrapping_add(length as u64);
        Some(None)
    } else {
        ports::carry_out(task, thread, code)
    };
    match met {
        None => return false,
        Some(None) => {}
        Some(Some(met)) => {
            signal::force(task, SigInfo::from_fault(&met));
            return true;
        }
    }
    let regs = thread.regs_mut();
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
