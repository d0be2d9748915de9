//! Turns: guest threads that run one at a time, in an order drawn from a seed (`--deterministic`).
//!
//! Whoever has the turn is the only one that runs guest code, or whose handler runs. It may pass the turn on at each of its
//! system calls and faults, and does when it parks or ends; who is next is drawn from those that could run. The clock
//! moves a little with each call, and to the next timer when nobody can run. So all that happens follows from the seed, but
//! for what comes from outside: input, signals sent to uvm, and host files that change meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::kernel::sync::{Lock, Rank};
use crate::kernel::sys::Generator;
use crate::kernel::wait::reactor::{Reactor, Timer};
use crate::kernel::wait::{Events, Wakeup};

/// How long a thread may run without a call while others could, in nanoseconds of the host's time.
const PATIENCE: u64 = 1_000_000_000;

/// Who has the turn while timers are called that nobody's turn is for.
const NOBODY: u64 = 0;

/// A thread as far as turns go.
pub trait Player: Send + Sync {
    /// Its turn has come: have its handler called.
    fn go(&self);

    /// Have its handler called although it runs guest code.
    fn interrupt(&self);

    /// Whether it is to begin on a new host thread.
    fn begins(&self) -> bool;
}

/// What became of a thread's trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It could go on.
    Runs,
    /// It waits.
    Parks,
    /// Its host thread is finished.
    Leaves,
}

/// Who runs when.
pub struct Turns {
    me: Weak<Turns>,
    reactor: Arc<Reactor>,
    /// The guest is being ended, and nobody's turn comes any more.
    over: AtomicBool,
    state: Lock<State>,
}

struct State {
    order: Generator,
    next_seat: u64,
    /// Who has the turn.
    holder: Option<(u64, Option<Arc<dyn Player>>)>,
    /// It has come: what it does since then is its own. Before, the host is starting it.
    came: bool,
    /// Its handler runs.
    handling: bool,
    /// It was kicked meanwhile.
    again: bool,
    /// It has run for too long.
    forced: bool,
    /// Traps so far, and at the last look.
    traps: u64,
    seen: u64,
    told: bool,
    /// Those that could run, by seat.
    ready: BTreeMap<u64, Arc<dyn Player>>,
    watchdog: Option<Timer>,
}

impl State {
    fn holds(&self, seat: u64) -> bool {
        self.holder.as_ref().is_some_and(|(holder, _)| *holder == seat)
    }

    /// Give the turn to one of those that could run.
    fn choose(&mut self) -> Option<(u64, Arc<dyn Player>)> {
        let count = self.ready.len() as u64;
        let index = usize::try_from(self.order.below(count)?).ok()?;
        let seat = *self.ready.keys().nth(index)?;
        let player = self.ready.remove(&seat)?;
        self.holder = Some((seat, Some(player.clone())));
        self.came = false;
        Some((seat, player))
    }
}

impl Turns {
    /// Nobody has come yet.
    pub fn new(seed: u64, reactor: Arc<Reactor>) -> Arc<Turns> {
        let state = State {
            order: Generator::new(seed),
            next_seat: NOBODY + 1,
            holder: None,
            came: false,
            handling: false,
            again: false,
            forced: false,
            traps: 0,
            seen: 0,
            told: false,
            ready: BTreeMap::new(),
            watchdog: None,
        };
        Arc::new_cyclic(|me| Turns {
            me: me.clone(),
            reactor,
            over: AtomicBool::new(false),
            state: Lock::new(Rank::Leaf, state),
        })
    }

    /// A seat for a new thread.
    pub fn seat(&self) -> u64 {
        let mut state = self.state.lock();
        state.next_seat += 1;
        state.next_seat - 1
    }

    /// `player` could run, or is to look at something.
    pub fn kick(&self, seat: u64, player: Arc<dyn Player>) {
        let mut state = self.state.lock();
        if state.holds(seat) {
            if state.handling {
                state.again = true;
            } else {
                drop(state);
                player.interrupt();
            }
            return;
        }
        state.ready.insert(seat, player);
        let chosen = if state.holder.is_none() {
            state.choose()
        } else {
            None
        };
        drop(state);
        if let Some((_, chosen)) = chosen {
            chosen.go();
        }
    }

    /// A trap begins. False when it is not that thread's turn. A call or a fault (`moves`) takes time.
    pub fn begin(&self, seat: u64, moves: bool) -> bool {
        {
            let mut state = self.state.lock();
            if !state.holds(seat) {
                return false;
            }
            state.came = true;
            state.handling = true;
            state.traps += 1;
        }
        if moves {
            self.reactor.tick();
        }
        true
    }

