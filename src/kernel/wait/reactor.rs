//! The one host thread that waits for the outside world: timers and host descriptors.
//!
//! It sleeps in epoll_wait until a watched descriptor is ready, one of which is a timerfd armed for the nearest deadline,
//! and calls whoever asked. Nothing polls: with no timer armed and nothing ready it sleeps for good.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Events, WaitQueue, Wakeup};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::{Clock, Instant, NANOS_PER_SEC, host_monotonic};
use crate::platform::Activity;

/// Epoll data of what is not a watch; watches count from 1.
const DOORBELL: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;

/// A century after boot: no clock jumps further.
const HORIZON: Instant = Instant(100 * 365 * 86_400 * NANOS_PER_SEC);

/// What a call takes where nothing else moves the clock, in nanoseconds.
const CALL: u64 = 1000;

/// Timers and host readiness of one guest.
pub struct Reactor {
    clock: Arc<Clock>,
    epoll: Epoll,
    /// Rung to have the thread look around: whether to end, and whether all rests.
    doorbell: Arc<EventFd>,
    /// Goes off at the nearest deadline that the host's time brings.
    alarm: TimerFd,
    stopped: AtomicBool,
    /// What goes on, where the clock jumps when nothing does.
    activity: Option<Arc<Activity>>,
    /// Watches that somebody wants to write to: the host will take it in time, and until then the clock does not jump.
    writers: AtomicUsize,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    /// By the guest's clock.
    timers: BTreeMap<(Instant, u64), Weak<dyn Wakeup>>,
    /// By the host's.
    host_timers: BTreeMap<(u64, u64), Weak<dyn Wakeup>>,
    watches: HashMap<u64, Arc<Watched>>,
    /// What the alarm is set to, on the host's clock. It may be earlier than any timer, when that one was dropped: setting it
    /// costs a host call and most timers are dropped early, so it goes off for nothing once instead.
    alarm_at: Option<u64>,
}

impl State {
    /// When the first timer is due on the host's clock.
    fn first(&self, clock: &Clock) -> Option<u64> {
        let guest = self.timers.first_key_value();
        let guest = guest.and_then(|((at, _), _)| clock.on_host(*at));
        let host = self.host_timers.first_key_value().map(|((at, _), _)| *at);
        guest.into_iter().chain(host).min()
    }

    /// Take out a timer that is due: by the guest's clock at `now`, or by the host's at what `host` reads.
    fn take_due(&mut self, now: Instant, host: impl FnOnce() -> u64) -> Option<Weak<dyn Wakeup>> {
        if let Some(first) = self.timers.first_entry()
            && first.key().0 <= now
        {
            return Some(first.remove());
        }
        let first = self.host_timers.first_entry()?;
        (first.key().0 <= host()).then(|| first.remove())
    }
}

/// An armed timer; dropping it disarms it.
pub struct Timer {
    reactor: Arc<Reactor>,
    key: Key,
}

enum Key {
    Guest(Instant, u64),
    Host(u64, u64),
}

/// A host descriptor whose readiness is passed on to a wait queue while this lives.
pub struct HostWatch {
    reactor: Arc<Reactor>,
    watched: Arc<Watched>,
}

struct Watched {
    fd: OwnedFd,
    id: u64,
    queue: WaitQueue,
    /// False for what epoll cannot watch (regular files): always ready.
    pollable: bool,
    /// What was asked for and has not come yet, possibly by several waiters.
    armed: Lock<Events>,
}

