//! The calls of futexes and of System V IPC.

use super::futex::*;
use super::sysv::*;

syscall_table::ipc_rows!(crate::kernel::syscall::dispatch_rows);
