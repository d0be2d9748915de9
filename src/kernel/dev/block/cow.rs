//! Copy on write: a disk that stays as it is, and what was written over it, in a memory file.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::Disk;
use super::raw::{make_zero, read_exact, write_all};
use crate::kernel::fs::hostfs::host_errno;
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::platform::HostFile;

/// Unit of what is written over, in bytes.
const GRAIN: u64 = 4096;

/// Grains of which one entry of the map tells.
const PER_ENTRY: u64 = 64;

/// Of a call that makes a part zero: how many bytes a step looks at, how many of `below` it reads at most, and how many steps there are.
const WINDOW: u64 = 256 << 20;
const PIECE: u64 = 64 << 10;
const STEPS: u32 = 256;

/// A disk over another one.
pub struct Cow {
    below: Arc<dyn Disk>,
    over: Arc<HostFile>,
    state: Lock<State>,
    /// Held by who writes: a grain that is raised must not lose what another wrote to it.
    writing: Lock<()>,
    /// Most grains.
    limit: u64,
}

/// Which grains are over: a bit for each, 64 to an entry.
#[derive(Default)]
struct State {
    grains: BTreeMap<u64, u64>,
    count: u64,
}

impl State {
    fn has(&self, grain: u64) -> bool {
        let bits = self.grains.get(&(grain / PER_ENTRY)).copied().unwrap_or(0);
        bits >> (grain % PER_ENTRY) & 1 != 0
    }

    /// The first grain from `grain` on, before `end`, that is over, or that is not; `end` if there is none.
    fn next(&self, grain: u64, over: bool, end: u64) -> u64 {
        let mut at = grain;
        for (&entry, &bits) in self.grains.range(grain / PER_ENTRY..) {
            let start = entry * PER_ENTRY;
            if at >= end || !over && start > at {
                break;
            }
            at = at.max(start);
            let found = if over { bits } else { !bits } >> (at - start);
            if found != 0 {
                return (at + u64::from(found.trailing_zeros())).min(end);
            }
            at = start + PER_ENTRY;
        }
        if over { end } else { at.min(end) }
    }
}

impl Cow {
    /// Nothing is over `below` yet; at most `limit` bytes will be.
    pub fn new(below: Arc<dyn Disk>, limit: u64) -> Result<Cow, Errno> {
        let memfd = memfd_create("uvm-disk", MemfdFlags::CLOEXEC).map_err(host_errno)?;
        let size = below.size().checked_next_multiple_of(GRAIN).ok_or(Errno::EFBIG)?;
        ftruncate(&memfd, size).map_err(host_errno)?;
        Ok(Cow {
            below,
            over: HostFile::new(memfd)?,
            state: Lock::new(Rank::Inode, State::default()),
            writing: Lock::new(Rank::Directory, ()),
            limit: limit / GRAIN,
        })
    }

    /// How far what begins at `at` is all over, or all not, up to `end`.
    fn run(&self, at: u64, end: u64) -> (bool, u64) {
        let state = self.state.lock();
        let grain = at / GRAIN;
        let over = state.has(grain);
        let to = state.next(grain, !over, end.div_ceil(GRAIN)) * GRAIN;
        (over, to.min(end))
    }

    /// Make some of a part zero that is not over. What is zero below need not be over.
    fn zero_below(&self, at: u64, end: u64) -> SysResult<u64> {
        let data = self.below.skip_zeroes(at, end);
        if data > at {
            return Ok(data - at);
        }
        let len = (PIECE - at % PIECE).min(end - at);
        let mut bytes = vec![0; len as usize];
        self.below.read(&mut bytes, at)?;
        let mut rest = bytes.as_mut_slice();
        let mut at = at;
        while !rest.is_empty() {
            let room = (GRAIN - at % GRAIN) as usize;
            let (grain, others) = rest.split_at_mut(room.min(rest.len()));
            if grain.iter().any(|&byte| byte != 0) {
                grain.fill(0);
                self.write_part(grain, at)?;
            }
            (at, rest) = (at + grain.len() as u64, others);
        }
        Ok(len)
    }

    /// Have a grain over, as it is below but for what is going to be written. For who holds `writing`, as is what follows.
    fn raise(&self, grain: u64, whole: bool) -> SysResult<()> {
        let state = self.state.lock();
        if state.has(grain) {
            return Ok(());
        }
        if state.count >= self.limit {
            return Err(Errno::ENOSPC.into());
        }
        drop(state);
        if !whole {
            let at = grain * GRAIN;
            let mut bytes = vec![0; (self.below.size() - at).min(GRAIN) as usize];
            self.below.read(&mut bytes, at)?;
            write_all(&self.over, &bytes, at)?;
        }
        Ok(())
    }

    /// Write within a grain.
    fn write_part(&self, part: &[u8], at: u64) -> SysResult<()> {
        let grain = at / GRAIN;
        self.raise(grain, part.len() as u64 == GRAIN)?;
        write_all(&self.over, part, at)?;
        self.note(grain);
        Ok(())
    }

    fn note(&self, grain: u64) {
        let mut state = self.state.lock();
        if !state.has(grain) {
            *state.grains.entry(grain / PER_ENTRY).or_default() |= 1 << (grain % PER_ENTRY);
            state.count += 1;
        }
    }
}

impl Disk for Cow {
    fn size(&self) -> u64 {
        self.below.size()
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, mut buf: &mut [u8], mut at: u64) -> SysResult<()> {
        while !buf.is_empty() {
            let (over, to) = self.run(at, at + buf.len() as u64);
            let (part, rest) = buf.split_at_mut((to - at) as usize);
            match over {
                true => read_exact(&self.over, part, at)?,
                false => self.below.read(part, at)?,
            }
            (at, buf) = (to, rest);
        }
        Ok(())
    }

    fn write(&self, mut bytes: &[u8], mut at: u64) -> SysResult<()> {
        while !bytes.is_empty() {
            let room = (GRAIN - at % GRAIN) as usize;
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            let writing = self.writing.lock();
            self.write_part(part, at)?;
            drop(writing);
            (at, bytes) = (at + part.len() as u64, rest);
        }
        Ok(())
    }

    fn zero(&self, at: u64, len: u64) -> SysResult<u64> {
        let mut done = 0;
        for _ in 0..STEPS {
            let (at, left) = (at + done, len - done);
            if left == 0 {
                break;
            }
            let _writing = self.writing.lock();
            let (over, to) = self.run(at, at + left.min(WINDOW));
            done += match over {
                true => make_zero(&self.over, at, to - at)?,
                false => self.zero_below(at, to)?,
            };
        }
        Ok(done)
    }

    fn flush(&self) -> SysResult<()> {
        Ok(())
    }
}
