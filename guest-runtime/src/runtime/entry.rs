//! Entry from patched sites, return to guest code, and the first instructions of new threads.
//!
//! An entry finds `r11` (`rbx` where the site is a CPUID instruction) at the site's record (`go_on`, `rcx`, `slow`) and all else as
//! the guest left it. It may not touch the guest's stack (the red zone is in use), nor flags or vector registers without restoring them.

use core::arch::global_asm;
use core::mem::offset_of;
use core::sync::atomic::{Ordering, compiler_fence};

use super::commands;
use super::cpuid;
use super::facts;
use super::futex::{self, Outcome};
use super::granted;
use super::memory;
use super::native;
use super::pipes;
use super::signals::Context;
use super::sys;
use super::thread::Block;
use crate::abi::{Exception, PRIVATE_STRIDE, Page, Registers, action, kind};

/// Alignment check, direction and trap flags: with these, Rust code would fault or run astray.
const AC: u64 = 1 << 18;
const TF: u64 = 1 << 8;

global_asm!(
    r#"
    .macro UVM_SAVE_VECTORS
    movaps [rsp], xmm0
    movaps [rsp + 16], xmm1
    movaps [rsp + 32], xmm2
    movaps [rsp + 48], xmm3
    movaps [rsp + 64], xmm4
    movaps [rsp + 80], xmm5
    movaps [rsp + 96], xmm6
    movaps [rsp + 112], xmm7
    movaps [rsp + 128], xmm8
    movaps [rsp + 144], xmm9
    movaps [rsp + 160], xmm10
    movaps [rsp + 176], xmm11
    movaps [rsp + 192], xmm12
    movaps [rsp + 208], xmm13
    movaps [rsp + 224], xmm14
    movaps [rsp + 240], xmm15
    .endm
    .macro UVM_LOAD_VECTORS from
    movaps xmm0, [\from]
    movaps xmm1, [\from + 16]
    movaps xmm2, [\from + 32]
    movaps xmm3, [\from + 48]
    movaps xmm4, [\from + 64]
    movaps xmm5, [\from + 80]
    movaps xmm6, [\from + 96]
    movaps xmm7, [\from + 112]
    movaps xmm8, [\from + 128]
    movaps xmm9, [\from + 144]
    movaps xmm10, [\from + 160]
    movaps xmm11, [\from + 176]
    movaps xmm12, [\from + 192]
    movaps xmm13, [\from + 208]
    movaps xmm14, [\from + 224]
    movaps xmm15, [\from + 240]
    .endm
    .macro UVM_POP_GENERAL
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    .endm
    .macro UVM_SAVE_REST
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov r12, gs:[0]
    lea rsp, [rsp - 256]
    UVM_SAVE_VECTORS
    test dword ptr [rsp + 256 + 144], 0x40000
    jz 9f
    push 0x202
    popfq
9:  cld
    mov rdi, r12
    .endm

    .globl uvm_entry
uvm_entry:
    # Is %gs ours? Without changing flags: its upper half must be that of the platform's addresses.
    rdgsbase rcx
    rorx rcx, rcx, 32
    mov ecx, ecx
    lea rcx, [rcx - 0x7fff]
    jrcxz 1f
    jmp qword ptr [r11 + 16]
    # Is the answer among the facts? Up to the answer only rcx, rsp and rax change, and no flag.
1:  mov ecx, eax
    rorx rcx, rcx, 9
    mov ecx, ecx
    jrcxz 2f
    jmp uvm_entry_ring
2:  mov gs:[16], rsp
    mov gs:[{number}], rax
    .globl uvm_fast_start, uvm_fast_done, uvm_fast_end
uvm_fast_start:
    mov rsp, gs:[{page}]
    mov rsp, [rsp + {facts}]
    mov ecx, [rsp]
    lea rcx, [rcx - 1]
    jrcxz 3f
    jmp 4f
3:  lea rcx, [rip + {offsets}]
    mov eax, eax
    movzx ecx, byte ptr [rcx + rax]
    jrcxz 4f
    mov eax, [rsp + rcx]
    mov rsp, gs:[{page}]
    mov rcx, [rsp + {answered}]
    lea rcx, [rcx + 1]
    mov [rsp + {answered}], rcx
    mov rsp, gs:[8]
    pushfq
    mov rcx, [r11]
    mov gs:[24], rcx
    mov rcx, [r11 + 8]
    pop r11
uvm_fast_done:
    mov rsp, gs:[16]
    jmp qword ptr gs:[24]
uvm_fast_end:
4:  mov rax, gs:[{number}]
    mov rsp, gs:[16]

    .globl uvm_entry_ring
uvm_entry_ring:
    mov gs:[16], rsp
    mov rsp, gs:[8]
    lea rsp, [rsp - 40]
    push 0
    rdfsbase rcx
    push rcx
    push 0x2b
    push qword ptr gs:[16]
    pushfq
    push 0x33
    push qword ptr [r11 + 8]
    push rax
    push rdi
    push rsi
    push rdx
    push qword ptr [r11 + 8]
    push rax
    push r8
    push r9
    push r10
    mov rcx, [r11]
    mov gs:[24], rcx
    push qword ptr [rsp + 88]
    UVM_SAVE_REST
    call uvm_patched
    test eax, eax
    jnz uvm_resume

    # Behind the site, with the registers of the frame but rip.
uvm_restore:
    UVM_LOAD_VECTORS rsp
    .globl uvm_restore_start, uvm_restore_end
uvm_restore_start:
    cmp qword ptr [r12 + 32], 0
    jne uvm_interrupted_entry
    lea rsp, [rsp + 256]
    UVM_POP_GENERAL
    lea rsp, [rsp + 24]
    popfq
    pop rsp
    jmp qword ptr gs:[24]
uvm_restore_middle:
    # All registers as the frame has them. r12 is the block, rsp the frame.
    cmp qword ptr [r12 + 32], 0
    jne uvm_interrupted_entry
    lea rsp, [rsp + 256]
    UVM_POP_GENERAL
    lea rsp, [rsp + 8]
    iretq
uvm_restore_end:

    # CPUID: eax and ecx are asked for, rbx and rdx are free. Is %gs ours? As above, with rcx in rdx meanwhile.
    .globl uvm_cpuid_entry, uvm_cpuid_swapped, uvm_cpuid_ours
uvm_cpuid_entry:
    rdgsbase rdx
    rorx rdx, rdx, 32
    mov edx, edx
    lea rdx, [rdx - 0x7fff]
    xchg rcx, rdx
uvm_cpuid_swapped:
    jrcxz 1f
    mov rcx, rdx
    jmp qword ptr [rbx + 16]
1:  mov rcx, rdx
uvm_cpuid_ours:
    mov gs:[16], rsp
    mov rsp, gs:[8]
    lea rsp, [rsp - 40]
    push 0
    rdfsbase rdx
    push rdx
    push 0x2b
    push qword ptr gs:[16]
    pushfq
    push 0x33
    push qword ptr [rbx + 8]
    push -1
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    mov rdx, [rbx]
    mov gs:[24], rdx
    UVM_SAVE_REST
    mov rsi, [rbx + 16]
    call {cpuid}
    test eax, eax
    jnz uvm_resume
    jmp uvm_restore

    .globl uvm_resume
uvm_resume:
    mov rdi, r12
    call uvm_load_bases
    UVM_LOAD_VECTORS rsp
    jmp uvm_restore_middle

uvm_interrupted_entry:
    mov rdi, r12
    call uvm_interrupted
    jmp uvm_resume

    # uvm_clone(flags, frame of the child, ctid, state, token, is_image)
    .globl uvm_clone
uvm_clone:
    mov r10, rdx
    test r9d, r9d
    jz 1f
    mov eax, -1
    mov edx, -1
    xrstor64 [rcx]
    jmp 2f
1:  UVM_LOAD_VECTORS rcx
2:  mov r9, r8
    xor edx, edx
    xor r8d, r8d
    mov eax, 56
    syscall
    test rax, rax
    jz 3f
    ret
3:  UVM_SAVE_VECTORS
    mov rdi, rsp
    call uvm_child
    mov r12, rax
    jmp uvm_resume

    # The first stub's thread, once its memory is in place; rsp is the frame of slot 0.
    .globl uvm_boot
uvm_boot:
    lea rdi, [r13 + r14]
    call uvm_boot_rust
    mov r12, rax
    jmp uvm_resume

    # rsp is the host's signal frame. A kick that came since the last ring must not be lost.
    .globl uvm_sigreturn, uvm_sigreturn_end
uvm_sigreturn:
    mov rdi, rsp
    and rdi, -{stride}
    cmp qword ptr [rdi + 32], 0
    jne 1f
2:  mov eax, 15
    syscall
    ud2
1:  mov rsi, rsp
    call uvm_interrupted_signal
    test eax, eax
    jnz uvm_sigreturn
    jmp 2b
uvm_sigreturn_end:
"#,
    stride = const PRIVATE_STRIDE,
    number = const offset_of!(Block, number),
    page = const offset_of!(Block, page),
    facts = const offset_of!(Page, facts),
    answered = const offset_of!(Page, answered),
    offsets = sym facts::OFFSETS,
    cpuid = sym cpuid::by_patched_site,
);

