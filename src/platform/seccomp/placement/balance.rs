//! The balancer: frees the silent, spreads the talkers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::spin::Spin;
use super::{Placement, Seat};
use crate::platform::native::stat;
use crate::platform::seccomp::process::lock;

/// How often the balancer looks while anybody is pinned.
const TICK: Duration = Duration::from_millis(2);

/// Calls in a tick that make somebody a talker, whether they wait or not.
const BUSY: u32 = 8;

/// Most moves in one tick.
const MOVES: usize = 64;

/// A pinned seat as it was at the last tick.
struct Pinned {
    seat: Arc<Seat>,
    rings: u32,
    parks: u32,
    /// What the last tick brought.
    now: Tick,
    spin: Spin,
}

/// What a seat did between two looks.
#[derive(Clone, Copy, Default)]
struct Tick {
    id: u64,
    cpu: u32,
    rung: u32,
    /// It takes a CPU: it calls much, or does something else between calls that do not wait.
    busy: bool,
    /// Most of its calls waited for this seat; 0 for none.
    partner: u64,
    /// Looked at for the first time: it may be gone before a move would pay.
    new: bool,
}

impl Placement {
    /// Run until told to end.
    pub(super) fn balance(&self) {
        // It was spawned by a server, and has that one's CPU.
        let _ = self.all.apply(0);
        let mut pinned: Vec<Pinned> = Vec::new();
        loop {
            let mut inbox = lock(&self.inbox);
            while pinned.is_empty() && inbox.pinned.is_empty() && !inbox.ending {
                let woken = self.changed.wait(inbox);
                inbox = woken.unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            if inbox.ending {
                return;
            }
            pinned.extend(inbox.pinned.drain(..).map(Pinned::new));
            drop(inbox);
            thread::sleep(TICK);
            let mut silent = Vec::new();
            pinned.retain_mut(|pinned| pinned.look(&mut silent));
            self.free(&silent);
            let ticks: Vec<Tick> = pinned.iter().map(|p| p.now).collect();
            let moves = moves(&ticks, &self.cpus);
            if moves.is_empty() {
                self.spin(&mut pinned);
                continue;
            }
            for pinned in &mut pinned {
                pinned.spin.stop(&pinned.seat);
            }
            for (index, cpu) in moves {
                if let Some(pinned) = pinned.get(index) {
                    pinned.seat.hold(cpu);
                }
            }
        }
    }

    /// Free those that have fallen silent. Threads that were made on one CPU and compute there are parted at once: the host
    /// would leave them together until it looks at its load again.
    fn free(&self, silent: &[Arc<Seat>]) {
        let mut computing: HashMap<u32, usize> = HashMap::new();
        for seat in silent {
            if silent.len() > 1
                && !stat::sleeps(seat.process.pid, seat.tid)
                && let Some(cpu) = seat.cpu()
                && let Some(at) = self.cpus.iter().position(|other| *other == cpu)
            {
                let before = computing.entry(cpu).or_default();
                if *before > 0 {
                    seat.hold(self.cpus[(at + *before) % self.cpus.len()]);
                }
                *before += 1;
            }
            seat.free(&self.all);
        }
    }

    /// Decide who spins. Talkers that are no more than half of the CPUs leave one for each server.
    fn spin(&self, pinned: &mut [Pinned]) {
        let half = self.cpus.len() / 2;
        let talking = pinned.iter().filter(|p| p.now.rung > BUSY).count();
        let mut taken: Vec<u32> = pinned.iter().map(|p| p.now.cpu).collect();
        taken.extend(pinned.iter().filter_map(|p| p.spin.cpu()));
        for Pinned { seat, now, spin, .. } in pinned {
            let may = talking <= half && now.partner == 0 && !now.new;
            if spin.cpu().is_some() {
                spin.go_on(seat, now.rung, may);
            } else if may && spin.wants(now.rung) {
                // Not another's: two that spin on one CPU would each wait for the other.
                let free = self.cpus.iter().find(|cpu| !taken.contains(cpu));
                if let Some(&cpu) = free {
                    spin.start(seat, cpu);
                    taken.push(cpu);
                }
            }
        }
    }
}

impl Pinned {
    fn new(seat: Arc<Seat>) -> Pinned {
        Pinned {
            rings: seat.rings.load(Ordering::Relaxed),
            parks: seat.parks.load(Ordering::Relaxed),
            now: Tick {
                new: true,
                ..Tick::default()
            },
            spin: Spin::default(),
            seat,
        }
    }

