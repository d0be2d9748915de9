//! Reading of granted plain files: a host descriptor for a guest's own, which the supervisor put here and says so on the page.
//!
//! Only by patched sites, and only while nobody wants to see this thread's calls. A result counts when the grant has held
//! all the while; the call is made again, by the supervisor, when not, and for every error.

use core::sync::atomic::Ordering;

use super::native;
use super::sys;
use super::thread::Block;
use crate::abi::{
    DESCRIPTOR, Entry, GRANTS, Grant, NO_POSITION, PIPE_READS, PIPE_WRITES, RUNTIME_BASE, Registers,
};

const READ: u64 = 0;
const LSEEK: u64 = 8;
const PREAD: u64 = 17;
const SEEK_SET: u64 = 0;
const SEEK_CUR: u64 = 1;

/// Make the call that `regs` want, if that is one for here; its result.
pub fn call(block: &Block, regs: &Registers) -> Option<i64> {
    let descriptor = (regs.rdi & 0xffff_ffff) as usize;
    if !matches!(regs.rax, READ | LSEEK | PREAD) || descriptor >= GRANTS {
        return None;
    }
    // SAFETY: this thread's own page, where any bytes are valid, and the facts, which are always mapped.
    let (grant, open) = unsafe {
        let page = &*block.page;
        let facts = page.facts.load(Ordering::Relaxed) as *const Entry;
        (&page.grants[descriptor], (*facts).open.load(Ordering::Relaxed))
    };
    let state = grant.state.load(Ordering::SeqCst);
    if state == 0 || state & (PIPE_READS | PIPE_WRITES) != 0 || open == 0 {
        return None;
    }
    let result = match regs.rax {
        READ => at_position(grant, state, regs),
        LSEEK => seek(grant, regs),
        _ => {
            let read = pread(state, regs, regs.r10)?;
            (grant.state.load(Ordering::SeqCst) == state).then_some(read)
        }
    }?;
    native::count(block);
    Some(result)
}

/// Read at `offset`. None when the host does not.
fn pread(state: u64, regs: &Registers, offset: u64) -> Option<i64> {
    let end = regs.rsi.checked_add(regs.rdx)?;
    if end > RUNTIME_BASE {
        return None;
    }
    let descriptor = state & DESCRIPTOR;
    let read = sys::call_apart(PREAD, &[descriptor, regs.rsi, regs.rdx, offset, 0, 0]);
    (read >= 0).then_some(read)
}

fn at_position(grant: &Grant, state: u64, regs: &Registers) -> Option<i64> {
    let position = grant.position.load(Ordering::SeqCst);
    if position == NO_POSITION {
        return None;
    }
    let read = pread(state, regs, position)?;
    move_to(grant, position, position.checked_add(read as u64)?)?;
    Some(read)
}

fn seek(grant: &Grant, regs: &Registers) -> Option<i64> {
    let position = grant.position.load(Ordering::SeqCst);
    if position == NO_POSITION {
        return None;
    }
    let to = match regs.rdx & 0xffff_ffff {
        SEEK_SET => regs.rsi,
        SEEK_CUR => position.checked_add_signed(regs.rsi as i64)?,
        _ => return None,
    };
    let to = i64::try_from(to).ok()?;
    move_to(grant, position, to as u64)?;
    Some(to)
}

/// Move the position on, unless the supervisor took it back meanwhile.
fn move_to(grant: &Grant, from: u64, to: u64) -> Option<()> {
    let moved = grant
        .position
        .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    moved.ok().map(drop)
}
