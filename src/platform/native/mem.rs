//! Guest memory as a debugger reaches it: /proc/PID/mem, which ignores page protections.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use libc::pid_t;

use crate::platform::{PAGE_SIZE, USER_END};

/// The file, opened when first needed. It keeps meaning the same memory whatever becomes of the process.
#[derive(Default)]
pub(in crate::platform) struct Mem(OnceLock<File>);

impl Mem {
    /// Copy from memory that the processes `pids` share; the number of bytes copied.
    pub(in crate::platform) fn peek(
        &self,
        pids: impl IntoIterator<Item = pid_t>,
        addr: u64,
        buf: &mut [u8],
    ) -> usize {
        let Some(mem) = self.file(pids) else { return 0 };
        by_pages(addr, below_end(addr, buf.len()), |at, len| {
            mem.read_at(&mut buf[at..at + len], addr + at as u64).ok()
        })
    }

    /// Copy to it.
    pub(in crate::platform) fn poke(
        &self,
        pids: impl IntoIterator<Item = pid_t>,
        addr: u64,
        buf: &[u8],
    ) -> usize {
        let Some(mem) = self.file(pids) else { return 0 };
        by_pages(addr, below_end(addr, buf.len()), |at, len| {
            mem.write_at(&buf[at..at + len], addr + at as u64).ok()
        })
    }

    fn file(&self, pids: impl IntoIterator<Item = pid_t>) -> Option<&File> {
        if let Some(file) = self.0.get() {
            return Some(file);
        }
        let open = |pid| {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .open(format!("/proc/{pid}/mem"))
                .ok()
        };
        let file = pids.into_iter().find_map(open)?;
        Some(self.0.get_or_init(|| file))
    }
}

/// How much of `len` bytes at `addr` lies in the guest's part.
pub(in crate::platform) fn below_end(addr: u64, len: usize) -> usize {
    len.min(usize::try_from(USER_END.saturating_sub(addr)).unwrap_or(0))
}

/// Move `len` bytes page by page with `transfer(offset, length)` until it fails.
fn by_pages(addr: u64, len: usize, mut transfer: impl FnMut(usize, usize) -> Option<usize>) -> usize {
    let mut done = 0;
    while done < len {
        let piece = (PAGE_SIZE - (addr + done as u64) % PAGE_SIZE).min((len - done) as u64) as usize;
        match transfer(done, piece) {
            Some(moved) if moved > 0 => done += moved,
            _ => break,
        }
    }
    done
}
