//! The facts: one memory file of the machine that all stubs map and none can write. What is in it a guest thread is told
//! without a trap: the runtime reads it.
//!
//! It is [sealed](SharedMemory), so neither mmap nor mprotect of a stub gets at it. Guest processes can read each other's entries: ids, which /proc shows as well.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use guest_runtime::abi::{ENTRIES, Entry, FACTS_BASE, FACTS_LEN, PAGE};
use nix::errno::Errno;

use super::process::lock;
use crate::platform::{Facts, SharedMemory};

/// The memory file and who has which entry.
pub(super) struct FactsFile {
    memory: SharedMemory,
    free: Mutex<Free>,
}

/// Entries that nobody uses. The first is never used: it says that nothing may be told.
struct Free {
    next: usize,
    returned: Vec<usize>,
}

impl FactsFile {
    pub(super) fn new() -> Result<Arc<FactsFile>, Errno> {
        Ok(Arc::new(FactsFile {
            memory: SharedMemory::new(c"uvm-facts", FACTS_LEN, &[], 0)?,
            free: Mutex::new(Free {
                next: 1,
                returned: Vec::new(),
            }),
        }))
    }

    /// For stubs to map.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.memory.file().as_fd()
    }

    fn entry(&self, index: usize) -> &Entry {
        let index = index.min(ENTRIES - 1);
        // SAFETY: the entries follow the first page, all inside the mapping that lives as long as `self`.
        unsafe {
            let entries = self.memory.start().as_ptr().add(PAGE as usize);
            &*entries.cast::<Entry>().add(index)
        }
    }

    /// An entry for a thread; when all are taken, the one that tells nothing.
    pub(super) fn sheet(self: &Arc<FactsFile>) -> Sheet {
        let mut free = lock(&self.free);
        let index = match free.returned.pop() {
            Some(index) => index,
            None if free.next < ENTRIES => {
                free.next += 1;
                free.next - 1
            }
            None => 0,
        };
        Sheet {
            facts: Arc::clone(self),
            index,
        }
    }
}

/// One thread's entry.
pub(super) struct Sheet {
    facts: Arc<FactsFile>,
    index: usize,
}

impl Sheet {
    /// Where stubs see it.
    pub(super) fn address(&self) -> u64 {
        FACTS_BASE + PAGE + (self.index * size_of::<Entry>()) as u64
    }

    /// Tell the thread `facts` from now on.
    pub(super) fn publish(&self, facts: &Facts) {
        if self.index == 0 {
            return;
        }
        let entry = self.facts.entry(self.index);
        let put = |word: &AtomicU32, value: u32| word.store(value, Ordering::SeqCst);
        if !facts.open {
            put(&entry.open, 0);
        }
        put(&entry.pid, facts.pid.cast_unsigned());
        put(&entry.tid, facts.tid.cast_unsigned());
        put(&entry.ppid, facts.ppid.cast_unsigned());
        put(&entry.uid, facts.uid);
        put(&entry.euid, facts.euid);
        put(&entry.gid, facts.gid);
        put(&entry.egid, facts.egid);
        put(&entry.open, u32::from(facts.open));
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        self.publish(&Facts::default());
        if self.index != 0 {
            lock(&self.facts.free).returned.push(self.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sheet: &Sheet) -> [u32; 3] {
        let entry = sheet.facts.entry(sheet.index);
        [&entry.open, &entry.pid, &entry.egid].map(|word| word.load(Ordering::SeqCst))
    }

    #[test]
    fn an_entry_tells_what_was_published_last_and_nothing_when_it_is_free() {
        let file = FactsFile::new().unwrap();
        let (one, two) = (file.sheet(), file.sheet());
        assert_ne!(one.address(), two.address());
        let facts = Facts {
            open: true,
            pid: 7,
            egid: u32::MAX,
            ..Facts::default()
        };
        one.publish(&facts);
        assert_eq!((read(&one), read(&two)), ([1, 7, u32::MAX], [0, 0, 0]));
        let address = one.address();
        drop(one);
        let again = file.sheet();
        assert_eq!((again.address(), read(&again)), (address, [0, 0, 0]));
    }

    #[test]
    fn who_comes_when_all_are_taken_is_told_nothing() {
        let file = FactsFile::new().unwrap();
        let all: Vec<Sheet> = (1..ENTRIES).map(|_| file.sheet()).collect();
        let late = file.sheet();
        late.publish(&Facts {
            open: true,
            ..Facts::default()
        });
        assert_eq!(late.address(), FACTS_BASE + PAGE);
        assert_eq!(read(&late)[0], 0);
        drop((all, late));
    }
}
