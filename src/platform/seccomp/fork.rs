//! New guest threads: copies of an address space, and threads that share one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use guest_runtime::abi::{Command, op};
use libc::pid_t;
use nix::errno::Errno;

use super::births::Birth;
use super::door::Door;
use super::launch::bell_memory;
use super::notify::Expectation;
use super::process::{HostProcess, lock};
use super::space::SeccompSpace;
use super::thread::{Host, SeccompThread, decode};
use crate::platform::{ForkKind, Thread};

impl SeccompThread {
    pub(super) fn fork_copy(&mut self) -> Result<Box<SeccompThread>, Errno> {
        let memory = bell_memory()?;
        let door = Door::open(&memory, self.host().slot)?;
        let space = SeccompSpace::new(&self.host().core, memory.try_clone().map_err(|_| Errno::EMFILE)?);
        space.take(self.host().slot);
        // What is copied must not be half patched.
        let _passing = self.host().space.gate.pass();
        lock(&space.patches).clone_from(&lock(&self.host().space.patches));
        space.publish(&lock(&space.patches));
        let flags = libc::CLONE_PARENT as u64;
        let before = self.host().core.placement.before_clone(self.host().seat());
        let process = self.clone_process(flags, self.host().slot, Some(memory))?;
        let pid = process.pid;
        let host = Host::new(&self.host().core, process, space, pid, self.host().slot, door);
        self.inherit(before, &host);
        Ok(SeccompThread::new(host, *self.regs()))
    }

    pub(super) fn fork_sharing(&mut self, kind: ForkKind) -> Result<Box<SeccompThread>, Errno> {
        let space = Arc::clone(&self.host().space);
        let slot = space.new_slot()?;
        let door = space.open_door(slot).inspect_err(|_| space.give_back(slot))?;
        let flags = (libc::CLONE_VM | libc::CLONE_CHILD_CLEARTID) as u64;
        let before = self.host().core.placement.before_clone(self.host().seat());
        let made = if kind == ForkKind::Share {
            let flags = flags | libc::CLONE_PARENT as u64;
            self.clone_process(flags, slot, None)
                .map(|process| (Arc::clone(&process), process.pid))
        } else {
            let more = libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_SYSVSEM | libc::CLONE_FILES;
            let flags = flags | more as u64;
            self.clone_thread(flags, slot)
                .map(|tid| (Arc::clone(&self.host().process), tid))
        };
        let (process, tid) = made.inspect_err(|_| space.give_back(slot))?;
        let host = Host::new(&self.host().core, process, space, tid, slot, door);
        self.inherit(before, &host);
        Ok(SeccompThread::new(host, *self.regs()))
    }

    fn inherit(&self, before: Option<u32>, child: &Host) {
        let placement = &self.host().core.placement;
        placement.inherit(before, self.host().seat(), child.seat());
    }

    /// Clone a thread of the same host process; the id that the runtime tells of it.
    fn clone_thread(&self, flags: u64, slot: u64) -> Result<pid_t, Errno> {
        let expectation = self.host().core.notifier().expect_thread(flags)?;
        let tid = self.clone_call(flags, slot, &expectation)?;
        pid_t::try_from(tid).map_err(|_| Errno::ESRCH)
    }

    /// Clone a host process, whose id the host tells.
    fn clone_process(
        &self,
        flags: u64,
        slot: u64,
        memory: Option<OwnedFd>,
    ) -> Result<Arc<HostProcess>, Errno> {
        let core = &self.host().core;
        let expectation = core.notifier().expect_process(flags, memory)?;
        let birth = Birth::begin(&core.processes);
        let made = self.clone_call(flags, slot, &expectation).and_then(|_| {
            expectation.caller().ok_or_else(|| {
                self.host().process.kill();
                Errno::ESRCH
            })
        });
        if made.is_err() && expectation.was_cloned() {
            birth.in_vain(self.host().process.pid);
        }
        core.processes.enter(made?)
    }

    fn clone_call(&self, flags: u64, slot: u64, expectation: &Arc<Expectation>) -> Result<u64, Errno> {
        let clone = Command {
            op: op::CLONE,
            args: [flags, slot, expectation.token(), 0, 0, 0, 0],
            ..Command::default()
        };
        let results = self.host().command_expecting(&[clone], Some(expectation))?;
        decode(results.first().copied().unwrap_or(-1))
    }
}
