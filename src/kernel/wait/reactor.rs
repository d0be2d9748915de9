//! The one host thread that waits for the outside world: timers and host descriptors.
//!
//! It sleeps in epoll_wait until a watched descriptor is ready, one of which is a timerfd armed for the nearest deadline,
//! and calls whoever asked. Nothing polls: with no timer armed and nothing ready it sleeps for good.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::{Events, WaitQueue, Wakeup};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::{Clock, Instant, NANOS_PER_SEC};

/// Epoll data of what is not a watch; watches count from 1.
const DOORBELL: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;

/// Timers and host readiness of one guest.
pub struct Reactor {
    clock: Arc<Clock>,
    epoll: Epoll,
    /// Rung to end the thread.
    doorbell: EventFd,
    /// Goes off at the nearest deadline.
    alarm: TimerFd,
    stopped: AtomicBool,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    timers: BTreeMap<(Instant, u64), Weak<dyn Wakeup>>,
    watches: HashMap<u64, Arc<Watched>>,
    /// What the alarm is set to. It may be earlier than any timer, when that one was dropped: setting it costs a host call
    /// and most timers are dropped early, so it goes off for nothing once instead.
    alarm_at: Option<Instant>,
}

/// An armed timer; dropping it disarms it.
pub struct Timer {
    reactor: Arc<Reactor>,
    key: (Instant, u64),
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
        let doorbell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let alarm = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK,
        )?;
        epoll.add(&doorbell, EpollEvent::new(EpollFlags::EPOLLIN, DOORBELL))?;
        epoll.add(&alarm, EpollEvent::new(EpollFlags::EPOLLIN, ALARM))?;
        let state = Lock::new(Rank::Reactor, State::default());
        Ok(Arc::new(Reactor {
            clock,
            epoll,
            doorbell,
            alarm,
            stopped: AtomicBool::new(false),
            state,
        }))
    }

    /// Serve until [`Reactor::stop`].
    pub fn run(&self) -> Result<(), Errno> {
        let mut ready = [EpollEvent::empty(); 64];
        while !self.stopped.load(Ordering::SeqCst) {
            let n = match self.epoll.wait(&mut ready, EpollTimeout::NONE) {
                Ok(n) => n,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno),
            };
            for event in &ready[..n] {
                match event.data() {
                    DOORBELL => {}
                    ALARM => self.fire_due()?,
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
        }
        Ok(())
    }

    /// End [`Reactor::run`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        // The counter cannot overflow in practice, and a full one has rung anyway.
        let _ = self.doorbell.write(1);
    }

    /// Call `waiter` once when the clock reaches `deadline`, on the reactor's thread and with no lock held.
    pub fn timer(self: &Arc<Self>, deadline: Instant, waiter: &Arc<dyn Wakeup>) -> Timer {
        let mut state = self.state.lock();
        state.next_id += 1;
        let key = (deadline, state.next_id);
        state.timers.insert(key, Arc::downgrade(waiter));
        if state.alarm_at.is_none_or(|at| deadline < at) {
            self.set_alarm(&mut state, deadline);
        }
        drop(state);
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

    /// Change what a watched descriptor is asked for.
    fn rearm(&self, watched: &Watched, change: impl FnOnce(Events) -> Events) {
        let mut armed = watched.armed.lock();
        *armed = change(*armed);
        if !armed.is_empty() {
            let flags = EpollFlags::from_bits_truncate(armed.bits().cast_signed()) | EpollFlags::EPOLLONESHOT;
            // It can only fail for a descriptor that is not registered, and this one is.
            let _ = self
                .epoll
                .modify(watched.fd.as_fd(), &mut EpollEvent::new(flags, watched.id));
        }
    }

    /// Have the alarm go off at `deadline`. A host that refuses leaves the timer to the next one set.
    fn set_alarm(&self, state: &mut State, deadline: Instant) {
        let nanos = deadline.since(self.clock.now()).max(1);
        let after = TimeSpec::new(
            (nanos / NANOS_PER_SEC).cast_signed(),
            (nanos % NANOS_PER_SEC).cast_signed(),
        );
        let set = self
            .alarm
            .set(Expiration::OneShot(after), TimerSetTimeFlags::empty());
        match set {
            Ok(()) => state.alarm_at = Some(deadline),
            Err(errno) => tracing::error!(%errno, "the host refuses to set a timer"),
        }
    }

    /// Call what is due and set the alarm for what comes next.
    fn fire_due(&self) -> Result<(), Errno> {
        match self.alarm.wait() {
            Ok(()) | Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        self.state.lock().alarm_at = None;
        loop {
            let now = self.clock.now();
            let mut state = self.state.lock();
            match state.timers.first_key_value() {
                Some((&key, _)) if key.0 <= now => {
                    let waiter = state.timers.remove(&key).and_then(|w| w.upgrade());
                    drop(state);
                    if let Some(waiter) = waiter {
                        waiter.wake(Events::empty());
                    }
                }
                Some((&(deadline, _), _)) => {
                    if state.alarm_at.is_none_or(|at| deadline < at) {
                        self.set_alarm(&mut state, deadline);
                    }
                    return Ok(());
                }
                None => return Ok(()),
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.reactor.state.lock().timers.remove(&self.key);
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
