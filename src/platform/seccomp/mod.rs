//! The fast platform: no ptrace. Guest calls trap by a seccomp filter into a [runtime](guest_runtime) inside the guest's
//! address space, which rings the *doorbell* of its thread; a supervisor thread answers.
//!
//! A *stub* is a host process that carries a guest address space. The first one, the [zygote](launch), is the runtime
//! executed from a memory file; all others come from it by clone(2). Guest code can do to the runtime in its address space
//! what it likes: what it can reach of the host is decided by the [filter] and by what is checked here.
//!
//! Each started guest thread has a [server] thread here, out of a [pool], that waits for its doorbell and calls
//! the owner. On which CPU the two run is a matter of [placement]. What the kernel wants of a stopped thread is a list of
//! [commands](door) that the runtime carries out before it goes on.

#![allow(unsafe_code)]

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use guest_runtime::cpuid::Answers;
use nix::errno::Errno;

use self::core::Core;
use self::thread::SeccompThread;
use super::{Activity, Io, Platform, Statistics, Thread, TrapHandler};

mod births;
mod core;
mod deaf;
mod door;
mod facts;
pub mod filter;
mod fork;
mod handed;
mod host_vdso;
mod image;
mod kept;
mod launch;
mod marshal;
mod notify;
mod operate;
pub mod patch;
mod patcher;
mod placement;
mod pool;
mod process;
mod regs;
mod server;
mod space;
#[cfg(test)]
mod tests;
mod thread;

/// Where the runtime's code lies in every guest address space.
pub fn text() -> Range<u64> {
    image::text()
}

/// The seccomp backend of [`Platform`].
pub struct SeccompPlatform {
    core: Arc<Core>,
}

impl SeccompPlatform {
    /// Make the first stub. Fails where the host lacks what is needed. Guests can only read the host's clock by its own vDSO if
    /// `host_clock` is given. `answers` are what CPUID tells guests; with none it tells them the truth.
    pub fn new(io: Io, host_clock: bool, answers: Option<&Answers>) -> Result<Arc<SeccompPlatform>, Errno> {
        let core = Core::new(io, host_clock, answers)?;
        Ok(Arc::new(SeccompPlatform { core }))
    }
}

impl Platform for SeccompPlatform {
    fn name(&self) -> &'static str {
        "seccomp"
    }

    fn spawn(&self) -> Result<Box<dyn Thread>, Errno> {
        self.core.spawn()
    }

    fn start(&self, thread: Box<dyn Thread>, owner: Arc<dyn TrapHandler>) {
        let thread: Box<dyn Any> = thread;
        match thread.downcast::<SeccompThread>() {
            Ok(thread) => server::start(&self.core, thread, owner),
            Err(_) => tracing::error!("a thread of another platform was given to seccomp to start"),
        }
    }

    fn run(&self) -> Result<(), Errno> {
        self.core.run()
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.core.counters.read())
    }

    fn host_clock(&self) -> Option<u64> {
        self.core.host_clock()
    }

    fn set_clock(&self, boot: u64, ahead: i64) {
        self.core.facts.set_clock(boot, ahead);
    }

    fn count_activity(&self, activity: Arc<Activity>) {
        self.core.count_activity(activity);
    }

    fn traps_cpuid(&self) -> bool {
        self.core.cpuid_faults
    }

    fn stop(&self) {
        self.core.stop();
    }
}
