//! The CMOS clock: an MC146818 with 128 bytes, most of which are just remembered. Its time is the guest's hardware clock.

use std::sync::Arc;

use super::PortDevice;
use crate::kernel::dev::rtc::Civil;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::{Clock, NANOS_PER_SEC};

/// Registers; the second, third and fifth are of the alarm.
const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const WEEKDAY: u8 = 6;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const A: u8 = 10;
const B: u8 = 11;
const C: u8 = 12;
const D: u8 = 13;
const CENTURY: u8 = 0x32;
const ALARM: [u8; 3] = [1, 3, 5];

/// Of A: an update comes; the divider, which is held at the highest values; the rate of periodic interrupts.
const UPDATING: u8 = 0x80;
const DIVIDER: u8 = 0x70;
const DIVIDER_HELD: u8 = 0x60;
const RATE: u8 = 0xf;
/// As firmware leaves A: 32,768 Hz, and 1,024 interrupts in a second.
const A_AT_FIRST: u8 = 0x26;

/// Of B: the time is being set; binary numbers; 24 hours.
const SETTING: u8 = 0x80;
const BINARY: u8 = 4;
const WHOLE_DAY: u8 = 2;

/// Of B they are enabled, of C they have happened: periodic, alarm, update.
const PERIODIC: u8 = 0x40;
const AT_ALARM: u8 = 0x20;
const UPDATED: u8 = 0x10;
/// Of C: an enabled one has happened.
const ANY: u8 = 0x80;

/// Of D: the battery is good.
const VALID: u8 = 0x80;

/// Hours of the afternoon, where a day has two halves; and any value of an alarm from here on means each.
const AFTERNOON: u8 = 0x80;
const EACH: u8 = 0xc0;

/// How long before the next second the update shows, in nanoseconds.
const UPDATE: i64 = 2_228_000;
const SECOND: i64 = NANOS_PER_SEC.cast_signed();
/// The first second after the divider was held takes half as long.
const HALF_SECOND: i64 = SECOND / 2;
/// Seconds looked at for an alarm: as an alarm has no day, one day is all.
const DAY_SECONDS: i64 = 86_400;

/// Index register and data at 0x70 and 0x71.
pub(super) struct Cmos {
    clock: Arc<Clock>,
    state: Lock<State>,
}

struct State {
    index: u8,
    bytes: [u8; 128],
    /// What the time stands at while it is being set, and whether that was changed.
    held: Option<(Civil, bool)>,
    divider_was_held: bool,
    /// When C was last read, on the hardware clock.
    looked: i64,
}

impl Cmos {
    pub(super) fn new(clock: &Arc<Clock>) -> Cmos {
        let mut bytes = [0; 128];
        bytes[usize::from(A)] = A_AT_FIRST;
        bytes[usize::from(B)] = WHOLE_DAY;
        Cmos {
            clock: clock.clone(),
            state: Lock::new(
                Rank::Table,
                State {
                    index: 0,
                    bytes,
                    held: None,
                    divider_was_held: false,
                    looked: clock.hardware_nanos(),
                },
            ),
        }
    }
}

impl PortDevice for Cmos {
    fn input(&self, port: u16) -> u8 {
        if port & 1 == 0 {
            // It can only be written.
            return 0xff;
        }
        self.state.lock().read(&self.clock)
    }

    fn output(&self, port: u16, value: u8) {
        let mut state = self.state.lock();
        if port & 1 == 0 {
            // The highest bit masks interrupts that there are none of.
            state.index = value & 0x7f;
        } else {
            state.write(&self.clock, value);
        }
    }
}

impl State {
    fn byte(&self, at: u8) -> u8 {
        self.bytes.get(usize::from(at)).copied().unwrap_or(0)
    }

    fn set_byte(&mut self, at: u8, value: u8) {
        if let Some(byte) = self.bytes.get_mut(usize::from(at)) {
            *byte = value;
        }
    }

    fn has(&self, bit: u8) -> bool {
        self.byte(B) & bit != 0
    }

    fn time(&self, clock: &Clock) -> Civil {
        let running = || Civil::from_seconds(clock.hardware_nanos().div_euclid(SECOND));
        self.held.map_or_else(running, |(time, _)| time)
    }

    fn read(&mut self, clock: &Clock) -> u8 {
        let time = self.time(clock);
        match self.index {
            SECONDS => self.encode(time.second),
            MINUTES => self.encode(time.minute),
            HOURS => self.encode_hour(time.hour),
            WEEKDAY => self.encode(time.weekday() + 1),
            DAY => self.encode(time.day),
            MONTH => self.encode(time.month),
            YEAR => self.encode(time.year.rem_euclid(100)),
            CENTURY => self.encode(time.year.div_euclid(100).rem_euclid(100)),
            A => {
                let left = SECOND - clock.hardware_nanos().rem_euclid(SECOND);
                let updating = self.held.is_none() && left <= UPDATE;
                self.byte(A) & !UPDATING | if updating { UPDATING } else { 0 }
            }
            C => self.take_flags(clock),
            D => VALID,
            other => self.byte(other),
        }
    }

