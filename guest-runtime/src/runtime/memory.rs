//! Copies that a bad guest address ends early instead of killing, and the memory functions that compiled code calls.

use core::arch::global_asm;

use crate::abi::RUNTIME_BASE;

global_asm!(
    r#"
    # uvm_copy(dst, src, len): bytes left. A fault between the labels goes on at uvm_copy_out.
    .globl uvm_copy, uvm_copy_start, uvm_copy_out
uvm_copy:
    mov rcx, rdx
uvm_copy_start:
    rep movsb
uvm_copy_out:
    mov rax, rcx
    ret

    # uvm_set_bit(word, bit): 0, or 1 after a fault
    .globl uvm_set_bit, uvm_set_bit_start
uvm_set_bit:
    mov ecx, 1
uvm_set_bit_start:
    lock bts dword ptr [rdi], esi
    xor ecx, ecx
    jmp uvm_copy_out

    # uvm_probe(byte): 0, or 1 after a fault
    .globl uvm_probe, uvm_probe_start
uvm_probe:
    mov ecx, 1
uvm_probe_start:
    lock or byte ptr [rdi], 0
    xor ecx, ecx
    jmp uvm_copy_out

    # uvm_xrstor(image): 0, or 1 when the CPU refuses it
    .globl uvm_xrstor, uvm_xrstor_start
uvm_xrstor:
    mov ecx, 1
    mov eax, -1
    mov edx, -1
uvm_xrstor_start:
    xrstor64 [rdi]
    xor ecx, ecx
    jmp uvm_copy_out

    .globl memcpy, memmove, memset, memcmp, bcmp
memcpy:
    mov rax, rdi
    mov rcx, rdx
    rep movsb
    ret
memmove:
    mov rax, rdi
    mov rcx, rdx
    cmp rdi, rsi
    jbe 1f
    lea rdi, [rdi + rcx - 1]
    lea rsi, [rsi + rcx - 1]
    std
    rep movsb
    cld
    ret
1:  rep movsb
    ret
memset:
    mov r8, rdi
    mov eax, esi
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
memcmp:
bcmp:
    xor eax, eax
    mov rcx, rdx
    cmp rcx, rcx
    repe cmpsb
    je 1f
    movzx eax, byte ptr [rdi - 1]
    movzx ecx, byte ptr [rsi - 1]
    sub eax, ecx
1:  ret
"#
);

unsafe extern "C" {
    fn uvm_copy(dst: u64, src: u64, len: u64) -> u64;
    fn uvm_set_bit(word: u64, bit: u64) -> u64;
    fn uvm_probe(byte: u64) -> u64;
    fn uvm_xrstor(image: u64) -> u64;
    safe fn uvm_copy_start();
    safe fn uvm_copy_out();
    safe fn uvm_set_bit_start();
    safe fn uvm_probe_start();
    safe fn uvm_xrstor_start();
}

/// Copy `len` bytes as far as both sides allow; the number copied. Neither side may wrap around.
pub fn copy(dst: u64, src: u64, len: u64) -> u64 {
    // SAFETY: a fault is caught; that `dst` is memory that may be changed is the supervisor's business.
    len - unsafe { uvm_copy(dst, src, len) }.min(len)
}

/// Set a bit of a guest word. False when the address is bad.
pub fn set_bit(word: u64, bit: u64) -> bool {
    // SAFETY: as above.
    word < RUNTIME_BASE && unsafe { uvm_set_bit(word, bit & 31) } == 0
}

/// Whether a guest byte can be written, by writing it as it is.
pub fn is_writable(byte: u64) -> bool {
    // SAFETY: a fault is caught; no value changes, whoever else writes.
    byte < RUNTIME_BASE && unsafe { uvm_probe(byte) } == 0
}

/// Load the extended state from an image. False when the CPU refuses it.
pub fn load_xstate(image: u64) -> bool {
    // SAFETY: Rust code keeps nothing in vector registers across this call but what the caller saved.
    unsafe { uvm_xrstor(image) == 0 }
}

/// Where to go on after a fault at `rip` in a copy; none when it was elsewhere.
pub fn fixup(rip: u64) -> Option<u64> {
    let copying = rip == uvm_copy_start as *const () as u64;
    let setting = rip == uvm_set_bit_start as *const () as u64;
    let probing = rip == uvm_probe_start as *const () as u64;
    let loading = rip == uvm_xrstor_start as *const () as u64;
    (copying || setting || probing || loading).then_some(uvm_copy_out as *const () as u64)
}
