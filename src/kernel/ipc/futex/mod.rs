//! Futexes: futex(2).
//!
//! A waiter queues under a [`Key`] in a hashed bucket. The guest's word is read under the bucket's lock, so a wake between the
//! check and the queueing is impossible. A waiter that is woken has left its queue: that is what its handler looks for when
//! it runs again, and it wins over a signal or a timeout that comes at the same time.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use crate::kernel::Kernel;
use crate::kernel::mm::Mm;
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, LockGuard, Rank, lock_two};
use crate::kernel::user_memory::{UserAddr, UserMemory};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};
use crate::platform::USER_END;

mod calls;
mod pi;
mod robust;
mod wake_op;

pub(super) use calls::*;
pub use robust::exit_robust_list;

/// Number of buckets; a power of two.
const BUCKETS: usize = 256;

/// All bits: matches every waiter (FUTEX_BITSET_MATCH_ANY).
const ANY: u32 = u32::MAX;

/// What makes two addresses the same futex.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// An address of one address space.
    Private { mm: usize, addr: u64 },
    /// A place in memory that address spaces share, by the host's identity of it.
    Shared { device: u64, inode: u64, offset: u64 },
}

/// The futexes of a guest.
pub struct Futexes {
    hasher: RandomState,
    buckets: Vec<Lock<Bucket>>,
}

type Bucket = HashMap<Key, VecDeque<Arc<Waiter>>>;

impl Default for Futexes {
    fn default() -> Self {
        Futexes {
            hasher: RandomState::new(),
            buckets: (0..BUCKETS)
                .map(|_| Lock::new(Rank::Table, Bucket::new()))
                .collect(),
        }
    }
}

/// Somebody queued on a futex.
struct Waiter {
    /// Where it is queued; changes by requeueing, under the locks of both buckets.
    key: Lock<Key>,
    /// Has left its queue because somebody woke it.
    woken: AtomicBool,
    bitset: u32,
    /// Its thread id when it waits for a priority-inheritance lock, else 0.
    pi_tid: u32,
    queue: WaitQueue,
}

impl Waiter {
    fn new(key: Key, bitset: u32, pi_tid: u32, queue: &WaitQueue) -> Arc<Waiter> {
        Arc::new(Waiter {
            key: Lock::new(Rank::Leaf, key),
            woken: AtomicBool::new(false),
            bitset,
            pi_tid,
            queue: queue.clone(),
        })
    }

    /// Call it when the waiter was taken from its queue, under the bucket's lock.
    fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.queue.notify(Events::empty());
    }

    fn is_woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }
}

impl Futexes {
    fn index(&self, key: &Key) -> usize {
        // The remainder of a hash is below the number of buckets.
        (self.hasher.hash_one(key) % BUCKETS as u64) as usize
    }

    fn bucket(&self, key: &Key) -> LockGuard<'_, Bucket> {
        self.buckets[self.index(key)].lock()
    }

    /// Run `act` with the buckets of both keys locked; they may be one.
    fn with_two<R>(&self, one: &Key, two: &Key, act: impl FnOnce(&mut Pair<'_>) -> R) -> R {
        let (i, j) = (self.index(one), self.index(two));
        if i == j {
            act(&mut Pair::One(self.buckets[i].lock()))
        } else {
            let (a, b) = lock_two(&self.buckets[i], &self.buckets[j]);
            act(&mut Pair::Two(a, b))
        }
    }

    /// Wake up to `count` waiters whose bits meet `bitset`; at least one, as Linux does.
    fn wake(&self, key: &Key, count: usize, bitset: u32) -> usize {
        wake_in(&mut self.bucket(key), key, count.max(1), bitset)
    }

    /// Take a waiter out of whatever queue it is in. False when it was woken before.
    fn remove(&self, waiter: &Arc<Waiter>) -> bool {
        loop {
            let key = *waiter.key.lock();
            let mut bucket = self.bucket(&key);
            if *waiter.key.lock() != key {
                continue;
            }
            if waiter.is_woken() {
                return false;
            }
            if let Some(queue) = bucket.get_mut(&key) {
                queue.retain(|w| !Arc::ptr_eq(w, waiter));
                if queue.is_empty() {
                    bucket.remove(&key);
                }
            }
            return true;
        }
    }
}

/// One or two locked buckets.
enum Pair<'a> {
    One(LockGuard<'a, Bucket>),
    Two(LockGuard<'a, Bucket>, LockGuard<'a, Bucket>),
}

impl Pair<'_> {
    fn first(&mut self) -> &mut Bucket {
        match self {
            Pair::One(bucket) | Pair::Two(bucket, _) => bucket,
        }
    }

    fn second(&mut self) -> &mut Bucket {
        match self {
            Pair::One(bucket) | Pair::Two(_, bucket) => bucket,
        }
    }
}

fn wake_in(bucket: &mut Bucket, key: &Key, count: usize, bitset: u32) -> usize {
    let Some(queue) = bucket.get_mut(key) else {
        return 0;
    };
    let mut woken = 0;
    let mut at = 0;
    while woken < count && at < queue.len() {
        let fits = queue
            .get(at)
            .is_some_and(|w| w.bitset & bitset != 0 && w.pi_tid == 0);
        if !fits {
            at += 1;
        } else if let Some(waiter) = queue.remove(at) {
            waiter.wake();
            woken += 1;
        }
    }
    if queue.is_empty() {
        bucket.remove(key);
    }
    woken
}

/// A waiter in the state of a blocked call: leaves its queue when the call is over, however it ends.
struct Queued {
    kernel: Weak<Kernel>,
    /// In the order of the call's arguments.
    waiters: Vec<Arc<Waiter>>,
    queue: WaitQueue,
}

