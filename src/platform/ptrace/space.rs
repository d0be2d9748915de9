//! A guest address space: the memory of one or several host processes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use nix::errno::Errno;

use super::core::Core;
use super::mail::lock;
use super::tracee::Tracee;
use crate::platform::native::{maps, remote};
use crate::platform::{HOST_END, Mapping, MappingUsage, PAGE_SIZE, Space, SpaceSize, USER_END};

pub(super) struct PtraceSpace {
    core: Weak<Core>,
    /// The living host threads in it; any one gives access.
    members: Mutex<Vec<Tracee>>,
    /// /proc/TID/mem, opened when first needed. It keeps meaning this memory whatever becomes of the thread.
    mem: OnceLock<File>,
}

impl PtraceSpace {
    pub(super) fn new(core: &Arc<Core>) -> Arc<PtraceSpace> {
        Arc::new(PtraceSpace {
            core: Arc::downgrade(core),
            members: Mutex::default(),
            mem: OnceLock::new(),
        })
    }

    pub(super) fn add(&self, tracee: Tracee) {
        lock(&self.members).push(tracee);
    }

    pub(super) fn remove(&self, tracee: Tracee) {
        lock(&self.members).retain(|&t| t != tracee);
    }

    /// Run `copy` with one living thread after another until one of them gets anywhere: one that is being killed has no
    /// memory any more while its siblings in other processes still do.
    fn with_member(&self, mut copy: impl FnMut(Tracee) -> usize) -> usize {
        let first = match lock(&self.members).as_slice() {
            [] => return 0,
            [first, ..] => *first,
        };
        let done = copy(first);
        if done > 0 || Errno::last() != Errno::ESRCH {
            return done;
        }
        let others: Vec<Tracee> = lock(&self.members).iter().skip(1).copied().collect();
        others.into_iter().map(copy).find(|&done| done > 0).unwrap_or(0)
    }

    /// Run `copy(bytes done so far)`, which moves some of `len` bytes at `addr`, until it gets no further. Linux grows a
    /// stack that a syscall is given an untouched part of; the host does so only for accesses of the thread itself.
    fn growing(&self, addr: u64, len: usize, mut copy: impl FnMut(usize) -> usize) -> usize {
        let len = below_end(addr, len);
        let mut done = copy(0);
        while done < len {
            let Some(core) = self.core.upgrade() else { break };
            if !core.touch(self, addr + done as u64) {
                break;
            }
            match copy(done) {
                0 => break,
                more => done += more,
            }
        }
        done
    }

    fn read_proc(&self, name: &str) -> Result<String, Errno> {
        let members = lock(&self.members).clone();
        for tracee in members {
            match fs::read_to_string(format!("/proc/{}/{name}", tracee.0)) {
                Ok(text) if !text.is_empty() => return Ok(text),
                _ => {}
            }
        }
        Err(Errno::ESRCH)
    }

    fn mem(&self) -> Option<&File> {
        if let Some(file) = self.mem.get() {
            return Some(file);
        }
        let members = lock(&self.members).clone();
        let file = members.into_iter().find_map(|t| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(format!("/proc/{}/mem", t.0))
                .ok()
        })?;
        Some(self.mem.get_or_init(|| file))
    }
}

/// How much of `len` bytes at `addr` lies below the platform's page.
fn below_end(addr: u64, len: usize) -> usize {
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

/// What every address space has of the platform.
const OWN: maps::Own = maps::Own {
    // Its page, and what lies above, which is reserved.
    total: HOST_END - USER_END,
    resident: PAGE_SIZE,
    shared: PAGE_SIZE,
    data: 0,
};

impl Space for PtraceSpace {
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize {
        self.growing(addr, buf.len(), |done| {
            self.with_member(|t| remote::read(t.0, addr.wrapping_add(done as u64), &mut buf[done..]))
        })
    }

    fn write(&self, addr: u64, buf: &[u8]) -> usize {
        self.growing(addr, buf.len(), |done| {
            self.with_member(|t| remote::write(t.0, addr.wrapping_add(done as u64), &buf[done..]))
        })
    }

    fn peek(&self, addr: u64, buf: &mut [u8]) -> usize {
        let Some(mem) = self.mem() else { return 0 };
        by_pages(addr, below_end(addr, buf.len()), |at, len| {
            mem.read_at(&mut buf[at..at + len], addr + at as u64).ok()
        })
    }

    fn poke(&self, addr: u64, buf: &[u8]) -> usize {
        let Some(mem) = self.mem() else { return 0 };
        by_pages(addr, below_end(addr, buf.len()), |at, len| {
            mem.write_at(&buf[at..at + len], addr + at as u64).ok()
        })
    }

    fn mappings(&self) -> Result<Vec<Mapping>, Errno> {
        let mut mappings = maps::mappings(&self.read_proc("maps")?);
        let core = self.core.upgrade().ok_or(Errno::ESRCH)?;
        for file in mappings.iter_mut().filter_map(|m| m.file.as_mut()) {
            *file = core.key_of(*file);
        }
        Ok(mappings)
    }

    fn mapping_usage(&self) -> Result<Vec<MappingUsage>, Errno> {
        Ok(maps::usage(&self.read_proc("smaps")?, |_| false))
    }

    fn size(&self) -> Result<SpaceSize, Errno> {
        maps::size(&self.read_proc("statm")?, &OWN).ok_or(Errno::EIO)
    }

    fn peak(&self) -> Result<(u64, u64), Errno> {
        maps::peak(&self.read_proc("status")?, &OWN).ok_or(Errno::EIO)
    }
}