    fn write(&mut self, clock: &Clock, value: u8) {
        let mut time = self.time(clock);
        let number = self.decode(value);
        match self.index {
            SECONDS => time.second = number,
            MINUTES => time.minute = number,
            HOURS => time.hour = self.decode_hour(value),
            DAY => time.day = number,
            MONTH => time.month = number,
            YEAR => time.year = time.year.div_euclid(100) * 100 + number,
            CENTURY => time.year = number * 100 + time.year.rem_euclid(100),
            A | B => {
                self.set_byte(self.index, value);
                return self.hold_or_go(clock);
            }
            // What day of the week it is follows from the date.
            WEEKDAY | C | D => return,
            other => return self.set_byte(other, value),
        }
        if self.held.is_some() {
            self.held = Some((time, true));
        } else {
            let nanos = clock.hardware_nanos().rem_euclid(SECOND);
            set(clock, time, nanos);
        }
    }

    /// A or B was written: perhaps the time stands still now, or goes on.
    fn hold_or_go(&mut self, clock: &Clock) {
        let divider_is_held = self.byte(A) & DIVIDER >= DIVIDER_HELD;
        let is_held = self.has(SETTING) || divider_is_held;
        if is_held {
            self.divider_was_held |= divider_is_held;
            self.held = Some((self.time(clock), self.held.is_some_and(|(_, changed)| changed)));
        } else if let Some((time, changed)) = self.held.take() {
            let was_held = std::mem::take(&mut self.divider_was_held);
            let nanos = if was_held {
                HALF_SECOND
            } else {
                clock.hardware_nanos().rem_euclid(SECOND)
            };
            if changed || was_held {
                set(clock, time, nanos);
            }
        }
    }

    /// What has happened since this was last asked.
    fn take_flags(&mut self, clock: &Clock) -> u8 {
        let now = clock.hardware_nanos();
        let before = std::mem::replace(&mut self.looked, now);
        if self.held.is_some() || now <= before {
            return 0;
        }
        let mut flags = 0;
        let (first, last) = (before.div_euclid(SECOND) + 1, now.div_euclid(SECOND));
        if first <= last {
            flags |= UPDATED;
            let mut seconds = first.max(last - DAY_SECONDS)..=last;
            if seconds.any(|second| self.is_alarm(second)) {
                flags |= AT_ALARM;
            }
        }
        let period = self.period();
        if period > 0 && now / period != before / period {
            flags |= PERIODIC;
        }
        let enabled = flags & self.byte(B) & (PERIODIC | AT_ALARM | UPDATED) != 0;
        flags | if enabled { ANY } else { 0 }
    }

    fn is_alarm(&self, second: i64) -> bool {
        let time = Civil::from_seconds(second);
        let now = [
            self.encode(time.second),
            self.encode(time.minute),
            self.encode_hour(time.hour),
        ];
        let set = ALARM.map(|register| self.byte(register));
        now.iter().zip(set).all(|(now, set)| set >= EACH || set == *now)
    }

    /// Nanoseconds between periodic interrupts; 0 for none.
    fn period(&self) -> i64 {
        match self.byte(A) & RATE {
            0 => 0,
            // The two that would be too fast are slow ones.
            rate @ 1..=2 => SECOND * (1 << (rate + 6)) / 32_768,
            rate => SECOND * (1 << (rate - 1)) / 32_768,
        }
    }

    fn encode(&self, number: i64) -> u8 {
        let number = number.rem_euclid(100) as u8;
        if self.has(BINARY) {
            number
        } else {
            number / 10 * 16 + number % 10
        }
    }

    fn decode(&self, value: u8) -> i64 {
        let number = if self.has(BINARY) {
            value
        } else {
            (value >> 4) * 10 + (value & 0xf)
        };
        number.into()
    }

    fn encode_hour(&self, hour: i64) -> u8 {
        if self.has(WHOLE_DAY) {
            return self.encode(hour);
        }
        let half = if hour < 12 { 0 } else { AFTERNOON };
        self.encode(if hour % 12 == 0 { 12 } else { hour % 12 }) | half
    }

    fn decode_hour(&self, value: u8) -> i64 {
        if self.has(WHOLE_DAY) {
            return self.decode(value);
        }
        let half = if value & AFTERNOON == 0 { 0 } else { 12 };
        self.decode(value & !AFTERNOON) % 12 + half
    }
}

