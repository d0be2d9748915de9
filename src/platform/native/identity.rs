//! What the host's memory maps call a file.

use std::fs;
use std::num::NonZeroUsize;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use super::maps;
use crate::platform::{HostFile, PAGE_SIZE};

/// Device and inode by which the host's memory maps show `file`, where they may not be those of stat(2): on file systems made
/// of others (overlayfs, btrfs).
pub(in crate::platform) fn shown(file: &HostFile) -> Result<Option<(u64, u64)>, Errno> {
    if libc::major(file.key().0) != 0 || fstatfs(file)?.filesystem_type() == TMPFS_MAGIC {
        return Ok(None);
    }
    let len = NonZeroUsize::new(PAGE_SIZE as usize).ok_or(Errno::EINVAL)?;
    // SAFETY: a new mapping at an address that the host chooses, which nobody touches.
    let at = unsafe { mmap(None, len, ProtFlags::PROT_NONE, MapFlags::MAP_PRIVATE, file, 0)? };
    let text = fs::read_to_string("/proc/self/maps");
    // SAFETY: our own mapping of just now.
    unsafe { munmap(at, len.get())? };
    let start = at.as_ptr() as u64;
    let maps = maps::mappings(&text.map_err(|_| Errno::EIO)?);
    Ok(maps.iter().find(|m| m.start == start).and_then(|m| m.file))
}
