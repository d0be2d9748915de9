//! Tracing of one process by another: ptrace(2).
//!
//! A traced task stops by parking with a copy of its registers, which the tracer reads and changes; when it is resumed it
//! takes the copy over and goes on where it was. A new thread or program that is to stop before its first instruction is
//! not started until it is resumed.

mod leave;
mod requests;
mod wait;

use leave::{detach, run_again};
pub(super) use leave::{on_exit, on_tracer_exit};
pub(super) use requests::ptrace;
pub(super) use wait::{Told, look};

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Call, ExitStatus, Pid, Task, ThreadGroup};
use crate::kernel::signal::{SigFields, SigInfo, SigSet, Signal, send_to_group};
use crate::kernel::stop::Errno;
use crate::kernel::wait::Events;
use crate::platform::{Regs, Thread};

/// What a stop that is no signal reports: PTRACE_EVENT_*.
pub(super) const EVENT_FORK: u32 = 1;
pub(super) const EVENT_VFORK: u32 = 2;
pub(super) const EVENT_CLONE: u32 = 3;
pub(super) const EVENT_EXEC: u32 = 4;
pub(super) const EVENT_VFORK_DONE: u32 = 5;
const EVENT_EXIT: u32 = 6;
const EVENT_STOP: u32 = 128;

/// PTRACE_O_TRACESYSGOOD.
const OPTION_SYSGOOD: u32 = 1;
/// PTRACE_O_EXITKILL.
const OPTION_EXITKILL: u32 = 1 << 20;
/// PTRACE_O_TRACE* for events 1 to 7, PTRACE_O_TRACESYSGOOD, PTRACE_O_EXITKILL, PTRACE_O_SUSPEND_SECCOMP.
const OPTIONS: u32 = 0x0030_00ff;

/// How a tracee runs between stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    /// To the next signal or event.
    #[default]
    Continue,
    /// Also to the next begin or end of a call.
    Syscalls,
    /// For one instruction.
    Step,
}

/// Where a tracee stopped, and so where it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    SyscallEnter,
    SyscallExit,
    /// Before a signal takes effect.
    Signal(SigInfo),
    /// At an event or because it was interrupted.
    Event,
    /// At execve(2): the end of that call is still to be told.
    Exec,
    /// By job control.
    Group,
}

/// A stop of a tracee.
struct Stop {
    /// What wait(2) reports: a signal, and the event above it.
    status: u32,
    kind: Kind,
    regs: Regs,
    xstate: Vec<u8>,
    /// The tracer changed registers or extended state.
    changed: bool,
    /// PTRACE_GETEVENTMSG.
    message: u64,
    /// wait(2) has told of it.
    reported: bool,
    /// PTRACE_LISTEN: it stays stopped until job control continues it.
    listening: bool,
    /// A thread that has not been started yet.
    held: Option<Box<dyn Thread>>,
}

impl Stop {
    /// Of a thread as it is.
    fn at(thread: &mut dyn Thread, status: u32, kind: Kind, message: u64) -> Stop {
        Stop {
            status,
            kind,
            regs: *thread.regs(),
            xstate: thread.xstate().unwrap_or_default(),
            changed: false,
            message,
            reported: false,
            listening: false,
            held: None,
        }
    }
}

/// What a tracee takes along when it is resumed.
struct Resumed {
    kind: Kind,
    regs: Option<(Regs, Vec<u8>)>,
    signal: Signal,
}

