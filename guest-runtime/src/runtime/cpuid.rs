//! CPUID instructions, answered from the supervisor's table: those that the host lets fault, and those of patched sites.

use core::sync::atomic::{AtomicU64, Ordering};

use super::entry;
use super::memory;
use super::signals::{Context, RF, TF};
use super::sys;
use super::thread::{Block, SITES};
use crate::abi::{ANSWERS_OFFSET, Entry, FACTS_BASE, Page};
use crate::cpuid::{Answers, length};

/// Bytes of the longest instruction.
const MAX_INSTRUCTION: u64 = 15;
/// Bytes of CPUID without prefixes.
const SHORTEST: usize = 2;

/// What a general protection fault was.
pub enum Met {
    /// A CPUID instruction, which is answered.
    Answered,
    /// A CPUID instruction that the supervisor is to learn of. It is to be executed again.
    Noted,
    /// Something else, or a CPUID instruction that the supervisor is to answer: the thread is stepped, or has asked for faults.
    Other,
}

/// Answer the CPUID instruction that `context` is to go on with, if it is one.
pub fn faulted(block: &mut Block, context: &mut Context) -> Met {
    if context.eflags & TF != 0 || !may_answer(block) {
        return Met::Other;
    }
    let mut code = [0u8; MAX_INSTRUCTION as usize];
    let read = memory::copy(&raw mut code as u64, context.rip, MAX_INSTRUCTION) as usize;
    let Some(length) = code.get(..read).and_then(length) else {
        return Met::Other;
    };
    context.eflags &= !RF;
    if length == SHORTEST && is_to_be_told(block, context.rip) {
        return Met::Noted;
    }
    let [a, b, c, d] = answer(context.rax, context.rcx);
    (context.rax, context.rbx, context.rcx, context.rdx) = (a, b, c, d);
    context.rip += length as u64;
    count(block, |page| &page.cpuid_faults);
    Met::Answered
}

/// A CPUID instruction at a patched site; `slow` is where it really stands. 0: go on behind it; 1: with all registers of the frame.
pub extern "C" fn by_patched_site(block: &mut Block, slow: u64) -> u32 {
    let frame = block.frame();
    // SAFETY: the entry code has just filled the frame, below which this runs.
    let regs = unsafe { &mut (*frame).regs };
    if !may_answer(block) {
        regs.rip = slow;
        return 1;
    }
    [regs.rax, regs.rbx, regs.rcx, regs.rdx] = answer(regs.rax, regs.rcx);
    count(block, |page| &page.cpuid);
    entry::way_back(block, regs)
}

/// Add one to a counter, where nobody else counts.
fn count(block: &Block, counter: fn(&Page) -> &AtomicU64) {
    // SAFETY: this thread's own page.
    let counter = counter(unsafe { &*block.page });
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// eax, ebx, ecx and edx for what rax and rcx ask.
fn answer(rax: u64, rcx: u64) -> [u64; 4] {
    answers()
        .answer(rax as u32, rcx as u32, sys::cpu())
        .map(u64::from)
}

/// Whether the supervisor is to be told of this fault, as it patches sites: of the first at each site, the 8th, the 64th and so on.
fn is_to_be_told(block: &mut Block, rip: u64) -> bool {
    let hash = (rip ^ rip >> 7) as usize;
    let Some([site, faults]) = block.cpuid_sites.get_mut(hash % SITES) else {
        return false;
    };
    if *site != rip {
        (*site, *faults) = (rip, 0);
    }
    *faults = faults.saturating_add(1);
    faults.is_power_of_two() && faults.trailing_zeros() % 3 == 0
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
