//! Parts of host files.

use std::io::{self, Read};

use anyhow::bail;
use rustix::fs::fstat;
use rustix::io::pread;

use crate::kernel::fs::diskfs::Medium;
use crate::kernel::fs::imagefs::Blob;
use crate::kernel::stop::Errno;

/// A part of a host file.
#[derive(Clone)]
pub(super) struct Window {
    file: Blob,
    start: u64,
    len: u64,
}

impl Window {
    /// All of a file.
    pub(super) fn whole(file: Blob) -> anyhow::Result<Window> {
        let len = fstat(&*file)?.st_size.cast_unsigned();
        Ok(Window { file, start: 0, len })
    }

    /// A part of this part.
    pub(super) fn part(&self, start: u64, len: u64) -> anyhow::Result<Window> {
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            bail!("it is cut short");
        }
        Ok(Window {
            file: self.file.clone(),
            start: self.start + start,
            len,
        })
    }

    pub(super) fn file(&self) -> &Blob {
        &self.file
    }

    /// Where it begins in the file.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Read at a position until `buf` is full or this ends.
    pub(super) fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let want = usize::try_from(self.len.saturating_sub(at))
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let mut done = 0;
        while done < want {
            match pread(&*self.file, &mut buf[done..want], self.start + at + done as u64)? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    /// All of it, if it is not longer than `max`.
    pub(super) fn bytes(&self, max: u64) -> anyhow::Result<Vec<u8>> {
        if self.len > max {
            bail!("it is longer than {max} bytes");
        }
        let mut bytes = vec![0; usize::try_from(self.len)?];
        let done = self.read_at(&mut bytes, 0)?;
        bytes.truncate(done);
        Ok(bytes)
    }

    /// To be read from the beginning.
    pub(super) fn reader(&self) -> WindowReader {
        WindowReader {
            window: self.clone(),
            at: 0,
        }
    }

    /// What tells this part from all others as long as nobody writes to the file.
    pub(super) fn identity(&self) -> anyhow::Result<String> {
        let st = fstat(&*self.file)?;
        Ok(format!(
            "{:x}-{:x}-{:x}-{:x}.{:x}-{:x}.{:x}-{:x}-{:x}",
            st.st_dev,
            st.st_ino,
            st.st_size,
            st.st_mtime,
            st.st_mtime_nsec,
            st.st_ctime,
            st.st_ctime_nsec,
            self.start,
            self.len
        ))
    }
}

impl Medium for Window {
    fn size(&self) -> u64 {
        self.len
    }

    fn read(&self, buf: &mut [u8], at: u64) -> Result<(), Errno> {
        match self.read_at(buf, at) {
            Ok(done) if done == buf.len() => Ok(()),
            _ => Err(Errno::EIO),
        }
    }
}

/// Reads a part of a host file from its beginning.
pub(super) struct WindowReader {
    window: Window,
    at: u64,
}

impl Read for WindowReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let done = self.window.read_at(buf, self.at)?;
        self.at += done as u64;
        Ok(done)
    }
}
