//! Who may look into another process: ptrace(2), "Ptrace access mode checking".

use std::sync::Arc;

use super::{Capability, Task, ThreadGroup};
use crate::kernel::stop::Errno;

/// Whether `caller` may read and change `target`; EPERM. By the caller's real ids, as ptrace(2) and process_vm_readv(2).
pub fn check(caller: &Task, target: &Task) -> Result<(), Errno> {
    let creds = caller.creds();
    check_as(caller, (creds.uid, creds.gid), target)
}

/// As [`check`] by the caller's file-system ids, as procfs does.
pub fn check_for_files(caller: &Task, target: &Task) -> Result<(), Errno> {
    let creds = caller.creds();
    check_as(caller, (creds.fsuid, creds.fsgid), target)
}

fn check_as(caller: &Task, (uid, gid): (u32, u32), target: &Task) -> Result<(), Errno> {
    if Arc::ptr_eq(&caller.group, &target.group) {
        return Ok(());
    }
    let (ours, theirs) = (caller.creds(), target.creds());
    let privileged = ours.capable(Capability::SysPtrace);
    let same = [theirs.uid, theirs.euid, theirs.suid].iter().all(|&u| u == uid)
        && [theirs.gid, theirs.egid, theirs.sgid].iter().all(|&g| g == gid);
    let dumpable = target.mm().state.lock().dumpable == 1;
    let fewer_rights = theirs.permitted & !ours.permitted == 0;
    if privileged || same && dumpable && fewer_rights {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// A thread of a process that has not ended, the first one if possible.
pub fn live_thread(group: &ThreadGroup) -> Option<Arc<Task>> {
    group.state.lock().threads.first().cloned()
}
