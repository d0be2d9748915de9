//! Names and connections: bind(2), listen(2), connect(2), accept(2).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use super::{Kind, Phase, Ucred, UnixSocket};
use crate::kernel::fs::access::{self, Access};
use crate::kernel::fs::walk::{WalkCx, WalkFlags};
use crate::kernel::fs::{FileType, create};
use crate::kernel::net::SOMAXCONN;
use crate::kernel::net::address::{Given, UnixAddress};
use crate::kernel::net::socket::block;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank, lock_two};
use crate::kernel::task::Task;
use crate::kernel::wait::{Events, WaitFor};

/// Numbers that automatic names are made of.
const AUTOMATIC: u32 = 1 << 20;

/// Sockets by name. One that is gone is forgotten when its name is looked up or taken again.
pub struct Names(Lock<Tables>);

#[derive(Default)]
struct Tables {
    /// Abstract names, of which each type of socket has its own.
    abstracts: HashMap<(Kind, Vec<u8>), Weak<UnixSocket>>,
    /// Paths, by device and inode number.
    inodes: HashMap<(u64, u64), Weak<UnixSocket>>,
    next_automatic: u32,
    /// At this many names, those of sockets that are gone are looked for.
    prune_at: usize,
}

impl Default for Names {
    fn default() -> Self {
        Names(Lock::new(Rank::Table, Tables::default()))
    }
}

/// A closed socket may be kept by its peer for a while; its name is free by then.
fn is_open(socket: &Weak<UnixSocket>) -> bool {
    socket.upgrade().is_some_and(|s| !s.is_closed())
}

impl Names {
    fn bind_abstract(&self, name: Vec<u8>, socket: &UnixSocket) -> Result<(), Errno> {
        let mut tables = self.0.lock();
        tables.prune();
        let key = (socket.kind, name);
        if tables.abstracts.get(&key).is_some_and(is_open) {
            return Err(Errno::EADDRINUSE);
        }
        tables.abstracts.insert(key, socket.me.clone());
        Ok(())
    }

    fn bind_automatic(&self, socket: &UnixSocket) -> Result<UnixAddress, Errno> {
        for _ in 0..AUTOMATIC {
            let number = {
                let mut tables = self.0.lock();
                tables.next_automatic = (tables.next_automatic + 1) % AUTOMATIC;
                tables.next_automatic
            };
            let name = format!("{number:05x}").into_bytes();
            if self.bind_abstract(name.clone(), socket).is_ok() {
                return Ok(UnixAddress::Abstract(name));
            }
        }
        Err(Errno::ENOSPC)
    }

    fn bind_inode(&self, key: (u64, u64), socket: &UnixSocket) {
        let mut tables = self.0.lock();
        tables.prune();
        tables.inodes.insert(key, socket.me.clone());
    }
}

impl Tables {
    fn prune(&mut self) {
        if self.abstracts.len() + self.inodes.len() >= self.prune_at.max(64) {
            self.abstracts.retain(|_, s| is_open(s));
            self.inodes.retain(|_, s| is_open(s));
            self.prune_at = 2 * (self.abstracts.len() + self.inodes.len());
        }
    }
}

impl UnixSocket {
    /// bind(2): EINVAL when it has a name, EADDRINUSE, and what making a file can give.
    pub(super) fn bind_to(&self, task: &Task, address: Given) -> SysResult<()> {
        let names = &task.kernel.net.unix;
        if self.state.lock().name.is_some() {
            return match address {
                Given::Any => Ok(()),
                Given::Name(UnixAddress::Path(path)) => Err(refuse_second_name(task, &path).into()),
                _ => fail!(EINVAL),
            };
        }
        let mut inode = None;
        let name = match address {
            Given::Unspecified => return fail!(EINVAL),
            Given::Any => names.bind_automatic(self)?,
            Given::Name(UnixAddress::Abstract(name)) => {
                names.bind_abstract(name.clone(), self)?;
                UnixAddress::Abstract(name)
            }
            Given::Name(UnixAddress::Path(path)) => {
                let made = make_node(task, &path)?;
                let meta = made.metadata()?;
                let key = (meta.dev, meta.ino);
                names.bind_inode(key, self);
                inode = Some((key, made));
                UnixAddress::Path(path)
            }
        };
        let mut state = self.state.lock();
        if state.name.is_some() {
            // Another thread was faster.
            return fail!(EINVAL);
        }
        state.name = Some(name);
        state.bound_inode = inode;
        Ok(())
    }

