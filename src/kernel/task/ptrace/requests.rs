//! The requests of ptrace(2).

use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::{Kind, Mode, OPTIONS, Resumed, Stop, Trace, attach, detach, run_again};
use crate::kernel::signal::{SigInfo, Signal, UNBLOCKABLE, send_to_task};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{ExitStatus, Pid, Task, access};
use crate::kernel::user_memory::{IoVec, UserAddr};
use crate::kernel::wait::Events;
use crate::platform::Regs;

const TRACEME: i32 = 0;
const PEEKTEXT: i32 = 1;
const PEEKDATA: i32 = 2;
const PEEKUSER: i32 = 3;
const POKETEXT: i32 = 4;
const POKEDATA: i32 = 5;
const POKEUSER: i32 = 6;
const CONT: i32 = 7;
const KILL: i32 = 8;
const SINGLESTEP: i32 = 9;
const GETREGS: i32 = 12;
const SETREGS: i32 = 13;
const GETFPREGS: i32 = 14;
const SETFPREGS: i32 = 15;
const ATTACH: i32 = 16;
const DETACH: i32 = 17;
const SYSCALL: i32 = 24;
const SETOPTIONS: i32 = 0x4200;
const GETEVENTMSG: i32 = 0x4201;
const GETSIGINFO: i32 = 0x4202;
const SETSIGINFO: i32 = 0x4203;
const GETREGSET: i32 = 0x4204;
const SETREGSET: i32 = 0x4205;
const SEIZE: i32 = 0x4206;
const INTERRUPT: i32 = 0x4207;
const LISTEN: i32 = 0x4208;
const GETSIGMASK: i32 = 0x420a;
const SETSIGMASK: i32 = 0x420b;

/// Register sets: general, FXSAVE, XSAVE.
const NT_PRSTATUS: u64 = 1;
const NT_PRFPREG: u64 = 2;
const NT_X86_XSTATE: u64 = 0x202;

/// Size of an FXSAVE area, in bytes.
const FXSAVE: usize = 512;
/// Size of `struct user`, in bytes, and where its debug registers begin.
const USER: u64 = 928;
const DEBUG_REGISTERS: u64 = 848;

/// ptrace(2).
pub(in crate::kernel::task) fn ptrace(
    cx: &mut SyscallCx<'_>,
    request: i32,
    pid: Pid,
    addr: u64,
    data: u64,
) -> SysResult<u64> {
    match request {
        TRACEME => return trace_me(cx),
        ATTACH | SEIZE => return start_tracing(cx, pid, request == SEIZE, addr, data),
        _ => {}
    }
    let task = cx.kernel.pids.task(pid).ok_or(Errno::ESRCH)?;
    let ours = |t: &Trace| Arc::ptr_eq(&t.tracer, &cx.task.group) && !t.leaving;
    if !task.trace.lock().as_deref().is_some_and(ours) {
        return fail!(ESRCH);
    }
    match request {
        KILL => {
            task.group.begin_exit(ExitStatus::Signaled {
                signal: libc::SIGKILL,
                core: false,
            });
            return Ok(0);
        }
        INTERRUPT => return interrupt(&task),
        _ => {}
    }
    if task.trace.lock().as_ref().is_none_or(|t| t.stop.is_none()) {
        return fail!(ESRCH);
    }
    match request {
        PEEKTEXT | PEEKDATA => peek(cx, &task, addr, data),
        POKETEXT | POKEDATA => {
            if task.mm().space.poke(addr, &data.to_ne_bytes()) != 8 {
                return fail!(EIO);
            }
            Ok(0)
        }
        CONT | SYSCALL | SINGLESTEP | DETACH => resume(&task, request, data),
        LISTEN => {
            with_stop(&task, |stop| {
                stop.listening = true;
                Ok(())
            })?;
            // It may have been continued already: then it stops again to say so.
            task.kick();
            Ok(0)
        }
        SETOPTIONS => set_options(&task, data),
        GETSIGMASK | SETSIGMASK => signal_mask(cx, &task, request, addr, data),
        _ => registers(cx, &task, request, addr, data),
    }
}

fn trace_me(cx: &SyscallCx<'_>) -> SysResult<u64> {
    let parent = {
        let pids = cx.kernel.pids.lock();
        let parent = pids.processes.get(&cx.task.pid()).map_or(0, |p| p.parent);
        pids.processes.get(&parent).map(|p| p.group.clone())
    };
    match parent {
        Some(parent) => {
            attach(cx.task, Trace::new(parent, 0, false)).map_err(|_| Errno::EPERM)?;
            Ok(0)
        }
        None => fail!(EPERM),
    }
}

