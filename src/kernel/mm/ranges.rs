//! Sets of page ranges.

use std::collections::BTreeMap;

/// A set of addresses kept as disjoint, non-touching ranges (start to one past the end).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Addresses held.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }

    /// How much of `start..end` it holds.
    pub fn overlap(&self, start: u64, end: u64) -> u64 {
        self.0
            .range(..end)
            .rev()
            .take_while(|&(_, &e)| e > start)
            .map(|(&s, &e)| e.min(end) - s.max(start))
            .sum()
    }

    /// Add `start..end`.
    pub fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut low, mut high) = (start, end);
        while let Some((&s, &e)) = self.0.range(..=high).next_back().filter(|&(_, &e)| e >= low) {
            self.0.remove(&s);
            low = low.min(s);
            high = high.max(e);
        }
        self.0.insert(low, high);
    }

    /// Take `start..end` out.
    pub fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        while let Some((&s, &e)) = self.0.range(..end).next_back().filter(|&(_, &e)| e > start) {
            self.0.remove(&s);
            if e > end {
                self.0.insert(end, e);
            }
            if s < start {
                self.0.insert(s, start);
            }
        }
    }

    /// The ranges in order: start and one past the end.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(&start, &end)| (start, end))
    }

    /// Take everything out.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::RangeSet;
    use proptest::prelude::*;

    proptest! {
        /// Random insertions and removals against one flag per address.
        #[test]
        fn behaves_as_a_set(steps in proptest::collection::vec((any::<bool>(), 0u64..64, 0u64..64), 0..40)) {
            let mut set = RangeSet::default();
            let mut model = [false; 128];
            for (insert, start, len) in steps {
                let end = start + len;
                if insert {
                    set.insert(start, end);
                } else {
                    set.remove(start, end);
                }
                model[start as usize..end as usize].fill(insert);
                prop_assert_eq!(set.total(), model.iter().filter(|&&b| b).count() as u64);
                for from in (0..128).step_by(7) {
                    for to in (from..=128).step_by(11) {
                        let held = model[from..to].iter().filter(|&&b| b).count() as u64;
                        prop_assert_eq!(set.overlap(from as u64, to as u64), held);
                    }
                }
                let ranges: Vec<_> = set.0.iter().collect();
                prop_assert!(ranges.windows(2).all(|w| w[0].1 < w[1].0));
            }
        }
    }
}
