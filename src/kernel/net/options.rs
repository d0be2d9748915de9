//! setsockopt(2), getsockopt(2): socket(7), unix(7).

use zerocopy::IntoBytes;

use super::message::socket_at;
use super::unix::{Kind, Ucred, UnixSocket};
use crate::kernel::abi::time::Timeval;
use crate::kernel::fs::Fd;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::{UserAddr, UserRef};

/// Largest buffer a program may ask for (net.core.wmem_max and rmem_max), in bytes.
const BUFFER_MAX: usize = 212_992;
/// Smallest buffers, in bytes.
const SEND_MIN: usize = 4608;
const RECEIVE_MIN: usize = 2304;

const SO_RCVTIMEO_NEW: i32 = 66;
const SO_SNDTIMEO_NEW: i32 = 67;
const SO_PEERGROUPS: i32 = 59;

/// Options that a local socket only remembers, with their values at first.
const INERT: [(i32, i32); 16] = [
    (libc::SO_DEBUG, 0),
    (libc::SO_REUSEADDR, 0),
    (libc::SO_REUSEPORT, 0),
    (libc::SO_DONTROUTE, 0),
    (libc::SO_BROADCAST, 0),
    (libc::SO_KEEPALIVE, 0),
    (libc::SO_OOBINLINE, 0),
    (libc::SO_PRIORITY, 0),
    (libc::SO_RCVLOWAT, 1),
    (libc::SO_SNDLOWAT, 1),
    (libc::SO_TIMESTAMP, 0),
    (libc::SO_TIMESTAMPNS, 0),
    (libc::SO_PASSSEC, 0),
    (libc::SO_MARK, 0),
    (libc::SO_RXQ_OVFL, 0),
    (libc::SO_BUSY_POLL, 0),
];

/// setsockopt(2).
pub(crate) fn setsockopt(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    level: i32,
    option: i32,
    value: UserAddr,
    len: i32,
) -> SysResult<()> {
    let (_, socket) = socket_at(cx, fd)?;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if level != libc::SOL_SOCKET {
        return fail!(EOPNOTSUPP);
    }
    match option {
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW | libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => {
            return set_timeout(cx, &socket, option, value, len);
        }
        libc::SO_LINGER => {
            if len < size_of::<libc::linger>() {
                return fail!(EINVAL);
            }
            // A local socket never lingers.
            cx.memory.read::<[i32; 2]>(value.cast())?;
            return Ok(());
        }
        _ => {}
    }
    if len < size_of::<i32>() {
        return fail!(EINVAL);
    }
    let value: i32 = cx.memory.read(value.cast())?;
    let privileged = cx.task.creds().capable(Capability::NetAdmin);
    match option {
        libc::SO_SNDBUF => socket.set_send_buffer(buffer(value, SEND_MIN)),
        libc::SO_RCVBUF => socket.state.lock().options.receive_buffer = buffer(value, RECEIVE_MIN),
        libc::SO_SNDBUFFORCE | libc::SO_RCVBUFFORCE if !privileged => return fail!(EPERM),
        libc::SO_SNDBUFFORCE => socket.set_send_buffer(buffer(value, SEND_MIN)),
        libc::SO_RCVBUFFORCE => socket.state.lock().options.receive_buffer = buffer(value, RECEIVE_MIN),
        libc::SO_PASSCRED => socket.state.lock().options.pass_cred = value != 0,
        libc::SO_TYPE | libc::SO_ERROR | libc::SO_PROTOCOL | libc::SO_DOMAIN | libc::SO_ACCEPTCONN => {
            return fail!(ENOPROTOOPT);
        }
        libc::SO_SNDLOWAT => return fail!(ENOPROTOOPT),
        libc::SO_REUSEPORT if value != 0 => return fail!(EOPNOTSUPP),
        _ => set_inert(&socket, option, value)?,
    }
    Ok(())
}

fn buffer(value: i32, least: usize) -> usize {
    let value = usize::try_from(value).unwrap_or(BUFFER_MAX).min(BUFFER_MAX);
    (value * 2).max(least)
}