/// PTRACE_ATTACH, PTRACE_SEIZE.
fn start_tracing(cx: &SyscallCx<'_>, pid: Pid, seize: bool, addr: u64, options: u64) -> SysResult<u64> {
    let options = if seize { options } else { 0 };
    let options = match u32::try_from(options) {
        Ok(options) if options & !OPTIONS == 0 && !(seize && addr != 0) => options,
        _ => return fail!(EIO),
    };
    let task = cx.kernel.pids.task(pid).ok_or(Errno::ESRCH)?;
    if task.state.lock().exited {
        return fail!(ESRCH);
    }
    if Arc::ptr_eq(&task.group, &cx.task.group) || task.is_traced() {
        return fail!(EPERM);
    }
    access::check(cx.task, &task)?;
    let mut trace = Trace::new(cx.task.group.clone(), options, seize);
    trace.fresh = true;
    attach(&task, trace)?;
    if !seize {
        send_to_task(
            &task,
            SigInfo::user(libc::SIGSTOP, cx.task.pid(), cx.task.creds().uid),
        )?;
    } else if task.group.state.lock().stopped.is_some() {
        interrupt(&task)?;
    }
    Ok(0)
}

fn interrupt(task: &Arc<Task>) -> SysResult<u64> {
    {
        let mut guard = task.trace.lock();
        match guard.as_mut() {
            Some(trace) if trace.seized => {
                if trace.stop.as_ref().is_some_and(|s| !s.listening) {
                    return Ok(0);
                }
                trace.interrupt = true;
                trace.stop = None;
            }
            _ => return fail!(EIO),
        }
    }
    task.kick();
    Ok(0)
}

fn with_stop<R>(task: &Task, act: impl FnOnce(&mut Stop) -> SysResult<R>) -> SysResult<R> {
    match task.trace.lock().as_mut().and_then(|t| t.stop.as_mut()) {
        Some(stop) => act(stop),
        None => fail!(ESRCH),
    }
}

fn resume(task: &Arc<Task>, request: i32, signal: u64) -> SysResult<u64> {
    let signal = match Signal::try_from(signal) {
        Ok(signal) if (0..=64).contains(&signal) => signal,
        _ => return fail!(EIO),
    };
    if request == DETACH {
        detach(task, signal);
        return Ok(0);
    }
    let (held, told) = {
        let mut guard = task.trace.lock();
        let Some(trace) = guard.as_mut() else {
            return fail!(ESRCH);
        };
        trace.mode = match request {
            SYSCALL => Mode::Syscalls,
            SINGLESTEP => Mode::Step,
            _ => Mode::Continue,
        };
        let Some(mut stop) = trace.stop.take() else {
            return fail!(ESRCH);
        };
        if stop.kind == Kind::Exec && trace.mode == Mode::Syscalls {
            // Between the event and the first instruction the end of execve(2) is told.
            stop.kind = Kind::SyscallExit;
            stop.status = trace.syscall_status();
            stop.reported = false;
            trace.stop = Some(stop);
            (None, Some(trace.tracer.clone()))
        } else {
            trace.resumed = Some(Resumed {
                kind: stop.kind,
                regs: stop.changed.then_some((stop.regs, stop.xstate)),
                signal,
            });
            (stop.held, None)
        }
    };
    match told {
        Some(tracer) => tracer.changed.notify(Events::READ),
        None => run_again(task, held),
    }
    Ok(0)
}

fn set_options(task: &Task, options: u64) -> SysResult<u64> {
    let options = match u32::try_from(options) {
        Ok(options) if options & !OPTIONS == 0 => options,
        _ => return fail!(EINVAL),
    };
    if let Some(trace) = task.trace.lock().as_mut() {
        trace.options = options;
    }
    Ok(0)
}

fn signal_mask(cx: &SyscallCx<'_>, task: &Task, request: i32, size: u64, data: u64) -> SysResult<u64> {
    if size != 8 {
        return fail!(EINVAL);
    }
    if request == SETSIGMASK {
        let mask: u64 = cx.memory.read(UserAddr(data).cast())?;
        task.signals.lock().mask = mask & !UNBLOCKABLE;
    } else {
        let mask = task.signals.lock().mask;
        cx.memory.write(UserAddr(data).cast(), &mask)?;
    }
    Ok(0)
}

fn peek(cx: &SyscallCx<'_>, task: &Task, addr: u64, to: u64) -> SysResult<u64> {
    let mut word = [0; 8];
    if task.mm().space.peek(addr, &mut word) != 8 {
        return fail!(EIO);
    }
    cx.memory.write_bytes(UserAddr(to), &word)?;
    Ok(0)
}

