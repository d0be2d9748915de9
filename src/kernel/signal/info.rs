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

impl SigInfo {
    /// As `siginfo_t` in guest memory.
    pub fn to_bytes(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &self.signal.to_le_bytes());
        put(4, &self.errno.to_le_bytes());
        put(8, &self.code.to_le_bytes());
        match self.fields {
            SigFields::None => {}
            SigFields::Kill { pid, uid } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
            }
            SigFields::Queue { pid, uid, value } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
            SigFields::Timer { id, overrun, value } => {
                put(16, &id.to_le_bytes());
                put(20, &overrun.to_le_bytes());
                put(24, &value.to_le_bytes());
            }
            SigFields::Child {
                pid,
                uid,
                status,
                utime,
                stime,
            } => {
                put(16, &pid.to_le_bytes());
                put(20, &uid.to_le_bytes());
                put(24, &status.to_le_bytes());
                put(32, &utime.to_le_bytes());
                put(40, &stime.to_le_bytes());
            }
            SigFields::Fault { addr, .. } => put(16, &addr.to_le_bytes()),
            SigFields::Poll { band, fd } => {
                put(16, &band.to_le_bytes());
                put(24, &fd.to_le_bytes());
            }
            SigFields::Sys { addr, nr, arch } => {
                put(16, &addr.to_le_bytes());
                put(24, &nr.to_le_bytes());
                put(28, &arch.to_le_bytes());
            }
            SigFields::Raw(raw) => put(16, &raw),
        }
        bytes
    }

    /// From a `siginfo_t` that a guest made; the union stays as it was given.
    pub fn from_bytes(bytes: &[u8; 128]) -> SigInfo {
        let int = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut raw = [0; 112];
        raw.copy_from_slice(&bytes[16..]);
        SigInfo {
            signal: int(0),
            errno: int(4),
            code: int(8),
            fields: SigFields::Raw(raw),
        }
    }
}
