//! A task's life between traps: run the call, park it or end it, look at signals, return to guest code.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Call, ExitStatus, Task, exit};
use crate::kernel::cpu;
use crate::kernel::sched::{Outcome, Player, Turns};
use crate::kernel::signal::{self, Delivery, SigInfo};
use crate::kernel::stop::{Errno, Stop};
use crate::kernel::syscall::{self, SyscallCx};
use crate::kernel::time::Instant;
use crate::kernel::user_memory::UserMemory;
use crate::kernel::wait::{OnSignal, WaitFor, Wakeup};
use crate::platform::{Next, Thread, Trap, TrapHandler};

/// What became of a call when its handler ran.
enum Ran {
    /// It has a result.
    Ended,
    /// It waits.
    Blocked(WaitFor),
    /// The platform carries it out.
    Own(OnSignal),
    /// The host thread it ran on is finished.
    Left,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The task whose handler runs on this host thread: what Linux calls `current`. For objects that are reached through a
/// contract without a task (a terminal's read checks job control) and for nothing that has a [`SyscallCx`].
pub fn current() -> Option<Arc<Task>> {
    CURRENT.with_borrow(Clone::clone)
}

/// The deadline the present call was waiting for when it blocked before; none on its first run. For objects with timeouts
/// of their own (SO_RCVTIMEO) that are reached without a [`SyscallCx`].
pub fn current_deadline() -> Option<Instant> {
    DEADLINE.get()
}

impl TrapHandler for Task {
    fn trap(self: Arc<Self>, thread: &mut dyn Thread, trap: Trap) -> Next {
        match &self.waker.turns {
            Some((turns, seat)) => {
                let (turns, seat) = (turns.clone(), *seat);
                self.in_turn(&turns, seat, thread, trap)
            }
            None => self.guarded(thread, trap),
        }
    }
}

impl Task {
    /// Handle a trap when it is the task's turn, and see to whose turn comes next.
    fn in_turn(self: Arc<Self>, turns: &Turns, seat: u64, thread: &mut dyn Thread, trap: Trap) -> Next {
        let calls = matches!(trap, Trap::Syscall | Trap::ForeignSyscall | Trap::Fault(_));
        if calls {
            self.traps.fetch_add(1, Ordering::SeqCst);
        }
        if !turns.begin(seat, calls) && trap != Trap::Died {
            return Next::Park;
        }
        let player: Arc<dyn Player> = self.waker.clone();
        let next = self.guarded(thread, trap);
        let outcome = match next {
            // Nothing is granted where turns are given, so none is made again by the platform.
            Next::Resume | Next::Again | Next::Step => Outcome::Runs,
            Next::Park => Outcome::Parks,
            Next::Exit => Outcome::Leaves,
        };
        if !turns.end(seat, &player, outcome, calls) && outcome == Outcome::Runs {
            return Next::Park;
        }
        next
    }

    fn guarded(self: Arc<Self>, thread: &mut dyn Thread, trap: Trap) -> Next {
        CURRENT.set(Some(self.clone()));
        // A panic is a bug of ours; it must cost the guest that met it its life, and nobody else anything.
        let handled = catch_unwind(AssertUnwindSafe(|| self.handle(thread, trap)));
        CURRENT.set(None);
        handled.unwrap_or_else(|_| {
            tracing::error!(
                pid = self.pid(),
                nr = thread.regs().orig_rax,
                "a handler failed; its process is killed"
            );
            self.group.begin_exit(ExitStatus::Signaled {
                signal: libc::SIGKILL,
                core: false,
            });
            exit::leave(&self);
            Next::Exit
        })
    }

    fn handle(self: &Arc<Self>, thread: &mut dyn Thread, trap: Trap) -> Next {
        // Who makes a call is in none.
        let mut call = match trap {
            Trap::Syscall => None,
            _ => self.run.lock().call.take(),
        };
        match trap {
            Trap::Syscall => {
                call = Some(self.begin_call(thread));
                if self.is_traced() {
                    self.trace_call(thread);
                }
            }
            Trap::ForeignSyscall => thread.regs_mut().rax = error_value(Errno::ENOSYS),
            Trap::Fault(fault) => {
                if !cpu::carry_out(self, thread, &fault) {
                    signal::force(self, SigInfo::from_fault(&fault));
                }
            }
            Trap::Waiting => {
                call.get_or_insert_with(|| Call::own(thread));
            }
            Trap::Interrupted | Trap::Woken => {}
            Trap::Died => {
                self.group.begin_exit(ExitStatus::Signaled {
                    signal: libc::SIGKILL,
                    core: false,
                });
                exit::leave(self);
                return Next::Exit;
            }
        }
        let next = self.advance(thread, &mut call);
        if next == Next::Park {
            self.run.lock().call = call;
        }
        next
    }

    fn begin_call(&self, thread: &mut dyn Thread) -> Call {
        let regs = thread.regs_mut();
        // What a handler of a caught signal sees of an interrupted call, and Linux's value until there is a result.
        regs.rax = error_value(Errno::ENOSYS);
        // The kernel takes the lower half for the number.
        let mut call = Call::new(regs.orig_rax & 0xffff_ffff, regs.args());
        call.note_moved(thread);
        if let Some(tracer) = &self.kernel.tracer {
            tracer.enter(self.tid(), call.nr, &call.args, &self.memory());
        }
        call
    }

