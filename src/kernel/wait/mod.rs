//! Readiness and waiting: wait queues, deadlines, and what a blocked handler waits for.
//!
//! A handler checks its object under the object's lock; when it cannot go on it makes a [`WaitFor`] *under the same
//! lock*. That notes the queue's generation, and parking refuses to sleep when the queue was notified since, so that no
//! wakeup is lost although nothing is registered until the task really parks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bitflags::bitflags;

use super::sync::{Lock, Rank};
use super::time::Instant;

pub mod reactor;
#[cfg(test)]
pub(in crate::kernel) mod testing;

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
    /// Counts notifications: what [`WaitFor`] compares.
    generation: AtomicU64,
    /// How many are registered, so that notifying an empty queue costs no lock.
    registered: AtomicUsize,
    waiters: Lock<Waiters>,
}

#[derive(Default)]
struct Waiters {
    next_id: u64,
    /// In the order of registration.
    entries: BTreeMap<u64, Entry>,
}

struct Entry {
    interest: Events,
    exclusive: bool,
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
            registered: AtomicUsize::new(0),
            waiters: Lock::new(Rank::WaitQueue, Waiters::default()),
        }))
    }

    /// Say that `events` may have become true. Call it after the change was made; the object's lock may still be held.
    /// Wakes every waiter for any of them, but of the exclusive ones only the one that has waited longest.
    pub fn notify(&self, events: Events) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        // Pairs with `register`, which counts itself before it compares the generation.
        if self.0.registered.load(Ordering::SeqCst) == 0 {
            return;
        }
        let woken = self.0.waiters.lock().pick(events);
        for waiter in woken {
            waiter.wake(events);
        }
    }

    /// The present generation, for a [`WaitFor`] made later.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::SeqCst)
    }

    /// Have `waiter` called at each notification that meets `interest` (empty: any) until the result is dropped.
    /// Errors and hang-ups are always of interest, as for poll(2).
    pub fn register(&self, interest: Events, waiter: &Arc<dyn Wakeup>) -> Registration {
        self.add(interest, false, waiter)
    }

    /// As [`WaitQueue::register`], but one notification calls only the first of all exclusive waiters (EPOLLEXCLUSIVE).
    pub fn register_exclusive(&self, interest: Events, waiter: &Arc<dyn Wakeup>) -> Registration {
        self.add(interest, true, waiter)
    }

    fn add(&self, interest: Events, exclusive: bool, waiter: &Arc<dyn Wakeup>) -> Registration {
        let interest = if interest.is_empty() {
            interest
        } else {
            interest | Events::ERR | Events::HUP
        };
        let mut waiters = self.0.waiters.lock();
        let id = waiters.next_id;
        waiters.next_id += 1;
        waiters.entries.insert(
            id,
            Entry {
                interest,
                exclusive,
                waiter: Arc::downgrade(waiter),
            },
        );
        self.0.registered.fetch_add(1, Ordering::SeqCst);
        Registration {
            queue: self.clone(),
            id,
        }
    }

    /// Whether anybody is registered for one of `events`.
    pub fn is_awaited(&self, events: Events) -> bool {
        let waiters = self.0.waiters.lock();
        waiters
            .entries
            .values()
            .any(|entry| entry.interest.intersects(events))
    }

    /// Whether both are the same queue.
    pub fn same(&self, other: &WaitQueue) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Waiters {
    /// Whom a notification of `events` wakes.
    fn pick(&self, events: Events) -> Vec<Arc<dyn Wakeup>> {
        let mut exclusive_taken = false;
        let mut woken = Vec::new();
        for entry in self.entries.values() {
            let wanted = entry.interest.is_empty() || entry.interest.intersects(events);
            if !wanted || (entry.exclusive && exclusive_taken) {
                continue;
            }
            if let Some(waiter) = entry.waiter.upgrade() {
                exclusive_taken |= entry.exclusive;
                woken.push(waiter);
            }
        }
        woken
    }
}

