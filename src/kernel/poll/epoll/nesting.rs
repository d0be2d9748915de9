//! Instances that watch instances: how many levels there may be, and how many ways from a file to who waits for it.
//!
//! A guest can have each instance watch the next by many descriptors, which makes ways by their product: every search looks
//! at an instance once, and additions that make more ways than Linux allows are refused, since a notification goes all of
//! them. Linux counts the ways of each file; here they are those of an instance that watches any file at all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};

use super::Epoll;
use crate::kernel::stop::Errno;

/// Levels of epoll instances that may watch each other.
const MAX_DEPTH: usize = 5;

/// Most ways from an instance that watches a file to those that nothing watches, by the number of instances passed.
const MAX_WAYS: Ways = [usize::MAX, 500, 100, 50, 10];

/// How many ways there are, by length.
type Ways = [usize; MAX_DEPTH];

/// Identity of an instance.
type Id = usize;

fn id(epoll: &Epoll) -> Id {
    std::ptr::from_ref(epoll) as usize
}

/// Instances that watch one, and by how many descriptors.
#[derive(Default)]
pub(super) struct Parents(BTreeMap<Id, (Weak<Epoll>, usize)>);

impl Parents {
    pub(super) fn add(&mut self, parent: &Epoll) {
        self.0.retain(|_, (parent, _)| parent.strong_count() > 0);
        let (_, descriptors) = self.0.entry(id(parent)).or_insert_with(|| (parent.me.clone(), 0));
        *descriptors += 1;
    }

    pub(super) fn remove(&mut self, parent: &Epoll) {
        if let Some((_, descriptors)) = self.0.get_mut(&id(parent)) {
            *descriptors -= 1;
            if *descriptors == 0 {
                self.0.remove(&id(parent));
            }
        }
    }

    /// Those there still are.
    fn list(&self) -> Vec<(Arc<Epoll>, usize)> {
        let alive = |(parent, descriptors): &(Weak<Epoll>, usize)| Some((parent.upgrade()?, *descriptors));
        self.0.values().filter_map(alive).collect()
    }
}

/// What an instance watches.
struct Watched {
    /// Instances, each once.
    children: Vec<Arc<Epoll>>,
    /// Something else too.
    files: bool,
}

impl Epoll {
    fn watched(&self) -> Watched {
        let mut children = BTreeMap::new();
        let mut files = false;
        let items = self.items.lock_nested();
        for file in items.by_key.values().filter_map(|item| item.file.upgrade()) {
            match file.ops_as::<Epoll>() {
                Some(child) => children.extend(child.me.upgrade().map(|c| (id(child), c))),
                None => files = true,
            }
        }
        Watched {
            children: children.into_values().collect(),
            files,
        }
    }

    /// Levels of instances from this one down; none when `looked_for` is among them. `known` are those looked at already.
    fn depth(&self, looked_for: &Epoll, known: &mut HashMap<Id, usize>) -> Option<usize> {
        if std::ptr::eq(self, looked_for) {
            return None;
        }
        if let Some(depth) = known.get(&id(self)) {
            return Some(*depth);
        }
        let mut deepest = 0;
        for child in self.watched().children {
            deepest = deepest.max(child.depth(looked_for, known)?);
        }
        known.insert(id(self), deepest + 1);
        Some(deepest + 1)
    }

    /// Ways from this one up. `known` are those looked at already.
    fn ways(&self, known: &mut HashMap<Id, Ways>) -> Ways {
        if let Some(ways) = known.get(&id(self)) {
            return *ways;
        }
        let parents = self.parents.lock().list();
        let mut ways = Ways::default();
        if parents.is_empty() {
            ways[0] = 1;
        }
        for (parent, descriptors) in parents {
            let above = parent.ways(known);
            for (sum, n) in ways[1..].iter_mut().zip(above) {
                *sum = sum.saturating_add(n.saturating_mul(descriptors));
            }
        }
        known.insert(id(self), ways);
        ways
    }

    /// Levels of instances from this one up.
    fn height(&self) -> usize {
        let ways = self.ways(&mut HashMap::new());
        1 + ways.iter().rposition(|n| *n > 0).unwrap_or(0)
    }

    /// Whether `child` may be watched: ELOOP for a circle or too many levels.
    pub(super) fn check_nesting(&self, child: &Epoll) -> Result<(), Errno> {
        match child.depth(self, &mut HashMap::new()) {
            Some(depth) if depth + self.height() <= MAX_DEPTH => Ok(()),
            _ => Err(Errno::ELOOP),
        }
    }

    /// Whether a file that this instance watches would notify too many: EINVAL.
    pub(super) fn check_ways(&self, known: &mut HashMap<Id, Ways>) -> Result<(), Errno> {
        let ways = self.ways(known);
        if ways.iter().zip(MAX_WAYS).all(|(n, most)| *n <= most) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// The same for every instance from this one down that watches files.
    pub(super) fn check_ways_below(&self) -> Result<(), Errno> {
        let mut seen = HashSet::from([id(self)]);
        let mut next: Vec<_> = self.me.upgrade().into_iter().collect();
        let mut known = HashMap::new();
        while let Some(epoll) = next.pop() {
            let watched = epoll.watched();
            if watched.files {
                epoll.check_ways(&mut known)?;
            }
            next.extend(
                watched
                    .children
                    .into_iter()
                    .filter(|child| seen.insert(id(child))),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_alone_is_one_level() {
        let (a, b) = (Epoll::new(), Epoll::new());
        assert_eq!((a.depth(&b, &mut HashMap::new()), a.height()), (Some(1), 1));
        assert_eq!(a.check_nesting(&a), Err(Errno::ELOOP));
        assert_eq!(a.check_nesting(&b), Ok(()));
        b.parents.lock().add(&a);
        assert_eq!(b.height(), 2);
    }

    #[test]
    fn ways_multiply_from_level_to_level() {
        let (a, b, c) = (Epoll::new(), Epoll::new(), Epoll::new());
        for _ in 0..10 {
            b.parents.lock().add(&a);
            c.parents.lock().add(&b);
        }
        c.parents.lock().add(&a);
        assert_eq!(c.ways(&mut HashMap::new()), [0, 1, 100, 0, 0]);
        assert_eq!(c.check_ways(&mut HashMap::new()), Ok(()));
        c.parents.lock().add(&b);
        assert_eq!(c.check_ways(&mut HashMap::new()), Err(Errno::EINVAL));
        drop(a);
        assert_eq!(c.ways(&mut HashMap::new()), [0, 11, 0, 0, 0]);
    }
}
