//! What the runtime inside a guest's address space and the supervisor agree on: addresses, and the doorbell page.
//!
//! Everything that the guest side writes here is hostile input to the supervisor. Nothing that the supervisor writes
//! here is a secret or a right: the guest can read and change all of it.

use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};

use crate::cpuid::Answers;

/// First address of the platform's part of the address space, and where the runtime's own code and data lie.
pub const RUNTIME_BASE: u64 = 0x7fff_0000_0000;
/// The most that the runtime's code and data take, in bytes.
pub const RUNTIME_MAX: u64 = 1 << 20;
/// Pages that a stub can only read: that of the [`Machine`], then one [`Entry`] for each guest thread of the machine, the
/// [`Room`]s and the [`Answers`].
pub const FACTS_BASE: u64 = 0x7fff_0800_0000;
/// Entries there. The first belongs to nobody.
pub const ENTRIES: usize = 16384;
/// Where the [`Room`]s begin, from the start of those pages.
pub const ROOMS_OFFSET: u64 = PAGE + (ENTRIES * size_of::<Entry>()) as u64;
/// Rooms there: one for each address space of the machine. The first belongs to nobody.
pub const ROOMS: usize = 16384;
/// Where the [`Answers`] lie, from the start of those pages. They do not change while there are guests.
pub const ANSWERS_OFFSET: u64 = ROOMS_OFFSET + (ROOMS * size_of::<Room>()) as u64;
/// Bytes of all of it.
pub const FACTS_LEN: u64 = ANSWERS_OFFSET + (size_of::<Answers>() as u64).next_multiple_of(PAGE);
/// Where the host's own vDSO and its data lie.
pub const HOST_VDSO_BASE: u64 = 0x7fff_0a00_0000;
/// Bytes of that.
pub const HOST_VDSO_LEN: u64 = 1 << 20;
/// First byte of the vDSO there. Its data may be on both sides.
pub const HOST_VDSO: u64 = HOST_VDSO_BASE + HOST_VDSO_LEN / 2;
/// Doorbell page and window of slot 0; one memory file per address space, mapped in one piece.
pub const SHARED_BASE: u64 = 0x7fff_1000_0000;
/// Distance of two slots there.
pub const SHARED_STRIDE: u64 = PAGE + WINDOW;
/// Thread block and stacks of slot 0: private memory.
pub const PRIVATE_BASE: u64 = 0x7fff_4000_0000;
/// Distance of two slots there. A power of two: a stack pointer tells its thread block.
pub const PRIVATE_STRIDE: u64 = 0x1_0000;
/// End of the host's user address space.
pub const HOST_END: u64 = 0x7fff_ffff_f000;
/// Threads that one address space can have.
pub const SLOTS: u64 = 4096;
/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Bytes of the data window behind a doorbell page.
pub const WINDOW: u64 = 0x1_0000;

/// Descriptor by which the listener for user notifications leaves the first stub.
pub const SOCKET_FD: u64 = 3;
/// Descriptor of the runtime's image when the first stub begins.
pub const IMAGE_FD: u64 = 4;
/// Descriptor of the first stub's doorbell memory when it begins.
pub const BELL_FD: u64 = 5;
/// Descriptor of the facts when the first stub begins.
pub const FACTS_FD: u64 = 6;
/// Descriptor of a file that is being mapped.
pub const TAKEN_FD: u32 = 7;
/// The call that becomes a user notification by which a stub says who it is and gets a descriptor: getppid, which no stub
/// needs for itself. Sandboxes that uvm itself may be in allow it; a number that no host has is ENOSYS in many of them
/// before anybody is notified.
pub const NR_HELLO: u64 = 110;

/// The host signal that interrupts a running guest thread: SIGURG. Not a real-time one: those are counted per user, and refused
/// when somebody who does not take them has used them up.
pub const KICK: i32 = 23;