unsafe extern "C" {
    safe fn uvm_entry();
    safe fn uvm_entry_ring();
    safe fn uvm_fast_start();
    safe fn uvm_fast_done();
    safe fn uvm_fast_end();
    safe fn uvm_restore_start();
    safe fn uvm_restore_end();
    safe fn uvm_cpuid_entry();
    safe fn uvm_cpuid_swapped();
    safe fn uvm_cpuid_ours();
    /// Clone into a frame of another slot. The child comes out at `uvm_child`.
    pub fn uvm_clone(flags: u64, frame: u64, ctid: u64, state: u64, token: u64, is_image: u64) -> i64;
    pub safe fn uvm_sigreturn();
    safe fn uvm_sigreturn_end();
}

/// Whether `rip` is where the guest's registers are being loaded from the frame, which then has all of them.
pub fn is_restoring(rip: u64) -> bool {
    (uvm_restore_start as *const () as u64..uvm_restore_end as *const () as u64).contains(&rip)
}

/// What became of a host signal in the entry's fast part.
pub enum Fast {
    /// It was not there.
    Elsewhere,
    /// The call begins anew, and will ring.
    Again,
    /// The call was answered: the context is the guest's behind it.
    Answered,
}

/// Leave the fast part of the entry if `context` is in it.
pub fn leave_fast(block: &Block, context: &mut Context) -> Fast {
    let at = |label: extern "C" fn()| label as *const () as u64;
    if (at(uvm_entry)..at(uvm_fast_start)).contains(&context.rip) && sys::gs_base() == block.me as u64 {
        // Nothing has changed yet but rcx. Whoever comes without %gs traps soon.
        context.rip = at(uvm_entry_ring);
        return Fast::Again;
    }
    if !(at(uvm_fast_start)..at(uvm_fast_end)).contains(&context.rip) {
        return Fast::Elsewhere;
    }
    context.rsp = block.rsp;
    if context.rip >= at(uvm_fast_done) {
        context.rip = block.go_on;
        Fast::Answered
    } else {
        context.rax = block.number;
        context.rip = at(uvm_entry_ring);
        Fast::Again
    }
}

