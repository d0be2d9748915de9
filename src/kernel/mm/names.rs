//! Which guest files an address space maps. Each is held as long as it is mapped, as by an open descriptor; but the guest
//! unmaps memory without the kernel, so what is no longer mapped is looked for when it is missed, or has become much.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Mm;
use crate::kernel::Kernel;
use crate::kernel::fs::Path;
use crate::platform::{HostFile, Mapping, Room, Space};

/// How much is mapped before the files that no longer are get looked for: files, each of which counts by its size too.
const SWEEP_WEIGHT: u64 = 64;
const WEIGHT_UNIT: u64 = 1 << 20;

/// What tells one host file from another: device and inode.
type Key = (u64, u64);

/// Files that are mapped, or were when somebody looked last.
#[derive(Clone, Default)]
pub struct MappedFiles {
    known: HashMap<Key, Known>,
    /// What has been mapped since.
    weight: u64,
}

#[derive(Clone)]
struct Known {
    path: Path,
    /// What counts the memory of a file that is a copy.
    _room: Option<Room>,
}

impl MappedFiles {
    /// The guest's name of a mapped file.
    pub fn get(&self, key: Key) -> Option<&Path> {
        Some(&self.known.get(&key)?.path)
    }

    /// Their names.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.known.values().map(|known| &known.path)
    }

    /// `len` bytes of a file were mapped.
    pub fn add(&mut self, file: &HostFile, path: Path, len: u64) {
        let room = file.room().cloned();
        let known = Known { path, _room: room };
        if self.known.insert(file.key(), known).is_none() {
            self.weight = self.weight.saturating_add(1 + len / WEIGHT_UNIT);
        }
    }

    /// Look for those that are no longer mapped, if enough has been mapped since that was done.
    pub(super) fn sweep(&mut self, space: &dyn Space) {
        if self.weight >= SWEEP_WEIGHT.max(self.known.len() as u64)
            && let Ok(mappings) = space.mappings()
        {
            self.take_unmapped(&mappings, &|_| true);
            self.weight = 0;
        }
    }

    /// Take out those of `which` that have no mapping among all there are.
    fn take_unmapped(&mut self, mappings: &[Mapping], which: &dyn Fn(&Path) -> bool) -> Vec<Known> {
        let mapped: HashSet<_> = mappings.iter().filter_map(|mapping| mapping.file).collect();
        let gone = |key: &Key, known: &mut Known| !mapped.contains(key) && which(&known.path);
        self.known.extract_if(gone).map(|(_, known)| known).collect()
    }
}

impl Mm {
    /// Let go of the files of `which` that are no longer mapped. Whether there were any.
    fn forget_unmapped(&self, which: &dyn Fn(&Path) -> bool) -> bool {
        let mut state = self.state.lock();
        if !state.files.paths().any(which) {
            return false;
        }
        // Under the lock: what is mapped after that becomes known after that.
        let Ok(mappings) = self.space.mappings() else {
            return false;
        };
        let gone = state.files.take_unmapped(&mappings, which);
        drop(state);
        !gone.is_empty()
    }
}

/// Let go of the files of `which` that no address space maps any more. Whether there were any.
pub fn forget_unmapped(kernel: &Kernel, which: &dyn Fn(&Path) -> bool) -> bool {
    let tasks: Vec<_> = kernel.pids.lock().tasks.values().cloned().collect();
    let mut spaces: Vec<_> = tasks.iter().map(|task| task.mm()).collect();
    spaces.sort_by_key(|mm| Arc::as_ptr(mm).addr());
    spaces.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let freed = spaces.iter().filter(|mm| mm.forget_unmapped(which));
    freed.count() > 0
}

/// The same of files that have lost their names: what they take is then free.
pub fn forget_unlinked(kernel: &Kernel) -> bool {
    forget_unmapped(kernel, &|path| path.dentry.is_unlinked())
}
