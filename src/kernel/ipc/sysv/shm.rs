//! Shared memory segments: shmget(2), shmop(2), shmctl(2).
//!
//! A segment is a host memory file that guests map. Who has it attached is read off the address spaces when it matters, so
//! that fork, exec, exit and munmap need no bookkeeping: a mapping that begins `offset` bytes into the file belongs to the
//! attachment `offset` bytes below it.

use std::collections::BTreeSet;
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    IPC_INFO, IPC_PRIVATE, IPC_RMID, IPC_SET, IPC_STAT, IpcPerm, Object, Perm, READ, WRITE, seconds,
};
use crate::kernel::Kernel;
use crate::kernel::mm::Mm;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Pid;
use crate::kernel::user_memory::UserAddr;
use crate::platform::{HostFile, MapFlags, MemOp, PAGE_SIZE, Prot, USER_END};

/// Largest segment, in bytes: more than any address space holds.
const SEGMENT_MAX: u64 = 1 << 46;

const SHM_RDONLY: i32 = 0o10000;
const SHM_RND: i32 = 0o20000;
const SHM_REMAP: i32 = 0o40000;
const SHM_EXEC: i32 = 0o100_000;
const SHM_HUGETLB: i32 = 0o4000;

const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;

/// In a segment's mode: removed, gone with the last attachment.
const SHM_DEST: u32 = 0o1000;
/// In a segment's mode: locked into memory.
const SHM_LOCKED: u32 = 0o2000;

/// A shared memory segment.
pub(super) struct Segment {
    file: Arc<HostFile>,
    /// In bytes, as asked for.
    size: u64,
    creator: Pid,
    state: Lock<State>,
}

struct State {
    perm: Perm,
    attached: i64,
    detached: i64,
    last: Pid,
}

impl Object for Segment {
    const LIMIT: usize = 4096;
    fn perm(&self) -> Perm {
        self.state.lock().perm
    }
}

/// `struct shmid64_ds`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
struct SegmentStatus {
    perm: IpcPerm,
    size: u64,
    attached: i64,
    detached: i64,
    changed: i64,
    creator: i32,
    last: i32,
    attachments: u64,
    unused: [u64; 2],
}

/// `struct shminfo64`.
#[repr(C)]
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
struct Limits {
    max: u64,
    min: u64,
    mni: u64,
    seg: u64,
    all: u64,
    unused: [u64; 4],
}

/// `struct shm_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, IntoBytes, Immutable)]
struct Usage {
    used: i32,
    pad: i32,
    total: u64,
    resident: u64,
    swapped: u64,
    attempts: u64,
    successes: u64,
}

fn pages(size: u64) -> u64 {
    size.div_ceil(PAGE_SIZE)
}

/// shmget(2). Huge pages are refused as on a machine that has none.
pub(crate) fn shmget(cx: &mut SyscallCx<'_>, key: i32, size: u64, flags: i32) -> SysResult<i32> {
    sweep(cx.kernel);
    let creds = cx.task.creds();
    let clock = &cx.kernel.clock;
    let creator = cx.task.pid();
    let check = |segment: &Segment| {
        if size > segment.size {
            return Err(Errno::EINVAL);
        }
        Ok(())
    };
    Ok(cx.kernel.sysv.segments.get(&creds, key, flags, check, |mode| {
        if size == 0 || size > SEGMENT_MAX {
            return Err(Errno::EINVAL);
        }
        if flags & SHM_HUGETLB != 0 {
            return Err(Errno::ENOMEM);
        }
        let memory = memfd_create(c"uvm-sysv", MFdFlags::MFD_CLOEXEC)?;
        let length = i64::try_from(pages(size) * PAGE_SIZE).map_err(|_| Errno::EINVAL)?;
        ftruncate(&memory, length)?;
        Ok(Segment {
            file: HostFile::new(memory)?,
            size,
            creator,
            state: Lock::new(
                Rank::Leaf,
                State {
                    perm: Perm::new(&creds, key, mode, clock),
                    attached: 0,
                    detached: 0,
                    last: 0,
                },
            ),
        })
    })?)
}