/// A thread that is stepped has come to the entry for CPUID: have it meet the instruction itself, as a step of its own. False when it is
/// elsewhere.
pub fn step_over_cpuid(context: &mut Context) -> bool {
    let at = |label: extern "C" fn()| label as *const () as u64;
    if !(at(uvm_cpuid_entry)..at(uvm_cpuid_ours)).contains(&context.rip) {
        return false;
    }
    if context.rip >= at(uvm_cpuid_swapped) {
        context.rcx = context.rdx;
    }
    // Where there is no record, the guest has jumped here by itself.
    memory::copy(&raw mut context.rip as u64, context.rbx.wrapping_add(16), 8);
    true
}

/// Whether `rip` is where a handler of a host signal returns, which can begin anew.
pub fn is_returning(rip: u64) -> bool {
    (uvm_sigreturn as *const () as u64..uvm_sigreturn_end as *const () as u64).contains(&rip)
}

/// A call by a patched site. 0: go on behind it; 1: with all registers of the frame.
#[unsafe(no_mangle)]
extern "C" fn uvm_patched(block: &mut Block) -> u32 {
    let frame = block.frame();
    // SAFETY: the entry code has just filled the frame, below which this runs.
    let regs = unsafe { &mut (*frame).regs };
    regs.eflags |= block.stepping;
    regs.r11 |= block.stepping;
    block.stepping = 0;
    let made = native::call(block, regs).or_else(|| granted::call(block, regs));
    if let Some(result) = made {
        regs.rax = result as u64;
        return way_back(block, regs);
    }
    let told = loop {
        let outcome = match pipes::call(block, regs) {
            Outcome::Rings => futex::call(block, regs, None),
            outcome => outcome,
        };
        match outcome {
            Outcome::Made(result) => {
                regs.rax = result as u64;
                return way_back(block, regs);
            }
            Outcome::Told(action) => break action,
            Outcome::Rings => block.ring(kind::SYSCALL, true, regs, Exception::default()),
        }
        // Unless the supervisor has just granted what it takes to make the call here.
        match commands::serve(block, None) {
            action::AGAIN => {}
            action => break action,
        }
    };
    let answer = block.answer();
    if told == action::RESUME_FULL {
        *regs = answer.regs;
        return 1;
    }
    regs.rax = answer.rax;
    way_back(block, regs)
}

