//! Whether anything goes on in a machine: for clocks that move on when nothing does.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what goes on: guest threads that are not parked, kicks on their way, and whatever else may wake somebody.
///
/// A thread counts from the moment a kick is decided, so nothing that goes on is ever missed. What nobody here decides (a
/// signal from outside, input) comes when it comes.
pub struct Activity {
    count: AtomicUsize,
    on_rest: Box<dyn Fn() + Send + Sync>,
}

impl Activity {
    /// Nothing goes on yet. `on_rest` is called when the last that did has ended, by any host thread and with locks held.
    pub fn new(on_rest: impl Fn() + Send + Sync + 'static) -> Activity {
        Activity {
            count: AtomicUsize::new(0),
            on_rest: Box::new(on_rest),
        }
    }

    /// One more goes on.
    pub fn begin(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// One less goes on.
    pub fn end(&self) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            (self.on_rest)();
        }
    }

    /// Whether nothing goes on.
    pub fn rests(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn rest_is_told_each_time_the_last_one_ends() {
        let rests = Arc::new(AtomicUsize::new(0));
        let seen = rests.clone();
        let activity = Activity::new(move || {
            seen.fetch_add(1, Ordering::SeqCst);
        });
        assert!(activity.rests());
        activity.begin();
        activity.begin();
        activity.end();
        assert!(!activity.rests());
        assert_eq!(rests.load(Ordering::SeqCst), 0);
        activity.end();
        assert_eq!((activity.rests(), rests.load(Ordering::SeqCst)), (true, 1));
    }
}
