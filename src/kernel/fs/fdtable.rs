//! Descriptor tables.

use std::sync::Arc;

use super::File;
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
#[derive(Default)]
pub struct FdTable(Lock<Slots>);

impl Default for Lock<Slots> {
    fn default() -> Self {
        Lock::new(Rank::Files, Slots::default())
    }
}

/// The table's contents. Slots are in number order; the vector never ends with an empty one.
#[derive(Clone, Default)]
pub struct Slots {
    entries: Vec<Option<Entry>>,
}

#[derive(Clone)]
struct Entry {
    file: Arc<File>,
    close_on_exec: bool,
}

impl FdTable {
    /// The file behind a descriptor; EBADF. O_PATH files too, so calls that act on contents use [`FdTable::get`].
    pub fn get_any(&self, fd: Fd) -> Result<Arc<File>, Errno> {
        let slots = self.0.lock();
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
        let mut slots = self.0.lock();
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
        if (self.0.lock().free_from(0) as u64) < limit {
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
        Ok(self
            .0
            .lock()
            .put(index, Entry { file, close_on_exec })
            .map(|e| e.file))
    }

    /// Free a number and return the file it had; EBADF. The caller does what close(2) does with it.
    pub fn remove(&self, fd: Fd) -> Result<Arc<File>, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let mut slots = self.0.lock();
        let entry = slots
            .entries
            .get_mut(index)
            .and_then(Option::take)
            .ok_or(Errno::EBADF)?;
        slots.trim();
        Ok(entry.file)
    }

    /// FD_CLOEXEC.
    pub fn close_on_exec(&self, fd: Fd) -> Result<bool, Errno> {
        let index = usize::try_from(fd.0).map_err(|_| Errno::EBADF)?;
        let slots = self.0.lock();
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
        let mut slots = self.0.lock();
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
        let slots = self.0.lock().clone();
        Arc::new(FdTable(Lock::new(Rank::Files, slots)))
    }

    /// All descriptors in use with their files.
    pub fn list(&self) -> Vec<(Fd, Arc<File>)> {
        let slots = self.0.lock();
        (0..)
            .zip(&slots.entries)
            .filter_map(|(i, e)| e.as_ref().map(|e| (Fd(i), e.file.clone())))
            .collect()
    }

    /// Remove all descriptors that `which` (number, close-on-exec) picks and return their files.
    pub fn remove_where(&self, mut which: impl FnMut(Fd, bool) -> bool) -> Vec<Arc<File>> {
        let mut slots = self.0.lock();
        let mut removed = Vec::new();
        for (i, slot) in (0..).zip(&mut slots.entries) {
            if slot.as_ref().is_some_and(|e| which(Fd(i), e.close_on_exec)) {
                removed.extend(slot.take().map(|e| e.file));
            }
        }
        slots.trim();
        removed
    }

    /// Set FD_CLOEXEC on all descriptors in a range (close_range(2)).
    pub fn mark_close_on_exec(&self, first: u32, last: u32) {
        let mut slots = self.0.lock();
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
        (from..self.entries.len())
            .find(|&i| self.entries[i].is_none())
            .unwrap_or_else(|| self.entries.len().max(from))
    }

    fn put(&mut self, index: usize, entry: Entry) -> Option<Entry> {
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index].replace(entry)
    }

    fn trim(&mut self) {
        while self.entries.last().is_some_and(Option::is_none) {
            self.entries.pop();
        }
    }
}
