//! Reading and writing of granted plain files: a host descriptor for a guest's own, which the supervisor put here and says so on
//! the page.
//!
//! Only by patched sites, and only while nobody wants to see this thread's calls. The result of a read counts when the grant has
//! held all the while; the call is made again, by the supervisor, when not, and for every error. A write is done when the host
//! has done it. It moves the position first, as whoever shares that writes behind it.

use core::sync::atomic::Ordering;

use super::memory;
use super::native;
use super::sys;
use super::thread::Block;
use crate::abi::{
    BOUND_SHIFT, BOUNDS, DESCRIPTOR, Entry, FILE_WRITES, GRANTS, Grant, NO_POSITION, PIPE_READS, PIPE_WRITES,
    RUNTIME_BASE, Registers, STAYS, WRITE_MOST, bound,
};

const SEEK_SET: u64 = 0;
const SEEK_CUR: u64 = 1;

/// Buffers of one vector that are written here.
const VECTOR: usize = 8;

/// Make the call that `regs` want, if that is one for here; its result.
pub fn call(block: &Block, regs: &Registers) -> Option<i64> {
    let descriptor = (regs.rdi & 0xffff_ffff) as usize;
    let reads = matches!(regs.rax, sys::READ | sys::PREAD64);
    let writes = matches!(regs.rax, sys::WRITE | sys::PWRITE64 | sys::WRITEV);
    if !(reads || writes || regs.rax == sys::LSEEK) || descriptor >= GRANTS {
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
    let is_to_write = state & FILE_WRITES != 0;
    if is_to_write && reads || !is_to_write && writes {
        return None;
    }
    let result = match regs.rax {
        sys::READ => read(grant, state, regs),
        sys::LSEEK if state & STAYS != 0 => None,
        sys::LSEEK => seek(grant, regs),
        sys::WRITE => write(grant, state, &[[regs.rsi, regs.rdx]]),
        sys::WRITEV => {
            let (buffers, count) = vector(regs)?;
            write(grant, state, buffers.get(..count)?)
        }
        sys::PWRITE64 => write_at(state, &[[regs.rsi, regs.rdx]], regs.r10),
        _ => {
            let read = pread(state, regs, regs.r10)?;
            (grant.state.load(Ordering::SeqCst) == state).then_some(read)
        }
    }?;
    native::count_call(block, writes);
    Some(result)
}

/// Read at `offset`. None when the host does not.
fn pread(state: u64, regs: &Registers, offset: u64) -> Option<i64> {
    let end = regs.rsi.checked_add(regs.rdx)?;
    if end > RUNTIME_BASE {
        return None;
    }
    let descriptor = state & DESCRIPTOR;
    let read = sys::call_apart(sys::PREAD64, &[descriptor, regs.rsi, regs.rdx, offset, 0, 0]);
    (read >= 0).then_some(read)
}

fn read(grant: &Grant, state: u64, regs: &Registers) -> Option<i64> {
    let position = position(grant)?;
    let read = pread(state, regs, position)?;
    move_to(grant, position, position.checked_add(read as u64)?)?;
    Some(read)
}

/// The buffers that writev(2) is to write, each with its length.
fn vector(regs: &Registers) -> Option<([[u64; 2]; VECTOR], usize)> {
    let mut buffers = [[0; 2]; VECTOR];
    let count = regs.rdx as usize;
    if count > VECTOR {
        return None;
    }
    let len = (size_of::<[u64; 2]>() * count) as u64;
    if regs.rsi.checked_add(len)? > RUNTIME_BASE {
        return None;
    }
    let copied = memory::copy(buffers.as_mut_ptr() as u64, regs.rsi, len);
    (copied == len).then_some((buffers, count))
}

/// How many bytes that are, if they can be written here at `offset`.
fn len(state: u64, buffers: &[[u64; 2]], offset: u64) -> Option<u64> {
    let mut len: u64 = 0;
    for [start, bytes] in buffers {
        len = len.checked_add(*bytes)?;
        if start.checked_add(*bytes)? > RUNTIME_BASE {
            return None;
        }
    }
    let place = (state >> BOUND_SHIFT) as u32 & 0xf;
    let fits = len != 0 && len <= WRITE_MOST && place < BOUNDS && offset < bound(place);
    // Each buffer begins below the bound.
    (fits && (buffers.len() == 1 || offset + len <= bound(place))).then_some(len)
}

/// Write at `offset`. None when the host does not.
fn write_at(state: u64, buffers: &[[u64; 2]], offset: u64) -> Option<i64> {
    len(state, buffers, offset)?;
    let descriptor = state & DESCRIPTOR;
    let mut done = 0;
    for [start, len] in buffers {
        if *len == 0 {
            continue;
        }
        let at = offset + done as u64;
        let written = sys::call_apart(sys::PWRITE64, &[descriptor, *start, *len, at, 0, 0]);
        done += written.max(0);
        if written != *len as i64 {
            break;
        }
    }
    (done > 0).then_some(done)
}

fn write(grant: &Grant, state: u64, buffers: &[[u64; 2]]) -> Option<i64> {
    let position = position(grant)?;
    let end = position + len(state, buffers, position)?;
    move_to(grant, position, end)?;
    let written = write_at(state, buffers, position);
    let done = position + written.unwrap_or(0) as u64;
    if done < end {
        // Unless somebody has gone on behind it meanwhile.
        let _ = move_to(grant, end, done);
    }
    written
}

fn seek(grant: &Grant, regs: &Registers) -> Option<i64> {
    let position = position(grant)?;
    let to = match regs.rdx & 0xffff_ffff {
        SEEK_SET => regs.rsi,
        SEEK_CUR => position.checked_add_signed(regs.rsi as i64)?,
        _ => return None,
    };
    let to = i64::try_from(to).ok()?;
    move_to(grant, position, to as u64)?;
    Some(to)
}

/// The position, if this thread has it.
fn position(grant: &Grant) -> Option<u64> {
    let position = grant.position.load(Ordering::SeqCst);
    (position != NO_POSITION).then_some(position)
}

/// Move the position on, unless the supervisor took it back meanwhile.
fn move_to(grant: &Grant, from: u64, to: u64) -> Option<()> {
    let moved = grant
        .position
        .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    moved.ok().map(drop)
}
