//! Where threads run: a guest thread and its server together on one CPU while they talk.
//!
//! Handing over between two threads of one CPU costs a fraction of waking another CPU, and left alone the host wakes the
//! guest on any CPU that idles. So the second call within [`TALK`] *pins* both where the guest is. The
//! [balancer](balance) frees those that have fallen silent and spreads the others over the CPUs; it sleeps while nothing is
//! pinned. For a guest that calls now and then only the server moves, to the CPU that the guest calls from.
//!
//! While a CPU idles, a guest that calls very often and its server each have one of their own and [spin]: they watch the
//! doorbell instead of sleeping.
//!
//! A pin is the platform's alone: what the guest asks for by sched_setaffinity(2) is kept, is where it may be pinned, and
//! is what its thread gets back when it is freed.

mod balance;
mod mask;
mod spin;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use libc::pid_t;
use nix::errno::Errno;

use self::mask::Mask;
use super::door::{Door, Seen};
use super::process::{HostProcess, lock};

/// Two calls within this are a conversation.
const TALK: Duration = Duration::from_millis(1);

/// Calls in a row from one CPU after which the server of a rare caller moves there.
const SETTLED: u32 = 2;

/// No CPU in particular.
const FREE: u32 = u32::MAX;

/// Where one guest thread and its server run.
pub(super) struct Seat {
    process: Arc<HostProcess>,
    /// The guest's host thread id; see [`super::thread::Host`].
    tid: pid_t,
    door: Arc<Door>,
    /// The CPU that the guest is held on, or [`FREE`].
    cpu: AtomicU32,
    /// The CPU that its server is held on, or [`FREE`].
    server_cpu: AtomicU32,
    /// How often the guest rang.
    rings: AtomicU32,
    /// How often its calls had to wait.
    parks: AtomicU32,
    /// The seat whose handler woke it last; 0 for none.
    partner: AtomicU64,
    /// How often the server looks at the doorbell before it sleeps.
    turns: AtomicU32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// CPUs that the guest may be on, when it said so.
    wanted: Option<Mask>,
    /// The server's thread id; 0 while it has none.
    server: pid_t,
}

impl Seat {
    pub(super) fn new(process: &Arc<HostProcess>, tid: pid_t, door: &Arc<Door>) -> Arc<Seat> {
        Arc::new(Seat {
            process: Arc::clone(process),
            tid,
            door: Arc::clone(door),
            cpu: AtomicU32::new(FREE),
            server_cpu: AtomicU32::new(FREE),
            rings: AtomicU32::new(0),
            parks: AtomicU32::new(0),
            partner: AtomicU64::new(0),
            turns: AtomicU32::new(0),
            state: Mutex::default(),
        })
    }

    /// Tells it from others that there are at the same time.
    pub(super) fn id(&self) -> u64 {
        std::ptr::from_ref(self) as u64
    }

    /// Wait for the guest to ring; see [`Door::wait_ring`].
    pub(super) fn wait_ring(&self, seen: Seen) -> Seen {
        self.door.wait_ring(seen, self.turns.load(Ordering::Relaxed))
    }

    /// A call of the guest has to wait.
    pub(super) fn parked(&self) {
        self.parks.fetch_add(1, Ordering::Relaxed);
    }

    /// The handler of seat `by` made it go on.
    pub(super) fn woken_by(&self, by: u64) {
        self.partner.store(by, Ordering::Relaxed);
    }

    fn cpu(&self) -> Option<u32> {
        Some(self.cpu.load(Ordering::Relaxed)).filter(|cpu| *cpu != FREE)
    }

    /// Hold guest and server on `cpu`. False when the guest may not be there, or is gone.
    fn hold(&self, cpu: u32) -> bool {
        let state = lock(&self.state);
        if state.wanted.as_ref().is_some_and(|wanted| !wanted.has(cpu)) {
            return false;
        }
        let mask = Mask::one(cpu);
        if self.confine(&mask).is_err() {
            return false;
        }
        self.cpu.store(cpu, Ordering::Relaxed);
        self.move_server(&state, cpu);
        true
    }