/// Where the flat image keeps `[rx_len, rw_len, entry]`, as offsets from its start: in the ELF header, which nothing needs.
pub const IMAGE_HEADER: usize = 24;
/// Where it keeps what the host's vDSO consists of, in place of program headers: how many mappings, then of each its distance
/// from the first byte of the vDSO's text, and its length.
pub const VDSO_HEADER: usize = 64;
/// Mappings there at most.
pub const VDSO_PARTS: usize = 4;

/// What a trap is.
pub mod kind {
    /// A `syscall` instruction.
    pub const SYSCALL: u32 = 1;
    /// A call by another way into a kernel.
    pub const FOREIGN: u32 = 2;
    /// An exception.
    pub const FAULT: u32 = 3;
    /// The kick came while guest code ran.
    pub const INTERRUPT: u32 = 4;
    /// A `syscall` instruction of a call that the runtime will make itself.
    pub const SITE: u32 = 5;
    /// The kick came while the host did such a call.
    pub const WAITING: u32 = 6;
    /// A CPUID instruction that the runtime will answer itself.
    pub const CPUID: u32 = 7;
}

/// What the supervisor wants after its commands.
pub mod action {
    /// Say that the commands are done and wait for the next answer.
    pub const REPLY: u32 = 1;
    /// Go on behind the call with `rax`; nothing else has changed.
    pub const RESUME: u32 = 2;
    /// Go on with all registers as given.
    pub const RESUME_FULL: u32 = 3;
    /// End this host thread.
    pub const EXIT: u32 = 4;
    /// Make the call, once more, with registers as given: they differ in rip at most.
    pub const AGAIN: u32 = 5;
}

/// Operations of [`Command`].
pub mod op {
    /// Host call `args[0]` with `args[1..7]`.
    pub const CALL: u32 = 1;
    /// Copy `args[2]` bytes from guest address `args[1]` to window offset `args[0]`. Result: bytes copied.
    pub const COPY_IN: u32 = 2;
    /// Copy `args[2]` bytes from window offset `args[1]` to guest address `args[0]`. Result: bytes copied.
    pub const COPY_OUT: u32 = 3;
    /// Save the guest's extended state at window offset `args[0]`, `args[1]` bytes.
    pub const GET_XSTATE: u32 = 4;
    /// Load the guest's extended state from window offset `args[0]`, `args[1]` bytes.
    pub const SET_XSTATE: u32 = 5;
    /// Clone with flags `args[0]` and token `args[2]`. Sharing memory: into slot `args[1]`; copying: the child keeps the slot
    /// number. Result: the host's id.
    pub const CLONE: u32 = 6;
    /// Set bit `args[1]` of the 32-bit word at guest address `args[0]`.
    pub const SET_BIT: u32 = 7;
    /// Ask for a descriptor with token `args[0]`. Result: its number.
    pub const TAKE: u32 = 8;
    /// Call the host's `clock_gettime` at `args[0]`. Result: 0, or an error when it cannot tell by itself.
    pub const ASK_CLOCK: u32 = 9;
}

/// General registers in the order of the kernel's `user_regs_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Registers {
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

/// An exception as the host reported it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Exception {
    pub signal: i32,
    pub code: i32,
    pub addr: u64,
    pub trapno: u64,
    pub error: u64,
}

/// One step that the runtime does for the supervisor. A negative result ends the list.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Command {
    /// What to do: [`op`].
    pub op: u32,
    /// Whether the list goes on when the result is an error.
    pub optional: u32,
    /// Its arguments.
    pub args: [u64; 7],
    /// Written by the runtime.
    pub result: i64,
}

/// Commands in one answer.
pub const COMMANDS: usize = 24;

/// What holds for all guest threads. Written by the supervisor alone.
#[repr(C)]
pub struct Machine {
    /// What the host's CLOCK_MONOTONIC was when the guest's began, in nanoseconds.
    pub boot: AtomicI64,
    /// By how much the guest's CLOCK_REALTIME is ahead of the host's, in nanoseconds.
    pub ahead: AtomicI64,
}

