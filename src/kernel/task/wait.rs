//! wait4(2), waitid(2).

use std::sync::Arc;

use super::exit::ended_code;
use super::pids::{Pids, Process, Zombie};
use super::ptrace::{self, Told};
use super::usage::{peak, rusage};
use super::{Pid, StateChange, Task, pidfd};
use crate::kernel::abi::task::{Rusage, WaitInfo};
use crate::kernel::fs::{Fd, OpenFlags};
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::UserRef;
use crate::kernel::wait::{Events, WaitFor};

/// Options that only waitid(2) has.
const WNOWAIT: u32 = libc::WNOWAIT.cast_unsigned();
const WEXITED: u32 = libc::WEXITED.cast_unsigned();
const WSTOPPED: u32 = libc::WSTOPPED.cast_unsigned();
const WCONTINUED: u32 = libc::WCONTINUED.cast_unsigned();
const WNOHANG: u32 = libc::WNOHANG.cast_unsigned();
const WNOTHREAD: u32 = libc::__WNOTHREAD.cast_unsigned();
const WALL: u32 = libc::__WALL.cast_unsigned();
const WCLONE: u32 = libc::__WCLONE.cast_unsigned();

/// `waitid` by a pidfd (P_PIDFD).
const P_PIDFD: u32 = 3;

/// Which children.
#[derive(Clone, Copy)]
enum Who {
    Any,
    Pid(Pid),
    Group(Pid),
}

/// What a wait reports.
struct Report {
    pid: Pid,
    uid: u32,
    change: Change,
    cpu: (u64, u64),
    peak: u64,
}

#[derive(Clone, Copy)]
enum Change {
    Ended(super::ExitStatus),
    Stopped(i32),
    Continued,
    /// Stopped for this process as its tracer: the signal, and the event above it.
    Trapped(u32),
}

impl Change {
    /// The status word of wait4(2).
    fn status(self) -> i32 {
        match self {
            Change::Ended(status) => status.wait_status(),
            Change::Stopped(signal) => signal << 8 | 0x7f,
            Change::Continued => 0xffff,
            Change::Trapped(status) => (status << 8 | 0x7f).cast_signed(),
        }
    }

    /// `si_code` and `si_status`.
    fn info(self) -> (i32, i32) {
        match self {
            Change::Ended(status) => ended_code(status),
            Change::Stopped(signal) => (libc::CLD_STOPPED, signal),
            Change::Continued => (libc::CLD_CONTINUED, libc::SIGCONT),
            Change::Trapped(status) => (libc::CLD_TRAPPED, status.cast_signed()),
        }
    }
}

/// wait4(2).
pub(super) fn wait4(
    cx: &mut SyscallCx<'_>,
    pid: Pid,
    status: UserRef<i32>,
    options: u32,
    usage: UserRef<Rusage>,
) -> SysResult<Pid> {
    if options & !(WNOHANG | WSTOPPED | WCONTINUED | WNOTHREAD | WCLONE | WALL) != 0 {
        return fail!(EINVAL);
    }
    let who = match pid {
        Pid::MIN => return fail!(ESRCH),
        -1 => Who::Any,
        0 => Who::Group(own_group(cx.task)),
        pid if pid < 0 => Who::Group(-pid),
        pid => Who::Pid(pid),
    };
    let Some(report) = wait(cx, who, options | WEXITED)? else {
        return Ok(0);
    };
    if let Some(usage) = usage.non_null() {
        cx.memory.write(usage, &rusage(report.cpu, report.peak))?;
    }
    if let Some(status) = status.non_null() {
        cx.memory.write(status, &report.change.status())?;
    }
    Ok(report.pid)
}

/// waitid(2).
pub(super) fn waitid(
    cx: &mut SyscallCx<'_>,
    kind: u32,
    id: Pid,
    info: UserRef<WaitInfo>,
    mut options: u32,
    usage: UserRef<Rusage>,
) -> SysResult<()> {
    let what = WEXITED | WSTOPPED | WCONTINUED;
    if options & !(what | WNOHANG | WNOWAIT | WNOTHREAD | WCLONE | WALL) != 0 || options & what == 0 {
        return fail!(EINVAL);
    }
    let mut again = false;
    let who = match (kind, id) {
        (libc::P_ALL, _) => Who::Any,
        (libc::P_PID, 1..) => Who::Pid(id),
        (libc::P_PGID, 0) => Who::Group(own_group(cx.task)),
        (libc::P_PGID, 1..) => Who::Group(id),
        (P_PIDFD, 0..) => {
            let group = pidfd::group_of(cx, Fd(id))?;
            let nonblocking = cx.task.files().get(Fd(id))?.flags().contains(OpenFlags::NONBLOCK);
            if nonblocking && options & WNOHANG == 0 {
                options |= WNOHANG;
                again = true;
            }
            Who::Pid(group.pid)
        }
        _ => return fail!(EINVAL),
    };
    let report = wait(cx, who, options)?;
    if report.is_none() && again {
        return fail!(EAGAIN);
    }
    if let (Some(report), Some(usage)) = (&report, usage.non_null()) {
        cx.memory.write(usage, &rusage(report.cpu, report.peak))?;
    }
    if let Some(info) = info.non_null() {
        let value = report.map_or_else(WaitInfo::default, |report| {
            let (code, status) = report.change.info();
            WaitInfo {
                signo: libc::SIGCHLD,
                code,
                pid: report.pid,
                uid: report.uid,
                status,
                ..WaitInfo::default()
            }
        });
        cx.memory.write(info, &value)?;
    }
    Ok(())
}

