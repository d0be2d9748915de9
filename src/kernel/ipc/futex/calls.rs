//! The calls of futex(2), futex_waitv(2) and the newer futex_wake, futex_wait and futex_requeue.

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{ANY, Key, Pair, Queued, Waiter, key_of, pi, wake_in, wake_op, word};
use crate::kernel::abi::time::Timespec;
use crate::kernel::stop::{Errno, Stop, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::time::Instant;
use crate::kernel::user_memory::{UserAddr, UserRef};
use crate::kernel::wait::OnSignal;

const PRIVATE: i32 = 128;
const CLOCK_REALTIME: i32 = 256;

/// futex2 flags.
const SIZE_MASK: u32 = 3;
const SIZE_U32: u32 = 2;
const PRIVATE2: u32 = 128;

/// Most futexes of one futex_waitv(2).
const WAITV_MAX: u32 = 128;

/// `struct futex_waitv`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct FutexWaitv {
    val: u64,
    uaddr: u64,
    flags: u32,
    reserved: u32,
}

/// futex(2). The fourth argument is a timeout or a count, by the operation.
pub(crate) fn futex(
    cx: &mut SyscallCx<'_>,
    uaddr: UserAddr,
    op: i32,
    val: u32,
    timeout: u64,
    uaddr2: UserAddr,
    val3: u32,
) -> SysResult<i32> {
    let private = op & PRIVATE != 0;
    let realtime = op & CLOCK_REALTIME != 0;
    let command = op & !(PRIVATE | CLOCK_REALTIME);
    if cx.state.own {
        return interrupted(cx, command, timeout);
    }
    let clocked = matches!(command, libc::FUTEX_WAIT_BITSET | libc::FUTEX_LOCK_PI2);
    if realtime && !clocked {
        return fail!(ENOSYS);
    }
    let val2 = u32::try_from(timeout & 0xffff_ffff).unwrap_or_default();
    let timeout: UserRef<Timespec> = UserAddr(timeout).cast();
    match command {
        libc::FUTEX_WAIT => {
            let deadline = relative(cx, timeout)?;
            wait(cx, uaddr, private, val, ANY, deadline)
        }
        libc::FUTEX_WAIT_BITSET => {
            let deadline = absolute(cx, timeout, realtime)?;
            wait(cx, uaddr, private, val, val3, deadline)
        }
        libc::FUTEX_WAKE => wake(cx, uaddr, private, val, ANY),
        libc::FUTEX_WAKE_BITSET => wake(cx, uaddr, private, val, val3),
        libc::FUTEX_REQUEUE => requeue(cx, (uaddr, private), (uaddr2, private), val, val2, None),
        libc::FUTEX_CMP_REQUEUE => requeue(cx, (uaddr, private), (uaddr2, private), val, val2, Some(val3)),
        libc::FUTEX_WAKE_OP => wake_op::wake_op(cx, (uaddr, uaddr2), private, val, val2, val3),
        libc::FUTEX_LOCK_PI => {
            let deadline = absolute(cx, timeout, true)?;
            pi::lock(cx, uaddr, private, deadline, false)
        }
        libc::FUTEX_LOCK_PI2 => {
            let deadline = absolute(cx, timeout, realtime)?;
            pi::lock(cx, uaddr, private, deadline, false)
        }
        libc::FUTEX_TRYLOCK_PI => pi::lock(cx, uaddr, private, None, true),
        libc::FUTEX_UNLOCK_PI => pi::unlock(cx, uaddr, private),
        _ => fail!(ENOSYS),
    }
}

/// The platform was interrupted in a wait of its own, or before any other such call. A wait that nobody would end, since the
/// futexes are the kernel's now, ends as if woken.
fn interrupted(cx: &SyscallCx<'_>, command: i32, timeout: u64) -> SysResult<i32> {
    if !matches!(command, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET) {
        return Err(Stop::Own(OnSignal::AlwaysRestart));
    }
    let mm = cx.task.mm();
    if cx.task.is_traced() {
        mm.take_futexes(cx.kernel);
    }
    if !mm.has_own_futexes() {
        return Ok(0);
    }
    Err(Stop::Own(if timeout == 0 {
        OnSignal::Restart
    } else {
        OnSignal::Eintr
    }))
}

