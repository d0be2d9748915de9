//! User notifications: the two kinds of host call that only the supervisor may allow, decided by their registers alone.
//!
//! A stub that shall clone, or take a descriptor, gets a random *token*. Its call shows the token, which is good once. The
//! host tells truly who calls: that is how the id of a new stub is learned.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use guest_runtime::abi::{BELL_FD, NR_HELLO};
use libc::{pid_t, seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::process::lock;

const NOTIF_RECV: u64 = 0xc050_2100;
const NOTIF_SEND: u64 = 0xc018_2101;
const NOTIF_SET_FLAGS: u64 = 0x4008_2104;
const NOTIF_ADDFD: u64 = 0x4018_2103;
const SYNC_WAKE_UP: u64 = 1;

/// What a token is good for.
#[derive(Default)]
struct Allowed {
    /// clone(2) with these flags.
    clone: Option<u64>,
    /// A hello, answered with this descriptor if there is one: at a number of its own or the lowest that is free.
    hello: Option<(Option<OwnedFd>, bool)>,
    /// Who said hello.
    caller: Option<pid_t>,
}

/// Something that a stub was told to do.
pub(super) struct Expectation {
    token: u64,
    notifier: Arc<Notifier>,
    allowed: Mutex<Allowed>,
    changed: Condvar,
}

impl Expectation {
    pub(super) fn token(&self) -> u64 {
        self.token
    }

    /// Wait for the hello; the host's id of who said it. None when it did not come in time.
    pub(super) fn caller(&self, timeout: Duration, give_up: impl Fn() -> bool) -> Option<pid_t> {
        let mut left = timeout;
        let step = Duration::from_millis(50);
        let mut allowed = lock(&self.allowed);
        loop {
            if let Some(pid) = allowed.caller {
                return Some(pid);
            }
            if left.is_zero() || give_up() {
                return None;
            }
            let waited = self.changed.wait_timeout(allowed, step);
            allowed = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
            left = left.saturating_sub(step);
        }
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        lock(&self.notifier.expected).remove(&self.token);
    }
}

/// The listener and what is expected on it.
pub(super) struct Notifier {
    listener: OwnedFd,
    expected: Mutex<HashMap<u64, std::sync::Weak<Expectation>>>,
}

impl Notifier {
    /// Serve `listener` on a thread of its own until no stub is left.
    pub(super) fn start(listener: OwnedFd) -> Result<Arc<Notifier>, Errno> {
        // SAFETY: a plain number as argument. Hosts before Linux 6.6 lack it, and are a little slower.
        unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
        let notifier = Arc::new(Notifier {
            listener,
            expected: Mutex::default(),
        });
        let serving = Arc::clone(&notifier);
        let spawned = thread::Builder::new()
            .name("notifications".into())
            .spawn(move || serving.serve());
        spawned.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EAGAIN)))?;
        Ok(notifier)
    }

    /// Expect a clone with `flags`, if given, and then a hello, if given, answered with a descriptor.
    pub(super) fn expect(
        self: &Arc<Self>,
        clone: Option<u64>,
        hello: Option<Option<OwnedFd>>,
    ) -> Result<Arc<Expectation>, Errno> {
        let mut token = getrandom::u64().map_err(|_| Errno::EAGAIN)?;
        // 0 stands for no token.
        token |= 1;
        let fixed = clone.is_some();
        let allowed = Allowed {
            clone,
            hello: hello.map(|fd| (fd, fixed)),
            caller: None,
        };
        let expectation = Arc::new(Expectation {
            token,
            notifier: Arc::clone(self),
            allowed: Mutex::new(allowed),
            changed: Condvar::new(),
        });
        lock(&self.expected).insert(token, Arc::downgrade(&expectation));
        Ok(expectation)
    }

    fn serve(&self) {
        loop {
            let mut fds = [PollFd::new(
                std::os::fd::AsFd::as_fd(&self.listener),
                PollFlags::POLLIN,
            )];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            let events = fds[0].revents().unwrap_or(PollFlags::empty());
            if events.contains(PollFlags::POLLIN) {
                self.receive();
            } else if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
                // No process has the filter any more.
                return;
            }
        }
    }

    fn receive(&self) {
        // SAFETY: all zero is what the host wants to find.
        let mut notification: seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: a live local of the right type.
        let rc = unsafe { libc::ioctl(self.listener.as_raw_fd(), NOTIF_RECV, &raw mut notification) };
        if rc != 0 {
            // The caller was killed meanwhile.
            return;
        }
        let id = notification.id;
        let args = notification.data.args;
        let number = i64::from(notification.data.nr);
        let caller = notification.pid as pid_t;
        let answered = if number == libc::SYS_clone {
            self.may_clone(&args).map(|()| self.send(id, 0, true))
        } else if number == NR_HELLO as i64 {
            self.hello(id, args[0], caller)
        } else {
            None
        };
        if answered.is_none() {
            self.send(id, libc::EPERM, false);
        }
    }

    fn find(&self, token: u64) -> Option<Arc<Expectation>> {
        lock(&self.expected).get(&token)?.upgrade()
    }

    /// Whether this is the clone that was asked for: no pointer that the host would write an id to, and no other flags.
    fn may_clone(&self, args: &[u64; 6]) -> Option<()> {
        let expectation = self.find(args[5])?;
        let mut allowed = lock(&expectation.allowed);
        if allowed.clone? != args[0] || args[2] != 0 || args[4] != 0 {
            return None;
        }
        allowed.clone = None;
        Some(())
    }

    fn hello(&self, id: u64, token: u64, caller: pid_t) -> Option<()> {
        let expectation = self.find(token)?;
        let mut allowed = lock(&expectation.allowed);
        if allowed.clone.is_some() {
            return None;
        }
        let (fd, fixed) = allowed.hello.take()?;
        allowed.caller = Some(caller);
        drop(allowed);
        match fd {
            Some(fd) => self.hand_in(id, &fd, fixed)?,
            None => self.send(id, 0, false),
        }
        expectation.changed.notify_all();
        Some(())
    }

    /// Give the caller a copy of `fd`, whose number its call returns.
    fn hand_in(&self, id: u64, fd: &OwnedFd, fixed: bool) -> Option<()> {
        const SETFD: u32 = 1;
        const SEND: u32 = 2;
        let request = seccomp_notif_addfd {
            id,
            flags: if fixed { SETFD | SEND } else { SEND },
            srcfd: fd.as_raw_fd() as u32,
            newfd: if fixed { BELL_FD as u32 } else { 0 },
            newfd_flags: 0,
        };
        // SAFETY: a live local of the right type.
        let rc = unsafe { libc::ioctl(self.listener.as_raw_fd(), NOTIF_ADDFD, &raw const request) };
        (rc >= 0).then_some(())
    }

    fn send(&self, id: u64, errno: i32, go_on: bool) {
        // Only for calls without pointers that the host reads: what is decided here cannot change afterwards.
        let flags = if go_on {
            libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32
        } else {
            0
        };
        let response = seccomp_notif_resp {
            id,
            val: 0,
            error: -errno,
            flags,
        };
        // SAFETY: a live local of the right type. A caller that is gone needs no answer.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), NOTIF_SEND, &raw const response) };
    }
}
