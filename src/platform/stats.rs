//! Counts of what a guest did, for `uvm run --stats`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happened on a platform so far. Guests tell some of it themselves and could lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// System calls that trapped.
    pub trapped: u64,
    /// System calls that came by patched sites.
    pub patched: u64,
    /// System calls answered in the guest's address space: the supervisor never heard of them.
    pub answered: u64,
    /// System calls that the runtime has the host carry out: the supervisor never heard of them either.
    pub native: u64,
    /// Of those, writes of plain files.
    pub written: u64,
    /// Calls that trapped and were then made natively: they count there.
    pub sites: u64,
    /// Calls by a foreign way into a kernel.
    pub foreign: u64,
    /// Exceptions.
    pub faults: u64,
    /// CPUID instructions of patched sites, answered in the guest's address space.
    pub cpuid_patched: u64,
    /// CPUID instructions that faulted and were answered in the guest's address space.
    pub cpuid_faults: u64,
    /// Kicks of running threads.
    pub interrupts: u64,
    /// Of all that came to the supervisor, what was served on another CPU than the guest's.
    pub hops: u64,
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.trapped.saturating_add(self.patched);
        let calls = told.saturating_add(self.answered).saturating_add(self.native);
        let traps = told.saturating_add(self.sites + self.foreign + self.faults + self.interrupts);
        writeln!(
            f,
            "{calls} system calls: {} answered in the guest, {} natively, {} by the kernel; {} writes of files natively",
            Share(self.answered, calls),
            Share(self.native, calls),
            Share(told, calls),
            self.written
        )?;
        // Beside private futexes, only calls by patched sites are answered in the guest or made natively.
        writeln!(
            f,
            "{} of {told} calls to the kernel by patched sites, {} trapped; {} trapped to be made natively",
            Share(self.patched, told),
            self.trapped,
            self.sites
        )?;
        writeln!(
            f,
            "CPUID: {} by patched sites, {} faulted",
            self.cpuid_patched, self.cpuid_faults
        )?;
        write!(
            f,
            "{} faults, {} interrupts, {} foreign calls; {} served across CPUs",
            self.faults,
            self.interrupts,
            self.foreign,
            Share(self.hops, traps)
        )
    }
}

/// A part of a whole, in percent.
struct Share(u64, u64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 as f64 * 100.0 / self.1.max(1) as f64;
        write!(f, "{percent:.1} %")
    }
}

/// The same, being counted by many threads.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) trapped: AtomicU64,
    pub(super) patched: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) native: AtomicU64,
    pub(super) written: AtomicU64,
    pub(super) sites: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) faults: AtomicU64,
    pub(super) cpuid_patched: AtomicU64,
    pub(super) cpuid_faults: AtomicU64,
    pub(super) interrupts: AtomicU64,
    pub(super) hops: AtomicU64,
}

impl Counters {
    /// Add to one of the counts.
    pub(super) fn add(counter: &AtomicU64, more: u64) {
        // What a guest tells may be anything.
        let sum = |before: u64| Some(before.saturating_add(more));
        let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    /// What was counted so far.
    pub(super) fn read(&self) -> Statistics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            trapped: of(&self.trapped),
            patched: of(&self.patched),
            answered: of(&self.answered),
            native: of(&self.native),
            written: of(&self.written),
            sites: of(&self.sites),
            foreign: of(&self.foreign),
            faults: of(&self.faults),
            cpuid_patched: of(&self.cpuid_patched),
            cpuid_faults: of(&self.cpuid_faults),
            interrupts: of(&self.interrupts),
            hops: of(&self.hops),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_nothing_are_nothing() {
        let none = Statistics::default().to_string();
        assert!(none.starts_with("0 system calls: 0.0 % answered"), "{none}");
    }

    #[test]
    fn shares_are_of_what_they_say() {
        let counts = Statistics {
            trapped: 3,
            patched: 97,
            answered: 60,
            native: 40,
            hops: 1,
            ..Statistics::default()
        };
        let text = counts.to_string();
        assert!(
            text.contains(
                "200 system calls: 30.0 % answered in the guest, 20.0 % natively, 50.0 % by the kernel"
            ),
            "{text}"
        );
        assert!(
            text.contains("97.0 % of 100 calls to the kernel by patched sites, 3 trapped"),
            "{text}"
        );
        assert!(text.contains("1.0 % served across CPUs"), "{text}");
    }
}
