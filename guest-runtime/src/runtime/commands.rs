//! Doing what the supervisor answers.

use core::ptr;

use super::clock;
use super::entry::uvm_clone;
use super::memory;
use super::signals::Context;
use super::sys;
use super::thread::Block;
use crate::abi::{
    Answer, COMMANDS, Command, NR_HELLO, PAGE, RUNTIME_BASE, SHARED_BASE, SHARED_STRIDE, SLOTS, WINDOW,
    WRITE_BACKS, action, op,
};

const EINTR: i64 = -4;
const EINVAL: i64 = -22;
const EFAULT: i64 = -14;
const CLONE_VM: u64 = 0x100;
const CLONE_THREAD: u64 = 0x1_0000;
const PR_SET_PDEATHSIG: u64 = 1;
const SIGKILL: u64 = 9;
const PROT_READ_WRITE: u64 = 3;
const MAP_SHARED_FIXED: u64 = 0x11;

/// Where the FXSAVE area ends that a signal frame keeps its own words in, and the XSAVE header begins.
const FX_WORDS: u64 = 464;
const FX_SIZE: u64 = FX_WORDS + 16;
const XSAVE_HEADER: u64 = 512;

impl Block {
    /// The last answer.
    pub fn answer(&self) -> &'static Answer {
        // SAFETY: this thread's own page; a sibling that changes it meanwhile harms nobody but this guest.
        unsafe { &(*self.page).answer }
    }

    fn command(&self, index: usize) -> *mut Command {
        // SAFETY: as above; the index is below COMMANDS.
        unsafe { &raw mut (*self.page).answer.commands[index.min(COMMANDS - 1)] }
    }
}

/// Wait for answers and carry them out until one lets the guest go on; that one's action. `context` is the signal frame
/// that the guest's state is in; without one it is in the frame of the entry code.
pub fn serve(block: &mut Block, context: Option<*mut Context>) -> u32 {
    loop {
        block.wait();
        let (action, count) = (block.answer().action, block.answer().count);
        let lost = !write_back(block);
        if run(block, context, count as usize) {
            // A new process: its maker is the one who replies.
            continue;
        }
        match action {
            action::RESUME if lost => {
                // SAFETY: this thread's own page.
                unsafe { (*block.page).answer.rax = EFAULT as u64 };
                return action;
            }
            action::RESUME | action::RESUME_FULL | action::AGAIN => return action,
            action::EXIT => loop {
                sys::call(sys::EXIT, [0; 6]);
            },
            _ => block.reply(),
        }
    }
}

/// Copy to guest memory what a call has written. Whether all could be.
fn write_back(block: &Block) -> bool {
    let answer = block.answer();
    let written = usize::from(answer.written).min(WRITE_BACKS);
    answer.write_backs[..written].iter().fold(true, |all, back| {
        let (offset, len) = (u64::from(back.offset), u64::from(back.len));
        let copied = copy(back.addr, block.window(offset), back.addr, offset, len);
        all && copied == len as i64
    })
}

/// Run `count` commands up to the first error. True in a child that one of them made.
fn run(block: &mut Block, context: Option<*mut Context>, count: usize) -> bool {
    for index in 0..count.min(COMMANDS) {
        let at = block.command(index);
        // SAFETY: `command` gives a valid place.
        let command = unsafe { ptr::read_volatile(at) };
        let a = command.args;
        let result = match command.op {
            op::CALL => sys::call(a[0], [a[1], a[2], a[3], a[4], a[5], a[6]]),
            op::TAKE => hello(a[0]),
            op::COPY_IN => copy(block.window(a[0]), a[1], a[1], a[0], a[2]),
            op::COPY_OUT => copy(a[0], block.window(a[1]), a[0], a[1], a[2]),
            op::GET_XSTATE => get_xstate(block, context, a[0], a[1]),
            op::SET_XSTATE => set_xstate(block, context, a[0], a[1]),
            op::SET_BIT if memory::set_bit(a[0], a[1]) => 0,
            op::SET_BIT => EFAULT,
            op::ASK_CLOCK => clock::ask(a[0]),
            op::CLONE if a[0] & CLONE_VM != 0 => clone_sharing(block, context, a),
            op::CLONE => match unless_kicked(|| sys::call(sys::CLONE, [a[0], 0, 0, 0, 0, a[2]])) {
                0 => {
                    block.token = a[2];
                    become_process(block);
                    return true;
                }
                id => id,
            },
            _ => EINVAL,
        };
        // SAFETY: as above.
        unsafe { (*at).result = result };
        if result < 0 && command.optional == 0 {
            break;
        }
    }
    false
}

