//! Special files: who opens devices and FIFOs.

use std::collections::HashMap;
use std::sync::Arc;

use super::{FileOps, FileType, OpenFlags, Path};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;

/// Major part of a device number.
pub fn major(dev: u64) -> u32 {
    libc::major(dev)
}

/// Minor part of a device number.
pub fn minor(dev: u64) -> u32 {
    libc::minor(dev)
}

/// Opens what is behind a special file.
pub trait Driver: Send + Sync {
    /// Open the node at `path`. May block: the whole open(2) is then run again with the same `cx.state`.
    fn open(&self, cx: &mut SyscallCx<'_>, path: &Path, flags: OpenFlags) -> SysResult<Arc<dyn FileOps>>;
}

/// What a driver is responsible for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// One character device.
    Char(u32, u32),
    /// All character devices of a major number without a driver of their own.
    CharMajor(u32),
    /// One block device.
    Block(u32, u32),
    /// All block devices of a major number without a driver of their own.
    BlockMajor(u32),
    /// FIFOs, and pipes reopened through /proc/PID/fd.
    Fifo,
}

/// The drivers of a guest.
pub struct SpecialFiles(Lock<HashMap<Special, Arc<dyn Driver>>>);

impl Default for SpecialFiles {
    fn default() -> Self {
        SpecialFiles(Lock::new(Rank::Table, HashMap::new()))
    }
}

impl SpecialFiles {
    /// Make `driver` responsible.
    pub fn register(&self, what: Special, driver: Arc<dyn Driver>) {
        self.0.lock().insert(what, driver);
    }

    /// The driver for an inode of this type and device number. ENXIO when there is none, and for sockets.
    pub fn driver(&self, kind: FileType, rdev: u64) -> Result<Arc<dyn Driver>, Errno> {
        let (major, minor) = (major(rdev), minor(rdev));
        let keys = match kind {
            FileType::Fifo => [Special::Fifo; 2],
            FileType::CharDevice => [Special::Char(major, minor), Special::CharMajor(major)],
            FileType::BlockDevice => [Special::Block(major, minor), Special::BlockMajor(major)],
            _ => return Err(Errno::ENXIO),
        };
        let drivers = self.0.lock();
        keys.iter()
            .find_map(|key| drivers.get(key).cloned())
            .ok_or(Errno::ENXIO)
    }
}
