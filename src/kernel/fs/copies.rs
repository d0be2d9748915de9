//! Copies of files that cannot be mapped where they are: in archives they do not begin at pages, and may be compressed.
//! A copy is a memfd that can only be read; the last ones are kept for those who will map them again. A large one is made in
//! pieces, between which the task waits for nothing, so that a signal can end it. All copies of a guest together, mapped, kept or half
//! made, take no more than a share of this machine's memory.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use rustix::fs::{MemfdFlags, fstat, ftruncate, memfd_create};
use rustix::io::pwrite;

use super::hostfs::io::{errno, reopen_read_only};
use super::memfs::total_memory;
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::user_memory::CHUNK;
use crate::kernel::wait::WaitFor;
use crate::platform::HostFile;

/// Most copies kept, and their share of what all copies may take.
const KEPT_MAX: usize = 256;
const KEPT_SHARE: u64 = 4;

/// How much one run of a handler copies, in bytes: some milliseconds.
const PIECE: u64 = 16 << 20;

/// How many holes one run of a handler passes.
const HOLES: usize = 4096;

/// Most copies of a file system that are being made, and after how many steps of others one is taken to be given up.
const MAKING_MAX: usize = 64;
const GIVEN_UP: u64 = 1024;

/// How many copies are remembered before those that are gone are looked for.
const KNOWN_MIN: usize = 64;

/// What the copies of all file systems share.
struct Shared {
    /// Bytes that copies take, and most of them.
    used: AtomicU64,
    limit: u64,
    owners: AtomicU64,
    kept: Lock<KeptList>,
}

/// Copies that nobody need use, oldest first.
#[derive(Default)]
struct KeptList {
    list: VecDeque<Kept>,
    bytes: u64,
}

struct Kept {
    owner: u64,
    file: Arc<HostFile>,
    bytes: u64,
    wanted: bool,
}

impl Shared {
    fn new(limit: u64) -> Arc<Shared> {
        Arc::new(Shared {
            used: AtomicU64::new(0),
            limit,
            owners: AtomicU64::new(0),
            kept: Lock::new(Rank::Leaf, KeptList::default()),
        })
    }

    /// That of the whole guest: half of the memory there is, as for its root.
    fn of_guest() -> Arc<Shared> {
        static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();
        SHARED.get_or_init(|| Shared::new(total_memory() / 2)).clone()
    }

    fn is_full(&self) -> bool {
        self.used
            .load(Ordering::Relaxed)
            .saturating_add(PIECE.min(self.limit))
            > self.limit
    }

    /// Keep a copy, and let go of those not wanted for longest when there are too many.
    fn keep(&self, one: Kept) {
        let mut gone = Vec::new();
        let mut kept = self.kept.lock();
        let most = self.limit / KEPT_SHARE;
        if one.bytes > most {
            return;
        }
        // Each round clears one mark, so this ends.
        while kept.list.len() >= KEPT_MAX || kept.bytes + one.bytes > most {
            let Some(mut oldest) = kept.list.pop_front() else {
                break;
            };
            if std::mem::take(&mut oldest.wanted) {
                kept.list.push_back(oldest);
            } else {
                kept.bytes -= oldest.bytes;
                gone.push(oldest);
            }
        }
        kept.bytes += one.bytes;
        kept.list.push_back(one);
        drop(kept);
        drop(gone);
    }

    /// Let go of those that are kept, of one file system or of all.
    fn let_go(&self, of: Option<u64>) {
        let mut kept = self.kept.lock();
        let all = std::mem::take(&mut kept.list);
        let (gone, left) = all
            .into_iter()
            .partition::<VecDeque<_>, _>(|one| of.is_none_or(|owner| owner == one.owner));
        kept.bytes = left.iter().map(|one| one.bytes).sum();
        kept.list = left;
        drop(kept);
        drop(gone);
    }

    fn wanted(&self, file: &Arc<HostFile>) {
        let mut kept = self.kept.lock();
        let mut all = kept.list.iter_mut();
        if let Some(one) = all.find(|one| Arc::ptr_eq(&one.file, file)) {
            one.wanted = true;
        }
    }
}

/// The host memory that a copy takes.
struct Room {
    shared: Arc<Shared>,
    bytes: AtomicU64,
}

