//! Signals: signal(7), sigaction(2).
//!
//! All 64 are virtual: nothing of the host's delivery is used. Sending queues and kicks; a task looks at what is pending
//! for it whenever it is about to return to guest code ([`deliver`]).

use std::sync::Arc;

use super::sync::{Lock, Rank};

mod info;
mod pending;

pub use info::{SigFields, SigInfo};
pub use pending::PendingSignals;

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
