//! What a task does about its pending signals before it returns to guest code.

use std::sync::Arc;

use super::send::{Default, default_action, tell_parent};
use super::{SA_NODEFER, SA_RESETHAND, SA_RESTART, SIG_DFL, SIG_IGN, SigAction, SigInfo, bit, frame};
use crate::kernel::stop::Errno;
use crate::kernel::task::{Call, ExitStatus, StateChange, Task, error_value};
use crate::kernel::wait::OnSignal;
use crate::platform::Thread;

/// How a task goes on after its signals were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Return to guest code, or to the call it is in.
    Go,
    /// Its process was stopped.
    Stopped,
    /// Its process ends.
    Exit(ExitStatus),
}

/// Act on all pending signals of `task`, which is in `call` or in none. A handler that is to run has its frame on the
/// guest's stack when this returns, and the call has its result or will be made again.
pub(in crate::kernel) fn deliver(
    task: &Arc<Task>,
    thread: &mut dyn Thread,
    call: &mut Option<Call>,
) -> Delivery {
    let uninterruptible = call
        .as_ref()
        .is_some_and(|c| c.on_signal == OnSignal::Uninterruptible);
    if uninterruptible {
        return Delivery::Go;
    }
    loop {
        // Read before a signal is taken: see `stop`.
        let continues = task.group.state.lock().continues;
        let Some((info, shown)) = next_signal(task) else {
            return Delivery::Go;
        };
        if !shown && task.shows_signals() {
            task.trace_signal(thread, info);
            return Delivery::Stopped;
        }
        if let Some(tracer) = &task.kernel.tracer {
            tracer.signal(task.tid(), &info.to_bytes());
        }
        let action = task.sighand().action(info.signal);
        let fatal = match action.handler {
            SIG_IGN => None,
            SIG_DFL => match default_action(info.signal) {
                Default::Ignore => None,
                Default::Stop => {
                    if stop(task, &info, continues) {
                        interrupt_always(task, thread, call);
                        if task.is_traced() {
                            task.trace_group_stop(thread, info.signal);
                        }
                        return Delivery::Stopped;
                    }
                    None
                }
                Default::Terminate { core } => Some(core),
            },
            _ => match run_handler(task, thread, call, &info, &action) {
                Ok(true) => continue,
                Ok(false) => return Delivery::Stopped,
                Err(_) => {
                    // The frame could not be written: SIGSEGV, and nothing but death if that is what failed.
                    if info.signal == libc::SIGSEGV {
                        Some(true)
                    } else {
                        super::force(task, SigInfo::kernel(libc::SIGSEGV));
                        continue;
                    }
                }
            },
        };
        if let Some(core) = fatal {
            let core = core && task.group.soft_limit(libc::RLIMIT_CORE) > 0;
            task.group.state.lock().last_signal = Some(info);
            return Delivery::Exit(ExitStatus::Signaled {
                signal: info.signal,
                core,
            });
        }
        interrupt_always(task, thread, call);
    }
}

/// Whether a signal would be acted on now: what makes a blocked call give up.
pub fn is_pending(task: &Task) -> bool {
    let signals = task.signals.lock();
    let (mask, own) = (signals.mask, signals.pending.set());
    drop(signals);
    (own | task.group.pending.lock().set()) & !mask != 0
}

/// The next signal to act on, and whether a tracer has seen it already.
fn next_signal(task: &Task) -> Option<(SigInfo, bool)> {
    if task.is_traced()
        && let Some(info) = task.approved_signal()
    {
        return Some((info, true));
    }
    let mask = task.signals.lock().mask;
    super::take_from(task, !mask).map(|info| (info, false))
}