impl Reactor {
    /// Make the reactor; [`Reactor::run`] must be called on a thread of its own.
    pub fn new(clock: Arc<Clock>) -> Result<Arc<Reactor>, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let doorbell = Arc::new(EventFd::from_flags(
            EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
        )?);
        let alarm = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )?;
        epoll.add(&doorbell, EpollEvent::new(EpollFlags::EPOLLIN, DOORBELL))?;
        epoll.add(&alarm, EpollEvent::new(EpollFlags::EPOLLIN, ALARM))?;
        let bell = doorbell.clone();
        let activity = clock
            .travels()
            .then(|| Arc::new(Activity::new(move || ring(&bell))));
        Ok(Arc::new(Reactor {
            clock,
            epoll,
            doorbell,
            alarm,
            stopped: AtomicBool::new(false),
            activity,
            writers: AtomicUsize::new(0),
            state: Lock::new(Rank::Reactor, State::default()),
        }))
    }

    /// Where what goes on has to be counted; none where nobody wants to know.
    pub fn activity(&self) -> Option<&Arc<Activity>> {
        self.activity.as_ref()
    }

    /// Serve until [`Reactor::stop`].
    pub fn run(&self) -> Result<(), Errno> {
        let mut ready = [EpollEvent::empty(); 64];
        while !self.stopped.load(Ordering::SeqCst) {
            // What has come already comes before any jump.
            let destination = self.destination();
            let patience = match destination {
                Some(_) => EpollTimeout::ZERO,
                None => EpollTimeout::NONE,
            };
            let n = match self.epoll.wait(&mut ready, patience) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            };
            for event in &ready[..n] {
                match event.data() {
                    DOORBELL => {
                        // Empty when somebody else has rung meanwhile: that counts as well.
                        let _ = self.doorbell.read();
                    }
                    ALARM => self.alarm_went_off()?,
                    id => {
                        let watched = self.state.lock().watches.get(&id).cloned();
                        if let Some(watched) = watched {
                            let events = Events::from_bits_truncate(event.events().bits().cast_unsigned());
                            self.rearm(&watched, |armed| armed - events);
                            watched.queue.notify(events);
                        }
                    }
                }
            }
            if n == 0
                && let Some(instant) = destination
                && self.rests()
            {
                self.clock.jump(instant);
                self.fire(instant);
            }
        }
        Ok(())
    }

    /// End [`Reactor::run`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        ring(&self.doorbell);
    }

    /// Whether nothing goes on that might need the time until the next timer.
    fn rests(&self) -> bool {
        self.activity.as_ref().is_some_and(|activity| activity.rests())
            && self.writers.load(Ordering::SeqCst) == 0
    }

    /// Where the clock is to jump now, if nothing comes from the host first. Nothing in a guest waits for times beyond the
    /// horizon, which stand for never.
    fn destination(&self) -> Option<Instant> {
        if !self.rests() {
            return None;
        }
        let state = self.state.lock();
        let ((instant, _), _) = state.timers.first_key_value()?;
        (*instant <= HORIZON).then_some(*instant)
    }

    /// Jump to the next timer, if there is one, and call it on this thread; no lock may be held. For
    /// [turns](crate::kernel::sched::Turns), which know when nothing runs.
    pub(in crate::kernel) fn travel(&self) -> bool {
        let next = self.state.lock().timers.first_key_value().map(|((at, _), _)| *at);
        let Some(instant) = next.filter(|instant| *instant <= HORIZON) else {
            return false;
        };
        self.clock.jump(instant);
        self.fire(self.clock.now());
        true
    }

    /// A call takes a little time: call what is due on this thread; no lock may be held.
    pub(in crate::kernel) fn tick(&self) {
        self.add(CALL);
        let now = self.clock.now();
        let due = self
            .state
            .lock()
            .timers
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= now);
        if due {
            self.fire(now);
        }
    }

    /// Move a clock that nothing else moves.
    pub(in crate::kernel) fn add(&self, nanos: u64) {
        self.clock.add(nanos);
    }

    /// A guest is going to read the clock, which may move it.
    pub fn clock_is_read(&self) {
        if self.clock.note_reading() {
            self.reset_alarm(&mut self.state.lock());
        }
    }

    /// Call `waiter` once when the clock reaches `deadline`, on the reactor's thread and with no lock held.
    pub fn timer(self: &Arc<Self>, deadline: Instant, waiter: &Arc<dyn Wakeup>) -> Timer {
        let mut state = self.state.lock();
        state.next_id += 1;
        let key = (deadline, state.next_id);
        state.timers.insert(key, Arc::downgrade(waiter));
        self.reset_alarm(&mut state);
        drop(state);
        self.armed(Key::Guest(key.0, key.1))
    }

    /// As [`Reactor::timer`], after so many nanoseconds of the host's time.
    pub fn host_timer(self: &Arc<Self>, nanos: u64, waiter: &Arc<dyn Wakeup>) -> Timer {
        let at = host_monotonic().saturating_add(nanos);
        let mut state = self.state.lock();
        state.next_id += 1;
        let key = (at, state.next_id);
        state.host_timers.insert(key, Arc::downgrade(waiter));
        self.reset_alarm(&mut state);
        drop(state);
        self.armed(Key::Host(key.0, key.1))
    }

    fn armed(self: &Arc<Self>, key: Key) -> Timer {
        Timer {
            reactor: self.clone(),
            key,
        }
    }

    /// Pass the readiness of a host descriptor on to `queue`, whenever it was asked for by [`HostWatch::arm`].
    pub fn watch(self: &Arc<Self>, fd: OwnedFd, queue: &WaitQueue) -> Result<HostWatch, Errno> {
        let mut state = self.state.lock();
        state.next_id += 1;
        let id = state.next_id;
        let pollable = match self
            .epoll
            .add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLONESHOT, id))
        {
            Ok(()) => true,
            Err(Errno::EPERM) => false,
            Err(errno) => return Err(errno),
        };
        let armed = Lock::new(Rank::Leaf, Events::empty());
        let watched = Arc::new(Watched {
            fd,
            id,
            queue: queue.clone(),
            pollable,
            armed,
        });
        state.watches.insert(id, watched.clone());
        Ok(HostWatch {
            reactor: self.clone(),
            watched,
        })
    }

    /// A watch is not to be written to any more.
    fn wrote(&self) {
        if self.writers.fetch_sub(1, Ordering::SeqCst) == 1 && self.activity.is_some() {
            ring(&self.doorbell);
        }
    }

    /// Change what a watched descriptor is asked for.
    fn rearm(&self, watched: &Watched, change: impl FnOnce(Events) -> Events) {
        let mut armed = watched.armed.lock();
        let before = *armed;
        *armed = change(before);
        match (before.contains(Events::OUT), armed.contains(Events::OUT)) {
            (false, true) => _ = self.writers.fetch_add(1, Ordering::SeqCst),
            (true, false) => self.wrote(),
            _ => {}
        }
        if !armed.is_empty() {
            let flags = EpollFlags::from_bits_truncate(armed.bits().cast_signed()) | EpollFlags::EPOLLONESHOT;
            // It can only fail for a descriptor that is not registered, and this one is.
            let _ = self
                .epoll
                .modify(watched.fd.as_fd(), &mut EpollEvent::new(flags, watched.id));
        }
    }

    /// Have the alarm go off when the first timer is due, unless it does so before. A host that refuses leaves the timer to the
    /// next one set.
    fn reset_alarm(&self, state: &mut State) {
        let Some(at) = state.first(&self.clock) else {
            return;
        };
        if state.alarm_at.is_some_and(|before| before <= at) {
            return;
        }
        let when = TimeSpec::new(
            (at / NANOS_PER_SEC).cast_signed(),
            (at % NANOS_PER_SEC).cast_signed(),
        );
        let set = self
            .alarm
            .set(Expiration::OneShot(when), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
        match set {
            Ok(()) => state.alarm_at = Some(at),
            Err(errno) => tracing::error!(%errno, "the host refuses to set a timer"),
        }
    }

    /// Call what is due.
    fn alarm_went_off(&self) -> Result<(), Errno> {
        match self.alarm.wait() {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        self.state.lock().alarm_at = None;
        self.fire(self.clock.now());
        Ok(())
    }

    /// Call what is due by `now`, and set the alarm for what comes next.
    fn fire(&self, now: Instant) {
        loop {
            let mut state = self.state.lock();
            let Some(waiter) = state.take_due(now, host_monotonic) else {
                self.reset_alarm(&mut state);
                return;
            };
            drop(state);
            if let Some(waiter) = waiter.upgrade() {
                waiter.wake(Events::empty());
            }
        }
    }
}

fn ring(doorbell: &EventFd) {
    // The counter cannot overflow in practice, and a full one has rung anyway.
    let _ = doorbell.write(1);
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut state = self.reactor.state.lock();
        let removed = match self.key {
            Key::Guest(at, id) => state.timers.remove(&(at, id)),
            Key::Host(at, id) => state.host_timers.remove(&(at, id)),
        };
        drop(state);
        drop(removed);
    }
}

