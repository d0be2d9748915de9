//! The guest's vDSO: code that reads the clocks without a system call, and the page that it reads. See vdso(7).
//!
//! The code (`guest-runtime/vdso`) asks the host for its time, where the platform says how, and adds what this page says. All
//! guest processes map the same page and can only read it, so what is set is seen at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::NANOS_PER_SEC;
use crate::platform::{HostFile, PAGE_SIZE, SharedMemory};

/// The code, as the build script makes it.
const IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso.so"));

/// Words of the page, as the code knows them.
const HOST_CLOCK: usize = 0;
const REALTIME: usize = 1;
const MONOTONIC: usize = 2;
const CPUS: usize = 3;

/// The page and, behind it, the code: one file that programs map.
pub struct Vdso {
    memory: SharedMemory,
}

impl Vdso {
    /// One that finds the host's `clock_gettime` at `host_clock`, and tells of `cpus` CPUs. Without a clock of the host's it makes
    /// system calls.
    ///
    /// # Errors
    /// What the host says to a memory file.
    pub fn new(host_clock: Option<u64>, cpus: u32) -> Result<Vdso, Errno> {
        let len = Vdso::DATA + (IMAGE.len() as u64).next_multiple_of(PAGE_SIZE);
        let memory = SharedMemory::new(c"uvm-vdso", len, IMAGE, Vdso::DATA)?;
        memory.word(CPUS).store(cpus.into(), Ordering::SeqCst);
        memory
            .word(HOST_CLOCK)
            .store(host_clock.unwrap_or(0), Ordering::SeqCst);
        Ok(Vdso { memory })
    }

    /// Bytes in front of the code.
    pub const DATA: u64 = PAGE_SIZE;

    /// Bytes of both.
    pub fn size(&self) -> u64 {
        self.memory.size()
    }

    /// For programs to map.
    pub fn file(&self) -> &Arc<HostFile> {
        self.memory.file()
    }

    /// What /proc calls the part of it at an offset into the file.
    pub fn name(offset: u64) -> &'static [u8] {
        if offset < Vdso::DATA { b"[vvar]" } else { b"[vdso]" }
    }

    /// The guest's clocks from now on: nanoseconds to add to the host's.
    pub(super) fn tell(&self, realtime: i64, monotonic: i64) {
        let (Some(realtime), Some(monotonic)) = (pack(realtime), pack(monotonic)) else {
            self.memory.word(HOST_CLOCK).store(0, Ordering::SeqCst);
            return;
        };
        self.memory.word(REALTIME).store(realtime, Ordering::SeqCst);
        self.memory.word(MONOTONIC).store(monotonic, Ordering::SeqCst);
    }
}

/// Seconds above, nanoseconds in the lowest 30 bits. None when there are too many seconds.
fn pack(nanos: i64) -> Option<u64> {
    const BITS: u32 = 30;
    let per_sec = NANOS_PER_SEC.cast_signed();
    let sec = nanos.div_euclid(per_sec);
    let packed = sec << BITS | nanos.rem_euclid(per_sec);
    (packed >> BITS == sec).then_some(packed.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_add_are_one_word() {
        assert_eq!(pack(0), Some(0));
        assert_eq!(pack(1_999_999_999), Some(1 << 30 | 999_999_999));
        assert_eq!(pack(-1), Some((-1i64 << 30 | 999_999_999).cast_unsigned()));
        let century = 100 * 366 * 86_400 * 1_000_000_000;
        assert!(pack(century).is_some() && pack(-century).is_some());
        assert_eq!(pack(i64::MAX), None);
        assert_eq!(pack(i64::MIN), None);
    }

    #[test]
    fn an_offset_that_cannot_be_told_leaves_it_to_the_system_call() {
        let vdso = Vdso::new(Some(77), 2).unwrap();
        let word = |index: usize| vdso.memory.word(index).load(Ordering::SeqCst);
        vdso.tell(3, -4);
        assert_eq!((word(HOST_CLOCK), word(REALTIME), word(CPUS)), (77, 3, 2));
        vdso.tell(i64::MAX, 0);
        assert_eq!((word(HOST_CLOCK), word(REALTIME)), (0, 3));
    }
}
