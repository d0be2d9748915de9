//! POSIX message queues: mq_overview(7). There is no mqueue file system: names live in a table of their own.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::kernel::abi::time::Timespec;
use crate::kernel::fs::{AnonKind, Fd, File, FileOps, OpenFlags};
use crate::kernel::signal::{self, SigFields, SigInfo, Signal};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, Creds, Pid, ThreadGroup, current};
use crate::kernel::time::Instant;
use crate::kernel::user_memory::{UserAddr, UserCString, UserRef};
use crate::kernel::wait::{Events, WaitFor, WaitQueue};

/// Most queues (fs.mqueue.queues_max).
const QUEUES_MAX: usize = 256;
/// Limits of a queue for everybody, and for who has CAP_SYS_RESOURCE.
const MESSAGES_MAX: i64 = 10;
const MESSAGE_SIZE_MAX: i64 = 8192;
const HARD_MESSAGES_MAX: i64 = 65_536;
const HARD_MESSAGE_SIZE_MAX: i64 = 1 << 20;
/// One past the highest priority.
const PRIORITIES: u32 = 32_768;
/// `si_code` of a notification.
const SI_MESGQ: i32 = -3;

/// `struct mq_attr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
pub(crate) struct MqAttr {
    flags: i64,
    max_messages: i64,
    message_size: i64,
    messages: i64,
    reserved: [i64; 4],
}

/// `struct sigevent` as far as it is read here.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Sigevent {
    value: u64,
    signo: i32,
    notify: i32,
    rest: [u8; 48],
}

/// The queues of a guest by name.
pub struct MessageQueues(Lock<HashMap<Vec<u8>, Arc<Queue>>>);

impl Default for MessageQueues {
    fn default() -> Self {
        MessageQueues(Lock::new(Rank::Table, HashMap::new()))
    }
}

/// A message queue; lives as long as its name or a descriptor.
struct Queue {
    max_messages: usize,
    message_size: usize,
    mode: u32,
    uid: u32,
    gid: u32,
    state: Lock<State>,
    changed: WaitQueue,
}

#[derive(Default)]
struct State {
    /// By priority, the oldest first.
    messages: BTreeMap<u32, VecDeque<Vec<u8>>>,
    count: usize,
    receivers: usize,
    notify: Option<Notify>,
}

/// Whom mq_notify(2) registered.
struct Notify {
    group: Weak<ThreadGroup>,
    pid: Pid,
    /// Signal and value, or nothing at all (SIGEV_NONE).
    signal: Option<(Signal, u64)>,
}

impl State {
    fn put(&mut self, priority: u32, text: Vec<u8>) {
        self.messages.entry(priority).or_default().push_back(text);
        self.count += 1;
    }

    /// The oldest message of the highest priority.
    fn take(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut entry = self.messages.last_entry()?;
        let priority = *entry.key();
        let text = entry.get_mut().pop_front();
        if entry.get().is_empty() {
            entry.remove();
        }
        self.count -= usize::from(text.is_some());
        Some((priority, text?))
    }
}

impl Queue {
    fn may(&self, creds: &Creds, flags: OpenFlags) -> Result<(), Errno> {
        let class = if creds.fsuid == self.uid {
            self.mode >> 6
        } else if creds.in_group(self.gid) {
            self.mode >> 3
        } else {
            self.mode
        };
        let mut want = 0;
        if flags.readable() {
            want |= 4;
        }
        if flags.writable() {
            want |= 2;
        }
        if class & want == want || creds.capable(Capability::DacOverride) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    fn attributes(&self, file: &File) -> MqAttr {
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let flags = file.flags() & OpenFlags::NONBLOCK;
        MqAttr {
            flags: i64::from(flags.bits()),
            max_messages: signed(self.max_messages),
            message_size: signed(self.message_size),
            messages: signed(self.state.lock().count),
            reserved: [0; 4],
        }
    }
}

/// An open message queue.
struct QueueFile(Arc<Queue>);

impl FileOps for QueueFile {
    fn poll(&self, _: &File) -> Events {
        let count = self.0.state.lock().count;
        let mut events = Events::empty();
        if count > 0 {
            events |= Events::READ;
        }
        if count < self.0.max_messages {
            events |= Events::WRITE;
        }
        events
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.0.changed.clone(), interest)]
    }

    /// Closing any descriptor of it ends the process's registration.
    fn flush(&self, _: &File) -> SysResult<()> {
        if let Some(task) = current() {
            let mut state = self.0.state.lock();
            if state.notify.as_ref().is_some_and(|n| n.pid == task.pid()) {
                state.notify = None;
            }
        }
        Ok(())
    }
}