impl HostWatch {
    /// Ask for one notification when any of `events` becomes true (or already is), beside what others asked for.
    pub fn arm(&self, events: Events) {
        if self.watched.pollable {
            self.reactor.rearm(&self.watched, |armed| armed | events);
        }
    }

    /// What is true right now, without waiting.
    pub fn poll(&self, events: Events) -> Events {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let wanted = PollFlags::from_bits_truncate(i16::try_from(events.bits() & 0x7fff).unwrap_or(i16::MAX));
        let mut fds = [PollFd::new(self.watched.fd.as_fd(), wanted)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(_) => {
                let got = fds[0].revents().unwrap_or(PollFlags::empty()).bits();
                Events::from_bits_truncate(u32::from(got.cast_unsigned()))
            }
            Err(_) => events,
        }
    }
}

impl AsFd for HostWatch {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.watched.fd.as_fd()
    }
}

impl Drop for HostWatch {
    fn drop(&mut self) {
        self.reactor.state.lock().watches.remove(&self.watched.id);
        if self.watched.armed.lock().contains(Events::OUT) {
            self.reactor.wrote();
        }
        if self.watched.pollable {
            let _ = self.reactor.epoll.delete(self.watched.fd.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Sender, channel};

    struct Tell(Sender<u32>, u32);

    impl Wakeup for Tell {
        fn wake(&self, _: Events) {
            let _ = self.0.send(self.1);
        }
    }

    fn running() -> (
        Arc<Reactor>,
        Arc<Clock>,
        std::thread::JoinHandle<Result<(), Errno>>,
    ) {
        let clock = Arc::new(Clock::new());
        let reactor = Reactor::new(clock.clone()).unwrap_or_else(|e| panic!("reactor: {e}"));
        let thread = {
            let reactor = reactor.clone();
            std::thread::spawn(move || reactor.run())
        };
        (reactor, clock, thread)
    }

    #[test]
    fn timers_fire_in_order_never_early_and_only_while_held() {
        let (reactor, clock, thread) = running();
        let (sender, received) = channel();
        let tell = |n| -> Arc<dyn Wakeup> { Arc::new(Tell(sender.clone(), n)) };
        let start = clock.now();
        let (late, soon, dropped, past) = (tell(2), tell(1), tell(3), tell(0));
        let _late = reactor.timer(start.after(3_000_000), &late);
        let _soon = reactor.timer(start.after(1_000_000), &soon);
        drop(reactor.timer(start.after(500_000), &dropped));
        let _past = reactor.timer(start, &past);
        assert_eq!(received.iter().take(3).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(clock.now() >= start.after(3_000_000));
        reactor.stop();
        assert_eq!(thread.join().ok(), Some(Ok(())));
        assert!(received.try_recv().is_err());
    }

    #[test]
    fn host_readiness_reaches_the_queue_once_per_arming() {
        let (reactor, _, thread) = running();
        let (sender, received) = channel();
        let queue = WaitQueue::new();
        let waiter: Arc<dyn Wakeup> = Arc::new(Tell(sender, 7));
        let _registration = queue.register(Events::READ, &waiter);
        let (mut ours, theirs) = UnixStream::pair().unwrap_or_else(|e| panic!("socketpair: {e}"));
        let watch = reactor
            .watch(theirs.into(), &queue)
            .unwrap_or_else(|e| panic!("watch: {e}"));
        watch.arm(Events::READ);
        assert!(watch.poll(Events::READ).is_empty());
        assert!(ours.write_all(b"x").is_ok());
        assert_eq!(received.recv(), Ok(7));
        assert!(watch.poll(Events::READ).contains(Events::IN));
        watch.arm(Events::READ);
        assert_eq!(received.recv(), Ok(7), "what is ready already is told too");
        drop(watch);
        reactor.stop();
        assert_eq!(thread.join().ok(), Some(Ok(())));
    }
}
