//! Which platform runs a guest.

use std::sync::Arc;

use anyhow::{Error, Result, anyhow};

use crate::platform::cpuid::Answers;
use crate::platform::host::{self, Fact, Missing, PlatformKind};
use crate::platform::ptrace::PtracePlatform;
use crate::platform::seccomp::SeccompPlatform;
use crate::platform::{Io, Platform};

/// The first of these that the host allows is taken unless `--platform` says another.
const PLATFORMS: &[PlatformKind] = &[PlatformKind::Seccomp, PlatformKind::Ptrace];

/// The platform that [`start`] takes on such a host when none is asked for.
pub fn default_platform(facts: &[Fact]) -> Option<PlatformKind> {
    PLATFORMS
        .iter()
        .copied()
        .find(|kind| host::missing(facts, *kind).is_none())
}

/// Make the platform that is asked for, or else the first that works here. Called by the host thread that will run it.
///
/// `host_clock`: guests may read the host's clock. `cpuid`: what that instruction tells guests, if not the truth. What is in
/// the way is looked for only when one has failed: looking takes longer than starting.
pub(super) fn start(
    asked: Option<PlatformKind>,
    io: Io,
    host_clock: bool,
    cpuid: Option<&Answers>,
) -> Result<Arc<dyn Platform>> {
    let candidates = asked.as_ref().map_or(PLATFORMS, std::slice::from_ref);
    let mut failures = Vec::new();
    for kind in candidates {
        match make(*kind, io, host_clock, cpuid) {
            Ok(platform) => {
                if !failures.is_empty() {
                    let why = failures.join("; ");
                    tracing::warn!("{why}; the guest runs on the {} platform", kind.name());
                }
                return Ok(platform);
            }
            Err(error) => failures.push(explain(*kind, &error, host::check(*kind))),
        }
    }
    Err(anyhow!("{}", failures.join("; ")))
}

fn make(kind: PlatformKind, io: Io, host_clock: bool, cpuid: Option<&Answers>) -> Result<Arc<dyn Platform>> {
    match kind {
        PlatformKind::Ptrace => {
            let platform = PtracePlatform::new(cpuid.is_some())?;
            platform.prepare()?;
            Ok(platform)
        }
        PlatformKind::Seccomp => Ok(SeccompPlatform::new(io, host_clock, cpuid)?),
    }
}

/// Why a platform does not run: rather what the host lacks than what went wrong.
fn explain(kind: PlatformKind, error: &Error, host: Result<(), Missing>) -> String {
    match host {
        Err(missing) => format!("the {} platform: {missing}", kind.name()),
        Ok(()) => format!("the {} platform: {error:#}", kind.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_lacks_explains_more_than_an_error_number() {
        let error = anyhow!("Operation not permitted");
        let missing = Missing {
            what: "ptrace",
            detail: "kernel.yama.ptrace_scope is 3".into(),
        };
        assert_eq!(
            explain(PlatformKind::Ptrace, &error, Err(missing)),
            "the ptrace platform: the host lacks ptrace (kernel.yama.ptrace_scope is 3)"
        );
        assert_eq!(
            explain(PlatformKind::Seccomp, &error, Ok(())),
            "the seccomp platform: Operation not permitted"
        );
    }
}
