//! File locks: flock(2), and fcntl(2)'s POSIX and open-file-description locks, all advisory.
//!
//! A lock belongs to a descriptor table (POSIX) or to an open file description (OFD, flock), told apart by address, and
//! goes when its owner does: [`super::FdTable`] and [`super::File`] release what they hold when they are dropped.

use std::collections::HashMap;
use std::sync::Arc;

use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

/// An inode by device and number.
pub(super) type InodeId = (u64, u64);

/// Who holds a lock, by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LockOwner {
    /// A descriptor table: POSIX locks.
    Table(usize),
    /// An open file description: OFD locks.
    File(usize),
}

/// A lock on a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeLock {
    /// Who holds it.
    pub owner: LockOwner,
    /// The process that took it, or -1 for an OFD lock.
    pub pid: i32,
    /// Whether it keeps readers out too.
    pub exclusive: bool,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
}

impl RangeLock {
    fn overlaps(&self, other: &RangeLock) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    fn conflicts(&self, other: &RangeLock) -> bool {
        self.owner != other.owner && (self.exclusive || other.exclusive) && self.overlaps(other)
    }

    /// Whether both can be one lock.
    fn joins(&self, other: &RangeLock) -> bool {
        self.owner == other.owner
            && self.exclusive == other.exclusive
            && self.start <= other.end.saturating_add(1)
            && other.start <= self.end.saturating_add(1)
    }
}

/// All file locks of a guest.
pub struct LockTable(Lock<Tables>);

#[derive(Default)]
struct Tables {
    inodes: HashMap<InodeId, InodeLocks>,
    /// Which owner waits for which, by wait.
    waiting: HashMap<u64, (LockOwner, LockOwner)>,
    next_wait: u64,
}

#[derive(Default)]
struct InodeLocks {
    ranges: Vec<RangeLock>,
    whole: Vec<(usize, bool)>,
    released: WaitQueue,
}

/// What a request came to.
pub enum Outcome {
    /// The lock is held, or gone.
    Done,
    /// Somebody else's lock is in the way.
    Conflict(WaitFor, LockOwner),
}

/// A wait for a POSIX lock, known to the deadlock check until it is dropped.
pub struct Waiting {
    table: Arc<LockTable>,
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.table.0.lock().waiting.remove(&self.id);
    }
}

impl Default for LockTable {
    fn default() -> Self {
        LockTable(Lock::new(Rank::Table, Tables::default()))
    }
}

impl LockTable {
    /// The first lock that keeps `wanted` from being taken.
    pub(super) fn conflict(&self, inode: InodeId, wanted: &RangeLock) -> Option<RangeLock> {
        let tables = self.0.lock();
        let locks = tables.inodes.get(&inode)?;
        locks.ranges.iter().find(|held| held.conflicts(wanted)).copied()
    }

    /// The first lock that an owner itself holds within a range.
    pub(super) fn own(&self, inode: InodeId, range: &RangeLock) -> Option<RangeLock> {
        let tables = self.0.lock();
        let mut held = tables.inodes.get(&inode)?.ranges.iter();
        held.find(|held| held.owner == range.owner && held.overlaps(range))
            .copied()
    }

    /// Take a range, in place of whatever its owner held there.
    pub(super) fn take(&self, inode: InodeId, wanted: RangeLock) -> Outcome {
        let mut tables = self.0.lock();
        let locks = tables.inodes.entry(inode).or_default();
        if let Some(held) = locks.ranges.iter().find(|held| held.conflicts(&wanted)) {
            let owner = held.owner;
            return Outcome::Conflict(WaitFor::queue(&locks.released, Events::READ), owner);
        }
        locks.clear(&wanted);
        let mut whole = wanted;
        locks.ranges.retain(|held| {
            let joins = held.joins(&whole);
            if joins {
                whole.start = whole.start.min(held.start);
                whole.end = whole.end.max(held.end);
            }
            !joins
        });
        let at = locks.ranges.partition_point(|held| held.start < whole.start);
        locks.ranges.insert(at, whole);
        // A write lock that became a read lock lets others in.
        locks.released.notify(Events::READ);
        Outcome::Done
    }

