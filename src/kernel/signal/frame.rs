//! The frame a handler runs on, and the way back: rt_sigreturn(2).
//!
//! Layout as the x86-64 kernel writes it, which gdb, libgcc's unwinder and Go's runtime know: return address, ucontext,
//! siginfo, and above them the XSAVE area at a multiple of 64.

use std::sync::Arc;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{AltStack, SA_ONSTACK, SA_RESTORER, SigAction, SigFields, SigInfo, SignalState};
use crate::kernel::stop::Errno;
use crate::kernel::task::Task;
use crate::kernel::user_memory::{UserAddr, UserMemory};
use crate::platform::{Regs, Thread};

/// Bytes below the stack pointer that belong to the interrupted function.
const RED_ZONE: u64 = 128;
/// Selector of Linux's 64-bit code segment, in which every handler runs.
const USER_CS: u64 = 0x33;
/// Smallest image: the legacy FXSAVE area.
const FXSAVE_SIZE: usize = 512;
/// Where the software-reserved part of the FXSAVE area begins.
const SW_RESERVED: usize = 464;

/// The lowest bits of an image's features in use: the FXSAVE part.
const X87_AND_SSE: u8 = 3;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;

/// There is an XSAVE area, `ss` is saved, and rt_sigreturn restores it strictly.
const UC_FLAGS: u64 = 1 | 2 | 4;

/// EFLAGS bits that rt_sigreturn takes from the frame.
const RESTORED_FLAGS: u64 = 0x0005_0dd5;
/// Cleared on entry to a handler: direction, trap and resume.
const CLEARED_FLAGS: u64 = 0x0001_0500;

