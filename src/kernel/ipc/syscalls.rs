//! The calls of futexes, System V IPC and POSIX message queues.

use super::futex::*;
use super::mqueue::*;
use super::sysv::*;

syscall_table::ipc_rows!(crate::kernel::syscall::dispatch_rows);
