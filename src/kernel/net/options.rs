//! setsockopt(2), getsockopt(2): socket(7). What only one family has is in its folder.

use zerocopy::IntoBytes;

use super::message::socket_at;
use super::socket::Socket;
use super::unix::Ucred;
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

/// Longest value of an option that is read, in bytes.
const VALUE_MAX: usize = 256;

/// Settings that sockets of every family have.
pub(super) struct Options {
    pub(super) pass_cred: bool,
    pub(super) receive_buffer: usize,
    /// SO_SNDBUF was asked for.
    pub(super) fixed_send_buffer: bool,
    /// In nanoseconds; none for no limit.
    pub(super) receive_timeout: Option<u64>,
    pub(super) send_timeout: Option<u64>,
    /// SO_LINGER: whether, and how many seconds.
    pub(super) linger: (bool, i32),
    /// Number of the inode of its file.
    pub(super) inode: u64,
    /// What is only remembered, by level and number.
    remembered: Vec<((i32, i32), i32)>,
}

impl Options {
    pub(super) fn new(receive_buffer: usize) -> Options {
        Options {
            pass_cred: false,
            receive_buffer,
            fixed_send_buffer: false,
            receive_timeout: None,
            send_timeout: None,
            linger: (false, 0),
            inode: 0,
            remembered: Vec::new(),
        }
    }

    /// Those of a socket that accept(2) makes.
    pub(super) fn inherit(&self) -> Options {
        Options {
            remembered: self.remembered.clone(),
            ..*self
        }
    }

    /// What an option was set to.
    pub(super) fn remembered(&self, level: i32, option: i32) -> Option<i32> {
        let mut known = self.remembered.iter();
        known
            .find(|(key, _)| *key == (level, option))
            .map(|(_, value)| *value)
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, level: i32, option: i32) -> bool {
        self.remembered(level, option).is_some_and(|value| value != 0)
    }

    pub(super) fn remember(&mut self, level: i32, option: i32, value: i32) {
        self.remembered.retain(|(key, _)| *key != (level, option));
        self.remembered.push(((level, option), value));
    }
}

/// Options of SOL_SOCKET that any socket only remembers, with their values at first.
const INERT: [(i32, i32); 15] = [
    (libc::SO_DEBUG, 0),
    (libc::SO_REUSEADDR, 0),
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
    let socket = &*socket;
    let len = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
    if level != libc::SOL_SOCKET {
        let mut bytes = vec![0; len.min(VALUE_MAX)];
        cx.memory.read_bytes(value, &mut bytes)?;
        return Ok(socket.set_option(cx.task, level, option, &bytes)?);
    }
    match option {
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW | libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => {
            return set_timeout(cx, socket, option, value, len);
        }
        libc::SO_LINGER => {
            if len < size_of::<libc::linger>() {
                return fail!(EINVAL);
            }
            let [on, seconds] = cx.memory.read::<[i32; 2]>(value.cast())?;
            socket.options().lock().linger = (on != 0, seconds);
            return Ok(());
        }
        libc::SO_BINDTODEVICE => {
            let mut bytes = vec![0; len.min(VALUE_MAX)];
            cx.memory.read_bytes(value, &mut bytes)?;
            return Ok(socket.set_option(cx.task, level, option, &bytes)?);
        }
        _ => {}
    }
    if len < size_of::<i32>() {
        return fail!(EINVAL);
    }
    let value: i32 = cx.memory.read(value.cast())?;
    Ok(set_number(cx, socket, option, value)?)
}

