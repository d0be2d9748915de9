//! The calls of socket(7).

use std::sync::Arc;

use super::address::{self, Given};
use super::message::{socket_at, *};
use super::options::*;
use super::unix::{Kind, SocketFile, Ucred, UnixSocket};
use crate::kernel::fs::pipe::install_pair;
use crate::kernel::fs::{AnonKind, Fd, File, OpenFlags};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{UserAddr, UserRef};

syscall_table::net_rows!(crate::kernel::syscall::dispatch_rows);

const TYPE_MASK: u32 = 0xf;
/// One past the highest type of socket Linux knows.
const TYPE_MAX: u32 = 11;

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

/// What kind of socket a program asks for; EAFNOSUPPORT for every family but AF_UNIX, as on a machine without a network.
fn kind_of(domain: i32, kind: u32, protocol: i32) -> Result<(Kind, OpenFlags), Errno> {
    let flags = socket_flags(kind & !TYPE_MASK)?;
    let number = kind & TYPE_MASK;
    if number >= TYPE_MAX {
        return Err(Errno::EINVAL);
    }
    if domain != libc::AF_UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if protocol != 0 && protocol != libc::PF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = match number.cast_signed() {
        libc::SOCK_STREAM => Kind::Stream,
        // Raw local sockets have always been datagram sockets.
        libc::SOCK_DGRAM | libc::SOCK_RAW => Kind::Datagram,
        libc::SOCK_SEQPACKET => Kind::SeqPacket,
        _ => return Err(Errno::ESOCKTNOSUPPORT),
    };
    Ok((kind, flags))
}

fn file_of(cx: &SyscallCx<'_>, socket: Arc<UnixSocket>, flags: OpenFlags) -> Arc<File> {
    cx.kernel.vfs.anon.file(
        &cx.kernel.clock,
        &cx.task.creds(),
        AnonKind::Socket,
        Arc::new(SocketFile(socket)),
        (flags & OpenFlags::NONBLOCK) | OpenFlags::RDWR,
    )
}

fn install(cx: &SyscallCx<'_>, file: Arc<File>, flags: OpenFlags) -> Result<i32, Errno> {
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    let close_on_exec = flags.contains(OpenFlags::CLOEXEC);
    Ok(cx.task.files().insert(file, close_on_exec, 0, limit)?.0)
}

/// socket(2).
pub(crate) fn socket(cx: &mut SyscallCx<'_>, domain: i32, kind: u32, protocol: i32) -> SysResult<i32> {
    let (kind, flags) = kind_of(domain, kind, protocol)?;
    let file = file_of(cx, UnixSocket::new(kind), flags);
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
    let (kind, flags) = kind_of(domain, kind, protocol)?;
    let (one, other) = UnixSocket::pair(kind, Ucred::of(cx.task));
    let files = [file_of(cx, one, flags), file_of(cx, other, flags)];
    install_pair(cx, files, flags.contains(OpenFlags::CLOEXEC), fds)
}

/// bind(2).
pub(crate) fn bind(cx: &mut SyscallCx<'_>, fd: Fd, addr: UserAddr, len: i32) -> SysResult<()> {
    let (_, socket) = socket_at(cx, fd)?;
    let address = Given::read(&cx.memory, addr, len)?;
    socket.bind(cx.task, address)
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
    let address = Given::read(&cx.memory, addr, len)?;
    socket.connect(cx.task, address, file.nonblocking())
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
    let socket = listener.accept(file.nonblocking())?;
    let name = socket.peer_name().unwrap_or_default();
    let number = install(cx, file_of(cx, socket, flags), flags)?;
    if let Err(errno) = address::write(&cx.memory, addr, len, &address::bytes_of(name.as_ref())) {
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
    let name = socket.state.lock().name.clone();
    write_name(cx, addr, len, &address::bytes_of(name.as_ref()))
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
    write_name(cx, addr, len, &address::bytes_of(name.as_ref()))
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
        libc::SHUT_RD => socket.shutdown(true, false),
        libc::SHUT_WR => socket.shutdown(false, true),
        libc::SHUT_RDWR => socket.shutdown(true, true),
        _ => return fail!(EINVAL),
    }
    Ok(())
}
