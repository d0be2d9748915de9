//! Starting the first stub: fork, shed everything of the supervisor's, execveat.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use libc::{c_int, c_ulong};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::tracee::{Go, Status, Tracee, wait_one};

/// The most that the main stack of a guest may grow to, in bytes; also how far below the top of the address space the host
/// starts to place mappings. The host's hard limit may make it less.
const STACK: u64 = 1 << 30;

/// Fork a traced process that executes `image` with `socket` as its only descriptor, 0. It is returned stopped at its
/// first trap instruction. `ours` is the other end of the socket.
pub(super) fn launch(image: &OwnedFd, socket: &OwnedFd, ours: &OwnedFd) -> Result<Tracee, Errno> {
    // SAFETY: plain numbers.
    let parent = unsafe { libc::getpid() };
    // SAFETY: the child makes only async-signal-safe host calls on copies of plain numbers, and ends in execveat or _exit.
    let pid = Errno::result(unsafe { libc::fork() })?;
    if pid == 0 {
        child(image.as_raw_fd(), socket.as_raw_fd(), parent);
    }
    let tracee = Tracee(pid);
    trace_exec(tracee, ours).inspect_err(|_| {
        tracee.kill_process();
        while wait_one(tracee) != Status::Gone {}
    })?;
    Ok(tracee)
}

fn trace_exec(tracee: Tracee, ours: &OwnedFd) -> Result<(), Errno> {
    tracee.seize()?;
    // The child waits for this byte: nothing is executed untraced.
    send(ours.as_raw_fd(), b"x", MsgFlags::MSG_NOSIGNAL)?;
    let mut executed = false;
    loop {
        match wait_one(tracee) {
            Status::Signal(libc::SIGTRAP) if executed => return Ok(()),
            Status::Exec => {
                executed = true;
                tracee.go(Go::Host)?;
            }
            Status::Gone => {
                // The child sent the errno of what failed, if it could.
                let mut code = [0u8; 4];
                let n = nix::sys::socket::recv(ours.as_raw_fd(), &mut code, MsgFlags::MSG_DONTWAIT);
                return Err(match n {
                    Ok(4) => Errno::from_raw(i32::from_ne_bytes(code)),
                    _ => Errno::ECHILD,
                });
            }
            _ => tracee.go(Go::Host)?,
        }
    }
}

/// In the child of a possibly multi-threaded process: only raw host calls, no allocation, no locks.
fn child(image: RawFd, socket: RawFd, parent: libc::pid_t) -> ! {
    let code = match become_stub(image, socket, parent) {
        Ok(never) => match never {},
        Err(errno) => errno as i32,
    };
    let bytes = code.to_ne_bytes();
    // SAFETY: a live local buffer, then the end of this process.
    unsafe {
        libc::send(socket, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL);
        libc::send(0, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL);
        libc::_exit(1)
    }
}

fn become_stub(image: RawFd, socket: RawFd, parent: libc::pid_t) -> Result<std::convert::Infallible, Errno> {
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

        let image = Errno::result(libc::fcntl(image, libc::F_DUPFD, 3))?;
        let socket = Errno::result(libc::fcntl(socket, libc::F_DUPFD, 3))?;
        Errno::result(libc::dup2(socket, 0))?;
        Errno::result(libc::dup3(image, 1, libc::O_CLOEXEC))?;
        Errno::result(libc::syscall(libc::SYS_close_range, 2, c_int::MAX, 0))?;

        let mut byte = 0u8;
        Errno::result(libc::recv(0, (&raw mut byte).cast(), 1, 0))?;
        let name: &CStr = c"uvm-stub";
        let argv = [name.as_ptr().cast_mut(), std::ptr::null_mut()];
        let envp = [std::ptr::null_mut()];
        Err(Errno::result(libc::execveat(
            1,
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        ))
        .err()
        .unwrap_or(Errno::ENOEXEC))
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
