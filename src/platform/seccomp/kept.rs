//! Addresses of a guest's that the platform keeps something about, or in: text that may be patched, and trampolines. The
//! runtime leaves them alone, so that the platform hears of every change there.

use std::ops::Range;

/// Disjoint ranges in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept(Vec<Range<u64>>);

impl Kept {
    /// Keep these addresses, too.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        self.remove(&range);
        let at = self.0.partition_point(|other| other.start < range.start);
        self.0.insert(at, range);
    }

    /// Keep these no longer. Whether any was kept.
    pub(super) fn remove(&mut self, range: &Range<u64>) -> bool {
        let meets = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        if !self.0.iter().any(meets) {
            return false;
        }
        let left = |other: &Range<u64>| other.start..other.end.min(range.start);
        let right = |other: &Range<u64>| other.start.max(range.end)..other.end;
        self.0 = self
            .0
            .iter()
            .flat_map(|other| [left(other), right(other)])
            .filter(|piece| !piece.is_empty())
            .collect();
        true
    }

    /// At most `most` ranges that hold all of it, and as little as possible of what lies between.
    pub(super) fn hulls(&self, most: usize) -> Vec<Range<u64>> {
        let mut hulls = self.0.clone();
        while hulls.len() > most.max(1) {
            let gap = |at: &usize| hulls[at + 1].start - hulls[*at].end;
            let Some(nearest) = (0..hulls.len() - 1).min_by_key(gap) else {
                break;
            };
            hulls[nearest].end = hulls[nearest + 1].end;
            hulls.remove(nearest + 1);
        }
        hulls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(ranges: &[Range<u64>]) -> Kept {
        let mut kept = Kept::default();
        ranges.iter().for_each(|range| kept.insert(range.clone()));
        kept
    }

    #[test]
    fn what_is_removed_leaves_its_neighbours() {
        let mut some = kept(&[20..30, 0..10]);
        assert!(!some.remove(&(10..20)));
        assert!(some.remove(&(4..24)));
        assert_eq!(some, kept(&[0..4, 24..30]));
        assert!(some.remove(&(26..28)));
        assert_eq!(some, kept(&[0..4, 24..26, 28..30]));
    }

    #[test]
    fn hulls_close_the_smallest_gaps() {
        let some = kept(&[0..10, 100..110, 112..120, 500..510]);
        assert_eq!(some.hulls(4), some.0);
        assert_eq!(some.hulls(3), [0..10, 100..120, 500..510]);
        assert_eq!(some.hulls(2), [0..120, 500..510]);
        assert_eq!(some.hulls(1), vec![0..510; 1]);
        assert!(Kept::default().hulls(3).is_empty());
    }
}
