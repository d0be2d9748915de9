//! Handlers of the memory calls.

mod advice;
mod lock;
mod map;
mod remote;

pub use advice::{madvise, mincore, msync, process_madvise, process_mrelease};
pub use lock::{mlock, mlock2, mlockall, munlock, munlockall};
pub use map::{brk, mmap, mprotect, mremap, munmap, pkey_alloc, pkey_free, pkey_mprotect};
pub use remote::{process_vm_readv, process_vm_writev};

use super::memfd::memfd_create;

syscall_table::mm_rows!(crate::kernel::syscall::dispatch_rows);
