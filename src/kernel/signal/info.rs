//! What a signal carries: siginfo_t of sigaction(2).

use super::Signal;

/// A queued signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigInfo {
    /// Its number.
    pub signal: Signal,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`: SI_USER, SI_KERNEL, CLD_*, SEGV_* ...
    pub code: i32,
    /// The fields that `code` brings with it.
    pub fields: SigFields,
}

/// The union of `siginfo_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SigFields {
    None,
    /// kill(2), tgkill(2)
    Kill {
        pid: i32,
        uid: u32,
    },
    /// sigqueue(3)
    Queue {
        pid: i32,
        uid: u32,
        value: u64,
    },
    /// POSIX timers
    Timer {
        id: i32,
        overrun: i32,
        value: u64,
    },
    /// SIGCHLD
    Child {
        pid: i32,
        uid: u32,
        status: i32,
        utime: i64,
        stime: i64,
    },
    /// Faults
    Fault {
        addr: u64,
        trapno: u64,
        error: u64,
    },
    /// SIGIO
    Poll {
        band: i64,
        fd: i32,
    },
    /// SIGSYS
    Sys {
        addr: u64,
        nr: i32,
        arch: u32,
    },
    /// rt_sigqueueinfo(2) with a code of the sender's own: the union's bytes as given
    Raw([u8; 112]),
}

impl SigInfo {
    /// Sent by the kernel itself (SI_KERNEL).
    pub fn kernel(signal: Signal) -> SigInfo {
        SigInfo {
            signal,
            errno: 0,
            code: libc::SI_KERNEL,
            fields: SigFields::None,
        }
    }

    /// Sent by kill(2) from a process.
    pub fn user(signal: Signal, pid: i32, uid: u32) -> SigInfo {
        SigInfo {
            signal,
            errno: 0,
            code: libc::SI_USER,
            fields: SigFields::Kill { pid, uid },
        }
    }
}