    /// listen(2): EOPNOTSUPP for datagrams, EINVAL without a name or when connected.
    pub(super) fn begin_listening(&self, task: &Task, backlog: i32) -> SysResult<()> {
        if !self.kind.connects() {
            return fail!(EOPNOTSUPP);
        }
        // A negative one is as good as none, and Linux compares it as unsigned.
        let wanted = usize::try_from(backlog).map_or(SOMAXCONN, |b| b.min(SOMAXCONN));
        {
            let mut state = self.state.lock();
            if state.name.is_none() {
                return fail!(EINVAL);
            }
            match &mut state.phase {
                Phase::Listening { backlog, .. } => *backlog = wanted,
                Phase::Unconnected => {
                    state.phase = Phase::Listening {
                        backlog: wanted,
                        pending: VecDeque::new(),
                    };
                }
                Phase::Connected(_) => return fail!(EINVAL),
            }
            state.own_cred = Some(Ucred::of(task));
        }
        self.queue.notify(Events::WRITE);
        Ok(())
    }

    /// connect(2).
    pub(super) fn connect_to(&self, task: &Task, address: Given, nonblocking: bool) -> SysResult<()> {
        if self.kind == Kind::Datagram {
            return self.connect_datagram(task, address);
        }
        let target = find(task, self.kind, &address.name()?)?;
        let cred = Ucred::of(task);
        let me = self.me.upgrade().ok_or(Errno::ENOTCONN)?;
        if std::ptr::eq(&*target, self) {
            return match self.state.lock().phase {
                Phase::Listening { .. } => fail!(EINVAL),
                _ => fail!(ECONNREFUSED),
            };
        }
        {
            // Both at once: who accepts the connection, or refuses it by closing, finds this end connected.
            let (mut own, mut listener) = lock_two(&self.state, &target.state);
            match own.phase {
                Phase::Unconnected => {}
                Phase::Connected(_) => return fail!(EISCONN),
                Phase::Listening { .. } => return fail!(EINVAL),
            }
            let (name, listener_cred, closed) =
                (listener.name.clone(), listener.own_cred, listener.shut_read);
            let Phase::Listening { backlog, pending } = &mut listener.phase else {
                return fail!(ECONNREFUSED);
            };
            if closed {
                return fail!(ECONNREFUSED);
            }
            if pending.len() > *backlog {
                let wait = WaitFor::queue(&target.queue, Events::WRITE);
                drop((own, listener));
                let timeout = self.options.lock().send_timeout;
                return Err(block(nonblocking, timeout, wait));
            }
            let server = UnixSocket::new(self.kind);
            {
                // Nobody else knows the new socket yet, so this lock cannot be waited for.
                let mut state = server.state.lock_nested();
                state.phase = Phase::Connected(me);
                state.peer_cred = cred;
                state.name = name;
            }
            pending.push_back(server.clone());
            own.phase = Phase::Connected(server);
            own.own_cred = Some(cred);
            own.peer_cred = listener_cred.unwrap_or(Ucred::NOBODY);
        }
        target.queue.notify(Events::READ);
        self.queue.notify(Events::WRITE);
        Ok(())
    }

