//! Open files and directories of a tree in memory.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use rustix::fs::{fdatasync, fsync};

use super::data::{Data, Lent, View, read_only};
use super::directory;
use super::node::Node;
use crate::kernel::fs::hostfs::io::{errno, read_host, seek_host, write_pieces};
use crate::kernel::fs::{DirEntry, File, FileOps, Inode, MapRequest, MountFlags, OpenFlags, Ticket};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::user_memory::{Sink, Source};
use crate::platform::{HostFile, WriteBound};

/// Whether reading through `file` leaves the access time alone.
fn moves_atime(file: &File) -> bool {
    let by_mount = |path: &crate::kernel::fs::Path| {
        let still = MountFlags::NOATIME | MountFlags::READ_ONLY;
        path.mount.flags().intersects(still)
    };
    !file.flags().contains(OpenFlags::NOATIME) && !file.path.as_ref().is_some_and(by_mount)
}

/// A regular file.
pub(super) struct MemRegular {
    node: Arc<Node>,
    /// The lower file, as long as contents are read there.
    lower: OnceLock<Arc<File>>,
    /// The data file of an upper on disk, so that it stays open.
    kept: OnceLock<Arc<HostFile>>,
}

impl MemRegular {
    /// Fails as opening the lower file fails, unless its contents are not wanted or there are none.
    pub(super) fn open(node: Arc<Node>, flags: OpenFlags) -> Result<MemRegular, Errno> {
        let truncates = flags.writable() && flags.contains(OpenFlags::TRUNC);
        let reads_lower = matches!(node.state.lock().data, Data::Lower | Data::Copying { .. });
        let file = MemRegular {
            node,
            lower: OnceLock::new(),
            kept: OnceLock::new(),
        };
        if reads_lower && !truncates {
            let opened = file.lower().map(|_| ());
            if opened == Err(Errno::EACCES) && flags.writable() && file.node.metadata()?.size == 0 {
                file.node.own_now()?;
            } else {
                opened?;
            }
        }
        Ok(file)
    }

