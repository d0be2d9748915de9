//! sendmsg(2), recvmsg(2) and their family: message headers and control messages.

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::address;
use super::socket::{ControlMessage, Kind, Outgoing, ReceiveFlags, Received, Socket, SocketFile};
use super::unix::{SCM_CREDENTIALS, Ucred};
use crate::kernel::abi::time::Timespec;
use crate::kernel::fs::{Fd, File};
use crate::kernel::stop::{Errno, Stop, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::{IoVec, MAX_IOV, Sink, UserAddr, UserBuf, UserRef};

/// Most descriptors of one message (SCM_MAX_FD).
const MAX_FILES: usize = 253;

/// Most bytes of control messages that are read.
const MAX_CONTROL: u64 = 20_480;

/// Most messages of one sendmmsg(2).
const MAX_MESSAGES: u32 = 1024;

/// Size of `struct cmsghdr`, in bytes.
const HEADER: usize = 16;

const MSG_CMSG_CLOEXEC: i32 = libc::MSG_CMSG_CLOEXEC;
const MSG_WAITFORONE: i32 = libc::MSG_WAITFORONE;

/// `struct msghdr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Msghdr {
    name: u64,
    namelen: i32,
    pad: u32,
    iov: u64,
    iovlen: u64,
    control: u64,
    controllen: u64,
    flags: i32,
    pad2: u32,
}

/// `struct mmsghdr`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct Mmsghdr {
    header: Msghdr,
    length: u32,
    pad: u32,
}

/// The socket behind a descriptor with its file: EBADF, ENOTSOCK.
pub(super) fn socket_at(cx: &mut SyscallCx<'_>, fd: Fd) -> Result<(Arc<File>, Arc<dyn Socket>), Errno> {
    let file = cx.file(fd)?;
    let socket = file.ops_as::<SocketFile>().ok_or(Errno::ENOTSOCK)?.0.clone();
    Ok((file, socket))
}

fn nonblocking(file: &File, flags: i32) -> bool {
    file.nonblocking() || flags & libc::MSG_DONTWAIT != 0
}

/// sendto(2).
pub(crate) fn sendto(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    buf: UserAddr,
    len: u64,
    flags: i32,
    addr: UserAddr,
    addrlen: i32,
) -> SysResult<usize> {
    let buf = UserBuf::new(&cx.memory, buf, len)?;
    let (file, socket) = socket_at(cx, fd)?;
    let to = if addr.is_null() {
        None
    } else {
        Some(address::read(&cx.memory, addr, addrlen)?)
    };
    let mut outgoing = outgoing(&file, flags, to)?;
    let skip = cx.state.progress;
    let result = send(&*socket, buf, skip, &mut outgoing);
    keep_progress(cx, result)
}

fn outgoing(file: &File, flags: i32, to: Option<Vec<u8>>) -> Result<Outgoing, Errno> {
    if flags & libc::MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok(Outgoing {
        no_signal: flags & libc::MSG_NOSIGNAL != 0,
        to,
        ..Outgoing::plain(nonblocking(file, flags))
    })
}

/// What became of one message.
enum Sent {
    Done(usize),
    /// It waits, with so many bytes gone.
    Blocked(usize, Stop),
    Failed(Stop),
}

fn send(socket: &dyn Socket, mut buf: UserBuf, skip: usize, outgoing: &mut Outgoing) -> Sent {
    buf.skip(skip);
    if skip > 0 {
        // They left with the first part.
        outgoing.files.clear();
    }
    match socket.send(&mut buf, outgoing) {
        Ok(sent) => Sent::Done(skip + sent),
        Err(stop @ Stop::Block(_)) => Sent::Blocked(buf.done(), stop),
        Err(Stop::Errno(..)) if skip > 0 => Sent::Done(skip),
        Err(stop) => Sent::Failed(stop),
    }
}

fn keep_progress(cx: &mut SyscallCx<'_>, sent: Sent) -> SysResult<usize> {
    match sent {
        Sent::Done(count) => Ok(count),
        Sent::Blocked(done, stop) => {
            cx.state.progress = done;
            Err(stop)
        }
        Sent::Failed(stop) => Err(stop),
    }
}

/// sendmsg(2).
pub(crate) fn sendmsg(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    message: UserRef<Msghdr>,
    flags: i32,
) -> SysResult<usize> {
    let (file, socket) = socket_at(cx, fd)?;
    let header = cx.memory.read(message)?;
    let skip = cx.state.progress;
    let (buf, mut outgoing) = prepare(cx, &file, &header, flags)?;
    let result = send(&*socket, buf, skip, &mut outgoing);
    keep_progress(cx, result)
}

