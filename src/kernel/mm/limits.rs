//! What setrlimit(2) allows an address space to hold: RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK.

use crate::kernel::stop::Errno;
use crate::kernel::task::{Capability, Task};
use crate::platform::Space;

/// The resources whose limits are checked whenever a mapping is made.
pub(in crate::kernel) const OF_MEMORY: [u32; 2] = [libc::RLIMIT_AS, libc::RLIMIT_DATA];

/// A task's limits at one moment, read before any lock of the address space is taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    address_space: u64,
    /// RLIMIT_DATA.
    pub(super) data: u64,
    /// Bytes that may be locked; 0 for none.
    pub(super) locked: u64,
}

impl Limits {
    /// The limits of `task`.
    pub(super) fn of(task: &Task) -> Limits {
        let locked = if task.creds().capable(Capability::IpcLock) {
            u64::MAX
        } else {
            task.group.soft_limit(libc::RLIMIT_MEMLOCK)
        };
        Limits {
            address_space: task.group.soft_limit(libc::RLIMIT_AS),
            data: task.group.soft_limit(libc::RLIMIT_DATA),
            locked,
        }
    }

    /// Whether one of [`OF_MEMORY`] is set.
    pub(super) fn bind(&self) -> bool {
        self.address_space != u64::MAX || self.data != u64::MAX
    }

    /// ENOMEM when `bytes` more would lead beyond RLIMIT_AS or, for private writable memory (`data`), beyond
    /// RLIMIT_DATA. The host is only asked when a limit is set.
    pub(super) fn check(&self, space: &dyn Space, bytes: u64, data: bool) -> Result<(), Errno> {
        let data_limit = if data { self.data } else { u64::MAX };
        if self.address_space == u64::MAX && data_limit == u64::MAX {
            return Ok(());
        }
        let size = space.size()?;
        let fits = |now: u64, limit: u64| now.checked_add(bytes).is_some_and(|sum| sum <= limit);
        if fits(size.total, self.address_space) && fits(size.data, data_limit) {
            Ok(())
        } else {
            Err(Errno::ENOMEM)
        }
    }
}
