//! The calls of socket(7).

use std::sync::Arc;

use super::address;
use super::inet::InetSocket;
use super::message::{socket_at, *};
use super::netlink::RouteSocket;
use super::options::*;
use super::socket::{Kind, Socket, SocketFile};
use super::unix::{Ucred, UnixSocket};
use crate::kernel::fs::pipe::install_pair;
use crate::kernel::fs::{AnonKind, Fd, File, OpenFlags};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{UserAddr, UserRef};

syscall_table::net_rows!(crate::kernel::syscall::dispatch_rows);

const TYPE_MASK: u32 = 0xf;
/// One past the highest type of socket Linux knows.
const TYPE_MAX: u32 = 11;
/// One past the highest protocol of the Internet Linux knows (IPPROTO_MAX).
const PROTOCOL_MAX: i32 = 263;

/// Size of `struct sockaddr_storage`, in bytes.
const ADDRESS_MAX: i32 = 128;

/// The flags in a type argument, SOCK_CLOEXEC and SOCK_NONBLOCK; EINVAL for others.
fn socket_flags(flags: u32) -> Result<OpenFlags, Errno> {
    let flags = OpenFlags::from_bits_retain(flags);
    if (OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        Ok(flags)
    } else {
        Err(Errno::EINVAL)
    }
}

/// The flags and the number in a type argument; EINVAL.
fn split_kind(kind: u32) -> Result<(i32, OpenFlags), Errno> {
    let flags = socket_flags(kind & !TYPE_MASK)?;
    let number = kind & TYPE_MASK;
    if number >= TYPE_MAX {
        return Err(Errno::EINVAL);
    }
    Ok((number.cast_signed(), flags))
}

