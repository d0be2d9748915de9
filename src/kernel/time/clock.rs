//! The guest's clock. Every time a guest sees comes from here, at the pace that its user chose.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

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

/// How a guest's clock moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// As the host's, adjustments of CLOCK_REALTIME included.
    #[default]
    Host,
    /// So many millionths of the host's speed.
    Rate(u32),
    /// As the host's while anything runs; when nothing does, it [jumps](Clock::jump) to the next timer.
    Travel,
    /// Only by jumps, and by a little each time it is read, so that loops that wait for a time end.
    TravelOnly,
    /// As the last, and a little with each call, by whoever has the [turn](crate::kernel::sched::Turns).
    Turns,
}

/// What CLOCK_REALTIME reads when the guest begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// So many nanoseconds ahead of the host's.
    Ahead(i64),
    /// So many nanoseconds since 1970.
    At(i64),
}

impl Default for Start {
    fn default() -> Self {
        Start::Ahead(0)
    }
}

/// What each reading costs where nothing else moves the clock, in nanoseconds.
const READING: u64 = 1000;

/// Millionths in a whole.
const MILLION: u128 = 1_000_000;

/// The clock of one guest. Monotonic time starts near 0 at its boot. Real time is another clock's plus what the guest has set:
/// the host's where that gives the pace, else the monotonic one.
pub struct Clock {
    pace: Pace,
    /// The host's CLOCK_MONOTONIC at the guest's boot.
    boot: u64,
    /// How far it has got otherwise than by the host's time.
    jumped: AtomicU64,
    realtime_offset: AtomicI64,
    hardware_offset: AtomicI64,
    was_set: WaitQueue,
    vdso: OnceLock<Vdso>,
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

impl Clock {
    /// The host's, with a boot now.
    pub fn new() -> Clock {
        Clock::starting(Pace::Host, Start::default())
    }

    /// A clock whose boot is now.
    pub fn starting(pace: Pace, start: Start) -> Clock {
        let host_now = host(ClockId::CLOCK_REALTIME).cast_signed();
        let start = match start {
            Start::Ahead(nanos) => host_now.saturating_add(nanos),
            Start::At(nanos) => nanos,
        };
        let offset = if pace == Pace::Host {
            start.saturating_sub(host_now)
        } else {
            start
        };
        Clock {
            pace,
            boot: host(ClockId::CLOCK_MONOTONIC),
            jumped: AtomicU64::new(0),
            realtime_offset: AtomicI64::new(offset),
            hardware_offset: AtomicI64::new(offset),
            was_set: WaitQueue::new(),
            vdso: OnceLock::new(),
        }
    }

    /// Whether it is another than the host's, so that nobody may read that one in its place.
    pub fn is_virtual(&self) -> bool {
        self.pace != Pace::Host
    }

