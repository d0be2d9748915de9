//! Attempts at host calls, each in a child process of its own: nothing that is tried changes uvm, and a host that kills for
//! a call kills the child.

use std::ffi::CStr;
use std::fmt;
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use guest_runtime::abi::NR_HELLO;
use libc::{c_int, c_ulong};
use nix::errno::Errno;
use nix::fcntl::{self, AT_FDCWD, OFlag, OpenHow, ResolveFlag, open};
use nix::sched::{sched_getaffinity, sched_setaffinity};
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::uio::{self, RemoteIoVec};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, alarm, fork, pause, pipe, read};

use crate::platform::bpf::{Field, Instruction, give, if_equal, load};
use crate::platform::program;
use crate::platform::seccomp::filter::HAND_READ;

/// Seconds after which an attempt counts as failed; none waits for anything outside.
const PATIENCE: u32 = 10;

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The host refused it.
    Failed(Errno),
    /// The host killed the process that tried.
    Killed(Signal),
}

impl From<Errno> for Obstacle {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(errno) => f.write_str(errno.desc()),
            Self::Killed(signal) => write!(f, "the host kills for it ({signal})"),
        }
    }
}

/// Run `attempt` in a child. It may make host calls on memory that it has, and nothing else: no allocation, no locks, as
/// other threads of this process may have held some when it was copied.
pub(super) fn attempt(attempt: impl Fn() -> Result<(), Errno>) -> Result<(), Obstacle> {
    // SAFETY: the child keeps to the rule above and ends in `_exit`.
    match unsafe { fork() }? {
        ForkResult::Child => {
            alarm::set(PATIENCE);
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
            let status = attempt().err().map_or(0, |errno| errno as c_int);
            // SAFETY: it does not return.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Signaled(_, signal, _) => Err(Obstacle::Killed(signal)),
            WaitStatus::Exited(_, errno) => Err(Errno::from_raw(errno).into()),
            _ => Err(Errno::ECHILD.into()),
        },
    }
}

/// In an attempt: call `with` with the id of a child that sleeps.
fn with_child(with: impl FnOnce(Pid) -> Result<(), Errno>) -> Result<(), Errno> {
    // SAFETY: the child makes two host calls.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let _ = set_pdeathsig(Signal::SIGKILL);
            loop {
                pause();
            }
        }
        ForkResult::Parent { child } => {
            let result = with(child);
            kill(child, Signal::SIGKILL)?;
            waitpid(child, None)?;
            result
        }
    }
}

/// Trace a child.
pub(super) fn ptrace() -> Result<(), Errno> {
    with_child(|child| nix::sys::ptrace::seize(child, nix::sys::ptrace::Options::empty()))
}

/// Copy memory from a child.
pub(super) fn process_vm_readv() -> Result<(), Errno> {
    let word = [0u8; 8];
    with_child(|child| {
        let mut copy = [0u8; 8];
        let remote = RemoteIoVec {
            base: word.as_ptr() as usize,
            len: word.len(),
        };
        uio::process_vm_readv(child, &mut [IoSliceMut::new(&mut copy)], &[remote]).map(drop)
    })
}

/// Look at the memory map of a child.
pub(super) fn memory_map() -> Result<(), Errno> {
    with_child(|child| {
        let mut path = [0u8; 32];
        // It fits, with a zero left behind it.
        write!(&mut path[..31], "/proc/{child}/maps").map_err(|_| Errno::ENAMETOOLONG)?;
        let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?;
        let file = open(path, OFlag::O_RDONLY, Mode::empty())?;
        read(&file, &mut [0]).map(drop)
    })
}

/// Walk to a file within a directory.
pub(super) fn openat2() -> Result<(), Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    fcntl::openat2(AT_FDCWD, c"/", how).map(drop)
}

/// A descriptor for a process.
pub(super) fn pidfd_open() -> Result<(), Errno> {
    // SAFETY: no pointers.
    Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) }).map(drop)
}

/// Restrict a thread to the processors that it has anyway.
pub(super) fn affinity() -> Result<(), Errno> {
    let this = Pid::from_raw(0);
    sched_setaffinity(this, &sched_getaffinity(this)?)
}

/// Wait for several futexes at once: for none, which a host that knows the call calls invalid.
pub(super) fn futex_waitv() -> Result<(), Errno> {
    // SAFETY: no list is given.
    match Errno::result(unsafe { libc::syscall(libc::SYS_futex_waitv, 0, 0, 0, 0, 0) }) {
        Err(Errno::EINVAL) => Ok(()),
        other => other.map(drop),
    }
}

/// Let CPUID trap.
pub(super) fn cpuid_faulting() -> Result<(), Errno> {
    const ARCH_SET_CPUID: c_int = 0x1012;
    // SAFETY: no pointers; nothing in the attempt executes CPUID after it.
    Errno::result(unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_CPUID, 0) }).map(drop)
}

