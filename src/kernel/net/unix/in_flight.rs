//! Open files in messages (SCM_RIGHTS) and how they are dropped.
//!
//! How many are on their way is bounded by [`LIMIT`] for the whole guest; before that is reached, and whenever their number
//! has doubled, sockets that only keep each other alive are looked for ([`garbage`]).

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::UnixSocket;
use super::garbage::{self, Receivers};
use crate::kernel::fs::File;
use crate::kernel::stop::Errno;

/// Most files on their way at once.
const LIMIT: usize = 32 << 10;

/// With fewer on their way nothing is looked for.
const FEW: usize = 1024;

/// Counts the files on their way. Clones count together.
#[derive(Clone, Default)]
pub struct InFlight(Arc<Shared>);

#[derive(Default)]
struct Shared {
    count: AtomicUsize,
    /// Moves with each file that is sent or arrives.
    moves: AtomicUsize,
    /// How many there were after the last look for garbage.
    after_collection: AtomicUsize,
    receivers: Receivers,
}

impl InFlight {
    /// Send files off to `receiver`; ETOOMANYREFS when too many are on their way. Call it with no lock held.
    pub(super) fn send(&self, files: Vec<Arc<File>>, receiver: &UnixSocket) -> Result<FilesInFlight, Errno> {
        let count = files.len();
        if count > 0 {
            self.0.moves.fetch_add(1, Ordering::SeqCst);
            self.0.receivers.add(receiver);
            let now = self.0.count.load(Ordering::Relaxed);
            let before = self.0.after_collection.load(Ordering::Relaxed);
            // At the limit too, but not again while nothing has changed.
            if now != before && now > FEW.max(2 * before).min(LIMIT - count) {
                garbage::collect(&self.0.receivers, &self.0.moves);
                let left = self.0.count.load(Ordering::Relaxed);
                self.0.after_collection.store(left, Ordering::Relaxed);
            }
        }
        let before = self.0.count.fetch_add(count, Ordering::Relaxed);
        if count > 0 && before + count > LIMIT {
            self.0.count.fetch_sub(count, Ordering::Relaxed);
            return Err(Errno::ETOOMANYREFS);
        }
        Ok(FilesInFlight {
            files,
            counted: count,
            counter: self.clone(),
        })
    }
}

/// Files in a message.
pub(super) struct FilesInFlight {
    files: Vec<Arc<File>>,
    counted: usize,
    counter: InFlight,
}

impl FilesInFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<File>> {
        self.files.iter()
    }

    /// They have arrived.
    pub(super) fn take(&mut self) -> Vec<Arc<File>> {
        self.counter.0.moves.fetch_add(1, Ordering::SeqCst);
        std::mem::take(&mut self.files)
    }

    /// The same files once more (MSG_PEEK).
    pub(super) fn copy(&self) -> Vec<Arc<File>> {
        self.counter.0.moves.fetch_add(1, Ordering::SeqCst);
        self.files.clone()
    }
}

impl Drop for FilesInFlight {
    fn drop(&mut self) {
        self.counter.0.count.fetch_sub(self.counted, Ordering::Relaxed);
        bury(std::mem::take(&mut self.files));
    }
}

thread_local! {
    /// Files to drop, while some are being dropped on this host thread.
    static GRAVES: RefCell<Option<Vec<Arc<File>>>> = const { RefCell::new(None) };
}

/// Drop files, which may be sockets with files in their queues, which may be sockets ...: one after the other and not one
/// inside the other, since a guest can make that chain longer than a stack is deep.
fn bury(files: Vec<Arc<File>>) {
    if files.is_empty() {
        return;
    }
    let nested = GRAVES.with_borrow_mut(|graves| match graves {
        Some(graves) => {
            graves.extend(files.iter().cloned());
            true
        }
        None => {
            *graves = Some(Vec::new());
            false
        }
    });
    if nested {
        // The list holds them now: these are not the last references.
        return;
    }
    drop(files);
    while let Some(file) = GRAVES.with_borrow_mut(|graves| graves.as_mut().and_then(Vec::pop)) {
        drop(file);
    }
    GRAVES.set(None);
}
