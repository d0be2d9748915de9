//! CPU time and what counts as used: getrusage(2), times(2).

use super::{Task, ThreadGroup};
use crate::kernel::abi::task::{Rusage, TimeVal, Tms};
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::UserRef;

/// Nanoseconds in a clock tick (USER_HZ is 100).
const TICK: u64 = 10_000_000;

/// `struct rusage` with the times given in nanoseconds, user and system.
pub(super) fn rusage(cpu: (u64, u64)) -> Rusage {
    Rusage {
        utime: TimeVal::from_nanos(cpu.0),
        stime: TimeVal::from_nanos(cpu.1),
        ..Rusage::default()
    }
}

impl ThreadGroup {
    /// CPU time of all its threads, ended ones too, user and system, in nanoseconds.
    pub fn cpu_time(&self) -> (u64, u64) {
        let (threads, ended) = {
            let state = self.state.lock();
            (state.threads.clone(), state.ended_cpu)
        };
        threads
            .iter()
            .map(|t| t.cpu_time())
            .fold(ended, |sum, cpu| (sum.0 + cpu.0, sum.1 + cpu.1))
    }

    /// CPU time of its waited-for children.
    pub fn children_cpu_time(&self) -> (u64, u64) {
        self.state.lock().children_cpu
    }
}

/// getrusage(2).
pub(super) fn getrusage(cx: &mut SyscallCx<'_>, who: i32, usage: UserRef<Rusage>) -> SysResult<()> {
    let value = match who {
        libc::RUSAGE_SELF => with_size(cx.task, rusage(cx.task.group.cpu_time())),
        libc::RUSAGE_THREAD => with_size(cx.task, rusage(cx.task.cpu_time())),
        libc::RUSAGE_CHILDREN => rusage(cx.task.group.children_cpu_time()),
        _ => return fail!(EINVAL),
    };
    Ok(cx.memory.write(usage, &value)?)
}

fn with_size(task: &Task, mut usage: Rusage) -> Rusage {
    let resident = task.mm().space.size().map_or(0, |size| size.resident);
    usage.maxrss = (resident / 1024).cast_signed();
    usage
}

/// times(2): the value is the ticks since some point in the past, here the boot.
pub(super) fn times(cx: &mut SyscallCx<'_>, buf: UserRef<Tms>) -> SysResult<i64> {
    if let Some(buf) = buf.non_null() {
        let (own, children) = (cx.task.group.cpu_time(), cx.task.group.children_cpu_time());
        let ticks = |nanos: u64| (nanos / TICK).cast_signed();
        cx.memory.write(
            buf,
            &Tms {
                utime: ticks(own.0),
                stime: ticks(own.1),
                cutime: ticks(children.0),
                cstime: ticks(children.1),
            },
        )?;
    }
    Ok((cx.kernel.clock.now().0 / TICK).cast_signed())
}
