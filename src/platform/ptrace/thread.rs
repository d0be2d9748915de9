//! A stopped guest thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::core::Core;
use super::fault;
use super::host::{Handle, HostProcess, HostThread};
use super::inject::{self, USER_CS};
use super::regs;
use super::space::PtraceSpace;
use super::tracee::{Go, Status, Tracee};
use crate::platform::native::{memory, xstate};
use crate::platform::{ForkKind, MemOp, Regs, Space, Thread, ThreadHandle, Trap};

/// The trap flag of eflags.
const TRAP_FLAG: u64 = 0x100;

/// XSAVE area up to the end of its header: what every image has at least.
const XSAVE_MIN: usize = 576;

pub(super) struct PtraceThread {
    core: Arc<Core>,
    host: Arc<HostThread>,
    space: Arc<dyn Space>,
    handle: Arc<dyn ThreadHandle>,
    /// As the kernel sees and wants them.
    regs: Regs,
    /// As the host thread has them.
    have: Regs,
    /// The host runs it or was told to end it: dropping this object changes nothing.
    pub(super) released: bool,
}

impl PtraceThread {
    /// Take charge of a tracee that stopped for the first time, as a thread of `process` in `space`.
    pub(super) fn adopt(
        core: &Arc<Core>,
        tracee: Tracee,
        process: Option<Arc<HostProcess>>,
        space: Arc<PtraceSpace>,
    ) -> Result<Box<PtraceThread>, Errno> {
        let process = process.unwrap_or_else(|| HostProcess::new(tracee));
        let host = HostThread::new(tracee, process, Arc::clone(&space), Arc::clone(core.mail()));
        core.register(&host);
        let mut thread = Box::new(PtraceThread {
            core: Arc::clone(core),
            space,
            handle: Arc::new(Handle(Arc::clone(&host))),
            host,
            regs: Regs::default(),
            have: Regs::default(),
            released: false,
        });
        match thread.wait() {
            Status::Gone => return Err(Errno::ESRCH),
            _ => thread.load()?,
        }
        Ok(thread)
    }

    pub(super) fn host(&self) -> &Arc<HostThread> {
        &self.host
    }

    /// Whether its process ends with it.
    pub(super) fn is_last(&self) -> bool {
        self.host.process.live.load(Ordering::Relaxed) <= 1
    }

    fn load(&mut self) -> Result<(), Errno> {
        (self.regs, self.have) = regs::load(self.host.tracee)?;
        Ok(())
    }

    fn wait(&self) -> Status {
        self.core.wait_for(self.host.tracee, self.host.may_be_held_back())
    }

    /// Make one host call in this thread.
    fn call(&mut self, number: i64, args: [u64; 6]) -> Result<u64, Errno> {
        if self.host.is_reaped() {
            return Err(Errno::ESRCH);
        }
        let this = &*self;
        let (result, have) = inject::call(
            this.host.tracee,
            &|| this.wait(),
            super::image::SYSCALL,
            number,
            args,
        )?;
        self.have = have;
        result
    }

    /// Let the guest run. A thread that is being killed is left for the host to report.
    pub(super) fn resume(&mut self, step: bool) {
        let go = if step { Go::GuestStep } else { Go::Guest };
        let tracee = self.host.tracee;
        let done = regs::write_back(tracee, &mut self.have, &self.regs).and_then(|()| tracee.go(go));
        if let Err(e) = done
            && e != Errno::ESRCH
        {
            tracing::error!("resuming host thread {}: {e}", tracee.0);
            tracee.kill_process();
        }
    }

    /// What the stop with `status` means to the owner; none when it means nothing and the guest should run on.
    pub(super) fn classify(&mut self, status: Status, stepping: bool) -> Option<Trap> {
        if status == Status::Gone {
            return Some(Trap::Died);
        }
        if let Err(error) = self.load() {
            // It is being killed, or runs 32-bit code, whose registers have another shape. The host reports the end of both.
            if error != Errno::ESRCH {
                self.host.tracee.kill_process();
            }
            return None;
        }
        match status {
            Status::Syscall => Some(self.syscall_trap(stepping)),
            Status::Signal(_) => fault::read(self.host.tracee, &mut self.regs).ok()?,
            Status::Paused => self.host.take_kick().then_some(Trap::Interrupted),
            Status::Exec | Status::Gone => None,
        }
    }