/// Address spaces of all processes, each once.
fn address_spaces(kernel: &Kernel) -> Vec<Arc<Mm>> {
    let tasks: Vec<_> = kernel.pids.lock().tasks.values().cloned().collect();
    let mut seen = BTreeSet::new();
    let spaces = tasks.iter().map(|task| task.mm());
    spaces
        .filter(|mm| seen.insert(Arc::as_ptr(mm) as usize))
        .collect()
}

/// Where a segment is attached in an address space: first addresses.
fn attachments(mm: &Mm, segment: &Segment) -> BTreeSet<u64> {
    if !mm.shares_memory() {
        return BTreeSet::new();
    }
    let mappings = mm.space.mappings().unwrap_or_default();
    let ours = mappings
        .iter()
        .filter(|m| m.shared && m.file == Some(segment.file.key()));
    ours.map(|m| m.start.wrapping_sub(m.offset)).collect()
}

fn count_attachments(kernel: &Kernel, segment: &Segment) -> u64 {
    let spaces = address_spaces(kernel);
    spaces
        .iter()
        .map(|mm| attachments(mm, segment).len() as u64)
        .sum()
}

/// Forget removed segments that nobody has attached any more.
fn sweep(kernel: &Kernel) {
    for (id, segment) in kernel.sysv.segments.list() {
        if segment.perm().mode & SHM_DEST != 0 && count_attachments(kernel, &segment) == 0 {
            kernel.sysv.segments.remove(id);
        }
    }
}

/// shmat(2).
pub(crate) fn shmat(cx: &mut SyscallCx<'_>, id: i32, addr: u64, flags: i32) -> SysResult<u64> {
    if id < 0 {
        return fail!(EINVAL);
    }
    let segment = cx.kernel.sysv.segments.find(id)?;
    let mut at = addr;
    if !at.is_multiple_of(PAGE_SIZE) {
        if flags & SHM_RND == 0 {
            return fail!(EINVAL);
        }
        at -= at % PAGE_SIZE;
    }
    if at == 0 && (flags & SHM_REMAP != 0 || addr != 0) {
        return fail!(EINVAL);
    }
    let len = pages(segment.size) * PAGE_SIZE;
    if at.checked_add(len).is_none_or(|end| end > USER_END) {
        return fail!(EINVAL);
    }
    let mut prot = Prot::READ;
    let mut want = READ;
    if flags & SHM_RDONLY == 0 {
        prot |= Prot::WRITE;
        want |= WRITE;
    }
    if flags & SHM_EXEC != 0 {
        prot |= Prot::EXEC;
        want |= 0o111;
    }
    segment.perm().check(&cx.task.creds(), want)?;
    let placement = match at {
        0 => MapFlags::empty(),
        _ if flags & SHM_REMAP != 0 => MapFlags::FIXED,
        _ => MapFlags::FIXED_NOREPLACE,
    };
    let mm = cx.task.mm();
    mm.state.lock().shares_memory = true;
    let map = MemOp::Map {
        addr: at,
        len,
        prot,
        flags: placement | MapFlags::SHARED,
        file: Some((&segment.file, 0)),
    };
    let start = match cx.thread.memory(&[map]) {
        // Something is there already.
        Err(Errno::EEXIST) => return fail!(EINVAL),
        start => start?,
    };
    let mut state = segment.state.lock();
    state.attached = seconds(&cx.kernel.clock);
    state.last = cx.task.pid();
    Ok(start)
}

