//! Every instruction whose effect depends on more than the guest's own registers and memory, as Popek and Goldberg sort them, and what
//! becomes of it in a guest. All others are innocuous and run natively.

/// What kind an instruction is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It traps in user mode.
    Privileged,
    /// It changes, or tries to change, what belongs to the machine.
    Control,
    /// What it does or shows depends on the machine's state.
    Behaviour,
    /// It touches only what is the guest's, and is here for its exceptions.
    Innocuous,
}

impl Class {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Control => "control-sensitive",
            Self::Behaviour => "behaviour-sensitive",
            Self::Innocuous => "innocuous",
        }
    }
}

/// What makes an instruction trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It does so in user mode.
    Itself,
    /// The platforms see to it on every host that they run on.
    Platform,
    /// The fact of this id, where the host has it.
    Host(&'static str),
    /// Nothing does.
    Nothing,
}

/// What a guest gets of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handling {
    /// What uvm does with it where it traps, or what it does natively where nothing makes it trap.
    pub handled: &'static str,
    /// What of the host a guest sees by it all the same; empty for nothing.
    pub visible: &'static str,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// Its mnemonics.
    pub names: &'static str,
    /// What kind it is of.
    pub class: Class,
    /// What makes it trap.
    pub remedy: Remedy,
    /// What uvm does with it.
    pub with: Handling,
    /// What is so where [`Remedy::Host`] is not there; the same as `with` otherwise.
    pub without: Handling,
}

impl Instruction {
    /// Whether it traps on a host of which `has` tells the facts.
    pub fn traps(&self, has: impl Fn(&str) -> bool) -> bool {
        match self.remedy {
            Remedy::Itself | Remedy::Platform => true,
            Remedy::Host(fact) => has(fact),
            Remedy::Nothing => false,
        }
    }

    /// What a guest gets of it on such a host.
    pub fn handling(&self, has: impl Fn(&str) -> bool) -> Handling {
        match self.remedy {
            Remedy::Host(fact) if !has(fact) => self.without,
            _ => self.with,
        }
    }
}

const fn row(names: &'static str, class: Class, remedy: Remedy, with: Handling) -> Instruction {
    Instruction {
        names,
        class,
        remedy,
        with,
        without: with,
    }
}

const fn on(fact: &'static str, names: &'static str, with: Handling, without: Handling) -> Instruction {
    Instruction {
        names,
        class: Class::Behaviour,
        remedy: Remedy::Host(fact),
        with,
        without,
    }
}

const fn so(handled: &'static str, visible: &'static str) -> Handling {
    Handling { handled, visible }
}

const SEGV: Handling = so("SIGSEGV with SI_KERNEL, as on Linux", "");
const ILL: Handling = so("SIGILL with ILL_ILLOPN, as on Linux", "");
const NATIVE: Handling = so(
    "runs natively; on the ptrace platform vector and error code of an exception are inferred from its signal",
    "",
);

use Class::{Behaviour, Control, Innocuous, Privileged};
use Remedy::{Itself, Nothing, Platform};

