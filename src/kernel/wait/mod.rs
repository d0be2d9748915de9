//! Readiness and waiting: wait queues, deadlines, and what a blocked handler waits for.
//!
//! A handler checks its object under the object's lock; when it cannot go on it makes a [`WaitFor`] *under the same
//! lock*. That notes the queue's generation, and parking refuses to sleep when the queue was notified since, so that no
//! wakeup is lost although nothing is registered until the task really parks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bitflags::bitflags;

use super::sync::{Lock, Rank};
use super::time::Instant;

pub mod reactor;

bitflags! {
    /// Readiness, with the values of EPOLL* (and POLL*).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Events: u32 {
        /// EPOLLIN
        const IN = 0x1;
        /// EPOLLPRI
        const PRI = 0x2;
        /// EPOLLOUT
        const OUT = 0x4;
        /// EPOLLERR
        const ERR = 0x8;
        /// EPOLLHUP
        const HUP = 0x10;
        /// EPOLLRDNORM
        const RDNORM = 0x40;
        /// EPOLLRDBAND
        const RDBAND = 0x80;
        /// EPOLLWRNORM
        const WRNORM = 0x100;
        /// EPOLLWRBAND
        const WRBAND = 0x200;
        /// EPOLLMSG
        const MSG = 0x400;
        /// EPOLLRDHUP
        const RDHUP = 0x2000;
    }
}

impl Events {
    /// Readable data, as most objects report it.
    pub const READ: Events = Events::IN.union(Events::RDNORM);
    /// Room to write, as most objects report it.
    pub const WRITE: Events = Events::OUT.union(Events::WRNORM);
}

/// Something to call when a queue is notified or a deadline passes. Must not block and takes only locks of rank
/// [`Rank::Ready`] and later.
pub trait Wakeup: Send + Sync {
    /// `events` is what the notifier said has become true; empty for a deadline.
    fn wake(&self, events: Events);
}

/// A list of those who wait for an object to change. Clones are the same queue.
#[derive(Clone)]
pub struct WaitQueue(Arc<Queue>);

struct Queue {
    generation: AtomicU64,
    waiters: Lock<Vec<Entry>>,
}

struct Entry {
    id: u64,
    interest: Events,
    waiter: Weak<dyn Wakeup>,
}

impl Default for WaitQueue {
    fn default() -> Self {
        WaitQueue::new()
    }
}

impl WaitQueue {
    /// An empty queue.
    pub fn new() -> WaitQueue {
        WaitQueue(Arc::new(Queue {
            generation: AtomicU64::new(0),
            waiters: Lock::new(Rank::WaitQueue, Vec::new()),
        }))
    }

    /// Say that `events` may have become true. Call it after the change was made; the object's lock may still be held.
    pub fn notify(&self, events: Events) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        let woken: Vec<_> = {
            let waiters = self.0.waiters.lock();
            waiters
                .iter()
                .filter(|e| e.interest.intersects(events) || e.interest.is_empty())
                .filter_map(|e| e.waiter.upgrade())
                .collect()
        };
        for waiter in woken {
            waiter.wake(events);
        }
    }

    /// The present generation, for a [`WaitFor`] made later.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::SeqCst)
    }

    /// Have `waiter` called at each notification that meets `interest` (empty: any) until the result is dropped.
    pub fn register(&self, interest: Events, waiter: &Arc<dyn Wakeup>) -> Registration {
        let mut waiters = self.0.waiters.lock();
        let id = waiters.last().map_or(0, |e| e.id + 1);
        waiters.push(Entry {
            id,
            interest,
            waiter: Arc::downgrade(waiter),
        });
        Registration {
            queue: self.clone(),
            id,
        }
    }

    /// Whether both are the same queue.
    pub fn same(&self, other: &WaitQueue) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Ends a registration when dropped.
pub struct Registration {
    queue: WaitQueue,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut waiters = self.queue.0.waiters.lock();
        // Ids rise along the list, whatever has left it.
        if let Ok(i) = waiters.binary_search_by_key(&self.id, |e| e.id) {
            waiters.remove(i);
        }
    }
}

/// What happens to a blocked call when a signal arrives (what Linux expresses as ERESTART*). A transfer that has made
/// progress returns its count instead, whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnSignal {
    /// ERESTARTSYS: a handler with SA_RESTART restarts it, one without gives EINTR; no handler: it goes on.
    #[default]
    Restart,
    /// ERESTARTNOHAND, ERESTART_RESTARTBLOCK: any handler gives EINTR; no handler: it goes on with its old deadline.
    Eintr,
    /// EINTR even when no handler runs (after a stop and continue): epoll_wait, sigtimedwait, semop.
    AlwaysEintr,
    /// ERESTARTNOINTR: always restarted.
    AlwaysRestart,
    /// Only a kill ends it: vfork's parent.
    Uninterruptible,
}

/// What a blocked handler waits for: any of some queues, or a deadline.
#[derive(Default)]
pub struct WaitFor {
    queues: Vec<(WaitQueue, Events, u64)>,
    /// When to run the handler again at the latest. The handler compares it with the clock itself.
    pub deadline: Option<Instant>,
    /// What a signal does.
    pub on_signal: OnSignal,
}

impl WaitFor {
    /// Wait for a queue. Call it under the lock under which the condition was found false.
    pub fn queue(queue: &WaitQueue, events: Events) -> WaitFor {
        WaitFor::default().and(queue, events)
    }

    /// Wait for nothing but a deadline or a signal.
    pub fn signal() -> WaitFor {
        WaitFor {
            on_signal: OnSignal::Eintr,
            ..WaitFor::default()
        }
    }

    /// Wait for this queue too; same rule as [`WaitFor::queue`].
    pub fn and(self, queue: &WaitQueue, events: Events) -> WaitFor {
        let generation = queue.generation();
        self.and_since(queue, events, generation)
    }

    /// Wait for this queue too, counting from a generation read before the condition was checked.
    pub fn and_since(mut self, queue: &WaitQueue, events: Events, generation: u64) -> WaitFor {
        self.queues.push((queue.clone(), events, generation));
        self
    }

    /// Run the handler again at this time at the latest.
    pub fn until(mut self, deadline: Option<Instant>) -> WaitFor {
        self.deadline = deadline;
        self
    }

    /// Choose what a signal does.
    pub fn on_signal(mut self, on_signal: OnSignal) -> WaitFor {
        self.on_signal = on_signal;
        self
    }

    /// Register with all queues. None when one was notified since this was made: do not sleep, run again.
    pub fn register(&self, waiter: &Arc<dyn Wakeup>) -> Option<Vec<Registration>> {
        let registrations: Vec<_> = self
            .queues
            .iter()
            .map(|(q, events, _)| q.register(*events, waiter))
            .collect();
        let quiet = self
            .queues
            .iter()
            .all(|(q, _, generation)| q.generation() == *generation);
        quiet.then_some(registrations)
    }
}