/// Which local socket a program asks for: EPROTONOSUPPORT, ESOCKTNOSUPPORT.
fn unix_kind(number: i32, protocol: i32) -> Result<Kind, Errno> {
    if protocol != 0 && protocol != libc::PF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match number {
        libc::SOCK_STREAM => Ok(Kind::Stream),
        // Raw local sockets have always been datagram sockets.
        libc::SOCK_DGRAM | libc::SOCK_RAW => Ok(Kind::Datagram),
        libc::SOCK_SEQPACKET => Ok(Kind::SeqPacket),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// Which socket of the Internet a program asks for: EPROTONOSUPPORT, ESOCKTNOSUPPORT; EPERM for raw ones, as without CAP_NET_RAW,
/// and EACCES for those that ping(8) uses instead, as where no group may.
fn inet_kind(number: i32, protocol: i32) -> Result<Kind, Errno> {
    if !(0..PROTOCOL_MAX).contains(&protocol) {
        return Err(Errno::EINVAL);
    }
    match (number, protocol) {
        (libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => Ok(Kind::Stream),
        (libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => Ok(Kind::Datagram),
        (libc::SOCK_DGRAM, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => Err(Errno::EACCES),
        (libc::SOCK_STREAM | libc::SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
        (libc::SOCK_RAW, 0) => Err(Errno::EPROTONOSUPPORT),
        (libc::SOCK_RAW, _) => Err(Errno::EPERM),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// Which socket for questions to the kernel a program asks for: EPROTONOSUPPORT, ESOCKTNOSUPPORT.
fn route_kind(number: i32, protocol: i32) -> Result<Kind, Errno> {
    match (number, protocol) {
        (libc::SOCK_RAW, libc::NETLINK_ROUTE) => Ok(Kind::Raw),
        (libc::SOCK_DGRAM, libc::NETLINK_ROUTE) => Ok(Kind::Datagram),
        (libc::SOCK_RAW | libc::SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

fn file_of(cx: &SyscallCx<'_>, socket: Arc<dyn Socket>, flags: OpenFlags) -> Arc<File> {
    let anon = &cx.kernel.vfs.anon;
    let inode = anon.inode(&cx.kernel.clock, &cx.task.creds(), AnonKind::Socket, None);
    socket.options().lock().inode = inode.ino;
    let flags = (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR;
    anon.file_of(&inode, Arc::new(SocketFile(socket)), flags)
}

fn install(cx: &SyscallCx<'_>, file: Arc<File>, flags: OpenFlags) -> Result<i32, Errno> {
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    Ok(cx.task.files().insert(file, close_on_exec, 0, limit)?.0)
}

/// socket(2).
pub(crate) fn socket(cx: &mut SyscallCx<'_>, domain: i32, kind: u32, protocol: i32) -> SysResult<i32> {
    let (number, flags) = split_kind(kind)?;
    let socket: Arc<dyn Socket> = match domain {
        libc::AF_UNIX => UnixSocket::new(unix_kind(number, protocol)?),
        libc::AF_INET | libc::AF_INET6 => {
            let kind = inet_kind(number, protocol)?;
            InetSocket::new(&cx.kernel.net.inet, domain, kind, cx.task.creds().euid)
        }
        libc::AF_NETLINK => RouteSocket::new(route_kind(number, protocol)?),
        _ => return fail!(EAFNOSUPPORT),
    };
    let file = file_of(cx, socket, flags);
    Ok(install(cx, file, flags)?)
}

/// socketpair(2).
pub(crate) fn socketpair(
    cx: &mut SyscallCx<'_>,
    domain: i32,
    kind: u32,
    protocol: i32,
    fds: UserRef<[i32; 2]>,
) -> SysResult<()> {
    let (number, flags) = split_kind(kind)?;
    match domain {
        libc::AF_UNIX => {}
        libc::AF_INET | libc::AF_INET6 => {
            inet_kind(number, protocol)?;
            return fail!(EOPNOTSUPP);
        }
        libc::AF_NETLINK => {
            route_kind(number, protocol)?;
            return fail!(EOPNOTSUPP);
        }
        _ => return fail!(EAFNOSUPPORT),
    }
    let (one, other) = UnixSocket::pair(unix_kind(number, protocol)?, Ucred::of(cx.task));
    let files = [file_of(cx, one, flags), file_of(cx, other, flags)];
    install_pair(cx, files, flags.contains(OpenFlags::CLOEXEC), fds)
}

/// bind(2).
pub(crate) fn bind(cx: &mut SyscallCx<'_>, fd: Fd, addr: UserAddr, len: i32) -> SysResult<()> {
    let (_, socket) = socket_at(cx, fd)?;
    let address = address::read(&cx.memory, addr, len)?;
    socket.bind(cx.task, &address)
}

/// listen(2).
pub(crate) fn listen(cx: &mut SyscallCx<'_>, fd: Fd, backlog: i32) -> SysResult<()> {
    let (_, socket) = socket_at(cx, fd)?;
    socket.listen(cx.task, backlog)
}

/// connect(2).
pub(crate) fn connect(cx: &mut SyscallCx<'_>, fd: Fd, addr: UserAddr, len: i32) -> SysResult<()> {
    cx.task.files().get(fd)?;
    // Linux takes the address before it looks at what kind of file it is.
    if !(0..=ADDRESS_MAX).contains(&len) {
        return fail!(EINVAL);
    }
    let (file, socket) = socket_at(cx, fd)?;
    let address = address::read(&cx.memory, addr, len)?;
    socket.connect(cx.task, &address, file.nonblocking())
}

/// accept(2).
pub(crate) fn accept(cx: &mut SyscallCx<'_>, fd: Fd, addr: UserAddr, len: UserRef<i32>) -> SysResult<i32> {
    accept4(cx, fd, addr, len, 0)
}

/// accept4(2).
pub(crate) fn accept4(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    addr: UserAddr,
    len: UserRef<i32>,
    flags: u32,
) -> SysResult<i32> {
    cx.task.files().get(fd)?;
    let flags = socket_flags(flags)?;
    let (file, listener) = socket_at(cx, fd)?;
    // Without a number the connection stays where it is.
    cx.task
        .files()
        .check_room(cx.task.group.soft_limit(libc::RLIMIT_NOFILE))?;
    let socket = listener.accept(file.nonblocking())?;
    let name = socket.peer_name().unwrap_or_default();
    let number = install(cx, file_of(cx, socket, flags), flags)?;
    if let Err(errno) = address::write(&cx.memory, addr, len, &name) {
        let _ = cx.task.files().remove(Fd(number));
        return Err(errno.into());
    }
    Ok(number)
}

/// getsockname(2).
pub(crate) fn getsockname(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    addr: UserAddr,
    len: UserRef<i32>,
) -> SysResult<()> {
    let (_, socket) = socket_at(cx, fd)?;
    write_name(cx, addr, len, &socket.name())
}

/// getpeername(2).
pub(crate) fn getpeername(
    cx: &mut SyscallCx<'_>,
    fd: Fd,
    addr: UserAddr,
    len: UserRef<i32>,
) -> SysResult<()> {
    let (_, socket) = socket_at(cx, fd)?;
    let name = socket.peer_name()?;
    write_name(cx, addr, len, &name)
}

/// Here, unlike for accept(2), the address must be somewhere.
fn write_name(cx: &SyscallCx<'_>, addr: UserAddr, len: UserRef<i32>, name: &[u8]) -> SysResult<()> {
    if addr.is_null() {
        return fail!(EFAULT);
    }
    Ok(address::write(&cx.memory, addr, len, name)?)
}

/// shutdown(2).
pub(crate) fn shutdown(cx: &mut SyscallCx<'_>, fd: Fd, how: i32) -> SysResult<()> {
    let (_, socket) = socket_at(cx, fd)?;
    match how {
        libc::SHUT_RD => socket.shutdown(true, false)?,
        libc::SHUT_WR => socket.shutdown(false, true)?,
        libc::SHUT_RDWR => socket.shutdown(true, true)?,
        _ => return fail!(EINVAL),
    }
    Ok(())
}
