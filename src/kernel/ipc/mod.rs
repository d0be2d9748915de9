//! Inter-process communication beside files: futexes.

pub mod futex;
mod syscalls;

pub(in crate::kernel) use syscalls::dispatch;
