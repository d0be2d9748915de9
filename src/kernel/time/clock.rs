//! The guest's clock. Every time a guest sees comes from here, so that it can later be virtual.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use nix::time::{ClockId, clock_gettime};

use super::Vdso;
use crate::kernel::wait::{Events, WaitQueue};

/// Nanoseconds in a second.
pub const NANOS_PER_SEC: u64 = 1_000_000_000;

/// A point on the guest's CLOCK_MONOTONIC, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant(pub u64);

impl Instant {
    /// Never.
    pub const FAR_FUTURE: Instant = Instant(u64::MAX);

    /// Later by `nanos`; stops at the far future.
    pub fn after(self, nanos: u64) -> Instant {
        Instant(self.0.saturating_add(nanos))
    }

    /// Nanoseconds from `earlier` to this, or 0.
    pub fn since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A point on the guest's CLOCK_REALTIME as files keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub sec: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nsec: u32,
}

impl Timestamp {
    /// From nanoseconds since 1970.
    pub fn from_nanos(nanos: i64) -> Timestamp {
        let per_sec = NANOS_PER_SEC.cast_signed();
        Timestamp {
            sec: nanos.div_euclid(per_sec),
            nsec: u32::try_from(nanos.rem_euclid(per_sec)).unwrap_or_default(),
        }
    }
}

/// The clock of one guest: monotonic time starts near 0 at its boot, real time is the host's plus what the guest set.
pub struct Clock {
    boot: u64,
    realtime_offset: AtomicI64,
    was_set: WaitQueue,
    vdso: OnceLock<Vdso>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

impl Clock {
    /// A clock whose boot is now.
    pub fn new() -> Clock {
        Clock {
            boot: host(ClockId::CLOCK_MONOTONIC),
            realtime_offset: AtomicI64::new(0),
            was_set: WaitQueue::new(),
            vdso: OnceLock::new(),
        }
    }

    /// Have guests read it by `vdso` too, which programs that begin from now on get. Once.
    pub fn show(&self, vdso: Vdso) {
        vdso.tell(
            self.realtime_offset.load(Ordering::SeqCst),
            self.monotonic_offset(),
        );
        if self.vdso.set(vdso).is_err() {
            tracing::error!("the clock has a vDSO already");
        }
    }

    /// What guests read it by; none where the host gave no memory for it.
    pub fn vdso(&self) -> Option<&Vdso> {
        self.vdso.get()
    }

    fn monotonic_offset(&self) -> i64 {
        0i64.saturating_sub_unsigned(self.boot)
    }

    /// What the host's CLOCK_MONOTONIC was at boot, and how far CLOCK_REALTIME is ahead of the host's, in nanoseconds.
    pub fn against_host(&self) -> (u64, i64) {
        (self.boot, self.realtime_offset.load(Ordering::Relaxed))
    }

    /// CLOCK_MONOTONIC (and BOOTTIME: a guest is never suspended without knowing).
    pub fn now(&self) -> Instant {
        Instant(host(ClockId::CLOCK_MONOTONIC).saturating_sub(self.boot))
    }

    /// CLOCK_REALTIME in nanoseconds since 1970.
    pub fn realtime_nanos(&self) -> i64 {
        host(ClockId::CLOCK_REALTIME)
            .cast_signed()
            .saturating_add(self.realtime_offset.load(Ordering::Relaxed))
    }

    /// CLOCK_REALTIME as a file time.
    pub fn realtime(&self) -> Timestamp {
        Timestamp::from_nanos(self.realtime_nanos())
    }

    /// When CLOCK_REALTIME will read `nanos`, unless it is set meanwhile.
    pub fn instant_of_realtime(&self, nanos: u64) -> Instant {
        let ahead = i128::from(nanos) - i128::from(self.realtime_nanos());
        let instant = i128::from(self.now().0) + ahead;
        Instant(u64::try_from(instant.max(0)).unwrap_or(u64::MAX))
    }

    /// Set CLOCK_REALTIME for this guest alone. Call it without any lock held: timers that follow it act at once.
    pub fn set_realtime_nanos(&self, nanos: i64) {
        let offset = nanos.saturating_sub(host(ClockId::CLOCK_REALTIME).cast_signed());
        if let Some(vdso) = self.vdso() {
            vdso.tell(offset, self.monotonic_offset());
        }
        self.realtime_offset.store(offset, Ordering::SeqCst);
        self.was_set.notify(Events::empty());
    }

    /// Notified when CLOCK_REALTIME was set.
    pub fn was_set(&self) -> &WaitQueue {
        &self.was_set
    }
}

fn host(id: ClockId) -> u64 {
    let Ok(now) = clock_gettime(id) else { return 0 };
    now.tv_sec()
        .cast_unsigned()
        .saturating_mul(NANOS_PER_SEC)
        .saturating_add(now.tv_nsec().cast_unsigned())
}