    /// Whether it jumps when nothing runs.
    pub fn travels(&self) -> bool {
        matches!(self.pace, Pace::Travel | Pace::TravelOnly)
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

    /// What the host's CLOCK_MONOTONIC was at boot, and how far CLOCK_REALTIME is ahead of the host's, in nanoseconds. None when
    /// it goes its own way.
    pub fn against_host(&self) -> Option<(u64, i64)> {
        let ahead = self.realtime_offset.load(Ordering::Relaxed);
        (!self.is_virtual()).then_some((self.boot, ahead))
    }

    /// CLOCK_MONOTONIC (and BOOTTIME: a guest is never suspended without knowing).
    pub fn now(&self) -> Instant {
        let elapsed = || host(ClockId::CLOCK_MONOTONIC).saturating_sub(self.boot);
        let jumped = || self.jumped.load(Ordering::SeqCst);
        Instant(match self.pace {
            Pace::Host => elapsed(),
            Pace::Rate(millionths) => scale(elapsed(), millionths.into(), MILLION),
            Pace::Travel => elapsed().saturating_add(jumped()),
            Pace::TravelOnly | Pace::Turns => jumped(),
        })
    }

    /// A guest is going to read it. Whether that moves it.
    pub(in crate::kernel) fn note_reading(&self) -> bool {
        let moves = matches!(self.pace, Pace::TravelOnly | Pace::Turns);
        if moves {
            self.add(READING);
        }
        moves
    }

    /// It is so many nanoseconds later now. Only for clocks that nothing else moves.
    pub(in crate::kernel) fn add(&self, nanos: u64) {
        self.jumped.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Whether all of it follows from what the guest does.
    pub fn is_deterministic(&self) -> bool {
        self.pace == Pace::Turns
    }

    /// What the host's CLOCK_MONOTONIC will read at `instant`, in nanoseconds and at least 1. None when that is up to jumps.
    pub fn on_host(&self, instant: Instant) -> Option<u64> {
        let elapsed = match self.pace {
            Pace::Host => instant.0,
            Pace::Rate(millionths) => scale(instant.0, MILLION, millionths.max(1).into()).saturating_add(1),
            Pace::Travel => instant.0.saturating_sub(self.jumped.load(Ordering::SeqCst)),
            Pace::TravelOnly if instant <= self.now() => 0,
            Pace::TravelOnly | Pace::Turns => return None,
        };
        Some(self.boot.saturating_add(elapsed).max(1))
    }

    /// It is `instant` now, if that is later than it was. Only for clocks that travel.
    pub fn jump(&self, instant: Instant) {
        let ahead = instant.since(self.now());
        self.jumped.fetch_add(ahead, Ordering::SeqCst);
    }

    /// CLOCK_REALTIME in nanoseconds since 1970.
    pub fn realtime_nanos(&self) -> i64 {
        self.unset_realtime()
            .saturating_add(self.realtime_offset.load(Ordering::Relaxed))
    }

    /// What CLOCK_REALTIME would read if nobody had set it.
    fn unset_realtime(&self) -> i64 {
        if self.is_virtual() {
            i64::try_from(self.now().0).unwrap_or(i64::MAX)
        } else {
            host(ClockId::CLOCK_REALTIME).cast_signed()
        }
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
        let offset = nanos.saturating_sub(self.unset_realtime());
        if let Some(vdso) = self.vdso() {
            vdso.tell(offset, self.monotonic_offset());
        }
        self.realtime_offset.store(offset, Ordering::SeqCst);
        self.was_set.notify(Events::empty());
    }

    /// The clock that goes on while the machine is off: CLOCK_REALTIME as it would be had nobody set it, until this one is set
    /// itself. In nanoseconds since 1970.
    pub fn hardware_nanos(&self) -> i64 {
        self.unset_realtime()
            .saturating_add(self.hardware_offset.load(Ordering::Relaxed))
    }

    /// Set the hardware clock alone.
    pub fn set_hardware_nanos(&self, nanos: i64) {
        let offset = nanos.saturating_sub(self.unset_realtime());
        self.hardware_offset.store(offset, Ordering::Relaxed);
    }

    /// Notified when CLOCK_REALTIME was set.
    pub fn was_set(&self) -> &WaitQueue {
        &self.was_set
    }
}

/// `nanos * by / per`, stopping at the far future.
fn scale(nanos: u64, by: u128, per: u128) -> u64 {
    u64::try_from(u128::from(nanos).saturating_mul(by) / per).unwrap_or(u64::MAX)
}

/// The host's, in nanoseconds.
pub(in crate::kernel) fn host_monotonic() -> u64 {
    host(ClockId::CLOCK_MONOTONIC)
}

fn host(id: ClockId) -> u64 {
    let Ok(now) = clock_gettime(id) else { return 0 };
    now.tv_sec()
        .cast_unsigned()
        .saturating_mul(NANOS_PER_SEC)
        .saturating_add(now.tv_nsec().cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3600 * NANOS_PER_SEC;

    #[test]
    fn a_frozen_clock_moves_by_jumps_and_readings_alone() {
        let clock = Clock::starting(Pace::TravelOnly, Start::At(7));
        assert_eq!((clock.now(), clock.realtime_nanos()), (Instant(0), 7));
        assert!(clock.note_reading());
        assert_eq!(clock.now(), Instant(READING));
        clock.jump(Instant(HOUR));
        clock.jump(Instant(1));
        assert_eq!(clock.now(), Instant(HOUR));
        assert_eq!(clock.realtime_nanos(), HOUR.cast_signed() + 7);
        assert_eq!(clock.on_host(Instant(HOUR + 1)), None);
        assert!(clock.on_host(Instant(HOUR)).is_some());
    }

    #[test]
    fn a_travelling_clock_keeps_its_jumps_and_goes_on() {
        let clock = Clock::starting(Pace::Travel, Start::default());
        clock.jump(Instant(HOUR));
        let now = clock.now();
        assert!(now >= Instant(HOUR));
        let soon = clock.on_host(now.after(1000)).unwrap();
        assert!(
            soon < clock.boot + HOUR,
            "its timers come sooner on the host's clock"
        );
    }

    #[test]
    fn a_rate_is_undone_on_the_way_back() {
        for millionths in [1000, 999_999, 1_000_000, 7_000_001] {
            let clock = Clock::starting(Pace::Rate(millionths), Start::default());
            let host = clock.on_host(Instant(HOUR)).unwrap() - clock.boot;
            let back = scale(host, millionths.into(), MILLION);
            assert!(
                (HOUR..HOUR + 10).contains(&back),
                "{millionths}: {back} is never early"
            );
        }
    }

    #[test]
    fn setting_one_clock_does_not_move_the_other() {
        for pace in [Pace::Host, Pace::Rate(2_000_000), Pace::Travel, Pace::TravelOnly] {
            let clock = Clock::starting(pace, Start::At(5));
            let before = clock.now();
            clock.set_realtime_nanos(HOUR.cast_signed());
            assert!(clock.realtime_nanos() >= HOUR.cast_signed());
            assert!(clock.now() < before.after(HOUR));
            assert!(clock.instant_of_realtime(2 * HOUR) <= clock.now().after(HOUR));
        }
    }
}
