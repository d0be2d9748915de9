//! /dev/rtc0: rtc(4). It shows and sets the guest's hardware clock, and tells of seconds, periods and an alarm.

use std::sync::{Arc, Weak};

use super::Civil;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::{Clock, NANOS_PER_SEC};
use crate::kernel::wait::reactor::{Reactor, Timer};
use crate::kernel::wait::{Events, WaitQueue, Wakeup};

/// What has happened, as read(2) tells it: any, a period, the alarm, a second. The count is above.
const ANY: u64 = 0x80;
const PERIODIC: u64 = 0x40;
const AT_ALARM: u64 = 0x20;
const UPDATED: u64 = 0x10;
const COUNT: u64 = 0x100;

/// Most periods in a second that need no privilege.
pub(super) const USER_FREQUENCY: u64 = 64;
/// Most periods in a second.
pub(super) const FREQUENCY_MAX: u64 = 8192;

const SECOND: i64 = NANOS_PER_SEC.cast_signed();
/// As with a real one, the first second after it was set takes half as long; those who set it know that.
const HALF_SECOND: i64 = SECOND / 2;

/// The hardware clock of a guest.
pub struct Rtc {
    clock: Arc<Clock>,
    reactor: Arc<Reactor>,
    me: Weak<Rtc>,
    pub(super) queue: WaitQueue,
    state: Lock<State>,
}

/// All times are of the hardware clock: seconds, or nanoseconds where it says so.
#[derive(Default)]
struct State {
    is_open: bool,
    /// While each second is told of: the last one that was.
    second: Option<i64>,
    /// While periods are told of: the number of the last one that was.
    period: Option<i64>,
    /// How many of them there are in a second.
    frequency: u64,
    alarm: i64,
    alarm_is_on: bool,
    /// What read(2) gives next.
    data: u64,
    timer: Option<Timer>,
}

impl State {
    /// Nanoseconds of a period.
    fn length(&self) -> i64 {
        (NANOS_PER_SEC / self.frequency.max(1)).cast_signed()
    }

    /// Note what has happened until `now`, in nanoseconds.
    fn collect(&mut self, now: i64) {
        let (length, second) = (self.length(), now.div_euclid(SECOND));
        let mut add = |count: i64, what: u64| {
            let count = u64::try_from(count).unwrap_or(0).min(u32::MAX.into());
            if count > 0 {
                self.data = self.data.saturating_add(count * COUNT) | ANY | what;
            }
        };
        if let Some(last) = &mut self.second {
            add(second - std::mem::replace(last, second), UPDATED);
        }
        if let Some(last) = &mut self.period {
            let period = now.div_euclid(length);
            add(period - std::mem::replace(last, period), PERIODIC);
        }
        if self.alarm_is_on && second >= self.alarm {
            self.alarm_is_on = false;
            add(1, AT_ALARM);
        }
    }

    /// When there will be something to note next, in nanoseconds; what lies beyond the clock's end never comes.
    fn next(&self) -> Option<i64> {
        let second = self.second.map(|last| (last + 1).checked_mul(SECOND));
        let period = self.period.map(|last| (last + 1).checked_mul(self.length()));
        let alarm = self.alarm_is_on.then(|| self.alarm.checked_mul(SECOND));
        [second, period, alarm].into_iter().flatten().flatten().min()
    }
}

/// What can be asked of its state.
pub(super) struct Shown {
    pub(super) alarm: i64,
    pub(super) alarm_is_on: bool,
    pub(super) tells_seconds: bool,
    pub(super) tells_periods: bool,
    pub(super) frequency: u64,
}

impl Rtc {
    /// The one of this clock.
    pub fn new(clock: &Arc<Clock>, reactor: &Arc<Reactor>) -> Arc<Rtc> {
        Arc::new_cyclic(|me| Rtc {
            clock: clock.clone(),
            reactor: reactor.clone(),
            me: me.clone(),
            queue: WaitQueue::new(),
            state: Lock::new(
                Rank::Object,
                State {
                    frequency: 1,
                    ..State::default()
                },
            ),
        })
    }

    /// Seconds since 1970.
    pub(super) fn seconds(&self) -> i64 {
        self.reactor.clock_is_read();
        self.clock.hardware_nanos().div_euclid(SECOND)
    }

    pub(super) fn time(&self) -> Civil {
        Civil::from_seconds(self.seconds())
    }

    /// Set it to a second since 1970.
    pub(super) fn set(&self, seconds: i64) {
        let nanos = seconds.saturating_mul(SECOND).saturating_add(HALF_SECOND);
        self.change(|state, _| {
            self.clock.set_hardware_nanos(nanos);
            // What it was set over has not passed.
            let now = self.clock.hardware_nanos();
            state.second = state.second.map(|_| now.div_euclid(SECOND));
            state.period = state.period.map(|_| now.div_euclid(state.length()));
        });
    }

    pub(super) fn shown(&self) -> Shown {
        let state = self.state.lock();
        Shown {
            alarm: state.alarm,
            alarm_is_on: state.alarm_is_on,
            tells_seconds: state.second.is_some(),
            tells_periods: state.period.is_some(),
            frequency: state.frequency,
        }
    }

    /// Change what is told of, knowing what the clock reads.
    fn change<T>(&self, change: impl FnOnce(&mut State, i64) -> T) -> T {
        let mut state = self.state.lock();
        state.collect(self.clock.hardware_nanos());
        let result = change(&mut state, self.clock.hardware_nanos());
        self.arm(&mut state);
        let is_ready = state.data != 0;
        drop(state);
        if is_ready {
            self.queue.notify(Events::READ);
        }
        result
    }

