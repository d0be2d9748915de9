//! Memory as instructions that are carried out here reach it, and the faults that they meet.

use crate::cpu::{Buffer, Memory};
use crate::platform::{Fault, Space, USER_END};

/// `si_code` of a page fault where nothing is mapped, and where something is.
const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
/// Page fault: its vector, and bits of its error code.
const PAGE_FAULT: u64 = 14;
const GENERAL_PROTECTION: u64 = 13;
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;

pub(super) struct GuestMemory<'a>(pub(super) &'a dyn Space);

impl Memory for GuestMemory<'_> {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        Buffer::read(self, address, bytes) == bytes.len()
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> bool {
        Buffer::write(self, address, bytes) == bytes.len()
    }
}

impl Buffer for GuestMemory<'_> {
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> usize {
        let own = guests(address, bytes.len());
        self.0.read(address, &mut bytes[..own])
    }

    fn write(&mut self, address: u64, bytes: &[u8]) -> usize {
        let own = guests(address, bytes.len());
        self.0.write(address, &bytes[..own])
    }
}

/// How many of `length` bytes from `address` on may be the guest's.
fn guests(address: u64, length: usize) -> usize {
    usize::try_from(USER_END.saturating_sub(address)).map_or(length, |left| left.min(length))
}

/// The fault of an access to `address`, which failed.
pub(super) fn page_fault(space: &dyn Space, address: u64, write: bool) -> Fault {
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
