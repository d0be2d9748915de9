//! Reading files of a guest from outside of it.

use std::io;
use std::sync::Arc;

use crate::kernel::fs::{File, Inode, OpenFlags};
use crate::kernel::stop::{Errno, Stop};
use crate::kernel::user_memory::KernelSink;

/// A regular file or a directory, opened for reading.
pub struct InodeReader {
    file: Arc<File>,
    pos: u64,
}

impl InodeReader {
    /// Open it.
    pub fn open(inode: &Arc<dyn Inode>) -> Result<InodeReader, Errno> {
        let ops = inode.clone().open(OpenFlags::empty())?;
        let file = File::anonymous(ops, String::new(), inode.clone(), OpenFlags::empty());
        Ok(InodeReader { file, pos: 0 })
    }

    /// Where it reads next.
    pub fn position(&self) -> u64 {
        self.pos
    }

    /// Read there next.
    pub fn set_position(&mut self, pos: u64) {
        self.pos = pos;
    }

    /// Move behind the hole that begins here, if one does and the file tells of it.
    pub fn skip_hole(&mut self) -> Result<(), Errno> {
        let seek = |offset, whence| self.file.ops.seek(&self.file, offset, whence).map_err(errno);
        let here = self.pos.cast_signed();
        match seek(here, libc::SEEK_DATA) {
            Ok(data) => self.pos = data.max(self.pos),
            // Nothing but a hole up to the end.
            Err(Errno::ENXIO) => self.pos = seek(0, libc::SEEK_END)?.max(self.pos),
            // It does not tell.
            Err(Errno::EINVAL | Errno::ESPIPE | Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// The names in a directory, in byte order.
    pub fn names(self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        let listed = self.file.ops.read_dir(&self.file, 0, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                names.push(entry.name);
            }
            true
        });
        listed.map_err(errno)?;
        names.sort();
        Ok(names)
    }
}

/// Files outside a guest's calls never wait.
fn errno(stop: Stop) -> Errno {
    match stop {
        Stop::Errno(errno, _) => errno,
        _ => Errno::EIO,
    }
}

impl io::Read for InodeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut sink = KernelSink::new(buf.len());
        let done = self.file.ops.read(&self.file, &mut self.pos, &mut sink);
        done.map_err(|stop| io::Error::from(errno(stop)))?;
        let bytes = sink.bytes;
        buf[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}
