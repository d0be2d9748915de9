//! The name cache: keeps a bounded number of dentries, and of names known to be absent, alive without users.
//!
//! Replacement is the clock algorithm: a name used since the hand last passed gets another round.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::{Dentry, FileSystem};
use crate::kernel::sync::{Lock, Rank};

/// How many names are kept.
const CAPACITY: usize = 4096;

/// A name that a directory is known not to have.
pub(super) struct AbsentName {
    dir: Weak<Dentry>,
    pub(super) name: Vec<u8>,
    pub(super) used: AtomicBool,
}

impl AbsentName {
    pub(super) fn new(dir: &Arc<Dentry>, name: &[u8]) -> Arc<AbsentName> {
        Arc::new(AbsentName {
            dir: Arc::downgrade(dir),
            name: name.to_vec(),
            used: AtomicBool::new(false),
        })
    }
}

/// The cache. It knows nothing of what the names mean; see [`super::Vfs`] for its use.
pub struct NameCache {
    ring: Lock<Ring>,
    capacity: usize,
}

#[derive(Default)]
struct Ring {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    hand: usize,
}

enum Slot {
    Present(Arc<Dentry>),
    Absent(Arc<AbsentName>),
}

impl Slot {
    /// Whether it was used since the last question.
    fn take_used(&self) -> bool {
        match self {
            Slot::Present(dentry) => dentry.used.swap(false, Ordering::Relaxed),
            Slot::Absent(absent) => absent.used.swap(false, Ordering::Relaxed),
        }
    }

    /// Let go of it. Called without the ring's lock, since it takes its directory's.
    fn release(self) {
        match self {
            Slot::Present(dentry) => {
                let (parent, name) = (dentry.parent(), dentry.name());
                drop(dentry);
                if let Some(parent) = parent {
                    parent.prune(&name);
                }
            }
            Slot::Absent(absent) => {
                if let Some(dir) = absent.dir.upgrade() {
                    dir.forget_absent(&absent);
                }
            }
        }
    }
}

impl Default for NameCache {
    fn default() -> Self {
        NameCache::new(CAPACITY)
    }
}

impl NameCache {
    /// A cache of at most `capacity` names (at least one).
    pub fn new(capacity: usize) -> NameCache {
        NameCache {
            ring: Lock::new(Rank::Table, Ring::default()),
            capacity: capacity.max(1),
        }
    }

    /// Keep a dentry, or note that it was used.
    pub(super) fn keep(&self, dentry: &Arc<Dentry>) {
        dentry.used.store(true, Ordering::Relaxed);
        if dentry.slot.load(Ordering::Relaxed) != 0 {
            return;
        }
        let evicted = {
            let mut ring = self.ring.lock();
            // Looked at again: another thread may have been faster, also in removing the name.
            if dentry.slot.load(Ordering::Relaxed) != 0 || dentry.is_unlinked() {
                return;
            }
            let (index, evicted) = ring.claim(self.capacity);
            dentry
                .slot
                .store(u32::try_from(index + 1).unwrap_or(0), Ordering::Relaxed);
            ring.slots[index] = Some(Slot::Present(dentry.clone()));
            evicted
        };
        evicted.into_iter().for_each(Slot::release);
    }

    /// Keep the knowledge that a name is absent.
    pub(super) fn keep_absent(&self, absent: Arc<AbsentName>) {
        let evicted = {
            let mut ring = self.ring.lock();
            let (index, evicted) = ring.claim(self.capacity);
            ring.slots[index] = Some(Slot::Absent(absent));
            evicted
        };
        evicted.into_iter().for_each(Slot::release);
    }

    /// Keep a dentry no longer: its name is gone.
    pub(super) fn forget(&self, dentry: &Arc<Dentry>) {
        let slot = {
            let mut ring = self.ring.lock();
            let Some(index) = (dentry.slot.swap(0, Ordering::Relaxed) as usize).checked_sub(1) else {
                return;
            };
            ring.free.push(index);
            ring.slots[index].take()
        };
        drop(slot);
    }

    /// Keep nothing of a file system any longer: it was unmounted.
    pub fn forget_fs(&self, fs: &Arc<dyn FileSystem>) {
        let all: Vec<_> = {
            let ring = self.ring.lock();
            ring.slots
                .iter()
                .flatten()
                .filter_map(|slot| match slot {
                    Slot::Present(dentry) => Some(dentry.clone()),
                    Slot::Absent(_) => None,
                })
                .collect()
        };
        for dentry in all {
            if std::ptr::addr_eq(Arc::as_ptr(&dentry.inode.fs()), Arc::as_ptr(fs)) {
                self.forget(&dentry);
            }
        }
    }

    /// How many names are kept.
    pub fn len(&self) -> usize {
        let ring = self.ring.lock();
        ring.slots.len() - ring.free.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Ring {
    /// An empty slot's index, and what was thrown out for it.
    fn claim(&mut self, capacity: usize) -> (usize, Option<Slot>) {
        if let Some(index) = self.free.pop() {
            return (index, None);
        }
        if self.slots.len() < capacity {
            self.slots.push(None);
            return (self.slots.len() - 1, None);
        }
        loop {
            let index = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            if self.slots[index].as_ref().is_some_and(Slot::take_used) {
                continue;
            }
            let evicted = self.slots[index].take();
            if let Some(Slot::Present(dentry)) = &evicted {
                dentry.slot.store(0, Ordering::Relaxed);
            }
            return (index, evicted);
        }
    }
}
