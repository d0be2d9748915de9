//! What arguments and results mean.

use crate::flags::FlagSet;

/// One argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arg {
    /// Its name in the manual page.
    pub name: &'static str,
    /// What it means.
    pub kind: Kind,
}

/// What an argument means. A `usize` is the index of another argument of the same call.
///
/// `In` kinds are pointers to memory that the call reads, `Out` kinds to memory that it writes; all of them may
/// be null where the call allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file descriptor.
    Fd,
    /// A directory's descriptor, or `AT_FDCWD`.
    DirFd,
    /// A process, thread, process group or session.
    Pid,
    /// A user; all ones is "unchanged".
    Uid,
    /// A group; all ones is "unchanged".
    Gid,
    /// A signal's number.
    Signal,
    /// A clock, which may be a process's own.
    Clock,
    /// A signed 32-bit number.
    Int,
    /// An unsigned 32-bit number.
    Uint,
    /// An unsigned 64-bit number of bytes or elements.
    Size,
    /// A signed 64-bit position or length.
    Off,
    /// A number that reads best in hexadecimal.
    Hex,
    /// File type and permissions.
    Mode,
    /// A device's number.
    Dev,
    /// Bits by name, with an enumeration in some of them where the set says so.
    Flags(&'static FlagSet),
    /// One of the set's values.
    Enum(&'static FlagSet),
    /// An address that is not followed, or followed in ways that no other kind describes.
    Addr,
    /// A number or pointer whose meaning depends on the other argument, as ioctl(2)'s does.
    By(usize),
    /// A file name, ended by NUL.
    Path,
    /// Another string, ended by NUL.
    Str,
    /// Pointers to strings, ended by a null pointer.
    Argv,
    /// The same for an environment, of which only the number of strings is worth showing.
    Envp,
    /// Bytes, as many as the other argument says.
    InBuf(usize),
    /// Room for as many bytes as the other argument says. If the result is a [`Ret::Size`], it says how many of
    /// them were written (but may exceed the room, for a datagram that was cut).
    OutBuf(usize),
    /// The same with the room in a 32-bit number to which the other argument points, before and after the call.
    OutBufAt(usize),
    /// Buffers to be written from, as many as the other argument says.
    InIovec(usize),
    /// Buffers to be filled, as many as the other argument says; the result says how many bytes in all.
    OutIovec(usize),
    /// A `struct linux_dirent` after the other in as many bytes as the other argument says.
    OutDirents(usize),
    /// The same with `struct linux_dirent64`.
    OutDirents64(usize),
    /// A socket address of as many bytes as the other argument says.
    InSockAddr(usize),
    /// Room for a socket address; the other argument points to its length, before and after the call.
    OutSockAddr(usize),
    /// A System V message: its type (a long), then as many bytes as the other argument says.
    InMessage(usize),
    /// Room for one.
    OutMessage(usize),
    /// An `fd_set` of as many bits as the other argument says, read and written.
    FdSet(usize),
    /// A CPU mask of as many bytes as the other argument says.
    InCpuSet(usize),
    /// Room for one; Linux's result is how many bytes were written.
    OutCpuSet(usize),
    /// One byte for each page of the length in the other argument.
    OutPageVec(usize),
    /// One structure that is read.
    In(Struct),
    /// One structure that is written.
    Out(Struct),
    /// One structure that is read and written.
    InOut(Struct),
    /// As many structures as the other argument says.
    InArray(Struct, usize),
    /// Room for as many; the result says how many were written.
    OutArray(Struct, usize),
    /// As many structures, read and written.
    InOutArray(Struct, usize),
}

impl Kind {
    /// Whether the call writes to the memory the argument points to, so that it says more after the call.
    pub fn is_output(self) -> bool {
        matches!(
            self,
            Self::OutBuf(_)
                | Self::OutBufAt(_)
                | Self::OutIovec(_)
                | Self::OutDirents(_)
                | Self::OutDirents64(_)
                | Self::OutSockAddr(_)
                | Self::OutMessage(_)
                | Self::OutCpuSet(_)
                | Self::OutPageVec(_)
                | Self::Out(_)
                | Self::OutArray(..)
                | Self::FdSet(_)
                | Self::InOut(_)
                | Self::InOutArray(..)
        )
    }

    /// The index of the argument that this one refers to.
    pub fn refers_to(self) -> Option<usize> {
        match self {
            Self::By(index)
            | Self::InBuf(index)
            | Self::OutBuf(index)
            | Self::OutBufAt(index)
            | Self::InIovec(index)
            | Self::OutIovec(index)
            | Self::OutDirents(index)
            | Self::OutDirents64(index)
            | Self::InSockAddr(index)
            | Self::OutSockAddr(index)
            | Self::InMessage(index)
            | Self::OutMessage(index)
            | Self::FdSet(index)
            | Self::InCpuSet(index)
            | Self::OutCpuSet(index)
            | Self::OutPageVec(index)
            | Self::InArray(_, index)
            | Self::OutArray(_, index)
            | Self::InOutArray(_, index) => Some(index),
            _ => None,
        }
    }
}

/// What a result that is not an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// A number.
    Int,
    /// A new file descriptor.
    Fd,
    /// A number of bytes.
    Size,
    /// A file position.
    Off,
    /// An address.
    Addr,
    /// A process, thread, process group or session.
    Pid,
    /// A user.
    Uid,
    /// A group.
    Gid,
    /// Permissions.
    Mode,
    /// Bits.
    Hex,
    /// A signal's number.
    Signal,
    /// Clock ticks of 10 ms.
    Ticks,
    /// Seconds since 1970.
    Time,
    /// One of the set's values.
    Enum(&'static FlagSet),
    /// The call does not come back.
    Never,
}

/// What a pointer argument points to; the layouts are those of x86-64 Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each is the structure or type of that name in Linux's headers"
)]
pub enum Struct {
    // Single numbers.
    Int,
    Uint,
    Ulong,
    Off,
    Uid,
    Gid,
    Pointer,
    Time,
    WaitStatus,
    FdPair,
    SigSet,
    // Time.
    Timespec,
    /// Two of them: access and modification.
    TimespecPair,
    Timeval,
    /// Two of them: access and modification.
    TimevalPair,
    Timezone,
    Itimerspec,
    Itimerval,
    Timex,
    Tms,
    Utimbuf,
    // Files.
    Stat,
    Statx,
    Statfs,
    Ustat,
    OpenHow,
    FileHandle,
    FileAttr,
    MountAttr,
    MountIdRequest,
    XattrArgs,
    Cachestat,
    CachestatRange,
    IoEvent,
    Iovec,
    // Readiness.
    Pollfd,
    EpollEvent,
    /// The last argument of pselect6(2): a pointer to a signal set and its size.
    SigSetArg,
    // Signals.
    Sigaction,
    Siginfo,
    AltStack,
    Sigevent,
    // Processes.
    CloneArgs,
    Rlimit,
    Rusage,
    CapHeader,
    CapData,
    SchedParam,
    SchedAttr,
    // Sockets and IPC.
    Msghdr,
    Mmsghdr,
    Sembuf,
    MqAttr,
    FutexWaitv,
    /// Two of them: where to requeue from and to.
    FutexWaitvPair,
    // The system.
    Utsname,
    Sysinfo,
}

