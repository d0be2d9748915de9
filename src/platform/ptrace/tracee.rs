//! The host's ptrace(2) and wait4(2) calls, typed.

use std::mem::{offset_of, size_of};
use std::ptr;

use libc::{c_int, c_void, iovec, pid_t};
use nix::errno::Errno;
use zerocopy::{FromBytes, FromZeros, IntoBytes, KnownLayout};

use crate::platform::Regs;

const NT_PRSTATUS: usize = 1;
const NT_X86_XSTATE: usize = 0x202;

/// Room for the extended state of every CPU known; the host tells the real size.
const XSTATE_MAX: usize = 16 * 1024;

/// A host thread traced by the calling thread. Every call on one that died gives ESRCH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tracee(pub(super) pid_t);

/// `siginfo_t` of signals that the host itself makes.
#[repr(C)]
#[derive(FromBytes, IntoBytes, KnownLayout)]
pub(super) struct SigInfo {
    pub(super) signal: c_int,
    errno: c_int,
    pub(super) code: c_int,
    pad: c_int,
    /// Of the fault, or of a filtered syscall.
    pub(super) addr: u64,
    /// Number of a filtered syscall.
    pub(super) syscall: c_int,
    arch: u32,
    rest: [u64; 12],
}

/// How to let a tracee run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    /// Syscalls are the host's: only for our own code in the platform's page.
    Host,
    /// Syscalls stop before they happen and never reach the host.
    Guest,
    /// As `Guest`, for one instruction.
    GuestStep,
}

/// What the host reported of a tracee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Exited or killed, and reaped.
    Gone,
    /// About to make a syscall, which is skipped.
    Syscall,
    /// PTRACE_EVENT_STOP: interrupted, newly made, or a group stop.
    Paused,
    /// PTRACE_EVENT_EXEC.
    Exec,
    /// About to receive a signal.
    Signal(c_int),
}

impl Tracee {
    /// The one whose id clone(2) returned.
    pub(super) fn from_result(tid: u64) -> Result<Tracee, Errno> {
        pid_t::try_from(tid).map(Tracee).map_err(|_| Errno::ESRCH)
    }

    fn request(self, request: c_int, addr: usize, data: usize) -> Result<(), Errno> {
        // SAFETY: callers pass requests whose address and data are either plain numbers or point to live, exclusively
        // borrowed memory of the size the request wants; the tracee's memory is not ours.
        let rc = unsafe { libc::ptrace(request as _, self.0, addr as *mut c_void, data as *mut c_void) };
        Errno::result(rc).map(drop)
    }

    /// Begin to trace without stopping; the tracee and all it makes die with this thread.
    pub(super) fn seize(self) -> Result<(), Errno> {
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACEEXEC;
        self.request(libc::PTRACE_SEIZE as c_int, 0, options as usize)
    }

    /// Ask a running tracee to stop with [`Status::Paused`].
    pub(super) fn interrupt(self) -> Result<(), Errno> {
        self.request(libc::PTRACE_INTERRUPT as c_int, 0, 0)
    }

    /// Run on without a signal.
    pub(super) fn go(self, how: Go) -> Result<(), Errno> {
        let request = match how {
            Go::Host => libc::PTRACE_CONT,
            Go::Guest => libc::PTRACE_SYSEMU,
            Go::GuestStep => libc::PTRACE_SYSEMU_SINGLESTEP,
        };
        self.request(request as c_int, 0, 0)
    }

    /// All general registers.
    pub(super) fn regs(self) -> Result<Regs, Errno> {
        let mut regs = Regs::new_zeroed();
        let n = self.get_set(NT_PRSTATUS, regs.as_mut_bytes())?;
        if n != size_of::<Regs>() {
            // In a 32-bit code segment, where that set has another layout; this request does not ask.
            let buf = regs.as_mut_bytes().as_mut_ptr() as usize;
            self.request(libc::PTRACE_GETREGS as c_int, 0, buf)?;
        }
        Ok(regs)
    }

    /// Set the registers from r15 to ss; the segment registers and bases behind them stay.
    pub(super) fn set_general(self, regs: &Regs) -> Result<(), Errno> {
        self.put_set(NT_PRSTATUS, &regs.as_bytes()[..offset_of!(Regs, fs_base)])
    }

