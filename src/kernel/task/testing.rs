//! A kernel with one task on a real platform, for tests of what acts on a task.

use std::sync::Arc;

use super::{Creds, Parts, Rlimits, Shared, Task, TaskState, ThreadGroup};
use crate::cpu::{Choice, Model};
use crate::kernel::fs::memfs::{MemFs, MemFsOptions};
use crate::kernel::fs::{FdTable, MountFlags, Vfs};
use crate::kernel::mm::Mm;
use crate::kernel::signal::{SigHand, SignalState};
use crate::kernel::syscall::{CallState, SyscallCx};
use crate::kernel::time::Clock;
use crate::kernel::wait::reactor::Reactor;
use crate::kernel::{Boot, Kernel};
use crate::platform::ptrace::PtracePlatform;
use crate::platform::{Platform, Thread};

/// A task whose thread never runs: the test makes its calls.
pub(in crate::kernel) struct Caller {
    pub(in crate::kernel) task: Arc<Task>,
    thread: Box<dyn Thread>,
}

impl Caller {
    /// Root, in an empty address space and an empty tmpfs.
    pub(in crate::kernel) fn new() -> Caller {
        let platform = PtracePlatform::new(false).unwrap_or_else(|e| panic!("platform: {e}"));
        let clock = Arc::new(Clock::new());
        let reactor = Reactor::new(clock.clone()).unwrap_or_else(|e| panic!("reactor: {e}"));
        let root = MemFs::tmpfs(MemFsOptions::new(1, clock.clone()));
        let kernel = Kernel::new(Boot {
            platform: platform.clone(),
            vfs: Vfs::new(root, b"none", MountFlags::empty()),
            nodename: b"test".to_vec(),
            clock,
            reactor,
            tracer: None,
            model: Model::here(&Choice::default(), 2, false).unwrap_or_else(|e| panic!("processor: {e}")),
            seed: None,
        });
        let thread = platform.spawn().unwrap_or_else(|e| panic!("spawn: {e}"));
        let parts = Parts {
            tid: 1,
            group: ThreadGroup::new(1, libc::SIGCHLD, Rlimits::default()),
            shared: Shared {
                files: Arc::new(FdTable::default()),
                fs: kernel.vfs.context(0o022),
                mm: Mm::new(thread.space().clone()),
                sighand: SigHand::new(),
                creds: Arc::new(Creds::of_user(0, 0, &[])),
            },
            kernel,
            state: TaskState::default(),
            signals: SignalState::default(),
        };
        let task = Task::build(parts, thread.handle());
        Caller { task, thread }
    }

    /// Make a call.
    pub(in crate::kernel) fn call<R>(&mut self, run: impl FnOnce(&mut SyscallCx<'_>) -> R) -> R {
        let mut state = CallState::default();
        let memory = self.task.memory();
        run(&mut SyscallCx {
            kernel: &self.task.kernel.clone(),
            task: &self.task.clone(),
            thread: &mut *self.thread,
            memory,
            nr: 0,
            args: [0; 6],
            state: &mut state,
        })
    }
}
