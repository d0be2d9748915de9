//! Randomness: the host's, or drawn from a seed.

use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};

/// Numbers that follow from a seed: SplitMix64. Good for choices and for tests, not for secrets.
#[derive(Clone, Debug)]
pub struct Generator(u64);

impl Generator {
    /// Those of this seed.
    pub fn new(seed: u64) -> Generator {
        Generator(seed)
    }

    /// The next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// The next number below `limit`; none below 0.
    pub fn below(&mut self, limit: u64) -> Option<u64> {
        let number = (u128::from(self.next_number()) * u128::from(limit)) >> 64;
        u64::try_from(number).ok().filter(|_| limit > 0)
    }
}

/// The one source of all randomness that a guest sees.
pub struct Random(Option<Lock<Generator>>);

impl Random {
    /// The host's, or what follows from `seed`.
    pub fn new(seed: Option<u64>) -> Random {
        // Not the numbers that choose whose turn it is.
        Random(seed.map(|seed| Lock::new(Rank::Leaf, Generator::new(!seed))))
    }

    /// Whether it follows from a seed.
    pub fn is_seeded(&self) -> bool {
        self.0.is_some()
    }

    /// Fill with random bytes.
    pub fn fill(&self, bytes: &mut [u8]) -> Result<(), Errno> {
        let Some(generator) = &self.0 else {
            return getrandom::fill(bytes).map_err(|_| Errno::EIO);
        };
        let mut generator = generator.lock();
        for chunk in bytes.chunks_mut(8) {
            let number = generator.next_number().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }

    /// Random bytes. Zeros if the host had none, which no Linux this runs on does.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        if let Err(errno) = self.fill(&mut bytes) {
            tracing::error!(%errno, "the host gives no random numbers");
        }
        bytes
    }

    /// A random number below `limit`, which is a power of two.
    pub fn below(&self, limit: u64) -> u64 {
        u64::from_ne_bytes(self.bytes()) & (limit - 1)
    }

    /// A random UUID (version 4) as text.
    pub fn uuid(&self) -> String {
        let mut bytes = [0; 16];
        // Without randomness there is still a valid, if not a unique, id.
        let _ = self.fill(&mut bytes);
        let id = u128::from_be_bytes(bytes) & !(0xf << 76) & !(3 << 62) | 4 << 76 | 2 << 62;
        let hex = format!("{id:032x}");
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_each_time() {
        let numbers = |seed| -> [u8; 20] { Random::new(Some(seed)).bytes() };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert_eq!(Random::new(Some(1)).uuid(), Random::new(Some(1)).uuid());
        assert_ne!(Random::new(None).uuid(), Random::new(None).uuid());
    }

    #[test]
    fn choices_are_below_their_limit_and_reach_all() {
        let mut generator = Generator::new(3);
        let seen: std::collections::BTreeSet<_> = (0..200).filter_map(|_| generator.below(5)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(generator.below(0), None);
    }
}
