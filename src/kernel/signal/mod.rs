//! Signals: signal(7), sigaction(2).
//!
//! All 64 are virtual: nothing of the host's delivery is used. Sending queues and kicks; a task looks at what is pending
//! for it whenever it is about to return to guest code ([`deliver()`]).

use std::sync::Arc;

use super::sync::{Lock, Rank};

mod deliver;
mod frame;
mod info;
mod pending;
mod send;
mod syscalls;

pub(in crate::kernel) use deliver::deliver;
pub use deliver::{Delivery, is_pending};
pub use info::{SigFields, SigInfo};
pub use pending::PendingSignals;
pub use send::{force, hand_on, send_in_tree, send_to_group, send_to_pgrp, send_to_task};
pub(in crate::kernel) use syscalls::dispatch;

/// A signal number, 1 to 64.
pub type Signal = i32;

/// A set of signals: bit n-1 is signal n.
pub type SigSet = u64;

/// The set holding just `signal`.
pub const fn bit(signal: Signal) -> SigSet {
    1 << (signal - 1)
}

/// Signals that cannot be blocked, caught or ignored.
pub const UNBLOCKABLE: SigSet = bit(libc::SIGKILL) | bit(libc::SIGSTOP);

/// Signals that stop a process by default.
pub const STOPPING: SigSet =
    bit(libc::SIGSTOP) | bit(libc::SIGTSTP) | bit(libc::SIGTTIN) | bit(libc::SIGTTOU);

/// What is done about one signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigAction {
    /// SIG_DFL (0), SIG_IGN (1) or the handler's address.
    pub handler: u64,
    /// SA_* flags.
    pub flags: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: SigSet,
}

/// Signal handlers, shared by threads (CLONE_SIGHAND).
pub struct SigHand {
    /// By signal number less one.
    pub actions: Lock<[SigAction; 64]>,
}

impl SigHand {
    /// All default.
    pub fn new() -> Arc<SigHand> {
        Arc::new(SigHand {
            actions: Lock::new(Rank::Signal, [SigAction::default(); 64]),
        })
    }
}

/// The alternate signal stack of a thread (sigaltstack(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltStack {
    /// Lowest address.
    pub base: u64,
    /// SS_* flags.
    pub flags: i32,
    /// Size in bytes.
    pub size: u64,
}

impl Default for AltStack {
    fn default() -> Self {
        AltStack {
            base: 0,
            flags: libc::SS_DISABLE,
            size: 0,
        }
    }
}

/// One thread's side of signals.
#[derive(Clone, Debug, Default)]
pub struct SignalState {
    /// Blocked signals.
    pub mask: SigSet,
    /// Signals sent to this thread alone.
    pub pending: PendingSignals,
    /// Alternate stack.
    pub altstack: AltStack,
}

/// SIG_DFL.
pub const SIG_DFL: u64 = 0;
/// SIG_IGN.
pub const SIG_IGN: u64 = 1;

const SA_NOCLDSTOP: u64 = 0x1;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_ONSTACK: u64 = 0x0800_0000;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;
const SA_RESETHAND: u64 = 0x8000_0000;

/// Children that end are not kept for wait(2).
pub const SA_NOCLDWAIT: u64 = 0x2;

/// Forget the alternate stack while a handler runs (sigaltstack(2)).
const SS_AUTODISARM: i32 = i32::MIN;
/// Smallest alternate stack (MINSIGSTKSZ), in bytes.
const MINSIGSTKSZ: u64 = 2048;

impl SigHand {
    /// What is done about `signal`.
    pub fn action(&self, signal: Signal) -> SigAction {
        let index = usize::try_from(signal - 1).unwrap_or(usize::MAX);
        self.actions.lock_nested().get(index).copied().unwrap_or_default()
    }

    /// Change what is done about `signal`.
    pub fn update(&self, signal: Signal, change: impl FnOnce(&mut SigAction)) {
        let index = usize::try_from(signal - 1).unwrap_or(usize::MAX);
        if let Some(action) = self.actions.lock().get_mut(index) {
            change(action);
        }
    }

    /// A copy of its own (fork without CLONE_SIGHAND).
    pub fn copy(&self) -> Arc<SigHand> {
        Arc::new(SigHand {
            actions: Lock::new(Rank::Signal, *self.actions.lock()),
        })
    }

    /// As exec(2) leaves it: handlers become default, what was ignored stays ignored.
    pub fn after_exec(&self) -> Arc<SigHand> {
        let kept = self.actions.lock().map(|a| {
            let handler = if a.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            SigAction {
                handler,
                ..SigAction::default()
            }
        });
        Arc::new(SigHand {
            actions: Lock::new(Rank::Signal, kept),
        })
    }
}

impl AltStack {
    fn is_enabled(&self) -> bool {
        self.flags & libc::SS_DISABLE == 0 && self.size > 0
    }

    /// Whether a stack pointer is on it, so that it is in use. One that disarms itself never is.
    fn holds(&self, sp: u64) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.is_enabled() && self.covers(sp)
    }

    /// Whether an address can be a stack pointer on it.
    fn covers(&self, sp: u64) -> bool {
        sp > self.base && sp - self.base <= self.size
    }
}

/// Take a pending signal of `set` from the thread or its process, as delivery, sigtimedwait(2) and signalfd(2) do.
pub fn take_from(task: &super::task::Task, set: SigSet) -> Option<SigInfo> {
    let own = task.signals.lock().pending.take(!set);
    let mut taken = own.or_else(|| task.group.pending.lock().take(!set))?;
    super::time::signal_taken(task, &mut taken);
    Some(taken)
}

/// Set the alternate stack of a task whose stack pointer is `sp`. EPERM while it runs on the old one, EINVAL, ENOMEM.
fn set_altstack(task: &super::task::Task, new: AltStack, sp: u64) -> Result<(), super::stop::Errno> {
    use super::stop::Errno;
    let mut signals = task.signals.lock();
    let old = signals.altstack;
    let mode = new.flags & !SS_AUTODISARM;
    if old.holds(sp) {
        return if old == new { Ok(()) } else { Err(Errno::EPERM) };
    }
    if ![0, libc::SS_ONSTACK, libc::SS_DISABLE].contains(&mode) {
        return Err(Errno::EINVAL);
    }
    signals.altstack = if mode == libc::SS_DISABLE {
        AltStack {
            base: 0,
            flags: new.flags,
            size: 0,
        }
    } else {
        if new.size < MINSIGSTKSZ {
            return Err(Errno::ENOMEM);
        }
        AltStack {
            flags: new.flags & SS_AUTODISARM,
            ..new
        }
    };
    Ok(())
}
