//! Times in guest memory.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::kernel::time::NANOS_PER_SEC;

/// `struct timespec` (and the kernel's 64-bit one, which is the same here).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Timespec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds.
    pub nsec: i64,
}

impl Timespec {
    /// As nanoseconds; none when negative or not normalised (EINVAL to most calls).
    pub fn nanos(self) -> Option<u64> {
        let nsec = u64::try_from(self.nsec).ok().filter(|n| *n < NANOS_PER_SEC)?;
        Some(
            u64::try_from(self.sec)
                .ok()?
                .saturating_mul(NANOS_PER_SEC)
                .saturating_add(nsec),
        )
    }

    /// From nanoseconds.
    pub fn from_nanos(nanos: u64) -> Timespec {
        Timespec {
            sec: (nanos / NANOS_PER_SEC).cast_signed(),
            nsec: (nanos % NANOS_PER_SEC).cast_signed(),
        }
    }
}