/// Copy between guest memory at `guest` and the window at `offset`.
fn copy(dst: u64, src: u64, guest: u64, offset: u64, len: u64) -> i64 {
    let in_guest = guest.checked_add(len).is_some_and(|end| end <= RUNTIME_BASE);
    let in_window = offset.checked_add(len).is_some_and(|end| end <= WINDOW);
    if !in_guest || !in_window {
        return EINVAL;
    }
    memory::copy(dst, src, len) as i64
}

fn get_xstate(block: &Block, context: Option<*mut Context>, offset: u64, len: u64) -> i64 {
    if offset % 64 != 0 || offset.saturating_add(len) > WINDOW {
        return EINVAL;
    }
    let to = block.window(offset);
    match context {
        Some(context) => {
            // SAFETY: the host's signal frame, which says in the FXSAVE area how long its state is.
            let (from, have) = unsafe {
                (
                    (*context).fpstate,
                    *(((*context).fpstate + FX_SIZE) as *const u32),
                )
            };
            let have = u64::from(have).min(len);
            memory::copy(to, from, have);
            // SAFETY: inside the window.
            unsafe { ptr::write_bytes((to + have) as *mut u8, 0, (len - have) as usize) };
            len as i64
        }
        None => {
            // SAFETY: the entry's frame, and memory of the window that is at least as long as the state.
            unsafe {
                ptr::write_bytes((to + XSAVE_HEADER) as *mut u8, 0, 64);
                core::arch::asm!(
                    "movaps xmm0, [{v}]", "movaps xmm1, [{v} + 16]", "movaps xmm2, [{v} + 32]",
                    "movaps xmm3, [{v} + 48]", "movaps xmm4, [{v} + 64]", "movaps xmm5, [{v} + 80]",
                    "movaps xmm6, [{v} + 96]", "movaps xmm7, [{v} + 112]", "movaps xmm8, [{v} + 128]",
                    "movaps xmm9, [{v} + 144]", "movaps xmm10, [{v} + 160]", "movaps xmm11, [{v} + 176]",
                    "movaps xmm12, [{v} + 192]", "movaps xmm13, [{v} + 208]", "movaps xmm14, [{v} + 224]",
                    "movaps xmm15, [{v} + 240]", "xsave64 [{to}]",
                    v = in(reg) &raw const (*block.frame()).vectors, to = in(reg) to, in("eax") -1, in("edx") -1,
                    out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                    out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                    out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _, options(nostack)
                );
            }
            len as i64
        }
    }
}