/// Tracing of one task.
pub(super) struct Trace {
    tracer: Arc<ThreadGroup>,
    options: u32,
    seized: bool,
    mode: Mode,
    stop: Option<Stop>,
    resumed: Option<Resumed>,
    /// A signal that the tracer let through.
    approved: Option<SigInfo>,
    /// A call has ended and is to be told of.
    exit_due: bool,
    /// An event that is to be told of, with its message.
    event_due: Option<(u32, u64)>,
    /// PTRACE_INTERRUPT.
    interrupt: bool,
    /// A call that a signal has ended, while the tracer hears of that: its number if it will be made again, and the mask
    /// that a temporary one replaced.
    put_off: Option<(Option<u64>, Option<SigSet>)>,
    /// It called exit(2).
    exiting: bool,
    /// It was attached to while it ran, and has not been resumed since.
    fresh: bool,
    /// The call that it is in is to be told as if it began now.
    enter_due: bool,
    /// PTRACE_EVENT_EXIT was told.
    exit_told: bool,
    /// The tracer has let it go; it is free once it has taken over what that came with.
    leaving: bool,
}

impl Trace {
    fn new(tracer: Arc<ThreadGroup>, options: u32, seized: bool) -> Trace {
        Trace {
            tracer,
            options,
            seized,
            mode: Mode::Continue,
            stop: None,
            resumed: None,
            approved: None,
            exit_due: false,
            event_due: None,
            interrupt: false,
            put_off: None,
            exiting: false,
            fresh: false,
            enter_due: false,
            exit_told: false,
            leaving: false,
        }
    }

    fn wants(&self, event: u32) -> bool {
        self.options & 1 << event != 0
    }

    fn syscall_status(&self) -> u32 {
        let good = if self.options & OPTION_SYSGOOD != 0 {
            0x80
        } else {
            0
        };
        libc::SIGTRAP.cast_unsigned() | good
    }

    fn is_busy(&self) -> bool {
        self.stop.is_some()
            || self.resumed.is_some()
            || self.exit_due
            || self.enter_due
            || self.event_due.is_some()
            || self.interrupt
    }
}

fn event_status(signal: Signal, event: u32) -> u32 {
    signal.cast_unsigned() | event << 8
}

impl Task {
    /// Whether another process traces it.
    pub(in crate::kernel) fn is_traced(&self) -> bool {
        self.traced.load(Ordering::SeqCst)
    }

    /// The process that traces it.
    pub fn tracer(&self) -> Option<Pid> {
        self.trace.lock().as_ref().map(|t| t.tracer.pid)
    }

    /// Whether tracing has something to do before it may go on.
    pub(super) fn trace_is_busy(&self) -> bool {
        self.is_traced() && self.trace.lock().as_ref().is_some_and(|t| t.is_busy())
    }

    /// Look after tracing before the task goes on: true when it has to stay stopped.
    pub(super) fn trace_point(self: &Arc<Self>, thread: &mut dyn Thread, call: &mut Option<Call>) -> bool {
        let stopped = self.group.state.lock().stopped;
        let (resumed, due) = {
            let mut guard = self.trace.lock();
            let Some(trace) = guard.as_mut() else {
                return false;
            };
            if let Some(stop) = &trace.stop {
                if !stop.listening || stopped.is_some() {
                    return true;
                }
                trace.stop = None;
                trace.interrupt = true;
            }
            match trace.resumed.take() {
                Some(resumed) => (Some(resumed), None),
                None => (None, next_due(trace)),
            }
        };
        if let Some(resumed) = resumed {
            self.take_over(thread, call, resumed);
            return self.trace_point(thread, call);
        }
        let Some((status, kind, message)) = due else {
            return false;
        };
        let status = match (kind, stopped) {
            (Kind::Group, Some(signal)) => event_status(signal, EVENT_STOP),
            _ => status,
        };
        self.trace_stop(thread, status, kind, message);
        true
    }

    /// Stop for the tracer with the registers as they are.
    fn trace_stop(&self, thread: &mut dyn Thread, status: u32, kind: Kind, message: u64) {
        self.enter_stop(Stop::at(thread, status, kind, message));
    }