/// What one guest thread is told without ringing. Written by the supervisor alone.
#[repr(C, align(64))]
#[allow(missing_docs)]
pub struct Entry {
    /// Whether it may be told at all.
    pub open: AtomicU32,
    pub pid: AtomicU32,
    pub tid: AtomicU32,
    pub ppid: AtomicU32,
    pub uid: AtomicU32,
    pub euid: AtomicU32,
    pub gid: AtomicU32,
    pub egid: AtomicU32,
    /// Whether CPUID is answered from the table.
    pub cpuid: AtomicU32,
}

/// Ranges of addresses in one [`Room`].
pub const KEPT: usize = 14;

/// What the threads of one address space may do to it by themselves. Written by the supervisor alone.
#[repr(C, align(64))]
pub struct Room {
    /// Odd while the ranges are being changed.
    pub version: AtomicU32,
    /// Whether they may make own-memory calls at all.
    pub memory: AtomicU32,
    /// Whether private futexes are the host's.
    pub futexes: AtomicU32,
    /// How many ranges there are.
    pub count: AtomicU32,
    /// Changed when text begins to be rewritten and when that is done: odd meanwhile.
    pub rewriting: AtomicU32,
    /// Unused.
    pub pad: AtomicU32,
    /// From the first to one past the last address of what the supervisor must hear of when it changes, in order.
    pub kept: [[AtomicU64; 2]; KEPT],
}

/// What follows it begins a cache line.
#[repr(C, align(64))]
pub struct Line;

/// A word with a cache line of its own.
#[repr(C, align(64))]
pub struct Word(pub AtomicU32);

/// Guest memory that the runtime has copied into the window for a call, or may be asked to write from there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in guest memory.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Where it begins in the window.
    pub offset: u16,
    /// [`Segment::READABLE`] and [`Segment::WRITABLE`].
    pub flags: u16,
}

impl Segment {
    /// The window has what guest memory had.
    pub const READABLE: u16 = 1;
    /// Every page of it was writable.
    pub const WRITABLE: u16 = 2;
}

/// Segments of one call.
pub const SEGMENTS: usize = 12;
/// The part of the window that they are in; commands use the rest.
pub const SEGMENTS_END: u64 = 0x8000;

/// Who watches the words and need not be woken.
#[repr(C, align(64))]
pub struct Watch {
    /// Not 0: the supervisor watches `req`.
    pub server: AtomicU32,
    /// Not 0: the guest watches `rsp`.
    pub guest: AtomicU32,
    /// How often the guest shall look at `rsp` before it sleeps.
    pub turns: AtomicU32,
}

/// The most that [`Watch::turns`] may be.
pub const TURNS: u32 = 1 << 12;

/// What a guest thread tells of a trap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// What happened: [`kind`].
    pub kind: u32,
    /// The CPU it ran on.
    pub cpu: u32,
    /// The call came by a patched site.
    pub patched: u32,
    /// How many segments there are.
    pub count: u32,
    /// Bytes that the host has moved for the call already.
    pub moved: u64,
    /// The guest's registers.
    pub regs: Registers,
    /// The exception of [`kind::FAULT`].
    pub exception: Exception,
    /// Memory of the call.
    pub segments: [Segment; SEGMENTS],
}

/// What a call has written, which is to be copied to guest memory before anything else is done.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteBack {
    /// Where it begins in guest memory.
    pub addr: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Where it begins in the window.
    pub offset: u32,
}

/// Of these in one answer.
pub const WRITE_BACKS: usize = 12;

/// What the supervisor answers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// What to do after the commands: [`action`].
    pub action: u32,
    /// How many commands there are.
    pub count: u16,
    /// How much there is to write back.
    pub written: u16,
    /// What the call returns, for [`action::RESUME`]: EFAULT instead if not all could be written back.
    pub rax: u64,
    /// What to write back.
    pub write_backs: [WriteBack; WRITE_BACKS],
    /// Registers to go on with, for the other actions that let the guest go on.
    pub regs: Registers,
    /// The commands.
    pub commands: [Command; COMMANDS],
}

