//! The host's own vDSO, which the first stub keeps: guests read the host's clocks by it, through a vDSO of their own.
//!
//! Where the host's clock source cannot be read in user mode it makes a system call, which traps as any call from outside the
//! runtime. It must not get the guest's time for the host's: an error is what makes the guest's vDSO ask by itself.

use core::mem;

use super::memory;
use crate::abi::{HOST_VDSO, HOST_VDSO_BASE, HOST_VDSO_LEN};

/// What a call from the host's vDSO gets.
pub const ENOSYS: i64 = -38;

const CLOCK_MONOTONIC: i32 = 1;

/// Whether `address` is in it.
pub fn holds(address: u64) -> bool {
    (HOST_VDSO_BASE..HOST_VDSO_BASE + HOST_VDSO_LEN).contains(&address)
}

/// Call its `clock_gettime`, at `address`.
pub fn ask(address: u64) -> i64 {
    let mut time = [0i64; 2];
    // Its text is moved last; where that failed nothing can be read.
    let size = size_of_val(&time) as u64;
    if !holds(address) || memory::copy(&raw mut time as u64, HOST_VDSO, size) < size {
        return ENOSYS;
    }
    // SAFETY: the supervisor has found the function there; should a guest forge the command, it jumps where it could anyhow.
    let gettime: extern "C" fn(i32, *mut [i64; 2]) -> i32 = unsafe { mem::transmute(address) };
    i64::from(gettime(CLOCK_MONOTONIC, &raw mut time))
}
