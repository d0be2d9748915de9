//! Instructions that the host's processor lacks (`--emulate-missing`).

use crate::cpu::{Memory, Outcome, emulate};
use crate::platform::{Fault, Space, Thread, USER_END};

/// `si_code` of a page fault where nothing is mapped, and where something is.
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
/// Page fault: its vector, and bits of its error code.
const PAGE_FAULT: u64 = 14;
const GENERAL_PROTECTION: u64 = 13;
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;

struct GuestMemory<'a>(&'a dyn Space);

impl Memory for GuestMemory<'_> {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        is_guests(address, bytes) && self.0.read(address, bytes) == bytes.len()
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        is_guests(address, bytes) && self.0.write(address, bytes) == bytes.len()
    }
}

fn is_guests(address: u64, bytes: &[u8]) -> bool {
    let end = address.checked_add(bytes.len() as u64);
    end.is_some_and(|end| end <= USER_END)
}

/// Carry out the instruction that `code`, found at rip, begins with. None when it is none that is known; else the fault that it
/// meets, if it does.
pub(super) fn carry_out(thread: &mut dyn Thread, code: &[u8]) -> Option<Option<Fault>> {
    let space = thread.space().clone();
    let cpu = nix::sched::sched_getcpu().map_or(0, |cpu| u32::try_from(cpu).unwrap_or(0));
    match emulate(code, thread.regs_mut(), &mut GuestMemory(&*space), cpu) {
        Outcome::Done => Some(None),
        Outcome::Unknown => None,
        Outcome::BadMemory { address, write } => Some(Some(page_fault(&*space, address, write))),
    }
}

fn page_fault(space: &dyn Space, address: u64, write: bool) -> Fault {
    if (USER_END..u64::MAX << 47).contains(&address) {
        return Fault {
            signal: libc::SIGSEGV,
            code: libc::SI_KERNEL,
            addr: 0,
            trapno: GENERAL_PROTECTION,
            error: 0,
        };
    }
    let mappings = space.mappings().unwrap_or_default();
    let mapped = mappings.iter().any(|m| (m.start..m.end).contains(&address));
    let (code, present) = if mapped {
        (SEGV_ACCERR, PRESENT)
    } else {
        (SEGV_MAPERR, 0)
    };
    Fault {
        signal: libc::SIGSEGV,
        code,
        addr: address,
        trapno: PAGE_FAULT,
        error: USER | present | if write { WRITE } else { 0 },
    }
}
