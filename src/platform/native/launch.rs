//! Starting the first stub of a platform: fork, shed everything of the supervisor's, execveat.

use std::convert::Infallible;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::{c_int, c_ulong, pid_t};
use nix::errno::Errno;

/// The stack limit of stubs, in bytes. It is also how far below the top of the address space, at least, the host starts to place
/// mappings, and must reach below [`USER_END`](crate::platform::USER_END). The host's hard limit may make it less.
const STACK: u64 = 8 << 30;

/// Lower descriptors are those that the stub shall have; copies wait above.
const HIGH: RawFd = 64;

/// What the first stub begins with.
pub(in crate::platform) struct Stub<'a> {
    /// The program.
    pub(in crate::platform) program: &'a OwnedFd,
    /// Its descriptors, each with the number it gets. The first is a socket, by which the errno of what failed is sent.
    pub(in crate::platform) descriptors: &'a [(BorrowedFd<'a>, RawFd)],
    /// Wait for a byte on the socket before anything is executed.
    pub(in crate::platform) wait: bool,
}

/// Fork a process that becomes `stub`; its id.
pub(in crate::platform) fn launch(stub: &Stub<'_>) -> Result<pid_t, Errno> {
    // SAFETY: plain numbers.
    let parent = unsafe { libc::getpid() };
    // SAFETY: the child makes only async-signal-safe host calls on copies of plain numbers, and ends in execveat or _exit.
    let pid = Errno::result(unsafe { libc::fork() })?;
    if pid == 0 {
        child(stub, parent);
    }
    Ok(pid)
}

/// In the child of a possibly multi-threaded process: only raw host calls, no allocation, no locks.
fn child(stub: &Stub<'_>, parent: pid_t) -> ! {
    let code = match become_stub(stub, parent) {
        Ok(never) => match never {},
        Err(errno) => errno as i32,
    };
    let bytes = code.to_ne_bytes();
    for (socket, number) in stub.descriptors.iter().take(1) {
        for fd in [socket.as_raw_fd(), *number] {
            // SAFETY: a live local buffer; one of the two is the socket, the other is harmless or not open.
            unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
        }
    }
    // SAFETY: the end of this process.
    unsafe { libc::_exit(1) }
}

fn become_stub(stub: &Stub<'_>, parent: pid_t) -> Result<Infallible, Errno> {
    // SAFETY: plain numbers, and addresses of live locals; see `child` for the state of this process.
    unsafe {
        // Signals of a terminal go to its foreground process group, which a stub is never in.
        Errno::result(libc::setsid())?;
        Errno::result(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong))?;
        if libc::getppid() != parent {
            return Err(Errno::ESRCH);
        }
        Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, 0, 0, 0))?;
        default_signals();
        limit(libc::RLIMIT_CORE, 0);
        limit(libc::RLIMIT_STACK, STACK);
        let persona = libc::personality(0xffff_ffff);
        libc::personality((persona & libc::ADDR_NO_RANDOMIZE) as c_ulong);
        Errno::result(libc::chdir(c"/".as_ptr()))?;

        let program = Errno::result(libc::fcntl(stub.program.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH))?;
        let mut copies = [-1; 4];
        for (copy, (fd, _)) in copies.iter_mut().zip(stub.descriptors) {
            *copy = Errno::result(libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH))?;
        }
        Errno::result(libc::syscall(libc::SYS_close_range, 0, HIGH - 1, 0))?;
        for (copy, (_, number)) in copies.iter().zip(stub.descriptors) {
            Errno::result(libc::dup2(*copy, *number))?;
        }
        // Not the C library's: the highest possible descriptor is there to be closed too.
        Errno::result(libc::syscall(
            libc::SYS_close_range,
            HIGH,
            c_int::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        ))?;

        if stub.wait
            && let Some((_, socket)) = stub.descriptors.first()
        {
            let mut byte = 0u8;
            Errno::result(libc::recv(*socket, (&raw mut byte).cast(), 1, 0))?;
        }
        let name: &CStr = c"uvm-stub";
        let argv = [name.as_ptr().cast_mut(), std::ptr::null_mut()];
        let envp = [std::ptr::null_mut()];
        let rc = libc::execveat(
            program,
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        Err(Errno::result(rc).err().unwrap_or(Errno::ENOEXEC))
    }
}

/// Default dispositions (execve keeps ignored ones) and an empty mask.
///
/// # Safety
/// For the child of a fork that is about to execute another program.
unsafe fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL has no handler to get wrong; numbers that the C library keeps for itself are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: a live local, which sigemptyset initialises.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
    }
}

/// Set the soft limit to `value` or, when the hard limit is lower, to that. Best effort.
///
/// # Safety
/// For the child of a fork that is about to execute another program.
unsafe fn limit(resource: libc::__rlimit_resource_t, value: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a live local.
    unsafe {
        if libc::getrlimit(resource, &mut limit) == 0 {
            limit.rlim_cur = value.min(limit.rlim_max);
            libc::setrlimit(resource, &limit);
        }
    }
}
