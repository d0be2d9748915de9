//! Private futexes: where the kernel leaves them to an address space ([`Room`]), the runtime makes every private call itself, whichever
//! way it came in, so that nobody waits where those who wake do not look.
//!
//! A wait may end by the kick: then the supervisor is asked, which lets it go on or gives the guest something else to do. So
//! that this does not prolong it, what is waited for is always a deadline.

use core::arch::global_asm;
use core::sync::atomic::{Ordering, fence};

use super::commands;
use super::memory;
use super::native;
use super::signals::{self, Context};
use super::sys;
use super::thread::Block;
use crate::abi::{Exception, FACTS_BASE, Machine, RUNTIME_BASE, Registers, Room, action, kind};

const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAKE_OP: u64 = 5;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
const PRIVATE: u64 = 128;
const REALTIME: u64 = 256;
const ANY: u64 = 0xffff_ffff;

const CLOCK_MONOTONIC: u64 = 1;
const NANOS_PER_SEC: i64 = 1_000_000_000;

const EINTR: i64 = -4;
const EFAULT: i64 = -14;
const EINVAL: i64 = -22;
/// What `uvm_wait` gives when a kick came before the host began to wait.
const KICKED: i64 = i64::MIN;

global_asm!(
    r#"
    # uvm_wait(block, number and arguments): what the host says, or the least number there is
    .globl uvm_wait, uvm_wait_start, uvm_wait_call, uvm_wait_kicked
uvm_wait:
    mov rax, rdi
    mov rcx, rsi
    mov rdi, [rcx + 8]
    mov rsi, [rcx + 16]
    mov rdx, [rcx + 24]
    mov r10, [rcx + 32]
    mov r8, [rcx + 40]
    mov r9, [rcx + 48]
uvm_wait_start:
    cmp qword ptr [rax + 32], 0
    jne uvm_wait_kicked
    mov rax, [rcx]
uvm_wait_call:
    syscall
    ret
uvm_wait_kicked:
    mov eax, 1
    shl rax, 63
    ret
"#
);

unsafe extern "C" {
    fn uvm_wait(block: *mut Block, call: *const [u64; 7]) -> i64;
    safe fn uvm_wait_start();
    safe fn uvm_wait_call();
    safe fn uvm_wait_kicked();
}

/// Make a host call that may wait: its number and arguments. None when a kick ended the wait, or came before it.
pub fn interruptible(block: &mut Block, call: &[u64; 7]) -> Option<i64> {
    // SAFETY: what the call does is the caller's business; as code it changes no more than a call may.
    let result = unsafe { uvm_wait(block, call) };
    (result != EINTR && result != KICKED).then_some(result)
}

/// Where to go on after a kick at `rip`, if that is between the last look for one and the host's wait.
pub fn kicked(rip: u64) -> Option<u64> {
    let at = |label: extern "C" fn()| label as *const () as u64;
    (at(uvm_wait_start)..=at(uvm_wait_call))
        .contains(&rip)
        .then_some(at(uvm_wait_kicked))
}

