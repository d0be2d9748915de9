//! The program of a stub: one page that holds a `syscall` instruction and nothing else.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::platform::{USER_END, program};

/// Where the page lies right after execve, before it is moved to the platform's own place.
pub(super) use crate::platform::program::LOAD_ADDR;

/// Address of the `syscall` instruction right after execve.
pub(super) const LOAD_SYSCALL: u64 = LOAD_ADDR + program::CODE_OFFSET;

/// Address of the `syscall` instruction that host calls are made with.
pub(super) const SYSCALL: u64 = USER_END + program::CODE_OFFSET;

/// Bytes of the `syscall` instruction.
pub(super) const SYSCALL_LEN: u64 = 2;

/// Bytes of `syscall; int3`.
pub(super) const CALL_LEN: u64 = 3;

/// Make the stub's program: `syscall; int3`.
pub(super) fn create() -> Result<OwnedFd, Errno> {
    // It begins at the trap instruction: where it stops first, it is out of execve(2).
    program::sealed(c"uvm-stub", &program::one_page(&[0x0f, 0x05, 0xcc], SYSCALL_LEN))
}
