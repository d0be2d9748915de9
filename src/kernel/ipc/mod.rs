//! Inter-process communication beside files: futexes, System V IPC, POSIX message queues.

pub mod futex;
pub mod mqueue;
mod syscalls;
pub mod sysv;

pub(in crate::kernel) use syscalls::dispatch;