impl Struct {
    /// How many bytes a structure takes.
    pub const fn size(self) -> usize {
        match self {
            Self::Int | Self::Uint | Self::Uid | Self::Gid | Self::WaitStatus => 4,
            Self::SchedParam => 4,
            Self::Sembuf => 6,
            Self::Ulong | Self::Off | Self::Pointer | Self::Time | Self::FdPair | Self::SigSet => 8,
            Self::Timezone | Self::FileHandle | Self::Pollfd | Self::CapHeader => 8,
            Self::EpollEvent => 12,
            Self::Timespec | Self::Timeval | Self::Utimbuf | Self::XattrArgs => 16,
            Self::CachestatRange | Self::Iovec | Self::SigSetArg | Self::Rlimit => 16,
            Self::OpenHow | Self::FileAttr | Self::MountIdRequest | Self::AltStack => 24,
            Self::CapData | Self::FutexWaitv => 24,
            Self::TimespecPair | Self::TimevalPair | Self::Itimerspec | Self::Itimerval => 32,
            Self::Tms | Self::Ustat | Self::MountAttr | Self::IoEvent | Self::Sigaction => 32,
            Self::Cachestat => 40,
            Self::FutexWaitvPair => 48,
            Self::SchedAttr | Self::Msghdr => 56,
            Self::Mmsghdr | Self::Sigevent | Self::MqAttr => 64,
            Self::CloneArgs => 88,
            Self::Sysinfo => 112,
            Self::Statfs => 120,
            Self::Siginfo => 128,
            Self::Stat | Self::Rusage => 144,
            Self::Timex => 208,
            Self::Statx => 256,
            Self::Utsname => 390,
        }
    }
}