/// What became of a call.
pub enum Outcome {
    /// It is not one to make here.
    Rings,
    /// It gave this.
    Made(i64),
    /// The supervisor has answered with this action.
    Told(u32),
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Timespec {
    sec: i64,
    nsec: i64,
}

/// Make the call that `regs` want, if it is about private futexes. `context` is the signal frame that the guest's state is
/// in when the call came by a trap.
pub fn call(block: &mut Block, regs: &mut Registers, context: Option<*mut Context>) -> Outcome {
    if regs.rax & 0xffff_ffff != sys::FUTEX || regs.rsi & PRIVATE == 0 {
        return Outcome::Rings;
    }
    let op = regs.rsi & 0xffff_ffff & !PRIVATE;
    let waits = matches!(op & !REALTIME, WAIT | WAIT_BITSET) && op != WAIT | REALTIME;
    let has_two = matches!(op, REQUEUE | CMP_REQUEUE | WAKE_OP);
    if !(waits || has_two || matches!(op, WAKE | WAKE_BITSET)) || regs.rdi >= RUNTIME_BASE {
        return Outcome::Rings;
    }
    if has_two && regs.r8 >= RUNTIME_BASE {
        return Outcome::Rings;
    }
    // What the guest wrote before must be seen by whoever takes the futexes away before this looks.
    fence(Ordering::SeqCst);
    let Some(room) = native::room(block).filter(|room| room.futexes.load(Ordering::SeqCst) != 0) else {
        return Outcome::Rings;
    };
    if let Some(context) = context {
        // The supervisor is to learn of the site.
        block.ring(kind::SITE, false, regs, Exception::default());
        match commands::serve(block, Some(context)) {
            action::AGAIN => take_registers(block, regs, context),
            told => return Outcome::Told(told),
        }
        if room.futexes.load(Ordering::SeqCst) == 0 {
            return Outcome::Rings;
        }
    }
    native::count(block);
    if waits {
        return wait(block, room, regs, context, op);
    }
    let args = [regs.rdi, op | PRIVATE, regs.rdx, regs.r10, regs.r8, regs.r9];
    Outcome::Made(sys::call_apart(sys::FUTEX, &args))
}

fn wait(
    block: &mut Block,
    room: &Room,
    regs: &mut Registers,
    context: Option<*mut Context>,
    op: u64,
) -> Outcome {
    let deadline = match regs.r10 {
        0 => None,
        at => match deadline(at, op) {
            Ok(deadline) => Some(deadline),
            Err(error) => return Outcome::Made(error),
        },
    };
    let (at, clock) = match &deadline {
        Some(deadline) => (&raw const *deadline as u64, op & REALTIME),
        None => (0, 0),
    };
    let bits = if op == WAIT { ANY } else { regs.r9 };
    let op = WAIT_BITSET | PRIVATE | clock;
    rests(block, 1);
    let before = room.rewriting.load(Ordering::SeqCst);
    let outcome = loop {
        // The deadline lives as long as this.
        if let Some(result) = interruptible(block, &[sys::FUTEX, regs.rdi, op, regs.rdx, at, 0, bits]) {
            break Outcome::Made(result);
        }
        block.ring(kind::WAITING, context.is_none(), regs, Exception::default());
        match commands::serve(block, context) {
            action::AGAIN => {
                if let Some(context) = context {
                    take_registers(block, regs, context);
                }
            }
            told => break Outcome::Told(told),
        }
    };
    rests(block, 0);
    fence(Ordering::SeqCst);
    let after = room.rewriting.load(Ordering::SeqCst);
    if after != before || after % 2 != 0 {
        // Text was rewritten, or is, without regard to where this thread goes on: the way out asks.
        block.pending = 1;
    }
    outcome
}

/// The guest goes on elsewhere with the same call: its site was rewritten.
fn take_registers(block: &Block, regs: &mut Registers, context: *mut Context) {
    *regs = block.answer().regs;
    // SAFETY: the host's signal frame.
    signals::store(unsafe { &mut *context }, regs);
}

fn rests(block: &Block, whether: u32) {
    // SAFETY: this thread's own page.
    unsafe { (*block.page).rests.store(whether, Ordering::SeqCst) };
}

/// The deadline, on the host's clocks, that the guest means by the timeout at `at`.
fn deadline(at: u64, op: u64) -> Result<Timespec, i64> {
    let size = size_of::<Timespec>() as u64;
    let mut timeout = Timespec::default();
    let inside = at.checked_add(size).is_some_and(|end| end <= RUNTIME_BASE);
    if !inside || memory::copy(&raw mut timeout as u64, at, size) != size {
        return Err(EFAULT);
    }
    if timeout.sec < 0 || !(0..NANOS_PER_SEC).contains(&timeout.nsec) {
        return Err(EINVAL);
    }
    // SAFETY: mapped as long as the runtime is.
    let machine = unsafe { &*(FACTS_BASE as *const Machine) };
    let start = match op {
        WAIT => now(),
        WAIT_BITSET => split(machine.boot.load(Ordering::SeqCst)),
        _ => split(0i64.saturating_sub(machine.ahead.load(Ordering::SeqCst))),
    };
    let nsec = timeout.nsec + start.nsec;
    let sec = timeout
        .sec
        .saturating_add(start.sec)
        .saturating_add(nsec / NANOS_PER_SEC);
    Ok(Timespec {
        sec: sec.max(0),
        nsec: nsec % NANOS_PER_SEC,
    })
}

fn split(nanos: i64) -> Timespec {
    Timespec {
        sec: nanos.div_euclid(NANOS_PER_SEC),
        nsec: nanos.rem_euclid(NANOS_PER_SEC),
    }
}

/// The host's CLOCK_MONOTONIC.
fn now() -> Timespec {
    let mut now = Timespec::default();
    sys::call_apart(
        sys::CLOCK_GETTIME,
        &[CLOCK_MONOTONIC, &raw mut now as u64, 0, 0, 0, 0],
    );
    now
}
