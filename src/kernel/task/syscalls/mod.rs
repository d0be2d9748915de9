//! Handlers of the calls about processes and threads.

mod creds;
mod ids;
mod limits;
mod prctl;
mod sharing;

use super::clone::{clone, clone3, fork, vfork};
use super::exec::{execve, execveat};
use super::exit::{exit, exit_group};
use super::pidfd::{pidfd_getfd, pidfd_open};
use super::ptrace::ptrace;
use super::usage::{getrusage, times};
use super::wait::{wait4, waitid};
use creds::*;
use ids::*;
use limits::{getrlimit, prlimit64, setrlimit};
use prctl::{arch_prctl, personality, prctl};
use sharing::{kcmp, unshare};

syscall_table::task_rows!(crate::kernel::syscall::dispatch_rows);
