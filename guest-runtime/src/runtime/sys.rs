//! Host calls. Every `syscall` instruction of the runtime can be reached by guest code with any registers.

use core::arch::asm;
use core::arch::x86_64::__cpuid_count;
use core::sync::atomic::{AtomicBool, Ordering};

pub const READ: u64 = 0;
pub const WRITE: u64 = 1;
pub const LSEEK: u64 = 8;
pub const MMAP: u64 = 9;
pub const MPROTECT: u64 = 10;
pub const MUNMAP: u64 = 11;
pub const RT_SIGACTION: u64 = 13;
pub const RT_SIGPROCMASK: u64 = 14;
pub const PREAD64: u64 = 17;
pub const PWRITE64: u64 = 18;
pub const WRITEV: u64 = 20;
pub const MREMAP: u64 = 25;
pub const MADVISE: u64 = 28;
pub const CLONE: u64 = 56;
pub const EXIT: u64 = 60;
pub const CAPSET: u64 = 126;
pub const SIGALTSTACK: u64 = 131;
pub const PRCTL: u64 = 157;
pub const ARCH_PRCTL: u64 = 158;
pub const FUTEX: u64 = 202;
pub const CLOCK_GETTIME: u64 = 228;
pub const SET_ROBUST_LIST: u64 = 273;
pub const EXIT_GROUP: u64 = 231;
pub const CLOSE: u64 = 3;
pub const CLOSE_RANGE: u64 = 436;

/// Make a host call.
#[inline(always)]
pub fn call(number: u64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: what the call does is the caller's business; as an instruction it changes no more than it says.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") args[0], in("rsi") args[1], in("rdx") args[2],
            in("r10") args[3], in("r8") args[4], in("r9") args[5], out("rcx") _, out("r11") _, options(nostack));
    }
    result
}

/// As [`call`], and the function ends behind it. Guest code that jumps to the `syscall` comes out at once with what the host
/// said in rax, where tests that attack the runtime look for it.
#[inline(never)]
pub fn call_apart(number: u64, args: &[u64; 6]) -> i64 {
    call(number, *args)
}

/// End the process: the guest did something to the runtime that leaves nothing sensible to do.
pub fn exit_group() -> ! {
    loop {
        call(EXIT_GROUP, [99, 0, 0, 0, 0, 0]);
    }
}

/// Whether RDPID is there: Intel's processors before Ice Lake and AMD's before Zen 2 lack it.
static RDPID: AtomicBool = AtomicBool::new(false);

/// Learn what the processor has. The first stub does; all others have a copy of its data.
pub fn look_at_processor() {
    /// Leaf 7, in ecx.
    const HAS_RDPID: u32 = 1 << 22;
    // SAFETY: every 64-bit processor has the instruction; compilers before 1.94 call it unsafe.
    #[allow(unused_unsafe)]
    let features = unsafe { __cpuid_count(7, 0) };
    RDPID.store(features.ecx & HAS_RDPID != 0, Ordering::Relaxed);
}

/// Number of the CPU this runs on.
#[inline(always)]
pub fn cpu() -> u32 {
    /// The segment whose limit the host sets to what RDPID gives.
    const CPU_SEGMENT: u32 = 0x7b;
    let value: u64;
    if RDPID.load(Ordering::Relaxed) {
        // SAFETY: only writes a register.
        unsafe { asm!("rdpid {}", out(reg) value, options(nomem, nostack)) };
    } else {
        // SAFETY: as above, and the flags. Of a segment that is not there it leaves the number that went in.
        unsafe {
            asm!("lsl {0:e}, {0:e}", inlateout(reg) u64::from(CPU_SEGMENT) => value, options(nomem, nostack))
        };
    }
    (value & 0xfff) as u32
}

/// The base address of %fs.
#[inline(always)]
pub fn fs_base() -> u64 {
    let value: u64;
    // SAFETY: only writes a register.
    unsafe { asm!("rdfsbase {}", out(reg) value, options(nomem, nostack)) };
    value
}

/// Set the base address of %fs, which the runtime does not use.
#[inline(always)]
pub fn set_fs_base(value: u64) {
    // SAFETY: as above.
    unsafe { asm!("wrfsbase {}", in(reg) value, options(nomem, nostack)) };
}

/// The base address of %gs.
#[inline(always)]
pub fn gs_base() -> u64 {
    let value: u64;
    // SAFETY: only writes a register.
    unsafe { asm!("rdgsbase {}", out(reg) value, options(nomem, nostack)) };
    value
}

/// Set the base address of %gs, which only the entry code uses.
#[inline(always)]
pub fn set_gs_base(value: u64) {
    // SAFETY: as above.
    unsafe { asm!("wrgsbase {}", in(reg) value, options(nomem, nostack)) };
}
