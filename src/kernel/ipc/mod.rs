//! Inter-process communication beside files: futexes and System V IPC.

pub mod futex;
mod syscalls;
pub mod sysv;

pub(in crate::kernel) use syscalls::dispatch;
