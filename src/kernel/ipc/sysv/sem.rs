//! Semaphore sets: semget(2), semop(2), semctl(2).

use std::collections::HashMap;
use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, IpcPerm, Object, Perm, READ, WRITE, seconds};
use crate::kernel::abi::time::Timespec;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Creds, Pid};
use crate::kernel::user_memory::{UserAddr, UserRef};
use crate::kernel::wait::{Events, OnSignal, WaitFor, WaitQueue};

/// Most semaphores of a set.
const SET_MAX: i32 = 32000;
/// Most operations of one semop(2).
const OPERATIONS_MAX: u64 = 500;
/// Highest value.
const VALUE_MAX: i32 = 32767;

const SEM_UNDO: i16 = 0x1000;

const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;

/// A set of semaphores.
pub(super) struct Set {
    state: Lock<State>,
    changed: WaitQueue,
}

struct State {
    perm: Perm,
    semaphores: Vec<Semaphore>,
    /// What to add when a process ends, by its id.
    undo: HashMap<Pid, HashMap<usize, i32>>,
    operated: i64,
    removed: bool,
}

#[derive(Clone, Copy, Default)]
struct Semaphore {
    value: i32,
    pid: Pid,
    /// Who waits for it to rise, and to be zero.
    waiting_up: i32,
    waiting_zero: i32,
}

impl Object for Set {
    const LIMIT: usize = 32000;
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

impl Set {
    /// Apply what a process asked to have undone at its end.
    pub(super) fn undo(&self, pid: Pid) {
        {
            let mut state = self.state.lock();
            let Some(adjustments) = state.undo.remove(&pid) else {
                return;
            };
            for (number, adjustment) in adjustments {
                if let Some(semaphore) = state.semaphores.get_mut(number) {
                    semaphore.value = (semaphore.value + adjustment).clamp(0, VALUE_MAX);
                    semaphore.pid = pid;
                }
            }
        }
        self.changed.notify(Events::READ);
    }
}

/// `struct sembuf`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Sembuf {
    number: u16,
    operation: i16,
    flags: i16,
}

/// `struct semid64_ds`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
struct SetStatus {
    perm: IpcPerm,
    operated: i64,
    unused1: u64,
    changed: i64,
    unused2: u64,
    count: u64,
    unused3: [u64; 2],
}

/// `struct seminfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
struct Info {
    map: i32,
    mni: i32,
    mns: i32,
    mnu: i32,
    msl: i32,
    opm: i32,
    ume: i32,
    usz: i32,
    vmx: i32,
    aem: i32,
}

/// semget(2).
pub(crate) fn semget(cx: &mut SyscallCx<'_>, key: i32, count: i32, flags: i32) -> SysResult<i32> {
    if !(0..=SET_MAX).contains(&count) {
        return fail!(EINVAL);
    }
    let wanted = usize::try_from(count).unwrap_or(0);
    let creds = cx.task.creds();
    let clock = &cx.kernel.clock;
    let check = |set: &Set| {
        if wanted > set.state.lock().semaphores.len() {
            return Err(Errno::EINVAL);
        }
        Ok(())
    };
    Ok(cx.kernel.sysv.semaphores.get(&creds, key, flags, check, |mode| {
        if wanted == 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Set {
            state: Lock::new(
                Rank::Leaf,
                State {
                    perm: Perm::new(&creds, key, mode, clock),
                    semaphores: vec![Semaphore::default(); wanted],
                    undo: HashMap::new(),
                    operated: 0,
                    removed: false,
                },
            ),
            changed: WaitQueue::new(),
        })
    })?)
}

/// semop(2).
pub(crate) fn semop(
    cx: &mut SyscallCx<'_>,
    id: i32,
    operations: UserRef<Sembuf>,
    count: u64,
) -> SysResult<()> {
    semtimedop(cx, id, operations, count, UserAddr(0).cast())
}

/// A call that waits: counted at the semaphore until this is dropped.
struct Waiting {
    set: Arc<Set>,
    number: usize,
    for_zero: bool,
}

