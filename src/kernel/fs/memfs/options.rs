//! Mount options of tmpfs(5).

use std::fmt::Write;
use std::sync::Arc;

use crate::kernel::stop::Errno;
use crate::kernel::time::Clock;
use crate::platform::PAGE_SIZE;

/// How a tree in memory behaves.
#[derive(Clone)]
pub struct MemFsOptions {
    /// Device number that its files show.
    pub dev: u64,
    /// Where file times come from.
    pub clock: Arc<Clock>,
    /// Most bytes of contents (`size=`).
    pub size: u64,
    /// Most inodes (`nr_inodes=`).
    pub inodes: u64,
    /// Permission bits of an empty tree's root (`mode=`).
    pub mode: u32,
    /// Owner of an empty tree's root (`uid=`).
    pub uid: u32,
    /// Group of an empty tree's root (`gid=`).
    pub gid: u32,
}

impl MemFsOptions {
    /// Linux's defaults: half of the memory there is, an inode for every two pages, a root as /tmp has it.
    pub fn new(dev: u64, clock: Arc<Clock>) -> MemFsOptions {
        let total = total_memory();
        MemFsOptions {
            dev,
            clock,
            size: total / 2,
            inodes: total / 2 / PAGE_SIZE,
            mode: 0o1777,
            uid: 0,
            gid: 0,
        }
    }

    /// Apply the comma-separated options of mount(2). EINVAL for one that tmpfs does not have.
    pub fn apply(mut self, data: &[u8]) -> Result<MemFsOptions, Errno> {
        let data = std::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        for option in data.split(',').filter(|o| !o.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "size" => self.size = parse_size(value)?,
                "nr_blocks" => {
                    let pages = parse_scaled(value)?;
                    self.size = pages.checked_mul(PAGE_SIZE).ok_or(Errno::EINVAL)?;
                }
                "nr_inodes" => self.inodes = parse_scaled(value)?,
                "mode" => {
                    let mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)?;
                    self.mode = mode & 0o7777;
                }
                "uid" => self.uid = value.parse().map_err(|_| Errno::EINVAL)?,
                "gid" => self.gid = value.parse().map_err(|_| Errno::EINVAL)?,
                // About the placement of memory and the width of inode numbers, of which there is one kind here.
                "huge" | "mpol" | "inode32" | "inode64" | "noswap" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        // 0 is no limit.
        if self.size == 0 {
            self.size = i64::MAX as u64;
        }
        if self.inodes == 0 {
            self.inodes = i64::MAX as u64;
        }
        Ok(self)
    }

    /// As /proc/mounts shows them.
    pub(super) fn shown(&self, overlay: bool) -> String {
        let mut shown = String::new();
        if overlay {
            return shown;
        }
        // Writing to a string does not fail.
        let _ = write!(shown, ",size={}k,nr_inodes={}", self.size / 1024, self.inodes);
        if self.mode != 0o1777 {
            let _ = write!(shown, ",mode={:o}", self.mode);
        }
        if self.uid != 0 {
            let _ = write!(shown, ",uid={}", self.uid);
        }
        if self.gid != 0 {
            let _ = write!(shown, ",gid={}", self.gid);
        }
        shown
    }
}

/// Host memory in bytes.
/// Bytes of memory of this machine.
pub(in crate::kernel::fs) fn total_memory() -> u64 {
    const FALLBACK: u64 = 1 << 30;
    nix::sys::sysinfo::sysinfo().map_or(FALLBACK, |info| info.ram_total())
}

/// A number of bytes with a suffix, or a share of memory (`50%`), up to whole pages.
fn parse_size(text: &str) -> Result<u64, Errno> {
    let size = match text.strip_suffix('%') {
        Some(percent) => {
            let percent: u64 = percent.parse().map_err(|_| Errno::EINVAL)?;
            (total_memory() / 100).checked_mul(percent).ok_or(Errno::EINVAL)?
        }
        None => parse_scaled(text)?,
    };
    size.checked_next_multiple_of(PAGE_SIZE).ok_or(Errno::EINVAL)
}

/// A number with an optional binary suffix.
fn parse_scaled(text: &str) -> Result<u64, Errno> {
    let shift = match text.bytes().last() {
        Some(b'k' | b'K') => 10,
        Some(b'm' | b'M') => 20,
        Some(b'g' | b'G') => 30,
        Some(b't' | b'T') => 40,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(data: &str) -> Result<MemFsOptions, Errno> {
        MemFsOptions::new(1, Arc::new(Clock::new())).apply(data.as_bytes())
    }

    #[test]
    fn options_are_those_of_tmpfs() {
        let parsed = options("size=64m,mode=755,nr_inodes=1k,uid=5,gid=6").unwrap();
        assert_eq!((parsed.size, parsed.inodes, parsed.mode), (64 << 20, 1024, 0o755));
        assert_eq!(
            parsed.shown(false),
            ",size=65536k,nr_inodes=1024,mode=755,uid=5,gid=6"
        );
        assert_eq!(options("size=1").unwrap().size, 4096);
        assert!(options("size=50%").unwrap().size > 0);
        for bad in [
            "size=x",
            "size=",
            "size=99999999999999t",
            "mode=9",
            "nonsense",
            "uid=-1",
        ] {
            assert_eq!(options(bad).err(), Some(Errno::EINVAL), "{bad}");
        }
    }
}
