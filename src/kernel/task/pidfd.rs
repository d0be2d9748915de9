//! Descriptors that name a process: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2).

use std::sync::Arc;

use super::{Pid, ThreadGroup, access};
use crate::kernel::fs::{AnonKind, Fd, File, FileOps, OpenFlags};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::wait::{Events, WaitQueue};

/// What a pidfd does: it becomes readable when the process has ended.
pub struct PidFd(Arc<ThreadGroup>);

impl PidFd {
    /// The process.
    pub fn group(&self) -> &Arc<ThreadGroup> {
        &self.0
    }
}

impl FileOps for PidFd {
    fn poll(&self, _: &File) -> Events {
        if self.0.has_ended() {
            Events::READ
        } else {
            Events::empty()
        }
    }

    fn queues(&self, _: &File, _: Events) -> Vec<(WaitQueue, Events)> {
        vec![(self.0.ended.clone(), Events::READ)]
    }

    fn fdinfo(&self, _: &File) -> String {
        let pid = if self.0.has_ended() { -1 } else { self.0.pid };
        format!("Pid:\t{pid}\nNSpid:\t{pid}\n")
    }
}

/// A file for a process; `flags` of pidfd_open(2).
pub(super) fn file(cx: &SyscallCx<'_>, group: Arc<ThreadGroup>, flags: OpenFlags) -> Arc<File> {
    let flags = flags | OpenFlags::RDWR;
    cx.kernel.vfs.anon.file(
        &cx.kernel.clock,
        &cx.task.creds(),
        AnonKind::Other("[pidfd]"),
        Arc::new(PidFd(group)),
        flags,
    )
}

/// The process a descriptor names; EBADF.
pub fn group_of(cx: &SyscallCx<'_>, fd: Fd) -> Result<Arc<ThreadGroup>, Errno> {
    let file = cx.task.files().get(fd)?;
    file.ops_as::<PidFd>().map(|p| p.0.clone()).ok_or(Errno::EBADF)
}

/// pidfd_open(2).
pub(super) fn pidfd_open(cx: &mut SyscallCx<'_>, pid: Pid, flags: u32) -> SysResult<i32> {
    let known = OpenFlags::NONBLOCK.bits();
    if flags & !known != 0 || pid <= 0 {
        return fail!(EINVAL);
    }
    let group = match cx.kernel.pids.group(pid) {
        Some(group) => group,
        None if cx.kernel.pids.task(pid).is_some() => return fail!(EINVAL),
        None => return fail!(ESRCH),
    };
    let file = file(cx, group, OpenFlags::from_bits_truncate(flags));
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    Ok(cx.task.files().insert(file, true, 0, limit)?.0)
}

/// pidfd_getfd(2).
pub(super) fn pidfd_getfd(cx: &mut SyscallCx<'_>, pidfd: Fd, target: Fd, flags: u32) -> SysResult<i32> {
    if flags != 0 {
        return fail!(EINVAL);
    }
    let group = group_of(cx, pidfd)?;
    let thread = access::live_thread(&group).ok_or(Errno::ESRCH)?;
    access::check(cx.task, &thread)?;
    let file = thread.files().get_any(target)?;
    let limit = cx.task.group.soft_limit(libc::RLIMIT_NOFILE);
    Ok(cx.task.files().insert(file, true, 0, limit)?.0)
}
