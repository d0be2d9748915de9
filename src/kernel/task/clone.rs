//! fork(2), vfork(2), clone(2), clone3(2).

use std::sync::Arc;

use bitflags::bitflags;

use super::pids::Process;
use super::{Capability, Parts, Pid, Shared, Task, TaskState, ThreadGroup, pidfd, ptrace, vfork};
use crate::kernel::abi::task::CloneArgs;
use crate::kernel::fs::{Fd, OpenFlags};
use crate::kernel::signal::{self, AltStack, PendingSignals, SigHand, SignalState};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::time;
use crate::kernel::user_memory::{UserAddr, UserRef};
use crate::kernel::wait::{OnSignal, WaitFor};
use crate::platform::{ForkKind, PAGE_SIZE, Thread, USER_END};

/// How long a call waits on a full machine, in nanoseconds.
const FULL_PAUSE: u64 = 200_000_000;

bitflags! {
    /// Flags of clone(2) with the values of CLONE_*, without the exit signal in the low byte.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct CloneFlags: u64 {
        const VM = 0x100;
        const FS = 0x200;
        const FILES = 0x400;
        const SIGHAND = 0x800;
        const PIDFD = 0x1000;
        const VFORK = 0x4000;
        const PARENT = 0x8000;
        const THREAD = 0x1_0000;
        const NEWNS = 0x2_0000;
        const SETTLS = 0x8_0000;
        const PARENT_SETTID = 0x10_0000;
        const CHILD_CLEARTID = 0x20_0000;
        const DETACHED = 0x40_0000;
        const CHILD_SETTID = 0x100_0000;
        const NEWCGROUP = 0x200_0000;
        const NEWUTS = 0x400_0000;
        const NEWIPC = 0x800_0000;
        const NEWUSER = 0x1000_0000;
        const NEWPID = 0x2000_0000;
        const NEWNET = 0x4000_0000;
        const CLEAR_SIGHAND = 0x1_0000_0000;
        const INTO_CGROUP = 0x2_0000_0000;
        const NEWTIME = 0x80;
    }
}

/// All that asks for a namespace of its own.
const NAMESPACES: CloneFlags = CloneFlags::NEWNS
    .union(CloneFlags::NEWCGROUP)
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWUSER)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWNET)
    .union(CloneFlags::NEWTIME);

/// What the flavours of clone have in common.
struct Request {
    flags: CloneFlags,
    exit_signal: i32,
    /// Initial stack pointer; 0 for the caller's.
    stack: u64,
    tls: u64,
    pidfd: UserAddr,
    parent_tid: UserAddr,
    child_tid: UserAddr,
}

/// What the parent of vfork(2) remembers while it waits.
struct Waiting {
    child: Pid,
    release: Arc<vfork::Release>,
}

/// fork(2).
pub(super) fn fork(cx: &mut SyscallCx<'_>) -> SysResult<Pid> {
    clone_with(cx, &Request::plain(CloneFlags::empty()))
}

/// vfork(2).
pub(super) fn vfork(cx: &mut SyscallCx<'_>) -> SysResult<Pid> {
    clone_with(cx, &Request::plain(CloneFlags::VFORK | CloneFlags::VM))
}

/// clone(2), in the argument order of x86-64.
pub(super) fn clone(
    cx: &mut SyscallCx<'_>,
    flags: u64,
    stack: u64,
    parent_tid: UserAddr,
    child_tid: UserAddr,
    tls: u64,
) -> SysResult<Pid> {
    // The low byte is the signal, so CLONE_NEWTIME cannot be asked for; high bits are clone3(2)'s alone.
    let request = Request {
        flags: CloneFlags::from_bits_truncate(flags & 0xffff_ff00),
        exit_signal: i32::from(u8::try_from(flags & 0xff).unwrap_or(0)),
        stack,
        tls,
        pidfd: parent_tid,
        parent_tid,
        child_tid,
    };
    if request
        .flags
        .contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID)
    {
        return fail!(EINVAL);
    }
    clone_with(cx, &request)
}

