//! What wait(2) tells a tracer of its tracees.

use std::sync::Arc;

use crate::kernel::task::{ExitStatus, Pid, Task, ThreadGroup};

/// What a tracee has to report.
pub(in crate::kernel::task) enum Told {
    /// It stopped: the signal, and the event above it.
    Stopped(Arc<Task>, u32),
    /// One of its threads ended.
    Ended(Pid, ExitStatus),
}

/// Look through what `tracer` traces. Whether there is anything that is meant, and what it has to report, which is told
/// once unless `keep`.
pub(in crate::kernel::task) fn look(
    tracer: &ThreadGroup,
    ended_too: bool,
    keep: bool,
    meant: impl Fn(Pid, Pid) -> bool,
) -> (bool, Option<Told>) {
    let mut state = tracer.state.lock();
    let mut any = false;
    for index in 0..state.ended_tracees.len() {
        let Some(&(tid, status)) = state.ended_tracees.get(index) else {
            break;
        };
        if !ended_too || !meant(tid, tid) {
            continue;
        }
        if !keep {
            state.ended_tracees.remove(index);
        }
        return (true, Some(Told::Ended(tid, status)));
    }
    for task in state.tracees.iter().filter(|t| meant(t.tid(), t.pid())) {
        any = true;
        let mut trace = task.trace.lock();
        let stop = trace.as_mut().and_then(|t| t.stop.as_mut());
        if let Some(stop) = stop.filter(|s| !s.reported && !s.listening) {
            stop.reported = !keep;
            return (true, Some(Told::Stopped(task.clone(), stop.status)));
        }
    }
    (any, None)
}