    fn connect_datagram(&self, task: &Task, address: Given) -> SysResult<()> {
        let phase = match address {
            Given::Unspecified => Phase::Unconnected,
            address => {
                let target = find(task, self.kind, &address.name()?)?;
                if !target.may_receive_from(self) {
                    return fail!(EPERM);
                }
                Phase::Connected(target)
            }
        };
        let old = std::mem::replace(&mut self.state.lock().phase, phase);
        drop(old);
        self.queue.notify(Events::WRITE);
        Ok(())
    }

    /// Whether a datagram socket is not connected to somebody else.
    pub(super) fn may_receive_from(&self, sender: &UnixSocket) -> bool {
        match &self.state.lock().phase {
            Phase::Connected(peer) => std::ptr::eq(&**peer, sender),
            _ => true,
        }
    }

    /// The next connection for accept(2): EINVAL when it does not listen, EOPNOTSUPP for datagrams.
    pub(super) fn next_connection(&self, nonblocking: bool) -> SysResult<Arc<UnixSocket>> {
        if !self.kind.connects() {
            return fail!(EOPNOTSUPP);
        }
        let (accepted, wait) = {
            let mut state = self.state.lock();
            let Phase::Listening { pending, .. } = &mut state.phase else {
                return fail!(EINVAL);
            };
            let accepted = pending.pop_front();
            if accepted.is_none() && state.shut_read {
                return fail!(EINVAL);
            }
            (accepted, WaitFor::queue(&self.queue, Events::READ))
        };
        match accepted {
            Some(accepted) => {
                self.queue.notify(Events::WRITE);
                Ok(accepted)
            }
            None => {
                let timeout = self.options.lock().receive_timeout;
                Err(block(nonblocking, timeout, wait))
            }
        }
    }
}

/// The open socket with a name: ECONNREFUSED, EPROTOTYPE, and what walking a path can give.
pub(super) fn find(task: &Task, kind: Kind, name: &UnixAddress) -> Result<Arc<UnixSocket>, Errno> {
    let names = &task.kernel.net.unix;
    let found = match name {
        UnixAddress::Abstract(name) => {
            let tables = names.0.lock();
            tables
                .abstracts
                .get(&(kind, name.clone()))
                .and_then(Weak::upgrade)
        }
        UnixAddress::Path(path) => {
            let at = WalkCx::of(task).lookup(None, path, WalkFlags::FOLLOW)?;
            access::may_at(&task.creds(), &at, Access::WRITE)?;
            if at.inode().file_type() != FileType::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            let meta = at.inode().metadata()?;
            names
                .0
                .lock()
                .inodes
                .get(&(meta.dev, meta.ino))
                .and_then(Weak::upgrade)
        }
    };
    let socket = found.ok_or(Errno::ECONNREFUSED)?;
    if socket.is_closed() {
        return Err(Errno::ECONNREFUSED);
    }
    if socket.kind != kind {
        return Err(Errno::EPROTOTYPE);
    }
    Ok(socket)
}

/// Why a socket that has a name gets no other: as Linux, which makes the node first, say what that would meet.
fn refuse_second_name(task: &Task, path: &[u8]) -> Errno {
    match WalkCx::of(task).lookup(None, path, WalkFlags::empty()) {
        Ok(_) => Errno::EADDRINUSE,
        Err(Errno::ENOENT) => Errno::EINVAL,
        Err(errno) => errno,
    }
}

/// Make the node of a path for bind(2): EADDRINUSE when there is something.
fn make_node(task: &Task, path: &[u8]) -> SysResult<Arc<dyn crate::kernel::fs::Inode>> {
    let parent = WalkCx::of(task).parent(None, path, WalkFlags::empty())?;
    let name = parent.name(Errno::EADDRINUSE)?;
    match create::node(task, &parent.dir, name, libc::S_IFSOCK | 0o777, 0) {
        Ok(path) => Ok(path.inode().clone()),
        Err(Errno::EEXIST) => fail!(EADDRINUSE),
        Err(errno) => Err(errno.into()),
    }
}