/// Guest descriptors, from 0 on, that may be granted.
pub const GRANTS: usize = 64;
/// The position of a grant whose thread has none to use.
pub const NO_POSITION: u64 = u64::MAX;
/// The first number of descriptors that are handed in to stay.
pub const HANDED: u32 = 16;
/// Of [`Grant::state`]: the host's descriptor.
pub const DESCRIPTOR: u64 = 0xffff;
/// Of [`Grant::state`]: it is the reading end of a pipe.
pub const PIPE_READS: u64 = 1 << 16;
/// Of [`Grant::state`]: it is the writing end of a pipe.
pub const PIPE_WRITES: u64 = 1 << 17;

/// Of [`Grant::state`]: it is a plain file to write.
pub const FILE_WRITES: u64 = 1 << 18;
/// Of [`Grant::state`]: lseek(2) has nothing to do with the position, which is only how far the thread has come.
pub const STAYS: u64 = 1 << 19;
/// Of [`Grant::state`] of a file to write: where [`bound`] is told, by its place.
pub const BOUND_SHIFT: u32 = 20;
/// Bounds that files to write can have.
pub const BOUNDS: u32 = 7;
/// The most bytes that one write of such a file has.
pub const WRITE_MOST: u64 = 1 << 20;

/// Below which offset, in bytes, the writes of a file to write have to begin: one of [`BOUNDS`].
pub const fn bound(place: u32) -> u64 {
    1 << (18 + 2 * place)
}

/// What a guest thread may use by itself for one of its guest's descriptors.
#[repr(C)]
pub struct Grant {
    /// [`DESCRIPTOR`] and what it is in the lower half, anything but 0 in the upper half; 0 when there is none.
    pub state: AtomicU64,
    /// The position that read(2) or write(2) uses and moves, or [`NO_POSITION`].
    pub position: AtomicU64,
}

/// The doorbell page of a thread. Its window follows.
///
/// Where both sides watch, a call takes as long as cache lines take from one CPU to the other: so what most calls change lies
/// beside the words that tell of it.
#[repr(C, align(4096))]
pub struct Page {
    /// Changed by the guest to ring.
    pub req: AtomicU32,
    /// The trap.
    pub request: Request,
    #[allow(missing_docs)]
    pub reply: Line,
    /// Changed by the supervisor to answer.
    pub rsp: AtomicU32,
    /// The answer.
    pub answer: Answer,
    /// Changed by the guest when commands are done.
    pub done: Word,
    /// Cleared by the host when a thread that shares memory has ended.
    pub alive: Word,
    /// Who watches them.
    pub watch: Watch,
    /// Address of this thread's [`Entry`], by the supervisor.
    pub facts: AtomicU64,
    /// Calls that the runtime has answered from it.
    pub answered: AtomicU64,
    /// Address of its address space's [`Room`], by the supervisor.
    pub room: AtomicU64,
    /// Calls that the runtime has made itself.
    pub native: AtomicU64,
    /// Of those, writes of plain files.
    pub written: AtomicU64,
    /// CPUID instructions of patched sites that it has answered.
    pub cpuid: AtomicU64,
    /// CPUID instructions that faulted and that it has answered.
    pub cpuid_faults: AtomicU64,
    /// By guest descriptor.
    pub grants: [Grant; GRANTS],
    /// The [`Grant::state`] of the pipe that it is reading or writing by itself; 0 for none.
    pub busy: AtomicU64,
    /// Whether it waits in a call that the host does.
    pub rests: AtomicU32,
    /// The head of its list of robust futexes, if it has named one without ringing since it last rang for that; else 0.
    pub robust: AtomicU64,
}

const _: () = assert!(size_of::<Page>() == PAGE as usize);