/// Job control stop. False when the process group is orphaned and the signal one of the terminal's, and when SIGCONT was
/// sent after the process had been told to continue `continues` times, which was before this signal was taken.
fn stop(task: &Arc<Task>, info: &SigInfo, continues: u64) -> bool {
    let pids = task.kernel.pids.lock();
    if info.signal != libc::SIGSTOP && pids.is_orphaned(task.pid()) {
        return false;
    }
    let change = StateChange::Stopped(info.signal);
    let threads = {
        let mut state = task.group.state.lock();
        if state.continues != continues || state.exiting.is_some() {
            return false;
        }
        if state.stopped.replace(info.signal).is_some() {
            // Another thread was faster, and has told everybody.
            return true;
        }
        state.unreported = Some(change);
        state.threads.clone()
    };
    for thread in threads.iter().filter(|t| !Arc::ptr_eq(t, task)) {
        thread.kick();
    }
    tell_parent(&pids, &task.group, change);
    true
}

/// Some calls give EINTR for any signal, even one that runs no handler.
fn interrupt_always(task: &Task, thread: &mut dyn Thread, call: &mut Option<Call>) {
    if let Some(mut ended) = call.take_if(|c| c.on_signal == OnSignal::AlwaysEintr) {
        let value = interrupted_value(task, &mut ended);
        task.end_call(thread, &mut ended, value, &task.memory());
    }
}

/// What a call that a signal ended returns: how far it came, or EINTR.
fn interrupted_value(task: &Task, call: &mut Call) -> u64 {
    if call.state.progress > 0 {
        return call.state.progress as u64;
    }
    if let Some(tell) = call.state.on_eintr.take() {
        let _ = tell(&task.memory());
    }
    error_value(Errno::EINTR)
}

/// What the exit of a call that will be made again shows to a tracer (-ERESTARTSYS).
const WILL_RESTART: u64 = 512u64.wrapping_neg();

/// Interrupt the call if there is one and set the thread up to run the handler. False when a tracer has to hear of the
/// call's end first.
fn run_handler(
    task: &Arc<Task>,
    thread: &mut dyn Thread,
    call: &mut Option<Call>,
    info: &SigInfo,
    action: &SigAction,
) -> Result<bool, Errno> {
    let mut saved_mask = None;
    if let Some(mut ended) = call.take() {
        let settled = ended.state.settle();
        // The frame carries the mask from before a sigsuspend(2); the temporary one stays until the handler is set up.
        saved_mask = ended.state.saved_mask.take();
        let restart = match ended.on_signal {
            OnSignal::Restart => action.flags & SA_RESTART != 0,
            OnSignal::AlwaysRestart => true,
            OnSignal::Eintr | OnSignal::AlwaysEintr | OnSignal::Uninterruptible => false,
        };
        let restart = restart && settled.is_none() && ended.state.progress == 0;
        if task.shows_calls() {
            let value = match settled {
                Some(value) => value,
                None if restart => WILL_RESTART,
                None => interrupted_value(task, &mut ended),
            };
            task.end_call(thread, &mut ended, value, &task.memory());
            task.put_off(*info, restart.then_some(ended.nr), saved_mask);
            return Ok(false);
        }
        if restart {
            let regs = thread.regs_mut();
            regs.rax = ended.nr;
            regs.rip = regs.rip.wrapping_sub(2);
        } else {
            let value = settled.unwrap_or_else(|| interrupted_value(task, &mut ended));
            task.end_call(thread, &mut ended, value, &task.memory());
        }
    }
    if task.is_traced()
        && let Some((restart, mask)) = task.was_put_off()
    {
        saved_mask = mask;
        if let Some(nr) = restart {
            let regs = thread.regs_mut();
            regs.rax = nr;
            regs.rip = regs.rip.wrapping_sub(2);
        }
    }
    let signals = task.signals.lock().clone();
    frame::push(
        task,
        thread,
        &signals,
        saved_mask.unwrap_or(signals.mask),
        info,
        action,
    )?;
    let mut mask = signals.mask | action.mask;
    if action.flags & SA_NODEFER == 0 {
        mask |= bit(info.signal);
    }
    task.set_signal_mask(mask);
    if action.flags & SA_RESETHAND != 0 {
        task.sighand().update(info.signal, |a| a.handler = SIG_DFL);
    }
    Ok(true)
}
