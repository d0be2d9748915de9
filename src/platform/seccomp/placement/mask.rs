//! Sets of host CPUs.

use libc::pid_t;
use nix::errno::Errno;

/// Words of the longest mask that the host is asked for: 8192 CPUs, the most that Linux can be built for.
const WORDS: usize = 128;

/// A bit for each CPU, lowest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mask(Vec<u64>);

impl Mask {
    pub(super) fn new(words: &[u64]) -> Mask {
        Mask(words.to_vec())
    }

    /// One CPU.
    pub(super) fn one(cpu: u32) -> Mask {
        let mut words = vec![0; cpu as usize / 64 + 1];
        if let Some(last) = words.last_mut() {
            *last = 1 << (cpu % 64);
        }
        Mask(words)
    }

    /// The CPUs that the calling thread may use.
    pub(super) fn of_this_thread() -> Option<Mask> {
        let mut words = vec![0u64; WORDS];
        let bytes = size_of_val(words.as_slice());
        // SAFETY: the host writes at most `bytes` bytes to `words`, which is as long.
        let got = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, bytes, words.as_mut_ptr()) };
        words.truncate(usize::try_from(got).ok()? / size_of::<u64>());
        Some(Mask(words))
    }

    pub(super) fn has(&self, cpu: u32) -> bool {
        let word = self.0.get(cpu as usize / 64).copied().unwrap_or(0);
        word & 1 << (cpu % 64) != 0
    }

    /// The CPUs that are in both.
    pub(super) fn and(&self, other: &Mask) -> Mask {
        Mask(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    pub(super) fn cpus(&self) -> impl Iterator<Item = u32> {
        (0..self.0.len() as u32 * 64).filter(|cpu| self.has(*cpu))
    }

    /// Let host thread `tid` (0: the caller) run on these CPUs only.
    pub(super) fn apply(&self, tid: pid_t) -> Result<(), Errno> {
        let bytes = size_of_val(self.0.as_slice());
        // SAFETY: the host reads `bytes` bytes of the mask, which is as long, and any size is allowed.
        let rc = unsafe { libc::sched_setaffinity(tid, bytes, self.0.as_ptr().cast()) };
        Errno::result(rc).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_sets_of_cpus() {
        assert_eq!(Mask::one(3), Mask::new(&[8]));
        assert_eq!(Mask::one(64), Mask::new(&[0, 1]));
        assert_eq!(Mask::new(&[5, 1]).cpus().collect::<Vec<_>>(), [0, 2, 64]);
        assert!(Mask::one(70).has(70) && !Mask::one(70).has(6) && !Mask::one(70).has(700));
        assert_eq!(Mask::new(&[7, 1]).and(&Mask::new(&[2])), Mask::new(&[2]));
    }
}
