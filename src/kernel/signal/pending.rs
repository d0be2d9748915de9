//! Queues of pending signals.

use std::collections::VecDeque;

use super::{SigInfo, SigSet, Signal, bit};

/// First real-time signal; those below are queued once.
pub(super) const SIGRTMIN: Signal = 32;

/// Signals raised by the CPU, taken before others so that a handler sees the state of the fault.
const SYNCHRONOUS: SigSet = bit(libc::SIGSEGV)
    | bit(libc::SIGBUS)
    | bit(libc::SIGILL)
    | bit(libc::SIGTRAP)
    | bit(libc::SIGFPE)
    | bit(libc::SIGSYS);

/// Signals sent and not yet taken.
#[derive(Clone, Debug, Default)]
pub struct PendingSignals {
    set: SigSet,
    queue: VecDeque<SigInfo>,
}

impl PendingSignals {
    /// The pending set.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// How many are queued.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none is pending.
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// Queue a signal. A standard one that is already pending is dropped, as on Linux.
    pub fn push(&mut self, info: SigInfo) {
        if info.signal < SIGRTMIN && self.set & bit(info.signal) != 0 {
            return;
        }
        self.set |= bit(info.signal);
        self.queue.push_back(info);
    }

    /// Take the next signal that is not in `mask`: faults first, then the lowest number, then the oldest.
    pub fn take(&mut self, mask: SigSet) -> Option<SigInfo> {
        let open = self.set & !mask;
        let from = if open & SYNCHRONOUS != 0 {
            open & SYNCHRONOUS
        } else {
            open
        };
        if from == 0 {
            return None;
        }
        let signal = from.trailing_zeros().cast_signed() + 1;
        let at = self.queue.iter().position(|i| i.signal == signal)?;
        let info = self.queue.remove(at);
        if !self.queue.iter().any(|i| i.signal == signal) {
            self.set &= !bit(signal);
        }
        info
    }

    /// Forget all signals in `set`.
    pub fn discard(&mut self, set: SigSet) {
        self.queue.retain(|i| set & bit(i.signal) == 0);
        self.set &= !set;
    }
}
