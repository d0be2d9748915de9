//! Descriptor tables.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use super::File;
use super::locks::{LockOwner, LockTable};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::FromReg;

/// A file descriptor number as a guest gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fd(pub i32);

impl Fd {
    /// AT_FDCWD.
    pub const CWD: Fd = Fd(libc::AT_FDCWD);
}

impl FromReg for Fd {
    fn from_reg(reg: u64) -> Self {
        Fd(i32::from_reg(reg))
    }
}

/// Descriptors of a process (or of whatever shares them by CLONE_FILES).
pub struct FdTable {
    slots: Lock<Slots>,
    /// Tasks that use it; whoever else has a reference only looks.
    users: AtomicUsize,
    /// Set once it holds POSIX locks, which go with any descriptor of the file they are on.
    locks: OnceLock<Arc<LockTable>>,
}

impl Default for FdTable {
    fn default() -> Self {
        FdTable::with(Slots::default())
    }
}

/// The table's contents. Slots are in number order; the vector never ends with an empty one.
#[derive(Clone, Default)]
struct Slots {
    entries: Vec<Option<Entry>>,
    /// No number below this one is free.
    lowest: usize,
}

#[derive(Clone)]
struct Entry {
    file: Arc<File>,
    close_on_exec: bool,
}

impl FdTable {
    fn with(slots: Slots) -> FdTable {
        FdTable {
            slots: Lock::new(Rank::Files, slots),
            users: AtomicUsize::new(0),
            locks: OnceLock::new(),
        }
    }

    /// A task begins to use it.
    pub fn add_user(&self) {
        self.users.fetch_add(1, Ordering::SeqCst);
    }

    /// A task uses it no longer. The last one closes all files.
    pub fn drop_user(&self) {
        if self.users.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        for file in self.remove_where(|_, _| true) {
            // Errors of a deferred write have nobody to go to, as on Linux.
            let _ = file.ops.flush(&file);
        }
    }

    /// Whether more than one task uses it.
    pub fn is_shared(&self) -> bool {
        self.users.load(Ordering::SeqCst) > 1
    }

    fn lock_owner(&self) -> LockOwner {
        LockOwner::Table(std::ptr::from_ref(self).addr())
    }

    /// Remember that this table holds POSIX locks.
    pub(super) fn note_locks(&self, locks: &Arc<LockTable>) {
        self.locks.get_or_init(|| locks.clone());
    }

    /// A descriptor of `file` was closed: its POSIX locks go, as POSIX wants it, and nobody reads it by that number.
    fn closed(&self, file: &File) {
        file.grants.end();
        if let Some(locks) = self.locks.get()
            && let Ok(meta) = file.inode.metadata()
        {
            locks.release_owner((meta.dev, meta.ino), self.lock_owner());
        }
    }

    /// The file behind a descriptor; EBADF. O_PATH files too, so calls that act on contents use [`FdTable::get`].
    pub fn get_any(&self, fd: Fd) -> Result<Arc<File>, Errno> {
        let slots = self.slots.lock();
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        slots
            .entries
            .get(index)
            .and_then(Option::as_ref)
            .map(|e| e.file.clone())
            .ok_or(Errno::EBADF)
    }

    /// The file behind a descriptor; EBADF, also for O_PATH ones.
    pub fn get(&self, fd: Fd) -> Result<Arc<File>, Errno> {
        let file = self.get_any(fd)?;
        if file.flags().contains(super::OpenFlags::PATH) {
            Err(Errno::EBADF)
        } else {
            Ok(file)
        }
    }

    /// Give a file the lowest free number from `from` on and below `limit` (RLIMIT_NOFILE); EMFILE.
    pub fn insert(&self, file: Arc<File>, close_on_exec: bool, from: i32, limit: u64) -> Result<Fd, Errno> {
        let mut slots = self.slots.lock();
        let from = usize::try_from(from).map_err(|_| Errno::EINVAL)?;
        let index = slots.free_from(from);
        if index as u64 >= limit {
            return Err(Errno::EMFILE);
        }
        slots.put(index, Entry { file, close_on_exec });
        Ok(Fd(i32::try_from(index).map_err(|_| Errno::EMFILE)?))
    }

    /// EMFILE when there is no free number below `limit`.
    pub fn check_room(&self, limit: u64) -> Result<(), Errno> {
        if (self.slots.lock().free_from(0) as u64) < limit {
            Ok(())
        } else {
            Err(Errno::EMFILE)
        }
    }

    /// Give a file exactly this number, returning what had it; EBADF beyond `limit`.
    pub fn replace(
        &self,
        fd: Fd,
        file: Arc<File>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<Option<Arc<File>>, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        if index as u64 >= limit {
            return Err(Errno::EBADF);
        }
        let old = self.slots.lock().put(index, Entry { file, close_on_exec });
        Ok(old.map(|entry| entry.file).inspect(|file| self.closed(file)))
    }

