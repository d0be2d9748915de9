//! The calls of signal(7).

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::frame::{self, StackT};
use super::{
    AltStack, SigAction, SigInfo, SigSet, Signal, UNBLOCKABLE, bit, send_in_tree, send_to_group,
    send_to_task, take_from,
};
use crate::kernel::Kernel;
use crate::kernel::abi::time::Timespec;
use crate::kernel::fs::Fd;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, Creds, Pid, Pids, Task, ThreadGroup, pidfd};
use crate::kernel::user_memory::UserRef;
use crate::kernel::wait::{Events, OnSignal, WaitFor};

syscall_table::signal_rows!(crate::kernel::syscall::dispatch_rows);

/// Size of the kernel's `sigset_t`, in bytes.
const SIGSET_SIZE: u64 = 8;

/// The kernel's `struct sigaction`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
pub(crate) struct KernelSigAction {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

fn check_signal(signal: Signal) -> Result<Signal, Errno> {
    if (1..=64).contains(&signal) {
        Ok(signal)
    } else {
        Err(Errno::EINVAL)
    }
}

fn check_set_size(size: u64) -> Result<(), Errno> {
    if size == SIGSET_SIZE {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// rt_sigaction(2).
pub(crate) fn rt_sigaction(
    cx: &mut SyscallCx<'_>,
    signal: i32,
    new: UserRef<KernelSigAction>,
    old: UserRef<KernelSigAction>,
    size: u64,
) -> SysResult<()> {
    check_set_size(size)?;
    let new = new.non_null().map(|new| cx.memory.read(new)).transpose()?;
    check_signal(signal)?;
    if new.is_some() && bit(signal) & UNBLOCKABLE != 0 {
        return fail!(EINVAL);
    }
    let sighand = cx.task.sighand();
    let before = sighand.action(signal);
    if let Some(new) = new {
        let mask = new.mask & !UNBLOCKABLE;
        let action = SigAction {
            handler: new.handler,
            flags: new.flags,
            restorer: new.restorer,
            mask,
        };
        sighand.update(signal, |a| *a = action);
        if sighand.ignores(signal) {
            // POSIX: a pending signal that becomes ignored is forgotten, blocked or not.
            cx.task.group.pending.lock().discard(bit(signal));
            for thread in cx.task.group.threads() {
                thread.signals.lock().pending.discard(bit(signal));
            }
        }
    }
    if let Some(old) = old.non_null() {
        let SigAction {
            handler,
            flags,
            restorer,
            mask,
        } = before;
        cx.memory.write(
            old,
            &KernelSigAction {
                handler,
                flags,
                restorer,
                mask,
            },
        )?;
    }
    Ok(())
}

/// rt_sigprocmask(2).
pub(crate) fn rt_sigprocmask(
    cx: &mut SyscallCx<'_>,
    how: i32,
    new: UserRef<u64>,
    old: UserRef<u64>,
    size: u64,
) -> SysResult<()> {
    check_set_size(size)?;
    let before = cx.task.signals.lock().mask;
    if let Some(new) = new.non_null() {
        let set = cx.memory.read(new)?;
        let mask = match how {
            libc::SIG_BLOCK => before | set,
            libc::SIG_UNBLOCK => before & !set,
            libc::SIG_SETMASK => set,
            _ => return fail!(EINVAL),
        };
        cx.task.set_signal_mask(mask);
    }
    if let Some(old) = old.non_null() {
        cx.memory.write(old, &before)?;
    }
    Ok(())
}

/// rt_sigpending(2).
pub(crate) fn rt_sigpending(cx: &mut SyscallCx<'_>, set: UserRef<u64>, size: u64) -> SysResult<()> {
    if size > SIGSET_SIZE {
        return fail!(EINVAL);
    }
    let signals = cx.task.signals.lock();
    let (own, mask) = (signals.pending.set(), signals.mask);
    drop(signals);
    let pending = (own | cx.task.group.pending.lock().set()) & mask;
    Ok(cx
        .memory
        .write_bytes(set.addr(), &pending.to_le_bytes()[..size as usize])?)
}

/// rt_sigsuspend(2): the new mask holds until a handler has run.
pub(crate) fn rt_sigsuspend(cx: &mut SyscallCx<'_>, mask: UserRef<u64>, size: u64) -> SysResult<()> {
    check_set_size(size)?;
    cx.use_temporary_mask(mask)?;
    Err(WaitFor::signal().into())
}

/// pause(2).
pub(crate) fn pause(_: &mut SyscallCx<'_>) -> SysResult<()> {
    Err(WaitFor::signal().into())
}

/// rt_sigtimedwait(2).
pub(crate) fn rt_sigtimedwait(
    cx: &mut SyscallCx<'_>,
    set: UserRef<u64>,
    info: UserRef<[u8; 128]>,
    timeout: UserRef<Timespec>,
    size: u64,
) -> SysResult<i32> {
    check_set_size(size)?;
    let set = cx.memory.read(set)? & !UNBLOCKABLE;
    if cx.state.deadline.is_none()
        && let Some(timeout) = timeout.non_null()
    {
        let nanos = cx.memory.read(timeout)?.nanos().ok_or(Errno::EINVAL)?;
        cx.state.deadline = Some(cx.kernel.clock.now().after(nanos));
    }
    let generation = cx.task.group.signaled.generation();
    if let Some(taken) = take_from(cx.task, set) {
        if let Some(info) = info.non_null() {
            cx.memory.write(info, &taken.to_bytes())?;
        }
        return Ok(taken.signal);
    }
    if cx.timed_out() {
        return fail!(EAGAIN);
    }
    let wait = WaitFor::default().and_since(&cx.task.group.signaled, Events::READ, generation);
    // A handler for another signal, or a stop and continue, ends the wait.
    Err(wait
        .until(cx.state.deadline)
        .on_signal(OnSignal::AlwaysEintr)
        .into())
}

/// sigaltstack(2).
pub(crate) fn sigaltstack(
    cx: &mut SyscallCx<'_>,
    new: UserRef<StackT>,
    old: UserRef<StackT>,
) -> SysResult<()> {
    let sp = cx.thread.regs().rsp;
    let new = new.non_null().map(|new| cx.memory.read(new)).transpose()?;
    let before = cx.task.signals.lock().altstack;
    if let Some(new) = new {
        super::set_altstack(
            cx.task,
            AltStack {
                base: new.sp,
                flags: new.flags,
                size: new.size,
            },
            sp,
        )?;
    }
    if let Some(old) = old.non_null() {
        let mut shown = StackT::from(before);
        if before.holds(sp) {
            shown.flags |= libc::SS_ONSTACK;
        }
        cx.memory.write(old, &shown)?;
    }
    Ok(())
}

/// rt_sigreturn(2). A bad frame is a fault.
pub(crate) fn rt_sigreturn(cx: &mut SyscallCx<'_>) -> SysResult<u64> {
    match frame::pop(cx.task, cx.thread, &cx.memory) {
        Ok(rax) => Ok(rax),
        Err(_) => {
            super::force(cx.task, SigInfo::kernel(libc::SIGSEGV));
            Ok(0)
        }
    }
}

/// restart_syscall(2): never needed, since a call is resumed where it was parked.
pub(crate) fn restart_syscall(_: &mut SyscallCx<'_>) -> SysResult<()> {
    fail!(EINTR)
}

/// kill(2).
pub(crate) fn kill(cx: &mut SyscallCx<'_>, pid: i32, signal: i32) -> SysResult<()> {
    check_signal_or_zero(signal)?;
    let info = SigInfo::user(signal, cx.task.pid(), cx.task.creds().uid);
    if pid > 0 {
        let group = cx.kernel.pids.group_of_any(pid).ok_or(Errno::ESRCH)?;
        may_signal(cx.task, &group, signal)?;
        return Ok(send_unless_zero(cx.kernel, &group, info)?);
    }
    let pids = cx.kernel.pids.lock();
    Ok(send_to_all(&pids, cx.task, &targets(&pids, cx.task, pid)?, info)?)
}

/// Send to each of `targets` that `sender` may signal: ESRCH for none, what went wrong when it may signal none.
fn send_to_all(
    pids: &Pids,
    sender: &Task,
    targets: &[&Arc<ThreadGroup>],
    info: SigInfo,
) -> Result<(), Errno> {
    let mut result = Err(Errno::ESRCH);
    for group in targets {
        match may_signal_in(pids, sender, group, info.signal) {
            // One is enough to know, and those that die meanwhile need the table.
            Ok(()) if info.signal == 0 => return Ok(()),
            Ok(()) => result = send_in_tree(pids, group, info),
            Err(errno) if result.is_err() => result = Err(errno),
            Err(_) => {}
        }
    }
    result
}

/// Processes that `kill` means by a pid of 0 (own process group), -1 (all but init and itself) or a negated group.
fn targets<'p>(pids: &'p Pids, task: &Task, pid: Pid) -> Result<Vec<&'p Arc<ThreadGroup>>, Errno> {
    if pid == -1 {
        let others = pids
            .processes
            .values()
            .filter(|p| p.group.pid != 1 && p.group.pid != task.pid());
        return Ok(others.map(|p| &p.group).collect());
    }
    let pgid = if pid == 0 {
        pids.processes.get(&task.pid()).map_or(0, |p| p.pgid)
    } else {
        pid.checked_neg().ok_or(Errno::ESRCH)?
    };
    Ok(pids.group_members(pgid).map(|p| &p.group).collect())
}

fn check_signal_or_zero(signal: Signal) -> Result<(), Errno> {
    if (0..=64).contains(&signal) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

fn send_unless_zero(kernel: &Arc<Kernel>, group: &Arc<ThreadGroup>, info: SigInfo) -> Result<(), Errno> {
    if info.signal == 0 {
        Ok(())
    } else {
        send_to_group(kernel, group, info)
    }
}

/// Whether `sender` may signal `target`: EPERM. A zombie can always be asked after.
pub(crate) fn may_signal(sender: &Task, target: &Arc<ThreadGroup>, signal: Signal) -> Result<(), Errno> {
    may_signal_in(&sender.kernel.pids.lock(), sender, target, signal)
}

fn may_signal_in(pids: &Pids, sender: &Task, target: &Arc<ThreadGroup>, signal: Signal) -> Result<(), Errno> {
    let Some(thread) = target.threads().first().cloned() else {
        return Ok(());
    };
    let (from, to) = (sender.creds(), thread.creds());
    if target.pid == sender.pid() || allowed(&from, &to) {
        return Ok(());
    }
    if signal == libc::SIGCONT {
        let session = |pid| pids.processes.get(&pid).map(|p| p.sid);
        if session(sender.pid()) == session(target.pid) {
            return Ok(());
        }
    }
    Err(Errno::EPERM)
}

fn allowed(from: &Creds, to: &Creds) -> bool {
    from.capable(Capability::Kill)
        || [from.euid, from.uid]
            .iter()
            .any(|uid| *uid == to.uid || *uid == to.suid)
}

fn send_to_thread(cx: &SyscallCx<'_>, tgid: Option<Pid>, tid: Pid, info: SigInfo) -> SysResult<()> {
    let task = cx.kernel.pids.task(tid).ok_or(Errno::ESRCH)?;
    if tgid.is_some_and(|tgid| tgid != task.pid()) {
        return fail!(ESRCH);
    }
    may_signal(cx.task, &task.group, info.signal)?;
    if info.signal != 0 {
        send_to_task(&task, info)?;
    }
    Ok(())
}

/// tkill(2).
pub(crate) fn tkill(cx: &mut SyscallCx<'_>, tid: i32, signal: i32) -> SysResult<()> {
    if tid <= 0 {
        return fail!(EINVAL);
    }
    check_signal_or_zero(signal)?;
    let info = thread_info(cx, signal);
    send_to_thread(cx, None, tid, info)
}

/// tgkill(2).
pub(crate) fn tgkill(cx: &mut SyscallCx<'_>, tgid: i32, tid: i32, signal: i32) -> SysResult<()> {
    if tid <= 0 || tgid <= 0 {
        return fail!(EINVAL);
    }
    check_signal_or_zero(signal)?;
    let info = thread_info(cx, signal);
    send_to_thread(cx, Some(tgid), tid, info)
}

fn thread_info(cx: &SyscallCx<'_>, signal: Signal) -> SigInfo {
    SigInfo {
        code: libc::SI_TKILL,
        ..SigInfo::user(signal, cx.task.pid(), cx.task.creds().uid)
    }
}

/// The siginfo of rt_sigqueueinfo(2) and rt_tgsigqueueinfo(2): only to itself may a process pretend to be the kernel.
fn queued_info(cx: &SyscallCx<'_>, to: Pid, signal: Signal, info: UserRef<[u8; 128]>) -> SysResult<SigInfo> {
    let mut info = SigInfo::from_bytes(&cx.memory.read(info)?);
    info.signal = signal;
    if (info.code >= 0 || info.code == libc::SI_TKILL) && to != cx.task.pid() {
        return fail!(EPERM);
    }
    check_signal_or_zero(signal)?;
    Ok(info)
}

/// rt_sigqueueinfo(2).
pub(crate) fn rt_sigqueueinfo(
    cx: &mut SyscallCx<'_>,
    pid: i32,
    signal: i32,
    info: UserRef<[u8; 128]>,
) -> SysResult<()> {
    let info = queued_info(cx, pid, signal, info)?;
    let group = cx.kernel.pids.group_of_any(pid).ok_or(Errno::ESRCH)?;
    may_signal(cx.task, &group, signal)?;
    Ok(send_unless_zero(cx.kernel, &group, info)?)
}

/// rt_tgsigqueueinfo(2).
pub(crate) fn rt_tgsigqueueinfo(
    cx: &mut SyscallCx<'_>,
    tgid: i32,
    tid: i32,
    signal: i32,
    info: UserRef<[u8; 128]>,
) -> SysResult<()> {
    if tid <= 0 || tgid <= 0 {
        return fail!(EINVAL);
    }
    let info = queued_info(cx, tgid, signal, info)?;
    send_to_thread(cx, Some(tgid), tid, info)
}

/// pidfd_send_signal(2).
pub(crate) fn pidfd_send_signal(
    cx: &mut SyscallCx<'_>,
    pidfd: Fd,
    signal: i32,
    info: UserRef<[u8; 128]>,
    flags: u32,
) -> SysResult<()> {
    const THREAD_GROUP: u32 = 2;
    const PROCESS_GROUP: u32 = 4;
    if !matches!(flags, 0 | THREAD_GROUP | PROCESS_GROUP) {
        return fail!(EINVAL);
    }
    let group = pidfd::group_of(cx, pidfd)?;
    let info = if info.is_null() {
        SigInfo::user(signal, cx.task.pid(), cx.task.creds().uid)
    } else {
        let given = SigInfo::from_bytes(&cx.memory.read(info)?);
        if given.signal != signal {
            return fail!(EINVAL);
        }
        let is_to_itself = group.pid == cx.task.pid() && flags != PROCESS_GROUP;
        if (given.code >= 0 || given.code == libc::SI_TKILL) && !is_to_itself {
            return fail!(EPERM);
        }
        given
    };
    check_signal_or_zero(signal)?;
    if cx
        .kernel
        .pids
        .group(group.pid)
        .is_none_or(|now| !Arc::ptr_eq(&now, &group))
    {
        return fail!(ESRCH);
    }
    if flags == PROCESS_GROUP {
        let pids = cx.kernel.pids.lock();
        let members: Vec<_> = pids.group_members(group.pid).map(|p| &p.group).collect();
        return Ok(send_to_all(&pids, cx.task, &members, info)?);
    }
    may_signal(cx.task, &group, signal)?;
    Ok(send_unless_zero(cx.kernel, &group, info)?)
}

impl SyscallCx<'_> {
    /// Block with another signal mask until the call ends, as sigsuspend(2), ppoll(2) and their like do. On the first
    /// run only; a null pointer leaves the mask alone.
    pub fn use_temporary_mask(&mut self, mask: UserRef<SigSet>) -> SysResult<()> {
        if self.state.saved_mask.is_some() {
            return Ok(());
        }
        if let Some(mask) = mask.non_null() {
            let mask = self.memory.read(mask)?;
            self.state.saved_mask = Some(self.task.set_signal_mask(mask));
        }
        Ok(())
    }
}
