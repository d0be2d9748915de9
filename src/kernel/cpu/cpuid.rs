//! CPUID, where the platform has not answered it by itself.

use crate::kernel::task::Task;
use crate::platform::{Thread, cpuid};

/// Answer the CPUID instruction that `code` begins with; its length. None when it is another one, or the thread has asked for
/// faults.
pub(super) fn answer(task: &Task, thread: &mut dyn Thread, code: &[u8]) -> Option<usize> {
    let length = cpuid::length(code)?;
    if !task.kernel.platform.traps_cpuid() || task.state.lock().cpuid_faults {
        return None;
    }
    let cpu = nix::sched::sched_getcpu().map_or(0, |cpu| u32::try_from(cpu).unwrap_or(0));
    let regs = thread.regs_mut();
    let answers = task.kernel.processor.answers();
    let [a, b, c, d] = answers.answer(regs.rax as u32, regs.rcx as u32, cpu);
    (regs.rax, regs.rbx, regs.rcx, regs.rdx) = (a.into(), b.into(), c.into(), d.into());
    Some(length)
}
