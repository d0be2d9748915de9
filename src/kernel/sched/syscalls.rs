//! Handlers of the scheduling calls.

use super::affinity::{getcpu, sched_getaffinity, sched_setaffinity};
use super::policy::{
    sched_get_priority_max, sched_get_priority_min, sched_getattr, sched_getparam, sched_getscheduler,
    sched_rr_get_interval, sched_setattr, sched_setparam, sched_setscheduler,
};
use super::priority::{getpriority, ioprio_get, ioprio_set, setpriority};
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;

syscall_table::sched_rows!(crate::kernel::syscall::dispatch_rows);

/// sched_yield(2): the stop for the call itself has let others run.
fn sched_yield(_: &mut SyscallCx<'_>) -> SysResult<()> {
    Ok(())
}

/// membarrier(2): a query answers that no command is there, and programs use other barriers.
fn membarrier(_: &mut SyscallCx<'_>, command: i32, flags: u32, _cpu: i32) -> SysResult<()> {
    const QUERY: i32 = 0;
    if command == QUERY && flags == 0 {
        return Ok(());
    }
    fail!(EINVAL)
}