/// `struct sigcontext`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    di: u64,
    si: u64,
    bp: u64,
    bx: u64,
    dx: u64,
    ax: u64,
    cx: u64,
    sp: u64,
    ip: u64,
    flags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    err: u64,
    trapno: u64,
    oldmask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `stack_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(super) struct StackT {
    pub(super) sp: u64,
    pub(super) flags: i32,
    pub(super) pad: u32,
    pub(super) size: u64,
}

/// `struct rt_sigframe`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct Frame {
    return_to: u64,
    uc_flags: u64,
    uc_link: u64,
    stack: StackT,
    context: SigContext,
    mask: u64,
    info: [u8; 128],
}

impl From<AltStack> for StackT {
    fn from(stack: AltStack) -> StackT {
        StackT {
            sp: stack.base,
            flags: stack.flags,
            pad: 0,
            size: stack.size,
        }
    }
}

/// Build the frame for `info` and point the registers at the handler. EFAULT when the stack cannot take it.
pub(super) fn push(
    task: &Arc<Task>,
    thread: &mut dyn Thread,
    signals: &SignalState,
    saved_mask: u64,
    info: &SigInfo,
    action: &SigAction,
) -> Result<(), Errno> {
    if action.flags & SA_RESTORER == 0 {
        // x86-64 has no other way back.
        return Err(Errno::EFAULT);
    }
    let memory = task.memory();
    let regs = *thread.regs();
    let alt = signals.altstack;
    let nested = alt.holds(regs.rsp);
    let enter_alt = action.flags & SA_ONSTACK != 0 && alt.is_enabled() && !nested;
    let top = if enter_alt {
        alt.base.wrapping_add(alt.size)
    } else {
        regs.rsp.wrapping_sub(RED_ZONE)
    };

    let mut image = thread.xstate()?;
    mark_image(&mut image)?;
    let extended = image.len() > FXSAVE_SIZE;
    let tail = if extended { size_of::<u32>() } else { 0 };
    let fpstate = top.wrapping_sub((image.len() + tail) as u64) & !63;
    let at = (fpstate.wrapping_sub(size_of::<Frame>() as u64) & !15).wrapping_sub(8);
    if (enter_alt || nested) && !alt.covers(at) {
        return Err(Errno::EFAULT);
    }

    let frame = Frame {
        return_to: action.restorer,
        uc_flags: if extended { UC_FLAGS } else { UC_FLAGS & !1 },
        uc_link: 0,
        stack: alt.into(),
        context: context(&regs, info, fpstate, saved_mask),
        mask: saved_mask,
        info: info.to_bytes(),
    };
    memory.write_bytes(UserAddr(fpstate), &image)?;
    if extended {
        memory.write_bytes(
            UserAddr(fpstate).plus(image.len() as u64)?,
            &FP_XSTATE_MAGIC2.to_le_bytes(),
        )?;
    }
    memory.write_bytes(UserAddr(at), frame.as_bytes())?;
    thread.set_xstate(&initial_image(image))?;

    if alt.flags & super::SS_AUTODISARM != 0 {
        task.signals.lock().altstack = AltStack::default();
    }
    let regs = thread.regs_mut();
    regs.rip = action.handler;
    regs.cs = USER_CS;
    regs.rsp = at;
    regs.rdi = info.signal as u64;
    regs.rsi = at + std::mem::offset_of!(Frame, info) as u64;
    regs.rdx = at + std::mem::offset_of!(Frame, uc_flags) as u64;
    regs.rax = 0;
    regs.eflags &= !CLEARED_FLAGS;
    Ok(())
}

/// Fill in the software-reserved bytes that tell readers how large the XSAVE image is.
fn mark_image(image: &mut [u8]) -> Result<(), Errno> {
    let size = u32::try_from(image.len()).map_err(|_| Errno::EFAULT)?;
    let reserved = image.get_mut(SW_RESERVED..FXSAVE_SIZE).ok_or(Errno::EFAULT)?;
    // The platform gives the mask of enabled features here, as the host's register set does.
    let features: [u8; 8] = reserved[..8].try_into().unwrap_or_default();
    reserved.fill(0);
    if size as usize > FXSAVE_SIZE {
        reserved[..4].copy_from_slice(&FP_XSTATE_MAGIC1.to_le_bytes());
        reserved[4..8].copy_from_slice(&(size + 4).to_le_bytes());
        reserved[8..16].copy_from_slice(&features);
        reserved[16..20].copy_from_slice(&size.to_le_bytes());
    }
    // What a handler writes there counts, although the registers may have been in their initial state, as AMD's notes.
    if let Some(present) = image.get_mut(FXSAVE_SIZE) {
        *present |= X87_AND_SSE;
    }
    Ok(())
}

/// The state a handler starts with, made from the current image: x87, SSE and all vector registers as after a reset.
/// Protection keys stay.
fn initial_image(mut image: Vec<u8>) -> Vec<u8> {
    const FCW: [u8; 2] = 0x37fu16.to_le_bytes();
    const MXCSR: [u8; 4] = 0x1f80u32.to_le_bytes();
    const PKRU_BYTE_AND_BIT: (usize, u8) = (FXSAVE_SIZE + 1, 1 << 1);
    if let Some(features) = image.get(SW_RESERVED + 8..SW_RESERVED + 16) {
        let features: [u8; 8] = features.try_into().unwrap_or_default();
        image[..FXSAVE_SIZE].fill(0);
        image[..2].copy_from_slice(&FCW);
        image[24..28].copy_from_slice(&MXCSR);
        image[SW_RESERVED..SW_RESERVED + 8].copy_from_slice(&features);
    }
    if image.len() > FXSAVE_SIZE + 8 {
        let keys = image[PKRU_BYTE_AND_BIT.0] & PKRU_BYTE_AND_BIT.1;
        image[FXSAVE_SIZE..FXSAVE_SIZE + 8].fill(0);
        image[FXSAVE_SIZE] = X87_AND_SSE;
        image[PKRU_BYTE_AND_BIT.0] = keys;
    }
    image
}

fn context(regs: &Regs, info: &SigInfo, fpstate: u64, mask: u64) -> SigContext {
    let (trapno, err, cr2) = match info.fields {
        SigFields::Fault { addr, trapno, error } => (trapno, error, addr),
        _ => (0, 0, 0),
    };
    SigContext {
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r11: regs.r11,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        di: regs.rdi,
        si: regs.rsi,
        bp: regs.rbp,
        bx: regs.rbx,
        dx: regs.rdx,
        ax: regs.rax,
        cx: regs.rcx,
        sp: regs.rsp,
        ip: regs.rip,
        flags: regs.eflags,
        cs: regs.cs as u16,
        gs: 0,
        fs: 0,
        ss: regs.ss as u16,
        err,
        trapno,
        oldmask: mask,
        cr2,
        fpstate,
        reserved: [0; 8],
    }
}

/// Undo what a frame saved: the work of rt_sigreturn(2). The value rax gets.
pub(super) fn pop(task: &Task, thread: &mut dyn Thread, memory: &UserMemory) -> Result<u64, Errno> {
    let at = thread.regs().rsp.wrapping_sub(8);
    let frame: Frame = memory.read(UserAddr(at).cast())?;
    if let Some(image) = read_image(memory, frame.context.fpstate, thread)? {
        thread.set_xstate(&image)?;
    }
    restore(thread.regs_mut(), &frame.context);
    // As Linux: a bad alternate stack in the frame is not an error of the return.
    let alt = AltStack {
        base: frame.stack.sp,
        flags: frame.stack.flags,
        size: frame.stack.size,
    };
    let _ = super::set_altstack(task, alt, frame.context.sp);
    task.set_signal_mask(frame.mask);
    Ok(frame.context.ax)
}

fn restore(regs: &mut Regs, saved: &SigContext) {
    regs.r8 = saved.r8;
    regs.r9 = saved.r9;
    regs.r10 = saved.r10;
    regs.r11 = saved.r11;
    regs.r12 = saved.r12;
    regs.r13 = saved.r13;
    regs.r14 = saved.r14;
    regs.r15 = saved.r15;
    regs.rdi = saved.di;
    regs.rsi = saved.si;
    regs.rbp = saved.bp;
    regs.rbx = saved.bx;
    regs.rdx = saved.dx;
    regs.rax = saved.ax;
    regs.rcx = saved.cx;
    regs.rsp = saved.sp;
    regs.rip = saved.ip;
    regs.cs = u64::from(saved.cs | 3);
    regs.eflags = regs.eflags & !RESTORED_FLAGS | saved.flags & RESTORED_FLAGS;
}

/// The XSAVE image a frame points to, in the size the CPU takes; none when the frame has none.
fn read_image(memory: &UserMemory, fpstate: u64, thread: &mut dyn Thread) -> Result<Option<Vec<u8>>, Errno> {
    if fpstate == 0 {
        return Ok(None);
    }
    // Parts the frame does not have keep what they hold now.
    let mut image = thread.xstate()?;
    let full = image.len();
    let features: [u8; 8] = image
        .get(SW_RESERVED..SW_RESERVED + 8)
        .and_then(|f| f.try_into().ok())
        .ok_or(Errno::EFAULT)?;
    let mut legacy = <[u8; FXSAVE_SIZE]>::new_zeroed();
    memory.read_bytes(UserAddr(fpstate), &mut legacy)?;
    let word = |at: usize| u32::from_le_bytes([legacy[at], legacy[at + 1], legacy[at + 2], legacy[at + 3]]);
    let claimed = word(SW_RESERVED + 16) as usize;
    let extended = word(SW_RESERVED) == FP_XSTATE_MAGIC1
        && (FXSAVE_SIZE + 64..=full).contains(&claimed)
        && memory.read::<u32>(UserAddr(fpstate).plus(claimed as u64)?.cast()) == Ok(FP_XSTATE_MAGIC2);
    if extended {
        image[..].fill(0);
        memory.read_bytes(UserAddr(fpstate), &mut image[..claimed])?;
    } else {
        image[..SW_RESERVED].copy_from_slice(&legacy[..SW_RESERVED]);
        // Only x87 and SSE come from the frame; the rest returns to its initial state.
        if full > FXSAVE_SIZE {
            image[FXSAVE_SIZE..].fill(0);
            image[FXSAVE_SIZE] = X87_AND_SSE;
        }
    }
    image[SW_RESERVED..FXSAVE_SIZE].fill(0);
    image[SW_RESERVED..SW_RESERVED + 8].copy_from_slice(&features);
    Ok(Some(image))
}
