//! How threads and processes end: exit(2), exit_group(2).

use std::sync::Arc;

use super::pids::{Pids, Zombie};
use super::usage::note_peak;
use super::{ExitStatus, Pid, Task, ThreadGroup, ptrace};
use crate::kernel::Kernel;
use crate::kernel::dev::tty::job;
use crate::kernel::fs::{FdTable, FsContext};
use crate::kernel::ipc::futex;
use crate::kernel::mm::Mm;
use crate::kernel::signal::{
    self, SA_NOCLDWAIT, SIG_IGN, SigFields, SigInfo, SigSet, send_to_group, send_to_pgrp,
};
use crate::kernel::stop::{Stop, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::UserAddr;
use crate::kernel::wait::Events;

/// Nanoseconds in a clock tick (USER_HZ is 100).
const TICK: u64 = 10_000_000;

/// exit(2): ends the calling thread alone.
pub(super) fn exit(cx: &mut SyscallCx<'_>, status: i32) -> SysResult<()> {
    cx.task.state.lock().exit_status = Some(ExitStatus::Exited(low_byte(status)));
    if cx.task.trace_ends_alone() {
        return Ok(());
    }
    leave(cx.task);
    Err(Stop::Leave)
}

/// exit_group(2).
pub(super) fn exit_group(cx: &mut SyscallCx<'_>, status: i32) -> SysResult<()> {
    cx.task.group.begin_exit(ExitStatus::Exited(low_byte(status)));
    if cx.task.trace_ends_alone() {
        return Ok(());
    }
    leave(cx.task);
    Err(Stop::Leave)
}

fn low_byte(status: i32) -> u8 {
    status.to_le_bytes()[0]
}

/// End one thread; its process ends with its last one. The host thread is destroyed by the caller's answer.
pub(super) fn leave(task: &Arc<Task>) {
    leave_memory(task);
    if tell_children_of_thread(task) {
        note_peak(task);
    }
    drop_shared(task);
    let status = {
        let own = task.state.lock().exit_status;
        let group = task.group.state.lock().exiting;
        group.or(own).unwrap_or(ExitStatus::Exited(0))
    };
    if task.is_traced() {
        ptrace::on_exit(task, status);
    }
    let last = leave_group(task);
    task.waker.detach();
    if last {
        end_group(task);
    } else {
        task.group.changed.notify(Events::READ);
    }
}

/// What a task does to its address space on leaving it, by its end or by execve(2): wake those who join the thread,
/// give up robust futexes, let the parent of vfork(2) go.
pub(super) fn leave_memory(task: &Arc<Task>) {
    futex::exit_robust_list(task);
    let clear = std::mem::take(&mut task.state.lock().clear_child_tid);
    let mm = task.mm();
    if clear != 0 && mm.is_shared() {
        let _ = task.memory().write(UserAddr(clear).cast(), &0u32);
        futex::wake(&task.kernel, &mm, UserAddr(clear), 1);
    }
    release_vfork(task);
}

/// Let the parent of vfork(2) go on.
pub(super) fn release_vfork(task: &Task) {
    let release = task.vfork.lock().take();
    if let Some(release) = release {
        release.release();
    }
}

/// PR_SET_PDEATHSIG is about the thread that made the child, not its process. The child's maker is now another thread.
/// Whether there is none, since this is the last one to end.
fn tell_children_of_thread(task: &Arc<Task>) -> bool {
    let tid = task.tid();
    let last;
    let orphans: Vec<Arc<Task>> = {
        let mut pids = task.kernel.pids.lock();
        // From now on no other thread that ends leaves its children to this one.
        task.state.lock().exited = true;
        let threads = task.group.threads();
        let heir = threads.iter().find(|t| !t.state.lock().exited);
        last = heir.is_none();
        let heir = heir.map_or(task.pid(), |t| t.tid());
        let Some(process) = pids.processes.get(&task.pid()) else {
            return last;
        };
        let children: Vec<Pid> = process.children.iter().copied().collect();
        let mut orphans = Vec::new();
        for pid in children {
            if let Some(child) = pids.processes.get_mut(&pid)
                && child.parent_thread == tid
            {
                child.parent_thread = heir;
                orphans.extend(child.group.threads());
            }
        }
        orphans
    };
    for orphan in orphans {
        let signal = orphan.state.lock().pdeath_signal;
        if signal != 0 {
            let info = SigInfo::user(signal, task.pid(), task.creds().uid);
            let _ = send_to_group(&task.kernel, &orphan.group, info);
        }
    }
    last
}

/// Give up descriptors, working directory and memory, closing what nobody else uses.
fn drop_shared(task: &Arc<Task>) {
    task.set_files(Arc::new(FdTable::default()));
    let root = task.places().root.clone();
    let nowhere = FsContext::new(root.clone(), root, 0);
    drop(task.set_fs(Arc::new(Lock::new(Rank::FsContext, nowhere))));
    let none = Mm::none();
    drop(task.set_mm(none));
}

/// Take a thread out of its process; true when it was the last one.
fn leave_group(task: &Arc<Task>) -> bool {
    let cpu = task.cpu_time();
    let (own_status, comm) = {
        let state = task.state.lock();
        (state.exit_status, state.comm.clone())
    };
    let last = {
        let mut state = task.group.state.lock();
        state.threads.retain(|t| !Arc::ptr_eq(t, task));
        state.ended_cpu.0 += cpu.0;
        state.ended_cpu.1 += cpu.1;
        if task.is_leader() {
            state.leader_status = own_status;
        }
        state.last_comm = comm;
        state.threads.is_empty()
    };
    signal::hand_on(task, SigSet::MAX);
    if !task.is_leader() {
        let mut pids = task.kernel.pids.lock();
        let entry = pids.tasks.remove(&task.tid());
        drop(pids);
        drop(entry);
    }
    last
}

/// What is to be done once the process tree is unlocked.
enum Note {
    /// Send a signal to a process group.
    Group(Pid, SigInfo),
    /// Wake who waits for children of a process.
    Changed(Arc<ThreadGroup>),
}

/// The last thread of a process has ended: leave a zombie, find its children a new parent, tell its own.
fn end_group(task: &Arc<Task>) {
    let (kernel, group) = (&task.kernel, &task.group);
    group.timers.on_exit();
    ptrace::on_tracer_exit(group);
    kernel.sysv.on_exit(group.pid);
    let status = {
        let state = group.state.lock();
        state
            .exiting
            .or(state.leader_status)
            .unwrap_or(ExitStatus::Exited(0))
    };
    if group.pid == 1 {
        group.set_ended();
        kernel.shutdown(status);
        return;
    }
    job::leader_ended(task);
    let mut notes = Vec::new();
    let mut gone = Vec::new();
    {
        let mut pids = kernel.pids.lock();
        let heir = heir(&pids, group.pid);
        let tied_to = tie(&pids, group.pid);
        let orphaned = adopt(&mut pids, group.pid, heir, &mut notes, &mut gone);
        leave_zombie(&mut pids, task, status, &mut notes, &mut gone);
        group.set_ended();
        if let Some(pgid) = tied_to {
            hang_up_if_orphaned(&pids, pgid, Some(group.pid), &mut notes);
        }
        for pgid in orphaned {
            hang_up_if_orphaned(&pids, pgid, None, &mut notes);
        }
    }
    for note in notes {
        match note {
            Note::Group(pgid, info) => {
                send_to_pgrp(kernel, pgid, info);
            }
            Note::Changed(group) => group.changed.notify(Events::READ),
        }
    }
    drop(gone);
}

/// Who becomes the parent of a dying process's children: the nearest living ancestor that asked for it, else init.
fn heir(pids: &Pids, pid: Pid) -> Pid {
    let mut at = pids.processes.get(&pid).map_or(1, |p| p.parent);
    while at > 1 {
        let Some(process) = pids.processes.get(&at) else {
            return 1;
        };
        let state = process.group.state.lock();
        if state.subreaper && state.exiting.is_none() && !state.threads.is_empty() {
            return at;
        }
        at = process.parent;
    }
    1
}

type Gone = (super::Process, Option<Arc<Task>>);

/// The process group of a process that keeps it from being orphaned: its parent is in another group of the session.
fn tie(pids: &Pids, pid: Pid) -> Option<Pid> {
    let process = pids.processes.get(&pid)?;
    let parent = pids.processes.get(&process.parent)?;
    (parent.sid == process.sid && parent.pgid != process.pgid).then_some(process.pgid)
}

/// Give a dying process's children to `heir`. Returns the process groups that it kept from being orphaned.
fn adopt(pids: &mut Pids, pid: Pid, heir: Pid, notes: &mut Vec<Note>, gone: &mut Vec<Gone>) -> Vec<Pid> {
    let Some(children) = pids
        .processes
        .get_mut(&pid)
        .map(|p| std::mem::take(&mut p.children))
    else {
        return Vec::new();
    };
    let mut orphaned = Vec::new();
    for child_pid in children {
        if let Some(pgid) = tie(pids, child_pid).filter(|pgid| !orphaned.contains(pgid)) {
            orphaned.push(pgid);
        }
        let Some(child) = pids.processes.get_mut(&child_pid) else {
            continue;
        };
        child.parent = heir;
        child.parent_thread = heir;
        child.group.reset_exit_signal();
        for thread in child.group.threads() {
            thread.tell_parent(heir);
        }
        let zombie = child.zombie.map(|z| (child.group.clone(), z));
        if let Some(parent) = pids.processes.get_mut(&heir) {
            parent.children.insert(child_pid);
        }
        if let Some((group, zombie)) = zombie {
            tell_parent(pids, &group, zombie, notes, gone);
        }
    }
    orphaned
}

fn leave_zombie(
    pids: &mut Pids,
    task: &Arc<Task>,
    status: ExitStatus,
    notes: &mut Vec<Note>,
    gone: &mut Vec<Gone>,
) {
    let (cpu, peak) = {
        let state = task.group.state.lock();
        let cpu = (
            state.ended_cpu.0 + state.children_cpu.0,
            state.ended_cpu.1 + state.children_cpu.1,
        );
        (cpu, state.peak.max(state.children_peak))
    };
    let zombie = Zombie {
        status,
        uid: task.creds().uid,
        cpu,
        peak,
    };
    if let Some(process) = pids.processes.get_mut(&task.group.pid) {
        process.zombie = Some(zombie);
    }
    tell_parent(pids, &task.group, zombie, notes, gone);
}

/// Tell the parent that a child has ended, or forget the child when the parent does not care.
fn tell_parent(
    pids: &mut Pids,
    group: &Arc<ThreadGroup>,
    zombie: Zombie,
    notes: &mut Vec<Note>,
    gone: &mut Vec<Gone>,
) {
    let Some(parent) = pids
        .processes
        .get(&group.pid)
        .and_then(|p| pids.processes.get(&p.parent))
        .map(|p| p.group.clone())
    else {
        gone.extend(pids.reap(group.pid));
        return;
    };
    let signal = group.exit_signal();
    let action = parent
        .threads()
        .first()
        .map(|t| t.sighand().action(libc::SIGCHLD))
        .unwrap_or_default();
    let ignored = signal == libc::SIGCHLD && action.handler == SIG_IGN;
    let unwanted = signal == libc::SIGCHLD && (ignored || action.flags & SA_NOCLDWAIT != 0);
    if (1..=64).contains(&signal) && !ignored {
        // At once: who has waited for the child finds the signal sent.
        let _ = signal::send_in_tree(pids, &parent, child_info(signal, group.pid, zombie));
    }
    if unwanted {
        gone.extend(pids.reap(group.pid));
    }
    notes.push(Note::Changed(parent));
}

/// The siginfo of SIGCHLD for a child that has ended.
fn child_info(signal: i32, pid: Pid, zombie: Zombie) -> SigInfo {
    let (code, status) = ended_code(zombie.status);
    SigInfo {
        signal,
        errno: 0,
        code,
        fields: SigFields::Child {
            pid,
            uid: zombie.uid,
            status,
            utime: (zombie.cpu.0 / TICK).cast_signed(),
            stime: (zombie.cpu.1 / TICK).cast_signed(),
        },
    }
}

/// `si_code` and `si_status` for an end.
pub(super) fn ended_code(status: ExitStatus) -> (i32, i32) {
    match status {
        ExitStatus::Exited(code) => (libc::CLD_EXITED, i32::from(code)),
        ExitStatus::Signaled { signal, core: false } => (libc::CLD_KILLED, signal),
        ExitStatus::Signaled { signal, core: true } => (libc::CLD_DUMPED, signal),
    }
}

/// A process group that has just lost a tie is orphaned unless it has another: then, if it has stopped members, it gets
/// SIGHUP and SIGCONT. `without` is a process that no longer counts.
fn hang_up_if_orphaned(pids: &Pids, pgid: Pid, without: Option<Pid>, notes: &mut Vec<Note>) {
    let mut stopped = false;
    for member in pids.group_members(pgid) {
        if Some(member.group.pid) == without || member.zombie.is_some() {
            continue;
        }
        if tie(pids, member.group.pid).is_some() {
            return;
        }
        stopped |= member.group.state.lock().stopped.is_some();
    }
    if stopped {
        notes.push(Note::Group(pgid, SigInfo::kernel(libc::SIGHUP)));
        notes.push(Note::Group(pgid, SigInfo::kernel(libc::SIGCONT)));
    }
}

impl Kernel {
    /// The first process has ended, and the machine with it.
    pub(in crate::kernel) fn shutdown(&self, status: ExitStatus) {
        self.ended.lock().get_or_insert(status);
        self.stop();
    }

    /// End all that runs, from any host thread.
    pub fn stop(&self) {
        if let Some(turns) = &self.turns {
            turns.stop();
        }
        self.platform.stop();
    }
}
