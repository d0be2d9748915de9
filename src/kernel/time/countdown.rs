//! A timer of any of the guest's clocks: what timerfd, setitimer(2) and timer_create(2) have in common.

use std::sync::Arc;

use super::cpu::CpuClock;
use super::{Instant, NANOS_PER_SEC};
use crate::kernel::Kernel;
use crate::kernel::stop::Errno;
use crate::kernel::wait::Wakeup;
use crate::kernel::wait::reactor::Timer;

/// Longest time between two looks at a CPU clock that stands still although a thread seems to run, in nanoseconds.
const MAX_SAMPLE: u64 = NANOS_PER_SEC / 10;

/// Shortest time between two looks at a running CPU clock, in nanoseconds.
const MIN_SAMPLE: u64 = NANOS_PER_SEC / 1000;

/// The clock a countdown runs on.
#[derive(Clone)]
pub enum Base {
    /// CLOCK_MONOTONIC and its like.
    Monotonic,
    /// CLOCK_REALTIME: an absolute time moves when the clock is set.
    Realtime,
    /// CPU time of a process or thread.
    Cpu(CpuClock),
}

impl Base {
    /// The present reading in nanoseconds.
    pub fn now(&self, kernel: &Kernel) -> u64 {
        match self {
            Base::Monotonic => kernel.clock.now().0,
            Base::Realtime => u64::try_from(kernel.clock.realtime_nanos()).unwrap_or(0),
            Base::Cpu(clock) => clock.now(),
        }
    }
}

/// A timer that can be set, read and let expire. It calls its waiter when it may have expired; the waiter asks
/// [`Countdown::expirations`] and then [`Countdown::arm`]s it for the next time.
pub struct Countdown {
    /// The clock that it was made for.
    clock: Base,
    /// The clock that counts, as it was last set.
    base: Base,
    /// When it expires next, on its clock.
    expiry: Option<u64>,
    /// Nanoseconds from then to the next time, or 0.
    interval: u64,
    /// Set by an absolute time on CLOCK_REALTIME.
    follows_clock: bool,
    armed: Option<Timer>,
    /// Reading and distance of the last look at a CPU clock.
    sample: Option<(u64, u64)>,
}

impl Countdown {
    /// A stopped countdown.
    pub fn new(clock: Base) -> Countdown {
        Countdown {
            base: clock.clone(),
            clock,
            expiry: None,
            interval: 0,
            follows_clock: false,
            armed: None,
            sample: None,
        }
    }

    /// Whether it is set to a point of CLOCK_REALTIME, which moves when that clock is set.
    pub fn follows_clock(&self) -> bool {
        self.follows_clock
    }

    /// Set it to `value` nanoseconds from now (or to that time), 0 to stop it; then every `interval` nanoseconds.
    pub fn set(&mut self, kernel: &Kernel, value: u64, absolute: bool, interval: u64) {
        self.armed = None;
        self.sample = None;
        self.interval = interval;
        self.follows_clock = absolute && matches!(self.clock, Base::Realtime);
        self.base = match &self.clock {
            // A relative time is not moved by setting the clock: count it on the one that cannot be set.
            Base::Realtime if !absolute => Base::Monotonic,
            clock => clock.clone(),
        };
        let start = if absolute { 0 } else { self.base.now(kernel) };
        self.expiry = (value != 0).then(|| start.saturating_add(value));
    }

    /// Nanoseconds to the next expiry (0: stopped) and the interval.
    pub fn get(&self, kernel: &Kernel) -> (u64, u64) {
        self.get_at(self.base.now(kernel))
    }

    fn get_at(&self, now: u64) -> (u64, u64) {
        let Some(expiry) = self.expiry else {
            return (0, self.interval);
        };
        let left = match now.checked_sub(expiry) {
            None | Some(0) => expiry - now,
            Some(late) if self.interval > 0 => self.interval - late % self.interval,
            // Expired but not seen yet: a running timer never shows 0.
            Some(_) => 1,
        };
        (left.max(1), self.interval)
    }

