//! The one host thread that waits for the outside world: timers and host descriptors.
//!
//! It sleeps in epoll_wait until the nearest deadline or until a watched descriptor is ready, and calls whoever asked.
//! Nothing polls: with no timer armed and nothing ready it sleeps for good.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Events, WaitQueue, Wakeup};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::time::{Clock, Instant, NANOS_PER_SEC};

const DOORBELL: u64 = u64::MAX;

/// Timers and host readiness of one guest.
pub struct Reactor {
    clock: Arc<Clock>,
    epoll: Epoll,
    doorbell: EventFd,
    stopped: AtomicBool,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    next_id: u64,
    timers: BTreeMap<(Instant, u64), Weak<dyn Wakeup>>,
    watches: HashMap<u64, WaitQueue>,
    /// What the thread is asleep until, so that only an earlier timer needs to wake it.
    asleep_until: Option<Instant>,
}

/// An armed timer; dropping it disarms it.
pub struct Timer {
    reactor: Arc<Reactor>,
    key: (Instant, u64),
}

/// A host descriptor whose readiness is passed on to a wait queue while this lives.
pub struct HostWatch {
    reactor: Arc<Reactor>,
    fd: OwnedFd,
    id: u64,
    /// False for what epoll cannot watch (regular files): always ready.
    pollable: bool,
}

impl Reactor {
    /// Make the reactor; [`Reactor::run`] must be called on a thread of its own.
    pub fn new(clock: Arc<Clock>) -> Result<Arc<Reactor>, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let doorbell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&doorbell, EpollEvent::new(EpollFlags::EPOLLIN, DOORBELL))?;
        let state = Lock::new(Rank::Reactor, State::default());
        Ok(Arc::new(Reactor {
            clock,
            epoll,
            doorbell,
            stopped: AtomicBool::new(false),
            state,
        }))
    }

    /// Serve until [`Reactor::stop`].
    pub fn run(&self) -> Result<(), Errno> {
        let mut ready = [EpollEvent::empty(); 64];
        while !self.stopped.load(Ordering::SeqCst) {
            let timeout = self.fire_due();
            let n = match self.epoll.wait(&mut ready, timeout) {
                Ok(n) => n,
                Err(Errno::EINTR) => 0,
                Err(errno) => return Err(errno),
            };
            for event in &ready[..n] {
                if event.data() == DOORBELL {
                    let _ = self.doorbell.read();
                    continue;
                }
                let queue = self.state.lock().watches.get(&event.data()).cloned();
                if let Some(queue) = queue {
                    queue.notify(Events::from_bits_truncate(event.events().bits().cast_unsigned()));
                }
            }
        }
        Ok(())
    }

    /// End [`Reactor::run`].
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.ring();
    }

    /// Call `waiter` once when the clock reaches `deadline`.
    pub fn timer(self: &Arc<Self>, deadline: Instant, waiter: &Arc<dyn Wakeup>) -> Timer {
        let mut state = self.state.lock();
        state.next_id += 1;
        let key = (deadline, state.next_id);
        state.timers.insert(key, Arc::downgrade(waiter));
        let earlier = state.asleep_until.is_some_and(|until| deadline < until);
        drop(state);
        if earlier {
            self.ring();
        }
        Timer {
            reactor: self.clone(),
            key,
        }
    }

    /// Pass the readiness of a host descriptor on to `queue`, whenever it was asked for by [`HostWatch::arm`].
    pub fn watch(self: &Arc<Self>, fd: OwnedFd, queue: &WaitQueue) -> Result<HostWatch, Errno> {
        let id = {
            let mut state = self.state.lock();
            state.next_id += 1;
            let id = state.next_id;
            state.watches.insert(id, queue.clone());
            id
        };
        let pollable = match self
            .epoll
            .add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLONESHOT, id))
        {
            Ok(()) => true,
            Err(Errno::EPERM) => false,
            Err(errno) => {
                self.state.lock().watches.remove(&id);
                return Err(errno);
            }
        };
        Ok(HostWatch {
            reactor: self.clone(),
            fd,
            id,
            pollable,
        })
    }

    fn ring(&self) {
        // The counter cannot overflow in practice, and a full one has rung anyway.
        let _ = self.doorbell.write(1);
    }

    /// Call what is due and say how long to sleep.
    fn fire_due(&self) -> EpollTimeout {
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
                    state.asleep_until = Some(deadline);
                    return timeout(deadline.since(now));
                }
                None => {
                    state.asleep_until = Some(Instant::FAR_FUTURE);
                    return EpollTimeout::NONE;
                }
            }
        }
    }
}

/// Milliseconds rounded up, so that a timer is never early; epoll_wait's own granularity is what limits us.
fn timeout(nanos: u64) -> EpollTimeout {
    let millis = nanos.div_ceil(NANOS_PER_SEC / 1000);
    EpollTimeout::try_from(millis.min(1 << 30)).unwrap_or(EpollTimeout::MAX)
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.reactor.state.lock().timers.remove(&self.key);
    }
}

impl HostWatch {
    /// Ask for one notification when any of `events` becomes true (or already is).
    pub fn arm(&self, events: Events) {
        if !self.pollable {
            return;
        }
        let flags = EpollFlags::from_bits_truncate(events.bits().cast_signed()) | EpollFlags::EPOLLONESHOT;
        let _ = self
            .reactor
            .epoll
            .modify(self.fd.as_fd(), &mut EpollEvent::new(flags, self.id));
    }

    /// What is true right now, without waiting.
    pub fn poll(&self, events: Events) -> Events {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let wanted = PollFlags::from_bits_truncate(i16::try_from(events.bits() & 0x7fff).unwrap_or(i16::MAX));
        let mut fds = [PollFd::new(self.fd.as_fd(), wanted)];
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
        self.fd.as_fd()
    }
}

impl Drop for HostWatch {
    fn drop(&mut self) {
        self.reactor.state.lock().watches.remove(&self.id);
        if self.pollable {
            let _ = self.reactor.epoll.delete(self.fd.as_fd());
        }
        tracing::trace!(fd = self.fd.as_raw_fd(), "host watch ended");
    }
}