    /// Give back whatever an owner holds within a range.
    pub(super) fn release(&self, inode: InodeId, range: &RangeLock) {
        self.change(inode, |locks| locks.clear(range));
    }

    /// Give back all that an owner holds on one inode.
    pub(super) fn release_owner(&self, inode: InodeId, owner: LockOwner) {
        self.change(inode, |locks| locks.ranges.retain(|held| held.owner != owner));
    }

    /// Give back all that an owner holds anywhere.
    pub(super) fn release_all(&self, owner: LockOwner) {
        let inodes: Vec<InodeId> = self.0.lock().inodes.keys().copied().collect();
        for inode in inodes {
            self.release_owner(inode, owner);
        }
    }

    /// flock(2): take the whole file for an open file description, giving back what it held in another mode.
    pub(super) fn take_whole(&self, inode: InodeId, file: usize, exclusive: bool) -> Outcome {
        let mut tables = self.0.lock();
        let locks = tables.inodes.entry(inode).or_default();
        if locks.whole.contains(&(file, exclusive)) {
            return Outcome::Done;
        }
        let before = locks.whole.len();
        locks.whole.retain(|(holder, _)| *holder != file);
        if locks.whole.len() != before {
            locks.released.notify(Events::READ);
        }
        if let Some(held) = locks.whole.iter().find(|held| held.1 || exclusive) {
            let owner = LockOwner::File(held.0);
            return Outcome::Conflict(WaitFor::queue(&locks.released, Events::READ), owner);
        }
        locks.whole.push((file, exclusive));
        Outcome::Done
    }

    /// flock(2): give back.
    pub(super) fn release_whole(&self, inode: InodeId, file: usize) {
        self.change(inode, |locks| locks.whole.retain(|(holder, _)| *holder != file));
    }

    fn change(&self, inode: InodeId, change: impl FnOnce(&mut InodeLocks)) {
        let mut tables = self.0.lock();
        let Some(locks) = tables.inodes.get_mut(&inode) else {
            return;
        };
        change(locks);
        locks.released.notify(Events::READ);
        if locks.ranges.is_empty() && locks.whole.is_empty() {
            tables.inodes.remove(&inode);
        }
    }

    /// Note that `waiter` is going to wait for `holder`. EDEADLK when that would close a circle.
    pub(super) fn wait(self: &Arc<Self>, waiter: LockOwner, holder: LockOwner) -> Result<Waiting, Errno> {
        let mut tables = self.0.lock();
        let mut reached = vec![holder];
        let mut at = 0;
        while let Some(&owner) = reached.get(at) {
            if owner == waiter {
                return Err(Errno::EDEADLK);
            }
            let next = tables.waiting.values().filter(|w| w.0 == owner).map(|w| w.1);
            let new: Vec<_> = next.filter(|n| !reached.contains(n)).collect();
            reached.extend(new);
            at += 1;
        }
        let id = tables.next_wait;
        tables.next_wait += 1;
        tables.waiting.insert(id, (waiter, holder));
        Ok(Waiting {
            table: self.clone(),
            id,
        })
    }

    /// All locks on ranges, for /proc/locks.
    pub fn ranges(&self) -> Vec<(u64, u64, RangeLock)> {
        let tables = self.0.lock();
        let all = tables.inodes.iter();
        all.flat_map(|(id, locks)| locks.ranges.iter().map(|r| (id.0, id.1, *r)))
            .collect()
    }
}

