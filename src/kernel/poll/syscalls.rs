//! The calls of poll(2), select(2), epoll(7) and of the descriptors made to be waited on.

use super::epoll::*;
use super::eventfd::*;
use super::ppoll::*;
use super::select::*;
use super::signalfd::*;
use super::timerfd::*;

syscall_table::poll_rows!(crate::kernel::syscall::dispatch_rows);