    /// Keep a data file open as long as this is, if there are descriptors for that.
    fn keep(&self, host: &Arc<HostFile>) {
        let tree = &self.node.tree;
        if tree.disk.is_some()
            && self.kept.get().is_none()
            && tree.memfds.load(Ordering::Relaxed) < tree.memfd_limit
            && self.kept.set(host.clone()).is_ok()
        {
            tree.memfds.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lower(&self) -> Result<&Arc<File>, Errno> {
        if let Some(file) = self.lower.get() {
            return Ok(file);
        }
        let file = self.node.open_lower()?;
        Ok(self.lower.get_or_init(|| file))
    }
}

impl Drop for MemRegular {
    /// The times of what was written are told to the disk when nobody writes any more.
    fn drop(&mut self) {
        self.node.settle();
        let tree = &self.node.tree;
        if tree.disk.is_some() {
            if self.kept.get().is_some() {
                tree.memfds.fetch_sub(1, Ordering::Relaxed);
            }
            // Who syncs hears of it.
            let _ = tree.commit();
        }
    }
}

impl FileOps for MemRegular {
    fn read(&self, file: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        match self.node.view(*pos, to.remaining(), moves_atime(file))? {
            View::Bytes(bytes) => {
                let done = if bytes.is_empty() { 0 } else { to.put(&bytes)? };
                *pos += done as u64;
                Ok(done)
            }
            View::Memfd(host) => {
                self.keep(&host);
                read_host(&*host, pos, to)
            }
            View::Lower => {
                let lower = self.lower()?;
                lower.ops.read(lower, pos, to)
            }
        }
    }

    fn write(&self, file: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        self.node.own()?;
        let append = file.flags().contains(OpenFlags::APPEND);
        if self.node.tree.disk.is_none() {
            return write_pieces(pos, from, |pos, bytes| {
                self.node.write_at((!append).then_some(pos), bytes)
            });
        }
        let written = write_pieces(pos, from, |pos, bytes| {
            let written = self.node.write_at((!append).then_some(pos), bytes)?;
            if self.kept.get().is_none()
                && let Some(host) = self.node.data_file()?
            {
                self.keep(&host);
            }
            Ok(written)
        });
        self.node.tell_data();
        let written = written?;
        // O_SYNC holds the bit of O_DSYNC.
        if file.flags().contains(OpenFlags::DSYNC) {
            self.sync(file, true)?;
        }
        Ok(written)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _file: &File, offset: i64, whence: i32) -> SysResult<u64> {
        let size = match self.node.view(0, 0, false)? {
            View::Memfd(host) => return Ok(seek_host(&*host, offset, whence)?),
            View::Lower if whence != libc::SEEK_END => {
                let lower = self.lower()?;
                return lower.ops.seek(lower, offset, whence);
            }
            _ => self.node.metadata()?.size,
        };
        let inside = u64::try_from(offset).ok().filter(|&offset| offset < size);
        Ok(match whence {
            libc::SEEK_END => size.checked_add_signed(offset).ok_or(Errno::EINVAL)?,
            libc::SEEK_DATA => inside.ok_or(Errno::ENXIO)?,
            libc::SEEK_HOLE => inside.map(|_| size).ok_or(Errno::ENXIO)?,
            _ => return Err(Errno::EINVAL.into()),
        })
    }

    fn pollable(&self) -> bool {
        false
    }

    fn map(&self, _file: &File, request: &MapRequest) -> SysResult<Arc<HostFile>> {
        if request.shared && request.write {
            self.node.own()?;
        }
        let Some(host) = self.node.mappable(request.shared && request.write)? else {
            let lower = self.lower()?;
            return lower.ops.map(lower, request);
        };
        self.node.tell_data();
        // A guest process may use what it was handed for other mappings than the one that was meant.
        if request.write {
            Ok(host)
        } else {
            Ok(read_only(&host)?)
        }
    }

    fn lend(&self, file: &File, ticket: &Arc<Ticket>) -> Option<Arc<HostFile>> {
        match self.node.lend(moves_atime(file), ticket)? {
            Lent::Memfd(host) => read_only(&host).ok(),
            Lent::Lower => {
                let lower = self.lower().ok()?;
                lower.ops.lend(lower, ticket)
            }
        }
    }

    fn lend_for_writing(&self, _file: &File, ticket: &Arc<Ticket>) -> Option<(Arc<HostFile>, WriteBound)> {
        self.node.lend_for_writing(ticket)
    }

    fn sync(&self, _file: &File, data_only: bool) -> SysResult<()> {
        if let Some(host) = self.node.data_file()? {
            let synced = if data_only {
                fdatasync(&*host)
            } else {
                fsync(&*host)
            };
            synced.map_err(errno)?;
        }
        Ok(self.node.tree.sync_names()?)
    }

    fn allocate(&self, _file: &File, mode: i32, offset: u64, len: u64) -> SysResult<u64> {
        self.node.allocate(mode, offset, len)?;
        self.node.tell_data();
        Ok(len)
    }
}

/// A directory. Positions in it do not depend on who reads it.
pub(super) struct MemDirectory {
    node: Arc<Node>,
}

impl MemDirectory {
    pub(super) fn new(node: Arc<Node>) -> MemDirectory {
        MemDirectory { node }
    }
}

impl FileOps for MemDirectory {
    fn read(&self, _file: &File, _pos: &mut u64, _to: &mut dyn Sink) -> SysResult<usize> {
        Err(Errno::EISDIR.into())
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _file: &File, _offset: i64, _whence: i32) -> SysResult<u64> {
        Err(Errno::EINVAL.into())
    }

    fn pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        directory::list(&self.node, pos, emit)?;
        if moves_atime(file) {
            let now = self.node.tree.now();
            self.node.state.lock().accessed(now);
        }
        Ok(())
    }

    fn sync(&self, _file: &File, _data_only: bool) -> SysResult<()> {
        Ok(self.node.tree.sync_names()?)
    }
}
