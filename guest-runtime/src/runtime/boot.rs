//! The first stub's beginning: put the runtime where it belongs, leave nothing else mapped, wait for the supervisor.
//!
//! The host loads the program anywhere. Its first instructions, which need neither stack nor relocation, map the flat
//! image that the supervisor made of the same program, relocated to `RUNTIME_BASE`, and go on there.

use core::arch::global_asm;

use super::commands;
use super::cpuid;
use super::signals;
use super::sys;
use super::thread::{Block, Frame, STACK};
use crate::abi::{
    BELL_FD, FACTS_BASE, FACTS_FD, FACTS_LEN, HOST_END, HOST_VDSO, HOST_VDSO_BASE, HOST_VDSO_LEN, IMAGE_FD,
    IMAGE_HEADER, PAGE, PRIVATE_BASE, PRIVATE_STRIDE, RUNTIME_BASE, RUNTIME_MAX, SHARED_BASE, SHARED_STRIDE,
    SLOTS, VDSO_HEADER,
};

global_asm!(
    r#"
    .macro UVM_MMAP
    mov eax, 9
    syscall
    cmp rax, -4096
    ja 9f
    .endm

    .globl _start
_start:
    # Where the host put its vDSO: behind arguments and environment, in the auxiliary vector.
    mov rax, [rsp]
    lea rbx, [rsp + rax * 8 + 16]
1:  mov rax, [rbx]
    lea rbx, [rbx + 8]
    test rax, rax
    jnz 1b
2:  mov rax, [rbx]
    mov r12, [rbx + 8]
    lea rbx, [rbx + 16]
    cmp rax, {vdso_entry}
    je 3f
    test rax, rax
    jnz 2b
    xor r12d, r12d
3:  movabs rbp, {base}
    # The header of the image: how long its parts are.
    mov rdi, rbp
    mov esi, 4096
    mov edx, 1
    mov r10d, 0x12
    mov r8d, {image}
    xor r9d, r9d
    UVM_MMAP
    mov r13, [rbp + {header}]
    mov r14, [rbp + {header} + 8]
    mov r15, [rbp + {header} + 16]
    # The host's vDSO goes to its place before anything is put upon it. Not if it is there half already.
    mov rbx, [rbp + {parts}]
    movabs rdi, {vdso_base}
    mov rax, r12
    sub rax, rdi
    add rax, {vdso_len}
    cmp rax, 3 * {vdso_len}
    jae 4f
    xor r12d, r12d
4:  mov esi, {vdso_len}
    xor edx, edx
    mov r10d, 0x4032
    mov r8, -1
    UVM_MMAP
    test rbx, rbx
    jz 7f
    test r12, r12
    jz 7f
    lea r14, [rbp + {parts} + 8]
5:  movabs r8, {vdso}
    mov rdi, [r14]
    add r8, rdi
    add rdi, r12
    mov rsi, [r14 + 8]
    mov rdx, rsi
    mov r10d, 3
    mov eax, 25
    syscall
    cmp rax, -4096
    ja 7f
    add r14, 16
    dec rbx
    jnz 5b
7:  mov r14, [rbp + {header} + 8]
    mov r10d, 0x12
    mov r8d, {image}
    # Code and constants.
    mov rdi, rbp
    mov rsi, r13
    mov edx, 5
    UVM_MMAP
    # Data.
    lea rdi, [rbp + r13]
    mov rsi, r14
    mov edx, 3
    mov r9, r13
    UVM_MMAP
    # Doorbell pages and windows.
    movabs rdi, {shared}
    mov rsi, {shared_len}
    mov edx, 3
    mov r10d, 0x11
    mov r8d, {bell}
    xor r9d, r9d
    UVM_MMAP
    # Facts.
    movabs rdi, {facts}
    mov esi, {facts_len}
    mov edx, 1
    mov r8d, {facts_fd}
    UVM_MMAP
    # Thread blocks and stacks, reserved only.
    movabs rdi, {private}
    mov rsi, {private_len}
    mov edx, 3
    mov r10d, 0x4032
    mov r8, -1
    UVM_MMAP
    movabs rsp, {frame}
    xor ebp, ebp
    jmp r15
9:  mov edi, 98
    mov eax, 231
    syscall
    ud2
"#,
    base = const RUNTIME_BASE,
    image = const IMAGE_FD,
    header = const IMAGE_HEADER,
    parts = const VDSO_HEADER,
    vdso_entry = const AT_SYSINFO_EHDR,
    vdso = const HOST_VDSO,
    vdso_base = const HOST_VDSO_BASE,
    vdso_len = const HOST_VDSO_LEN,
    shared = const SHARED_BASE,
    shared_len = const SLOTS * SHARED_STRIDE,
    bell = const BELL_FD,
    facts = const FACTS_BASE,
    facts_len = const FACTS_LEN,
    facts_fd = const FACTS_FD,
    private = const PRIVATE_BASE,
    private_len = const SLOTS * PRIVATE_STRIDE,
    frame = const PRIVATE_BASE + PAGE + STACK - size_of::<Frame>() as u64,
);