impl Room {
    fn set(&self, bytes: u64) {
        let old = self.bytes.swap(bytes, Ordering::Relaxed);
        self.shared.used.fetch_add(bytes, Ordering::Relaxed);
        self.shared.used.fetch_sub(old, Ordering::Relaxed);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// The copies of one file system's files.
pub(super) struct Copies {
    shared: Arc<Shared>,
    owner: u64,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    /// Copies in use or kept.
    known: HashMap<u64, Weak<HostFile>>,
    making: HashMap<u64, Making>,
    /// Counts the steps of all that are made.
    steps: u64,
}

/// A copy of which so much is done.
#[derive(Clone)]
struct Making {
    to: Arc<OwnedFd>,
    room: Arc<Room>,
    done: u64,
    step: u64,
}

impl Default for Copies {
    fn default() -> Self {
        Copies::sharing(Shared::of_guest())
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.shared.let_go(Some(self.owner));
    }
}

/// A file that is copied.
pub(super) struct Original<'a> {
    /// What it is known by in its file system.
    pub(super) key: u64,
    /// Bytes.
    pub(super) size: u64,
    /// Where data is at or behind a position.
    pub(super) next_data: &'a dyn Fn(u64) -> Result<Option<u64>, Errno>,
    /// So many bytes at a position.
    pub(super) read: &'a dyn Fn(u64, usize) -> Result<Vec<u8>, Errno>,
}

impl Copies {
    fn sharing(shared: Arc<Shared>) -> Copies {
        Copies {
            owner: shared.owners.fetch_add(1, Ordering::Relaxed),
            shared,
            state: Lock::new(Rank::Table, State::default()),
        }
    }

    /// The copy of a file. Blocks, to be called again, when it has made a piece of it. ENOMEM when all copies take too much.
    pub(super) fn get(&self, of: &Original<'_>) -> SysResult<Arc<HostFile>> {
        let known = self.state.lock().known.get(&of.key).and_then(Weak::upgrade);
        if let Some(known) = known {
            self.shared.wanted(&known);
            return Ok(known);
        }
        let Some(making) = self.begin(of)? else {
            return Err(WaitFor::nothing().into());
        };
        let done = match self.go_on(of, &making) {
            Ok(done) => done,
            Err(errno) => {
                self.state.lock().making.remove(&of.key);
                return Err(errno.into());
            }
        };
        if done < of.size {
            let mut state = self.state.lock();
            if let Some(now) = state.making.get_mut(&of.key) {
                now.done = now.done.max(done);
            }
            return Err(WaitFor::nothing().into());
        }
        Ok(self.finish(of.key, making)?)
    }

    /// What is made of a file so far; none when too many are being made.
    fn begin(&self, of: &Original<'_>) -> Result<Option<Making>, Errno> {
        let mut state = self.state.lock();
        state.steps += 1;
        let step = state.steps;
        if let Some(making) = state.making.get_mut(&of.key) {
            making.step = step;
            return Ok(Some(making.clone()));
        }
        state.making.retain(|_, making| making.step + GIVEN_UP > step);
        if state.making.len() >= MAKING_MAX {
            return Ok(None);
        }
        let memfd = memfd_create("uvm", MemfdFlags::CLOEXEC).map_err(errno)?;
        ftruncate(&memfd, of.size).map_err(errno)?;
        let making = Making {
            to: Arc::new(memfd),
            room: Arc::new(Room {
                shared: self.shared.clone(),
                bytes: AtomicU64::new(0),
            }),
            done: 0,
            step,
        };
        state.making.insert(of.key, making.clone());
        Ok(Some(making))
    }

    /// Copy a piece more; how far that is. Two threads may copy the same one: what is copied does not change.
    fn go_on(&self, of: &Original<'_>, making: &Making) -> Result<u64, Errno> {
        if self.shared.is_full() {
            self.shared.let_go(None);
            if self.shared.is_full() {
                return Err(Errno::ENOMEM);
            }
        }
        let mut pos = making.done;
        let mut copied = 0;
        let mut holes = 0;
        while pos < of.size && copied < PIECE && holes < HOLES {
            let Some(data) = (of.next_data)(pos)? else {
                pos = of.size;
                break;
            };
            holes += usize::from(data != pos);
            pos = data;
            let bytes = (of.read)(pos, CHUNK)?;
            if bytes.is_empty() {
                pos = of.size;
                break;
            }
            write_all(&making.to, &bytes, pos)?;
            pos += bytes.len() as u64;
            copied += bytes.len() as u64;
        }
        let blocks = fstat(&*making.to).map_err(errno)?.st_blocks;
        making.room.set(blocks.cast_unsigned().saturating_mul(512));
        Ok(pos)
    }

