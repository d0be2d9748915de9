//! Having on the disk what was told.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, fdatasync, fsync, syncfs, unlinkat};

use super::Disk;
use crate::kernel::fs::hostfs::io::errno;
use crate::kernel::fs::memfs::Tree;
use crate::kernel::stop::Errno;

impl Tree {
    /// Have all that was told before be on the disk.
    pub(in crate::kernel::fs::memfs) fn sync_names(&self) -> Result<(), Errno> {
        self.commit()?;
        self.disk.as_ref().map_or(Ok(()), Disk::sync)
    }

    /// Have everything be on the disk.
    pub(in crate::kernel::fs::memfs) fn sync_all(&self) -> Result<(), Errno> {
        let Some(disk) = &self.disk else { return Ok(()) };
        self.commit()?;
        syncfs(&disk.dir).map_err(errno)?;
        disk.sync()
    }
}

impl Disk {
    /// Have the journal, and the names of data files, be on the disk.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        // First these: what the journal says of them is in it by now.
        let gone = {
            let mut pending = self.pending.lock();
            pending.gone_bytes = 0;
            std::mem::take(&mut pending.gone)
        };
        if let Err(errno) = self.sync_journal() {
            self.pending.lock().gone.extend(gone);
            return Err(errno);
        }
        for id in gone {
            // One that never was is as good as gone.
            let _ = unlinkat(&self.data, id.to_string(), AtFlags::empty());
        }
        Ok(())
    }

    fn sync_journal(&self) -> Result<(), Errno> {
        let host = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
        let (file, len, generation, synced) = {
            let log = self.log.lock();
            let file = log.journal.file().map_err(host)?;
            (file, log.journal.len(), log.generation, log.journal.is_synced())
        };
        self.wait(&file, synced)?;
        let mut log = self.log.lock();
        if log.generation == generation {
            log.journal.note_synced(len);
        }
        Ok(())
    }

    fn wait(&self, journal: &File, synced: bool) -> Result<(), Errno> {
        if self.fresh.swap(false, Ordering::AcqRel)
            && let Err(e) = fsync(&self.data)
        {
            self.fresh.store(true, Ordering::Release);
            return Err(errno(e));
        }
        if synced {
            Ok(())
        } else {
            fdatasync(journal).map_err(errno)
        }
    }
}
