//! Locks with an owner: FUTEX_LOCK_PI and its like. The lock is handed from owner to owner in the order of waiting;
//! priorities, which the guest's host scheduler does not follow, are not inherited.
//!
//! The word holds the owner's thread id, and FUTEX_WAITERS when unlocking must come here. User code takes and frees the lock
//! by itself while that bit is clear, so it is set by an atomic operation in the caller's own address space; once it is set
//! only this module, under the bucket's lock, changes the word.

use std::sync::Arc;

use super::calls::{resumed, sleep};
use super::{Bucket, Key, Queued, Waiter, key_of, word};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::time::Instant;
use crate::kernel::user_memory::{UserAddr, UserMemory};
use crate::kernel::wait::OnSignal;
use crate::platform::MemOp;

/// Somebody waits: unlocking takes a call.
pub(super) const WAITERS: u32 = 0x8000_0000;
/// The owner ended with the lock held.
pub(super) const OWNER_DIED: u32 = 0x4000_0000;
/// The owner.
pub(super) const TID_MASK: u32 = 0x3fff_ffff;

/// FUTEX_LOCK_PI, FUTEX_TRYLOCK_PI.
pub(super) fn lock(
    cx: &mut SyscallCx<'_>,
    uaddr: UserAddr,
    private: bool,
    deadline: Option<Instant>,
    try_only: bool,
) -> SysResult<i32> {
    if let Some(queued) = resumed(cx) {
        return sleep(cx, queued, deadline, OnSignal::AlwaysRestart).map(|_| 0);
    }
    let key = key_of(&cx.task.mm(), uaddr, private)?;
    let me = cx.task.tid().cast_unsigned();
    if word(&cx.memory, uaddr)? & TID_MASK == me {
        return fail!(EDEADLK);
    }
    let queued = {
        let mut bucket = cx.kernel.futexes.bucket(&key);
        cx.thread.memory(&[MemOp::SetBit {
            addr: uaddr.0,
            bit: WAITERS.trailing_zeros(),
        }])?;
        let value = word(&cx.memory, uaddr)?;
        let owner = value & TID_MASK;
        if owner == 0 {
            let more = has_waiters(&bucket, &key);
            let taken = me | (value & OWNER_DIED) | if more { WAITERS } else { 0 };
            cx.memory.write(uaddr.cast(), &taken)?;
            return Ok(0);
        }
        if try_only {
            return fail!(EAGAIN);
        }
        let mut queued = Box::new(Queued::new(cx.kernel));
        let waiter = Waiter::new(key, 0, me, &queued.queue);
        bucket.entry(key).or_default().push_back(waiter.clone());
        queued.waiters.push(waiter);
        queued
    };
    let owner = word(&cx.memory, uaddr)? & TID_MASK;
    if cx.kernel.pids.task(owner.cast_signed()).is_none() && !queued.waiters.iter().any(|w| w.is_woken()) {
        return fail!(ESRCH);
    }
    sleep(cx, queued, deadline, OnSignal::AlwaysRestart).map(|_| 0)
}

/// FUTEX_UNLOCK_PI: the longest waiting takes it over. EPERM for who is not the owner.
pub(super) fn unlock(cx: &SyscallCx<'_>, uaddr: UserAddr, private: bool) -> SysResult<i32> {
    let key = key_of(&cx.task.mm(), uaddr, private)?;
    let mut bucket = cx.kernel.futexes.bucket(&key);
    let value = word(&cx.memory, uaddr)?;
    if value & TID_MASK != cx.task.tid().cast_unsigned() {
        return fail!(EPERM);
    }
    hand_over(&mut bucket, &key, &cx.memory, uaddr, 0)?;
    Ok(0)
}

fn has_waiters(bucket: &Bucket, key: &Key) -> bool {
    bucket.get(key).is_some_and(|q| q.iter().any(|w| w.pi_tid != 0))
}

/// Give the lock to the first who waits for it, or free it. `flags` are kept in the word.
pub(super) fn hand_over(
    bucket: &mut Bucket,
    key: &Key,
    memory: &UserMemory,
    uaddr: UserAddr,
    flags: u32,
) -> Result<(), Errno> {
    let next: Option<Arc<Waiter>> = bucket.get_mut(key).and_then(|queue| {
        let at = queue.iter().position(|w| w.pi_tid != 0)?;
        queue.remove(at)
    });
    let more = has_waiters(bucket, key);
    if bucket.get(key).is_some_and(|q| q.is_empty()) {
        bucket.remove(key);
    }
    let owner = next.as_ref().map_or(0, |w| w.pi_tid);
    let value = owner | flags | if more { WAITERS } else { 0 };
    let written = memory.write(uaddr.cast(), &value);
    if let Some(next) = next {
        next.wake();
    }
    written
}