fn prepare(cx: &SyscallCx<'_>, file: &File, header: &Msghdr, flags: i32) -> SysResult<(UserBuf, Outgoing)> {
    let to = message_address(cx, header)?;
    let buf = vectors(cx, header)?;
    let mut outgoing = outgoing(file, flags, to)?;
    read_control(cx, header, &mut outgoing)?;
    Ok((buf, outgoing))
}

fn message_address(cx: &SyscallCx<'_>, header: &Msghdr) -> SysResult<Option<Vec<u8>>> {
    if header.namelen < 0 {
        return fail!(EINVAL);
    }
    if header.name == 0 || header.namelen == 0 {
        return Ok(None);
    }
    Ok(Some(address::read(
        &cx.memory,
        UserAddr(header.name),
        header.namelen.min(128),
    )?))
}

fn vectors(cx: &SyscallCx<'_>, header: &Msghdr) -> SysResult<UserBuf> {
    if header.iovlen > MAX_IOV {
        return fail!(EMSGSIZE);
    }
    let iov: UserRef<IoVec> = UserAddr(header.iov).cast();
    Ok(UserBuf::from_iovec(&cx.memory, iov, header.iovlen)?)
}

/// Read the control messages of a header. EINVAL for what is malformed or unknown, EBADF, EPERM.
fn read_control(cx: &SyscallCx<'_>, header: &Msghdr, outgoing: &mut Outgoing) -> SysResult<()> {
    if header.control == 0 || header.controllen == 0 {
        return Ok(());
    }
    if header.controllen > MAX_CONTROL {
        return fail!(ENOBUFS);
    }
    let length = usize::try_from(header.controllen).map_err(|_| Errno::ENOBUFS)?;
    let mut bytes = vec![0; length];
    cx.memory.read_bytes(UserAddr(header.control), &mut bytes)?;
    let mut rest = bytes.as_slice();
    while rest.len() >= HEADER {
        let length = u64::from_le_bytes([
            rest[0], rest[1], rest[2], rest[3], rest[4], rest[5], rest[6], rest[7],
        ]);
        let level = i32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]);
        let kind = i32::from_le_bytes([rest[12], rest[13], rest[14], rest[15]]);
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        if length < HEADER || length > rest.len() {
            return fail!(EINVAL);
        }
        if level == libc::SOL_SOCKET {
            control_message(cx, kind, &rest[HEADER..length], outgoing)?;
        }
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(())
}

fn control_message(cx: &SyscallCx<'_>, kind: i32, data: &[u8], outgoing: &mut Outgoing) -> SysResult<()> {
    match kind {
        libc::SCM_RIGHTS => {
            let (numbers, _) = data.as_chunks::<4>();
            if numbers.len() + outgoing.files.len() > MAX_FILES {
                return fail!(EINVAL);
            }
            let table = cx.task.files();
            for number in numbers {
                outgoing
                    .files
                    .push(table.get_any(Fd(i32::from_le_bytes(*number)))?);
            }
            Ok(())
        }
        SCM_CREDENTIALS => {
            let cred = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
            check_cred(cx, &cred)?;
            outgoing.cred = Some(cred);
            Ok(())
        }
        _ => fail!(EINVAL),
    }
}

/// Whether the caller may send these credentials: its own, or any with the capabilities. EPERM.
fn check_cred(cx: &SyscallCx<'_>, cred: &Ucred) -> SysResult<()> {
    let own = cx.task.creds();
    let pid = cred.pid == cx.task.pid() || own.capable(Capability::SysAdmin);
    let uid = [own.uid, own.euid, own.suid].contains(&cred.uid) || own.capable(Capability::Setuid);
    let gid = [own.gid, own.egid, own.sgid].contains(&cred.gid) || own.capable(Capability::Setgid);
    if pid && uid && gid { Ok(()) } else { fail!(EPERM) }
}

/// recvfrom(2).
pub(crate) fn recvfrom(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    buf: UserAddr,
    len: u64,
    flags: i32,
    addr: UserAddr,
    addrlen: UserRef<i32>,
) -> SysResult<usize> {
    let buf = UserBuf::new(&cx.memory, buf, len)?;
    let (file, socket) = socket_at(cx, fd)?;
    let skip = cx.state.progress;
    let (received, total) = receive(cx, &file, &*socket, buf, skip, flags)?;
    address::write(&cx.memory, addr, addrlen, &received.from)?;
    Ok(returned(&received, total, flags))
}

fn returned(received: &Received, total: usize, flags: i32) -> usize {
    if flags & libc::MSG_TRUNC != 0 {
        total.max(received.full_length)
    } else {
        total
    }
}