/// clone3(2).
pub(super) fn clone3(cx: &mut SyscallCx<'_>, args: UserRef<CloneArgs>, size: u64) -> SysResult<Pid> {
    let args = read_args(cx, args, size)?;
    let known = CloneFlags::all() - CloneFlags::DETACHED;
    let Some(flags) = CloneFlags::from_bits(args.flags & !IGNORED_FLAGS).filter(|f| known.contains(*f))
    else {
        return fail!(EINVAL);
    };
    let exit_signal = match i32::try_from(args.exit_signal) {
        Ok(signal) if (0..=64).contains(&signal) => signal,
        _ => return fail!(EINVAL),
    };
    let stack = match (args.stack, args.stack_size) {
        (0, 0) => 0,
        (0, _) | (_, 0) => return fail!(EINVAL),
        (stack, size) => match stack.checked_add(size) {
            Some(top) if top <= USER_END => top,
            _ => return fail!(EINVAL),
        },
    };
    if (args.set_tid == 0) != (args.set_tid_size == 0) || args.set_tid_size > 32 {
        return fail!(EINVAL);
    }
    if flags.contains(CloneFlags::CLEAR_SIGHAND | CloneFlags::SIGHAND)
        || flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT) && exit_signal != 0
    {
        return fail!(EINVAL);
    }
    // There are no cgroups, so no descriptor of one; choosing ids is for checkpoint and restore.
    if flags.contains(CloneFlags::INTO_CGROUP) {
        return fail!(EBADF);
    }
    if args.set_tid_size != 0 {
        return fail!(EPERM);
    }
    clone_with(
        cx,
        &Request {
            flags,
            exit_signal,
            stack,
            tls: args.tls,
            pidfd: UserAddr(args.pidfd),
            parent_tid: UserAddr(args.parent_tid),
            child_tid: UserAddr(args.child_tid),
        },
    )
}

/// CLONE_PTRACE, CLONE_SYSVSEM, CLONE_UNTRACED and CLONE_IO change nothing that a guest could see.
const IGNORED_FLAGS: u64 = 0x2000 | 0x4_0000 | 0x80_0000 | 0x8000_0000;

/// Read `struct clone_args` of any size: EINVAL below the first version, E2BIG for non-zero bytes we do not know.
fn read_args(cx: &SyscallCx<'_>, args: UserRef<CloneArgs>, size: u64) -> SysResult<CloneArgs> {
    if size > PAGE_SIZE {
        return fail!(E2BIG);
    }
    if size < 64 {
        return fail!(EINVAL);
    }
    let mut bytes = vec![0; size as usize];
    cx.memory.read_bytes(args.addr(), &mut bytes)?;
    let known = size_of::<CloneArgs>();
    if bytes.iter().skip(known).any(|&b| b != 0) {
        return fail!(E2BIG);
    }
    bytes.resize(known, 0);
    Ok(zerocopy::FromBytes::read_from_bytes(&bytes).map_err(|_| Errno::EINVAL)?)
}

impl Request {
    fn plain(flags: CloneFlags) -> Request {
        Request {
            flags,
            exit_signal: libc::SIGCHLD,
            stack: 0,
            tls: 0,
            pidfd: UserAddr(0),
            parent_tid: UserAddr(0),
            child_tid: UserAddr(0),
        }
    }

    fn has(&self, flags: CloneFlags) -> bool {
        self.flags.contains(flags)
    }

