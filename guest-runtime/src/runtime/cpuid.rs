//! CPUID instructions that the host lets fault, answered from the supervisor's table.

use core::sync::atomic::Ordering;

use super::memory;
use super::signals::{Context, RF, TF};
use super::sys;
use super::thread::Block;
use crate::abi::{ANSWERS_OFFSET, Entry, FACTS_BASE};
use crate::cpuid::{Answers, length};

/// Bytes of the longest instruction.
const MAX_INSTRUCTION: u64 = 15;

/// Answer the CPUID instruction that `context` is to go on with. False when it is none, or one that the supervisor is to hear
/// of: when the thread is stepped, or has asked for faults.
pub fn answered(block: &Block, context: &mut Context) -> bool {
    if context.eflags & TF != 0 || !may_answer(block) {
        return false;
    }
    let mut code = [0u8; MAX_INSTRUCTION as usize];
    let read = memory::copy(&raw mut code as u64, context.rip, MAX_INSTRUCTION) as usize;
    let Some(length) = code.get(..read).and_then(length) else {
        return false;
    };
    let [a, b, c, d] = answers().answer(context.rax as u32, context.rcx as u32, sys::cpu());
    (context.rax, context.rbx, context.rcx, context.rdx) = (a.into(), b.into(), c.into(), d.into());
    context.rip += length as u64;
    context.eflags &= !RF;
    true
}

fn may_answer(block: &Block) -> bool {
    // SAFETY: this thread's own page, and what it points to: pages that are mapped as long as the runtime is.
    let entry = unsafe { &*((*block.page).facts.load(Ordering::Relaxed) as *const Entry) };
    entry.cpuid.load(Ordering::SeqCst) != 0
}

fn answers() -> &'static Answers {
    // SAFETY: mapped as long as the runtime is, and never changed; any bytes are valid.
    unsafe { &*((FACTS_BASE + ANSWERS_OFFSET) as *const Answers) }
}

/// Have CPUID fault in this host thread and all that come of it, if there are answers. A host that cannot lets guests see its
/// processor.
pub fn install() {
    const ARCH_SET_CPUID: u64 = 0x1012;
    if answers().count != 0 {
        sys::call(sys::ARCH_PRCTL, [ARCH_SET_CPUID, 0, 0, 0, 0, 0]);
    }
}
