//! How tracing ends: by detaching, with the tracee or with the tracer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Kind, Mode, OPTION_EXITKILL, Resumed};
use crate::kernel::signal::Signal;
use crate::kernel::task::{ExitStatus, Task, ThreadGroup};
use crate::kernel::wait::Events;
use crate::platform::Thread;

/// Let a tracee go for good. A stopped one goes on, with `signal` if not 0.
pub(super) fn detach(task: &Arc<Task>, signal: Signal) {
    let (tracer, held) = {
        let mut guard = task.trace.lock();
        let Some(trace) = guard.as_mut() else { return };
        trace.leaving = true;
        trace.options = 0;
        trace.mode = Mode::Continue;
        trace.exit_due = false;
        trace.enter_due = false;
        trace.event_due = None;
        trace.interrupt = false;
        let stop = trace.stop.take();
        let kind = stop.as_ref().map_or(Kind::Event, |s| s.kind);
        let (held, regs) = stop.map_or((None, None), |stop| {
            let regs = stop.changed.then_some((stop.regs, stop.xstate));
            (stop.held, regs)
        });
        trace.resumed = Some(Resumed { kind, regs, signal });
        (trace.tracer.clone(), held)
    };
    tracer.state.lock().tracees.retain(|t| !Arc::ptr_eq(t, task));
    run_again(task, held);
}

/// Have a tracee look at what it was resumed with.
pub(super) fn run_again(task: &Arc<Task>, held: Option<Box<dyn Thread>>) {
    let Some(mut thread) = held else {
        task.kick();
        return;
    };
    // It is in no call and takes its registers at once: nothing calls it before its first instruction.
    let mut call = None;
    let resumed = task.trace.lock().as_mut().and_then(|t| t.resumed.take());
    if let Some(resumed) = resumed {
        task.take_over(&mut *thread, &mut call, resumed);
    }
    task.start(thread);
}

/// A thread ends: its tracer is told unless it is the parent, which is told of the process anyway.
pub(in crate::kernel::task) fn on_exit(task: &Arc<Task>, status: ExitStatus) {
    let trace = task.trace.lock().take();
    task.traced.store(false, Ordering::SeqCst);
    let Some(trace) = trace else { return };
    let parent = {
        let pids = task.kernel.pids.lock();
        pids.processes.get(&task.pid()).map_or(0, |p| p.parent)
    };
    {
        let mut state = trace.tracer.state.lock();
        state.tracees.retain(|t| !Arc::ptr_eq(t, task));
        if !task.is_leader() || parent != trace.tracer.pid {
            state.ended_tracees.push((task.tid(), status));
        }
    }
    trace.tracer.changed.notify(Events::READ);
}

/// A process ends: what it traced goes on alone, or ends with it.
pub(in crate::kernel::task) fn on_tracer_exit(group: &ThreadGroup) {
    let tracees = std::mem::take(&mut group.state.lock().tracees);
    for task in tracees {
        let kill = task
            .trace
            .lock()
            .as_ref()
            .is_some_and(|t| t.options & OPTION_EXITKILL != 0);
        detach(&task, 0);
        if kill {
            task.group.begin_exit(ExitStatus::Signaled {
                signal: libc::SIGKILL,
                core: false,
            });
        }
    }
}
