//! The calls of time(7).

use super::clocks::*;
use super::interval::*;
use super::posix::*;
use super::sleep::*;

syscall_table::time_rows!(crate::kernel::syscall::dispatch_rows);
