//! Address spaces. Guest memory is native memory of the host, so the map of truth is the host's; what is kept here is
//! what the host cannot know: the break, which guest file a handed-in file is, where arguments and environment lie.

pub(in crate::kernel) mod limits;
mod memfd;
mod names;
mod ranges;
mod syscalls;
#[cfg(test)]
mod tests;

pub use memfd::HiddenFiles;
pub use names::{forget_unlinked, forget_unmapped};
pub(in crate::kernel) use syscalls::dispatch;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Kernel;
use super::fs::{InUse, MountFlags, Path};
use super::stop::Errno;
use super::sync::{Lock, Rank};
use super::task::Task;
use crate::platform::{Freedom, Mapping, MappingUsage, PAGE_SIZE, Space, SpaceSize, USER_END};
use limits::Limits;
use names::MappedFiles;
use ranges::RangeSet;

/// One guest address space, shared by the threads (and vfork children) that run in it.
pub struct Mm {
    /// The platform's side.
    pub space: Arc<dyn Space>,
    /// The kernel's side.
    pub state: Lock<MmState>,
    /// Held while the break moves, which takes the guest's own time.
    moving_break: Lock<()>,
    /// Tasks that run in it.
    users: AtomicUsize,
    /// What they may do without asking. Only ever taken away.
    freedom: Lock<Freedom>,
}

/// What the kernel knows of an address space.
#[derive(Clone, Default)]
pub struct MmState {
    /// Where the heap begins.
    pub brk_start: u64,
    /// The present break.
    pub brk: u64,
    /// The executable (/proc/PID/exe).
    pub exe: Option<Path>,
    /// Keeps others from writing the executable.
    pub exe_in_use: Option<Arc<InUse>>,
    /// Argument strings, first byte and one past the last (/proc/PID/cmdline).
    pub args: (u64, u64),
    /// Environment strings, first byte and one past the last (/proc/PID/environ).
    pub env: (u64, u64),
    /// Top of the main stack, for naming it in /proc/PID/maps.
    pub stack_top: u64,
    /// The auxiliary vector as written on the stack.
    pub auxv: Vec<u8>,
    /// What files are mapped.
    pub files: MappedFiles,
    /// PR_SET_DUMPABLE.
    pub dumpable: i32,
    /// Whether there has ever been a shared mapping: without one, no futex can be another address space's too.
    pub shares_memory: bool,
    /// What mlock(2) and its like have locked.
    locked: RangeSet,
    /// Flags of mlock2(2) for mappings to come (MCL_FUTURE).
    lock_future: Option<u32>,
}

impl MmState {
    /// Whether the file behind `mapping` lies on a mount that forbids executing.
    fn is_noexec(&self, mapping: &Mapping) -> bool {
        mapping
            .file
            .and_then(|key| self.files.get(key))
            .is_some_and(is_noexec)
    }

    /// Bytes that may still be locked.
    fn lock_room(&self, limits: &Limits) -> u64 {
        limits.locked.saturating_sub(self.locked.total())
    }

    /// A range no longer holds what it held.
    fn forget(&mut self, start: u64, end: u64) {
        self.locked.remove(start, end);
    }
}

/// Whether a path lies on a mount that forbids executing.
pub fn is_noexec(path: &Path) -> bool {
    path.mount.flags().contains(MountFlags::NOEXEC)
}

/// Length rounded up to whole pages; none on overflow.
pub fn page_align(len: u64) -> Option<u64> {
    Some(len.checked_add(PAGE_SIZE - 1)? & !(PAGE_SIZE - 1))
}

/// Whether an address is the first of a page.
pub fn is_page_aligned(addr: u64) -> bool {
    addr.is_multiple_of(PAGE_SIZE)
}

/// One past the end of `len` bytes at `addr` when all of them are in the guest's half.
pub fn user_end(addr: u64, len: u64) -> Option<u64> {
    addr.checked_add(len).filter(|&end| end <= USER_END)
}

/// Whether `mappings` (in address order) leave no hole in `start..end`.
fn covers(mappings: &[Mapping], start: u64, end: u64) -> bool {
    let mut at = start;
    for mapping in mappings {
        if mapping.start > at {
            break;
        }
        at = at.max(mapping.end);
    }
    at >= end
}

