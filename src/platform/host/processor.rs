//! What the processor offers, as the host has set it up.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::{__cpuid_count, _xgetbv};

use super::Answer;

/// `HWCAP2_FSGSBASE`: the host lets programs use the instructions.
const FSGSBASE: u64 = 1 << 1;

/// CPUID leaf of the extended state.
const XSTATE: u32 = 0xd;

/// Components of the extended state by bit of XCR0.
const COMPONENTS: [(u32, &str); 8] = [
    (0, "x87"),
    (1, "SSE"),
    (2, "AVX"),
    (3, "MPX"),
    (5, "AVX-512"),
    (9, "PKRU"),
    (17, "AMX"),
    (19, "APX"),
];

pub(super) fn fsgsbase() -> Answer {
    // SAFETY: it takes a number and reads what the host gave this process.
    let capabilities = unsafe { libc::getauxval(libc::AT_HWCAP2) };
    if capabilities & FSGSBASE != 0 {
        Ok(String::new())
    } else {
        Err("the processor lacks it, or the host has not enabled it".into())
    }
}

pub(super) fn bmi2() -> Answer {
    lacks_unless(is_x86_feature_detected!("bmi2"))
}

pub(super) fn rdpid() -> Answer {
    /// CPUID leaf 7, bit of ecx.
    const RDPID: u32 = 1 << 22;
    lacks_unless(cpuid(7, 0)[2] & RDPID != 0)
}

fn lacks_unless(there: bool) -> Answer {
    if there {
        Ok(String::new())
    } else {
        Err("the processor lacks it".into())
    }
}

/// What CPUID tells uvm: eax, ebx, ecx, edx.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    // SAFETY: every 64-bit processor has the instruction; compilers before 1.94 call it unsafe.
    #[allow(unused_unsafe)]
    let result = unsafe { __cpuid_count(leaf, subleaf) };
    [result.eax, result.ebx, result.ecx, result.edx]
}

pub(super) fn xsave() -> Answer {
    if !is_x86_feature_detected!("xsave") {
        return Err("the processor lacks it, or the host has not enabled it".into());
    }
    let size = cpuid(XSTATE, 0)[1];
    // SAFETY: the host has enabled XSAVE, and with it this instruction.
    let enabled = unsafe { _xgetbv(0) };
    let names: Vec<&str> = COMPONENTS
        .iter()
        .filter(|(bit, _)| enabled & 1 << bit != 0)
        .map(|(_, name)| *name)
        .collect();
    Ok(format!("{size} bytes: {}", names.join(", ")))
}