    /// Note what it has done; it is silent if that is nothing. False when it is to be pinned no more.
    fn look(&mut self, silent: &mut Vec<Arc<Seat>>) -> bool {
        let Some(cpu) = self.seat.cpu() else {
            self.spin.stop(&self.seat);
            return false;
        };
        let rings = self.seat.rings.load(Ordering::Relaxed);
        let parks = self.seat.parks.load(Ordering::Relaxed);
        let rung = rings.wrapping_sub(self.rings);
        let waited = parks.wrapping_sub(self.parks);
        (self.rings, self.parks) = (rings, parks);
        if rung == 0 {
            self.spin.stop(&self.seat);
            silent.push(Arc::clone(&self.seat));
            return false;
        }
        let waits = waited.saturating_mul(4) > rung;
        self.now = Tick {
            id: self.seat.id(),
            cpu,
            rung,
            busy: rung > BUSY || !waits,
            partner: if waits {
                self.seat.partner.load(Ordering::Relaxed)
            } else {
                0
            },
            new: self.now.new && self.now.id == 0,
        };
        true
    }
}

/// Which of the pinned should go to which CPU.
///
/// Two that wait for each other are one: on one CPU they hand over, on two they wake each other up.
fn moves(ticks: &[Tick], cpus: &[u32]) -> Vec<(usize, u32)> {
    let busy: Vec<usize> = (0..ticks.len()).filter(|i| ticks[*i].busy).collect();
    let at: HashMap<u64, usize> = busy.iter().map(|i| (ticks[*i].id, *i)).collect();
    let mate = |i: usize| {
        let other = *at.get(&ticks[i].partner)?;
        (ticks[other].partner == ticks[i].id && other != i).then_some(other)
    };
    let mut moves = Vec::new();
    let mut by_cpu: HashMap<u32, Vec<usize>> = cpus.iter().map(|cpu| (*cpu, Vec::new())).collect();
    for i in busy {
        match mate(i) {
            // Goes where the first of the two is, and is counted with it.
            Some(first) if first < i => {
                if ticks[i].cpu != ticks[first].cpu {
                    moves.push((i, ticks[first].cpu));
                }
            }
            _ => by_cpu.entry(ticks[i].cpu).or_default().push(i),
        }
    }
    for _ in 0..MOVES {
        let most = by_cpu.iter().max_by_key(|(_, on)| on.len());
        let least = by_cpu.iter().min_by_key(|(_, on)| on.len());
        let (Some((&from, most)), Some((&to, least))) = (most, least) else {
            break;
        };
        if most.len() < least.len() + 2 {
            break;
        }
        let Some(place) = most.iter().position(|i| !ticks[*i].new) else {
            break;
        };
        let i = most[place];
        by_cpu.entry(from).or_default().swap_remove(place);
        by_cpu.entry(to).or_default().push(i);
        moves.retain(|(moved, _)| *moved != i && Some(*moved) != mate(i));
        moves.push((i, to));
        moves.extend(mate(i).map(|mate| (mate, to)));
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tick(id: u64, cpu: u32, partner: u64) -> Tick {
        Tick {
            id,
            cpu,
            rung: 100,
            busy: true,
            partner,
            new: false,
        }
    }

    #[test]
    fn talkers_are_spread() {
        let ticks = [tick(1, 0, 0), tick(2, 0, 0), tick(3, 0, 0), tick(4, 0, 0)];
        let moved = moves(&ticks, &[0, 1]);
        assert_eq!(moved.len(), 2, "{moved:?}");
        assert!(moved.iter().all(|(_, cpu)| *cpu == 1));
        assert_eq!(moves(&ticks[..1], &[0, 1]), []);
        assert_eq!(moves(&ticks, &[0]), []);
    }

    #[test]
    fn the_new_and_the_quiet_stay() {
        let mut ticks = [tick(1, 0, 0), tick(2, 0, 0)];
        ticks[0].new = true;
        assert_eq!(moves(&ticks, &[0, 1]), [(1, 1)]);
        ticks[1].busy = false;
        assert_eq!(moves(&ticks, &[0, 1]), []);
    }

    #[test]
    fn two_that_wait_for_each_other_stay_together() {
        let pair = [tick(1, 0, 2), tick(2, 0, 1)];
        assert_eq!(moves(&pair, &[0, 1]), []);
        let apart = [tick(1, 0, 2), tick(2, 1, 1)];
        assert_eq!(moves(&apart, &[0, 1]), [(1, 0)]);
        let two_pairs = [tick(1, 0, 2), tick(2, 0, 1), tick(3, 0, 4), tick(4, 0, 3)];
        let moved = moves(&two_pairs, &[0, 1]);
        assert_eq!(moved.len(), 2);
        assert_eq!(moved[0].0 ^ 1, moved[1].0, "{moved:?}");
    }
}
