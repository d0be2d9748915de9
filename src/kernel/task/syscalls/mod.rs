//! Handlers of the calls about processes and threads.

use super::clone::{clone, clone3, fork, vfork};
use super::exec::{execve, execveat};
use super::exit::{exit, exit_group};
use super::pidfd::{pidfd_getfd, pidfd_open};
use super::usage::{getrusage, times};
use super::wait::{wait4, waitid};

syscall_table::task_rows!(crate::kernel::syscall::dispatch_rows);
