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
