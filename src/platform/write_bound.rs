//! How far a guest thread can write a plain file that it was granted.

use guest_runtime::abi::{self, BOUNDS, WRITE_MOST};

/// A bound of the writes of one file, whatever the guest does: one of a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteBound(u32);

impl WriteBound {
    /// All there are, the least first.
    pub const ALL: [WriteBound; BOUNDS as usize] = {
        let mut all = [WriteBound(0); BOUNDS as usize];
        let mut place = 0;
        while place < BOUNDS {
            all[place as usize] = WriteBound(place);
            place += 1;
        }
        all
    };

    /// The most bytes of one write.
    pub const MOST: u64 = WRITE_MOST;

    /// Its number among all.
    pub const fn place(self) -> u32 {
        self.0
    }

    /// Below which offset each write begins, in bytes.
    pub const fn start(self) -> u64 {
        abi::bound(self.0)
    }

    /// Where the last one ends at most, in bytes.
    pub const fn end(self) -> u64 {
        self.start() + Self::MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_and_fit_the_lower_half_of_an_offset() {
        assert!(WriteBound::ALL.windows(2).all(|two| two[0].end() < two[1].end()));
        assert!(
            WriteBound::ALL
                .iter()
                .all(|bound| u32::try_from(bound.end()).is_ok())
        );
    }
}
