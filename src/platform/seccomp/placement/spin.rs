//! Watching instead of sleeping, for a guest that calls very often while a CPU idles.
//!
//! It saves most of what a call costs then, and costs more than it saves when somebody else wants the CPU. Whether that is so
//! is found by trying: it ends as soon as the server had to wait for its CPU, and each time that happens it takes
//! twice as long until the next try.

use std::sync::atomic::Ordering;

use guest_runtime::abi::TURNS;

use super::Seat;
use crate::platform::native::stat;
use crate::platform::seccomp::process::lock;

/// Calls in a tick from which on it pays.
const OFTEN: u32 = 200;

/// Waiting for a CPU in one tick, in ns, that shows that somebody else wants it.
const CROWDED: u64 = 200_000;

/// Ticks until it is tried again, at first and at most.
const PAUSE: u32 = 8;
const PAUSE_MAX: u32 = 512;

/// Ticks after which a try was a good one.
const PROVEN: u32 = 64;

/// Whether a seat spins, and if not, when it may.
#[derive(Default)]
pub(super) struct Spin {
    /// Where its server does.
    on: Option<u32>,
    /// Ticks since it began.
    ticks: u32,
    /// What its server had waited at the last look.
    waited: u64,
    /// Ticks until it may begin, and how many it will be after the next failure.
    pause: u32,
    next_pause: u32,
}

impl Spin {
    /// The CPU that it takes; none when it sleeps.
    pub(super) fn cpu(&self) -> Option<u32> {
        self.on
    }

    /// Whether to begin, after a tick with `rung` calls.
    pub(super) fn wants(&mut self, rung: u32) -> bool {
        if self.pause > 0 {
            self.pause -= 1;
            return false;
        }
        rung > OFTEN
    }

    /// Have the server of `seat`, whose guest is held elsewhere, spin on `cpu`.
    pub(super) fn start(&mut self, seat: &Seat, cpu: u32) {
        let Some(waited) = waited(seat) else {
            // A host that does not tell: nothing would show that it is too much.
            self.pause = u32::MAX;
            return;
        };
        (self.on, self.ticks, self.waited) = (Some(cpu), 0, waited);
        place_server(seat, cpu);
        seat.turns.store(TURNS, Ordering::Relaxed);
        seat.door.set_turns(TURNS);
    }

    /// After a tick with `rung` calls: end it when nobody calls, when it may not be, or when the CPU is not free.
    pub(super) fn go_on(&mut self, seat: &Seat, rung: u32, may: bool) {
        self.ticks = self.ticks.saturating_add(1);
        if self.ticks == PROVEN {
            self.next_pause = 0;
        }
        let now = waited(seat).unwrap_or(u64::MAX);
        let crowded = now.saturating_sub(self.waited) > CROWDED;
        self.waited = now;
        if crowded {
            self.stop(seat);
            self.next_pause = self.next_pause.saturating_mul(2).clamp(PAUSE, PAUSE_MAX);
            self.pause = self.next_pause;
        } else if !may || rung <= OFTEN {
            self.stop(seat);
        }
    }

    /// Sleep again, where the guest is.
    pub(super) fn stop(&mut self, seat: &Seat) {
        if self.on.take().is_none() {
            return;
        }
        seat.turns.store(0, Ordering::Relaxed);
        seat.door.set_turns(0);
        if let Some(cpu) = seat.cpu() {
            place_server(seat, cpu);
        }
    }
}

fn place_server(seat: &Seat, cpu: u32) {
    let state = lock(&seat.state);
    seat.move_server(&state, cpu);
}

/// How long the server has waited for a CPU so far, in ns.
fn waited(seat: &Seat) -> Option<u64> {
    let server = lock(&seat.state).server;
    stat::waited(std::process::id().cast_signed(), server)
}
