//! From a trapped syscall to its handler: the context handlers work in, typed arguments, dispatch by the table's rows.

use std::any::Any;
use std::sync::Arc;

use super::Kernel;
use super::fs::{Fd, File};
use super::mm::forget_unlinked;
use super::stop::{Errno, Stop, SysResult};
use super::task::Task;
use super::time::Instant;
use super::user_memory::{UserAddr, UserCString, UserMemory, UserRef};
use super::wait::{OnSignal, WaitFor};
use crate::platform::Thread;
use syscall_table::Subsystem;

/// What a call keeps while it is blocked. It begins empty and is dropped when the call completes.
#[derive(Default)]
pub struct CallState {
    /// Bytes moved so far; what the call returns when a signal ends it (if not 0).
    pub progress: usize,
    /// Absolute deadline, computed on the first run.
    pub deadline: Option<Instant>,
    /// The signal mask to restore when the call ends (sigsuspend, ppoll, ...).
    pub saved_mask: Option<u64>,
    /// The file of a descriptor argument, once it was looked up: see [`SyscallCx::file`].
    pub file: Option<(Fd, Arc<File>)>,
    /// Anything else the handler must remember.
    pub data: Option<Box<dyn Any + Send>>,
    /// Asks `data`, when a signal is about to end the call, whether what it waited for was given to it meanwhile: the
    /// result then. For waits that others end by handing something over, which must not be lost.
    pub settle: Option<fn(&mut (dyn Any + Send)) -> Option<u64>>,
    /// The platform has been carrying it out, and was interrupted.
    pub own: bool,
    /// What to tell the guest when a signal ends the call with EINTR: the time that was left, mostly.
    pub on_eintr: Option<OnEintr>,
}

impl CallState {
    /// See [`CallState::settle`].
    pub fn settle(&mut self) -> Option<u64> {
        let settle = self.settle?;
        settle(&mut **self.data.as_mut()?)
    }
}

/// See [`CallState::on_eintr`]. A failure is ignored: the call has failed already.
pub type OnEintr = Box<dyn FnOnce(&UserMemory) -> Result<(), Errno> + Send>;

/// What a handler works with: the calling task, stopped in a syscall.
pub struct SyscallCx<'a> {
    /// The guest's kernel.
    pub kernel: &'a Arc<Kernel>,
    /// The caller.
    pub task: &'a Arc<Task>,
    /// The caller's stopped thread.
    pub thread: &'a mut dyn Thread,
    /// The caller's memory.
    pub memory: UserMemory,
    /// Number of the call.
    pub nr: u64,
    /// Raw arguments; handlers take theirs typed.
    pub args: [u64; 6],
    /// What earlier runs of the same blocked call left.
    pub state: &'a mut CallState,
}

impl SyscallCx<'_> {
    /// The file behind a descriptor argument of a call that may block; EBADF. Later runs get the one that the first run
    /// got, whatever has become of the descriptor meanwhile.
    pub fn file(&mut self, fd: Fd) -> Result<Arc<File>, Errno> {
        if let Some((_, file)) = self.state.file.as_ref().filter(|(known, _)| *known == fd) {
            return Ok(file.clone());
        }
        let file = self.task.files().get(fd)?;
        self.state.file = Some((fd, file.clone()));
        Ok(file)
    }

    /// Change `len` bytes in steps, between which signals and others have their turn; only a kill ends it. `step` is told how many
    /// bytes are done, and says how many it did.
    pub fn in_steps(&mut self, len: u64, step: impl FnOnce(u64) -> SysResult<u64>) -> SysResult<()> {
        let done = self.state.progress as u64;
        let done = done.saturating_add(step(done)?);
        self.state.progress = usize::try_from(done).unwrap_or(usize::MAX);
        if done < len {
            return Err(WaitFor::nothing().on_signal(OnSignal::Uninterruptible).into());
        }
        Ok(())
    }

    /// Whether the call's deadline has passed.
    pub fn timed_out(&self) -> bool {
        self.state.deadline.is_some_and(|d| self.kernel.clock.now() >= d)
    }

    /// The call's deadline: computed by `first` on the first run, the same on later ones.
    pub fn deadline(&mut self, first: impl FnOnce(&Kernel) -> Option<Instant>) -> Option<Instant> {
        if self.state.deadline.is_none() {
            self.state.deadline = first(self.kernel);
        }
        self.state.deadline
    }
}

/// An argument register as a typed value. Conversions cut as Linux cuts: an `int` is the low 32 bits.
pub trait FromReg {
    /// Convert.
    fn from_reg(reg: u64) -> Self;
}

macro_rules! from_reg_cut {
    ($($t:ty),*) => { $(impl FromReg for $t {
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, trivial_numeric_casts)]
        fn from_reg(reg: u64) -> Self { reg as $t }
    })* };
}
from_reg_cut!(i32, u32, i64, u64, u16, usize);

