//! One declarative row per Linux x86-64 system call.
//!
//! # Rows
//!
//! The rows live in `src/rows/`, one file per subsystem, one line per call:
//!
//! ```text
//! 0 read (fd: Fd, buf: OutBuf(count), count: Size) -> Size, full, blocks, kernel;
//! ```
//!
//! that is: number, name, arguments with their [`Kind`], the result's [`Ret`], the support [`Level`] (`full`,
//! `partial "what is missing"` or `refused(ERRNO) "reason"`), `blocks` if the call can wait for something,
//! where it is to be [`Answered`], and, unless never, when the [`Host`] lets a stub make it (`always`, `checked`,
//! `asked`). A kind's parameter is a set of [`flags`], a [`Struct`], or the name of another argument of the same call.
//! To take a call into service, write its handler and change its level.
//!
//! # Callbacks
//!
//! Each subsystem exports a macro (`fs_rows!`, `task_rows!`, ...) that expands a callback once with all its rows,
//! after the subsystem's name and any further tokens in brackets. This is how dispatch is generated: a row in
//! service becomes a call of the handler that is named like the row and is in scope where the macro stands.
//!
//! ```
//! struct Cx { calls: u32 }
//! type SysResult = Result<i64, i32>;
//!
//! trait FromRegister { fn from_register(register: u64) -> Self; }
//! impl FromRegister for u32 { fn from_register(register: u64) -> Self { register as u32 } }
//!
//! macro_rules! dispatch_rows {
//!     ($subsystem:ident [] $($nr:literal $name:ident ($($arg:ident: $kind:ident $(($($of:tt)*))?),*)
//!         -> $ret:ident $(($ret_set:ident))?,
//!         $level:ident $(($errno:ident))? $($note:literal)?, $($tail:ident),+;)*
//!     ) => {
//!         /// Runs the handler of a call of this subsystem; `None` is for a number of another one.
//!         fn dispatch(cx: &mut Cx, nr: u64, args: &[u64; 6]) -> Option<SysResult> {
//!             match nr {
//!                 $($nr => Some(dispatch_rows!(@ $level $(($errno))? $name, cx, args, ($($arg)*))),)*
//!                 _ => None,
//!             }
//!         }
//!     };
//!     (@ refused($errno:ident) $name:ident, $cx:ident, $args:ident, $names:tt) => {
//!         Err(syscall_table::errno::$errno)
//!     };
//!     (@ $level:ident $name:ident, $cx:ident, $args:ident, $names:tt) => {
//!         syscall_table::call_handler!($name, $cx, FromRegister::from_register, $args, $names)
//!     };
//! }
//!
//! fn dup3(cx: &mut Cx, old: u32, new: u32, flags: u32) -> SysResult {
//!     cx.calls += 1;
//!     Ok(i64::from(new + old + flags))
//! }
//!
//! # macro_rules! example_rows { ($callback:path) => { $callback! { fs []
//! #     292 dup3 (oldfd: Fd, newfd: Fd, flags: Flags(PIPE)) -> Fd, full, kernel;
//! #     321 bpf (cmd: Enum(BPF), attr: Addr, size: Uint) -> Int, refused(EPERM) "no BPF", kernel;
//! # } } }
//! # /*
//! syscall_table::fs_rows!(dispatch_rows);
//! # */
//! # example_rows!(dispatch_rows);
//!
//! let mut cx = Cx { calls: 0 };
//! assert_eq!(dispatch(&mut cx, 292, &[1, 10, 100, 0, 0, 0]), Some(Ok(111)));
//! assert_eq!(dispatch(&mut cx, 321, &[0; 6]), Some(Err(syscall_table::errno::EPERM)));
//! assert_eq!((dispatch(&mut cx, 5000, &[0; 6]), cx.calls), (None, 1));
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

pub mod errno;
pub mod flags;
mod kind;
#[macro_use]
mod rows;
pub mod signal;
mod table;

pub use kind::{Arg, Kind, Ret, Struct};
pub use table::{NEWEST, by_name, lookup, rows};

/// One system call.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The number in `rax`.
    pub nr: u32,
    /// The name as in `<asm/unistd_64.h>`, without the prefix.
    pub name: &'static str,
    /// The arguments in the order of the registers `rdi`, `rsi`, `rdx`, `r10`, `r8`, `r9`; at most six.
    pub args: &'static [Arg],
    /// What a result that is not an error means.
    pub ret: Ret,
    /// The part of the kernel that the call belongs to.
    pub subsystem: Subsystem,
    /// How much of it the virtual kernel does.
    pub level: Level,
    /// Whether it can wait for something.
    pub blocks: bool,
    /// Where the seccomp platform is to answer it.
    pub answered: Answered,
    /// When the host carries it out for a stub of the seccomp platform.
    pub host: Host,
}