/// Key of the vDSO's address in the auxiliary vector.
const AT_SYSINFO_EHDR: u64 = 33;

/// Private, anonymous, fixed, no memory set aside.
const RESERVE: u64 = 0x4032;

/// What the platform has no use for. The host must not give it to the guest, whose part ends at `RUNTIME_BASE`.
const RESERVED: [(u64, u64); 5] = [
    (RUNTIME_BASE + RUNTIME_MAX, FACTS_BASE),
    (FACTS_BASE + FACTS_LEN, HOST_VDSO_BASE),
    (HOST_VDSO_BASE + HOST_VDSO_LEN, SHARED_BASE),
    (SHARED_BASE + SLOTS * SHARED_STRIDE, PRIVATE_BASE),
    (PRIVATE_BASE + SLOTS * PRIVATE_STRIDE, HOST_END),
];

/// `_LINUX_CAPABILITY_VERSION_3`
const CAPABILITY_VERSION: u64 = 0x2008_0522;

/// `len`: bytes of the image, code and data.
#[unsafe(no_mangle)]
extern "C" fn uvm_boot_rust(len: u64) -> *mut Block {
    let block = Block::of_slot(0);
    block.token = 0;
    sys::look_at_processor();
    // Nothing of the host's program loading is left.
    sys::call(sys::MUNMAP, [0, RUNTIME_BASE, 0, 0, 0, 0]);
    let rest = (
        RUNTIME_BASE + len.next_multiple_of(PAGE),
        RUNTIME_BASE + RUNTIME_MAX,
    );
    for (start, end) in RESERVED.into_iter().chain([rest]) {
        sys::call(sys::MMAP, [start, end - start, 0, RESERVE, u64::MAX, 0]);
    }
    // Whoever runs uvm, guest code has no capability of the host's.
    let (header, none) = ([CAPABILITY_VERSION, 0], [0u64; 3]);
    sys::call(
        sys::CAPSET,
        [header.as_ptr() as u64, none.as_ptr() as u64, 0, 0, 0, 0],
    );
    sys::call(sys::CLOSE, [IMAGE_FD, 0, 0, 0, 0, 0]);
    sys::call(sys::CLOSE, [BELL_FD, 0, 0, 0, 0, 0]);
    sys::call(sys::CLOSE, [FACTS_FD, 0, 0, 0, 0, 0]);
    sys::set_gs_base(block.me as u64);
    commands::begin(block);
    signals::install();
    cpuid::install();
    commands::serve(block, None);
    // SAFETY: the frame at the top of this stack; only a child of the first stub, that shall run a guest, comes here.
    unsafe { (*block.frame()).regs = block.answer().regs };
    block
}
