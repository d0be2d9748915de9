//! execve(2), execveat(2), and how the first process begins.
//!
//! A new program is loaded into a fresh address space while the old one still exists, so a failure leaves the caller as it
//! was. When it is ready, the other threads of the process are ended, and the task moves over.

mod args;
mod boot;
mod commit;
mod creds;
mod elf;
mod find;
mod load;
mod stack;

pub use boot::{Init, start_init};
pub(super) use load::grow_stack;

use super::{ExitStatus, Task};
use crate::kernel::fs::{Fd, Path};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::{UserCString, UserRef};
use crate::kernel::wait::WaitFor;
use args::Strings;
use elf::Bad;
use find::{Finder, Program};
use load::Loaded;

/// AT_EXECVE_CHECK: only say whether it could be executed.
const AT_EXECVE_CHECK: u32 = 0x1_0000;

/// What a program is loaded for.
struct Subject {
    creds: std::sync::Arc<super::Creds>,
    no_new_privs: bool,
    personality: u32,
    /// Soft RLIMIT_STACK.
    stack_limit: u64,
}

impl Subject {
    fn of(task: &Task) -> Subject {
        let stack_limit = task.group.soft_limit(libc::RLIMIT_STACK);
        let state = task.state.lock();
        Subject {
            no_new_privs: state.no_new_privs,
            personality: state.personality,
            creds: task.creds(),
            stack_limit,
        }
    }
}

/// A program that is ready to replace the caller's.
struct Ready {
    loaded: Loaded,
    comm: Vec<u8>,
}

/// execve(2).
pub(super) fn execve(
    cx: &mut SyscallCx<'_>,
    path: UserCString,
    argv: UserRef<u64>,
    envp: UserRef<u64>,
) -> SysResult<()> {
    run(cx, Fd::CWD, path, argv, envp, 0)
}

/// execveat(2).
pub(super) fn execveat(
    cx: &mut SyscallCx<'_>,
    dir: Fd,
    path: UserCString,
    argv: UserRef<u64>,
    envp: UserRef<u64>,
    flags: u32,
) -> SysResult<()> {
    let known = (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW).cast_unsigned() | AT_EXECVE_CHECK;
    if flags & !known != 0 {
        return fail!(EINVAL);
    }
    run(cx, dir, path, argv, envp, flags)
}

fn run(
    cx: &mut SyscallCx<'_>,
    dir: Fd,
    path: UserCString,
    argv: UserRef<u64>,
    envp: UserRef<u64>,
    flags: u32,
) -> SysResult<()> {
    let resumed = cx
        .state
        .data
        .take()
        .and_then(|data| data.downcast::<Ready>().ok());
    let ready = match resumed {
        Some(ready) => ready,
        None => {
            let path = cx.memory.read_path(path)?;
            let subject = Subject::of(cx.task);
            let program = open(cx, &subject, dir, &path, flags)?;
            if flags & AT_EXECVE_CHECK != 0 {
                return Ok(());
            }
            let strings = Strings::read(&cx.memory, argv, envp, subject.stack_limit, program.execfn.len())?;
            match prepare(cx, &subject, program, strings) {
                Ok(ready) => Box::new(ready),
                Err(Bad::Refused(errno)) => return Err(errno.into()),
                Err(Bad::Unready) => return Err(WaitFor::nothing().into()),
                Err(Bad::Deadly) => {
                    cx.task.group.begin_exit(ExitStatus::Signaled {
                        signal: libc::SIGSEGV,
                        core: false,
                    });
                    return fail!(ENOEXEC);
                }
            }
        }
    };
    if let Some(wait) = commit::end_other_threads(cx.task)? {
        cx.state.data = Some(ready);
        return Err(wait.into());
    }
    commit::commit(cx, *ready)
}

/// Find the file that `dir`, `path` and `flags` of execveat(2) mean.
fn open(cx: &SyscallCx<'_>, subject: &Subject, dir: Fd, path: &[u8], flags: u32) -> SysResult<Program> {
    let has = |flag: i32| flags & flag.cast_unsigned() != 0;
    let start: Option<Path> = if dir == Fd::CWD || path.starts_with(b"/") {
        None
    } else {
        let file = cx.task.files().get_any(dir)?;
        Some(match &file.path {
            Some(path) => path.clone(),
            None => cx.kernel.vfs.anon.path_of(&file),
        })
    };
    let by_fd = start.is_some();
    let execfn = if !by_fd {
        path.to_vec()
    } else if path.is_empty() {
        format!("/dev/fd/{}", dir.0).into_bytes()
    } else {
        [format!("/dev/fd/{}/", dir.0).as_bytes(), path].concat()
    };
    let finder = Finder::of(cx.task, subject);
    let found = finder.lookup(
        start.as_ref(),
        path,
        has(libc::AT_EMPTY_PATH),
        !has(libc::AT_SYMLINK_NOFOLLOW),
    )?;
    // A script could not open its own name once the descriptor is closed.
    let inaccessible = by_fd && cx.task.files().close_on_exec(dir)?;
    Ok(finder.open(found, execfn, inaccessible)?)
}

/// Follow `#!` lines to the program to run and load it.
fn prepare(cx: &SyscallCx<'_>, subject: &Subject, program: Program, strings: Strings) -> Result<Ready, Bad> {
    let comm = find::comm_of(&program.execfn);
    let finder = Finder::of(cx.task, subject);
    let (program, strings) = finder.resolve(program, strings)?;
    let loaded = load::load(cx.kernel, &finder, subject, program, &strings)?;
    Ok(Ready { loaded, comm })
}

/// For the first process, which has no parent that could see it killed.
impl From<Bad> for Errno {
    fn from(bad: Bad) -> Errno {
        match bad {
            Bad::Refused(errno) => errno,
            Bad::Deadly => Errno::ENOEXEC,
            Bad::Unready => Errno::EAGAIN,
        }
    }
}
