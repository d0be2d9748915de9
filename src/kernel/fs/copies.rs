//! Copies of files that cannot be mapped where they are: in archives they do not begin at pages, and may be compressed.
//! A copy is a memfd that can only be read; the last ones are kept for those who will map them again.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::pwrite;

use super::hostfs::io::{errno, reopen_read_only};
use super::hostfs::recent::{Kept, Recent};
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::user_memory::CHUNK;
use crate::platform::HostFile;

/// Most copies kept.
const KEPT_MAX: usize = 256;

/// The copies of one file system's files.
pub(super) struct Copies {
    recent: Recent<Arc<HostFile>>,
    /// Copies in use or kept.
    known: Lock<HashMap<u64, Known>>,
}

struct Known {
    kept: Weak<Kept<Arc<HostFile>>>,
    used: Weak<HostFile>,
}

impl Default for Copies {
    fn default() -> Self {
        Copies {
            recent: Recent::new(KEPT_MAX),
            known: Lock::new(Rank::Table, HashMap::new()),
        }
    }
}

impl Copies {
    /// The copy of a file. `next_data` says where data is at or behind a position, `read` reads so many bytes there.
    pub(super) fn get(
        &self,
        key: u64,
        size: u64,
        next_data: &dyn Fn(u64) -> Result<Option<u64>, Errno>,
        read: &dyn Fn(u64, usize) -> Result<Vec<u8>, Errno>,
    ) -> Result<Arc<HostFile>, Errno> {
        if let Some(known) = self.known.lock().get(&key) {
            if let Some(kept) = known.kept.upgrade() {
                return Ok(kept.get().clone());
            }
            if let Some(used) = known.used.upgrade() {
                return Ok(used);
            }
        }
        let memfd = memfd_create("uvm", MemfdFlags::CLOEXEC).map_err(errno)?;
        ftruncate(&memfd, size).map_err(errno)?;
        let mut pos = 0;
        while pos < size {
            let Some(data) = next_data(pos)? else { break };
            pos = data;
            let bytes = read(pos, CHUNK)?;
            if bytes.is_empty() {
                break;
            }
            let mut done = 0;
            while done < bytes.len() {
                let n = pwrite(&memfd, &bytes[done..], pos + done as u64).map_err(errno)?;
                if n == 0 {
                    return Err(Errno::ENOSPC);
                }
                done += n;
            }
            pos += bytes.len() as u64;
        }
        let file = HostFile::new(reopen_read_only(memfd.as_fd())?)?;
        let known = Known {
            kept: Arc::downgrade(&self.recent.insert(file.clone())),
            used: Arc::downgrade(&file),
        };
        self.known.lock().insert(key, known);
        Ok(file)
    }
}
