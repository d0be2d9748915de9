//! The interval timer, an 8254 at 0x40 to 0x43, and the gate of its third channel with the speaker at 0x61. Counts and outputs
//! are computed from the guest's clock when somebody looks.

use std::collections::VecDeque;
use std::sync::Arc;

use super::PortDevice;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::{Clock, NANOS_PER_SEC};

/// Ticks in a second.
const FREQUENCY: u128 = 1_193_182;

const CONTROL: u16 = 0x43;
const GATE: u16 = 0x61;

/// Of a control word: to latch instead of to set; in a latch, what is not wanted.
const READ_BACK: u8 = 3;
const NO_COUNT: u8 = 0x20;
const NO_STATUS: u8 = 0x10;

/// Of 0x61: the gate of the third channel; what can be written; the memory's refresh; the third channel's output.
const GATE_OPEN: u8 = 1;
const WRITABLE: u8 = 0xf;
const REFRESH: u8 = 0x10;
const OUTPUT: u8 = 0x20;
/// Nanoseconds between refreshes.
const REFRESH_TIME: u64 = 15_085;

/// The timer and its gate.
pub(super) struct Pit {
    clock: Arc<Clock>,
    state: Lock<State>,
}

struct State {
    channels: [Channel; 3],
    gate: u8,
}

impl Pit {
    pub(super) fn new(clock: &Arc<Clock>) -> Pit {
        let mut channels = [const { Channel::new() }; 3];
        (channels[2].gate, channels[2].stopped) = (false, Some(0));
        // As firmware leaves the first: 65,536 ticks for each interrupt.
        channels[0].mode = 3;
        channels[0].is_loaded = true;
        Pit {
            clock: clock.clone(),
            state: Lock::new(Rank::Table, State { channels, gate: 0 }),
        }
    }