impl Waiting {
    fn count(&self, change: i32) {
        let mut state = self.set.state.lock();
        if let Some(semaphore) = state.semaphores.get_mut(self.number) {
            if self.for_zero {
                semaphore.waiting_zero += change;
            } else {
                semaphore.waiting_up += change;
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.count(-1);
    }
}

/// semtimedop(2).
pub(crate) fn semtimedop(
    cx: &mut SyscallCx<'_>,
    id: i32,
    operations: UserRef<Sembuf>,
    count: u64,
    timeout: UserRef<Timespec>,
) -> SysResult<()> {
    if count == 0 || id < 0 {
        return fail!(EINVAL);
    }
    if count > OPERATIONS_MAX {
        return fail!(E2BIG);
    }
    let operations = cx.memory.read_array(operations, count as usize)?;
    if let Some(timeout) = timeout.non_null()
        && cx.state.deadline.is_none()
    {
        let nanos = cx.memory.read(timeout)?.nanos().ok_or(Errno::EINVAL)?;
        cx.state.deadline = Some(cx.kernel.clock.now().after(nanos));
    }
    let waited = cx.state.data.take().and_then(|d| d.downcast::<Waiting>().ok());
    let set = match waited {
        Some(waiting) => waiting.set.clone(),
        None => cx.kernel.sysv.semaphores.find(id)?,
    };
    let creds = cx.task.creds();
    let generation = set.changed.generation();
    let blocked = operate(cx, &set, &creds, &operations)?;
    let Some(at) = blocked else {
        set.changed.notify(Events::READ);
        return Ok(());
    };
    let Some(operation) = operations.get(at) else {
        return fail!(EINVAL);
    };
    if i32::from(operation.flags) & IPC_NOWAIT != 0 || cx.timed_out() {
        return fail!(EAGAIN);
    }
    let wait = WaitFor::default().and_since(&set.changed, Events::READ, generation);
    let waiting = Waiting {
        set,
        number: usize::from(operation.number),
        for_zero: operation.operation == 0,
    };
    waiting.count(1);
    cx.state.data = Some(Box::new(waiting));
    let deadline = cx.state.deadline;
    Err(wait.until(deadline).on_signal(OnSignal::AlwaysEintr).into())
}

/// Do all operations, or none and say which cannot be done now. EIDRM, EFBIG, EACCES, ERANGE.
fn operate(cx: &SyscallCx<'_>, set: &Set, creds: &Creds, operations: &[Sembuf]) -> SysResult<Option<usize>> {
    let mut state = set.state.lock();
    if state.removed {
        return fail!(EIDRM);
    }
    let count = state.semaphores.len();
    if operations.iter().any(|o| usize::from(o.number) >= count) {
        return fail!(EFBIG);
    }
    let alters = operations.iter().any(|o| o.operation != 0);
    state.perm.check(creds, if alters { WRITE } else { READ })?;
    match attempt(&state.semaphores, operations)? {
        Attempt::Done(values) => {
            commit(&mut state, operations, &values, cx.task.pid())?;
            state.operated = seconds(&cx.kernel.clock);
            Ok(None)
        }
        Attempt::Blocked(at) => Ok(Some(at)),
    }
}

/// What trying all operations of a call at once gives.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// The values the semaphores they name get.
    Done(HashMap<usize, i32>),
    /// This operation cannot be done now.
    Blocked(usize),
}

fn attempt(semaphores: &[Semaphore], operations: &[Sembuf]) -> Result<Attempt, Errno> {
    let mut values = HashMap::new();
    for (at, operation) in operations.iter().enumerate() {
        let number = usize::from(operation.number);
        let first = semaphores.get(number).map_or(0, |s| s.value);
        let value = values.entry(number).or_insert(first);
        let change = i32::from(operation.operation);
        if (change == 0 && *value != 0) || *value + change < 0 {
            return Ok(Attempt::Blocked(at));
        }
        if *value + change > VALUE_MAX {
            return Err(Errno::ERANGE);
        }
        *value += change;
    }
    Ok(Attempt::Done(values))
}

/// Make the changes of a successful attempt and note what to undo. ERANGE when that would grow too large.
fn commit(
    state: &mut State,
    operations: &[Sembuf],
    values: &HashMap<usize, i32>,
    pid: Pid,
) -> Result<(), Errno> {
    let undone: Vec<_> = operations
        .iter()
        .filter(|o| o.flags & SEM_UNDO != 0 && o.operation != 0)
        .collect();
    if !undone.is_empty() {
        let mut adjustments = state.undo.get(&pid).cloned().unwrap_or_default();
        for operation in undone {
            let adjustment = adjustments.entry(usize::from(operation.number)).or_insert(0);
            *adjustment -= i32::from(operation.operation);
            if adjustment.abs() > VALUE_MAX + 1 {
                return Err(Errno::ERANGE);
            }
        }
        state.undo.insert(pid, adjustments);
    }
    for operation in operations {
        if let Some(semaphore) = state.semaphores.get_mut(usize::from(operation.number)) {
            semaphore.pid = pid;
        }
    }
    for (number, value) in values {
        if let Some(semaphore) = state.semaphores.get_mut(*number) {
            semaphore.value = *value;
        }
    }
    Ok(())
}

/// semctl(2).
pub(crate) fn semctl(cx: &mut SyscallCx<'_>, id: i32, number: i32, command: i32, arg: u64) -> SysResult<i32> {
    if id < 0 {
        return fail!(EINVAL);
    }
    let sets = &cx.kernel.sysv.semaphores;
    let creds = cx.task.creds();
    match command {
        IPC_INFO | SEM_INFO => {
            let (count, highest) = sets.usage();
            let info = Info {
                mni: Set::LIMIT as i32,
                msl: SET_MAX,
                opm: OPERATIONS_MAX as i32,
                usz: if command == SEM_INFO { count } else { 0 },
                vmx: VALUE_MAX,
                ..Info::default()
            };
            cx.memory.write(UserAddr(arg).cast(), &info)?;
            Ok(highest)
        }
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => stat(cx, id, command, UserAddr(arg)),
        IPC_SET | IPC_RMID => administer(cx, id, command, UserAddr(arg)),
        SETVAL | SETALL => set_values(cx, id, number, command, arg),
        GETALL => {
            let set = sets.find(id)?;
            let values: Vec<u16> = {
                let state = set.state.lock();
                state.perm.check(&creds, READ)?;
                let values = state.semaphores.iter();
                values.map(|s| u16::try_from(s.value).unwrap_or(0)).collect()
            };
            cx.memory.write_array(UserAddr(arg).cast(), &values)?;
            Ok(0)
        }
        GETPID | GETVAL | GETNCNT | GETZCNT => {
            let set = sets.find(id)?;
            let state = set.state.lock();
            state.perm.check(&creds, READ)?;
            let index = usize::try_from(number).map_err(|_| Errno::EINVAL)?;
            let semaphore = state.semaphores.get(index).ok_or(Errno::EINVAL)?;
            Ok(match command {
                GETPID => semaphore.pid,
                GETVAL => semaphore.value,
                GETNCNT => semaphore.waiting_up,
                _ => semaphore.waiting_zero,
            })
        }
        _ => fail!(EINVAL),
    }
}

/// IPC_STAT, and its like by index, which return the id.
fn stat(cx: &SyscallCx<'_>, id: i32, command: i32, buf: UserAddr) -> SysResult<i32> {
    let sets = &cx.kernel.sysv.semaphores;
    let creds = cx.task.creds();
    let (id, set) = if command == IPC_STAT {
        (id, sets.find(id)?)
    } else {
        sets.at(id)?
    };
    let status = {
        let state = set.state.lock();
        if command != SEM_STAT_ANY {
            state.perm.check(&creds, READ)?;
        }
        SetStatus {
            perm: state.perm.shown(id),
            operated: state.operated,
            unused1: 0,
            changed: state.perm.changed,
            unused2: 0,
            count: state.semaphores.len() as u64,
            unused3: [0; 2],
        }
    };
    cx.memory.write(buf.cast(), &status)?;
    Ok(if command == IPC_STAT { 0 } else { id })
}

fn administer(cx: &SyscallCx<'_>, id: i32, command: i32, buf: UserAddr) -> SysResult<i32> {
    let sets = &cx.kernel.sysv.semaphores;
    let new: Option<SetStatus> = match command {
        IPC_SET => Some(cx.memory.read(buf.cast())?),
        _ => None,
    };
    let set = sets.find(id)?;
    let creds = cx.task.creds();
    {
        let mut state = set.state.lock();
        state.perm.check_owner(&creds)?;
        match new {
            Some(new) => state.perm.set(&new.perm, &cx.kernel.clock),
            None => state.removed = true,
        }
    }
    if command == IPC_RMID {
        sets.remove(id);
        set.changed.notify(Events::all());
    }
    Ok(0)
}

/// SETVAL, SETALL: pending adjustments of those semaphores are forgotten.
fn set_values(cx: &SyscallCx<'_>, id: i32, number: i32, command: i32, arg: u64) -> SysResult<i32> {
    let set = cx.kernel.sysv.semaphores.find(id)?;
    let creds = cx.task.creds();
    let count = {
        let state = set.state.lock();
        state.perm.check(&creds, WRITE)?;
        state.semaphores.len()
    };
    let values: Vec<(usize, i32)> = if command == SETVAL {
        let index = usize::try_from(number).ok().filter(|n| *n < count);
        let value = i32::try_from(arg & 0xffff_ffff).unwrap_or(-1);
        vec![(index.ok_or(Errno::EINVAL)?, value)]
    } else {
        let all: Vec<u16> = cx.memory.read_array(UserAddr(arg).cast(), count)?;
        all.into_iter().map(i32::from).enumerate().collect()
    };
    if values.iter().any(|(_, value)| !(0..=VALUE_MAX).contains(value)) {
        return fail!(ERANGE);
    }
    {
        let mut state = set.state.lock();
        if state.removed {
            return fail!(EIDRM);
        }
        for (number, value) in values {
            if let Some(semaphore) = state.semaphores.get_mut(number) {
                semaphore.value = value;
                semaphore.pid = cx.task.pid();
            }
            for adjustments in state.undo.values_mut() {
                adjustments.remove(&number);
            }
        }
        state.perm.changed = seconds(&cx.kernel.clock);
    }
    set.changed.notify(Events::READ);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(number: u16, operation: i16) -> Sembuf {
        Sembuf {
            number,
            operation,
            flags: 0,
        }
    }

    #[test]
    fn all_or_nothing() {
        let mut semaphores = vec![Semaphore::default(); 2];
        semaphores[1].value = 3;
        let tried = |ops: &[Sembuf]| attempt(&semaphores, ops);
        assert_eq!(
            tried(&[op(0, 1), op(0, -1), op(0, 0)]),
            Ok(Attempt::Done(HashMap::from([(0, 0)])))
        );
        assert_eq!(tried(&[op(0, 1), op(1, -4)]), Ok(Attempt::Blocked(1)));
        assert_eq!(tried(&[op(1, 0)]), Ok(Attempt::Blocked(0)));
        assert_eq!(tried(&[op(1, 32767)]), Err(Errno::ERANGE));
    }
}