/// The table.
pub const INSTRUCTIONS: &[Instruction] = &[
    on(
        "cpuid-faulting",
        "CPUID",
        so(
            "answered from the guest's model (--cpu, --cpus)",
            "sizes of the extended state, which programs and signal frames take from the processor itself",
        ),
        so(
            "runs natively",
            "the host's processor, its hypervisor and on which CPU the guest runs",
        ),
    ),
    on(
        "tsc-trapping",
        "RDTSC, RDTSCP",
        so(
            "runs natively; SIGSEGV for a guest that asked for that by PR_SET_TSC",
            "the host's counter; RDTSCP also the number of the host's CPU",
        ),
        so(
            "runs natively; PR_SET_TSC is refused",
            "the host's counter and the number of the host's CPU",
        ),
    ),
    row(
        "RDPID",
        Behaviour,
        Nothing,
        so("runs natively", "the number of the host's CPU"),
    ),
    on(
        "umip",
        "SGDT, SIDT, SLDT, STR, SMSW",
        so(
            "the host's kernel gives made-up values, the same on every host",
            "",
        ),
        so("runs natively", "where the host's descriptor tables lie"),
    ),
    row(
        "LAR, LSL, VERR, VERW",
        Behaviour,
        Nothing,
        so(
            "runs natively",
            "the host's segment descriptors, with the number of the host's CPU among them",
        ),
    ),
    row(
        "XGETBV",
        Behaviour,
        Nothing,
        so("runs natively", "which extended state the host has enabled"),
    ),
    row(
        "XSAVE, XSAVEC, XSAVEOPT, XRSTOR, FXSAVE, FXRSTOR",
        Behaviour,
        Nothing,
        so("runs natively", "the layout of the host's extended state"),
    ),
    row(
        "LDTILECFG, TILELOADD, TDPBSSD and others of AMX",
        Behaviour,
        Nothing,
        so(
            "SIGILL, as on Linux without permission; CPUID shows none, and ARCH_REQ_XCOMP_PERM is refused",
            "whether the host has AMX, by XGETBV and the size of the extended state",
        ),
    ),
    row(
        "RDRAND, RDSEED",
        Behaviour,
        Nothing,
        so(
            "runs natively; hidden by --cpu host,-rdrand,-rdseed from programs that ask CPUID",
            "",
        ),
    ),
    row(
        "RDPRU",
        Behaviour,
        Nothing,
        so("runs natively where there is one", "how fast the host's CPU runs"),
    ),
    row(
        "UMONITOR, UMWAIT, TPAUSE",
        Behaviour,
        Nothing,
        so(
            "runs natively where there is one",
            "how long the host lets programs wait by it",
        ),
    ),
    row(
        "VMCALL, VMMCALL",
        Behaviour,
        Nothing,
        so(
            "goes to what the host runs in, which refuses it to programs; SIGILL on bare hardware",
            "whether the host is a virtual machine",
        ),
    ),
    row(
        "PUSHF, POPF",
        Behaviour,
        Nothing,
        so(
            "runs natively: interrupts are always enabled, and the flags of privilege do not change",
            "",
        ),
    ),
    row(
        "MOV, PUSH, POP, LSS, LFS, LGS of segment registers",
        Behaviour,
        Nothing,
        so(
            "runs natively with the selectors of Linux; SIGSEGV for others",
            "",
        ),
    ),
    row(
        "RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE",
        Behaviour,
        Nothing,
        so(
            "runs natively: the bases are the guest's own",
            "on the seccomp platform, where the base of GS would be 0, that of the runtime",
        ),
    ),
    row(
        "RDPKRU, WRPKRU",
        Behaviour,
        Nothing,
        so("runs natively where there is one", ""),
    ),
    row(
        "RDSSP, INCSSP, WRSS",
        Behaviour,
        Nothing,
        so("does nothing, or SIGILL: there are no shadow stacks", ""),
    ),
    row(
        "CLI, STI",
        Control,
        Itself,
        so("SIGSEGV with SI_KERNEL; skipped after iopl(3), as on Linux", ""),
    ),
    row("HLT", Privileged, Itself, SEGV),
    row(
        "IN, OUT, INS, OUTS",
        Control,
        Itself,
        so(
            "SIGSEGV with SI_KERNEL; with ports given by ioperm(2) or iopl(2) carried out on virtual devices",
            "",
        ),
    ),
    row("INVD, WBINVD, WBNOINVD", Privileged, Itself, SEGV),
    row("INVLPG, INVPCID", Privileged, Itself, SEGV),
    row("RDMSR, WRMSR, RDPMC, XSETBV", Privileged, Itself, SEGV),
    row("LGDT, LIDT, LLDT, LTR, LMSW, CLTS", Privileged, Itself, SEGV),
    row("MOV to and from CRn and DRn", Privileged, Itself, SEGV),
    row("SWAPGS, SYSRET, SYSEXIT", Privileged, Itself, SEGV),
    row(
        "MONITOR, MWAIT, CLAC, STAC, RSM, XSAVES, XRSTORS, VMXON and others of virtualisation",
        Privileged,
        Itself,
        so("SIGILL or SIGSEGV, as on Linux", ""),
    ),
    row(
        "SYSCALL",
        Control,
        Platform,
        so("a call of the virtual kernel; the host never sees it", ""),
    ),
    row(
        "INT 0x80, SYSENTER, 32-bit SYSCALL",
        Control,
        Platform,
        so(
            "ENOSYS: there are no 32-bit calls; 32-bit programs are refused by execve with ENOEXEC",
            "behind SYSENTER, where guests go on at a place below 4 GiB, the lower half of the address of the host's vDSO",
        ),
    ),
    on(
        "vsyscall",
        "CALL into the vsyscall page",
        so("a call of the virtual kernel", ""),
        so("SIGSEGV, as on a Linux without that page", ""),
    ),
    row("INT n", Control, Itself, SEGV),
    row("INT3, INT1", Control, Itself, so("SIGTRAP, as on Linux", "")),
    row(
        "single steps by the trap flag",
        Control,
        Itself,
        so("SIGTRAP with TRAP_TRACE, as on Linux", ""),
    ),
    row(
        "UD0, UD1, UD2, INTO, BOUND and what else is no 64-bit instruction",
        Innocuous,
        Itself,
        ILL,
    ),
    row(
        "DIV, IDIV by zero or with overflow",
        Innocuous,
        Itself,
        so("SIGFPE, as on Linux", ""),
    ),
    row(
        "x87 and SSE instructions with unmasked exceptions",
        Innocuous,
        Itself,
        so("SIGFPE, as on Linux", ""),
    ),
    row(
        "misaligned accesses under the alignment-check flag",
        Innocuous,
        Itself,
        so("SIGBUS, as on Linux", ""),
    ),
    row(
        "far CALL, JMP, RET, IRET",
        Control,
        Nothing,
        so(
            "runs natively between the code segments of Linux, the 32-bit one included; SIGSEGV for others",
            "",
        ),
    ),
    row(
        "instructions that the host's processor lacks",
        Innocuous,
        Itself,
        so(
            "SIGILL, as on such a machine; with --emulate-missing scalar ones of x86-64-v2 and -v3 are carried out",
            "",
        ),
    ),
    row("all others", Innocuous, Nothing, NATIVE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_something_and_are_told_apart() {
        for (at, row) in INSTRUCTIONS.iter().enumerate() {
            let same = |other: &Instruction| other.names == row.names;
            assert_eq!(INSTRUCTIONS.iter().position(same), Some(at), "{}", row.names);
            for text in [row.names, row.with.handled, row.without.handled] {
                assert!(!text.is_empty() && !text.contains('\n'), "{}", row.names);
            }
            if row.class == Class::Privileged {
                assert_eq!(row.remedy, Remedy::Itself, "{}", row.names);
                assert!(row.with.visible.is_empty(), "{}", row.names);
            }
        }
    }

    #[test]
    fn what_a_host_lacks_shows() {
        let cpuid = &INSTRUCTIONS[0];
        assert!(cpuid.traps(|_| true) && !cpuid.traps(|_| false));
        assert_ne!(cpuid.handling(|_| true), cpuid.handling(|_| false));
    }

    #[test]
    fn remedies_are_facts_that_doctor_knows() {
        let facts = crate::platform::host::facts();
        for row in INSTRUCTIONS {
            if let Remedy::Host(id) = row.remedy {
                assert!(facts.iter().any(|fact| fact.id == id), "{}", row.names);
            }
        }
    }
}