    /// Give the guest back the CPUs that it wants, or all those of `otherwise`.
    fn free(&self, otherwise: &Mask) {
        let state = lock(&self.state);
        self.cpu.store(FREE, Ordering::Relaxed);
        // ESRCH: it has ended. The server stays: the next call most likely comes from there.
        let _ = self.confine(state.wanted.as_ref().unwrap_or(otherwise));
    }

    fn move_server(&self, state: &State, cpu: u32) {
        if state.server != 0 && Mask::one(cpu).apply(state.server).is_ok() {
            self.server_cpu.store(cpu, Ordering::Relaxed);
        }
    }

    /// Have the host run the guest's thread on the CPUs of `mask` only.
    fn confine(&self, mask: &Mask) -> Result<(), Errno> {
        if self.process.is_dead() {
            return Err(Errno::ESRCH);
        }
        if self.tid != self.process.pid {
            // The runtime told this id: it must be one of its own process.
            // SAFETY: plain numbers, and no signal is sent.
            Errno::result(unsafe { libc::syscall(libc::SYS_tgkill, self.process.pid, self.tid, 0) })?;
        }
        mask.apply(self.tid)
    }
}

/// What a server thread remembers of its place.
pub(super) struct Server {
    tid: pid_t,
    /// The CPU it was moved to last.
    on: u32,
    /// Calls in a row from elsewhere.
    away: u32,
    last: Option<Instant>,
}

impl Server {
    /// For the calling thread.
    pub(super) fn new() -> Server {
        Server {
            // SAFETY: no arguments.
            tid: unsafe { libc::gettid() },
            on: FREE,
            away: 0,
            last: None,
        }
    }
}

/// A host thread of the supervisor stays on its CPU as long as this is there.
pub(super) struct Stay {
    tid: pid_t,
    before: Mask,
}

impl Drop for Stay {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.before.apply(self.tid);
    }
}

/// The CPUs of this machine and who is pinned to them.
pub(super) struct Placement {
    /// Those that uvm may use. Empty where the host does not tell; nobody is pinned then.
    cpus: Vec<u32>,
    all: Mask,
    inbox: Mutex<Inbox>,
    changed: Condvar,
    /// There is a balancer.
    balanced: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    /// Pinned since the balancer looked last.
    pinned: Vec<Arc<Seat>>,
    ending: bool,
}

impl Placement {
    pub(super) fn new() -> Arc<Placement> {
        let all = Mask::of_this_thread().unwrap_or_default();
        Arc::new(Placement {
            cpus: all.cpus().collect(),
            all,
            inbox: Mutex::default(),
            changed: Condvar::new(),
            balanced: AtomicBool::new(false),
        })
    }

    /// A server begins to serve `seat`.
    pub(super) fn begin(&self, server: &mut Server, seat: &Seat) {
        let mut state = lock(&seat.state);
        state.server = server.tid;
        server.last = None;
        seat.server_cpu.store(server.on, Ordering::Relaxed);
        if let Some(cpu) = seat.cpu()
            && server.on != cpu
        {
            seat.move_server(&state, cpu);
        }
    }

    /// The server of `seat` serves it no more.
    pub(super) fn end(&self, server: &mut Server, seat: &Seat) {
        lock(&seat.state).server = 0;
        // Its thread is over: the balancer need not find that out.
        seat.cpu.store(FREE, Ordering::Relaxed);
        server.on = seat.server_cpu.load(Ordering::Relaxed);
    }

