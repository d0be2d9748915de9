//! Open files in messages (SCM_RIGHTS) and how they are dropped.
//!
//! A socket that is in its own queue, or two that are in each other's, keep themselves alive when all their descriptors are
//! closed. Linux finds such circles; here they are only bounded, by [`LIMIT`] for the whole guest.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::kernel::fs::File;
use crate::kernel::stop::Errno;

/// Most files on their way at once.
const LIMIT: usize = 32 << 10;

/// Counts the files on their way. Clones count together.
#[derive(Clone, Default)]
pub struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// Send files off; ETOOMANYREFS when too many are on their way.
    pub(super) fn send(&self, files: Vec<Arc<File>>) -> Result<FilesInFlight, Errno> {
        let count = files.len();
        let before = self.0.fetch_add(count, Ordering::Relaxed);
        if count > 0 && before + count > LIMIT {
            self.0.fetch_sub(count, Ordering::Relaxed);
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

    /// They have arrived.
    pub(super) fn take(&mut self) -> Vec<Arc<File>> {
        std::mem::take(&mut self.files)
    }

    /// The same files once more (MSG_PEEK).
    pub(super) fn copy(&self) -> Vec<Arc<File>> {
        self.files.clone()
    }
}

impl Drop for FilesInFlight {
    fn drop(&mut self) {
        self.counter.0.fetch_sub(self.counted, Ordering::Relaxed);
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
