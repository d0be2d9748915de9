//! CPU time and what counts as used: getrusage(2), times(2).

use super::{Task, ThreadGroup};
use crate::kernel::abi::task::{Rusage, TimeVal, Tms};
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::UserRef;

/// Nanoseconds in a clock tick (USER_HZ is 100).
const TICK: u64 = 10_000_000;

/// CPU time below which a process has hardly had time to give memory back: then its present size is taken for its
/// largest, which costs a fraction to ask for. In nanoseconds.
const SHORT: u64 = 1_000_000;

/// `struct rusage` with the times given in nanoseconds, user and system, and the largest resident size in bytes.
pub(super) fn rusage(cpu: (u64, u64), peak: u64) -> Rusage {
    Rusage {
        utime: TimeVal::from_nanos(cpu.0),
        stime: TimeVal::from_nanos(cpu.1),
        maxrss: (peak / 1024).cast_signed(),
        ..Rusage::default()
    }
}

/// The address space of a process is about to be left, by its end or by execve(2): note how large it has been.
pub(super) fn note_peak(task: &Task) {
    if task.kernel.turns.is_some() {
        // It depends on the host.
        return;
    }
    let (user, system) = task.group.cpu_time();
    let space = &task.mm().space;
    let peak = if user + system < SHORT {
        space.size().map(|size| size.resident)
    } else {
        space.peak().map(|(_, resident)| resident)
    };
    let mut state = task.group.state.lock();
    state.peak = state.peak.max(peak.unwrap_or(0));
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
        libc::RUSAGE_SELF => rusage(cx.task.group.cpu_time(), peak(cx.task)),
        libc::RUSAGE_THREAD => rusage(cx.task.cpu_time(), peak(cx.task)),
        libc::RUSAGE_CHILDREN => {
            let state = cx.task.group.state.lock();
            rusage(state.children_cpu, state.children_peak)
        }
        _ => return fail!(EINVAL),
    };
    Ok(cx.memory.write(usage, &value)?)
}

/// Largest resident size of a process so far, in bytes.
pub(super) fn peak(task: &Task) -> u64 {
    let now = task.mm().space.peak().map_or(0, |(_, resident)| resident);
    task.group.state.lock().peak.max(now)
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
