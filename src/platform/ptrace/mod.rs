//! The reference platform: one tracing thread, PTRACE_SEIZE and SYSEMU.
//!
//! A *stub* is a host process that carries a guest address space. The first one, the [zygote], executes a
//! program of one page, is emptied but for that page, and makes all others by clone(2). Guest threads run under PTRACE_SYSEMU, so that no
//! syscall of theirs ever happens on the host. The host calls that the platform needs are [injected](inject): made by
//! the stopped stub itself with registers that the platform sets, at the instruction in the page above
//! [`USER_END`](super::USER_END), which no guest operation can reach.
//!
//! Everything but kicks, starts (which are passed on), copies and looks at /proc happens on the one thread that called [`Platform::run`]: ptrace(2)
//! answers to no other. It must have no children besides.

#![allow(unsafe_code)]

use std::any::Any;
use std::sync::Arc;

use nix::errno::Errno;

use self::core::{Core, Task};
use self::space::PtraceSpace;
use self::thread::PtraceThread;
use super::native::cpuid;
use super::{Activity, Platform, Thread, TrapHandler};

mod core;
mod exec;
mod fault;
mod filter;
mod host;
mod image;
mod inject;
mod mail;
mod regs;
mod run;
mod space;
#[cfg(test)]
mod tests;
mod thread;
mod tracee;
mod zygote;

/// The ptrace backend of [`Platform`].
pub struct PtracePlatform {
    core: Arc<Core>,
}

impl PtracePlatform {
    /// Prepare; stubs are made when they are needed. Fails when the host has no executable memory files. `cpuid_faults`:
    /// whether CPUID of guests is to fault.
    pub fn new(cpuid_faults: bool) -> Result<Arc<PtracePlatform>, Errno> {
        Ok(Arc::new(PtracePlatform {
            core: Arc::new(Core::new(cpuid_faults)?),
        }))
    }

    /// Make the first stub, which shows whether the host lets this platform trace and copy. Called from the host thread
    /// that will call [`Platform::run`].
    pub fn prepare(&self) -> Result<(), Errno> {
        self.core.prepare()
    }
}

impl Platform for PtracePlatform {
    fn name(&self) -> &'static str {
        "ptrace"
    }

    fn spawn(&self) -> Result<Box<dyn Thread>, Errno> {
        let tracee = self.core.clone_zygote()?;
        let mut thread = PtraceThread::adopt(&self.core, tracee, None, PtraceSpace::new(&self.core))?;
        thread.clear_regs();
        Ok(thread)
    }

    fn start(&self, thread: Box<dyn Thread>, owner: Arc<dyn TrapHandler>) {
        let thread: Box<dyn Any> = thread;
        match thread.downcast::<PtraceThread>() {
            Ok(thread) => {
                let task = Task { thread, owner };
                if self.core.is_tracing_thread() {
                    run::start(&self.core, task);
                } else {
                    self.core.mail().started(task);
                }
            }
            Err(_) => tracing::error!("a thread of another platform was given to ptrace to start"),
        }
    }

    fn run(&self) -> Result<(), Errno> {
        if self.core.cpuid_faults {
            cpuid::expect_faults();
            cpuid::join_guests();
        }
        run::run(&self.core)
    }

    fn count_activity(&self, activity: Arc<Activity>) {
        self.core.mail().count_activity(activity);
    }

    fn traps_cpuid(&self) -> bool {
        self.core.cpuid_faults
    }

    fn stop(&self) {
        self.core.mail().stop();
    }
}