/// Ends a registration when dropped.
pub struct Registration {
    queue: WaitQueue,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.queue.0.waiters.lock().entries.remove(&self.id);
        self.queue.0.registered.fetch_sub(1, Ordering::SeqCst);
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

    /// Wait for nothing: let signals and others go first, then run the handler again.
    pub fn nothing() -> WaitFor {
        WaitFor {
            deadline: Some(Instant(0)),
            on_signal: OnSignal::AlwaysRestart,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wakeup for Counter {
        fn wake(&self, _: Events) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counter() -> (Arc<Counter>, Arc<dyn Wakeup>) {
        let counter = Arc::new(Counter::default());
        (counter.clone(), counter)
    }

    fn count(counter: &Counter) -> usize {
        counter.0.load(Ordering::SeqCst)
    }

    #[test]
    fn a_notification_before_registering_refuses_sleep() {
        let queue = WaitQueue::new();
        let wait = WaitFor::queue(&queue, Events::READ);
        queue.notify(Events::READ);
        let (_, waiter) = counter();
        assert!(wait.register(&waiter).is_none());
        assert!(WaitFor::queue(&queue, Events::READ).register(&waiter).is_some());
    }

    #[test]
    fn only_those_interested_are_called_and_errors_interest_all() {
        let queue = WaitQueue::new();
        let (reader, r) = counter();
        let (writer, w) = counter();
        let _r = queue.register(Events::READ, &r);
        let _w = queue.register(Events::WRITE, &w);
        queue.notify(Events::READ);
        assert_eq!((count(&reader), count(&writer)), (1, 0));
        queue.notify(Events::HUP);
        assert_eq!((count(&reader), count(&writer)), (2, 1));
    }

    #[test]
    fn a_dropped_registration_or_waiter_is_not_called() {
        let queue = WaitQueue::new();
        let (one, waiter) = counter();
        let registration = queue.register(Events::empty(), &waiter);
        drop(registration);
        queue.notify(Events::READ);
        assert_eq!(count(&one), 0);
        let (_, gone) = counter();
        let _dangling = queue.register_exclusive(Events::empty(), &gone);
        drop(gone);
        let _r = queue.register_exclusive(Events::empty(), &waiter);
        queue.notify(Events::READ);
        assert_eq!(count(&one), 1, "a dead exclusive waiter takes no wakeup");
    }

    #[test]
    fn one_exclusive_waiter_and_all_others() {
        let queue = WaitQueue::new();
        let (shared, s) = counter();
        let (first, f) = counter();
        let (second, t) = counter();
        let first_registration = queue.register_exclusive(Events::READ, &f);
        let _t = queue.register_exclusive(Events::READ, &t);
        let _s = queue.register(Events::READ, &s);
        queue.notify(Events::READ);
        assert_eq!((count(&shared), count(&first), count(&second)), (1, 1, 0));
        drop(first_registration);
        queue.notify(Events::READ);
        assert_eq!((count(&shared), count(&first), count(&second)), (2, 1, 1));
    }

    #[test]
    fn no_wakeup_is_lost_between_threads() {
        const ROUNDS: usize = 2000;
        let queue = WaitQueue::new();
        let turn = Arc::new(AtomicUsize::new(0));
        let producer = {
            let (queue, turn) = (queue.clone(), turn.clone());
            std::thread::spawn(move || {
                for _ in 0..ROUNDS {
                    turn.fetch_add(1, Ordering::SeqCst);
                    queue.notify(Events::READ);
                }
            })
        };
        let done = testing::until_done(|| {
            let wait = WaitFor::queue(&queue, Events::READ);
            if turn.load(Ordering::SeqCst) == ROUNDS {
                return Ok(());
            }
            Err(wait.into())
        });
        assert_eq!(done, Ok(()));
        assert!(producer.join().is_ok());
    }
}
