//! What the host's kernel tells of itself and lets itself be told: file systems that are no place for files.

use std::collections::HashMap;
use std::os::fd::AsFd;

use rustix::fs::fstatfs;

use super::host;
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};

/// What statfs(2) calls them.
const MAGIC: [i64; 24] = [
    0x9fa0,      // proc
    0x9fa1,      // openprom
    0x9fa2,      // usbfs
    0x6265_6572, // sysfs
    0x6265_6570, // configfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x0765_5821, // resctrl
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x5a3c_69f0, // apparmorfs
    0x4249_4e4d, // binfmt_misc
    0x6573_5543, // fusectl
    0x6e73_6673, // nsfs
    0x0000_1cd1, // devpts
    0x1980_0202, // mqueue
    0x6c6f_6f70, // binder
    0xabba_1974, // xenfs
];

/// Devices that were looked at.
pub(super) struct Known(Lock<HashMap<u64, bool>>);

impl Default for Known {
    fn default() -> Self {
        Known(Lock::new(Rank::Leaf, HashMap::new()))
    }
}

impl Known {
    /// Whether a device is the kernel's own; `open` makes a descriptor of something on it.
    pub(super) fn has<F: AsFd>(
        &self,
        device: u64,
        open: impl FnOnce() -> Result<F, Errno>,
    ) -> Result<bool, Errno> {
        if let Some(known) = self.0.lock().get(&device) {
            return Ok(*known);
        }
        let magic = fstatfs(open()?).map_err(host::errno)?.f_type;
        let has = MAGIC.contains(&magic);
        self.0.lock().insert(device, has);
        Ok(has)
    }
}