/// A name as the C library passes it on: without its first slash. EACCES for another slash, EINVAL for none at all.
fn read_name(cx: &SyscallCx<'_>, name: UserCString) -> Result<Vec<u8>, Errno> {
    let name = cx.memory.read_path(name)?;
    match name.as_slice() {
        [] => Err(Errno::ENOENT),
        b"." | b".." => Err(Errno::EACCES),
        _ if name.len() > 255 => Err(Errno::ENAMETOOLONG),
        _ if name.contains(&b'/') => Err(Errno::EACCES),
        _ => Ok(name),
    }
}

/// mq_open(2).
pub(crate) fn mq_open(
    cx: &mut SyscallCx<'_>,
    name: UserCString,
    flags: u32,
    mode: u32,
    attributes: UserRef<MqAttr>,
) -> SysResult<i32> {
    let flags = OpenFlags::from_bits_retain(flags);
    let attributes = attributes.non_null().map(|a| cx.memory.read(a)).transpose()?;
    let name = read_name(cx, name)?;
    let creds = cx.task.creds();
    let umask = cx.task.fs().lock().umask;
    let queue = {
        let mut queues = cx.kernel.mqueues.0.lock();
        match queues.get(&name) {
            Some(_) if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) => return fail!(EEXIST),
            Some(queue) => {
                queue.may(&creds, flags)?;
                queue.clone()
            }
            None if !flags.contains(OpenFlags::CREAT) => return fail!(ENOENT),
            None => {
                let privileged = creds.capable(Capability::SysResource);
                if queues.len() >= QUEUES_MAX && !privileged {
                    return fail!(ENOSPC);
                }
                let queue = Arc::new(new_queue(&creds, mode & 0o777 & !umask, attributes.as_ref())?);
                queues.insert(name, queue.clone());
                queue
            }
        }
    };
    let file = cx.kernel.vfs.anon.file(
        &cx.kernel.clock,
        &creds,
        AnonKind::Other("[mqueue]"),
        Arc::new(QueueFile(queue)),
        flags & (OpenFlags::WRONLY | OpenFlags::RDWR | OpenFlags::NONBLOCK),
    );
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    Ok(cx.task.files().insert(file, close_on_exec, 0, limit)?.0)
}

fn new_queue(creds: &Creds, mode: u32, attributes: Option<&MqAttr>) -> Result<Queue, Errno> {
    let (count, size) = attributes.map_or((MESSAGES_MAX, MESSAGE_SIZE_MAX), |a| {
        (a.max_messages, a.message_size)
    });
    let (most, largest) = if creds.capable(Capability::SysResource) {
        (HARD_MESSAGES_MAX, HARD_MESSAGE_SIZE_MAX)
    } else {
        (MESSAGES_MAX, MESSAGE_SIZE_MAX)
    };
    if !(1..=most).contains(&count) || !(1..=largest).contains(&size) {
        return Err(Errno::EINVAL);
    }
    Ok(Queue {
        max_messages: usize::try_from(count).map_err(|_| Errno::EINVAL)?,
        message_size: usize::try_from(size).map_err(|_| Errno::EINVAL)?,
        mode,
        uid: creds.fsuid,
        gid: creds.fsgid,
        state: Lock::new(Rank::Object, State::default()),
        changed: WaitQueue::new(),
    })
}

/// mq_unlink(2): EACCES for who did not make it.
pub(crate) fn mq_unlink(cx: &mut SyscallCx<'_>, name: UserCString) -> SysResult<()> {
    let name = read_name(cx, name)?;
    let creds = cx.task.creds();
    let mut queues = cx.kernel.mqueues.0.lock();
    let queue = queues.get(&name).ok_or(Errno::ENOENT)?;
    if creds.fsuid != queue.uid && !creds.capable(Capability::Fowner) {
        return fail!(EACCES);
    }
    let removed = queues.remove(&name);
    drop(queues);
    drop(removed);
    Ok(())
}