impl InodeLocks {
    /// Cut `range` out of what its owner holds.
    fn clear(&mut self, range: &RangeLock) {
        let mut kept = Vec::with_capacity(self.ranges.len() + 1);
        for held in self.ranges.drain(..) {
            if held.owner != range.owner || !held.overlaps(range) {
                kept.push(held);
                continue;
            }
            if held.start < range.start {
                kept.push(RangeLock {
                    end: range.start - 1,
                    ..held
                });
            }
            if held.end > range.end {
                kept.push(RangeLock {
                    start: range.end + 1,
                    ..held
                });
            }
        }
        self.ranges = kept;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::kernel::wait::testing::until_done;
    use proptest::prelude::*;

    const INODE: InodeId = (1, 2);

    fn lock(owner: usize, exclusive: bool, start: u64, end: u64) -> RangeLock {
        RangeLock {
            owner: LockOwner::Table(owner),
            pid: 1,
            exclusive,
            start,
            end,
        }
    }

    #[test]
    fn a_circle_of_waits_is_refused() {
        let table = Arc::new(LockTable::default());
        let owner = LockOwner::Table;
        let _first = table.wait(owner(1), owner(2)).expect("no circle yet");
        let second = table.wait(owner(2), owner(3)).expect("no circle yet");
        assert!(matches!(table.wait(owner(3), owner(1)), Err(Errno::EDEADLK)));
        drop(second);
        assert!(table.wait(owner(3), owner(1)).is_ok());
    }

    #[test]
    fn flock_converts_by_giving_back_first() {
        let table = LockTable::default();
        assert!(matches!(table.take_whole(INODE, 1, false), Outcome::Done));
        assert!(matches!(table.take_whole(INODE, 2, false), Outcome::Done));
        assert!(matches!(table.take_whole(INODE, 1, true), Outcome::Conflict(..)));
        assert!(matches!(table.take_whole(INODE, 2, true), Outcome::Done));
    }

    /// What one byte of the model is locked by.
    type Model = Vec<HashMap<usize, bool>>;

    fn model_conflicts(model: &Model, wanted: &RangeLock, owner: usize) -> bool {
        let bytes = &model[wanted.start as usize..=wanted.end as usize];
        bytes
            .iter()
            .flatten()
            .any(|(&o, &x)| o != owner && (x || wanted.exclusive))
    }

    proptest! {
        #[test]
        fn ranges_behave_as_bytes(ops in prop::collection::vec((0usize..3, 0u8..3, 0u64..16, 0u64..16), 1..60)) {
            let table = LockTable::default();
            let mut model: Model = vec![HashMap::new(); 16];
            for (owner, kind, a, b) in ops {
                let wanted = lock(owner, kind == 1, a.min(b), a.max(b));
                let bytes = a.min(b) as usize..=a.max(b) as usize;
                if kind == 2 {
                    table.release(INODE, &wanted);
                    model[bytes].iter_mut().for_each(|m| { m.remove(&owner); });
                } else {
                    let refused = model_conflicts(&model, &wanted, owner);
                    prop_assert_eq!(table.conflict(INODE, &wanted).is_some(), refused);
                    prop_assert_eq!(matches!(table.take(INODE, wanted), Outcome::Conflict(..)), refused);
                    if !refused {
                        model[bytes].iter_mut().for_each(|m| { m.insert(owner, wanted.exclusive); });
                    }
                }
                let mut seen: Model = vec![HashMap::new(); 16];
                for (_, _, held) in table.ranges() {
                    let LockOwner::Table(owner) = held.owner else { unreachable!() };
                    for byte in held.start..=held.end {
                        prop_assert!(seen[byte as usize].insert(owner, held.exclusive).is_none());
                    }
                }
                prop_assert_eq!(&seen, &model);
            }
        }
    }

    #[test]
    fn one_thread_at_a_time_holds_an_exclusive_lock() {
        const ROUNDS: usize = 500;
        let table = Arc::new(LockTable::default());
        let inside = AtomicUsize::new(0);
        let take = |outcome| match outcome {
            Outcome::Done => Ok(()),
            Outcome::Conflict(wait, _) => Err(wait.into()),
        };
        let holder = |owner: usize| {
            for _ in 0..ROUNDS {
                let whole = until_done(|| take(table.take_whole(INODE, owner, true)));
                let range = until_done(|| take(table.take(INODE, lock(owner, true, 0, 9))));
                assert_eq!((whole, range), (Ok(()), Ok(())));
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                inside.fetch_sub(1, Ordering::SeqCst);
                table.release_owner(INODE, LockOwner::Table(owner));
                table.release_whole(INODE, owner);
            }
        };
        std::thread::scope(|scope| {
            for owner in 1..4 {
                let holder = &holder;
                scope.spawn(move || holder(owner));
            }
        });
        assert!(table.0.lock().inodes.is_empty());
    }
}
