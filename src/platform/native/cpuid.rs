//! CPUID faulting: a switch of the processor that the host keeps for each of its threads.
//!
//! The host sets the switch anew whenever it goes from a thread that has it on to one that has it off, which in a virtual machine takes
//! longer than all the rest of the change. So the supervisor's threads that guests hand over to have it on as well. If one of
//! them executes CPUID all the same, its switch goes off and it goes on.

use libc::{c_int, c_void, siginfo_t};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

const ARCH_GET_CPUID: c_int = 0x1011;
const ARCH_SET_CPUID: c_int = 0x1012;
const ALLOW: c_int = 1;
const FAULT: c_int = 0;

/// Whether the host can have CPUID fault.
pub(in crate::platform) fn can_fault() -> bool {
    set(ALLOW).is_ok()
}

/// Be ready for threads of this process that have it on.
pub(in crate::platform) fn expect_faults() {
    // What asks the processor once asks it now.
    let _ = std::arch::is_x86_feature_detected!("avx2");
    let _ = super::xstate::size();
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::SigAction(on_fault), flags, SigSet::empty());
    // SAFETY: the handler makes host calls and changes nothing else.
    let _ = unsafe { sigaction(Signal::SIGSEGV, &action) };
}

/// Have the switch of this host thread as guests have it, once faults are [expected](expect_faults).
pub(in crate::platform) fn join_guests() {
    // A host that cannot leaves guests with its own processor.
    let _ = set(FAULT);
}

fn set(mode: c_int) -> Result<(), Errno> {
    // SAFETY: no pointers; who executes CPUID after it is caught.
    Errno::result(unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, mode) }).map(drop)
}

/// The supervisor has met an exception. If that was CPUID it meets none again; any other ends it as ever.
extern "C" fn on_fault(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the host gives its information, no call has pointers, and a default action needs no handler.
    unsafe {
        let faulting = libc::syscall(libc::SYS_arch_prctl, ARCH_GET_CPUID, 0) == i64::from(FAULT);
        if (*info).si_code != libc::SI_KERNEL || !faulting || set(ALLOW).is_err() {
            libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_asks_the_processor_all_the_same_is_told() {
        let told = std::thread::spawn(|| {
            expect_faults();
            join_guests();
            [0, 0].map(|leaf| std::arch::x86_64::__cpuid_count(leaf, 0))
        });
        let told = told.join().unwrap();
        assert!(told[0].eax >= 1 && told[0].ebx == told[1].ebx);
    }
}
