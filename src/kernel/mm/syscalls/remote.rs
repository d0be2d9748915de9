//! process_vm_readv(2), process_vm_writev(2).

use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Pid, access};
use crate::kernel::user_memory::{IoVec, MAX_IOV, Sink, Source, UserBuf, UserMemory, UserRef};

/// Bytes copied at once.
const STEP: usize = 64 << 10;

/// process_vm_readv(2).
pub fn process_vm_readv(
    cx: &mut SyscallCx<'_>,
    pid: Pid,
    local: UserRef<IoVec>,
    local_count: u64,
    remote: UserRef<IoVec>,
    remote_count: u64,
    flags: u64,
) -> SysResult<usize> {
    let Some((mut to, mut from)) = prepare(cx, pid, (local, local_count), (remote, remote_count), flags)?
    else {
        return Ok(0);
    };
    transfer(&mut from, &mut to)
}

/// process_vm_writev(2).
pub fn process_vm_writev(
    cx: &mut SyscallCx<'_>,
    pid: Pid,
    local: UserRef<IoVec>,
    local_count: u64,
    remote: UserRef<IoVec>,
    remote_count: u64,
    flags: u64,
) -> SysResult<usize> {
    let Some((mut from, mut to)) = prepare(cx, pid, (local, local_count), (remote, remote_count), flags)?
    else {
        return Ok(0);
    };
    transfer(&mut from, &mut to)
}

/// Check the arguments and make the local and the remote list; none when the local one is empty.
fn prepare(
    cx: &SyscallCx<'_>,
    pid: Pid,
    local: (UserRef<IoVec>, u64),
    remote: (UserRef<IoVec>, u64),
    flags: u64,
) -> SysResult<Option<(UserBuf, UserBuf)>> {
    if flags != 0 {
        return fail!(EINVAL);
    }
    let own = UserBuf::from_iovec(&cx.memory, local.0, local.1)?;
    if Sink::remaining(&own) == 0 {
        return Ok(None);
    }
    if remote.1 > MAX_IOV {
        return fail!(EINVAL);
    }
    let vectors = cx.memory.read_array(remote.0, remote.1 as usize)?;
    let target = cx.kernel.pids.task(pid).ok_or(Errno::ESRCH)?;
    if target.state.lock().exited {
        return fail!(ESRCH);
    }
    access::check(cx.task, &target)?;
    let theirs = UserBuf::remote(&UserMemory::new(target.mm().space.clone()), vectors);
    Ok(Some((own, theirs)))
}

/// Copy until either list ends or memory does; EFAULT only when nothing was copied.
fn transfer(from: &mut UserBuf, to: &mut UserBuf) -> SysResult<usize> {
    let mut buffer = vec![0; STEP];
    let mut done = 0;
    loop {
        let want = Source::remaining(from).min(Sink::remaining(to)).min(STEP);
        if want == 0 {
            return Ok(done);
        }
        let step = from
            .take(&mut buffer[..want])
            .and_then(|got| Ok((got, to.put(&buffer[..got])?)));
        match step {
            Ok((got, put)) => {
                done += put;
                if put < want || got < want {
                    return Ok(done);
                }
            }
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno.into()),
        }
    }
}
