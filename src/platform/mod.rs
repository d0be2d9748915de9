//! The platform contract: makes guest code run natively and turns what it does into traps.
//!
//! A platform makes *address spaces* and *guest threads* (each one a host thread of some stub process), and knows nothing
//! of files, pids or what a signal means. The kernel above knows nothing of how a platform stops a thread.
//!
//! # Life of a thread
//! [`Platform::spawn`] or [`Thread::fork`] gives a stopped, unowned thread as a `Box<dyn Thread>`. The kernel sets its
//! registers and memory up and hands it to [`Platform::start`] together with its owner. From then on the platform runs it
//! and calls [`TrapHandler::trap`] for every event, one at a time for one thread; what that returns ([`Next`]) says how
//! it goes on. A parked thread costs no host thread; [`ThreadHandle::kick`] makes the platform call the owner again.
//!
//! # Rules
//! * A handler never blocks: it returns [`Next::Park`].
//! * All guest memory is hostile and may change at any time, even while every thread we know of is stopped.
//! * Nothing here trusts the guest: whatever the runtime inside a stub does is checked as if the guest had done it.

use std::sync::Arc;
use std::time::Duration;

use bitflags::bitflags;
use nix::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

mod activity;
pub mod bpf;
#[allow(unsafe_code)]
mod closed;
#[allow(unsafe_code)]
pub mod host;
mod host_file;
mod native;
mod program;
pub mod ptrace;
pub mod seccomp;
#[allow(unsafe_code)]
mod shared_memory;
mod stats;
mod write_bound;
#[allow(unsafe_code)]
mod writers;

pub use activity::Activity;
pub use closed::was_closed;
pub use guest_runtime::cpuid;
pub use host_file::{HostFile, Room};
pub use shared_memory::SharedMemory;
pub use stats::Statistics;
pub use write_bound::WriteBound;
pub use writers::is_open_for_reading_alone;

/// One past the highest address a guest may use; the 4 GiB above belong to the platform.
pub const USER_END: u64 = 0x7fff_0000_0000;

/// One past the highest address that the host lets a process use.
pub const HOST_END: u64 = 0x7fff_ffff_f000;

/// Lowest address a guest may map (Linux's default vm.mmap_min_addr).
pub const USER_START: u64 = 0x1_0000;

/// Page size of the only architecture there is, in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// How long a stopped platform waits for the handlers that still run. The longest that are meant to be wait for the host's disk.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// General registers of a guest thread, laid out as the kernel's `user_regs_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[allow(missing_docs)]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The number of the syscall that trapped; meaningless at other traps.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

impl Regs {
    /// The six syscall arguments in order.
    pub fn args(&self) -> [u64; 6] {
        [self.rdi, self.rsi, self.rdx, self.r10, self.r8, self.r9]
    }
}

/// Why a guest thread stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// A 64-bit `syscall` instruction: number in `orig_rax`, arguments in the argument registers, `rip` behind it.
    /// Calls into the host's vsyscall page are reported the same way, with `rip` at the return address.
    Syscall,
    /// `int 0x80` or another foreign way into a kernel; `rip` is behind the instruction.
    ForeignSyscall,
    /// The CPU raised an exception.
    Fault(Fault),
    /// The thread was running and somebody called [`ThreadHandle::kick`].
    Interrupted,
    /// The thread was kicked in a call that the platform makes itself, by a futex of its own ([`Freedom::futexes`]) or a pipe
    /// that it was [granted](Thread::grant): registers as at [`Trap::Syscall`]. [`Next::Again`] has it go on with that.
    Waiting,
    /// The thread was parked and somebody called [`ThreadHandle::kick`].
    Woken,
    /// The host thread is gone (killed from outside). Registers and memory can no longer be reached.
    Died,
}

/// A CPU exception in the form Linux reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// SIGSEGV, SIGBUS, SIGFPE, SIGILL or SIGTRAP.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub addr: u64,
    /// x86 vector number as in `sigcontext.trapno`, as well as the platform can tell.
    pub trapno: u64,
    /// Hardware error code as in `sigcontext.err`, as well as the platform can tell.
    pub error: u64,
}