/// The futex at an address, for a call that comes to the kernel: with it all private ones of the address space do.
pub(super) fn kernels_key(cx: &SyscallCx<'_>, addr: UserAddr, private: bool) -> Result<Key, Errno> {
    let mm = cx.task.mm();
    let key = key_of(&mm, addr, private)?;
    if private {
        mm.take_futexes(cx.kernel);
    }
    Ok(key)
}

/// The deadline of a relative timeout, fixed on the first run.
fn relative(cx: &mut SyscallCx<'_>, timeout: UserRef<Timespec>) -> SysResult<Option<Instant>> {
    if let Some(timeout) = timeout.non_null()
        && cx.state.deadline.is_none()
    {
        let nanos = cx.memory.read(timeout)?.nanos().ok_or(Errno::EINVAL)?;
        cx.state.deadline = Some(cx.kernel.clock.now().after(nanos));
    }
    Ok(cx.state.deadline)
}

/// The deadline of an absolute timeout, fixed on the first run: a clock set meanwhile does not move it.
fn absolute(
    cx: &mut SyscallCx<'_>,
    timeout: UserRef<Timespec>,
    realtime: bool,
) -> SysResult<Option<Instant>> {
    if let Some(timeout) = timeout.non_null()
        && cx.state.deadline.is_none()
    {
        let nanos = cx.memory.read(timeout)?.nanos().ok_or(Errno::EINVAL)?;
        let clock = &cx.kernel.clock;
        cx.state.deadline = Some(if realtime {
            clock.instant_of_realtime(nanos)
        } else {
            Instant(nanos)
        });
    }
    Ok(cx.state.deadline)
}

/// The queued waiters an earlier run of this call left.
pub(super) fn resumed(cx: &mut SyscallCx<'_>) -> Option<Box<Queued>> {
    let data = cx.state.data.take_if(|d| d.is::<Queued>())?;
    data.downcast().ok()
}

/// Sleep with `queued`, or end a wait whose time is over.
pub(super) fn sleep(
    cx: &mut SyscallCx<'_>,
    mut queued: Box<Queued>,
    deadline: Option<Instant>,
    on_signal: OnSignal,
) -> SysResult<usize> {
    let wait = queued.wait();
    if let Some(index) = queued.woken() {
        return Ok(index);
    }
    if cx.timed_out() {
        return queued.leave().ok_or(Errno::ETIMEDOUT.into());
    }
    cx.state.data = Some(queued);
    // A wake, or a lock handed over, that comes together with a signal is taken: nobody else would get it.
    cx.state.settle = Some(|data| data.downcast_mut::<Queued>()?.leave().map(|index| index as u64));
    Err(wait.until(deadline).on_signal(on_signal).into())
}

fn wait(
    cx: &mut SyscallCx<'_>,
    uaddr: UserAddr,
    private: bool,
    val: u32,
    bitset: u32,
    deadline: Option<Instant>,
) -> SysResult<i32> {
    if bitset == 0 {
        return fail!(EINVAL);
    }
    let queued = match resumed(cx) {
        Some(queued) => queued,
        None => {
            let key = kernels_key(cx, uaddr, private)?;
            let mut queued = Box::new(Queued::new(cx.kernel));
            enqueue(cx, &mut queued, key, uaddr, val, bitset)?;
            queued
        }
    };
    // A relative timeout that a signal interrupted goes on with what is left of it, so it must not begin again.
    let on_signal = if deadline.is_some() {
        OnSignal::Eintr
    } else {
        OnSignal::Restart
    };
    sleep(cx, queued, deadline, on_signal).map(|_| 0)
}

