//! User notifications: the two kinds of host call that only the supervisor may allow, decided by their registers alone.
//!
//! A stub that shall clone, or take a descriptor, gets a random *token*. Its call shows the token, which is good once. The
//! host tells truly who calls: that is how the id of a new stub is learned.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use guest_runtime::abi::{BELL_FD, NR_HELLO};
use libc::{pid_t, seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use zerocopy::IntoBytes;

use super::process::lock;

const NOTIF_RECV: u64 = 0xc050_2100;
const NOTIF_SEND: u64 = 0xc018_2101;
const NOTIF_SET_FLAGS: u64 = 0x4008_2104;
const NOTIF_ADDFD: u64 = 0x4018_2103;
const SYNC_WAKE_UP: u64 = 1;

/// How long to listen before looking whether what is expected can still come.
const STEP: u16 = 20;

/// How many tokens are drawn at once.
const TOKENS: usize = 32;

/// What a token is good for.
#[derive(Default)]
struct Allowed {
    /// clone(2) with these flags.
    clone: Option<u64>,
    /// A hello, answered with this descriptor, which gets this number, or with none.
    hello: Option<Option<(OwnedFd, u32)>>,
    /// Who said hello.
    caller: Option<pid_t>,
    /// Something happened that its owner should look at.
    called: bool,
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

    /// The host's id of who said hello.
    pub(super) fn caller(&self) -> Option<pid_t> {
        lock(&self.allowed).caller
    }

    /// Whether the clone that was expected was let through.
    pub(super) fn was_cloned(&self) -> bool {
        lock(&self.allowed).clone.is_none()
    }

    /// Serve notifications, or let another thread that waits here do so, until all that is expected has come or, looked
    /// at now and then, `give_up` says so.
    pub(super) fn wait(self: &Arc<Self>, give_up: impl Fn() -> bool) {
        let mut leading = false;
        let mut looked = Instant::now();
        while !self.is_over() {
            leading = leading || self.notifier.lead(self);
            let heard = if leading {
                self.notifier.serve()
            } else {
                self.listen()
            };
            // Anybody may call without an end.
            if !heard || looked.elapsed() > Duration::from_millis(u64::from(STEP)) {
                if give_up() {
                    break;
                }
                looked = Instant::now();
            }
        }
        self.notifier.leave(self, leading);
    }

    fn is_over(&self) -> bool {
        let allowed = lock(&self.allowed);
        allowed.clone.is_none() && allowed.hello.is_none()
    }

    /// Wait for the thread that leads. False when nothing came.
    fn listen(&self) -> bool {
        let mut allowed = lock(&self.allowed);
        if !allowed.called {
            let step = Duration::from_millis(u64::from(STEP));
            let waited = self.changed.wait_timeout(allowed, step);
            allowed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut allowed.called)
    }

    fn call(&self) {
        lock(&self.allowed).called = true;
        self.changed.notify_one();
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        lock(&self.notifier.expected).remove(&self.token);
    }
}

/// The listener and what is expected on it.
///
/// There is no thread that serves it: of those that expect something one *leads*, receives whoever's notification comes
/// next, and hands on when it has its own. So what a stub asks for out of turn waits until somebody expects something.
pub(super) struct Notifier {
    listener: OwnedFd,
    expected: Mutex<HashMap<u64, Weak<Expectation>>>,
    /// Drawn, and not given to anybody yet.
    tokens: Mutex<Vec<u64>>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    led: bool,
    /// Who waits for the leader.
    waiting: VecDeque<Arc<Expectation>>,
}

impl Notifier {
    pub(super) fn new(listener: OwnedFd) -> Arc<Notifier> {
        // SAFETY: a plain number as argument. Hosts before Linux 6.6 lack it, and are a little slower.
        unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
        Arc::new(Notifier {
            listener,
            expected: Mutex::default(),
            tokens: Mutex::default(),
            queue: Mutex::default(),
        })
    }

    /// Lead, unless somebody does; then be called when that one leaves.
    fn lead(&self, who: &Arc<Expectation>) -> bool {
        let mut queue = lock(&self.queue);
        if queue.led {
            if !queue.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, who)) {
                queue.waiting.push_back(Arc::clone(who));
            }
            return false;
        }
        queue.waiting.retain(|waiting| !Arc::ptr_eq(waiting, who));
        queue.led = true;
        true
    }

    /// Wait no longer, and call the next if it was `leading`.
    fn leave(&self, who: &Arc<Expectation>, leading: bool) {
        let mut queue = lock(&self.queue);
        if leading {
            queue.led = false;
        }
        queue.waiting.retain(|waiting| !Arc::ptr_eq(waiting, who));
        let next = if queue.led {
            None
        } else {
            queue.waiting.pop_front()
        };
        drop(queue);
        if let Some(next) = next {
            next.call();
        }
    }

    /// Expect a clone with `flags` of a thread of the same host process.
    pub(super) fn expect_thread(self: &Arc<Self>, flags: u64) -> Result<Arc<Expectation>, Errno> {
        self.expect(Some(flags), None)
    }

    /// Expect a clone with `flags`, and then a hello of the new host process, answered with its doorbell memory if it has one.
    pub(super) fn expect_process(
        self: &Arc<Self>,
        flags: u64,
        bell: Option<OwnedFd>,
    ) -> Result<Arc<Expectation>, Errno> {
        self.expect(Some(flags), Some(bell.map(|fd| (fd, BELL_FD as u32))))
    }

    /// Expect a hello, answered with a descriptor of this number.
    pub(super) fn expect_at(self: &Arc<Self>, fd: OwnedFd, number: u32) -> Result<Arc<Expectation>, Errno> {
        self.expect(None, Some(Some((fd, number))))
    }

    fn expect(
        self: &Arc<Self>,
        clone: Option<u64>,
        hello: Option<Option<(OwnedFd, u32)>>,
    ) -> Result<Arc<Expectation>, Errno> {
        let token = self.token()?;
        let allowed = Allowed {
            clone,
            hello,
            ..Allowed::default()
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

    /// A random number that nobody can guess, and not 0, which stands for no token.
    fn token(&self) -> Result<u64, Errno> {
        let mut tokens = lock(&self.tokens);
        if tokens.is_empty() {
            let mut drawn = [0u64; TOKENS];
            getrandom::fill(drawn.as_mut_bytes()).map_err(|_| Errno::EAGAIN)?;
            tokens.extend(drawn.map(|token| token | 1));
        }
        tokens.pop().ok_or(Errno::EAGAIN)
    }

    /// Wait for a notification and decide it. False when none came.
    fn serve(&self) -> bool {
        let mut fds = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        if !matches!(poll(&mut fds, STEP), Ok(1..)) {
            return false;
        }
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        let came = events.contains(PollFlags::POLLIN);
        if came {
            self.receive();
        }
        came
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
        drop(allowed);
        expectation.call();
        Some(())
    }

    fn hello(&self, id: u64, token: u64, caller: pid_t) -> Option<()> {
        let expectation = self.find(token)?;
        let mut allowed = lock(&expectation.allowed);
        if allowed.clone.is_some() {
            return None;
        }
        let given = allowed.hello.take()?;
        allowed.caller = Some(caller);
        drop(allowed);
        expectation.call();
        match given {
            Some((fd, number)) => self.hand_in(id, &fd, number)?,
            None => self.send(id, 0, false),
        }
        Some(())
    }

    /// Give the caller a copy of `fd` with this number, which its call returns. What had the number is closed.
    fn hand_in(&self, id: u64, fd: &OwnedFd, number: u32) -> Option<()> {
        const SETFD: u32 = 1;
        const SEND: u32 = 2;
        let request = seccomp_notif_addfd {
            id,
            flags: SETFD | SEND,
            srcfd: fd.as_raw_fd() as u32,
            newfd: number,
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
