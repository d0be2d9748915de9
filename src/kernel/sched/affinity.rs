//! sched_setaffinity(2), sched_getaffinity(2), getcpu(2).

use std::sync::Arc;

use super::{check_owner, target};
use crate::kernel::Kernel;
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Pid;
use crate::kernel::user_memory::{UserAddr, UserRef};

/// Longest mask read, in bytes.
const MASK_MAX: u64 = 1024;

/// The machine's CPUs, a bit each.
fn online(kernel: &Kernel) -> Vec<u64> {
    let cpus = kernel.hardware.cpus.max(1) as usize;
    let mut mask = vec![u64::MAX; cpus.div_ceil(64)];
    if let Some(last) = mask.last_mut().filter(|_| !cpus.is_multiple_of(64)) {
        *last = (1 << (cpus % 64)) - 1;
    }
    mask
}

/// sched_setaffinity(2). Another thread than the caller moves when it next execs or clones.
pub(super) fn sched_setaffinity(cx: &mut SyscallCx<'_>, pid: Pid, len: u64, from: UserAddr) -> SysResult<()> {
    let online = online(cx.kernel);
    let mut bytes = vec![0; len.min(MASK_MAX) as usize];
    cx.memory.read_bytes(from, &mut bytes)?;
    let task = target(cx, pid)?;
    check_owner(cx, &task)?;
    bytes.resize(online.len() * 8, 0);
    let mask: Vec<u64> = bytes
        .chunks_exact(8)
        .zip(&online)
        .map(|(word, online)| word.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)) & online)
        .collect();
    if mask.iter().all(|word| *word == 0) {
        return fail!(EINVAL);
    }
    if Arc::ptr_eq(&task, cx.task) {
        // A host that counts its CPUs otherwise leaves the thread where it may run anyway.
        let _ = cx.thread.set_affinity(&mask);
    }
    task.state.lock().sched.affinity = Some(mask);
    Ok(())
}

/// sched_getaffinity(2): the size of the kernel's mask in bytes.
pub(super) fn sched_getaffinity(cx: &mut SyscallCx<'_>, pid: Pid, len: u64, to: UserAddr) -> SysResult<u64> {
    let online = online(cx.kernel);
    let size = online.len() as u64 * 8;
    if len < size || !len.is_multiple_of(8) {
        return fail!(EINVAL);
    }
    let task = target(cx, pid)?;
    let mask = task.state.lock().sched.affinity.clone().unwrap_or(online);
    cx.memory.write_array(to.cast(), &mask)?;
    Ok(size)
}

/// getcpu(2).
pub(super) fn getcpu(
    cx: &mut SyscallCx<'_>,
    cpu: UserRef<u32>,
    node: UserRef<u32>,
    _cache: u64,
) -> SysResult<()> {
    if let Some(cpu) = cpu.non_null() {
        let now = match cx.kernel.turns {
            Some(_) => 0,
            None => nix::sched::sched_getcpu().map_or(0, |cpu| u32::try_from(cpu).unwrap_or(0)),
        };
        cx.memory.write(cpu, &(now % cx.kernel.hardware.cpus.max(1)))?;
    }
    if let Some(node) = node.non_null() {
        cx.memory.write(node, &0u32)?;
    }
    Ok(())
}
