//! The facts: one memory file of the machine that all stubs map and none can write. What is in it a guest thread is told
//! without a trap: the runtime reads it.
//!
//! It is [sealed](SharedMemory), so neither mmap nor mprotect of a stub gets at it. Guest processes can read each other's entries: ids, which /proc shows as well.

use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use guest_runtime::abi::{
    ANSWERS_OFFSET, ENTRIES, Entry, FACTS_BASE, FACTS_LEN, KEPT, Machine, PAGE, ROOMS, ROOMS_OFFSET, Room,
};
use guest_runtime::cpuid::Answers;
use nix::errno::Errno;

use super::kept::Kept;
use super::process::lock;
use crate::platform::{Facts, Freedom, SharedMemory};

/// The memory file and who has which entry.
pub(super) struct FactsFile {
    memory: SharedMemory,
    entries: Mutex<Free>,
    rooms: Mutex<Free>,
}

/// Places that nobody uses. The first is never used: it says that nothing may be told, or done.
struct Free {
    next: usize,
    returned: Vec<usize>,
}

impl Free {
    fn new() -> Mutex<Free> {
        Mutex::new(Free {
            next: 1,
            returned: Vec::new(),
        })
    }

    /// One of `count` places; the first when all are taken.
    fn take(&mut self, count: usize) -> usize {
        match self.returned.pop() {
            Some(index) => index,
            None if self.next < count => {
                self.next += 1;
                self.next - 1
            }
            None => 0,
        }
    }
}

impl FactsFile {
    /// `answers`: what CPUID tells guests, where it shall not tell the truth.
    pub(super) fn new(answers: Option<&Answers>) -> Result<Arc<FactsFile>, Errno> {
        let words = answers.into_iter().flat_map(Answers::words);
        let bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
        Ok(Arc::new(FactsFile {
            memory: SharedMemory::new(c"uvm-facts", FACTS_LEN, &bytes, ANSWERS_OFFSET)?,
            entries: Free::new(),
            rooms: Free::new(),
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

    /// Tell all threads of the guest's clocks.
    pub(super) fn set_clock(&self, boot: u64, ahead: i64) {
        let boot = i64::try_from(boot).unwrap_or(i64::MAX);
        let put = |field: usize, nanos: i64| {
            let word = self.memory.word(field / size_of::<u64>());
            word.store(nanos.cast_unsigned(), Ordering::SeqCst);
        };
        put(offset_of!(Machine, boot), boot);
        put(offset_of!(Machine, ahead), ahead);
    }

    /// An entry for a thread; when all are taken, the one that tells nothing.
    pub(super) fn sheet(self: &Arc<FactsFile>) -> Sheet {
        let index = lock(&self.entries).take(ENTRIES);
        Sheet {
            facts: Arc::clone(self),
            index,
        }
    }

    /// A room for an address space; when all are taken, the one that allows nothing.
    pub(super) fn room(self: &Arc<FactsFile>) -> Lease {
        let index = lock(&self.rooms).take(ROOMS);
        let lease = Lease {
            facts: Arc::clone(self),
            index,
            writing: Mutex::new(()),
        };
        lease.keep(&Kept::default());
        lease
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
        put(&entry.cpuid, u32::from(facts.cpuid));
        put(&entry.open, u32::from(facts.open));
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        self.publish(&Facts::default());
        if self.index != 0 {
            lock(&self.facts.entries).returned.push(self.index);
        }
    }
}

/// One address space's room.
pub(super) struct Lease {
    facts: Arc<FactsFile>,
    index: usize,
    writing: Mutex<()>,
}

impl Lease {
    /// Where stubs see it.
    pub(super) fn address(&self) -> u64 {
        FACTS_BASE + ROOMS_OFFSET + (self.index * size_of::<Room>()) as u64
    }

    fn room(&self) -> &Room {
        let index = self.index.min(ROOMS - 1);
        // SAFETY: the rooms lie inside the mapping that lives as long as `facts`; any bytes are a valid Room.
        unsafe {
            &*self
                .facts
                .memory
                .start()
                .as_ptr()
                .add(ROOMS_OFFSET as usize)
                .cast::<Room>()
                .add(index)
        }
    }

    /// Allow the threads this much.
    pub(super) fn allow(&self, freedom: Freedom) {
        if self.index != 0 {
            let room = self.room();
            room.memory.store(u32::from(freedom.memory), Ordering::SeqCst);
            room.futexes.store(u32::from(freedom.futexes), Ordering::SeqCst);
        }
    }

    /// Text is going to be rewritten, or was: threads that rest must ask before they go on.
    pub(super) fn turn(&self) {
        self.room().rewriting.fetch_add(1, Ordering::SeqCst);
    }

    /// Have the threads leave what is kept to the supervisor.
    pub(super) fn keep(&self, kept: &Kept) {
        let _writing = lock(&self.writing);
        let room = self.room();
        room.version.fetch_add(1, Ordering::SeqCst);
        let hulls = kept.hulls(KEPT);
        for (place, hull) in room.kept.iter().zip(&hulls) {
            place[0].store(hull.start, Ordering::SeqCst);
            place[1].store(hull.end, Ordering::SeqCst);
        }
        room.count.store(hulls.len() as u32, Ordering::SeqCst);
        room.version.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.allow(Freedom::default());
        if self.index != 0 {
            lock(&self.facts.rooms).returned.push(self.index);
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
        let file = FactsFile::new(None).unwrap();
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
        let file = FactsFile::new(None).unwrap();
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

    #[test]
    fn a_room_names_what_is_kept_and_allows_nothing_when_it_is_free() {
        let file = FactsFile::new(None).unwrap();
        let room = file.room();
        let mut kept = Kept::default();
        (0..KEPT as u64 + 3).for_each(|n| kept.insert(n * 100..n * 100 + 10));
        room.keep(&kept);
        room.allow(Freedom {
            memory: true,
            futexes: false,
        });
        let words = || {
            let room = room.room();
            [&room.version, &room.memory, &room.count].map(|word| word.load(Ordering::SeqCst))
        };
        assert_eq!(words(), [4, 1, KEPT as u32]);
        assert_eq!(room.room().kept[0][1].load(Ordering::SeqCst), 310);
        let address = room.address();
        drop(room);
        let again = file.room();
        assert_eq!(again.address(), address);
        let room = again.room();
        assert_eq!(
            (
                room.memory.load(Ordering::SeqCst),
                room.count.load(Ordering::SeqCst)
            ),
            (0, 0)
        );
    }
}