/// shmdt(2): EINVAL when no segment is attached at exactly that address.
pub(crate) fn shmdt(cx: &mut SyscallCx<'_>, addr: u64) -> SysResult<()> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return fail!(EINVAL);
    }
    let mm = cx.task.mm();
    let segments = cx.kernel.sysv.segments.list();
    let attached = |segment: &Segment| attachments(&mm, segment).contains(&addr);
    let Some((_, segment)) = segments.into_iter().find(|(_, s)| attached(s)) else {
        return fail!(EINVAL);
    };
    let mappings = mm.space.mappings()?;
    let ours = mappings
        .iter()
        .filter(|m| m.file == Some(segment.file.key()) && m.start.wrapping_sub(m.offset) == addr);
    let unmap: Vec<_> = ours
        .map(|m| MemOp::Unmap {
            addr: m.start,
            len: m.end - m.start,
        })
        .collect();
    cx.thread.memory(&unmap)?;
    {
        let mut state = segment.state.lock();
        state.detached = seconds(&cx.kernel.clock);
        state.last = cx.task.pid();
    }
    sweep(cx.kernel);
    Ok(())
}

fn status(kernel: &Kernel, segment: &Segment, id: i32) -> SegmentStatus {
    let attachments = count_attachments(kernel, segment);
    let state = segment.state.lock();
    SegmentStatus {
        perm: state.perm.shown(id),
        size: segment.size,
        attached: state.attached,
        detached: state.detached,
        changed: state.perm.changed,
        creator: segment.creator,
        last: state.last,
        attachments,
        unused: [0; 2],
    }
}

/// IPC_STAT, and its like by index, which return the id.
fn stat(cx: &SyscallCx<'_>, id: i32, command: i32, buf: UserAddr) -> SysResult<i32> {
    let segments = &cx.kernel.sysv.segments;
    let creds = cx.task.creds();
    let (id, segment) = if command == IPC_STAT {
        (id, segments.find(id)?)
    } else {
        segments.at(id)?
    };
    if command != SHM_STAT_ANY {
        segment.perm().check(&creds, READ)?;
    }
    cx.memory.write(buf.cast(), &status(cx.kernel, &segment, id))?;
    Ok(if command == IPC_STAT { 0 } else { id })
}

/// shmctl(2).
pub(crate) fn shmctl(cx: &mut SyscallCx<'_>, id: i32, command: i32, buf: UserAddr) -> SysResult<i32> {
    if id < 0 || command < 0 {
        return fail!(EINVAL);
    }
    let segments = &cx.kernel.sysv.segments;
    let creds = cx.task.creds();
    match command {
        IPC_INFO => {
            let limits = Limits {
                max: SEGMENT_MAX,
                min: 1,
                mni: Segment::LIMIT as u64,
                seg: Segment::LIMIT as u64,
                all: pages(SEGMENT_MAX),
                unused: [0; 4],
            };
            cx.memory.write(buf.cast(), &limits)?;
            Ok(segments.usage().1)
        }
        SHM_INFO => {
            let (used, highest) = segments.usage();
            let total = segments.list().iter().map(|(_, s)| pages(s.size)).sum();
            let usage = Usage {
                used,
                total,
                resident: total,
                ..Usage::default()
            };
            cx.memory.write(buf.cast(), &usage)?;
            Ok(highest)
        }
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => stat(cx, id, command, buf),
        IPC_SET => {
            let new: SegmentStatus = cx.memory.read(buf.cast())?;
            let segment = segments.find(id)?;
            let mut state = segment.state.lock();
            state.perm.check_owner(&creds)?;
            state.perm.set(&new.perm, &cx.kernel.clock);
            Ok(0)
        }
        IPC_RMID => {
            let segment = segments.find(id)?;
            {
                let mut state = segment.state.lock();
                state.perm.check_owner(&creds)?;
                state.perm.mode |= SHM_DEST;
                state.perm.key = IPC_PRIVATE;
            }
            sweep(cx.kernel);
            Ok(0)
        }
        SHM_LOCK | SHM_UNLOCK => {
            let segment = segments.find(id)?;
            let mut state = segment.state.lock();
            state.perm.check_owner(&creds)?;
            if command == SHM_LOCK {
                state.perm.mode |= SHM_LOCKED;
            } else {
                state.perm.mode &= !SHM_LOCKED;
            }
            Ok(0)
        }
        _ => fail!(EINVAL),
    }
}