impl FromReg for UserAddr {
    fn from_reg(reg: u64) -> Self {
        UserAddr(reg)
    }
}

impl<T> FromReg for UserRef<T> {
    fn from_reg(reg: u64) -> Self {
        UserAddr(reg).cast()
    }
}

impl FromReg for UserCString {
    fn from_reg(reg: u64) -> Self {
        UserCString(UserAddr(reg))
    }
}

/// What a handler may return on success, as the value of rax.
pub trait IntoReg {
    /// Convert.
    fn into_reg(self) -> u64;
}

impl IntoReg for () {
    fn into_reg(self) -> u64 {
        0
    }
}
impl IntoReg for u64 {
    fn into_reg(self) -> u64 {
        self
    }
}
impl IntoReg for usize {
    fn into_reg(self) -> u64 {
        self as u64
    }
}
impl IntoReg for u32 {
    fn into_reg(self) -> u64 {
        u64::from(self)
    }
}
impl IntoReg for i32 {
    fn into_reg(self) -> u64 {
        i64::from(self).cast_unsigned()
    }
}
impl IntoReg for i64 {
    fn into_reg(self) -> u64 {
        self.cast_unsigned()
    }
}
impl IntoReg for UserAddr {
    fn into_reg(self) -> u64 {
        self.0
    }
}

/// Told of every call (`--trace`).
pub trait Tracer: Send + Sync {
    /// A call begins, or is reported again after a wait ended early.
    fn enter(&self, tid: i32, nr: u64, args: &[u64; 6], memory: &UserMemory);
    /// A call is over with this raw result.
    fn exit(&self, tid: i32, nr: u64, args: &[u64; 6], result: i64, memory: &UserMemory);
    /// A signal with this `siginfo_t` is acted on.
    fn signal(&self, tid: i32, info: &[u8; 128]);
    /// The guest has ended: print the summary.
    fn finish(&self);
}

/// Run the handler of the call in `cx`; ENOSYS for a number that no row has. Who finds no space has another try when some
/// was held by deleted files that are not mapped any more.
pub fn dispatch(cx: &mut SyscallCx<'_>) -> SysResult<u64> {
    match handle(cx) {
        Err(Stop::Errno(Errno::ENOSPC, _)) if forget_unlinked(cx.kernel) => Err(WaitFor::nothing().into()),
        result => result,
    }
}

fn handle(cx: &mut SyscallCx<'_>) -> SysResult<u64> {
    let row = syscall_table::lookup(cx.nr).ok_or(Errno::ENOSYS)?;
    match row.subsystem {
        Subsystem::Ipc => super::ipc::dispatch(cx),
        Subsystem::Fs => super::fs::dispatch(cx),
        Subsystem::Net => super::net::dispatch(cx),
        Subsystem::Poll => super::poll::dispatch(cx),
        Subsystem::Mm => super::mm::dispatch(cx),
        Subsystem::Task => super::task::dispatch(cx),
        Subsystem::Sched => super::sched::dispatch(cx),
        Subsystem::Sys => super::sys::dispatch(cx),
        Subsystem::Signal => super::signal::dispatch(cx),
        Subsystem::Time => super::time::dispatch(cx),
        Subsystem::Cpu => super::dev::port::dispatch(cx),
    }
}

/// Expanded by each subsystem's rows (`syscall_table::fs_rows!` and the like) where its handlers are in scope: makes
/// that subsystem's `dispatch`.
macro_rules! dispatch_rows {
    ($subsystem:ident [] $($nr:literal $name:ident ($($arg:ident: $kind:ident $(($($of:tt)*))?),*)
        -> $ret:ident $(($ret_set:ident))?,
        $level:ident $(($errno:ident))? $($note:literal)?, $($tail:ident),+;)*
    ) => {
        /// Run the handler of a call of this subsystem.
        pub(in crate::kernel) fn dispatch(
            cx: &mut $crate::kernel::syscall::SyscallCx<'_>,
        ) -> $crate::kernel::stop::SysResult<u64> {
            let args = cx.args;
            let _ = args;
            match cx.nr {
                $($nr => $crate::kernel::syscall::dispatch_rows!(@ $level $(($errno))? $name, cx, args, ($($arg)*)),)*
                _ => Err($crate::kernel::stop::Errno::ENOSYS.into()),
            }
        }
    };
    (@ refused($errno:ident) $name:ident, $cx:ident, $args:ident, $names:tt) => {
        Err($crate::kernel::stop::Errno::$errno.into())
    };
    (@ $level:ident $name:ident, $cx:ident, $args:ident, $names:tt) => {
        syscall_table::call_handler!($name, $cx, $crate::kernel::syscall::FromReg::from_reg, $args, $names)
            .map($crate::kernel::syscall::IntoReg::into_reg)
    };
}
pub(crate) use dispatch_rows;
