//! Memory that guests can map and only read, while the supervisor writes it.

use std::ffi::CStr;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{HostFile, PAGE_SIZE, program};

/// `F_SEAL_FUTURE_WRITE` of Linux 5.1.
const SEAL_FUTURE_WRITE: SealFlag = SealFlag::from_bits_retain(0x10);

/// A memory file that is sealed against further writing and further writable shared mappings once it has been mapped here.
pub struct SharedMemory {
    file: Arc<HostFile>,
    map: NonNull<u8>,
    len: NonZeroUsize,
}

// SAFETY: the mapping is shared memory that is only accessed by atomics.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// `len` bytes, all zero but for `contents` from the byte `offset` on.
    ///
    /// # Errors
    /// What the host says to a memory file; EINVAL when `len` is zero.
    pub fn new(name: &CStr, len: u64, contents: &[u8], offset: u64) -> Result<SharedMemory, Errno> {
        let os = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::ENOMEM));
        let file = File::from(program::memfd(name)?);
        file.set_len(len).map_err(os)?;
        file.write_all_at(contents, offset).map_err(os)?;
        let len = usize::try_from(len).ok().and_then(NonZeroUsize::new);
        let len = len.ok_or(Errno::EINVAL)?;
        let prot = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address that the host chooses.
        let map = unsafe { mmap(None, len, prot, MapFlags::MAP_SHARED, &file, 0)? }.cast();
        let memory = SharedMemory {
            file: HostFile::new(file.into())?,
            map,
            len,
        };
        let seals =
            SEAL_FUTURE_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
        fcntl(&memory.file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(memory)
    }

    /// For stubs to map.
    pub fn file(&self) -> &Arc<HostFile> {
        &self.file
    }

    /// Bytes of it.
    pub fn size(&self) -> u64 {
        self.len.get() as u64
    }

    /// The word at eight times `index` bytes, which is in the first page.
    ///
    /// # Panics
    /// When it is not.
    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < PAGE_SIZE as usize / size_of::<u64>(), "in the first page");
        // SAFETY: inside the mapping, which is whole pages, aligned, and lives as long as `self`.
        unsafe { &*self.map.as_ptr().cast::<AtomicU64>().add(index) }
    }

    /// Its first byte. What is read and written from there must be atomic.
    pub(super) fn start(&self) -> NonNull<u8> {
        self.map
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: our own mapping, of which nothing is borrowed any more.
        let unmapped = unsafe { munmap(self.map.cast(), self.len.get()) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_write_it() {
        let memory = SharedMemory::new(c"uvm-test", 8192, b"text", 4096).unwrap();
        memory.word(2).store(0x1234, std::sync::atomic::Ordering::SeqCst);
        let file = File::from(
            std::os::fd::AsFd::as_fd(&*memory.file)
                .try_clone_to_owned()
                .unwrap(),
        );
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 4096).unwrap();
        assert_eq!(&bytes, b"text");
        file.read_exact_at(&mut bytes, 16).unwrap();
        assert_eq!(bytes, [0x34, 0x12, 0, 0]);
        let refused = file.write_all_at(b"x", 0).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        let len = NonZeroUsize::new(4096).unwrap();
        let map = |prot| {
            // SAFETY: a new mapping at an address that the host chooses, never accessed.
            unsafe { mmap(None, len, prot, MapFlags::MAP_SHARED, &file, 0) }
        };
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        assert_eq!(map(both).err(), Some(Errno::EPERM));
        let read_only = map(ProtFlags::PROT_READ).unwrap();
        // SAFETY: the mapping just made, which nothing refers to.
        unsafe {
            assert_eq!(
                nix::sys::mman::mprotect(read_only, 4096, both),
                Err(Errno::EACCES)
            );
            munmap(read_only, 4096).unwrap();
        }
    }
}