    /// Free a number and return the file it had; EBADF. The caller does what close(2) does with it.
    pub fn remove(&self, fd: Fd) -> Result<Arc<File>, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let entry = self.slots.lock().take(index).ok_or(Errno::EBADF)?;
        self.closed(&entry.file);
        Ok(entry.file)
    }

    /// FD_CLOEXEC.
    pub fn close_on_exec(&self, fd: Fd) -> Result<bool, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let slots = self.slots.lock();
        slots
            .entries
            .get(index)
            .and_then(Option::as_ref)
            .map(|e| e.close_on_exec)
            .ok_or(Errno::EBADF)
    }

    /// Set FD_CLOEXEC.
    pub fn set_close_on_exec(&self, fd: Fd, on: bool) -> Result<(), Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.slots.lock();
        slots
            .entries
            .get_mut(index)
            .and_then(Option::as_mut)
            .ok_or(Errno::EBADF)?
            .close_on_exec = on;
        Ok(())
    }

    /// A copy with the same open files (fork without CLONE_FILES, unshare).
    pub fn copy(&self) -> Arc<FdTable> {
        let slots = self.slots.lock().clone();
        Arc::new(FdTable::with(slots))
    }

    /// All descriptors in use with their files.
    pub fn list(&self) -> Vec<(Fd, Arc<File>)> {
        let slots = self.slots.lock();
        (0..)
            .zip(&slots.entries)
            .filter_map(|(i, e)| e.as_ref().map(|e| (Fd(i), e.file.clone())))
            .collect()
    }

    /// Remove all descriptors that `which` (number, close-on-exec) picks and return their files.
    pub fn remove_where(&self, mut which: impl FnMut(Fd, bool) -> bool) -> Vec<Arc<File>> {
        let mut removed = Vec::new();
        {
            let mut slots = self.slots.lock();
            for (i, slot) in (0..).zip(&mut slots.entries) {
                if slot.as_ref().is_some_and(|e| which(Fd(i), e.close_on_exec)) {
                    removed.extend(slot.take().map(|e| e.file));
                }
            }
            slots.lowest = 0;
            slots.trim();
        }
        removed.iter().for_each(|file| self.closed(file));
        removed
    }

    /// Set FD_CLOEXEC on all descriptors in a range (close_range(2)).
    pub fn mark_close_on_exec(&self, first: u32, last: u32) {
        let mut slots = self.slots.lock();
        for (i, slot) in (0u32..).zip(&mut slots.entries) {
            if let Some(entry) = slot.as_mut().filter(|_| (first..=last).contains(&i)) {
                entry.close_on_exec = true;
            }
        }
    }
}

impl Slots {
    /// The lowest free number from `from` on.
    fn free_from(&self, from: usize) -> usize {
        let from = from.max(self.lowest);
        (from..self.entries.len())
            .find(|&i| self.entries[i].is_none())
            .unwrap_or_else(|| self.entries.len().max(from))
    }

    fn put(&mut self, index: usize, entry: Entry) -> Option<Entry> {
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        if index == self.lowest {
            self.lowest += 1;
        }
        self.entries[index].replace(entry)
    }

    fn take(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries.get_mut(index)?.take()?;
        self.lowest = self.lowest.min(index);
        self.trim();
        Some(entry)
    }

    /// Drop the empty end after slots were emptied.
    fn trim(&mut self) {
        while self.entries.last().is_some_and(Option::is_none) {
            self.entries.pop();
        }
        self.lowest = self.lowest.min(self.entries.len());
    }
}