/// The address space of a task that has ended: nothing is mapped.
struct NoSpace;

impl Space for NoSpace {
    fn read(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }
    fn write(&self, _: u64, _: &[u8]) -> usize {
        0
    }
    fn peek(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }
    fn poke(&self, _: u64, _: &[u8]) -> usize {
        0
    }
    fn mappings(&self) -> Result<Vec<Mapping>, Errno> {
        Ok(Vec::new())
    }
    fn mapping_usage(&self) -> Result<Vec<MappingUsage>, Errno> {
        Ok(Vec::new())
    }
    fn size(&self) -> Result<SpaceSize, Errno> {
        Ok(SpaceSize::default())
    }
    fn peak(&self) -> Result<(u64, u64), Errno> {
        Ok((0, 0))
    }
}

impl Mm {
    /// An address space that holds nothing yet.
    pub fn new(space: Arc<dyn Space>) -> Arc<Mm> {
        Arc::new(Mm {
            space,
            state: Lock::new(
                Rank::Mm,
                MmState {
                    dumpable: 1,
                    ..MmState::default()
                },
            ),
            moving_break: Lock::new(Rank::Task, ()),
            users: AtomicUsize::new(0),
            freedom: Lock::new(Rank::Leaf, Freedom::default()),
        })
    }

    /// Whether some of its memory may be another address space's too.
    pub fn shares_memory(&self) -> bool {
        self.state.lock().shares_memory
    }

    /// What a task has left once it has ended.
    pub fn none() -> Arc<Mm> {
        Mm::new(Arc::new(NoSpace))
    }

    /// The kernel's side of a forked copy. Memory locks are not inherited.
    pub fn forked(&self, space: Arc<dyn Space>) -> Arc<Mm> {
        let mut state = self.state.lock().clone();
        state.locked.clear();
        state.lock_future = None;
        Arc::new(Mm {
            space,
            state: Lock::new(Rank::Mm, state),
            moving_break: Lock::new(Rank::Task, ()),
            users: AtomicUsize::new(0),
            freedom: Lock::new(Rank::Leaf, Freedom::default()),
        })
    }

    /// Let its tasks do without the kernel what nobody wants to see and no limit forbids. `task` is the first one, and does
    /// not run yet.
    pub fn set_free(&self, task: &Task) {
        let freedom = Freedom {
            memory: !task.kernel.sees_all_calls(),
            // The host waits by its own clock.
            futexes: !task.kernel.sees_all_calls() && !task.kernel.clock.is_virtual(),
        };
        *self.freedom.lock() = freedom;
        self.space.allow(freedom);
        // Looked at after that: who sets limits from now on watches this address space.
        if Limits::of(task).bind() {
            self.watch_memory();
        }
    }

    /// From now on the kernel has to see every call that changes the map: there is a limit to check, or an account to keep.
    pub fn watch_memory(&self) {
        let mut freedom = self.freedom.lock();
        freedom.memory = false;
        self.space.allow(*freedom);
    }

    /// Whether the kernel has nothing to do with its private futexes.
    pub fn has_own_futexes(&self) -> bool {
        self.freedom.lock().futexes
    }

    /// From now on its private futexes are the kernel's, for good: one of its tasks does something with them that the
    /// platform cannot do, or somebody wants to see it. Who waits is kicked and returns as if woken, since nobody will look
    /// for it where it waits.
    pub fn take_futexes(&self, kernel: &Kernel) {
        {
            let mut freedom = self.freedom.lock();
            if !freedom.futexes {
                return;
            }
            freedom.futexes = false;
            self.space.allow(*freedom);
        }
        let tasks: Vec<_> = kernel.pids.lock().tasks.values().cloned().collect();
        for task in tasks.iter().filter(|task| std::ptr::eq(&*task.mm(), self)) {
            task.kick();
        }
    }

    /// A task begins to run in it.
    pub fn add_user(&self) {
        self.users.fetch_add(1, Ordering::SeqCst);
    }

    /// A task has left it.
    pub fn drop_user(&self) {
        self.users.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether more than one task runs in it.
    pub fn is_shared(&self) -> bool {
        self.users.load(Ordering::SeqCst) > 1
    }
}
