//! ETXTBSY: a file that is executed cannot be opened for writing, nor the other way round.

use std::collections::HashMap;
use std::sync::Arc;

use super::Inode;
use super::locks::InodeId;
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};

/// What a file is in use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Open for writing, or about to be truncated.
    Write,
    /// Executed.
    Execute,
}

/// Regular files that are being written or executed.
pub struct BusyFiles(Lock<HashMap<InodeId, (Use, usize)>>);

/// A use of a file, which ends when this is dropped.
pub struct InUse {
    files: Arc<BusyFiles>,
    inode: InodeId,
}

impl Default for BusyFiles {
    fn default() -> Self {
        BusyFiles(Lock::new(Rank::Table, HashMap::new()))
    }
}

impl BusyFiles {
    /// Begin to use a file. ETXTBSY while it is in the other use.
    pub fn begin(self: &Arc<Self>, inode: &Arc<dyn Inode>, wanted: Use) -> Result<InUse, Errno> {
        let meta = inode.metadata()?;
        let inode = (meta.dev, meta.ino);
        let mut files = self.0.lock();
        let (present, count) = files.entry(inode).or_insert((wanted, 0));
        if *present != wanted {
            return Err(Errno::ETXTBSY);
        }
        *count += 1;
        Ok(InUse {
            files: self.clone(),
            inode,
        })
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut files = self.files.0.lock();
        if let Some((_, count)) = files.get_mut(&self.inode) {
            *count -= 1;
            if *count == 0 {
                files.remove(&self.inode);
            }
        }
    }
}