/// Queue one more waiter if the word is still `val`; EAGAIN otherwise.
fn enqueue(
    cx: &SyscallCx<'_>,
    queued: &mut Queued,
    key: Key,
    uaddr: UserAddr,
    val: u32,
    bitset: u32,
) -> Result<(), Errno> {
    let mut bucket = cx.kernel.futexes.bucket(&key);
    if word(&cx.memory, uaddr)? != val {
        return Err(Errno::EAGAIN);
    }
    let waiter = Waiter::new(key, bitset, 0, &queued.queue);
    bucket.entry(key).or_default().push_back(waiter.clone());
    queued.waiters.push(waiter);
    Ok(())
}

fn wake(cx: &SyscallCx<'_>, uaddr: UserAddr, private: bool, count: u32, bitset: u32) -> SysResult<i32> {
    if bitset == 0 {
        return fail!(EINVAL);
    }
    let key = kernels_key(cx, uaddr, private)?;
    let count = usize::try_from(count.cast_signed()).unwrap_or(1);
    Ok(as_count(cx.kernel.futexes.wake(&key, count, bitset)))
}

pub(super) fn as_count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn requeue(
    cx: &SyscallCx<'_>,
    from: (UserAddr, bool),
    to: (UserAddr, bool),
    wake: u32,
    requeue: u32,
    expected: Option<u32>,
) -> SysResult<i32> {
    let wake = usize::try_from(wake.cast_signed()).map_err(|_| Errno::EINVAL)?;
    let requeue = usize::try_from(requeue.cast_signed()).map_err(|_| Errno::EINVAL)?;
    let source = kernels_key(cx, from.0, from.1)?;
    let target = kernels_key(cx, to.0, to.1)?;
    cx.kernel.futexes.with_two(&source, &target, |pair| {
        if let Some(expected) = expected
            && word(&cx.memory, from.0)? != expected
        {
            return fail!(EAGAIN);
        }
        let (woken, moved) = requeue_in(pair, &source, &target, wake, requeue);
        Ok(as_count(woken + moved))
    })
}

/// Wake up to `wake` waiters and move up to `requeue` more to another futex.
pub(super) fn requeue_in(
    pair: &mut Pair<'_>,
    source: &Key,
    target: &Key,
    wake: usize,
    requeue: usize,
) -> (usize, usize) {
    let woken = if wake > 0 {
        wake_in(pair.first(), source, wake, ANY)
    } else {
        0
    };
    if source == target {
        return (woken, 0);
    }
    let Some(mut queue) = pair.first().remove(source) else {
        return (woken, 0);
    };
    let count = requeue.min(queue.len());
    let moved: Vec<Arc<Waiter>> = queue.drain(..count).collect();
    if !queue.is_empty() {
        pair.first().insert(*source, queue);
    }
    if count > 0 {
        let to = pair.second().entry(*target).or_default();
        for waiter in moved {
            *waiter.key.lock() = *target;
            to.push_back(waiter);
        }
    }
    (woken, count)
}

/// The flags of futex2 calls: only 32-bit futexes exist.
fn is_private(flags: u32) -> Result<bool, Errno> {
    if flags & !(SIZE_MASK | PRIVATE2) != 0 || flags & SIZE_MASK != SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    Ok(flags & PRIVATE2 != 0)
}

/// Which clock a futex2 timeout is on.
fn is_realtime(clock: i32) -> Result<bool, Errno> {
    match clock {
        libc::CLOCK_MONOTONIC => Ok(false),
        libc::CLOCK_REALTIME => Ok(true),
        _ => Err(Errno::EINVAL),
    }
}