fn set_xstate(block: &Block, context: Option<*mut Context>, offset: u64, len: u64) -> i64 {
    if offset % 64 != 0 || offset.saturating_add(len) > WINDOW || len < XSAVE_HEADER + 64 {
        return EINVAL;
    }
    let from = block.window(offset);
    let Some(context) = context else {
        if !memory::load_xstate(from) {
            return EINVAL;
        }
        // SAFETY: the entry's frame; the registers were loaded just now, and nothing between uses them.
        unsafe {
            core::arch::asm!(
                "movaps [{v}], xmm0", "movaps [{v} + 16], xmm1", "movaps [{v} + 32], xmm2",
                "movaps [{v} + 48], xmm3", "movaps [{v} + 64], xmm4", "movaps [{v} + 80], xmm5",
                "movaps [{v} + 96], xmm6", "movaps [{v} + 112], xmm7", "movaps [{v} + 128], xmm8",
                "movaps [{v} + 144], xmm9", "movaps [{v} + 160], xmm10", "movaps [{v} + 176], xmm11",
                "movaps [{v} + 192], xmm12", "movaps [{v} + 208], xmm13", "movaps [{v} + 224], xmm14",
                "movaps [{v} + 240], xmm15",
                v = in(reg) &raw mut (*block.frame()).vectors, options(nostack)
            );
        }
        return 0;
    };
    // SAFETY: the host's signal frame, whose words in the FXSAVE area say how long it is.
    let to = unsafe { (*context).fpstate };
    let have = unsafe { *((to + FX_SIZE) as *const u32) };
    memory::copy(to, from, FX_WORDS);
    let len = len.min(u64::from(have));
    memory::copy(
        to + XSAVE_HEADER,
        from + XSAVE_HEADER,
        len.saturating_sub(XSAVE_HEADER),
    );
    0
}

/// Make a thread in slot `a[1]` of this memory, in this host process or one of its own.
fn clone_sharing(block: &mut Block, context: Option<*mut Context>, a: [u64; 7]) -> i64 {
    let (flags, slot, token) = (a[0], a[1], a[2]);
    if slot >= SLOTS || slot == block.slot {
        return EINVAL;
    }
    let child = Block::of_slot(slot);
    child.token = if flags & CLONE_THREAD == 0 { token } else { 0 };
    let (state, is_image) = match context {
        // SAFETY: the host's signal frame.
        Some(context) => (unsafe { (*context).fpstate }, 1),
        None => (block.frame() as u64, 0),
    };
    // SAFETY: the child's own page and frame, which nobody else uses until it ends.
    unless_kicked(|| unsafe {
        uvm_clone(
            flags,
            child.frame() as u64,
            &raw const (*child.page).alive as u64,
            state,
            token,
            is_image,
        )
    })
}

/// Make a host call that the supervisor is asked about: a kick that comes before it has heard of the call ends that, and it is made
/// again.
fn unless_kicked(call: impl Fn() -> i64) -> i64 {
    loop {
        let result = call();
        if result != EINTR {
            return result;
        }
    }
}

/// Say who this is; the descriptor that the supervisor gives for that, if it does.
fn hello(token: u64) -> i64 {
    unless_kicked(|| sys::call(NR_HELLO, [token, 0, 0, 0, 0, 0]))
}

/// In a thread that shares memory with its maker.
pub fn begin(block: &mut Block) {
    let (start, len) = block.alternate_stack();
    let stack = [start, 0, len];
    sys::call(sys::SIGALTSTACK, [stack.as_ptr() as u64, 0, 0, 0, 0, 0]);
    if block.token != 0 {
        become_process(block);
    }
}

/// In a new host process: say so, get memory for doorbells of its own unless it shares its maker's, end with the supervisor.
fn become_process(block: &mut Block) {
    sys::call(sys::PRCTL, [PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0, 0]);
    // What its maker was handed, or a sibling of that one was mapping just then, is not for this one.
    sys::call(sys::CLOSE_RANGE, [0, u64::from(u32::MAX), 0, 0, 0, 0]);
    let bell = hello(block.token);
    if bell < 0 {
        sys::exit_group();
    }
    if bell > 0 {
        let len = SLOTS * SHARED_STRIDE;
        let at = sys::call(
            sys::MMAP,
            [
                SHARED_BASE,
                len,
                PROT_READ_WRITE,
                MAP_SHARED_FIXED,
                bell as u64,
                0,
            ],
        );
        sys::call(sys::CLOSE, [bell as u64, 0, 0, 0, 0, 0]);
        if at < 0 {
            sys::exit_group();
        }
        block.forget();
    }
}

const _: () = assert!(PAGE == 4096);