/// Receive into `buf` behind what earlier runs of the call got; the total with what came now.
fn receive(
    cx: &mut SyscallCx<'_>,
    file: &File,
    socket: &dyn Socket,
    mut buf: UserBuf,
    skip: usize,
    flags: i32,
) -> SysResult<(Received, usize)> {
    if flags & libc::MSG_OOB != 0 {
        return fail!(EOPNOTSUPP);
    }
    buf.skip(skip);
    let how = ReceiveFlags {
        nonblocking: nonblocking(file, flags),
        peek: flags & libc::MSG_PEEK != 0,
        wait_all: flags & libc::MSG_WAITALL != 0,
    };
    match socket.receive(&mut buf, how) {
        Ok(received) => {
            let total = skip + received.length;
            Ok((received, total))
        }
        Err(stop @ Stop::Block(_)) => {
            if how.wait_all && !how.peek {
                cx.state.progress = buf.done();
            }
            Err(stop)
        }
        Err(Stop::Errno(..)) if skip > 0 => Ok((Received::default(), skip)),
        Err(stop) => Err(stop),
    }
}

/// recvmsg(2).
pub(crate) fn recvmsg(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    message: UserRef<Msghdr>,
    flags: i32,
) -> SysResult<usize> {
    let (file, socket) = socket_at(cx, fd)?;
    let skip = cx.state.progress;
    receive_message(cx, &file, &*socket, message, skip, flags)
}

fn receive_message(
    cx: &mut SyscallCx<'_>,
    file: &File,
    socket: &dyn Socket,
    message: UserRef<Msghdr>,
    skip: usize,
    flags: i32,
) -> SysResult<usize> {
    let mut header = cx.memory.read(message)?;
    if header.namelen < 0 {
        return fail!(EINVAL);
    }
    let buf = vectors(cx, &header)?;
    let room = Sink::remaining(&buf);
    let (mut received, total) = receive(cx, file, socket, buf, skip, flags)?;
    let mut out_flags = flags & MSG_CMSG_CLOEXEC;
    if socket.kind() != Kind::Stream && received.full_length > room {
        out_flags |= libc::MSG_TRUNC;
    }
    if header.name != 0 {
        let name = &received.from;
        let fits = name.len().min(header.namelen.unsigned_abs() as usize);
        cx.memory.write_bytes(UserAddr(header.name), &name[..fits])?;
        header.namelen = i32::try_from(name.len()).unwrap_or(i32::MAX);
    }
    out_flags |= write_control(cx, &mut header, &mut received, flags)?;
    header.flags = out_flags;
    cx.memory.write(message, &header)?;
    Ok(returned(&received, total, flags))
}

/// Room for control messages in guest memory.
struct Control {
    at: UserAddr,
    room: usize,
    used: usize,
    truncated: bool,
}