    fn now(&self) -> u64 {
        let ticks = u128::from(self.clock.now().0) * FREQUENCY / u128::from(NANOS_PER_SEC);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

impl PortDevice for Pit {
    fn input(&self, port: u16) -> u8 {
        let now = self.now();
        let mut state = self.state.lock();
        if port == GATE {
            let refresh = !(self.clock.now().0 / REFRESH_TIME).is_multiple_of(2);
            let output = state.channels[2].output(now);
            return state.gate | if refresh { REFRESH } else { 0 } | if output { OUTPUT } else { 0 };
        }
        match state.channels.get_mut(usize::from(port & 3)) {
            Some(channel) => channel.read(now),
            // The control word cannot be read.
            None => 0xff,
        }
    }

    fn output(&self, port: u16, value: u8) {
        let now = self.now();
        let mut state = self.state.lock();
        match port {
            GATE => {
                state.gate = value & WRITABLE;
                state.channels[2].set_gate(value & GATE_OPEN != 0, now);
            }
            CONTROL if value >> 6 == READ_BACK => {
                for (number, channel) in state.channels.iter_mut().enumerate() {
                    if value >> (number + 1) & 1 != 0 {
                        channel.read_back(value, now);
                    }
                }
            }
            _ => {
                let number = if port == CONTROL {
                    value >> 6
                } else {
                    port as u8 & 3
                };
                let Some(channel) = state.channels.get_mut(usize::from(number)) else {
                    return;
                };
                if port == CONTROL {
                    channel.control(value, now);
                } else {
                    channel.write(value, now);
                }
            }
        }
    }
}

struct Channel {
    mode: u8,
    /// Which bytes are read and written: 1 the low one, 2 the high one, 3 both.
    bytes: u8,
    /// Counts in decimal.
    decimal: bool,
    /// What it counts down from, as it was written.
    start: u16,
    /// When it began, in ticks.
    began: u64,
    /// How far it had come when it was stopped.
    stopped: Option<u64>,
    gate: bool,
    /// There was a count since the mode was set.
    is_loaded: bool,
    /// The low byte of a count of which the high one is to come.
    low: Option<u8>,
    /// The next byte read is the high one.
    reads_high: bool,
    /// What is read before the count as it is now.
    latched: VecDeque<u8>,
    count_is_latched: bool,
    status_is_latched: bool,
}

impl Channel {
    const fn new() -> Channel {
        Channel {
            mode: 0,
            bytes: 3,
            decimal: false,
            start: 0,
            began: 0,
            stopped: None,
            gate: true,
            is_loaded: false,
            low: None,
            reads_high: false,
            latched: VecDeque::new(),
            count_is_latched: false,
            status_is_latched: false,
        }
    }

    /// One more than it can count.
    fn limit(&self) -> u64 {
        if self.decimal { 10_000 } else { 0x1_0000 }
    }

    /// Ticks that it counts.
    fn period(&self) -> u64 {
        let start = u64::from(self.start);
        let number = if self.decimal {
            (0..4)
                .rev()
                .fold(0, |sum, digit| sum * 10 + (start >> (digit * 4) & 0xf))
        } else {
            start
        };
        if number == 0 { self.limit() } else { number }
    }

    fn elapsed(&self, now: u64) -> u64 {
        self.stopped.unwrap_or(now.saturating_sub(self.began))
    }

    /// Whether it counts again from the start when it is through.
    fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// Whether it begins when the gate opens, and not when it gets a count.
    fn waits_for_gate(&self) -> bool {
        matches!(self.mode, 1 | 5)
    }

    fn count(&self, now: u64) -> u16 {
        let (period, elapsed) = (self.period(), self.elapsed(now));
        let count = match self.mode {
            2 => period - elapsed % period,
            // Two at a time.
            3 => period - elapsed % period * 2 % period,
            _ => self.limit() + period - elapsed % self.limit(),
        } % self.limit();
        let shown = if self.decimal {
            (0..4).fold(0, |sum, digit| {
                sum | (count / 10u64.pow(digit) % 10) << (digit * 4)
            })
        } else {
            count
        };
        shown as u16
    }

    fn output(&self, now: u64) -> bool {
        let (period, elapsed) = (self.period(), self.elapsed(now));
        if !self.is_loaded {
            return self.mode != 0;
        }
        match self.mode {
            0 | 1 => elapsed >= period,
            // While the gate is closed it is high.
            2 => !self.gate || elapsed % period != period - 1,
            3 => !self.gate || elapsed % period < period.div_ceil(2),
            _ => elapsed != period,
        }
    }

    fn set_gate(&mut self, open: bool, now: u64) {
        if std::mem::replace(&mut self.gate, open) == open {
            return;
        }
        if !open {
            if !self.waits_for_gate() {
                self.stopped = Some(self.elapsed(now));
            }
        } else if self.is_periodic() || self.waits_for_gate() {
            self.began = now;
            self.stopped = None;
        } else if let Some(elapsed) = self.stopped.take() {
            self.began = now.saturating_sub(elapsed);
        }
    }

    fn control(&mut self, value: u8, now: u64) {
        let bytes = value >> 4 & 3;
        if bytes == 0 {
            return self.latch_count(now);
        }
        // Modes 2 and 3 are also 6 and 7.
        let mode = value >> 1 & 7;
        *self = Channel {
            mode: if mode > 5 { mode & 3 } else { mode },
            bytes,
            decimal: value & 1 != 0,
            gate: self.gate,
            stopped: Some(0),
            ..Channel::new()
        };
    }

    fn write(&mut self, value: u8, now: u64) {
        self.start = match (self.bytes, self.low.take()) {
            (1, _) => value.into(),
            (2, _) => u16::from(value) << 8,
            (_, None) => {
                self.low = Some(value);
                return;
            }
            (_, Some(low)) => u16::from_le_bytes([low, value]),
        };
        self.is_loaded = true;
        self.began = now;
        let begins = self.gate && !self.waits_for_gate();
        // Before the gate opens, what waits for it is as it is at its end.
        let before = if self.waits_for_gate() { self.period() } else { 0 };
        self.stopped = (!begins).then_some(before);
    }

    fn latch_count(&mut self, now: u64) {
        if std::mem::replace(&mut self.count_is_latched, true) {
            return;
        }
        let [low, high] = self.count(now).to_le_bytes();
        match self.bytes {
            1 => self.latched.push_back(low),
            2 => self.latched.push_back(high),
            _ => self.latched.extend([low, high]),
        }
    }

    fn read_back(&mut self, command: u8, now: u64) {
        if command & NO_STATUS == 0 && !std::mem::replace(&mut self.status_is_latched, true) {
            let output = u8::from(self.output(now)) << 7;
            let unloaded = u8::from(!self.is_loaded) << 6;
            let set = self.bytes << 4 | self.mode << 1 | u8::from(self.decimal);
            // It is read before a count, also one that was latched before.
            self.latched.push_front(output | unloaded | set);
        }
        if command & NO_COUNT == 0 {
            self.latch_count(now);
        }
    }

    fn read(&mut self, now: u64) -> u8 {
        if let Some(byte) = self.latched.pop_front() {
            self.status_is_latched = false;
            self.count_is_latched &= !self.latched.is_empty();
            return byte;
        }
        let [low, high] = self.count(now).to_le_bytes();
        let is_high = self.bytes == 2 || self.bytes == 3 && self.reads_high;
        self.reads_high = self.bytes == 3 && !self.reads_high;
        if is_high { high } else { low }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::time::{Pace, Start};

    fn pit() -> (Pit, Arc<Clock>) {
        let clock = Arc::new(Clock::starting(Pace::TravelOnly, Start::At(0)));
        (Pit::new(&clock), clock)
    }

    fn put(pit: &Pit, bytes: &[(u16, u8)]) {
        for (port, byte) in bytes {
            pit.output(*port, *byte);
        }
    }

    /// Let `ticks` pass, and a little more.
    fn pass(clock: &Clock, ticks: u64) {
        clock.add(ticks * 1_000_000_000 / 1_193_182 + 1);
    }

    fn word(pit: &Pit, port: u16) -> u16 {
        u16::from_le_bytes([pit.input(port), pit.input(port)])
    }

    #[test]
    fn a_count_to_zero_is_seen_at_the_gate() {
        let (pit, clock) = pit();
        // Mode 0 of the third channel, as kernels measure their processor by it.
        put(&pit, &[(GATE, 1), (0x43, 0xb0), (0x42, 0x10), (0x42, 0x27)]);
        assert_eq!((pit.input(GATE) & OUTPUT, word(&pit, 0x42)), (0, 10_000));
        pass(&clock, 4_000);
        assert_eq!((pit.input(GATE) & OUTPUT, word(&pit, 0x42)), (0, 6_000));
        pass(&clock, 6_000);
        assert_eq!(pit.input(GATE) & OUTPUT, OUTPUT);
        assert_eq!(pit.input(GATE) & GATE_OPEN, GATE_OPEN);
    }

    #[test]
    fn a_closed_gate_stops_the_count() {
        let (pit, clock) = pit();
        put(&pit, &[(0x43, 0xb0), (0x42, 0), (0x42, 4)]);
        pass(&clock, 100);
        assert_eq!(word(&pit, 0x42), 0x400);
        put(&pit, &[(GATE, 1)]);
        pass(&clock, 0x100);
        put(&pit, &[(GATE, 0)]);
        pass(&clock, 100);
        assert_eq!(word(&pit, 0x42), 0x300);
    }

    #[test]
    fn rates_go_round() {
        let (pit, clock) = pit();
        // Mode 2, 1,000 in decimal.
        put(&pit, &[(0x43, 0x35), (0x40, 0), (0x40, 0x10)]);
        pass(&clock, 2_400);
        assert_eq!(word(&pit, 0x40), 0x600);
        // Mode 3: the output is high for half of the time.
        put(&pit, &[(GATE, 1), (0x43, 0xb6), (0x42, 100), (0x42, 0)]);
        let high = (0..100).filter(|_| {
            pass(&clock, 1);
            pit.input(GATE) & OUTPUT != 0
        });
        assert!((48..=52).contains(&high.count()));
    }

    #[test]
    fn what_is_latched_stays() {
        let (pit, clock) = pit();
        put(&pit, &[(0x43, 0x34), (0x40, 0), (0x40, 0x80), (0x43, 0)]);
        pass(&clock, 0x100);
        // The status comes first, and the count that was latched first stays.
        put(&pit, &[(0x43, 0xc2)]);
        assert_eq!(pit.input(0x40), 0xb4);
        assert_eq!((word(&pit, 0x40), word(&pit, 0x40)), (0x8000, 0x7f00));
    }

    #[test]
    fn a_shot_waits_for_its_gate() {
        let (pit, clock) = pit();
        put(&pit, &[(0x43, 0xb2), (0x42, 100), (0x42, 0)]);
        pass(&clock, 200);
        assert_eq!(pit.input(GATE) & OUTPUT, OUTPUT);
        put(&pit, &[(GATE, 1)]);
        assert_eq!(pit.input(GATE) & OUTPUT, 0);
        pass(&clock, 100);
        assert_eq!(pit.input(GATE) & OUTPUT, OUTPUT);
    }
}
