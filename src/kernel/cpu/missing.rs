//! Instructions that the host's processor lacks (`--emulate-missing`).

use super::memory::{GuestMemory, page_fault};
use crate::cpu::{Outcome, emulate};
use crate::platform::{Fault, Thread};

/// Carry out the instruction that `code`, found at rip, begins with. None when it is none that is known; else the fault that it
/// meets, if it does.
pub(super) fn carry_out(thread: &mut dyn Thread, code: &[u8]) -> Option<Option<Fault>> {
    let space = thread.space().clone();
    let cpu = nix::sched::sched_getcpu().map_or(0, |cpu| u32::try_from(cpu).unwrap_or(0));
    match emulate(code, thread.regs_mut(), &mut GuestMemory(&*space), cpu) {
        Outcome::Done => Some(None),
        Outcome::Unknown => None,
        Outcome::BadMemory { address, write } => Some(Some(page_fault(&*space, address, write))),
    }
}