impl Control {
    /// Write one control message, cut to the room there is.
    fn put(&mut self, cx: &SyscallCx<'_>, message: &ControlMessage) -> Result<(), Errno> {
        let (level, kind, data) = message;
        if self.at.is_null() || self.room < HEADER {
            self.truncated = true;
            return Ok(());
        }
        let whole = HEADER + data.len();
        let length = whole.min(self.room);
        self.truncated |= length < whole;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend((length as u64).to_le_bytes());
        bytes.extend(level.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(&data[..length - HEADER]);
        cx.memory.write_bytes(self.at, &bytes)?;
        let step = whole.next_multiple_of(8).min(self.room);
        self.at = self.at.plus(step as u64)?;
        self.room -= step;
        self.used += step;
        Ok(())
    }
}

/// Write what came along with a message; MSG_CTRUNC when it did not fit.
fn write_control(
    cx: &SyscallCx<'_>,
    header: &mut Msghdr,
    received: &mut Received,
    flags: i32,
) -> SysResult<i32> {
    let mut control = Control {
        at: UserAddr(header.control),
        room: usize::try_from(header.controllen)
            .unwrap_or(usize::MAX)
            .min(1 << 20),
        used: 0,
        truncated: false,
    };
    for message in &received.control {
        control.put(cx, message)?;
    }
    let files = std::mem::take(&mut received.files);
    if !files.is_empty() {
        put_files(cx, &mut control, files, flags & MSG_CMSG_CLOEXEC != 0)?;
    }
    header.controllen = control.used as u64;
    Ok(if control.truncated { libc::MSG_CTRUNC } else { 0 })
}

/// Give the files that came descriptors: as many as there is room for, the others are closed.
fn put_files(
    cx: &SyscallCx<'_>,
    control: &mut Control,
    files: Vec<Arc<File>>,
    close_on_exec: bool,
) -> SysResult<()> {
    let room = control.room.saturating_sub(HEADER) / 4;
    let fits = if control.at.is_null() {
        0
    } else {
        room.min(files.len())
    };
    let table = cx.task.files();
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    let mut numbers = Vec::new();
    let count = files.len();
    for file in files.into_iter().take(fits) {
        match table.insert(file, close_on_exec, 0, limit) {
            Ok(fd) => numbers.extend(fd.0.to_le_bytes()),
            Err(_) => break,
        }
    }
    if !numbers.is_empty() {
        control.put(cx, &(libc::SOL_SOCKET, libc::SCM_RIGHTS, numbers.clone()))?;
    }
    control.truncated |= numbers.len() / 4 < count;
    Ok(())
}

/// Bytes of the present message of sendmmsg(2) that are gone.
struct Part(usize);

/// sendmmsg(2). The progress of the call is messages; that inside one is kept apart.
pub(crate) fn sendmmsg(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    messages: UserRef<Mmsghdr>,
    count: u32,
    flags: i32,
) -> SysResult<usize> {
    let (file, socket) = socket_at(cx, fd)?;
    let part = cx.state.data.take_if(|d| d.is::<Part>());
    let mut skip = part.and_then(|d| d.downcast::<Part>().ok()).map_or(0, |p| p.0);
    let count = count.min(MAX_MESSAGES) as usize;
    while cx.state.progress < count {
        let at = messages.at(cx.state.progress as u64)?;
        match send_one(cx, &file, &*socket, at, skip, flags) {
            Sent::Done(_) => cx.state.progress += 1,
            Sent::Blocked(done, stop) => {
                cx.state.data = Some(Box::new(Part(done)));
                return Err(stop);
            }
            Sent::Failed(stop) if cx.state.progress == 0 => return Err(stop),
            Sent::Failed(_) => break,
        }
        skip = 0;
    }
    Ok(cx.state.progress)
}

fn send_one(
    cx: &SyscallCx<'_>,
    file: &File,
    socket: &dyn Socket,
    at: UserRef<Mmsghdr>,
    skip: usize,
    flags: i32,
) -> Sent {
    let prepared = cx
        .memory
        .read(at)
        .map_err(Stop::from)
        .and_then(|message| prepare(cx, file, &message.header, flags));
    let (buf, mut outgoing) = match prepared {
        Ok(prepared) => prepared,
        Err(stop) => return Sent::Failed(stop),
    };
    let sent = send(socket, buf, skip, &mut outgoing);
    if let Sent::Done(length) = &sent {
        let length = u32::try_from(*length).unwrap_or(u32::MAX);
        if let Err(errno) = write_length(cx, at, length) {
            return Sent::Failed(errno.into());
        }
    }
    sent
}

fn write_length(cx: &SyscallCx<'_>, at: UserRef<Mmsghdr>, length: u32) -> Result<(), Errno> {
    let field = at.addr().plus(size_of::<Msghdr>() as u64)?;
    cx.memory.write(field.cast(), &length)
}

/// recvmmsg(2). As on Linux the timeout is looked at after each message only.
pub(crate) fn recvmmsg(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    messages: UserRef<Mmsghdr>,
    count: u32,
    flags: i32,
    timeout: UserRef<Timespec>,
) -> SysResult<usize> {
    if let Some(timeout) = timeout.non_null()
        && cx.state.data.is_none()
    {
        let nanos = cx.memory.read(timeout)?.nanos().ok_or(Errno::EINVAL)?;
        cx.state.data = Some(Box::new(cx.kernel.clock.now().after(nanos)));
    }
    let deadline = cx.state.data.as_ref().and_then(|d| d.downcast_ref().copied());
    let (file, socket) = socket_at(cx, fd)?;
    let count = count.min(MAX_MESSAGES) as usize;
    while cx.state.progress < count {
        let done = cx.state.progress;
        let at = messages.at(done as u64)?;
        let mut each = flags & !MSG_WAITFORONE & !libc::MSG_WAITALL;
        if done > 0 && flags & MSG_WAITFORONE != 0 {
            each |= libc::MSG_DONTWAIT;
        }
        match receive_message(cx, &file, &*socket, at.addr().cast(), 0, each) {
            Ok(length) => write_length(cx, at, u32::try_from(length).unwrap_or(u32::MAX))?,
            Err(stop @ Stop::Block(_)) => return Err(stop),
            Err(stop) if done == 0 => return Err(stop),
            Err(_) => break,
        }
        cx.state.progress += 1;
        if deadline.is_some_and(|deadline| cx.kernel.clock.now() >= deadline) {
            break;
        }
    }
    if let (Some(timeout), Some(deadline)) = (timeout.non_null(), deadline) {
        let left = deadline.since(cx.kernel.clock.now());
        cx.memory.write(timeout, &Timespec::from_nanos(left))?;
    }
    Ok(cx.state.progress)
}