/// What the owner of a thread wants done with it after a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Run guest code with the present registers.
    Resume,
    /// Have the platform make the call that the thread stands behind: after [`Trap::Waiting`], or when the thread was granted what
    /// that takes.
    Again,
    /// Run one instruction, then report [`Fault`] with SIGTRAP/TRAP_TRACE; a syscall instruction is reported as
    /// [`Trap::Syscall`] instead.
    Step,
    /// Leave it stopped until [`ThreadHandle::kick`].
    Park,
    /// Destroy the host thread; the address space goes with its last thread. The owner is not called again.
    Exit,
}

/// Receives the traps of one guest thread.
pub trait TrapHandler: Send + Sync {
    /// Handle one event. Called with the thread stopped; must not block.
    fn trap(self: Arc<Self>, thread: &mut dyn Thread, trap: Trap) -> Next;
}

/// How a new thread relates to the address space of the one it is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkKind {
    /// A copy-on-write copy of the address space: fork(2).
    Copy,
    /// The same address space in a process of its own: vfork(2), clone(CLONE_VM).
    Share,
    /// Another thread of the same process: clone(CLONE_THREAD).
    Thread,
}

/// A stopped guest thread: the right to look at and change it.
pub trait Thread: Send + std::any::Any {
    /// The address space it runs in.
    fn space(&self) -> &Arc<dyn Space>;

    /// A handle that outlives this stop.
    fn handle(&self) -> Arc<dyn ThreadHandle>;

    /// General registers as of this stop.
    fn regs(&self) -> &Regs;

    /// Registers to resume with. The platform sanitises segment selectors, flags and non-canonical addresses.
    fn regs_mut(&mut self) -> &mut Regs;

    /// The extended state in the XSAVE standard format, at the size of the host's user-enabled features.
    fn xstate(&mut self) -> Result<Vec<u8>, Errno>;

    /// Replace the extended state. EINVAL when the image is not one the CPU would accept.
    fn set_xstate(&mut self, image: &[u8]) -> Result<(), Errno>;

    /// Carry out memory operations on this thread's address space in order, up to the first failure.
    /// Returns the last one's result.
    fn memory(&mut self, ops: &[MemOp<'_>]) -> Result<u64, Errno>;

    /// Make another thread with the same registers and extended state.
    fn fork(&mut self, kind: ForkKind) -> Result<Box<dyn Thread>, Errno>;

    /// Trap CPU time stamp reads as SIGSEGV faults instead of answering natively (PR_SET_TSC).
    fn trap_tsc(&mut self, on: bool) -> Result<(), Errno>;

    /// Have CPUID instructions of this address space fault where they stand, with all registers as the guest had them: it wants to see
    /// that.
    fn bare_cpuid(&mut self) {}

    /// Give the thread `file` for calls on the guest's descriptor `number` from the beginning of the grant on. None where that
    /// cannot be; such calls trap then, as ever.
    fn grant(&mut self, number: u32, file: &Arc<HostFile>, what: Granted) -> Option<Arc<dyn Grant>> {
        let _ = (number, file, what);
        None
    }

    /// Whether the call that it stands behind came in such a way that it could have been made by a granted pipe.
    fn may_use_pipes(&self) -> bool {
        false
    }

    /// Bytes that the platform has moved of that call, which the guest may lie about.
    fn moved(&self) -> u64 {
        0
    }

    /// Restrict the host CPUs this thread runs on. `mask` is a bit per CPU, lowest first.
    fn set_affinity(&mut self, mask: &[u64]) -> Result<(), Errno>;
}

/// What is [granted](Thread::grant).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// A plain file to read, by a descriptor that can only read.
    File {
        /// Whether its position is always 0, as that of a device without an end.
        stays: bool,
    },
    /// A plain file to write, by a descriptor that can only write.
    Writing {
        /// How far.
        bound: WriteBound,
        /// As with [`Granted::File`].
        stays: bool,
    },
    /// One end of a host pipe, which can be read or written.
    Pipe,
}

/// A file that a guest thread uses by one of its descriptors without a trap. What can be done with it from any host thread.
///
/// A read of a plain file that is in progress counts only if it is done before the grant ends, or the position that it used is
/// taken back; otherwise it traps. What was done with a pipe is done; who wants to know when that is over asks for it.
pub trait Grant: Send + Sync {
    /// From now on the thread may read or write at offsets that it gives, and as soon as it is lent one at a position.
    fn begin(&self);

