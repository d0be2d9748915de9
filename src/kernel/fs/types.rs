//! What mount(2) can mount: file system types by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::FileSystem;
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::Task;

/// Makes an instance of a file system for a task, from mount(2)'s source and data strings.
pub type Mounter = Arc<dyn Fn(&Task, &[u8], &[u8]) -> Result<Arc<dyn FileSystem>, Errno> + Send + Sync>;

/// Whether a type is that of what is on a block device.
type NeedsDevice = bool;

/// The registry.
pub struct FsTypes(Lock<BTreeMap<&'static str, (Mounter, NeedsDevice)>>);

impl Default for FsTypes {
    fn default() -> Self {
        FsTypes(Lock::new(Rank::Table, BTreeMap::new()))
    }
}

impl FsTypes {
    /// Add or replace a type.
    pub fn register(&self, name: &'static str, mounter: Mounter) {
        self.0.lock().insert(name, (mounter, false));
    }

    /// Add or replace a type of what is on a block device.
    pub fn register_disk(&self, name: &'static str, mounter: Mounter) {
        self.0.lock().insert(name, (mounter, true));
    }

    /// Whether this type is that of what is on a block device.
    pub fn needs_device(&self, name: &str) -> bool {
        self.0.lock().get(name).is_some_and(|(_, needs)| *needs)
    }

    /// The type called so; ENODEV.
    pub fn find(&self, name: &[u8]) -> Result<Mounter, Errno> {
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENODEV)?;
        let types = self.0.lock();
        types
            .get(name)
            .map(|(mounter, _)| mounter.clone())
            .ok_or(Errno::ENODEV)
    }

    /// All names, for /proc/filesystems.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.lock().keys().copied().collect()
    }
}
