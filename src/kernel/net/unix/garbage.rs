//! Sockets that only keep each other alive.
//!
//! A socket whose last descriptor is in a message in its own queue, or two in each other's, can never be received from again.
//! When many files are on their way, [`collect`] looks for such circles: it notes which sockets' files lie in which queues,
//! marks what can be reached from a socket that is open somewhere, and empties the queues of the rest.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::UnixSocket;
use crate::kernel::sync::{Lock, Rank};

/// Identity of a socket.
type Id = usize;

fn id(socket: &UnixSocket) -> Id {
    std::ptr::from_ref(socket) as usize
}

/// Sockets that were sent files.
pub(super) struct Receivers(Lock<HashMap<Id, Weak<UnixSocket>>>);

impl Default for Receivers {
    fn default() -> Self {
        Receivers(Lock::new(Rank::Table, HashMap::new()))
    }
}

impl Receivers {
    /// `socket` is sent files.
    pub(super) fn add(&self, socket: &UnixSocket) {
        self.0.lock().insert(id(socket), socket.me.clone());
    }

    /// Those there still are.
    fn list(&self) -> Vec<Arc<UnixSocket>> {
        let mut receivers = self.0.lock();
        receivers.retain(|_, socket| socket.strong_count() > 0);
        receivers.values().filter_map(Weak::upgrade).collect()
    }
}

/// What lies in queues, as of one look at each.
#[derive(Default)]
struct Graph {
    /// Sockets whose files lie in a socket's queue.
    holds: HashMap<Id, Vec<Id>>,
    /// Of a socket's file: how many references lie in queues, and how many there are.
    references: HashMap<Id, (usize, usize)>,
}

impl Graph {
    fn add(&mut self, receiver: &UnixSocket) {
        let state = receiver.state.lock();
        let held = self.holds.entry(id(receiver)).or_default();
        for file in state.inbox.notes().flat_map(|note| note.files.iter()) {
            if let Some(socket) = UnixSocket::of(file) {
                held.push(id(socket));
                let (queued, all) = self.references.entry(id(socket)).or_default();
                *queued += 1;
                *all = Arc::strong_count(file);
            }
        }
    }

    /// Sockets that can be received from: open ones, and what their queues lead to.
    fn reachable(&self) -> HashSet<Id> {
        let is_open = |socket: &Id| {
            self.references
                .get(socket)
                .is_none_or(|(queued, all)| all > queued)
        };
        let mut reached: HashSet<Id> = HashSet::new();
        let mut next: Vec<Id> = self.holds.keys().copied().filter(is_open).collect();
        while let Some(socket) = next.pop() {
            if reached.insert(socket) {
                next.extend(self.holds.get(&socket).into_iter().flatten());
            }
        }
        reached
    }
}

/// Empty the queues of sockets that nobody can receive from any more. `moves` changes when a file is sent or arrives: then
/// what was seen of one queue does not go with what was seen of another, and nothing is done. Call it with no lock held.
pub(super) fn collect(receivers: &Receivers, moves: &AtomicUsize) {
    let before = moves.load(Ordering::SeqCst);
    let sockets = receivers.list();
    let mut graph = Graph::default();
    for socket in &sockets {
        graph.add(socket);
    }
    let reachable = graph.reachable();
    if moves.load(Ordering::SeqCst) != before {
        return;
    }
    let mut lost = Vec::new();
    for socket in sockets.iter().filter(|s| !reachable.contains(&id(s))) {
        lost.push(std::mem::take(&mut socket.state.lock().inbox));
    }
    drop(sockets);
    drop(lost);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `holds`: whose files lie in whose queue. `open`: whose file is open besides.
    fn reachable(holds: &[(Id, &[Id])], open: &[Id]) -> Vec<Id> {
        let mut graph = Graph::default();
        for (holder, held) in holds {
            graph.holds.insert(*holder, held.to_vec());
            for socket in *held {
                let (queued, all) = graph.references.entry(*socket).or_default();
                *queued += 1;
                *all += 1;
            }
        }
        for socket in open {
            graph.references.entry(*socket).or_default().1 += 1;
        }
        let mut reached: Vec<_> = graph.reachable().into_iter().collect();
        reached.sort_unstable();
        reached
    }

    #[test]
    fn circles_are_lost_unless_something_open_leads_to_them() {
        assert_eq!(reachable(&[(1, &[1])], &[]), [0usize; 0]);
        assert_eq!(reachable(&[(1, &[2]), (2, &[1])], &[]), [0usize; 0]);
        assert_eq!(reachable(&[(1, &[2]), (2, &[1])], &[2]), [1, 2]);
        assert_eq!(reachable(&[(1, &[2]), (2, &[3]), (3, &[2])], &[1]), [1, 2, 3]);
        assert_eq!(reachable(&[(1, &[2, 2]), (2, &[1])], &[]), [0usize; 0]);
    }
}