impl Queued {
    fn new(kernel: &Arc<Kernel>) -> Queued {
        Queued {
            kernel: Arc::downgrade(kernel),
            waiters: Vec::new(),
            queue: WaitQueue::new(),
        }
    }

    /// What to wait for; the generation is read before anybody checks for a wake.
    fn wait(&self) -> WaitFor {
        WaitFor::queue(&self.queue, Events::empty())
    }

    /// The last waiter that was woken, by its index.
    fn woken(&self) -> Option<usize> {
        self.waiters.iter().rposition(|w| w.is_woken())
    }

    /// Leave all queues; the index of a waiter that was woken nevertheless.
    fn leave(&mut self) -> Option<usize> {
        if let Some(kernel) = self.kernel.upgrade() {
            for waiter in &self.waiters {
                kernel.futexes.remove(waiter);
            }
        }
        let woken = self.woken();
        self.waiters.clear();
        woken
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The futex at an address: EINVAL when misaligned, EFAULT when it cannot be memory. `private` is the caller's promise
/// that no other address space uses it.
fn key_of(mm: &Arc<Mm>, addr: UserAddr, private: bool) -> Result<Key, Errno> {
    if !addr.0.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    if addr.0 >= USER_END {
        return Err(Errno::EFAULT);
    }
    let own = Key::Private {
        mm: Arc::as_ptr(mm) as usize,
        addr: addr.0,
    };
    if private {
        return Ok(own);
    }
    // Asking the host for the map is slow; without any shared mapping the word only has to be there.
    if !mm.shares_memory() {
        word(&UserMemory::new(mm.space.clone()), addr)?;
        return Ok(own);
    }
    let mappings = mm.space.mappings()?;
    let mapping = mappings
        .iter()
        .find(|m| m.start <= addr.0 && addr.0 < m.end)
        .ok_or(Errno::EFAULT)?;
    Ok(match mapping.file {
        Some((device, inode)) if mapping.shared => Key::Shared {
            device,
            inode,
            offset: mapping.offset + (addr.0 - mapping.start),
        },
        _ => own,
    })
}

/// Read the futex's word.
fn word(memory: &UserMemory, addr: UserAddr) -> Result<u32, Errno> {
    memory.read(addr.cast())
}

/// Wake up to `count` waiters of a futex for the kernel itself, as the end of a thread does for CLONE_CHILD_CLEARTID.
/// A bad address wakes nobody.
pub fn wake(kernel: &Kernel, mm: &Arc<Mm>, addr: UserAddr, count: usize) {
    if let Ok(key) = key_of(mm, addr, false) {
        kernel.futexes.wake(&key, count, ANY);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn key(addr: u64) -> Key {
        Key::Private { mm: 1, addr }
    }

    fn enqueue(futexes: &Futexes, key: Key, bitset: u32) -> Arc<Waiter> {
        let waiter = Waiter::new(key, bitset, 0, &WaitQueue::new());
        futexes
            .bucket(&key)
            .entry(key)
            .or_default()
            .push_back(waiter.clone());
        waiter
    }

    #[test]
    fn wakes_in_order_and_by_bitset() {
        let futexes = Futexes::default();
        let a = enqueue(&futexes, key(4), 1);
        let b = enqueue(&futexes, key(4), 2);
        let c = enqueue(&futexes, key(4), 2);
        assert_eq!(futexes.wake(&key(8), 1, ANY), 0);
        assert_eq!(futexes.wake(&key(4), 1, 2), 1);
        assert!(!a.is_woken() && b.is_woken() && !c.is_woken());
        assert_eq!(futexes.wake(&key(4), usize::MAX, ANY), 2);
        assert!(a.is_woken() && c.is_woken());
        assert!(futexes.bucket(&key(4)).is_empty(), "no queue stays behind");
    }

    #[test]
    fn a_removed_waiter_takes_no_wake_and_a_woken_one_says_so() {
        let futexes = Futexes::default();
        let a = enqueue(&futexes, key(4), ANY);
        let b = enqueue(&futexes, key(4), ANY);
        assert!(futexes.remove(&a));
        assert_eq!(futexes.wake(&key(4), 1, ANY), 1);
        assert!(b.is_woken());
        assert!(!futexes.remove(&b));
    }

    #[test]
    fn requeueing_moves_the_rest() {
        let futexes = Futexes::default();
        let waiters: Vec<_> = (0..4).map(|_| enqueue(&futexes, key(4), ANY)).collect();
        let moved = futexes.with_two(&key(4), &key(64), |pair| {
            calls::requeue_in(pair, &key(4), &key(64), 1, 2)
        });
        assert_eq!(moved, (1, 2));
        assert_eq!(futexes.wake(&key(64), usize::MAX, ANY), 2);
        assert!(waiters[0].is_woken() && waiters[1].is_woken() && waiters[2].is_woken());
        assert!(futexes.remove(&waiters[3]));
    }

    #[test]
    fn no_wake_is_lost_or_counted_twice_between_threads() {
        const ROUNDS: usize = 2000;
        let futexes = Futexes::default();
        let (woken, seen) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let waiter = enqueue(&futexes, key(4), ANY);
                        let gone = futexes.remove(&waiter);
                        assert_ne!(gone, waiter.is_woken(), "woken or removed, and never both");
                        seen.fetch_add(usize::from(!gone), Ordering::SeqCst);
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let (now, _) = futexes.with_two(&key(4), &key(64), |pair| {
                        calls::requeue_in(pair, &key(4), &key(64), 1, 1)
                    });
                    woken.fetch_add(now + futexes.wake(&key(64), 1, ANY), Ordering::SeqCst);
                }
            });
        });
        assert_eq!(woken.into_inner(), seen.into_inner());
        assert!(futexes.bucket(&key(4)).is_empty() && futexes.bucket(&key(64)).is_empty());
    }
}
