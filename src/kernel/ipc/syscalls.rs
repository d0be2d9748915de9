//! The calls of futexes.

use super::futex::*;

syscall_table::ipc_rows!(crate::kernel::syscall::dispatch_rows);