/// futex_waitv(2): the index of a futex that was woken.
pub(crate) fn futex_waitv(
    cx: &mut SyscallCx<'_>,
    waiters: UserRef<FutexWaitv>,
    count: u32,
    flags: u32,
    timeout: UserRef<Timespec>,
    clock: i32,
) -> SysResult<i32> {
    if flags != 0 || count == 0 || count > WAITV_MAX || waiters.is_null() {
        return fail!(EINVAL);
    }
    let deadline = match timeout.non_null() {
        Some(timeout) => {
            let realtime = is_realtime(clock)?;
            absolute(cx, timeout, realtime)?
        }
        None => None,
    };
    let queued = match resumed(cx) {
        Some(queued) => queued,
        None => {
            let wanted = cx.memory.read_array(waiters, count as usize)?;
            let mut queued = Box::new(Queued::new(cx.kernel));
            if let Err(errno) = enqueue_all(cx, &mut queued, &wanted) {
                return match queued.leave() {
                    Some(index) => Ok(as_count(index)),
                    None => Err(errno.into()),
                };
            }
            queued
        }
    };
    sleep(cx, queued, deadline, OnSignal::Restart).map(as_count)
}

fn enqueue_all(cx: &SyscallCx<'_>, queued: &mut Queued, wanted: &[FutexWaitv]) -> Result<(), Errno> {
    let mut keys = Vec::with_capacity(wanted.len());
    for w in wanted {
        if w.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        let val = u32::try_from(w.val).map_err(|_| Errno::EINVAL)?;
        keys.push((
            kernels_key(cx, UserAddr(w.uaddr), is_private(w.flags)?)?,
            UserAddr(w.uaddr),
            val,
        ));
    }
    for (key, uaddr, val) in keys {
        enqueue(cx, queued, key, uaddr, val, ANY)?;
    }
    Ok(())
}

/// futex_wake(2).
pub(crate) fn futex_wake(
    cx: &mut SyscallCx<'_>,
    uaddr: UserAddr,
    mask: u64,
    count: i32,
    flags: u32,
) -> SysResult<i32> {
    let private = is_private(flags)?;
    let mask = u32::try_from(mask).map_err(|_| Errno::EINVAL)?;
    if mask == 0 {
        return fail!(EINVAL);
    }
    let key = kernels_key(cx, uaddr, private)?;
    match usize::try_from(count) {
        Ok(0) | Err(_) => Ok(0),
        Ok(count) => Ok(as_count(cx.kernel.futexes.wake(&key, count, mask))),
    }
}

/// futex_wait(2) with an absolute timeout.
pub(crate) fn futex_wait(
    cx: &mut SyscallCx<'_>,
    uaddr: UserAddr,
    val: u64,
    mask: u64,
    flags: u32,
    timeout: UserRef<Timespec>,
    clock: i32,
) -> SysResult<i32> {
    let private = is_private(flags)?;
    let val = u32::try_from(val).map_err(|_| Errno::EINVAL)?;
    let mask = u32::try_from(mask).map_err(|_| Errno::EINVAL)?;
    let deadline = match timeout.non_null() {
        Some(timeout) => {
            let realtime = is_realtime(clock)?;
            absolute(cx, timeout, realtime)?
        }
        None => None,
    };
    wait(cx, uaddr, private, val, mask, deadline)
}

/// futex_requeue(2): from the first to the second of two waiters, whose value is compared first.
pub(crate) fn futex_requeue(
    cx: &mut SyscallCx<'_>,
    waiters: UserRef<FutexWaitv>,
    flags: u32,
    wake: i32,
    count: i32,
) -> SysResult<i32> {
    if flags != 0 || waiters.is_null() {
        return fail!(EINVAL);
    }
    let both = cx.memory.read_array(waiters, 2)?;
    let [from, to] = both.as_slice() else {
        return fail!(EINVAL);
    };
    if from.reserved != 0 || to.reserved != 0 {
        return fail!(EINVAL);
    }
    let expected = u32::try_from(from.val).map_err(|_| Errno::EINVAL)?;
    let (wake, count) = (wake.cast_unsigned(), count.cast_unsigned());
    requeue(
        cx,
        (UserAddr(from.uaddr), is_private(from.flags)?),
        (UserAddr(to.uaddr), is_private(to.flags)?),
        wake,
        count,
        Some(expected),
    )
}