fn open_queue(cx: &SyscallCx<'_>, fd: Fd) -> Result<(Arc<File>, Arc<Queue>), Errno> {
    let file = cx.task.files().get(fd)?;
    let queue = file.ops_as::<QueueFile>().ok_or(Errno::EBADF)?.0.clone();
    Ok((file, queue))
}

/// Fix the deadline, an absolute time on CLOCK_REALTIME, on the first run. EINVAL, EFAULT.
fn deadline(cx: &mut SyscallCx<'_>, timeout: UserRef<Timespec>) -> SysResult<Option<Instant>> {
    if let Some(timeout) = timeout.non_null()
        && cx.state.deadline.is_none()
    {
        let nanos = cx.memory.read(timeout)?.nanos().ok_or(Errno::EINVAL)?;
        cx.state.deadline = Some(cx.kernel.clock.instant_of_realtime(nanos));
    }
    Ok(cx.state.deadline)
}

/// mq_timedsend(2).
pub(crate) fn mq_timedsend(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    text: UserAddr,
    len: u64,
    priority: u32,
    timeout: UserRef<Timespec>,
) -> SysResult<()> {
    if priority >= PRIORITIES {
        return fail!(EINVAL);
    }
    let deadline = deadline(cx, timeout)?;
    let (file, queue) = open_queue(cx, fd)?;
    if !file.flags().writable() {
        return fail!(EBADF);
    }
    let len = usize::try_from(len).map_err(|_| Errno::EMSGSIZE)?;
    if len > queue.message_size {
        return fail!(EMSGSIZE);
    }
    let mut message = vec![0; len];
    cx.memory.read_bytes(text, &mut message)?;
    let generation = queue.changed.generation();
    let notify = {
        let mut state = queue.state.lock();
        if state.count >= queue.max_messages {
            drop(state);
            return wait(cx, &file, &queue, Events::WRITE, generation, deadline);
        }
        let first = state.count == 0 && state.receivers == 0;
        state.put(priority, message);
        if first { state.notify.take() } else { None }
    };
    queue.changed.notify(Events::READ);
    if let Some(notify) = notify {
        tell(cx, &notify);
    }
    Ok(())
}

/// Wait for room or for a message: EAGAIN, ETIMEDOUT.
fn wait<T>(
    cx: &SyscallCx<'_>,
    file: &File,
    queue: &Queue,
    events: Events,
    generation: u64,
    deadline: Option<Instant>,
) -> SysResult<T> {
    if file.nonblocking() {
        return fail!(EAGAIN);
    }
    if cx.timed_out() {
        return fail!(ETIMEDOUT);
    }
    let wait = WaitFor::default().and_since(&queue.changed, events, generation);
    Err(wait.until(deadline).into())
}

fn tell(cx: &SyscallCx<'_>, notify: &Notify) {
    let (Some(group), Some((signal, value))) = (notify.group.upgrade(), notify.signal) else {
        return;
    };
    let info = SigInfo {
        signal,
        errno: 0,
        code: SI_MESGQ,
        fields: SigFields::Queue {
            pid: cx.task.pid(),
            uid: cx.task.creds().uid,
            value,
        },
    };
    // A full signal queue loses the notification, as on Linux.
    let _ = signal::send_to_group(cx.kernel, &group, info);
}

/// A receiver that waits, for as long as this lives: no notification is sent meanwhile.
struct Receiving(Arc<Queue>);

impl Receiving {
    fn new(queue: &Arc<Queue>) -> Receiving {
        queue.state.lock().receivers += 1;
        Receiving(queue.clone())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.state.lock().receivers -= 1;
    }
}