fn set_inert(socket: &UnixSocket, option: i32, value: i32) -> Result<(), Errno> {
    let Some((_, first)) = INERT.iter().find(|(number, _)| *number == option) else {
        return Err(Errno::ENOPROTOOPT);
    };
    // Those that are 0 at first are switches, but for the two numbers among them.
    let number = *first != 0 || [libc::SO_PRIORITY, libc::SO_MARK].contains(&option);
    let value = if number { value } else { i32::from(value != 0) };
    let mut state = socket.state.lock();
    let inert = &mut state.options.inert;
    inert.retain(|(n, _)| *n != option);
    inert.push((option, value));
    Ok(())
}

fn set_timeout(
    cx: &SyscallCx<'_>,
    socket: &UnixSocket,
    option: i32,
    value: UserAddr,
    len: usize,
) -> SysResult<()> {
    if len < size_of::<Timeval>() {
        return fail!(EINVAL);
    }
    let value: Timeval = cx.memory.read(value.cast())?;
    if !(0..1_000_000).contains(&value.usec) {
        return fail!(EDOM);
    }
    // No time at all means no limit; a negative one does not wait.
    let nanos = match value.nanos() {
        Some(0) => None,
        Some(nanos) => Some(nanos),
        None => Some(0),
    };
    let mut state = socket.state.lock();
    if matches!(option, libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW) {
        state.options.receive_timeout = nanos;
    } else {
        state.options.send_timeout = nanos;
    }
    Ok(())
}

/// getsockopt(2).
pub(crate) fn getsockopt(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    level: i32,
    option: i32,
    value: UserAddr,
    len: UserRef<i32>,
) -> SysResult<()> {
    let (_, socket) = socket_at(cx, fd)?;
    let room = usize::try_from(cx.memory.read(len)?).map_err(|_| Errno::EINVAL)?;
    if level != libc::SOL_SOCKET {
        return fail!(EOPNOTSUPP);
    }
    let bytes = option_bytes(&socket, option)?;
    let length = bytes.len().min(room);
    cx.memory.write_bytes(value, &bytes[..length])?;
    Ok(cx.memory.write(len, &i32::try_from(length).unwrap_or(i32::MAX))?)
}

/// The value of an option as getsockopt(2) gives it; ENOPROTOOPT.
fn option_bytes(socket: &UnixSocket, option: i32) -> Result<Vec<u8>, Errno> {
    let accepts = socket.is_listening();
    let mut state = socket.state.lock();
    let timeout = |nanos: Option<u64>| Timeval::from_nanos(nanos.unwrap_or(0)).as_bytes().to_vec();
    let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    let number = match option {
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => return Ok(timeout(state.options.receive_timeout)),
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => return Ok(timeout(state.options.send_timeout)),
        libc::SO_LINGER => return Ok([0i32; 2].as_bytes().to_vec()),
        libc::SO_PEERCRED => return Ok(state.peer_cred.as_bytes().to_vec()),
        SO_PEERGROUPS if state.peer_cred == Ucred::NOBODY => return Err(Errno::ENODATA),
        libc::SO_TYPE => match socket.kind {
            Kind::Stream => libc::SOCK_STREAM,
            Kind::Datagram => libc::SOCK_DGRAM,
            Kind::SeqPacket => libc::SOCK_SEQPACKET,
        },
        libc::SO_DOMAIN => libc::AF_UNIX,
        libc::SO_PROTOCOL => 0,
        libc::SO_ERROR => state.error.take().map_or(0, |errno| errno as i32),
        libc::SO_ACCEPTCONN => i32::from(accepts),
        libc::SO_SNDBUF => size(socket.send_buffer()),
        libc::SO_RCVBUF => size(state.options.receive_buffer),
        libc::SO_PASSCRED => i32::from(state.options.pass_cred),
        _ => {
            let all = state.options.inert.iter().chain(&INERT);
            let mut known = all.filter(|(number, _)| *number == option);
            known.next().ok_or(Errno::ENOPROTOOPT)?.1
        }
    };
    Ok(number.to_le_bytes().to_vec())
}
