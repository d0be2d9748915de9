//! Sockets that only keep each other alive.
//!
//! A socket whose last descriptor is in a message in its own queue, or two in each other's, can never be received from again;
//! nor can a connection whose listening socket's last descriptor is in that connection's queue.
//! When many files are on their way, [`collect`] looks for such circles: it notes which sockets' files lie in which queues,
//! marks what can be reached from a socket that is open somewhere, and empties the queues of the rest.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use super::{Phase, UnixSocket};
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
    /// Sockets whose files lie in a socket's queue, or that wait there to be accepted.
    holds: HashMap<Id, Vec<Id>>,
    /// Of a socket's file: how many references lie in queues, and how many there are.
    references: HashMap<Id, (usize, usize)>,
}

impl Graph {
    /// Note what lies in a socket's queue. Sockets among that which are new here are added to `met`.
    fn add(&mut self, receiver: &UnixSocket, met: &mut Vec<Arc<UnixSocket>>) {
        let state = receiver.state.lock();
        let held = self.holds.entry(id(receiver)).or_default();
        for file in state.inbox.notes().flat_map(|note| note.files.iter()) {
            if let Some(socket) = UnixSocket::of(file) {
                held.push(id(socket));
                let (queued, all) = self.references.entry(id(socket)).or_default();
                if *queued == 0 {
                    met.extend(socket.me.upgrade());
                }
                *queued += 1;
                *all = Arc::strong_count(file);
            }
        }
    }

    /// Note which connections wait to be accepted from a socket: these have no file, and only it leads to them.
    fn add_pending(&mut self, listener: &UnixSocket) {
        let state = listener.state.lock();
        if let Phase::Listening { pending, .. } = &state.phase {
            let held = self.holds.entry(id(listener)).or_default();
            for socket in pending {
                held.push(id(socket));
                self.references.insert(id(socket), (1, 1));
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
    let mut met = Vec::new();
    for socket in &sockets {
        graph.add(socket, &mut met);
    }
    for socket in &met {
        graph.add_pending(socket);
    }
    let reachable = graph.reachable();
    if moves.load(Ordering::SeqCst) != before {
        return;
    }
    let mut lost = Vec::new();
    for socket in sockets.iter().filter(|s| !reachable.contains(&id(s))) {
        lost.push(std::mem::take(&mut socket.state.lock().inbox));
    }
    drop(met);
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