    /// Set one register by its offset in [`Regs`].
    pub(super) fn poke_user(self, offset: usize, value: u64) -> Result<(), Errno> {
        self.request(libc::PTRACE_POKEUSER as c_int, offset, value as usize)
    }

    /// The XSAVE image.
    pub(super) fn xstate(self) -> Result<Vec<u8>, Errno> {
        let mut image = vec![0; XSTATE_MAX];
        let n = self.get_set(NT_X86_XSTATE, &mut image)?;
        image.truncate(n);
        Ok(image)
    }

    /// Replace the XSAVE image; the host checks it.
    pub(super) fn set_xstate(self, image: &[u8]) -> Result<(), Errno> {
        self.put_set(NT_X86_XSTATE, image)
    }

    fn get_set(self, set: usize, buf: &mut [u8]) -> Result<usize, Errno> {
        let mut iov = iovec {
            iov_base: buf.as_mut_ptr().cast(),
            iov_len: buf.len(),
        };
        self.request(libc::PTRACE_GETREGSET as c_int, set, &raw mut iov as usize)?;
        Ok(iov.iov_len)
    }

    fn put_set(self, set: usize, buf: &[u8]) -> Result<(), Errno> {
        let iov = iovec {
            iov_base: buf.as_ptr().cast_mut().cast(),
            iov_len: buf.len(),
        };
        self.request(libc::PTRACE_SETREGSET as c_int, set, &raw const iov as usize)
    }

    /// The signal that the tracee is about to receive.
    pub(super) fn siginfo(self) -> Result<SigInfo, Errno> {
        let mut info = SigInfo::new_zeroed();
        self.request(
            libc::PTRACE_GETSIGINFO as c_int,
            0,
            info.as_mut_bytes().as_mut_ptr() as usize,
        )?;
        Ok(info)
    }

    /// Whether the syscall that the tracee is stopped at was made the 64-bit way.
    pub(super) fn syscall_is_64bit(self) -> Result<bool, Errno> {
        const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
        // struct ptrace_syscall_info begins with op (1 byte), padding (3) and arch (4).
        let mut info = [0u8; 8];
        self.request(
            libc::PTRACE_GET_SYSCALL_INFO as c_int,
            info.len(),
            info.as_mut_ptr() as usize,
        )?;
        let arch = u32::read_from_bytes(&info[4..8]).unwrap_or(0);
        Ok(arch == AUDIT_ARCH_X86_64)
    }

    /// SIGKILL the whole process. Only for one that this thread has not reaped yet.
    pub(super) fn kill_process(self) {
        // SAFETY: kill takes plain numbers; the id is still ours as nobody else can reap it.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }
}

impl Status {
    fn decode(raw: c_int) -> Status {
        if !libc::WIFSTOPPED(raw) {
            return Status::Gone;
        }
        match (raw >> 16, libc::WSTOPSIG(raw)) {
            (0, s) if s == libc::SIGTRAP | 0x80 => Status::Syscall,
            (0, s) => Status::Signal(s),
            (libc::PTRACE_EVENT_EXEC, _) => Status::Exec,
            _ => Status::Paused,
        }
    }
}

/// Wait until this tracee stops or is gone.
pub(super) fn wait_one(tracee: Tracee) -> Status {
    loop {
        match wait(tracee.0, 0) {
            Ok(Some((_, status))) => return status,
            Ok(None) | Err(Errno::EINTR) => {}
            Err(_) => return Status::Gone,
        }
    }
}

/// Wait for any child or tracee of this host thread; none when there is nothing to report and `block` is off.
/// ECHILD when there are none at all, EINTR when a signal came.
pub(super) fn wait_any(block: bool) -> Result<Option<(Tracee, Status)>, Errno> {
    // Other host threads of the supervisor may have children of their own.
    wait(-1, libc::__WNOTHREAD | if block { 0 } else { libc::WNOHANG })
}

fn wait(pid: pid_t, flags: c_int) -> Result<Option<(Tracee, Status)>, Errno> {
    let mut raw = 0;
    // SAFETY: the status is a live local, and no rusage is asked for.
    let rc = unsafe { libc::wait4(pid, &mut raw, flags | libc::__WALL, ptr::null_mut()) };
    let pid = Errno::result(rc)?;
    Ok((pid != 0).then(|| (Tracee(pid), Status::decode(raw))))
}