    /// A trap has ended; `passes` says that the turn may pass to another that could run. Whether the thread goes on.
    pub fn end(&self, seat: u64, player: &Arc<dyn Player>, outcome: Outcome, passes: bool) -> bool {
        let begins = outcome == Outcome::Leaves && player.begins();
        let mut state = self.state.lock();
        if !state.holds(seat) {
            // It was killed while it waited.
            state.ready.remove(&seat);
            return false;
        }
        state.handling = false;
        let again = std::mem::take(&mut state.again);
        let forced = std::mem::take(&mut state.forced);
        let runs = outcome == Outcome::Runs;
        if !(runs && !passes && !forced) {
            let comes_back = runs || outcome == Outcome::Parks && again || begins;
            // Who was interrupted has had its share.
            let others = if forced { state.choose() } else { None };
            if comes_back {
                state.ready.insert(seat, player.clone());
            }
            let chosen = others.or_else(|| state.choose());
            if !(runs && state.holds(seat)) {
                if chosen.is_none() {
                    state.holder = Some((NOBODY, None));
                }
                drop(state);
                match chosen {
                    Some((_, chosen)) => chosen.go(),
                    None => self.rest(),
                }
                return false;
            }
            state.came = true;
        }
        drop(state);
        if again {
            // What it was kicked for may have come behind its last look.
            player.interrupt();
        }
        true
    }

    /// Nobody's turn comes any more: do not look for anybody.
    pub fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Nobody can run: move the clock on until somebody can. With a timer that comes again and again that may be never.
    fn rest(&self) {
        while !self.over.load(Ordering::SeqCst) {
            let moved = self.reactor.travel();
            let mut state = self.state.lock();
            let chosen = state.choose();
            if chosen.is_none() && !moved {
                // Only what comes from outside can help.
                state.holder = None;
                return;
            }
            drop(state);
            if let Some((_, chosen)) = chosen {
                chosen.go();
                return;
            }
        }
    }

    /// Begin to look for threads that run for ever while others could.
    pub fn watch(&self) {
        let Some(me) = self.me.upgrade() else { return };
        let waiter: Arc<dyn Wakeup> = me;
        let timer = self.reactor.host_timer(PATIENCE, &waiter);
        let old = self.state.lock().watchdog.replace(timer);
        drop(old);
    }
}

impl Wakeup for Turns {
    /// Only the reactor calls it, with no lock held.
    fn wake(&self, _: Events) {
        let mut state = self.state.lock();
        // One that nobody waits for may run on, and takes no number from the order by being looked at.
        let is_watched = state.came && !state.handling && !state.ready.is_empty();
        let stuck = is_watched && state.traps == state.seen;
        state.seen = state.traps;
        let player = match &state.holder {
            Some((_, Some(player))) if stuck => Some(player.clone()),
            _ => None,
        };
        let told = state.told;
        if player.is_some() {
            state.forced = true;
            state.told = true;
        }
        drop(state);
        if let Some(player) = player {
            if !told {
                tracing::warn!(
                    "--deterministic: a thread ran for a second without a system call and was interrupted; what follows does \
                     not follow from the seed alone"
                );
            }
            self.reactor.add(PATIENCE);
            player.interrupt();
        }
        self.watch();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;
    use crate::kernel::time::Clock;

    /// Counts what it is told.
    #[derive(Default)]
    struct Told {
        turns: AtomicU32,
        interruptions: AtomicU32,
    }

    impl Player for Told {
        fn go(&self) {
            self.turns.fetch_add(1, Ordering::Relaxed);
        }

        fn interrupt(&self) {
            self.interruptions.fetch_add(1, Ordering::Relaxed);
        }

        fn begins(&self) -> bool {
            false
        }
    }

    fn turns() -> Arc<Turns> {
        let reactor = Reactor::new(Arc::new(Clock::new())).unwrap_or_else(|e| panic!("reactor: {e}"));
        Turns::new(1, reactor)
    }

    /// What happens after each second.
    fn look(turns: &Turns, times: u32) {
        (0..times).for_each(|_| turns.wake(Events::empty()));
    }

    #[test]
    fn who_keeps_others_waiting_is_interrupted_but_not_before_it_came() {
        let turns = turns();
        let (one, other) = (Arc::new(Told::default()), Arc::new(Told::default()));
        let (seat, behind) = (turns.seat(), turns.seat());
        turns.kick(seat, one.clone());
        turns.kick(behind, other.clone());
        assert_eq!(one.turns.load(Ordering::Relaxed), 1);
        // The host takes long to start it.
        look(&turns, 3);
        assert_eq!(one.interruptions.load(Ordering::Relaxed), 0);
        assert!(turns.begin(seat, false));
        let player: Arc<dyn Player> = one.clone();
        assert!(turns.end(seat, &player, Outcome::Runs, false));
        look(&turns, 1);
        assert_eq!(
            one.interruptions.load(Ordering::Relaxed),
            0,
            "it came since the last look"
        );
        look(&turns, 1);
        assert_eq!(one.interruptions.load(Ordering::Relaxed), 1);
        assert!(turns.begin(seat, false));
        assert!(
            !turns.end(seat, &player, Outcome::Runs, false),
            "the other one is next"
        );
        assert_eq!(other.turns.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn who_is_alone_runs_as_long_as_it_likes() {
        let turns = turns();
        let one = Arc::new(Told::default());
        let seat = turns.seat();
        turns.kick(seat, one.clone());
        let player: Arc<dyn Player> = one.clone();
        for _ in 0..3 {
            assert!(turns.begin(seat, true));
            assert!(turns.end(seat, &player, Outcome::Runs, true));
            look(&turns, 3);
        }
        assert_eq!(one.interruptions.load(Ordering::Relaxed), 0);
    }
}
