//! Inode numbers that do not tell which host file is behind them.

use std::collections::HashMap;

use crate::kernel::sync::{Lock, Rank};

/// Numbers given out in the order in which files are first seen, so that what a guest does decides them and not where
/// the host happens to have its tree. A file keeps its number for good; the names of a hard link share it.
pub(super) struct Numbers {
    given: Lock<HashMap<(u64, u64), u64>>,
}

impl Numbers {
    pub(super) fn new() -> Numbers {
        Numbers {
            given: Lock::new(Rank::Leaf, HashMap::new()),
        }
    }

    /// The number of a file, by its host file system and inode number there.
    pub(super) fn of(&self, device_index: u64, ino: u64) -> u64 {
        let mut given = self.given.lock();
        let next = given.len() as u64 + 1;
        *given.entry((device_index, ino)).or_insert(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_the_order_of_being_seen() {
        let numbers = Numbers::new();
        let seen = [(0, 900), (0, 7), (1, 7), (0, 900), (1, 7)];
        let given = seen.map(|(device, ino)| numbers.of(device, ino));
        assert_eq!(given, [1, 2, 3, 1, 3]);
    }
}
