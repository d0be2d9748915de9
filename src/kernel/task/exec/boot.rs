//! The first process.

use std::sync::Arc;

use super::args::Strings;
use super::find::{Finder, comm_of};
use super::{Subject, load};
use crate::kernel::Kernel;
use crate::kernel::fs::walk::WalkCx;
use crate::kernel::fs::{FdTable, FsContext};
use crate::kernel::signal::{SigHand, SignalState};
use crate::kernel::stop::Errno;
use crate::kernel::sync::Lock;
use crate::kernel::task::{Creds, Parts, Process, Rlimits, Shared, Task, TaskState, ThreadGroup};

/// What the first process is made of.
pub struct Init {
    /// Path of the program, not searched for.
    pub path: Vec<u8>,
    /// Arguments, the name first.
    pub argv: Vec<Vec<u8>>,
    /// Environment.
    pub envp: Vec<Vec<u8>>,
    /// Who it is.
    pub creds: Creds,
    /// Its root, working directory and umask.
    pub fs: Arc<Lock<FsContext>>,
    /// Its descriptors.
    pub files: Arc<FdTable>,
    /// Its limits.
    pub limits: Rlimits,
}

/// Load a program as process 1, leader of a session, and hand its thread to the platform. The errors are those of
/// execve(2).
pub fn start_init(kernel: &Arc<Kernel>, init: Init) -> Result<Arc<Task>, Errno> {
    let subject = Subject {
        creds: Arc::new(init.creds),
        no_new_privs: false,
        personality: 0,
        stack_limit: init.limits.0[libc::RLIMIT_STACK as usize].soft,
    };
    let places = init.fs.lock().places().clone();
    let finder = Finder::with(WalkCx {
        vfs: &kernel.vfs,
        creds: subject.creds.clone(),
        places,
        task: None,
    });
    let found = finder.lookup(None, &init.path, false, true)?;
    let program = finder.open(found, init.path.clone(), false)?;
    let strings = Strings::new(init.argv, init.envp, subject.stack_limit);
    let (program, strings) = finder.resolve(program, strings)?;
    let loaded = load::load(kernel, &finder, &subject, program, &strings)?;

    let pid = kernel.pids.lock().allocate()?;
    let group = ThreadGroup::new(pid, libc::SIGCHLD, init.limits);
    let thread = loaded.thread;
    let task = Task::build(
        Parts {
            tid: pid,
            kernel: kernel.clone(),
            group: group.clone(),
            shared: Shared {
                files: init.files,
                fs: init.fs,
                mm: loaded.mm,
                sighand: SigHand::new(),
                creds: Arc::new(loaded.creds.creds),
            },
            state: TaskState {
                comm: comm_of(&init.path),
                timer_slack: 50_000,
                started: kernel.clock.now(),
                ..TaskState::default()
            },
            signals: SignalState::default(),
        },
        thread.handle(),
    );
    group.state.lock().threads.push(task.clone());
    let process = Process {
        group,
        parent: 0,
        parent_thread: 0,
        children: Default::default(),
        pgid: pid,
        sid: pid,
        zombie: None,
    };
    kernel.pids.lock().add(&task, Some(process));
    task.mm().set_free(&task);
    task.start(thread);
    if let Some(turns) = &kernel.turns {
        turns.watch();
    }
    Ok(task)
}
