//! unshare(2), kcmp(2).

use std::cmp::Ordering;
use std::sync::Arc;

use crate::kernel::fs::Fd;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Pid, Task, access};

const VM: u64 = 0x100;
const FS: u64 = 0x200;
const FILES: u64 = 0x400;
const SIGHAND: u64 = 0x800;
const THREAD: u64 = 0x1_0000;
const SYSVSEM: u64 = 0x4_0000;
/// CLONE_NEW* in all.
const NAMESPACES: u64 = 0x7e02_0080;

/// unshare(2).
pub(super) fn unshare(cx: &mut SyscallCx<'_>, flags: u64) -> SysResult<()> {
    if flags & !(VM | FS | FILES | SIGHAND | THREAD | SYSVSEM | NAMESPACES) != 0 {
        return fail!(EINVAL);
    }
    let alone = cx.task.group.state.lock().threads.len() == 1;
    let shared_memory = cx.task.mm().is_shared();
    if flags & (THREAD | SIGHAND | VM) != 0 && !alone || flags & VM != 0 && shared_memory {
        return fail!(EINVAL);
    }
    if flags & NAMESPACES != 0 {
        return fail!(EPERM);
    }
    if flags & FS != 0 {
        let copy = cx.task.fs().lock().clone();
        drop(cx.task.set_fs(Arc::new(Lock::new(Rank::FsContext, copy))));
    }
    if flags & FILES != 0 {
        cx.task.unshare_files();
    }
    if flags & SIGHAND != 0 {
        cx.task.set_sighand(cx.task.sighand().copy());
    }
    Ok(())
}

/// kcmp(2): 0 when equal, 1 or 2 for an order that means nothing.
pub(super) fn kcmp(
    cx: &mut SyscallCx<'_>,
    pid1: Pid,
    pid2: Pid,
    kind: i32,
    index1: u64,
    index2: u64,
) -> SysResult<u64> {
    const KCMP_FILE: i32 = 0;
    const KCMP_VM: i32 = 1;
    const KCMP_FILES: i32 = 2;
    const KCMP_FS: i32 = 3;
    const KCMP_SIGHAND: i32 = 4;
    let find = |pid| cx.kernel.pids.task(pid).ok_or(Errno::ESRCH);
    let (one, two) = (find(pid1)?, find(pid2)?);
    access::check_for_files(cx.task, &one)?;
    access::check_for_files(cx.task, &two)?;
    let order = match kind {
        KCMP_FILE => file(&one, index1)?.cmp(&file(&two, index2)?),
        KCMP_VM => address(&one.mm()).cmp(&address(&two.mm())),
        KCMP_FILES => address(&one.files()).cmp(&address(&two.files())),
        KCMP_FS => address(&one.fs()).cmp(&address(&two.fs())),
        KCMP_SIGHAND => address(&one.sighand()).cmp(&address(&two.sighand())),
        _ => return fail!(EINVAL),
    };
    Ok(match order {
        Ordering::Equal => 0,
        Ordering::Less => 1,
        Ordering::Greater => 2,
    })
}

fn address<T>(of: &Arc<T>) -> usize {
    Arc::as_ptr(of).addr()
}

fn file(task: &Task, index: u64) -> Result<usize, Errno> {
    let fd = i32::try_from(index).map_err(|_| Errno::EBADF)?;
    Ok(address(&task.files().get_any(Fd(fd))?))
}
