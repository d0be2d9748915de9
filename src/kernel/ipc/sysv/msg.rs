//! Message queues: msgget(2), msgop(2), msgctl(2).

use std::collections::VecDeque;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT, IpcPerm, Object, Perm, READ, WRITE, seconds};
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::UserAddr;
use crate::kernel::wait::{Events, OnSignal, WaitFor, WaitQueue};

/// Largest message, in bytes (kernel.msgmax).
const MESSAGE_MAX: u64 = 8192;
/// Bytes a queue holds at first (kernel.msgmnb).
const QUEUE_BYTES: u64 = 16384;

const MSG_NOERROR: i32 = 0o10000;
const MSG_EXCEPT: i32 = 0o20000;
const MSG_COPY: i32 = 0o40000;
const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;

/// A message queue.
pub(super) struct Queue {
    state: Lock<State>,
    changed: WaitQueue,
}

struct State {
    perm: Perm,
    messages: VecDeque<Message>,
    bytes: u64,
    limit: u64,
    last_sender: i32,
    last_receiver: i32,
    sent: i64,
    received: i64,
    removed: bool,
}

struct Message {
    kind: i64,
    text: Vec<u8>,
}

impl Object for Queue {
    const LIMIT: usize = 32000;
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

/// `struct msqid64_ds`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
struct QueueStatus {
    perm: IpcPerm,
    sent: i64,
    received: i64,
    changed: i64,
    bytes: u64,
    count: u64,
    limit: u64,
    last_sender: i32,
    last_receiver: i32,
    unused: [u64; 2],
}

/// `struct msginfo`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
struct Info {
    pool: i32,
    map: i32,
    max: i32,
    mnb: i32,
    mni: i32,
    ssz: i32,
    tql: i32,
    seg: u16,
    pad: u16,
}

/// msgget(2).
pub(crate) fn msgget(cx: &mut SyscallCx<'_>, key: i32, flags: i32) -> SysResult<i32> {
    let creds = cx.task.creds();
    let clock = &cx.kernel.clock;
    Ok(cx.kernel.sysv.queues.get(
        &creds,
        key,
        flags,
        |_| Ok(()),
        |mode| {
            Ok(Queue {
                state: Lock::new(
                    Rank::Leaf,
                    State {
                        perm: Perm::new(&creds, key, mode, clock),
                        messages: VecDeque::new(),
                        bytes: 0,
                        limit: QUEUE_BYTES,
                        last_sender: 0,
                        last_receiver: 0,
                        sent: 0,
                        received: 0,
                        removed: false,
                    },
                ),
                changed: WaitQueue::new(),
            })
        },
    )?)
}

/// EIDRM once a call that waited finds its queue removed; a call that begins then finds none (EINVAL).
fn find(cx: &mut SyscallCx<'_>, id: i32) -> SysResult<std::sync::Arc<Queue>> {
    if id < 0 {
        return fail!(EINVAL);
    }
    let waited = cx.state.data.take().and_then(|d| d.downcast().ok());
    match waited {
        Some(queue) => Ok(*queue),
        None => Ok(cx.kernel.sysv.queues.find(id)?),
    }
}

/// msgsnd(2).
pub(crate) fn msgsnd(
    cx: &mut SyscallCx<'_>,
    id: i32,
    from: UserAddr,
    size: u64,
    flags: i32,
) -> SysResult<()> {
    if size > MESSAGE_MAX {
        return fail!(EINVAL);
    }
    let kind: i64 = cx.memory.read(from.cast())?;
    if kind < 1 {
        return fail!(EINVAL);
    }
    let queue = find(cx, id)?;
    let mut text = vec![0; size as usize];
    cx.memory.read_bytes(from.plus(8)?, &mut text)?;
    let creds = cx.task.creds();
    let generation = queue.changed.generation();
    {
        let mut state = queue.state.lock();
        if state.removed {
            return fail!(EIDRM);
        }
        state.perm.check(&creds, WRITE)?;
        // The number of messages is bounded as their bytes are: empty ones count too.
        if state.bytes + size <= state.limit && (state.messages.len() as u64) < state.limit {
            state.bytes += size;
            state.last_sender = cx.task.pid();
            state.sent = seconds(&cx.kernel.clock);
            state.messages.push_back(Message { kind, text });
            drop(state);
            queue.changed.notify(Events::READ);
            return Ok(());
        }
    }
    if flags & IPC_NOWAIT != 0 {
        return fail!(EAGAIN);
    }
    let wait = WaitFor::default().and_since(&queue.changed, Events::WRITE, generation);
    cx.state.data = Some(Box::new(queue));
    Err(wait.on_signal(OnSignal::Eintr).into())
}

/// Which message `kind` asks for.
fn choose(messages: &VecDeque<Message>, kind: i64, flags: i32) -> Option<usize> {
    match kind {
        0 => (!messages.is_empty()).then_some(0),
        _ if kind > 0 && flags & MSG_EXCEPT != 0 => messages.iter().position(|m| m.kind != kind),
        _ if kind > 0 => messages.iter().position(|m| m.kind == kind),
        _ => {
            let most = kind.checked_neg().unwrap_or(i64::MAX);
            let lowest = messages.iter().map(|m| m.kind).filter(|k| *k <= most).min()?;
            messages.iter().position(|m| m.kind == lowest)
        }
    }
}

/// msgrcv(2). MSG_COPY is refused with ENOSYS, as on a kernel without checkpointing.
pub(crate) fn msgrcv(
    cx: &mut SyscallCx<'_>,
    id: i32,
    to: UserAddr,
    size: u64,
    kind: i64,
    flags: i32,
) -> SysResult<usize> {
    if size > i64::MAX as u64 {
        return fail!(EINVAL);
    }
    if flags & MSG_COPY != 0 {
        return fail!(ENOSYS);
    }
    let queue = find(cx, id)?;
    let creds = cx.task.creds();
    let generation = queue.changed.generation();
    let message = {
        let mut state = queue.state.lock();
        if state.removed {
            return fail!(EIDRM);
        }
        state.perm.check(&creds, READ)?;
        match choose(&state.messages, kind, flags) {
            None => None,
            Some(at) => {
                let too_big = state.messages.get(at).is_some_and(|m| m.text.len() as u64 > size);
                if too_big && flags & MSG_NOERROR == 0 {
                    return fail!(E2BIG);
                }
                let message = state.messages.remove(at);
                state.bytes -= message.as_ref().map_or(0, |m| m.text.len() as u64);
                state.last_receiver = cx.task.pid();
                state.received = seconds(&cx.kernel.clock);
                message
            }
        }
    };
    if let Some(message) = message {
        queue.changed.notify(Events::WRITE);
        let text = &message.text[..message
            .text
            .len()
            .min(usize::try_from(size).unwrap_or(usize::MAX))];
        cx.memory.write(to.cast(), &message.kind)?;
        cx.memory.write_bytes(to.plus(8)?, text)?;
        return Ok(text.len());
    }
    if flags & IPC_NOWAIT != 0 {
        return fail!(ENOMSG);
    }
    let wait = WaitFor::default().and_since(&queue.changed, Events::READ, generation);
    cx.state.data = Some(Box::new(queue));
    Err(wait.on_signal(OnSignal::Eintr).into())
}

/// IPC_STAT, and its like by index, which return the id.
fn stat(cx: &SyscallCx<'_>, id: i32, command: i32, buf: UserAddr) -> SysResult<i32> {
    let queues = &cx.kernel.sysv.queues;
    let creds = cx.task.creds();
    let (id, queue) = if command == IPC_STAT {
        (id, queues.find(id)?)
    } else {
        queues.at(id)?
    };
    let status = {
        let state = queue.state.lock();
        if command != MSG_STAT_ANY {
            state.perm.check(&creds, READ)?;
        }
        status(&state, id)
    };
    cx.memory.write(buf.cast(), &status)?;
    Ok(if command == IPC_STAT { 0 } else { id })
}

/// msgctl(2).
pub(crate) fn msgctl(cx: &mut SyscallCx<'_>, id: i32, command: i32, buf: UserAddr) -> SysResult<i32> {
    if id < 0 || command < 0 {
        return fail!(EINVAL);
    }
    let queues = &cx.kernel.sysv.queues;
    let creds = cx.task.creds();
    match command {
        IPC_INFO | MSG_INFO => {
            let (count, highest) = queues.usage();
            let info = Info {
                pool: if command == MSG_INFO { count } else { 0 },
                max: MESSAGE_MAX as i32,
                mnb: QUEUE_BYTES as i32,
                mni: Queue::LIMIT as i32,
                ..Info::default()
            };
            cx.memory.write(buf.cast(), &info)?;
            Ok(highest)
        }
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => stat(cx, id, command, buf),
        IPC_SET => {
            let new: QueueStatus = cx.memory.read(buf.cast())?;
            let queue = queues.find(id)?;
            {
                let mut state = queue.state.lock();
                state.perm.check_owner(&creds)?;
                if new.limit > QUEUE_BYTES && !creds.capable(Capability::SysResource) {
                    return fail!(EPERM);
                }
                state.limit = new.limit.min(1 << 20);
                state.perm.set(&new.perm, &cx.kernel.clock);
            }
            queue.changed.notify(Events::WRITE);
            Ok(0)
        }
        IPC_RMID => {
            let queue = queues.find(id)?;
            {
                let mut state = queue.state.lock();
                state.perm.check_owner(&creds)?;
                state.removed = true;
                state.messages.clear();
            }
            queues.remove(id);
            queue.changed.notify(Events::all());
            Ok(0)
        }
        _ => fail!(EINVAL),
    }
}

fn status(state: &State, id: i32) -> QueueStatus {
    QueueStatus {
        perm: state.perm.shown(id),
        sent: state.sent,
        received: state.received,
        changed: state.perm.changed,
        bytes: state.bytes,
        count: state.messages.len() as u64,
        limit: state.limit,
        last_sender: state.last_sender,
        last_receiver: state.last_receiver,
        unused: [0; 2],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chooses_by_type() {
        let messages = [5, 3, 9, 3].map(|kind| Message {
            kind,
            text: Vec::new(),
        });
        let messages = VecDeque::from(messages);
        let chosen = |kind, flags| choose(&messages, kind, flags);
        assert_eq!(
            (chosen(0, 0), chosen(3, 0), chosen(4, 0)),
            (Some(0), Some(1), None)
        );
        assert_eq!(
            (chosen(-4, 0), chosen(-2, 0), chosen(i64::MIN, 0)),
            (Some(1), None, Some(1))
        );
        assert_eq!(chosen(5, MSG_EXCEPT), Some(1));
    }
}
