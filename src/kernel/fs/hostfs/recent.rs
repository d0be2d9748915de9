//! A bounded set of things that are cheap to keep and costly to make again: host descriptors.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kernel::sync::{Lock, Rank};

/// Keeps the last things inserted alive, those in use longest (second chance).
pub(in crate::kernel::fs) struct Recent<T> {
    kept: Lock<VecDeque<Arc<Kept<T>>>>,
    limit: usize,
}

/// One kept thing. Whoever remembers it does so weakly.
pub(in crate::kernel::fs) struct Kept<T> {
    value: T,
    used: AtomicBool,
}

impl<T> Kept<T> {
    /// The thing, noting that it was wanted again.
    pub(in crate::kernel::fs) fn get(&self) -> &T {
        self.used.store(true, Ordering::Relaxed);
        &self.value
    }
}

impl<T> Recent<T> {
    /// Keeps at most `limit`.
    pub(in crate::kernel::fs) fn new(limit: usize) -> Recent<T> {
        Recent {
            kept: Lock::new(Rank::Leaf, VecDeque::new()),
            limit: limit.max(1),
        }
    }

    /// Keep one more, and let go of the one not wanted for longest when there are too many.
    pub(in crate::kernel::fs) fn insert(&self, value: T) -> Arc<Kept<T>> {
        let entry = Arc::new(Kept {
            value,
            used: AtomicBool::new(false),
        });
        let mut dropped = None;
        let mut kept = self.kept.lock();
        // Each round clears one mark, so this ends.
        while kept.len() >= self.limit {
            let Some(oldest) = kept.pop_front() else { break };
            if oldest.used.swap(false, Ordering::Relaxed) {
                kept.push_back(oldest);
            } else {
                dropped = Some(oldest);
            }
        }
        kept.push_back(entry.clone());
        drop(kept);
        drop(dropped);
        entry
    }

    /// Let go of all.
    pub(in crate::kernel::fs) fn clear(&self) {
        let all = std::mem::take(&mut *self.kept.lock());
        drop(all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_entries_outlive_others() {
        let recent = Recent::new(2);
        let a = Arc::downgrade(&recent.insert('a'));
        let b = Arc::downgrade(&recent.insert('b'));
        assert_eq!(a.upgrade().map(|k| *k.get()), Some('a'));
        recent.insert('c');
        assert!(a.upgrade().is_some() && b.upgrade().is_none());
        recent.clear();
        assert!(a.upgrade().is_none());
    }
}