    /// Go on until guest code runs again, the task parks, or its thread is over.
    fn advance(self: &Arc<Self>, thread: &mut dyn Thread, call: &mut Option<Call>) -> Next {
        loop {
            let (dying, stopped) = self.standing();
            if dying {
                if self.is_traced() && self.trace_exit(thread) {
                    return Next::Park;
                }
                exit::leave(self);
                return Next::Exit;
            }
            // A tracer may have let a signal through that stops it.
            let held = self.is_traced() && (self.trace_point(thread, call) || self.standing().1);
            if held || stopped {
                return Next::Park;
            }
            if let Some(running) = call {
                match self.run_call(thread, running) {
                    Ran::Ended => {
                        if running.on_signal == OnSignal::Uninterruptible {
                            // What came meanwhile was put off, not looked at.
                            self.kick_self();
                        }
                        *call = None;
                        if self.trace_is_busy() {
                            // The tracer hears of the call's end before it hears of signals.
                            continue;
                        }
                    }
                    Ran::Left => return Next::Exit,
                    Ran::Own(_) if !self.attention.load(Ordering::SeqCst) => {
                        *call = None;
                        return Next::Again;
                    }
                    Ran::Own(on_signal) => running.on_signal = on_signal,
                    Ran::Blocked(_) if self.trace_is_busy() => continue,
                    Ran::Blocked(wait) => {
                        if !self.attention.load(Ordering::SeqCst) {
                            if self.park(running, &wait) {
                                return Next::Park;
                            }
                            continue;
                        }
                        running.on_signal = wait.on_signal;
                    }
                }
            }
            if self.attention.load(Ordering::SeqCst) && self.attention.swap(false, Ordering::SeqCst) {
                match signal::deliver(self, thread, call) {
                    Delivery::Go | Delivery::Stopped => {}
                    Delivery::Exit(status) => self.group.begin_exit(status),
                }
            } else if call.is_none() && !self.trace_is_busy() {
                self.group.timers.rouse();
                return if self.trace_steps() {
                    Next::Step
                } else {
                    Next::Resume
                };
            }
        }
    }

    fn run_call(self: &Arc<Self>, thread: &mut dyn Thread, call: &mut Call) -> Ran {
        call.parked = None;
        DEADLINE.set(call.state.deadline);
        let mut cx = SyscallCx {
            kernel: &self.kernel,
            task: self,
            thread,
            memory: self.memory(),
            nr: call.nr,
            args: call.args,
            state: &mut call.state,
        };
        let result = syscall::dispatch(&mut cx);
        let memory = cx.memory;
        let value = match result {
            Ok(value) => value,
            Err(Stop::Errno(errno, at)) => {
                tracing::debug!(tid = self.tid(), nr = call.nr, "{errno:?}{at}");
                error_value(errno)
            }
            Err(Stop::Block(wait)) => {
                call.state.deadline = call.state.deadline.or(wait.deadline);
                return Ran::Blocked(wait);
            }
            Err(Stop::Own(on_signal)) => return Ran::Own(on_signal),
            // After execve(2) the task lives on elsewhere, and its call has been told.
            Err(Stop::Leave) => return Ran::Left,
        };
        self.end_call(thread, call, value, &memory);
        Ran::Ended
    }

    /// Give a call its result. A temporary signal mask ends with it.
    pub(in crate::kernel) fn end_call(
        &self,
        thread: &mut dyn Thread,
        call: &mut Call,
        value: u64,
        memory: &UserMemory,
    ) {
        if let Some(mask) = call.state.saved_mask.take() {
            self.set_signal_mask(mask);
        }
        thread.regs_mut().rax = value;
        if self.is_traced() {
            self.trace_call_end();
        }
        if let Some(tracer) = &self.kernel.tracer {
            tracer.exit(self.tid(), call.nr, &call.args, value.cast_signed(), memory);
        }
    }

    /// Register for what the call waits for. False when that has happened already: run the handler again.
    fn park(&self, call: &mut Call, wait: &WaitFor) -> bool {
        self.waker.arm();
        let waker: Arc<dyn Wakeup> = self.waker.clone();
        let Some(registrations) = wait.register(&waker) else {
            return false;
        };
        let timer = wait
            .deadline
            .map(|deadline| self.kernel.reactor.timer(deadline, &waker));
        call.on_signal = wait.on_signal;
        call.parked = Some((registrations, timer));
        true
    }

    pub(super) fn is_dying(&self) -> bool {
        self.standing().0
    }

    /// Whether it is to end, and whether its process is stopped.
    fn standing(&self) -> (bool, bool) {
        let alone = self.ends_alone();
        let state = self.group.state.lock();
        let replaced = state.exec_by.is_some_and(|tid| tid != self.tid());
        let dying = alone || state.exiting.is_some() || replaced;
        (dying, state.stopped.is_some())
    }
}

/// An errno as rax carries it.
pub(in crate::kernel) fn error_value(errno: Errno) -> u64 {
    i64::from(-(errno as i32)).cast_unsigned()
}
