//! A unix socket of the host as a back-end: clients connect to it, one after the other.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};

use super::carry::{Stopped, carry_in, carry_out};
use super::{BackEnd, Line};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::wait::reactor::{HostWatch, Reactor};
use crate::kernel::wait::{Events, WaitQueue};

/// Clients that wait until the line is free.
const BACKLOG: i32 = 8;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// What is at the path is something else.
    #[error("it exists, and is no socket")]
    Exists,
    /// Somebody listens at it.
    #[error("another process listens at it")]
    InUse,
    /// `sun_path` is too short.
    #[error("the path is longer than the 107 bytes that a socket's may have")]
    TooLong,
    /// The host refuses.
    #[error("{}", .0.desc())]
    Host(#[from] Errno),
}

/// A listening socket, removed when this is dropped, and the client that is connected.
pub struct Socket {
    reactor: Arc<Reactor>,
    ready: WaitQueue,
    listener: UnixListener,
    /// The same, where the reactor looks.
    clients: HostWatch,
    path: PathBuf,
    /// Device and inode of the path.
    identity: Option<(u64, u64)>,
    client: Lock<Option<Client>>,
}

struct Client {
    stream: HostWatch,
    /// It sends no more, but may still read.
    sent_all: bool,
}

impl Socket {
    /// Listen at `path`; a socket there that nobody listens at any more is replaced.
    pub fn listen(
        reactor: &Arc<Reactor>,
        ready: &WaitQueue,
        path: &Path,
    ) -> Result<Box<dyn BackEnd>, SocketError> {
        let address = UnixAddr::new(path).map_err(|_| SocketError::TooLong)?;
        make_way(path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let bound: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        // Whoever connects is at the guest's terminal, so nobody else may. What is bound gets this mode.
        fchmod(&bound, Mode::S_IRUSR | Mode::S_IWUSR)?;
        bind(bound.as_raw_fd(), &address)?;
        listen(&bound, Backlog::new(BACKLOG)?)?;
        let clients = bound.try_clone().map_err(|_| Errno::EMFILE)?;
        Ok(Box::new(Socket {
            reactor: reactor.clone(),
            ready: ready.clone(),
            listener: UnixListener::from(bound),
            clients: reactor.watch(clients, ready)?,
            path: path.to_owned(),
            identity: identity(path),
            client: Lock::new(Rank::Object, None),
        }))
    }

    /// The next client, if one waits.
    fn accept(&self) -> Option<Client> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                let watch = |stream: UnixStream| {
                    stream.set_nonblocking(true).ok()?;
                    self.reactor.watch(stream.into(), &self.ready).ok()
                };
                let stream = watch(stream)?;
                Some(Client {
                    stream,
                    sent_all: false,
                })
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                self.clients.arm(Events::IN);
                None
            }
            Err(error) => {
                // Such as that there are no descriptors: asking again at once would be in vain.
                tracing::warn!("a client of a console's socket is not let in: {error}");
                None
            }
        }
    }
}

impl Client {
    /// Move bytes. False when it has left; what the line had no room for is then lost.
    fn carry(&mut self, line: &Line) -> bool {
        // All that somebody who has left has sent is there to be read.
        let has_left = self
            .stream
            .poll(Events::empty())
            .intersects(Events::HUP | Events::ERR);
        self.sent_all = self.sent_all || carry_in(&self.stream, line) == Stopped::Ended;
        if has_left || carry_out(&self.stream, line) != Ok(Stopped::Waiting) {
            return false;
        }
        self.stream.arm(Events::HUP);
        true
    }
}

impl BackEnd for Socket {
    fn carry(&self, line: &Line) {
        let mut client = self.client.lock();
        if client.is_none() {
            *client = self.accept();
            line.set_carrier(client.is_some());
        }
        if client.as_mut().is_some_and(|client| !client.carry(line)) {
            *client = None;
            line.set_carrier(false);
            self.clients.arm(Events::IN);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // It is only left behind.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Remove a socket that was left behind.
fn make_way(path: &Path) -> Result<(), SocketError> {
    let Ok(meta) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        return Err(SocketError::Exists);
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(SocketError::Host(Errno::EACCES))
        }
        _ => Err(SocketError::InUse),
    }
}