    /// Combinations that make no sense, in Linux's order.
    fn check(&self, caller: &Task) -> Result<(), Errno> {
        let f = self.flags;
        if f.contains(CloneFlags::NEWNS | CloneFlags::FS)
            || f.contains(CloneFlags::NEWUSER | CloneFlags::FS)
            || f.contains(CloneFlags::THREAD) && !f.contains(CloneFlags::SIGHAND)
            || f.contains(CloneFlags::SIGHAND) && !f.contains(CloneFlags::VM)
            || f.contains(CloneFlags::PARENT) && caller.pid() == 1
            || f.contains(CloneFlags::THREAD) && f.intersects(CloneFlags::NEWUSER | CloneFlags::NEWPID)
            || f.contains(CloneFlags::PIDFD) && f.intersects(CloneFlags::DETACHED | CloneFlags::THREAD)
        {
            return Err(Errno::EINVAL);
        }
        if f.intersects(NAMESPACES) {
            // As for a user without CAP_SYS_ADMIN where user namespaces are off.
            return Err(Errno::EPERM);
        }
        if f.contains(CloneFlags::SETTLS) && self.tls >= USER_END {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// What a tracer calls it.
    fn event(&self) -> u32 {
        if self.has(CloneFlags::VFORK) {
            ptrace::EVENT_VFORK
        } else if self.has(CloneFlags::THREAD) || self.exit_signal != libc::SIGCHLD {
            ptrace::EVENT_CLONE
        } else {
            ptrace::EVENT_FORK
        }
    }

    fn fork_kind(&self) -> ForkKind {
        if self.has(CloneFlags::THREAD) {
            ForkKind::Thread
        } else if self.has(CloneFlags::VM) {
            ForkKind::Share
        } else {
            ForkKind::Copy
        }
    }
}

fn clone_with(cx: &mut SyscallCx<'_>, request: &Request) -> SysResult<Pid> {
    if let Some(waiting) = waiting(cx) {
        return finish_vfork(cx.task, waiting);
    }
    request.check(cx.task)?;
    let tid = reserve(cx)?;
    let made = make(cx, request, tid);
    if made.is_err() {
        cx.kernel.pids.lock().release(tid);
    }
    let release = made?;
    let Some(release) = release else {
        return Ok(tid);
    };
    cx.state.data = Some(Box::new(Waiting { child: tid, release }));
    waiting(cx).map_or(Ok(tid), |waiting| finish_vfork(cx.task, waiting))
}

fn waiting<'a>(cx: &'a SyscallCx<'_>) -> Option<&'a Waiting> {
    cx.state.data.as_ref()?.downcast_ref()
}

fn finish_vfork(task: &Task, waiting: &Waiting) -> SysResult<Pid> {
    if let Some(wait) = waiting.release.wait() {
        return Err(wait.into());
    }
    if task.is_traced() {
        task.trace_event(ptrace::EVENT_VFORK_DONE, waiting.child.cast_unsigned().into());
    }
    Ok(waiting.child)
}

/// An id for the child, within RLIMIT_NPROC. On a machine that is full of tasks the call waits a little before it says so:
/// a crowd that tries again without end would leave nobody else any time.
fn reserve(cx: &mut SyscallCx<'_>) -> SysResult<Pid> {
    let full = match allocate(cx)? {
        Ok(tid) => return Ok(tid),
        Err(full) => full,
    };
    let pause = cx.deadline(|kernel| Some(kernel.clock.now().after(FULL_PAUSE)));
    if cx.timed_out() {
        return Err(full.into());
    }
    Err(WaitFor::signal()
        .until(pause)
        .on_signal(OnSignal::AlwaysRestart)
        .into())
}

/// An id within RLIMIT_NPROC; inside, why the machine has none.
fn allocate(cx: &SyscallCx<'_>) -> Result<Result<Pid, Errno>, Errno> {
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NPROC);
    let creds = cx.task.creds();
    let exempt =
        creds.uid == 0 || creds.capable(Capability::SysResource) || creds.capable(Capability::SysAdmin);
    let mut pids = cx.kernel.pids.lock();
    if !exempt {
        let own = pids.tasks.values().filter(|t| t.creds().uid == creds.uid).count();
        if own as u64 >= limit {
            return Err(Errno::EAGAIN);
        }
    }
    Ok(pids.allocate())
}

/// Make the child and start it.
fn make(cx: &mut SyscallCx<'_>, request: &Request, tid: Pid) -> SysResult<Option<Arc<vfork::Release>>> {
    let group = if request.has(CloneFlags::THREAD) {
        cx.task.group.clone()
    } else {
        let exit_signal = if request.has(CloneFlags::PARENT) {
            cx.task.group.exit_signal()
        } else {
            request.exit_signal
        };
        let limits = cx.task.group.state.lock().limits.clone();
        ThreadGroup::new(tid, exit_signal, limits)
    };
    let pidfd = if request.has(CloneFlags::PIDFD) {
        Some(install_pidfd(cx, request, &group)?)
    } else {
        None
    };
    let made = fork_thread(cx, request, tid, group);
    if made.is_err()
        && let Some(fd) = pidfd
    {
        let _ = cx.task.files().remove(fd);
    }
    made
}

fn install_pidfd(cx: &SyscallCx<'_>, request: &Request, group: &Arc<ThreadGroup>) -> SysResult<Fd> {
    let file = pidfd::file(cx, group.clone(), OpenFlags::empty());
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    let fd = cx.task.files().insert(file, true, 0, limit)?;
    if let Err(errno) = cx.memory.write(request.pidfd.cast(), &fd.0) {
        let _ = cx.task.files().remove(fd);
        return Err(errno.into());
    }
    Ok(fd)
}

fn fork_thread(
    cx: &mut SyscallCx<'_>,
    request: &Request,
    tid: Pid,
    group: Arc<ThreadGroup>,
) -> SysResult<Option<Arc<vfork::Release>>> {
    let mut thread = cx.thread.fork(request.fork_kind()).map_err(|errno| {
        tracing::debug!(pid = cx.task.pid(), %errno, "the platform makes no thread");
        match errno {
            Errno::ENOMEM => Errno::ENOMEM,
            // Whatever the host has run out of, Linux calls it this.
            _ => Errno::EAGAIN,
        }
    })?;
    set_registers(&mut *thread, request);
    let child = Task::build(
        Parts {
            tid,
            kernel: cx.kernel.clone(),
            group,
            shared: child_shared(cx.task, request, &*thread),
            state: child_state(cx, request),
            signals: child_signals(cx.task, request),
        },
        thread.handle(),
    );
    let affinity = child.state.lock().sched.affinity.clone();
    if let Some(mask) = affinity {
        let _ = thread.set_affinity(&mask);
    }
    if request.has(CloneFlags::CHILD_SETTID) {
        // As on Linux a bad address goes unnoticed.
        let _ = child.memory().write(request.child_tid.cast(), &tid);
    }
    let release = request.has(CloneFlags::VFORK).then(|| {
        let release = Arc::new(vfork::Release::default());
        *child.vfork.lock() = Some(release.clone());
        release
    });
    if let Err(stop) = enter(cx, request, &child) {
        child.mm().drop_user();
        child.files().drop_user();
        return Err(stop);
    }
    if !request.has(CloneFlags::THREAD) && child.group.soft_limit(libc::RLIMIT_CPU) != u64::MAX {
        time::watch_cpu_limit(&child);
    }
    if request.has(CloneFlags::PARENT_SETTID) {
        let _ = cx.memory.write(request.parent_tid.cast(), &tid);
    }
    if !request.has(CloneFlags::VM) {
        child.mm().set_free(&child);
    }
    let traced = cx.task.is_traced() && cx.task.trace_event(request.event(), tid.cast_unsigned().into());
    let thread = if traced {
        cx.task.inherit_trace(&child, thread)
    } else {
        Some(thread)
    };
    if let Some(thread) = thread {
        child.start(thread);
    }
    Ok(release)
}

fn set_registers(thread: &mut dyn Thread, request: &Request) {
    let regs = thread.regs_mut();
    regs.rax = 0;
    if request.stack != 0 {
        regs.rsp = request.stack;
    }
    if request.has(CloneFlags::SETTLS) {
        regs.fs_base = request.tls;
    }
}

/// Enter the child into its process and the process tree. EAGAIN when the caller's process is ending meanwhile. A fork
/// is made again after signals that came before it: one that is for all processes of a group must not miss the child.
fn enter(cx: &SyscallCx<'_>, request: &Request, child: &Arc<Task>) -> SysResult<()> {
    let mut pids = cx.kernel.pids.lock();
    if cx.task.is_dying() {
        // Of a SIGKILL to all of its group, perhaps: that one is not queued.
        return fail!(EAGAIN);
    }
    if !request.has(CloneFlags::THREAD) && signal::is_pending(cx.task) {
        drop(pids);
        cx.task.kick_self();
        return Err(WaitFor::default().on_signal(OnSignal::AlwaysRestart).into());
    }
    {
        let mut state = child.group.state.lock();
        if state.exiting.is_some() || state.exec_by.is_some() {
            return fail!(EAGAIN);
        }
        state.threads.push(child.clone());
        if state.stopped.is_some() {
            // It stops with the others before its first instruction.
            child.kick_self();
        }
    }
    let process = if request.has(CloneFlags::THREAD) {
        None
    } else {
        let own = pids.processes.get(&cx.task.pid()).ok_or(Errno::EAGAIN)?;
        let (parent, parent_thread) = if request.has(CloneFlags::PARENT) {
            (own.parent, own.parent_thread)
        } else {
            (cx.task.pid(), cx.task.tid())
        };
        Some(Process {
            group: child.group.clone(),
            parent,
            parent_thread,
            children: Default::default(),
            pgid: own.pgid,
            sid: own.sid,
            zombie: None,
        })
    };
    pids.add(child, process);
    if let Some(own) = pids.processes.get(&child.pid()) {
        child.tell_parent(own.parent);
    }
    Ok(())
}

fn child_shared(parent: &Task, request: &Request, thread: &dyn Thread) -> Shared {
    let shared = parent.shared.lock().clone();
    let fs = if request.has(CloneFlags::FS) {
        shared.fs
    } else {
        let copy = shared.fs.lock().clone();
        Arc::new(Lock::new(Rank::FsContext, copy))
    };
    let files = if request.has(CloneFlags::FILES) {
        shared.files
    } else {
        shared.files.copy()
    };
    let mm = if request.has(CloneFlags::VM) {
        shared.mm
    } else {
        shared.mm.forked(thread.space().clone())
    };
    let sighand = if request.has(CloneFlags::SIGHAND) {
        shared.sighand
    } else if request.has(CloneFlags::CLEAR_SIGHAND) {
        SigHand::new()
    } else {
        shared.sighand.copy()
    };
    Shared {
        files,
        fs,
        mm,
        sighand,
        creds: shared.creds,
    }
}

fn child_state(cx: &SyscallCx<'_>, request: &Request) -> TaskState {
    let mut state = cx.task.state.lock().clone();
    state.clear_child_tid = if request.has(CloneFlags::CHILD_CLEARTID) {
        request.child_tid.0
    } else {
        0
    };
    state.robust_list = 0;
    state.pdeath_signal = 0;
    state.blocked_in = None;
    state.exit_status = None;
    state.earlier_cpu = (0, 0);
    state.started = cx.kernel.clock.now();
    if state.sched.reset_on_fork {
        state.sched.reset_on_fork = false;
        state.sched.policy = libc::SCHED_OTHER;
        state.sched.priority = 0;
        state.nice = state.nice.max(0);
    }
    state
}

fn child_signals(parent: &Task, request: &Request) -> SignalState {
    let signals = parent.signals.lock();
    // A thread that shares memory but runs at the same time must not share the stack.
    let fresh_stack = request.has(CloneFlags::VM) && !request.has(CloneFlags::VFORK);
    SignalState {
        mask: signals.mask,
        pending: PendingSignals::default(),
        altstack: if fresh_stack {
            AltStack::default()
        } else {
            signals.altstack
        },
    }
}