/// How much of a call the virtual kernel does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// All that programs use.
    Full,
    /// All but what the note says.
    Partial(&'static str),
    /// Nothing: it fails.
    Refused {
        /// The error that the caller gets.
        errno: i32,
        /// Why there is no handler.
        reason: &'static str,
    },
}

impl Level {
    /// The word for the level: `full`, `partial` or `refused`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial(_) => "partial",
            Self::Refused { .. } => "refused",
        }
    }

    /// What is missing, or why the call is refused; empty for a call in full service.
    pub fn note(self) -> &'static str {
        match self {
            Self::Full => "",
            Self::Partial(note) | Self::Refused { reason: note, .. } => note,
        }
    }
}

/// Where the seccomp platform is to answer a call. Other platforms answer all of them in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// By the runtime inside the guest, from facts that the kernel keeps readable there.
    Guest,
    /// By the host kernel, when the arguments reach no further than the caller's own memory; otherwise by the virtual one.
    Native,
    /// By the virtual kernel.
    Kernel,
}

impl Answered {
    /// The word as it stands in the rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Native => "native",
            Self::Kernel => "kernel",
        }
    }
}

/// When the host carries a call out for a stub of the seccomp platform. From guest code it never does; this is about
/// the runtime's text, where guest code may jump to with any registers, so what is let through is harmless in the hands
/// of a hostile guest. The platform's filter is made from this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Never: the stub is killed.
    Never,
    /// With any arguments: they reach no further than the caller's own memory, threads and descriptors.
    Always,
    /// With arguments that the filter has checked; with others the stub is killed.
    Checked,
    /// When the supervisor, asked by a user notification, agrees.
    Asked,
}

impl Host {
    /// The word as it stands in the rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
            Self::Checked => "checked",
            Self::Asked => "asked",
        }
    }
}

/// The part of the kernel that a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are those of the kernel's folders")]
pub enum Subsystem {
    Cpu,
    Fs,
    Ipc,
    Mm,
    Net,
    Poll,
    Sched,
    Signal,
    Sys,
    Task,
    Time,
}

impl Subsystem {
    /// The name of the kernel's folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Fs => "fs",
            Self::Ipc => "ipc",
            Self::Mm => "mm",
            Self::Net => "net",
            Self::Poll => "poll",
            Self::Sched => "sched",
            Self::Signal => "signal",
            Self::Sys => "sys",
            Self::Task => "task",
            Self::Time => "time",
        }
    }
}

/// Calls a handler with as many registers as its row has arguments.
///
/// `call_handler!(handler, cx, convert, args, (a b c))` is
/// `handler(cx, convert(args[0]), convert(args[1]), convert(args[2]))`.
#[macro_export]
macro_rules! call_handler {
    ($handler:ident, $cx:expr, $from:path, $args:expr, ()) => {
        $handler($cx)
    };
    ($handler:ident, $cx:expr, $from:path, $args:expr, ($a:ident)) => {
        $handler($cx, $from($args[0]))
    };
    ($handler:ident, $cx:expr, $from:path, $args:expr, ($a:ident $b:ident)) => {
        $handler($cx, $from($args[0]), $from($args[1]))
    };
    ($handler:ident, $cx:expr, $from:path, $args:expr, ($a:ident $b:ident $c:ident)) => {
        $handler($cx, $from($args[0]), $from($args[1]), $from($args[2]))
    };
    ($handler:ident, $cx:expr, $from:path, $args:expr, ($a:ident $b:ident $c:ident $d:ident)) => {
        $handler(
            $cx,
            $from($args[0]),
            $from($args[1]),
            $from($args[2]),
            $from($args[3]),
        )
    };
    ($handler:ident, $cx:expr, $from:path, $args:expr, ($a:ident $b:ident $c:ident $d:ident $e:ident)) => {
        $handler(
            $cx,
            $from($args[0]),
            $from($args[1]),
            $from($args[2]),
            $from($args[3]),
            $from($args[4]),
        )
    };
    ($handler:ident, $cx:expr, $from:path, $args:expr, ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident)) => {
        $handler(
            $cx,
            $from($args[0]),
            $from($args[1]),
            $from($args[2]),
            $from($args[3]),
            $from($args[4]),
            $from($args[5]),
        )
    };
}
