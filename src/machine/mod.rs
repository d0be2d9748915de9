//! One running guest: built from options, run to its end.

mod options;
mod user;

pub use options::{Options, PlatformKind, TmpfsMount, TraceTo, Volume};

use anyhow::{Result, bail};

/// Run a guest to its end and return the exit status for the caller.
pub fn run(options: Options) -> Result<u8> {
    let _ = options;
    bail!("run: guests cannot be started by this build")
}