/// Registers hold years that the clock, which counts nanoseconds, does not: it stops at its ends.
fn set(clock: &Clock, time: Civil, nanos: i64) {
    clock.set_hardware_nanos(time.seconds().saturating_mul(SECOND).saturating_add(nanos));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::{Pace, Start};

    const NOON: i64 = 1_795_348_800;

    fn at(seconds: i64) -> (Cmos, Arc<Clock>) {
        let clock = Arc::new(Clock::starting(Pace::TravelOnly, Start::At(seconds * SECOND)));
        (Cmos::new(&clock), clock)
    }

    fn get(cmos: &Cmos, register: u8) -> u8 {
        cmos.output(0x70, register);
        cmos.input(0x71)
    }

    fn put(cmos: &Cmos, register: u8, value: u8) {
        cmos.output(0x70, register);
        cmos.output(0x71, value);
    }

    #[test]
    fn the_time_is_shown_in_each_way() {
        let (cmos, _) = at(NOON + 3600 + 2 * 60 + 45);
        let shown = [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS];
        let read = |cmos: &Cmos| shown.map(|register| get(cmos, register));
        assert_eq!(read(&cmos), [0x20, 0x26, 0x11, 0x22, 1, 0x13, 2, 0x45]);
        put(&cmos, B, BINARY);
        assert_eq!(read(&cmos), [20, 26, 11, 22, 1, AFTERNOON | 1, 2, 45]);
    }

    #[test]
    fn it_is_set_at_once_or_when_all_is_there() {
        let (cmos, clock) = at(NOON);
        clock.add(7);
        put(&cmos, MINUTES, 0x30);
        assert_eq!(clock.hardware_nanos(), (NOON + 1800) * SECOND + 7);
        assert_eq!(clock.realtime_nanos(), NOON * SECOND + 7, "that is another clock");
        put(&cmos, B, SETTING | WHOLE_DAY);
        put(&cmos, SECONDS, 0x59);
        clock.add(NANOS_PER_SEC * 3);
        assert_eq!((get(&cmos, SECONDS), get(&cmos, MINUTES)), (0x59, 0x30));
        put(&cmos, B, WHOLE_DAY);
        assert_eq!(clock.hardware_nanos(), (NOON + 1859) * SECOND + 7);
    }

    #[test]
    fn half_a_second_after_the_divider_was_held_the_next_one_begins() {
        let (cmos, clock) = at(NOON);
        put(&cmos, B, SETTING | WHOLE_DAY);
        put(&cmos, A, 0x76);
        put(&cmos, HOURS, 0x01);
        put(&cmos, B, WHOLE_DAY);
        put(&cmos, A, A_AT_FIRST);
        assert_eq!(clock.hardware_nanos(), (NOON - 11 * 3600) * SECOND + HALF_SECOND);
    }

    #[test]
    fn an_update_is_announced_and_told_once() {
        let (cmos, clock) = at(NOON);
        assert_eq!(get(&cmos, A), A_AT_FIRST);
        clock.add(999_000_000);
        assert_eq!(get(&cmos, A), A_AT_FIRST | UPDATING);
        get(&cmos, C);
        clock.add(1_000_000);
        assert_eq!(get(&cmos, A), A_AT_FIRST);
        put(&cmos, B, UPDATED | WHOLE_DAY);
        assert_eq!(get(&cmos, C) & (ANY | UPDATED), ANY | UPDATED);
        assert_eq!(get(&cmos, C), 0);
        assert_eq!(get(&cmos, D), VALID);
    }

    #[test]
    fn an_alarm_has_no_day() {
        let (cmos, clock) = at(NOON);
        for (register, value) in ALARM.into_iter().zip([0x10, EACH, 0x13]) {
            put(&cmos, register, value);
        }
        get(&cmos, C);
        clock.add(3600 * NANOS_PER_SEC);
        assert_eq!(get(&cmos, C) & AT_ALARM, 0);
        clock.add(10 * NANOS_PER_SEC);
        assert_eq!(get(&cmos, C) & AT_ALARM, AT_ALARM);
        clock.add(400 * 86_400 * NANOS_PER_SEC);
        assert_eq!(get(&cmos, C) & AT_ALARM, AT_ALARM);
    }

    #[test]
    fn far_years_end_where_the_clock_ends() {
        let (cmos, clock) = at(NOON);
        put(&cmos, CENTURY, 0x99);
        assert_eq!(clock.hardware_nanos(), i64::MAX);
        put(&cmos, CENTURY, 0);
        assert!(clock.hardware_nanos() < 0, "it stands at an early year");
        put(&cmos, A, DIVIDER_HELD);
        put(&cmos, CENTURY, 0x99);
        put(&cmos, A, A_AT_FIRST);
        assert_eq!(clock.hardware_nanos(), i64::MAX);
    }

    #[test]
    fn the_rest_is_memory() {
        let (cmos, _) = at(NOON);
        put(&cmos, 0x7f, 0xa5);
        put(&cmos, 0x80 | 0x0e, 0x5a);
        assert_eq!((get(&cmos, 0x7f), get(&cmos, 0x0e)), (0xa5, 0x5a));
        assert_eq!(cmos.input(0x70), 0xff);
    }
}