    /// The guest of `seat` rang, as it says on `cpu`. For its server, before it does anything else.
    pub(super) fn rang(self: &Arc<Self>, server: &mut Server, seat: &Arc<Seat>, cpu: u32) {
        seat.rings.fetch_add(1, Ordering::Relaxed);
        if seat.cpu.load(Ordering::Relaxed) != FREE || !self.cpus.contains(&cpu) {
            return;
        }
        let now = Instant::now();
        let talks = server
            .last
            .replace(now)
            .is_some_and(|last| now.duration_since(last) < TALK);
        if talks && self.cpus.len() > 1 {
            if seat.hold(cpu) {
                server.last = None;
                self.pinned(seat);
            }
            return;
        }
        server.away = if seat.server_cpu.load(Ordering::Relaxed) == cpu {
            0
        } else {
            server.away + 1
        };
        if server.away >= SETTLED {
            server.away = 0;
            seat.move_server(&lock(&seat.state), cpu);
        }
    }

    /// Where a clone of `seat`'s thread may find itself held: to be asked before, and told to [`Placement::inherit`].
    pub(super) fn before_clone(&self, seat: &Seat) -> Option<u32> {
        seat.cpu()
    }

    /// `child` was cloned from the thread of `parent`, and is held where that was.
    pub(super) fn inherit(self: &Arc<Self>, before: Option<u32>, parent: &Seat, child: &Arc<Seat>) {
        lock(&child.state).wanted = lock(&parent.state).wanted.clone();
        let now = parent.cpu();
        let Some(cpu) = now.or(before) else { return };
        if now == before || before.is_none() {
            child.cpu.store(cpu, Ordering::Relaxed);
        } else if !child.hold(cpu) {
            return;
        }
        self.pinned(child);
    }

    /// Have the calling thread stay on its CPU, and what it clones begin there: while the first guest is made it and the stub do
    /// nothing but wait for each other. None where it may not move anyway.
    pub(super) fn stay(&self) -> Option<Stay> {
        let cpu = self.here()?;
        Mask::one(cpu).apply(0).ok()?;
        Some(Stay {
            tid: nix::unistd::gettid().as_raw(),
            before: self.all.clone(),
        })
    }

    /// The CPU of the caller, where there is a choice.
    fn here(&self) -> Option<u32> {
        let cpu = u32::try_from(nix::sched::sched_getcpu().ok()?).ok()?;
        (self.cpus.len() > 1 && self.cpus.contains(&cpu)).then_some(cpu)
    }

    /// Have the thread of `seat`, which runs no guest code, and so what is cloned from it, run where the caller does.
    pub(super) fn come_here(&self, seat: &Seat) {
        if let Some(cpu) = self.here()
            && seat.cpu() != Some(cpu)
        {
            seat.hold(cpu);
        }
    }

    /// The guest asks for the CPUs of `mask`.
    pub(super) fn want(&self, seat: &Seat, mask: &[u64]) -> Result<(), Errno> {
        let mask = if self.cpus.is_empty() {
            Mask::new(mask)
        } else {
            Mask::new(mask).and(&self.all)
        };
        let mut state = lock(&seat.state);
        if seat.cpu().is_none_or(|cpu| !mask.has(cpu)) {
            seat.confine(&mask)?;
            seat.cpu.store(FREE, Ordering::Relaxed);
        }
        state.wanted = Some(mask);
        Ok(())
    }

    /// Have the balancer look after `seat` until it is free.
    fn pinned(self: &Arc<Self>, seat: &Arc<Seat>) {
        let mut inbox = lock(&self.inbox);
        inbox.pinned.push(Arc::clone(seat));
        if inbox.pinned.len() == 1 {
            self.changed.notify_one();
        }
        drop(inbox);
        if !self.balanced.swap(true, Ordering::Relaxed) {
            let balancer = Arc::clone(self);
            let spawned = thread::Builder::new()
                .name("balancer".into())
                .stack_size(1 << 17)
                .spawn(move || balancer.balance());
            if let Err(e) = spawned {
                tracing::warn!("no thread to spread guest threads over the CPUs: {e}");
            }
        }
    }

    /// No guest is left.
    pub(super) fn finish(&self) {
        lock(&self.inbox).ending = true;
        self.changed.notify_one();
    }
}