impl Drop for FdTable {
    fn drop(&mut self) {
        if let Some(locks) = self.locks.get() {
            locks.release_all(self.lock_owner());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kernel::fs::{AnonKind, FileOps, OpenFlags};
    use crate::kernel::task::Creds;
    use crate::kernel::time::Clock;
    use proptest::prelude::*;

    struct Nothing;
    impl FileOps for Nothing {}

    fn files(count: usize) -> Vec<Arc<File>> {
        let fs = crate::kernel::fs::AnonFs::new();
        let (clock, creds) = (Clock::new(), Creds::of_user(0, 0, &[]));
        let kind = AnonKind::Other("[test]");
        (0..count)
            .map(|_| fs.file(&clock, &creds, kind, Arc::new(Nothing), OpenFlags::empty()))
            .collect()
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(bool, i32),
        Replace(i32, bool),
        Remove(i32),
        Mark(u32, u32),
        RemoveMarked,
        SetFlag(i32, bool),
        Fork,
    }

    fn op() -> impl Strategy<Value = Op> {
        let fd = -1i32..24;
        prop_oneof![
            4 => (any::<bool>(), 0i32..24).prop_map(|(c, from)| Op::Insert(c, from)),
            2 => (fd.clone(), any::<bool>()).prop_map(|(fd, c)| Op::Replace(fd, c)),
            4 => fd.clone().prop_map(Op::Remove),
            1 => (0u32..24, 0u32..24).prop_map(|(a, b)| Op::Mark(a.min(b), a.max(b))),
            1 => Just(Op::RemoveMarked),
            1 => (fd, any::<bool>()).prop_map(|(fd, on)| Op::SetFlag(fd, on)),
            1 => Just(Op::Fork),
        ]
    }

    /// Number to (index into the test's files, close-on-exec).
    type Model = BTreeMap<i32, (usize, bool)>;

    const LIMIT: i32 = 20;

    fn model_insert(model: &mut Model, file: usize, cloexec: bool, from: i32) -> Result<Fd, Errno> {
        let free = (from..).find(|n| !model.contains_key(n)).ok_or(Errno::EMFILE)?;
        if free >= LIMIT {
            return Err(Errno::EMFILE);
        }
        model.insert(free, (file, cloexec));
        Ok(Fd(free))
    }

    fn apply(table: &mut Arc<FdTable>, model: &mut Model, files: &[Arc<File>], step: usize, op: Op) {
        let file = step % files.len();
        let limit = LIMIT as u64;
        match op {
            Op::Insert(cloexec, from) => {
                let got = table.insert(files[file].clone(), cloexec, from, limit);
                assert_eq!(got, model_insert(model, file, cloexec, from));
            }
            Op::Replace(fd, cloexec) => {
                let got = table.replace(Fd(fd), files[file].clone(), cloexec, limit);
                if (0..LIMIT).contains(&fd) {
                    let old = model
                        .insert(fd, (file, cloexec))
                        .map(|(old, _)| files[old].clone());
                    let got = got.expect("in range");
                    assert_eq!(got.map(|f| Arc::as_ptr(&f)), old.map(|f| Arc::as_ptr(&f)));
                } else {
                    assert!(matches!(got, Err(Errno::EBADF)));
                }
            }
            Op::Remove(fd) => assert_eq!(table.remove(Fd(fd)).is_ok(), model.remove(&fd).is_some()),
            Op::Mark(first, last) => {
                table.mark_close_on_exec(first, last);
                let inside = |n: i32| (first..=last).contains(&n.unsigned_abs());
                model
                    .iter_mut()
                    .filter(|(n, _)| inside(**n))
                    .for_each(|(_, e)| e.1 = true);
            }
            Op::RemoveMarked => {
                let gone = table.remove_where(|_, cloexec| cloexec).len();
                let before = model.len();
                model.retain(|_, e| !e.1);
                assert_eq!(gone, before - model.len());
            }
            Op::SetFlag(fd, on) => {
                let known = model.get_mut(&fd).map(|e| e.1 = on).ok_or(Errno::EBADF);
                assert_eq!(table.set_close_on_exec(Fd(fd), on), known);
            }
            Op::Fork => *table = table.copy(),
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(ops in prop::collection::vec(op(), 1..120)) {
            let files = files(5);
            let mut table: Arc<FdTable> = Arc::default();
            let mut model = Model::new();
            for (step, op) in ops.into_iter().enumerate() {
                apply(&mut table, &mut model, &files, step, op);
                let seen: Vec<_> = table.list().iter().map(|(fd, f)| (fd.0, Arc::as_ptr(f))).collect();
                let wanted: Vec<_> = model.iter().map(|(n, e)| (*n, Arc::as_ptr(&files[e.0]))).collect();
                prop_assert_eq!(seen, wanted);
                for fd in -1..LIMIT {
                    prop_assert_eq!(table.close_on_exec(Fd(fd)).ok(), model.get(&fd).map(|e| e.1));
                }
                prop_assert_eq!(table.check_room(LIMIT as u64).is_ok(), model.len() < LIMIT as usize);
            }
        }
    }

    #[test]
    fn a_number_is_one_threads_until_it_is_removed() {
        const ROUNDS: usize = 2000;
        let table = FdTable::default();
        table.add_user();
        table.add_user();
        let files = files(3);
        std::thread::scope(|scope| {
            for file in &files {
                let table = &table;
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let fd = table.insert(file.clone(), false, 0, 3).expect("room for each");
                        assert!(table.get(fd).is_ok_and(|found| Arc::ptr_eq(&found, file)));
                        assert!(table.remove(fd).is_ok_and(|old| Arc::ptr_eq(&old, file)));
                    }
                    table.insert(file.clone(), false, 0, 3).expect("room for each");
                });
            }
        });
        table.drop_user();
        assert_eq!(table.list().len(), 3, "somebody uses it still");
        table.drop_user();
        assert!(table.list().is_empty());
    }
}
