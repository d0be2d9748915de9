//! What the calls of socket(7) ask of every family, and the open file of a socket.

use std::sync::Arc;

use super::interface;
use super::options::Options;
use super::unix::{Ucred, UnixSocket};
use crate::kernel::fs::{File, FileOps};
use crate::kernel::stop::{Errno, Stop, SysResult};
use crate::kernel::sync::Lock;
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Task, current, current_deadline};
use crate::kernel::user_memory::{Sink, Source, UserAddr};
use crate::kernel::wait::{Events, OnSignal, WaitFor, WaitQueue};

/// Type of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// SOCK_STREAM
    Stream,
    /// SOCK_DGRAM
    Datagram,
    /// SOCK_SEQPACKET
    SeqPacket,
    /// SOCK_RAW, of AF_NETLINK alone.
    Raw,
}

impl Kind {
    /// Whether it listens and accepts.
    pub fn connects(self) -> bool {
        matches!(self, Kind::Stream | Kind::SeqPacket)
    }

    /// As SO_TYPE gives it.
    pub fn number(self) -> i32 {
        match self {
            Kind::Stream => libc::SOCK_STREAM,
            Kind::Datagram => libc::SOCK_DGRAM,
            Kind::SeqPacket => libc::SOCK_SEQPACKET,
            Kind::Raw => libc::SOCK_RAW,
        }
    }
}

/// What goes along with sent bytes.
pub(in crate::kernel::net) struct Outgoing {
    pub(in crate::kernel::net) nonblocking: bool,
    /// EPIPE raises no SIGPIPE (MSG_NOSIGNAL).
    pub(in crate::kernel::net) no_signal: bool,
    /// Address of the receiver as the guest gave it, when it is not the peer.
    pub(in crate::kernel::net) to: Option<Vec<u8>>,
    /// Credentials the sender chose (SCM_CREDENTIALS).
    pub(in crate::kernel::net) cred: Option<Ucred>,
    /// SCM_RIGHTS; leaves with the first byte.
    pub(in crate::kernel::net) files: Vec<Arc<File>>,
}

impl Outgoing {
    /// Nothing but bytes.
    pub(in crate::kernel::net) fn plain(nonblocking: bool) -> Outgoing {
        Outgoing {
            nonblocking,
            no_signal: false,
            to: None,
            cred: None,
            files: Vec::new(),
        }
    }
}

/// How to receive.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::kernel::net) struct ReceiveFlags {
    pub(in crate::kernel::net) nonblocking: bool,
    /// MSG_PEEK
    pub(in crate::kernel::net) peek: bool,
    /// MSG_WAITALL
    pub(in crate::kernel::net) wait_all: bool,
}

/// A control message: level, type, data.
pub(in crate::kernel::net) type ControlMessage = (i32, i32, Vec<u8>);

/// What was received.
#[derive(Default)]
pub(in crate::kernel::net) struct Received {
    /// Bytes copied.
    pub(in crate::kernel::net) length: usize,
    /// Bytes the message had.
    pub(in crate::kernel::net) full_length: usize,
    /// The sender's address as guests are given it; empty for none.
    pub(in crate::kernel::net) from: Vec<u8>,
    pub(in crate::kernel::net) files: Vec<Arc<File>>,
    pub(in crate::kernel::net) control: Vec<ControlMessage>,
}

/// A socket of some family. Addresses are the bytes that guests give and get.
pub(in crate::kernel::net) trait Socket: Send + Sync {
    fn kind(&self) -> Kind;

    /// SO_DOMAIN.
    fn domain(&self) -> i32;

    /// SO_PROTOCOL.
    fn protocol(&self) -> i32 {
        0
    }

    fn options(&self) -> &Lock<Options>;

    fn bind(&self, task: &Task, address: &[u8]) -> SysResult<()>;

    fn listen(&self, task: &Task, backlog: i32) -> SysResult<()> {
        let _ = (task, backlog);
        Err(Errno::EOPNOTSUPP.into())
    }

    fn connect(&self, task: &Task, address: &[u8], nonblocking: bool) -> SysResult<()>;

    fn accept(&self, nonblocking: bool) -> SysResult<Arc<dyn Socket>> {
        let _ = nonblocking;
        Err(Errno::EOPNOTSUPP.into())
    }

    fn name(&self) -> Vec<u8>;