fn set_number(cx: &SyscallCx<'_>, socket: &dyn Socket, option: i32, value: i32) -> Result<(), Errno> {
    let privileged = cx.task.creds().capable(Capability::NetAdmin);
    match option {
        libc::SO_SNDBUFFORCE | libc::SO_RCVBUFFORCE if !privileged => return Err(Errno::EPERM),
        libc::SO_SNDBUF | libc::SO_SNDBUFFORCE => {
            socket.options().lock().fixed_send_buffer = true;
            socket.set_send_buffer(buffer(value, SEND_MIN));
        }
        libc::SO_RCVBUF | libc::SO_RCVBUFFORCE => {
            socket.options().lock().receive_buffer = buffer(value, RECEIVE_MIN);
        }
        libc::SO_PASSCRED => socket.options().lock().pass_cred = value != 0,
        libc::SO_TYPE | libc::SO_ERROR | libc::SO_PROTOCOL | libc::SO_DOMAIN | libc::SO_ACCEPTCONN => {
            return Err(Errno::ENOPROTOOPT);
        }
        libc::SO_SNDLOWAT => return Err(Errno::ENOPROTOOPT),
        _ => match INERT.iter().find(|(number, _)| *number == option) {
            Some((_, first)) => {
                // Those that are 0 at first are switches, but for the two numbers among them.
                let number = *first != 0 || [libc::SO_PRIORITY, libc::SO_MARK].contains(&option);
                let value = if number { value } else { i32::from(value != 0) };
                socket.options().lock().remember(libc::SOL_SOCKET, option, value);
            }
            None => return socket.set_option(cx.task, libc::SOL_SOCKET, option, &value.to_le_bytes()),
        },
    }
    Ok(())
}

fn buffer(value: i32, least: usize) -> usize {
    let value = usize::try_from(value).unwrap_or(BUFFER_MAX).min(BUFFER_MAX);
    (value * 2).max(least)
}

fn set_timeout(
    cx: &SyscallCx<'_>,
    socket: &dyn Socket,
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
    let mut options = socket.options().lock();
    if matches!(option, libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW) {
        options.receive_timeout = nanos;
    } else {
        options.send_timeout = nanos;
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
    let bytes = if level == libc::SOL_SOCKET {
        option_bytes(&*socket, option)?
    } else {
        socket.option(level, option)?
    };
    let length = bytes.len().min(room);
    cx.memory.write_bytes(value, &bytes[..length])?;
    Ok(cx.memory.write(len, &i32::try_from(length).unwrap_or(i32::MAX))?)
}

/// The value of an option as getsockopt(2) gives it; ENOPROTOOPT.
fn option_bytes(socket: &dyn Socket, option: i32) -> Result<Vec<u8>, Errno> {
    let timeout = |nanos: Option<u64>| Timeval::from_nanos(nanos.unwrap_or(0)).as_bytes().to_vec();
    let size = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
    let options = || socket.options().lock();
    let number = match option {
        libc::SO_RCVTIMEO | SO_RCVTIMEO_NEW => return Ok(timeout(options().receive_timeout)),
        libc::SO_SNDTIMEO | SO_SNDTIMEO_NEW => return Ok(timeout(options().send_timeout)),
        libc::SO_LINGER => {
            // A local socket never lingers.
            let linger = socket.as_unix().map_or_else(|| options().linger, |_| (false, 0));
            let linger = [i32::from(linger.0), linger.1];
            return Ok(linger.as_bytes().to_vec());
        }
        libc::SO_PEERCRED => return Ok(socket.peer_cred().as_bytes().to_vec()),
        SO_PEERGROUPS if socket.peer_cred() == Ucred::NOBODY => return Err(Errno::ENODATA),
        libc::SO_TYPE => socket.kind().number(),
        libc::SO_DOMAIN => socket.domain(),
        libc::SO_PROTOCOL => socket.protocol(),
        libc::SO_ERROR => socket.take_error().map_or(0, |errno| errno as i32),
        libc::SO_ACCEPTCONN => i32::from(socket.is_listening()),
        libc::SO_SNDBUF => size(socket.send_buffer()),
        libc::SO_RCVBUF => size(options().receive_buffer),
        libc::SO_PASSCRED => i32::from(options().pass_cred),
        _ => {
            let Some((_, first)) = INERT.iter().find(|(number, _)| *number == option) else {
                return socket.option(libc::SOL_SOCKET, option);
            };
            options().remembered(libc::SOL_SOCKET, option).unwrap_or(*first)
        }
    };
    Ok(number.to_le_bytes().to_vec())
}