    /// Have the reactor call when there is something to tell, unless there is already.
    fn arm(&self, state: &mut State) {
        state.timer = None;
        if state.data != 0 {
            return;
        }
        if let (Some(next), Some(me)) = (state.next(), self.me.upgrade()) {
            let ahead = next.saturating_sub(self.clock.hardware_nanos()).max(0);
            let deadline = self.clock.now().after(ahead.cast_unsigned());
            let waiter: Arc<dyn Wakeup> = me;
            state.timer = Some(self.reactor.timer(deadline, &waiter));
        }
    }

    /// Begin to use it, alone. False when somebody does.
    pub(super) fn open(&self) -> bool {
        let mut state = self.state.lock();
        state.data = 0;
        !std::mem::replace(&mut state.is_open, true)
    }

    /// Its user is gone; only an alarm stays.
    pub(super) fn close(&self) {
        self.change(|state, _| {
            (state.second, state.period) = (None, None);
            state.data = 0;
            state.is_open = false;
        });
    }

    /// What has happened since this was last asked, 0 for nothing. `wait` is called while nothing new can come unnoticed.
    pub(super) fn take<T>(&self, wait: impl FnOnce() -> T) -> Result<u64, T> {
        let mut state = self.state.lock();
        state.collect(self.clock.hardware_nanos());
        let data = std::mem::take(&mut state.data);
        self.arm(&mut state);
        if data == 0 { Err(wait()) } else { Ok(data) }
    }

    pub(super) fn is_ready(&self) -> bool {
        let mut state = self.state.lock();
        state.collect(self.clock.hardware_nanos());
        state.data != 0
    }

    pub(super) fn tell_seconds(&self, on: bool) {
        self.change(|state, now| state.second = on.then(|| now.div_euclid(SECOND)));
    }

    pub(super) fn tell_periods(&self, on: bool) {
        self.change(|state, now| state.period = on.then(|| now.div_euclid(state.length())));
    }

    pub(super) fn set_frequency(&self, frequency: u64) {
        self.change(|state, now| {
            state.frequency = frequency;
            state.period = state.period.map(|_| now.div_euclid(state.length()));
        });
    }

    /// Set the alarm, in seconds since 1970.
    pub(super) fn set_alarm(&self, alarm: i64, on: bool) {
        self.change(|state, _| (state.alarm, state.alarm_is_on) = (alarm, on));
    }

    pub(super) fn enable_alarm(&self, on: bool) {
        self.change(|state, _| state.alarm_is_on = on);
    }
}

impl Wakeup for Rtc {
    /// Only the reactor calls it, with no lock held.
    fn wake(&self, _: Events) {
        self.change(|_, _| ());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::{Pace, Start};

    fn rtc() -> (Arc<Rtc>, Arc<Clock>) {
        let clock = Arc::new(Clock::starting(Pace::TravelOnly, Start::At(1000 * SECOND)));
        let reactor = Reactor::new(clock.clone()).unwrap();
        (Rtc::new(&clock, &reactor), clock)
    }

    #[test]
    fn seconds_are_told_once_they_are_over() {
        let (rtc, clock) = rtc();
        rtc.tell_seconds(true);
        assert_eq!(rtc.take(|| ()), Err(()));
        clock.add(NANOS_PER_SEC);
        assert!(rtc.is_ready());
        assert_eq!(rtc.take(|| ()), Ok(COUNT | ANY | UPDATED));
        rtc.set(5000);
        assert_eq!(rtc.take(|| ()), Err(()));
        clock.add(NANOS_PER_SEC / 2);
        assert_eq!(
            (rtc.take(|| ()), rtc.seconds()),
            (Ok(COUNT | ANY | UPDATED), 5001)
        );
    }

    #[test]
    fn periods_are_counted() {
        let (rtc, clock) = rtc();
        rtc.set_frequency(64);
        rtc.tell_periods(true);
        clock.add(NANOS_PER_SEC / 2);
        assert_eq!(rtc.take(|| ()), Ok((32 * COUNT) | ANY | PERIODIC));
        rtc.tell_periods(false);
        clock.add(NANOS_PER_SEC);
        assert_eq!(rtc.take(|| ()), Err(()));
    }

    #[test]
    fn nothing_comes_when_the_clock_is_at_its_end() {
        let (rtc, _) = rtc();
        rtc.set(i64::MAX);
        rtc.set_alarm(i64::MAX, true);
        rtc.tell_seconds(true);
        rtc.tell_periods(true);
        assert_eq!(rtc.take(|| ()), Err(()));
        assert_eq!(rtc.state.lock().next(), None);
        assert!(rtc.state.lock().timer.is_none());
    }

    #[test]
    fn an_alarm_rings_once_and_survives_its_user() {
        let (rtc, clock) = rtc();
        assert!(rtc.open() && !rtc.open());
        rtc.set_alarm(1010, true);
        rtc.tell_seconds(true);
        rtc.close();
        assert!(rtc.open());
        clock.add(20 * NANOS_PER_SEC);
        assert_eq!(rtc.take(|| ()), Ok(COUNT | ANY | AT_ALARM));
        assert_eq!(rtc.take(|| ()), Err(()));
    }
}
