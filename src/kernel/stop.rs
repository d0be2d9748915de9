//! Why a syscall handler does not return a value: an errno, a wait, or because its thread is gone.

use std::fmt;
#[cfg(debug_assertions)]
use std::panic::Location;

pub use nix::errno::Errno;

use super::wait::{OnSignal, WaitFor};

/// What a handler returns. `?` carries an errno and a park alike.
pub type SysResult<T> = Result<T, Stop>;

/// The error side of [`SysResult`].
pub enum Stop {
    /// The call fails with this errno; debug builds remember where it came from.
    Errno(Errno, At),
    /// The call cannot go on now: park the task and run the handler again when one of these fires.
    Block(WaitFor),
    /// The platform goes on with the call, which waits; what a signal does to it.
    Own(OnSignal),
    /// The calling host thread is finished (exit, or exec that moved the task to a new one).
    Leave,
}

/// Source location of an errno, kept in debug builds only.
#[derive(Clone, Copy)]
pub struct At(#[cfg(debug_assertions)] &'static Location<'static>);

impl At {
    #[track_caller]
    fn here() -> At {
        At(
            #[cfg(debug_assertions)]
            Location::caller(),
        )
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(debug_assertions)]
        write!(f, " at {}:{}", self.0.file(), self.0.line())?;
        let _ = f;
        Ok(())
    }
}

impl From<Errno> for Stop {
    #[track_caller]
    fn from(errno: Errno) -> Stop {
        Stop::Errno(errno, At::here())
    }
}

impl From<WaitFor> for Stop {
    fn from(wait: WaitFor) -> Stop {
        Stop::Block(wait)
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Errno(errno, at) => write!(f, "{errno:?}{at}"),
            Stop::Block(_) => f.write_str("Block"),
            Stop::Own(_) => f.write_str("Own"),
            Stop::Leave => f.write_str("Leave"),
        }
    }
}

/// Fail a handler with an errno by name: `return fail!(EINVAL)`.
macro_rules! fail {
    ($errno:ident) => {
        Err($crate::kernel::stop::Stop::from(
            $crate::kernel::stop::Errno::$errno,
        ))
    };
}
pub(crate) use fail;