    /// Let read(2), or write(2), and lseek(2) use and move this position, in bytes.
    fn lend_position(&self, position: u64);

    /// Take the position back as the thread left it; none when it has none.
    fn take_position(&self) -> Option<u64>;

    /// The position as it is now.
    fn position(&self) -> Option<u64>;

    /// From now on the descriptor's calls trap. The position as the thread left it.
    fn end(&self) -> Option<u64>;

    /// Whether the thread is there still, with the same address space.
    fn is_alive(&self) -> bool;

    /// After the end: whether a call that the thread makes by the pipe may still be in progress.
    fn is_busy(&self) -> bool;

    /// After the end: interrupt a call in progress, and have `then` called when the thread has come to the supervisor.
    fn when_quiet(&self, then: Box<dyn FnOnce() + Send>);

    /// Kill the process of the thread, which does not come.
    fn kill(&self);
}

/// How guests reach files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Io {
    /// Plain files and pipes may be [granted](Thread::grant).
    #[default]
    Enlightened,
    /// Only by the supervisor: no host call that a guest can reach takes a descriptor of a file.
    Mediated,
}

/// What can be done with a guest thread at any time from any host thread.
pub trait ThreadHandle: Send + Sync {
    /// Make the platform call the thread's owner soon: with [`Trap::Interrupted`] when it is running, with
    /// [`Trap::Woken`] when it is parked. A kick during a handler takes effect when the handler has returned.
    /// Kicks may merge; a kick of a dead thread does nothing.
    fn kick(&self);

    /// As [`ThreadHandle::kick`], for a thread that has nothing more to do than to end. When it does not come, because its
    /// guest code keeps it from that, its host process may be killed.
    fn end(&self) {
        self.kick();
    }

    /// Whether it sleeps by a futex of its own.
    fn is_waiting(&self) -> bool {
        false
    }

    /// User and system CPU time used so far, in nanoseconds.
    fn cpu_time(&self) -> (u64, u64);

    /// The head of its list of robust futexes, if it has named one without a trap, by set_robust_list(2); else 0. As the
    /// guest says.
    fn robust_list(&self) -> u64 {
        0
    }

    /// It has named one by a trap since.
    fn forget_robust_list(&self) {}

    /// What the thread may be told from now on without a trap. A platform that cannot do that forgets it.
    fn publish(&self, facts: &Facts);
}

/// What a guest thread can be told without asking its owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether it may be told at all: not while somebody wants to see its calls.
    pub open: bool,
    /// getpid(2).
    pub pid: i32,
    /// gettid(2).
    pub tid: i32,
    /// getppid(2).
    pub ppid: i32,
    /// getuid(2).
    pub uid: u32,
    /// geteuid(2).
    pub euid: u32,
    /// getgid(2).
    pub gid: u32,
    /// getegid(2).
    pub egid: u32,
    /// Whether CPUID may be answered as the platform was told, where it faults at all.
    pub cpuid: bool,
}

/// One guest address space. Bad addresses end a copy early; they are never an error of the supervisor.
pub trait Space: Send + Sync {
    /// Copy from guest memory; the number of bytes copied, up to the first byte that the guest could not read.
    fn read(&self, addr: u64, buf: &mut [u8]) -> usize;

    /// Copy to guest memory; the number of bytes copied, up to the first byte that the guest could not write.
    fn write(&self, addr: u64, buf: &[u8]) -> usize;

