//! What uvm was started with and has to live with: resource limits, which stubs inherit.
//!
//! A guest has limits of its own. Those of the host only stand in the way, so the soft ones are raised as far as they may be.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::SIGXFSZ;
use signal_hook::flag;

/// A limit of the host, and what a guest cannot do without.
struct Need {
    resource: Resource,
    /// As a shell's ulimit knows it, and what one of it is in bytes or pieces.
    option: &'static str,
    unit: u64,
    what: &'static str,
    least: u64,
    /// No more is asked for than this.
    most: u64,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const UNLIMITED: u64 = u64::MAX;

/// uvm's own: even reading the command line takes more than some leave.
const STACK: Need = need(Resource::RLIMIT_STACK, "-s", KIB, "its stack", MIB, 8 * MIB);

const NEEDS: [Need; 5] = [
    need(Resource::RLIMIT_NOFILE, "-n", 1, "open files", 256, MIB),
    // What the platform maps and reserves in every guest process, and something for the guest.
    need(
        Resource::RLIMIT_AS,
        "-v",
        KIB,
        "address space",
        8 << 30,
        UNLIMITED,
    ),
    need(
        Resource::RLIMIT_DATA,
        "-d",
        KIB,
        "writable memory",
        1 << 30,
        UNLIMITED,
    ),
    // Memory that is shared with guest processes counts as a file.
    need(
        Resource::RLIMIT_FSIZE,
        "-f",
        KIB,
        "the size of files",
        512 * MIB,
        UNLIMITED,
    ),
    need(
        Resource::RLIMIT_NPROC,
        "-u",
        1,
        "processes and threads",
        0,
        UNLIMITED,
    ),
];

const fn need(
    resource: Resource,
    option: &'static str,
    unit: u64,
    what: &'static str,
    least: u64,
    most: u64,
) -> Need {
    Need {
        resource,
        option,
        unit,
        what,
        least,
        most,
    }
}

/// Let uvm's own stack grow. An error says that the hard limit does not allow it. To be called before anything else.
pub fn raise_stack() -> Result<()> {
    STACK.raise()
}

/// Raise what is too low. An error names what the hard limit does not allow.
pub(super) fn raise() -> Result<()> {
    for need in &NEEDS {
        need.raise()?;
    }
    // Writing beyond what is left of the size of files shall fail, not kill.
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).context("catching SIGXFSZ")?;
    Ok(())
}

impl Need {
    fn raise(&self) -> Result<()> {
        let (soft, hard) = getrlimit(self.resource)?;
        let wanted = self.most.min(hard);
        if soft < wanted && setrlimit(self.resource, wanted, hard).is_err() {
            return Ok(());
        }
        self.check(hard)
    }

    fn check(&self, hard: u64) -> Result<()> {
        if hard < self.least {
            bail!(
                "the limit on {} ('ulimit {}') is {}, and at least {} is needed",
                self.what,
                self.option,
                hard / self.unit,
                self.least / self.unit
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_too_low_is_named_with_its_option() {
        let need = &NEEDS[1];
        assert!(need.check(UNLIMITED).is_ok());
        assert!(need.check(need.least).is_ok());
        assert_eq!(
            need.check(100 << 20).unwrap_err().to_string(),
            "the limit on address space ('ulimit -v') is 102400, and at least 8388608 is needed"
        );
    }
}