/// How to go on behind a site with the registers of the frame: 0, or, with flags that the short way back must not meet, 1 and where.
pub fn way_back(block: &Block, regs: &mut Registers) -> u32 {
    if regs.eflags & (TF | AC) == 0 {
        return 0;
    }
    // What is behind the site may be overwritten.
    regs.rip = block.go_on;
    1
}

/// A kick came between the last ring and the return to guest code.
#[unsafe(no_mangle)]
extern "C" fn uvm_interrupted(block: &mut Block) {
    let frame = block.frame();
    // SAFETY: as in `uvm_patched`.
    let regs = unsafe { &mut (*frame).regs };
    block.ring(kind::INTERRUPT, false, regs, Exception::default());
    commands::serve(block, None);
    *regs = block.answer().regs;
}

/// Load the segment bases of the frame.
#[unsafe(no_mangle)]
extern "C" fn uvm_load_bases(block: &mut Block) {
    // SAFETY: as in `uvm_patched`.
    let regs = unsafe { (*block.frame()).regs };
    load_bases(block, regs.fs_base, regs.gs_base);
}

/// Give the guest its bases. While it has none of its own in %gs, the runtime does, and calls by patched sites are possible.
pub fn load_bases(block: &mut Block, fs: u64, gs: u64) {
    sys::set_fs_base(fs);
    sys::set_gs_base(if gs == 0 { block.me as u64 } else { gs });
    compiler_fence(Ordering::SeqCst);
}

/// First Rust code of a thread that shares memory with its maker.
#[unsafe(no_mangle)]
extern "C" fn uvm_child(frame: u64) -> *mut Block {
    let block = Block::around(frame);
    commands::begin(block);
    commands::serve(block, None);
    // SAFETY: this thread's own frame, above the stack in use.
    unsafe { (*block.frame()).regs = block.answer().regs };
    block
}