/// The requests that look at and change what a stop holds.
fn registers(cx: &SyscallCx<'_>, task: &Task, request: i32, addr: u64, data: u64) -> SysResult<u64> {
    let to = UserAddr(data);
    match request {
        PEEKUSER => {
            let value = with_stop(task, |stop| user_word(&stop.regs, addr))?;
            cx.memory.write(to.cast(), &value)?;
        }
        POKEUSER => with_stop(task, |stop| set_user_word(stop, addr, data))?,
        GETREGS => {
            let regs = with_stop(task, |stop| Ok(stop.regs))?;
            cx.memory.write(to.cast(), &regs)?;
        }
        SETREGS => {
            let regs: Regs = cx.memory.read(to.cast())?;
            with_stop(task, |stop| {
                stop.regs = regs;
                stop.changed = true;
                Ok(())
            })?;
        }
        GETFPREGS => {
            let state = with_stop(task, |stop| Ok(stop.xstate.clone()))?;
            cx.memory.write_bytes(to, &state[..state.len().min(FXSAVE)])?;
        }
        SETFPREGS => {
            let mut bytes = [0; FXSAVE];
            cx.memory.read_bytes(to, &mut bytes)?;
            with_stop(task, |stop| set_xstate(stop, &bytes))?;
        }
        GETREGSET | SETREGSET => register_set(cx, task, request, addr, to)?,
        GETEVENTMSG => {
            let message = with_stop(task, |stop| Ok(stop.message))?;
            cx.memory.write(to.cast(), &message)?;
        }
        GETSIGINFO => {
            let info = with_stop(task, |stop| stop_info(stop))?;
            cx.memory.write_bytes(to, &info.to_bytes())?;
        }
        SETSIGINFO => {
            let mut bytes = [0; 128];
            cx.memory.read_bytes(to, &mut bytes)?;
            with_stop(task, |stop| match &mut stop.kind {
                Kind::Signal(info) => {
                    *info = SigInfo::from_bytes(&bytes);
                    Ok(())
                }
                _ => fail!(EINVAL),
            })?;
        }
        _ => return fail!(EIO),
    }
    Ok(0)
}

/// The siginfo of a stop. A group stop has none (EINVAL), which is how tracers tell it from a signal.
fn stop_info(stop: &Stop) -> SysResult<SigInfo> {
    match stop.kind {
        Kind::Signal(info) => Ok(info),
        Kind::Group if stop.status >> 8 == 0 => fail!(EINVAL),
        _ => {
            let mut info = SigInfo::user(libc::SIGTRAP, 0, 0);
            info.code = stop.status.cast_signed();
            Ok(info)
        }
    }
}

fn set_xstate(stop: &mut Stop, bytes: &[u8]) -> SysResult<()> {
    let Some(part) = stop.xstate.get_mut(..bytes.len()) else {
        return fail!(EINVAL);
    };
    part.copy_from_slice(bytes);
    stop.changed = true;
    Ok(())
}

/// PTRACE_GETREGSET, PTRACE_SETREGSET: the vector's length becomes what was moved.
fn register_set(cx: &SyscallCx<'_>, task: &Task, request: i32, kind: u64, vector: UserAddr) -> SysResult<()> {
    let iov: IoVec = cx.memory.read(vector.cast())?;
    let mut set = with_stop(task, |stop| match kind {
        NT_PRSTATUS => Ok(stop.regs.as_bytes().to_vec()),
        NT_PRFPREG => Ok(stop.xstate[..stop.xstate.len().min(FXSAVE)].to_vec()),
        NT_X86_XSTATE => Ok(stop.xstate.clone()),
        _ => fail!(EINVAL),
    })?;
    let len = usize::try_from(iov.len).unwrap_or(usize::MAX).min(set.len());
    if request == GETREGSET {
        cx.memory.write_bytes(UserAddr(iov.base), &set[..len])?;
    } else {
        cx.memory.read_bytes(UserAddr(iov.base), &mut set[..len])?;
        with_stop(task, |stop| {
            if kind == NT_PRSTATUS {
                stop.regs = Regs::read_from_bytes(&set).map_err(|_| Errno::EINVAL)?;
                stop.changed = true;
                Ok(())
            } else {
                set_xstate(stop, &set)
            }
        })?;
    }
    let moved = IoVec {
        base: iov.base,
        len: len as u64,
    };
    Ok(cx.memory.write(vector.cast(), &moved)?)
}

/// A word of `struct user`: registers; what else is in there reads as 0.
fn user_word(regs: &Regs, offset: u64) -> SysResult<u64> {
    if !offset.is_multiple_of(8) || offset >= USER {
        return fail!(EIO);
    }
    let words = regs.as_bytes().chunks_exact(8);
    let word = usize::try_from(offset / 8)
        .ok()
        .and_then(|index| words.clone().nth(index));
    Ok(word.map_or(0, |word| {
        word.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    }))
}

fn set_user_word(stop: &mut Stop, offset: u64, value: u64) -> SysResult<()> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    if offset.is_multiple_of(8)
        && let Some(word) = stop.regs.as_mut_bytes().get_mut(start..start.saturating_add(8))
    {
        word.copy_from_slice(&value.to_ne_bytes());
        stop.changed = true;
        return Ok(());
    }
    // Debug registers are the host's: they can only be off.
    if (DEBUG_REGISTERS..USER).contains(&offset) && value == 0 {
        return Ok(());
    }
    fail!(EIO)
}