    fn syscall_trap(&mut self, stepping: bool) -> Trap {
        let regs = &mut self.regs;
        if stepping && regs.eflags & TRAP_FLAG == 0 {
            // The instruction saved the flag that the host had set for its own purposes.
            regs.r11 &= !TRAP_FLAG;
        }
        // What the instruction leaves behind; `int $0x80` only does when the guest prepared it.
        let as_syscall = regs.cs == USER_CS && regs.rcx == regs.rip && regs.r11 == regs.eflags;
        if as_syscall || self.host.tracee.syscall_is_64bit().unwrap_or(false) {
            Trap::Syscall
        } else {
            Trap::ForeignSyscall
        }
    }

    /// End the host thread. The host reports it later.
    pub(super) fn end(mut self: Box<Self>) {
        self.released = true;
        self.core.end(&self.host);
    }
}

impl Drop for PtraceThread {
    fn drop(&mut self) {
        if !self.released && !self.host.is_reaped() {
            self.host.mail().dropped(Arc::clone(&self.host));
        }
    }
}

impl Thread for PtraceThread {
    fn space(&self) -> &Arc<dyn Space> {
        &self.space
    }

    fn handle(&self) -> Arc<dyn ThreadHandle> {
        Arc::clone(&self.handle)
    }

    fn regs(&self) -> &Regs {
        &self.regs
    }

    fn regs_mut(&mut self) -> &mut Regs {
        &mut self.regs
    }

    fn xstate(&mut self) -> Result<Vec<u8>, Errno> {
        self.host.tracee.xstate().map(xstate::shown)
    }

    fn set_xstate(&mut self, image: &[u8]) -> Result<(), Errno> {
        // The host only takes images of its own full size; features left out are in their initial state.
        let size = self.host.tracee.xstate()?.len();
        if image.len() < XSAVE_MIN || image.len() > xstate::size().min(size) {
            return Err(Errno::EINVAL);
        }
        let mut full = image.to_vec();
        full.resize(size, 0);
        match self.host.tracee.set_xstate(&full) {
            Err(Errno::ESRCH) => Err(Errno::ESRCH),
            other => other.map_err(|_| Errno::EINVAL),
        }
    }

    fn memory(&mut self, ops: &[MemOp<'_>]) -> Result<u64, Errno> {
        let mut result = 0;
        for op in ops {
            let fd = match op {
                MemOp::Map {
                    file: Some((file, _)),
                    ..
                } => Some(self.core.hand_in(file)?),
                _ => None,
            };
            let (number, args) = memory::host_call(op, fd)?;
            result = self.call(number, args)?;
        }
        Ok(result)
    }

    fn fork(&mut self, kind: ForkKind) -> Result<Box<dyn Thread>, Errno> {
        let more = match kind {
            ForkKind::Copy => 0,
            ForkKind::Share => libc::CLONE_VM,
            ForkKind::Thread => {
                libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND | libc::CLONE_SYSVSEM
            }
        };
        let flags = inject::CLONE_COPY | more as u64;
        let tracee = Tracee::from_result(self.call(libc::SYS_clone, [flags, 0, 0, 0, 0, 0])?)?;
        let process = (kind == ForkKind::Thread).then(|| Arc::clone(&self.host.process));
        let space = match kind {
            ForkKind::Copy => PtraceSpace::new(&self.core),
            ForkKind::Share | ForkKind::Thread => Arc::clone(&self.host.space),
        };
        let mut child = PtraceThread::adopt(&self.core, tracee, process, space)?;
        child.regs = self.regs;
        Ok(child)
    }

    fn trap_tsc(&mut self, on: bool) -> Result<(), Errno> {
        let mode = if on {
            libc::PR_TSC_SIGSEGV
        } else {
            libc::PR_TSC_ENABLE
        };
        self.call(
            libc::SYS_prctl,
            [libc::PR_SET_TSC as u64, mode as u64, 0, 0, 0, 0],
        )?;
        Ok(())
    }

    fn set_affinity(&mut self, mask: &[u64]) -> Result<(), Errno> {
        if self.host.is_reaped() {
            return Err(Errno::ESRCH);
        }
        let bytes = size_of_val(mask);
        // SAFETY: the host reads `bytes` bytes of `mask`, which is as long, and any size is allowed.
        let rc = unsafe { libc::sched_setaffinity(self.host.tracee.0, bytes, mask.as_ptr().cast()) };
        Errno::result(rc).map(drop)
    }
}

impl PtraceThread {
    /// Forget the registers it was made with.
    pub(super) fn clear_regs(&mut self) {
        self.regs = Regs {
            cs: inject::USER_CS,
            ss: inject::USER_DS,
            eflags: 0x202,
            ..Regs::default()
        };
    }
}