    /// Stop as `stop` says, unless there is no tracer any more that could end it: then its held thread comes back.
    fn enter_stop(&self, stop: Stop) -> Option<Box<dyn Thread>> {
        let status = stop.status;
        let tracer = {
            let mut guard = self.trace.lock();
            let Some(trace) = guard.as_mut().filter(|t| !t.leaving) else {
                return stop.held;
            };
            trace.stop = Some(stop);
            trace.tracer.clone()
        };
        self.tell_tracer(
            &tracer,
            libc::CLD_TRAPPED,
            i32::try_from(status & 0x7f).unwrap_or(0),
        );
        None
    }

    fn tell_tracer(&self, tracer: &Arc<ThreadGroup>, code: i32, status: i32) {
        let info = SigInfo {
            signal: libc::SIGCHLD,
            errno: 0,
            code,
            fields: SigFields::Child {
                pid: self.tid(),
                uid: self.creds().uid,
                status,
                utime: 0,
                stime: 0,
            },
        };
        // A full queue holds this signal already.
        let _ = send_to_group(&self.kernel, tracer, info);
        tracer.changed.notify(Events::READ);
    }

    /// Go on from a stop with what the tracer made of it.
    fn take_over(self: &Arc<Self>, thread: &mut dyn Thread, call: &mut Option<Call>, resumed: Resumed) {
        let changed = resumed.regs.is_some();
        if let Some((regs, xstate)) = &resumed.regs {
            *thread.regs_mut() = *regs;
            // A state the CPU does not accept leaves the old one.
            let _ = thread.set_xstate(xstate);
        }
        if resumed.kind == Kind::SyscallEnter && changed {
            let regs = thread.regs();
            // A tracer skips a call by giving it a number that is none.
            *call = (regs.orig_rax.cast_signed() >= 0).then(|| Call::new(regs.orig_rax, regs.args()));
        }
        self.take_signal(resumed.kind, resumed.signal);
        if let Some(trace) = self.trace.lock().as_mut() {
            // Linux restarts the call that a tracer broke into, which the tracer sees from its begin.
            let first = std::mem::take(&mut trace.fresh);
            trace.enter_due |= first && call.is_some() && trace.mode == Mode::Syscalls;
        }
        let left = self.trace.lock().take_if(|trace| trace.leaving);
        if left.is_some() {
            self.traced.store(false, Ordering::SeqCst);
            self.review_openness();
        }
        // Whatever else was sent meanwhile.
        self.kick_self();
    }

    /// The signal a tracer resumed with: the one the tracee stopped for, or another in its place.
    fn take_signal(&self, kind: Kind, signal: Signal) {
        if signal == 0 {
            return;
        }
        let mut guard = self.trace.lock();
        let info = match kind {
            Kind::Signal(info) if info.signal == signal => info,
            _ => SigInfo::user(signal, guard.as_ref().map_or(0, |t| t.tracer.pid), 0),
        };
        match guard.as_mut() {
            Some(trace) if !trace.leaving => trace.approved = Some(info),
            _ => {
                drop(guard);
                self.signals.lock().pending.push(info);
            }
        }
    }

    /// A call begins: stop if the tracer wants to see it.
    pub(super) fn trace_call(&self, thread: &mut dyn Thread) {
        let status = match self.trace.lock().as_ref() {
            Some(trace) if trace.mode == Mode::Syscalls => trace.syscall_status(),
            _ => return,
        };
        self.trace_stop(thread, status, Kind::SyscallEnter, 0);
    }

    /// A call has its result.
    pub(super) fn trace_call_end(&self) {
        if let Some(trace) = self.trace.lock().as_mut() {
            trace.exit_due |= trace.mode == Mode::Syscalls;
        }
    }

    /// Whether the tracer hears of calls.
    pub(in crate::kernel) fn shows_calls(&self) -> bool {
        self.is_traced()
            && self
                .trace
                .lock()
                .as_ref()
                .is_some_and(|t| t.mode == Mode::Syscalls)
    }

    /// A signal is let through once the tracer has heard of the end of the call that it interrupted.
    pub(in crate::kernel) fn put_off(&self, info: SigInfo, restart: Option<u64>, mask: Option<SigSet>) {
        if let Some(trace) = self.trace.lock().as_mut() {
            trace.approved = Some(info);
            trace.put_off = Some((restart, mask));
        }
        self.kick_self();
    }