/// mq_timedreceive(2).
pub(crate) fn mq_timedreceive(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    to: UserAddr,
    len: u64,
    priority_to: UserRef<u32>,
    timeout: UserRef<Timespec>,
) -> SysResult<usize> {
    let deadline = deadline(cx, timeout)?;
    let (file, queue) = open_queue(cx, fd)?;
    if !file.flags().readable() {
        return fail!(EBADF);
    }
    if usize::try_from(len).is_ok_and(|len| len < queue.message_size) {
        return fail!(EMSGSIZE);
    }
    let generation = queue.changed.generation();
    let taken = queue.state.lock().take();
    let Some((priority, text)) = taken else {
        if cx.state.data.is_none() {
            cx.state.data = Some(Box::new(Receiving::new(&queue)));
        }
        return wait(cx, &file, &queue, Events::READ, generation, deadline);
    };
    queue.changed.notify(Events::WRITE);
    if let Some(priority_to) = priority_to.non_null() {
        cx.memory.write(priority_to, &priority)?;
    }
    cx.memory.write_bytes(to, &text)?;
    Ok(text.len())
}

/// mq_notify(2). SIGEV_THREAD needs a netlink socket and is refused with EINVAL.
pub(crate) fn mq_notify(cx: &mut SyscallCx<'_>, fd: Fd, event: UserRef<Sigevent>) -> SysResult<()> {
    let event = event.non_null().map(|e| cx.memory.read(e)).transpose()?;
    let signal = match &event {
        Some(event) => match event.notify {
            libc::SIGEV_NONE => None,
            libc::SIGEV_SIGNAL if (1..=64).contains(&event.signo) => Some((event.signo, event.value)),
            _ => return fail!(EINVAL),
        },
        None => None,
    };
    let (_, queue) = open_queue(cx, fd)?;
    let pid = cx.task.pid();
    let mut state = queue.state.lock();
    let owner = state.notify.as_ref().filter(|n| n.group.strong_count() > 0);
    match (event, owner.map(|n| n.pid)) {
        (None, owner) => {
            if owner == Some(pid) {
                state.notify = None;
            }
            Ok(())
        }
        (Some(_), Some(_)) => fail!(EBUSY),
        (Some(_), None) => {
            state.notify = Some(Notify {
                group: Arc::downgrade(&cx.task.group),
                pid,
                signal,
            });
            Ok(())
        }
    }
}

/// mq_getsetattr(2): only O_NONBLOCK can be changed.
pub(crate) fn mq_getsetattr(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    new: UserRef<MqAttr>,
    old: UserRef<MqAttr>,
) -> SysResult<()> {
    let nonblock = i64::from(OpenFlags::NONBLOCK.bits());
    let new = new.non_null().map(|new| cx.memory.read(new)).transpose()?;
    if new.is_some_and(|new| new.flags & !nonblock != 0) {
        return fail!(EINVAL);
    }
    let (file, queue) = open_queue(cx, fd)?;
    let before = queue.attributes(&file);
    if let Some(new) = new {
        let mut flags = file.flags();
        flags.set(OpenFlags::NONBLOCK, new.flags & nonblock != 0);
        file.set_flags(flags);
    }
    if let Some(old) = old.non_null() {
        cx.memory.write(old, &before)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_the_highest_priority_comes_first() {
        let mut state = State::default();
        for (priority, text) in [(1, "a"), (7, "b"), (1, "c"), (7, "d")] {
            state.put(priority, text.into());
        }
        let order: Vec<_> = std::iter::from_fn(|| state.take()).collect();
        let expected = [(7, "b"), (7, "d"), (1, "a"), (1, "c")].map(|(p, t)| (p, t.into()));
        assert_eq!(order, expected);
        assert_eq!((state.count, state.messages.len()), (0, 0));
    }

    #[test]
    fn limits_depend_on_privilege() {
        let user = Creds::of_user(1000, 1000, &[]);
        let attributes = |max_messages, message_size| MqAttr {
            max_messages,
            message_size,
            ..MqAttr::default()
        };
        let made = |creds: &Creds, a: &MqAttr| new_queue(creds, 0o600, Some(a)).is_ok();
        assert!(made(&user, &attributes(10, 8192)) && !made(&user, &attributes(11, 1)));
        assert!(!made(&user, &attributes(0, 1)) && !made(&user, &attributes(1, -1)));
        assert!(made(&Creds::of_user(0, 0, &[]), &attributes(11, 1)));
    }
}