    /// As [`Space::read`] but ignoring page protections, as a debugger does.
    fn peek(&self, addr: u64, buf: &mut [u8]) -> usize;

    /// Copy instructions as the guest wrote them, whatever the platform has made of them; those that can only be executed too.
    fn code(&self, addr: u64, buf: &mut [u8]) -> usize {
        match self.read(addr, buf) {
            0 => self.peek(addr, buf),
            read => read,
        }
    }

    /// As [`Space::write`] but ignoring page protections (copy on write applies), as a debugger does.
    fn poke(&self, addr: u64, buf: &[u8]) -> usize;

    /// The present mappings in address order, the platform's own left out.
    fn mappings(&self) -> Result<Vec<Mapping>, Errno>;

    /// Per-mapping counters of /proc/PID/smaps in the order and number of [`Space::mappings`].
    fn mapping_usage(&self) -> Result<Vec<MappingUsage>, Errno>;

    /// Sizes as in /proc/PID/statm.
    fn size(&self) -> Result<SpaceSize, Errno>;

    /// Largest `total` and `resident` so far.
    fn peak(&self) -> Result<(u64, u64), Errno>;

    /// What its threads may do from now on without a trap; nothing at first. A platform that cannot let them forgets it.
    fn allow(&self, _freedom: Freedom) {}
}

/// What the threads of an address space may do without asking their owners, beside what [`Facts`] say. None of it binds a
/// hostile guest, which may do the same in other ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freedom {
    /// Map, unmap, protect, advise and move private anonymous memory: there is no limit that it counts against, and no
    /// locked memory to keep account of.
    pub memory: bool,
    /// Wait and wake by private futexes of the host's. Either all of the space's threads do or none does; who waits when
    /// that is taken away has to be kicked.
    pub futexes: bool,
}

/// One line of the host's memory map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Access rights.
    pub prot: Prot,
    /// Whether writes are seen by other mappings of the same object.
    pub shared: bool,
    /// Offset into the file, in bytes.
    pub offset: u64,
    /// The handed-in file behind it, by host device and inode, which the kernel knows the guest's name of; shared
    /// anonymous memory has such an identity too, and no name.
    pub file: Option<(u64, u64)>,
}

/// Counters of one mapping, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MappingUsage {
    pub rss: u64,
    pub pss: u64,
    pub shared_clean: u64,
    pub shared_dirty: u64,
    pub private_clean: u64,
    pub private_dirty: u64,
    pub referenced: u64,
    pub anonymous: u64,
    pub swap: u64,
}

/// Sizes of an address space, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceSize {
    /// All mappings.
    pub total: u64,
    /// Pages in memory.
    pub resident: u64,
    /// Of those, pages of files and shared memory.
    pub shared: u64,
    /// Private writable mappings (data and stacks).
    pub data: u64,
}

bitflags! {
    /// Page protection, with the values of PROT_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// PROT_READ
        const READ = 1;
        /// PROT_WRITE
        const WRITE = 2;
        /// PROT_EXEC
        const EXEC = 4;
        /// PROT_GROWSDOWN (mprotect only)
        const GROWSDOWN = 0x0100_0000;
    }

    /// What of mmap's flags a platform understands, with the values of MAP_*.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// MAP_SHARED
        const SHARED = 1;
        /// MAP_PRIVATE
        const PRIVATE = 2;
        /// MAP_FIXED
        const FIXED = 0x10;
        /// MAP_ANONYMOUS
        const ANONYMOUS = 0x20;
        /// MAP_32BIT
        const LOW32 = 0x40;
        /// MAP_GROWSDOWN
        const GROWSDOWN = 0x100;
        /// MAP_NORESERVE
        const NORESERVE = 0x4000;
        /// MAP_POPULATE
        const POPULATE = 0x8000;
        /// MAP_FIXED_NOREPLACE
        const FIXED_NOREPLACE = 0x10_0000;
    }
}