    /// How often it has expired since this was last asked; it is then set to its next time or stopped.
    pub fn expirations(&mut self, kernel: &Kernel) -> u64 {
        self.expirations_at(self.base.now(kernel))
    }

    fn expirations_at(&mut self, now: u64) -> u64 {
        let Some(late) = self.expiry.and_then(|expiry| now.checked_sub(expiry)) else {
            return 0;
        };
        let Some(periods) = late.checked_div(self.interval) else {
            self.expiry = None;
            return 1;
        };
        let count = periods.saturating_add(1);
        self.expiry = self
            .expiry
            .map(|expiry| expiry.saturating_add(count.saturating_mul(self.interval)));
        count
    }

    /// Whether it has expired since [`Countdown::expirations`] was last asked.
    pub fn is_due(&self, kernel: &Kernel) -> bool {
        self.expiry.is_some_and(|expiry| self.base.now(kernel) >= expiry)
    }

    /// Have `waiter` called when it expires, or, on a CPU clock, when it is worth looking again. Nothing for a stopped one.
    pub fn arm(&mut self, kernel: &Kernel, waiter: &Arc<dyn Wakeup>) {
        self.arm_after(kernel, waiter, 0);
    }

    /// As [`Countdown::arm`], but not sooner than `pause` nanoseconds from now.
    pub fn arm_after(&mut self, kernel: &Kernel, waiter: &Arc<dyn Wakeup>, pause: u64) {
        self.armed = None;
        let Some(expiry) = self.expiry else { return };
        let now = kernel.clock.now();
        let deadline = match &self.base {
            Base::Monotonic => Instant(expiry),
            Base::Realtime => kernel.clock.instant_of_realtime(expiry),
            Base::Cpu(clock) => {
                let reading = clock.now();
                let stands = self.sample.is_some_and(|(before, _)| before == reading);
                if stands && clock.doze(waiter) {
                    self.sample = None;
                    return;
                }
                let left = expiry.saturating_sub(reading) / clock.speed();
                // A clock that stands still is looked at less and less often.
                let least = match self.sample {
                    Some((_, distance)) if stands => distance.saturating_mul(2).min(MAX_SAMPLE),
                    _ => MIN_SAMPLE,
                };
                let distance = left.max(least);
                self.sample = Some((reading, distance));
                if !kernel.clock.is_deterministic() {
                    self.armed = Some(kernel.reactor.host_timer(distance.max(pause), waiter));
                    return;
                }
                now.after(distance)
            }
        };
        let deadline = deadline.max(now.after(pause));
        self.armed = Some(kernel.reactor.timer(deadline, waiter));
    }
}

/// A value and an interval of `struct itimerspec` in nanoseconds; EINVAL when not normalised.
pub(super) fn nanos_of(spec: crate::kernel::abi::time::Timespec) -> Result<u64, Errno> {
    spec.nanos().ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(expiry: u64, interval: u64) -> Countdown {
        Countdown {
            expiry: Some(expiry),
            interval,
            ..Countdown::new(Base::Monotonic)
        }
    }

    #[test]
    fn one_shot() {
        let mut timer = at(100, 0);
        assert_eq!((timer.get_at(30), timer.expirations_at(99)), ((70, 0), 0));
        assert_eq!(timer.expirations_at(100), 1);
        assert_eq!((timer.expirations_at(1000), timer.get_at(1000)), (0, (0, 0)));
    }

    #[test]
    fn periodic_counts_what_was_missed() {
        let mut timer = at(100, 10);
        assert_eq!(timer.get_at(125), (5, 10));
        assert_eq!(timer.expirations_at(125), 3);
        assert_eq!((timer.expirations_at(129), timer.get_at(129)), (0, (1, 10)));
        assert_eq!(timer.expirations_at(130), 1);
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        let mut timer = at(0, 1);
        assert_eq!(timer.expirations_at(u64::MAX), u64::MAX);
        assert!(at(u64::MAX, u64::MAX).get_at(0).0 == u64::MAX);
    }
}
