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

/// `struct itimerspec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Itimerspec {
    /// From one expiry to the next.
    pub interval: Timespec,
    /// To the next expiry.
    pub value: Timespec,
}

/// `struct timeval`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Timeval {
    /// Seconds.
    pub sec: i64,
    /// Microseconds.
    pub usec: i64,
}

impl Timeval {
    /// As nanoseconds; none when negative or not normalised.
    pub fn nanos(self) -> Option<u64> {
        let nsec = self.usec.checked_mul(1000)?;
        Timespec { sec: self.sec, nsec }.nanos()
    }

    /// From nanoseconds, cut to microseconds.
    pub fn from_nanos(nanos: u64) -> Timeval {
        let spec = Timespec::from_nanos(nanos);
        Timeval {
            sec: spec.sec,
            usec: spec.nsec / 1000,
        }
    }
}

/// `struct itimerval`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Itimerval {
    /// From one expiry to the next.
    pub interval: Timeval,
    /// To the next expiry.
    pub value: Timeval,
}