fn own_group(task: &Task) -> Pid {
    let pids = task.kernel.pids.lock();
    pids.processes.get(&task.pid()).map_or(0, |p| p.pgid)
}

/// Find a child with something to report; none with WNOHANG. ECHILD when no child could ever report.
fn wait(cx: &mut SyscallCx<'_>, who: Who, options: u32) -> SysResult<Option<Report>> {
    let group = &cx.task.group;
    let generation = group.changed.generation();
    let mut pids = cx.kernel.pids.lock();
    let Some(own) = pids.processes.get(&group.pid) else {
        return fail!(ECHILD);
    };
    let candidates: Vec<Pid> = own
        .children
        .iter()
        .filter_map(|pid| pids.processes.get(pid))
        .filter(|child| is_meant(child, cx.task, who, options))
        .map(|child| child.group.pid)
        .collect();
    let (tracees, told) = look_at_tracees(&pids, cx.task, who, options);
    if told.is_some() {
        return Ok(told);
    }
    if candidates.is_empty() && !tracees {
        return fail!(ECHILD);
    }
    for pid in candidates {
        let (report, gone) = look(&mut pids, cx.task, pid, options);
        if report.is_some() {
            drop(pids);
            drop(gone);
            return Ok(report);
        }
    }
    drop(pids);
    if options & WNOHANG != 0 {
        return Ok(None);
    }
    Err(WaitFor::default()
        .and_since(&group.changed, Events::empty(), generation)
        .into())
}

/// What the caller's process traces: whether any of it is meant, and what there is to report.
fn look_at_tracees(pids: &Pids, task: &Task, who: Who, options: u32) -> (bool, Option<Report>) {
    let meant = |tid: Pid, pid: Pid| match who {
        Who::Any => true,
        Who::Pid(id) => id == tid,
        Who::Group(pgid) => pids.processes.get(&pid).is_some_and(|p| p.pgid == pgid),
    };
    let keep = options & WNOWAIT != 0;
    let (any, told) = ptrace::look(&task.group, options & WEXITED != 0, keep, meant);
    let report = told.map(|told| match told {
        Told::Stopped(task, status) => Report {
            pid: task.tid(),
            uid: task.creds().uid,
            change: Change::Trapped(status),
            cpu: task.cpu_time(),
            peak: 0,
        },
        Told::Ended(pid, status) => Report {
            pid,
            uid: 0,
            change: Change::Ended(status),
            cpu: (0, 0),
            peak: 0,
        },
    });
    (any, report)
}

/// Whether a child is one of those that a wait is for.
fn is_meant(child: &Process, task: &Task, who: Who, options: u32) -> bool {
    let named = match who {
        Who::Any => true,
        Who::Pid(pid) => child.group.pid == pid,
        Who::Group(pgid) => child.pgid == pgid,
    };
    let own = options & WNOTHREAD == 0 || child.parent_thread == task.tid();
    let clone_child = child.group.exit_signal() != libc::SIGCHLD;
    named && own && (options & WALL != 0 || clone_child == (options & WCLONE != 0))
}

type Gone = Option<(Process, Option<Arc<Task>>)>;

/// What a child has to report. What is left of a reaped one is returned to be dropped without the lock.
fn look(pids: &mut Pids, task: &Task, pid: Pid, options: u32) -> (Option<Report>, Gone) {
    let Some(child) = pids.processes.get(&pid) else {
        return (None, None);
    };
    if let Some(zombie) = child.zombie {
        if options & WEXITED == 0 {
            return (None, None);
        }
        let report = ended(pid, zombie);
        if options & WNOWAIT != 0 {
            return (Some(report), None);
        }
        let mut state = task.group.state.lock();
        state.children_cpu.0 += zombie.cpu.0;
        state.children_cpu.1 += zombie.cpu.1;
        state.children_peak = state.children_peak.max(zombie.peak);
        drop(state);
        return (Some(report), pids.reap(pid));
    }
    let mut state = child.group.state.lock();
    if state.threads.first().is_some_and(|t| t.is_traced()) {
        // Its tracer hears of stops; to everybody else it seems to run.
        return (None, None);
    }
    let change = match state.unreported {
        Some(StateChange::Stopped(signal)) if options & WSTOPPED != 0 => Change::Stopped(signal),
        Some(StateChange::Continued) if options & WCONTINUED != 0 => Change::Continued,
        _ => return (None, None),
    };
    if options & WNOWAIT == 0 {
        state.unreported = None;
    }
    let thread = state.threads.first().cloned();
    drop(state);
    let report = Report {
        pid,
        uid: thread.as_ref().map_or(0, |t| t.creds().uid),
        change,
        cpu: thread.as_ref().map_or((0, 0), |t| t.cpu_time()),
        peak: thread.map_or(0, |t| peak(&t)),
    };
    (Some(report), None)
}

fn ended(pid: Pid, zombie: Zombie) -> Report {
    Report {
        pid,
        uid: zombie.uid,
        change: Change::Ended(zombie.status),
        cpu: zombie.cpu,
        peak: zombie.peak,
    }
}
