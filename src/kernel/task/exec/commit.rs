//! The point of no return: ending the other threads and moving the task to the new program.

use std::sync::Arc;

use super::Ready;
use crate::kernel::signal::{self, AltStack};
use crate::kernel::stop::{Errno, Stop, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::usage::note_peak;
use crate::kernel::task::{Task, exit};
use crate::kernel::wait::{Events, OnSignal, WaitFor};

/// Have all other threads of the process end. What to wait for while some are left; EAGAIN when the process is ending or
/// another thread got here first.
pub(super) fn end_other_threads(task: &Arc<Task>) -> Result<Option<WaitFor>, Errno> {
    let group = &task.group;
    let generation = group.changed.generation();
    let others: Vec<Arc<Task>> = {
        let mut state = group.state.lock();
        if state.exiting.is_some() || state.exec_by.is_some_and(|tid| tid != task.tid()) {
            return Err(Errno::EAGAIN);
        }
        if state.threads.len() == 1 {
            return Ok(None);
        }
        if state.exec_by.replace(task.tid()).is_some() {
            // They have been told already.
            Vec::new()
        } else {
            state
                .threads
                .iter()
                .filter(|t| !Arc::ptr_eq(t, task))
                .cloned()
                .collect()
        }
    };
    for other in others {
        other.kick_to_end();
        other.release_held();
    }
    Ok(Some(
        WaitFor::default()
            .and_since(&group.changed, Events::empty(), generation)
            .on_signal(OnSignal::Uninterruptible),
    ))
}

/// Replace the caller's program. The task goes on running on the new host thread; the old one is finished.
pub(super) fn commit(cx: &mut SyscallCx<'_>, ready: Ready) -> SysResult<()> {
    let task = cx.task;
    let Ready { mut loaded, comm } = ready;
    let old_tid = task.tid();
    become_leader(task);
    {
        let mut state = task.group.state.lock();
        if state.exiting.is_some() {
            return fail!(EAGAIN);
        }
        state.exec_by = None;
        state.execed = true;
        state.leader_status = None;
    }
    task.group.reset_exit_signal();
    task.group.timers.on_exec();
    exit::leave_memory(task);
    own_descriptors(task);
    task.set_sighand(task.sighand().after_exec());
    task.signals.lock().altstack = AltStack::default();
    let cpu = task.cpu_time();
    let (affinity, tsc_faults) = {
        let mut state = task.state.lock();
        state.comm = comm;
        state.earlier_cpu = cpu;
        if loaded.creds.secure {
            state.pdeath_signal = 0;
            state.personality &= !CLEARED_WHEN_SECURE;
        }
        (state.sched.affinity.clone(), state.tsc_faults)
    };
    // Best effort: both were accepted before, for the thread that is left now.
    if let Some(mask) = affinity {
        let _ = loaded.thread.set_affinity(&mask);
    }
    if tsc_faults {
        let _ = loaded.thread.trap_tsc(true);
    }
    task.set_cpuid_faults(false);
    note_peak(task);
    task.set_creds(loaded.creds.creds);
    drop(task.set_mm(loaded.mm));
    task.mm().set_free(task);
    task.waker.attach(loaded.thread.handle());
    if signal::is_pending(task) {
        // The wait for the other threads put it off.
        task.kick_self();
    }
    if let Some(tracer) = &task.kernel.tracer {
        tracer.exit(task.tid(), cx.nr, &cx.args, 0, &cx.memory);
    }
    let thread = if task.is_traced() {
        task.trace_exec(loaded.thread, old_tid)
    } else {
        Some(loaded.thread)
    };
    if let Some(thread) = thread {
        task.start(thread);
    }
    Err(Stop::Leave)
}

/// Bits of personality(2) that a program with more rights than its caller does not inherit.
const CLEARED_WHEN_SECURE: u32 = 0x40_0000 | 0x4_0000 | 0x20_0000 | 0x10_0000;

/// A thread that is not the first takes over the first one's id.
fn become_leader(task: &Arc<Task>) {
    let (old, pid) = (task.tid(), task.pid());
    if old == pid {
        return;
    }
    let mut pids = task.kernel.pids.lock();
    let own = pids.tasks.remove(&old);
    task.tid
        .store(pid.cast_unsigned(), std::sync::atomic::Ordering::Relaxed);
    task.waker.tell(|facts| facts.tid = pid);
    let leader = pids.tasks.insert(pid, task.clone());
    let children: Vec<_> = pids
        .processes
        .get(&pid)
        .map(|p| p.children.iter().copied().collect())
        .unwrap_or_default();
    for child in children {
        if let Some(child) = pids.processes.get_mut(&child)
            && child.parent_thread == old
        {
            child.parent_thread = pid;
        }
    }
    drop(pids);
    drop((own, leader));
}

/// A descriptor table of its own, without those to be closed.
fn own_descriptors(task: &Arc<Task>) {
    if task.files().is_shared() {
        task.unshare_files();
    }
    for file in task.files().remove_where(|_, close_on_exec| close_on_exec) {
        let _ = file.ops.flush(&file);
    }
}