    /// ENOTCONN.
    fn peer_name(&self) -> Result<Vec<u8>, Errno>;

    /// ENOTCONN.
    fn shutdown(&self, read: bool, write: bool) -> Result<(), Errno>;

    /// A stream that has to wait in the middle blocks with `from` stepped over what is gone.
    fn send(&self, from: &mut dyn Source, outgoing: &mut Outgoing) -> SysResult<usize>;

    fn receive(&self, to: &mut dyn Sink, flags: ReceiveFlags) -> SysResult<Received>;

    fn poll(&self) -> Events;

    fn queues(&self, interest: Events) -> Vec<(WaitQueue, Events)>;

    /// FIONREAD; EINVAL when it listens.
    fn unread(&self) -> Result<usize, Errno>;

    /// SIOCOUTQ; EINVAL when it listens.
    fn unsent(&self) -> Result<usize, Errno>;

    /// SO_SNDBUF.
    fn send_buffer(&self) -> usize;

    fn set_send_buffer(&self, bytes: usize);

    /// SO_ERROR: reported once.
    fn take_error(&self) -> Option<Errno>;

    /// SO_ACCEPTCONN.
    fn is_listening(&self) -> bool {
        false
    }

    /// SO_PEERCRED.
    fn peer_cred(&self) -> Ucred {
        Ucred::NOBODY
    }

    /// An option of the family's own, or one of SOL_SOCKET that not all have: EOPNOTSUPP, ENOPROTOOPT.
    fn set_option(&self, task: &Task, level: i32, option: i32, value: &[u8]) -> Result<(), Errno> {
        let _ = (task, option, value);
        Err(unknown_option(level))
    }

    /// See [`Socket::set_option`].
    fn option(&self, level: i32, option: i32) -> Result<Vec<u8>, Errno> {
        let _ = option;
        Err(unknown_option(level))
    }

    /// The last descriptor is gone.
    fn close(&self);

    fn as_unix(&self) -> Option<&UnixSocket> {
        None
    }
}

/// What an option that nobody knows is answered with.
pub(super) fn unknown_option(level: i32) -> Errno {
    if level == libc::SOL_SOCKET {
        Errno::ENOPROTOOPT
    } else {
        Errno::EOPNOTSUPP
    }
}

/// Wait, or fail at once: EAGAIN when the caller does not wait or has waited long enough (`timeout` in nanoseconds).
pub(super) fn block(nonblocking: bool, timeout: Option<u64>, wait: WaitFor) -> Stop {
    if nonblocking {
        return Errno::EAGAIN.into();
    }
    let (Some(timeout), Some(task)) = (timeout, current()) else {
        return wait.into();
    };
    let now = task.kernel.clock.now();
    let deadline = current_deadline().unwrap_or_else(|| now.after(timeout));
    if now >= deadline {
        return Errno::EAGAIN.into();
    }
    wait.until(Some(deadline)).on_signal(OnSignal::Eintr).into()
}

/// The operations of an open socket; closes it when dropped.
pub(in crate::kernel::net) struct SocketFile(pub(in crate::kernel::net) Arc<dyn Socket>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl FileOps for SocketFile {
    fn read(&self, file: &File, _: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        // Unlike recv(2), read(2) of nothing neither waits nor takes a message.
        if to.remaining() == 0 {
            return Ok(0);
        }
        let flags = ReceiveFlags {
            nonblocking: file.nonblocking(),
            ..ReceiveFlags::default()
        };
        Ok(self.0.receive(to, flags)?.length)
    }

    fn write(&self, file: &File, _: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let mut outgoing = Outgoing::plain(file.nonblocking());
        self.0.send(from, &mut outgoing)
    }

    fn poll(&self, _: &File) -> Events {
        self.0.poll()
    }

    fn queues(&self, _: &File, interest: Events) -> Vec<(WaitQueue, Events)> {
        self.0.queues(interest)
    }

    fn ioctl(&self, cx: &mut SyscallCx<'_>, _: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        let value = match u64::from(request) {
            libc::FIONREAD => self.0.unread()?,
            libc::TIOCOUTQ => self.0.unsent()?,
            _ => return interface::ioctl(cx, &*self.0, request, UserAddr(arg)),
        };
        let value = i32::try_from(value).unwrap_or(i32::MAX);
        cx.memory.write(UserAddr(arg).cast(), &value)?;
        Ok(0)
    }
}