    /// What [`Task::put_off`] left.
    pub(in crate::kernel) fn was_put_off(&self) -> Option<(Option<u64>, Option<SigSet>)> {
        self.trace.lock().as_mut()?.put_off.take()
    }

    /// The task calls exit(2): true when its tracer hears of that first.
    pub(super) fn trace_ends_alone(&self) -> bool {
        match self.trace.lock().as_mut() {
            Some(trace) if trace.wants(EVENT_EXIT) => {
                trace.exiting = true;
                true
            }
            _ => false,
        }
    }

    /// Whether it called exit(2) and only the tracer is still to be told.
    pub(super) fn ends_alone(&self) -> bool {
        self.is_traced() && self.trace.lock().as_ref().is_some_and(|t| t.exiting)
    }

    /// It is about to end: true while its tracer looks at that.
    pub(super) fn trace_exit(&self, thread: &mut dyn Thread) -> bool {
        let status = {
            let own = self.state.lock().exit_status;
            self.group
                .state
                .lock()
                .exiting
                .or(own)
                .unwrap_or(ExitStatus::Exited(0))
        };
        let killed = matches!(
            status,
            ExitStatus::Signaled {
                signal: libc::SIGKILL,
                ..
            }
        );
        {
            let mut guard = self.trace.lock();
            let Some(trace) = guard.as_mut() else {
                return false;
            };
            if killed || trace.exit_told || !trace.wants(EVENT_EXIT) {
                return !killed && trace.exit_told && trace.stop.is_some();
            }
            trace.exit_told = true;
            trace.resumed = None;
        }
        let message = status.wait_status().cast_unsigned().into();
        self.trace_stop(
            thread,
            event_status(libc::SIGTRAP, EVENT_EXIT),
            Kind::Event,
            message,
        );
        true
    }

    /// Whether it is to run for one instruction only.
    pub(super) fn trace_steps(&self) -> bool {
        self.is_traced() && self.trace.lock().as_ref().is_some_and(|t| t.mode == Mode::Step)
    }

    /// Whether signals stop it for a tracer before they take effect.
    pub(in crate::kernel) fn shows_signals(&self) -> bool {
        self.is_traced() && self.trace.lock().as_ref().is_some_and(|t| !t.leaving)
    }

    /// A signal that the tracer has let through already.
    pub(in crate::kernel) fn approved_signal(&self) -> Option<SigInfo> {
        self.trace.lock().as_mut()?.approved.take()
    }

    /// A signal is about to take effect: stop first.
    pub(in crate::kernel) fn trace_signal(&self, thread: &mut dyn Thread, info: SigInfo) {
        self.trace_stop(thread, info.signal.cast_unsigned(), Kind::Signal(info), 0);
    }

    /// Its process was stopped by job control.
    pub(in crate::kernel) fn trace_group_stop(&self, thread: &mut dyn Thread, signal: Signal) {
        let seized = self.trace.lock().as_ref().is_some_and(|t| t.seized);
        let event = if seized { EVENT_STOP } else { 0 };
        self.trace_stop(thread, event_status(signal, event), Kind::Group, 0);
    }

    /// Whether the tracer is to hear of an event; if so it is told before the task goes on.
    pub(super) fn trace_event(&self, event: u32, message: u64) -> bool {
        let mut guard = self.trace.lock();
        match guard.as_mut() {
            Some(trace) if trace.wants(event) => {
                trace.event_due = Some((event, message));
                true
            }
            _ => false,
        }
    }