    fn finish(&self, key: u64, making: Making) -> Result<Arc<HostFile>, Errno> {
        let bytes = making.room.bytes.load(Ordering::Relaxed);
        let file = HostFile::counted(reopen_read_only(making.to.as_fd())?, making.room)?;
        let mut state = self.state.lock();
        state.making.remove(&key);
        if state.known.len() >= KNOWN_MIN && state.known.len().is_power_of_two() {
            state.known.retain(|_, file| file.strong_count() > 0);
        }
        state.known.insert(key, Arc::downgrade(&file));
        drop(state);
        self.shared.keep(Kept {
            owner: self.owner,
            file: file.clone(),
            bytes,
            wanted: false,
        });
        Ok(file)
    }
}

fn write_all(to: &OwnedFd, bytes: &[u8], at: u64) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match pwrite(to, &bytes[done..], at + done as u64).map_err(errno)? {
            0 => return Err(Errno::ENOSPC),
            n => done += n,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::stop::Stop;

    /// A file without holes, of a size that is no multiple of a page.
    fn copy(copies: &Copies, key: u64, size: u64) -> (usize, Result<Arc<HostFile>, Errno>) {
        let read = |pos: u64, want: usize| Ok(vec![key as u8; want.min((size - pos) as usize)]);
        let original = Original {
            key,
            size,
            next_data: &|pos| Ok(Some(pos)),
            read: &read,
        };
        for waits in 0.. {
            match copies.get(&original) {
                Ok(file) => return (waits, Ok(file)),
                Err(Stop::Errno(errno, _)) => return (waits, Err(errno)),
                Err(_) => {}
            }
        }
        unreachable!()
    }

    #[test]
    fn a_large_copy_is_made_in_pieces_and_kept() {
        let copies = Copies::sharing(Shared::new(1 << 30));
        let (waits, made) = copy(&copies, 7, 2 * PIECE + 5);
        let made = made.unwrap();
        assert_eq!(waits, 2);
        let st = fstat(&*made).unwrap();
        assert_eq!(st.st_size, 2 * PIECE as i64 + 5);
        assert!(copies.shared.used.load(Ordering::Relaxed) >= 2 * PIECE);
        let (waits, again) = copy(&copies, 7, 2 * PIECE + 5);
        assert!(waits == 0 && Arc::ptr_eq(&again.unwrap(), &made));
        let shared = copies.shared.clone();
        drop((copies, made));
        assert_eq!(shared.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn copies_in_use_are_bounded_and_kept_ones_make_room() {
        let copies = Copies::sharing(Shared::new(4 * PIECE));
        for key in 0..40 {
            assert!(copy(&copies, key, PIECE / 2).1.is_ok(), "{key}");
        }
        assert!(copies.shared.kept.lock().bytes <= PIECE);
        let mut used = Vec::new();
        let failed = (0..40).find_map(|key| match copy(&copies, key, PIECE / 2).1 {
            Ok(file) => {
                used.push(file);
                None
            }
            Err(errno) => Some(errno),
        });
        assert_eq!(failed, Some(Errno::ENOMEM));
        assert!((6..=8).contains(&used.len()), "{}", used.len());
        drop(used);
        assert!(copy(&copies, 90, PIECE).1.is_ok());
        // A file that needs more than there is does not leave anything behind.
        assert_eq!(copy(&copies, 91, 5 * PIECE).1.err(), Some(Errno::ENOMEM));
        copies.shared.let_go(None);
        assert_eq!(copies.shared.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let copies = Copies::sharing(Shared::new(1 << 30));
        for key in 0..5000 {
            assert!(copy(&copies, key, 10).1.is_ok());
        }
        assert!(copies.state.lock().known.len() <= 1024);
    }

    #[test]
    fn a_hole_costs_nothing() {
        let copies = Copies::sharing(Shared::new(4 * PIECE));
        let original = Original {
            key: 1,
            size: 1 << 48,
            next_data: &|_| Ok(None),
            read: &|_, _| Err(Errno::EIO),
        };
        assert!(copies.get(&original).is_ok());
        // One that goes on without end is left between two pieces.
        let endless = Original {
            key: 2,
            next_data: &|pos| Ok(Some(pos + 4096)),
            read: &|_, _| Ok(vec![0]),
            ..original
        };
        assert!(matches!(copies.get(&endless), Err(Stop::Block(_))));
    }
}