/// One operation on an address space. Addresses and lengths were checked against [`USER_END`] by the kernel and are
/// checked again by the platform.
#[derive(Clone, Debug)]
pub enum MemOp<'a> {
    /// mmap(2); the result is the address.
    Map {
        /// Wanted address or 0.
        addr: u64,
        /// Length in bytes.
        len: u64,
        /// Access rights.
        prot: Prot,
        /// Kind and placement.
        flags: MapFlags,
        /// File and offset in bytes; none for anonymous memory.
        file: Option<(&'a Arc<HostFile>, u64)>,
    },
    /// munmap(2).
    #[allow(missing_docs)]
    Unmap { addr: u64, len: u64 },
    /// mprotect(2).
    #[allow(missing_docs)]
    Protect { addr: u64, len: u64, prot: Prot },
    /// mremap(2) with `flags` of MREMAP_*; the result is the address.
    #[allow(missing_docs)]
    Remap {
        old: u64,
        old_len: u64,
        new_len: u64,
        flags: u32,
        new: u64,
    },
    /// madvise(2) with a value the kernel has checked to be harmless.
    #[allow(missing_docs)]
    Advise { addr: u64, len: u64, advice: u32 },
    /// msync(2).
    #[allow(missing_docs)]
    Sync { addr: u64, len: u64, flags: u32 },
    /// mincore(2) with the answer written to guest memory at `vec`.
    #[allow(missing_docs)]
    Mincore { addr: u64, len: u64, vec: u64 },
    /// mlock2(2) (`flags` of MLOCK_*) or munlock(2) when none.
    #[allow(missing_docs)]
    Lock { addr: u64, len: u64, flags: Option<u32> },
    /// Set one bit (0 to 31) of the aligned 32-bit word at `addr`, atomically against everything that runs.
    #[allow(missing_docs)]
    SetBit { addr: u64, bit: u32 },
}

/// Makes address spaces and runs guest threads.
pub trait Platform: Send + Sync {
    /// Name as given to `--platform`.
    fn name(&self) -> &'static str;

    /// A new address space, empty but for the platform's own page, with one stopped thread in it.
    /// Called from a trap handler or, before [`Platform::run`], from the host thread that will call it.
    fn spawn(&self) -> Result<Box<dyn Thread>, Errno>;

    /// Begin running a thread made by [`Platform::spawn`] or [`Thread::fork`], from any host thread; it may trap before this
    /// has returned. Kernel locks may be held.
    fn start(&self, thread: Box<dyn Thread>, owner: Arc<dyn TrapHandler>);

    /// Serve traps until no thread is left. Called once.
    fn run(&self) -> Result<(), Errno>;

    /// Counts of what happened so far. None where nothing is counted.
    fn statistics(&self) -> Option<Statistics> {
        None
    }

    /// Where guest code can call the host's own `clock_gettime` of vdso(7), for CLOCK_REALTIME and CLOCK_MONOTONIC. It needs no
    /// system call, and gives an error where it would. None where it is not there.
    fn host_clock(&self) -> Option<u64> {
        None
    }

    /// The guest's clocks: what the host's CLOCK_MONOTONIC was at the beginning of the guest's, and by how much the guest's
    /// CLOCK_REALTIME is ahead of the host's, in nanoseconds.
    fn set_clock(&self, _boot: u64, _ahead: i64) {}

    /// Count in `activity` what goes on: threads with an owner but for those that are parked. Called at most once, before any thread
    /// has an owner.
    fn count_activity(&self, activity: Arc<Activity>);

    /// Whether CPUID of guest code faults (SIGSEGV, SI_KERNEL) where the platform does not answer it as [`Facts::cpuid`] says.
    fn traps_cpuid(&self) -> bool {
        false
    }

    /// End all threads from any host thread; [`Platform::run`] then returns soon. Owners are not called. ETIMEDOUT is what it returns
    /// when a handler has not come back for [`PATIENCE`]; where handlers run on the very thread that called it, it does not return.
    fn stop(&self);
}
