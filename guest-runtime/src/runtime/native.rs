//! Calls that the runtime makes itself: those that change nothing but the guest's own memory, by one host call each.
//!
//! Only by patched sites: the supervisor is to learn of all others, so that it patches their sites. What the kernel has to
//! decide, or the platform to hear of, rings as ever: see [`Room`]. Nothing here is a protection; the host allows these calls
//! with any arguments.

use core::sync::atomic::Ordering;

use super::sys;
use super::thread::Block;
use crate::abi::{Entry, KEPT, PAGE, RUNTIME_BASE, Registers, Room};

/// Lowest address that guests have memory at.
const LOWEST: u64 = 0x1_0000;
const PROT_READ_WRITE: u64 = 3;
const MAP_PRIVATE_ANONYMOUS: u64 = 0x22;
/// Of what else mmap(2) may be told: MAP_32BIT, MAP_NORESERVE, MAP_POPULATE. MAP_STACK means nothing.
const MAP_TOLD: u64 = 0x40 | 0x4000 | 0x8000;
const MAP_STACK: u64 = 0x2_0000;
const MREMAP_MAYMOVE: u64 = 1;
/// Advice, a bit each, that concerns nobody but the caller and that the kernel would hand on. MADV_REMOVE changes files.
const ADVICE: u64 = 0x02ff_cd1f;

/// Size of `struct robust_list_head`, in bytes.
const ROBUST_HEAD: u64 = 24;

/// Make the call that `regs` want, if that is a call to make here; its result.
pub fn call(block: &Block, regs: &Registers) -> Option<i64> {
    if regs.rax & 0xffff_ffff == sys::SET_ROBUST_LIST {
        return note_robust_list(block, regs).then_some(0);
    }
    let (number, args) = arguments(block, regs)?;
    count(block);
    Some(sys::call_apart(number, &args))
}

/// Number and arguments of the host call to make.
fn arguments(block: &Block, regs: &Registers) -> Option<(u64, [u64; 6])> {
    let number = regs.rax & 0xffff_ffff;
    let args = match number {
        sys::MMAP => map(regs)?,
        sys::MUNMAP | sys::MPROTECT | sys::MADVISE | sys::MREMAP => {
            [regs.rdi, regs.rsi, regs.rdx, regs.r10, 0, 0]
        }
        _ => return None,
    };
    let room = room(block).filter(|room| room.memory.load(Ordering::SeqCst) != 0)?;
    let changes = match number {
        sys::MMAP => return Some((number, args)),
        sys::MUNMAP => true,
        sys::MPROTECT => args[2] & !PROT_READ_WRITE == 0,
        sys::MADVISE => (args[2] & 0xffff_ffff) < 64 && ADVICE >> (args[2] & 63) & 1 != 0,
        _ => {
            let fits = (1..=RUNTIME_BASE).contains(&args[2]);
            fits && args[3] & !MREMAP_MAYMOVE == 0
        }
    };
    let (start, len) = (args[0], args[1]);
    let end = start.checked_add(len).filter(|end| *end <= RUNTIME_BASE)?;
    if !changes || start % PAGE != 0 || len == 0 || keeps(room, start, end.next_multiple_of(PAGE)) {
        return None;
    }
    Some((number, args))
}

/// set_robust_list(2): the kernel reads the page when it wants to know. False when it has to be told.
fn note_robust_list(block: &Block, regs: &Registers) -> bool {
    let notes = regs.rdi != 0 && regs.rsi == ROBUST_HEAD && room(block).is_some();
    if notes {
        // SAFETY: this thread's own page.
        unsafe { (*block.page).robust.store(regs.rdi, Ordering::SeqCst) };
    }
    notes
}

/// What the address space's threads may do; none when the kernel wants to see all that this one does.
pub fn room(block: &Block) -> Option<&'static Room> {
    // SAFETY: this thread's own page, and what it points to: pages that are mapped as long as the runtime is.
    unsafe {
        let entry = (*block.page).facts.load(Ordering::Relaxed) as *const Entry;
        let room = (*block.page).room.load(Ordering::Relaxed) as *const Room;
        ((*entry).open.load(Ordering::SeqCst) != 0).then(|| &*room)
    }
}

/// Arguments for private anonymous memory at a place that the host chooses.
fn map(regs: &Registers) -> Option<[u64; 6]> {
    let (hint, len, prot, flags) = (regs.rdi, regs.rsi, regs.rdx & 0xffff_ffff, regs.r10 & 0xffff_ffff);
    let anonymous = flags & !(MAP_TOLD | MAP_STACK) == MAP_PRIVATE_ANONYMOUS;
    let fits = len != 0 && hint.checked_add(len).is_some_and(|end| end <= RUNTIME_BASE);
    let sound = hint == 0 || hint % PAGE == 0 && hint >= LOWEST;
    if !anonymous || !fits || !sound || prot & !PROT_READ_WRITE != 0 || regs.r9 % PAGE != 0 {
        return None;
    }
    Some([hint, len, prot, flags & !MAP_STACK, u64::MAX, 0])
}

/// Whether the platform keeps something in this range, or may just now begin to.
fn keeps(room: &Room, start: u64, end: u64) -> bool {
    let version = room.version.load(Ordering::SeqCst);
    let count = (room.count.load(Ordering::SeqCst) as usize).min(KEPT);
    let kept = room.kept[..count].iter().any(|[from, to]| {
        let (from, to) = (from.load(Ordering::SeqCst), to.load(Ordering::SeqCst));
        from < end && start < to
    });
    kept || version % 2 != 0 || room.version.load(Ordering::SeqCst) != version
}

/// One more call that the runtime makes itself.
pub fn count(block: &Block) {
    count_call(block, false);
}

/// One more such call, which may be a write of a plain file.
pub fn count_call(block: &Block, writes: bool) {
    // SAFETY: this thread's own page, of which nobody else changes these words.
    let (native, written) = unsafe { (&(*block.page).native, &(*block.page).written) };
    native.store(native.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    if writes {
        written.store(written.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}
