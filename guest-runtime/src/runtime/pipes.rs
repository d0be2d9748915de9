//! Reading and writing of granted ends of pipes: the bytes are in a pipe of the host's, of which the supervisor put a descriptor
//! here and says so on the page.
//!
//! Only by patched sites, and only while nobody wants to see this thread's calls. The page says which pipe is in use: the
//! supervisor, which has something to do with the bytes itself, first takes the grants away and then looks there, so that one of
//! the two sees the other. A kick ends a wait: then the supervisor is asked, and told how much was moved.

use core::sync::atomic::Ordering;

use super::commands;
use super::futex::{self, Outcome};
use super::native;
use super::sys;
use super::thread::Block;
use crate::abi::{
    DESCRIPTOR, Entry, Exception, GRANTS, PIPE_READS, PIPE_WRITES, Page, RUNTIME_BASE, Registers, action,
    kind,
};

/// The most that one call moves.
const MOST: u64 = 0x7fff_f000;

const EAGAIN: i64 = -11;

/// Make the call that `regs` want, if that is one for here.
pub fn call(block: &mut Block, regs: &Registers) -> Outcome {
    let wanted = match regs.rax {
        sys::READ => PIPE_READS,
        sys::WRITE => PIPE_WRITES,
        _ => return Outcome::Rings,
    };
    let descriptor = (regs.rdi & 0xffff_ffff) as usize;
    let end = regs.rsi.checked_add(regs.rdx);
    if descriptor >= GRANTS || regs.rdx == 0 || end.is_none_or(|end| end > RUNTIME_BASE) {
        return Outcome::Rings;
    }
    // SAFETY: this thread's own page, where any bytes are valid, mapped as long as the thread lives.
    let page = unsafe { &*block.page };
    let state = page.grants[descriptor].state.load(Ordering::SeqCst);
    if state & (PIPE_READS | PIPE_WRITES) != wanted {
        return Outcome::Rings;
    }
    let mut moved = 0;
    let outcome = loop {
        page.busy.store(state, Ordering::SeqCst);
        if page.grants[descriptor].state.load(Ordering::SeqCst) != state || !is_open(page) {
            break Outcome::Rings;
        }
        let left = regs.rdx.min(MOST) - moved;
        let host_call = [regs.rax, state & DESCRIPTOR, regs.rsi + moved, left, 0, 0, 0];
        match futex::interruptible(block, &host_call) {
            None => {
                page.busy.store(0, Ordering::Release);
                block.moved = moved;
                block.ring(kind::WAITING, true, regs, Exception::default());
                match commands::serve(block, None) {
                    action::AGAIN => {}
                    told => break Outcome::Told(told),
                }
            }
            Some(count) if count > 0 => {
                moved += (count as u64).min(left);
                if wanted == PIPE_READS || count as u64 >= left {
                    break Outcome::Made(moved as i64);
                }
            }
            Some(EAGAIN) if moved > 0 => break Outcome::Made(moved as i64),
            // Unless the grant ended before the host looked.
            Some(EAGAIN) if page.grants[descriptor].state.load(Ordering::SeqCst) == state => {
                break Outcome::Made(EAGAIN);
            }
            Some(_) => break Outcome::Rings,
        }
    };
    page.busy.store(0, Ordering::Release);
    match outcome {
        Outcome::Rings => block.moved = moved,
        Outcome::Made(_) => native::count(block),
        Outcome::Told(_) => {}
    }
    outcome
}

/// Whether nobody wants to see this thread's calls.
fn is_open(page: &Page) -> bool {
    // SAFETY: the facts are mapped as long as the runtime is.
    unsafe {
        (*(page.facts.load(Ordering::Relaxed) as *const Entry))
            .open
            .load(Ordering::SeqCst)
            != 0
    }
}