/// Let reads of the time stamp counter trap.
pub(super) fn trap_tsc() -> Result<(), Errno> {
    // SAFETY: no pointers; nothing in the attempt reads the counter after it.
    Errno::result(unsafe { libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV as c_ulong) }).map(drop)
}

/// EOPNOTSUPP when SGDT tells where the host's own table is: what the host makes up has no length.
pub(super) fn umip() -> Result<(), Errno> {
    let mut table = [0u8; 16];
    // SAFETY: the instruction writes ten bytes into a live local.
    unsafe { std::arch::asm!("sgdt [{}]", in(reg) table.as_mut_ptr(), options(nostack)) };
    if table[..2] == [0, 0] {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}

/// Put an executable memory file in place of the child.
pub(super) fn memory_file() -> Result<(), Obstacle> {
    // mov eax, SYS_exit; xor edi, edi; syscall
    let exit = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    let file = program::sealed(c"uvm-probe", &program::one_page(&exit, 0))?;
    attempt(|| execute(&file))
}

fn execute(file: &OwnedFd) -> Result<(), Errno> {
    let none: *mut libc::c_char = std::ptr::null_mut();
    let fd = file.as_raw_fd();
    // SAFETY: an empty path, and two lists that consist of their end.
    Errno::result(unsafe { libc::execveat(fd, c"".as_ptr(), &none, &none, libc::AT_EMPTY_PATH) }).map(drop)
}

/// Install a filter.
pub(super) fn filter() -> Result<(), Obstacle> {
    let program = notifying();
    attempt(|| install(0, &program).map(drop))
}

/// Install one and listen for its notifications.
pub(super) fn listener() -> Result<(), Obstacle> {
    let program = notifying();
    attempt(|| install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, &program).map(drop))
}

/// Hand a descriptor to a child that asks for it.
pub(super) fn hand_in() -> Result<(), Obstacle> {
    let program = notifying();
    attempt(|| ask_and_answer(&program))
}

/// A filter that notifies of hand-ins and lets everything else through.
fn notifying() -> Vec<Instruction> {
    let mut program = vec![load(Field::Number)];
    program.extend(if_equal(NR_HELLO as u32, &[give(libc::SECCOMP_RET_USER_NOTIF)]));
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

fn install(flags: c_ulong, program: &[Instruction]) -> Result<RawFd, Errno> {
    #[repr(C)]
    struct Header {
        len: u64,
        filter: *const Instruction,
    }
    let header = Header {
        len: program.len() as u64,
        filter: program.as_ptr(),
    };
    set_no_new_privs()?;
    let mode = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: the program is live, and as long as the header says.
    Errno::result(unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &header) }).map(|fd| fd as RawFd)
}

/// Be told of a call of a child, put a descriptor into it at a number of ours, and answer.
fn ask_and_answer(program: &[Instruction]) -> Result<(), Errno> {
    const ANSWER: i64 = 42;
    let listener = install(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER, program)?;
    let (reader, writer) = pipe()?;
    // SAFETY: the child makes host calls without pointers.
    match unsafe { fork() }? {
        ForkResult::Child => {
            let _ = set_pdeathsig(Signal::SIGKILL);
            // SAFETY: no pointers, and an end.
            unsafe {
                let answer = libc::syscall(NR_HELLO as i64);
                let there = libc::fcntl(HAND_READ.start as RawFd, libc::F_GETFD) != -1;
                libc::_exit(c_int::from(answer != ANSWER || !there))
            }
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let answered =
                wait_for_either(listener, reader.as_raw_fd()).and_then(|()| answer(listener, ANSWER));
            if answered.is_err() {
                kill(child, Signal::SIGKILL)?;
            }
            let ended = waitpid(child, None)?;
            answered?;
            match ended {
                WaitStatus::Exited(_, 0) => Ok(()),
                _ => Err(Errno::EPROTO),
            }
        }
    }
}

/// Wait for a notification; ENOSYS when the one who is to cause it, and holds the other end of the pipe, ends without.
fn wait_for_either(listener: RawFd, pipe: RawFd) -> Result<(), Errno> {
    let mut fds = [listener, pipe].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: a live local of two elements.
    Errno::result(unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) })?;
    if fds[0].revents & libc::POLLIN != 0 {
        Ok(())
    } else {
        Err(Errno::ENOSYS)
    }
}

fn answer(listener: RawFd, value: i64) -> Result<(), Errno> {
    // SAFETY: live locals of integers, zeroed as the host wants them; one that knows longer ones says so by EINVAL.
    unsafe {
        let mut notification: libc::seccomp_notif = std::mem::zeroed();
        Errno::result(libc::ioctl(
            listener,
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &mut notification,
        ))?;
        let added = libc::seccomp_notif_addfd {
            id: notification.id,
            flags: libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            srcfd: listener as u32,
            newfd: HAND_READ.start,
            newfd_flags: 0,
        };
        Errno::result(libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ADDFD, &added))?;
        let mut response: libc::seccomp_notif_resp = std::mem::zeroed();
        response.id = notification.id;
        response.val = value;
        Errno::result(libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &response)).map(drop)
    }
}
