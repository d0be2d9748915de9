//! A guest address space: the memory of one or several host processes.

use std::fs;
use std::sync::{Arc, Mutex, Weak};

use libc::pid_t;
use nix::errno::Errno;

use super::core::Core;
use super::mail::lock;
use super::tracee::Tracee;
use crate::platform::native::mem::{Mem, below_end};
use crate::platform::native::{maps, remote};
use crate::platform::{HOST_END, Mapping, MappingUsage, PAGE_SIZE, Space, SpaceSize, USER_END};

pub(super) struct PtraceSpace {
    core: Weak<Core>,
    /// The living host threads in it; any one gives access.
    members: Mutex<Vec<Tracee>>,
    mem: Mem,
}

impl PtraceSpace {
    pub(super) fn new(core: &Arc<Core>) -> Arc<PtraceSpace> {
        Arc::new(PtraceSpace {
            core: Arc::downgrade(core),
            members: Mutex::default(),
            mem: Mem::default(),
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
        for pid in self.pids() {
            match fs::read_to_string(format!("/proc/{pid}/{name}")) {
                Ok(text) if !text.is_empty() => return Ok(text),
                _ => {}
            }
        }
        Err(Errno::ESRCH)
    }

    fn pids(&self) -> Vec<pid_t> {
        lock(&self.members).iter().map(|t| t.0).collect()
    }
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
        self.mem.peek(self.pids(), addr, buf)
    }

    fn poke(&self, addr: u64, buf: &[u8]) -> usize {
        self.mem.poke(self.pids(), addr, buf)
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
