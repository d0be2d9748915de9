//! General registers: between the protocol's form and the contract's, and what a guest may have.

use guest_runtime::abi::Registers;

use crate::platform::{HOST_END, Regs};

/// User code segment of 64-bit programs.
const USER_CS: u64 = 0x33;
/// User code segment of 32-bit programs, which a guest can jump to by itself.
const USER32_CS: u64 = 0x23;
/// User stack segment.
const USER_DS: u64 = 0x2b;
/// The flags a program can set by itself: arithmetic, trap, direction, alignment check, identification.
const FLAGS: u64 = 0x24_0dd5;
/// The reserved bit and the interrupt flag.
const CLEAN_FLAGS: u64 = 0x202;
/// The trap flag.
pub(super) const TRAP_FLAG: u64 = 0x100;

macro_rules! convert {
    ($from:ident => $to:ident { $($field:ident)* }) => { $to { $($field: $from.$field),* } };
}

/// As the contract has them.
pub(super) fn from_guest(regs: &Registers) -> Regs {
    convert!(regs => Regs { r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss
        fs_base gs_base ds es fs gs })
}

/// As the runtime can load them: user segments, harmless flags, addresses that do not fault when loaded.
pub(super) fn to_guest(regs: &Regs) -> Registers {
    let raw = convert!(regs => Registers { r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp
        ss fs_base gs_base ds es fs gs });
    Registers {
        cs: if regs.cs == USER32_CS { USER32_CS } else { USER_CS },
        ss: USER_DS,
        eflags: regs.eflags & FLAGS | CLEAN_FLAGS,
        fs_base: base(regs.fs_base),
        gs_base: base(regs.gs_base),
        ..raw
    }
}

/// A guest can load any canonical base by itself; others fault.
fn base(base: u64) -> u64 {
    const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;
    if (HOST_END..KERNEL_HALF).contains(&base) {
        0
    } else {
        base
    }
}

/// Registers of a thread that has none yet.
pub(super) fn initial() -> Regs {
    Regs {
        cs: USER_CS,
        ss: USER_DS,
        eflags: CLEAN_FLAGS,
        ..Regs::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_registers_become_harmless_ones() {
        let want = Regs {
            cs: 0x10,
            ss: 0x18,
            eflags: u64::MAX,
            fs_base: 1 << 60,
            gs_base: 7,
            ..Regs::default()
        };
        let got = to_guest(&want);
        assert_eq!(
            (got.cs, got.ss, got.fs_base, got.gs_base),
            (USER_CS, USER_DS, 0, 7)
        );
        assert_eq!(got.eflags & 0x4000, 0, "NT makes iretq fault");
    }
}
