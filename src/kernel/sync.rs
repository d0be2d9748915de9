//! The kernel's mutex: ranked, so that debug builds catch a wrong lock order on the first try.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Place of a lock in the order written at the top of [`crate::kernel`]. A thread takes locks only in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// A pipe while bytes move: held around what the file does that they come from or go to, as Linux holds the pipe's mutex.
    Turn,
    /// An epoll instance's interest list, nested ones by depth: held while the files on it are asked what is ready.
    Epoll,
    /// Position of an open file description: held around whatever its file does, as Linux holds f_pos_lock.
    File,
    /// A process's timer, which reads the CPU clocks of processes.
    Timer,
    /// A directory while its names change; of two directories by address. procfs looks at processes meanwhile.
    Names,
    /// The process tree and id tables.
    Pids,
    /// A thread group's own state.
    Group,
    /// Signal handlers and pending queues.
    Signal,
    /// One task's own state.
    Task,
    /// What a task's address space holds.
    Mm,
    /// A descriptor table.
    Files,
    /// Working directory, root and umask.
    FsContext,
    /// The mount tree.
    Mounts,
    /// A terminal, before the terminal's other end.
    Tty,
    /// A socket or a pipe.
    Object,
    /// Name cache.
    Dentry,
    /// The journal of an upper layer on disk.
    Journal,
    /// Held while names of an upper on disk change.
    Operation,
    /// A directory's contents; a disk over another one while it is written.
    Directory,
    /// An inode's attributes and data.
    Inode,
    /// File locks of an inode, SysV objects, futex buckets and other flat tables.
    Table,
    /// An epoll instance's ready list.
    Ready,
    /// A wait queue.
    WaitQueue,
    /// Timers and host readiness.
    Reactor,
    /// Held for a few instructions, nothing taken inside.
    Leaf,
}

/// A mutex with a [`Rank`]. Poisoning is ignored: a panic in one handler ends its guest, not the supervisor.
#[derive(Debug)]
pub struct Lock<T> {
    rank: Rank,
    inner: Mutex<T>,
}

impl<T> Lock<T> {
    /// A new unlocked lock.
    pub const fn new(rank: Rank, value: T) -> Lock<T> {
        Lock {
            rank,
            inner: Mutex::new(value),
        }
    }

    /// Take the lock. Debug builds panic when a lock of the same or a later rank is held.
    #[track_caller]
    pub fn lock(&self) -> LockGuard<'_, T> {
        held::push(self.rank, false);
        LockGuard {
            rank: self.rank,
            inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Take the lock inside another of the same rank, where the caller has an order of its own (parent before child,
    /// lower address first).
    #[track_caller]
    pub fn lock_nested(&self) -> LockGuard<'_, T> {
        held::push(self.rank, true);
        LockGuard {
            rank: self.rank,
            inner: self.inner.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Access through an exclusive reference, without locking.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Take two different locks of one rank in address order, so that two threads cannot take them crosswise.
#[track_caller]
pub fn lock_two<'a, T>(a: &'a Lock<T>, b: &'a Lock<T>) -> (LockGuard<'a, T>, LockGuard<'a, T>) {
    if std::ptr::from_ref(a) < std::ptr::from_ref(b) {
        let first = a.lock();
        (first, b.lock_nested())
    } else {
        let first = b.lock();
        (a.lock_nested(), first)
    }
}

/// Releases a [`Lock`] when dropped.
#[derive(Debug)]
pub struct LockGuard<'a, T> {
    rank: Rank,
    inner: MutexGuard<'a, T>,
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for LockGuard<'_, T> {
    fn drop(&mut self) {
        held::pop(self.rank);
    }
}

#[cfg(debug_assertions)]
mod held {
    use super::Rank;
    use std::cell::RefCell;

    thread_local! {
        static HELD: RefCell<Vec<Rank>> = const { RefCell::new(Vec::new()) };
    }

    #[track_caller]
    pub(super) fn push(rank: Rank, nested: bool) {
        let broken = HELD.with_borrow(|h| {
            h.iter()
                .copied()
                .find(|&h| if nested { h > rank } else { h >= rank })
        });
        assert!(
            broken.is_none(),
            "lock order: {rank:?} wanted while {broken:?} is held"
        );
        HELD.with_borrow_mut(|h| h.push(rank));
    }

    pub(super) fn pop(rank: Rank) {
        HELD.with_borrow_mut(|h| {
            if let Some(i) = h.iter().rposition(|&r| r == rank) {
                h.remove(i);
            }
        });
    }
}

#[cfg(not(debug_assertions))]
mod held {
    pub(super) fn push(_: super::Rank, _: bool) {}
    pub(super) fn pop(_: super::Rank) {}
}