    /// A child of a traced task is traced too, and stopped before it begins to run. Its thread comes back when it is not,
    /// because there is no tracer any more.
    pub(super) fn inherit_trace(
        &self,
        child: &Arc<Task>,
        thread: Box<dyn Thread>,
    ) -> Option<Box<dyn Thread>> {
        let (tracer, options, seized) = match self.trace.lock().as_ref() {
            Some(trace) => (trace.tracer.clone(), trace.options, trace.seized),
            None => return Some(thread),
        };
        if attach(child, Trace::new(tracer, options, seized)).is_err() {
            return Some(thread);
        }
        let (status, kind) = if seized {
            (event_status(libc::SIGTRAP, EVENT_STOP), Kind::Event)
        } else {
            let info = SigInfo::user(libc::SIGSTOP, 0, 0);
            (libc::SIGSTOP.cast_unsigned(), Kind::Signal(info))
        };
        child.hold(thread, status, kind, 0)
    }

    /// A new program is loaded: hold its thread for the tracer. Returns it when nobody is to be told.
    pub(super) fn trace_exec(
        self: &Arc<Self>,
        thread: Box<dyn Thread>,
        old_tid: Pid,
    ) -> Option<Box<dyn Thread>> {
        let uid = self.creds().uid;
        let (status, kind) = {
            let guard = self.trace.lock();
            match guard.as_ref() {
                Some(trace) if trace.wants(EVENT_EXEC) => {
                    (event_status(libc::SIGTRAP, EVENT_EXEC), Kind::Exec)
                }
                Some(trace) if !trace.seized => {
                    let info = SigInfo::user(libc::SIGTRAP, self.pid(), uid);
                    (libc::SIGTRAP.cast_unsigned(), Kind::Signal(info))
                }
                _ => return Some(thread),
            }
        };
        self.hold(thread, status, kind, old_tid.cast_unsigned().into())
    }

    /// Stop before the first instruction of `thread`, which comes back when it is to run at once.
    fn hold(
        self: &Arc<Self>,
        mut thread: Box<dyn Thread>,
        status: u32,
        kind: Kind,
        message: u64,
    ) -> Option<Box<dyn Thread>> {
        let mut stop = Stop::at(&mut *thread, status, kind, message);
        stop.held = Some(thread);
        let unheld = self.enter_stop(stop);
        if self.is_dying() {
            // Whoever said so may have found nothing held.
            self.release_held();
        }
        unheld
    }

    /// Let a tracee that has never run run now, because it is to end.
    pub(super) fn release_held(self: &Arc<Self>) {
        let held = self
            .trace
            .lock()
            .as_mut()
            .and_then(|t| t.stop.as_mut()?.held.take());
        if let Some(thread) = held {
            self.start(thread);
        }
    }
}

/// What is to be told of next.
fn next_due(trace: &mut Trace) -> Option<(u32, Kind, u64)> {
    if let Some((event, message)) = trace.event_due.take() {
        return Some((event_status(libc::SIGTRAP, event), Kind::Event, message));
    }
    if std::mem::take(&mut trace.enter_due) {
        return Some((trace.syscall_status(), Kind::SyscallEnter, 0));
    }
    if std::mem::take(&mut trace.exit_due) {
        return Some((trace.syscall_status(), Kind::SyscallExit, 0));
    }
    if std::mem::take(&mut trace.interrupt) {
        return Some((event_status(libc::SIGTRAP, EVENT_STOP), Kind::Group, 0));
    }
    None
}

/// Begin to trace a task: EPERM when somebody else does, ESRCH when it or the tracer is ending.
fn attach(task: &Arc<Task>, trace: Trace) -> Result<(), Errno> {
    let tracer = trace.tracer.clone();
    let mut tracer_state = tracer.state.lock();
    let state = task.state.lock();
    if tracer_state.threads.is_empty() || state.exited {
        return Err(Errno::ESRCH);
    }
    let mut present = task.trace.lock();
    if present.is_some() {
        return Err(Errno::EPERM);
    }
    *present = Some(Box::new(trace));
    task.traced.store(true, Ordering::SeqCst);
    drop(present);
    task.review_openness();
    tracer_state.tracees.push(task.clone());
    Ok(())
}
