//! User and group ids, capabilities: setuid(2), setgroups(2), capset(2) and their like.

use std::sync::Arc;

use crate::kernel::abi::task::{CapData, CapHeader};
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{ALL_CAPABILITIES, Capability, Creds, Task};
use crate::kernel::user_memory::UserRef;

/// "Leave as it is".
const KEEP: u32 = u32::MAX;

/// Most supplementary groups (NGROUPS_MAX).
const GROUPS_MAX: i32 = 65536;

/// SECBIT_NO_SETUID_FIXUP.
const NO_SETUID_FIXUP: u32 = 1 << 2;
/// SECBIT_KEEP_CAPS.
const KEEP_CAPS: u32 = 1 << 4;

/// Capabilities that follow the file-system user id.
const FILE_CAPS: u64 = 1 << Capability::Chown as u8
    | 1 << Capability::Mknod as u8
    | 1 << Capability::DacOverride as u8
    | 1 << Capability::DacReadSearch as u8
    | 1 << Capability::Fowner as u8
    | 1 << Capability::Fsetid as u8
    | 1 << Capability::LinuxImmutable as u8
    | 1 << Capability::MacOverride as u8;

/// Install credentials; what gains or changes file rights may no longer be dumped or told of its parent's end.
pub(super) fn commit(task: &Task, new: Creds) {
    let old = task.creds();
    let changed = (old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid);
    if changed || new.permitted & !old.permitted != 0 {
        task.mm().state.lock().dumpable = 0;
        task.state.lock().pdeath_signal = 0;
    }
    task.set_creds(new);
}

/// What changes of user ids do to capabilities: capabilities(7), "Effect of user ID changes on capabilities".
fn fix_capabilities(old: &Creds, new: &mut Creds) {
    if new.securebits & NO_SETUID_FIXUP != 0 {
        return;
    }
    let has_root = |c: &Creds| c.uid == 0 || c.euid == 0 || c.suid == 0;
    if has_root(old) && !has_root(new) {
        if new.securebits & KEEP_CAPS == 0 {
            new.permitted = 0;
            new.effective = 0;
        }
        new.ambient = 0;
    }
    if old.euid == 0 && new.euid != 0 {
        new.effective = 0;
    } else if old.euid != 0 && new.euid == 0 {
        new.effective = new.permitted;
    }
}

fn commit_uids(cx: &SyscallCx<'_>, old: &Creds, mut new: Creds) {
    fix_capabilities(old, &mut new);
    commit(cx.task, new);
}

/// getuid(2).
pub(super) fn getuid(cx: &mut SyscallCx<'_>) -> SysResult<u32> {
    Ok(cx.task.creds().uid)
}

/// geteuid(2).
pub(super) fn geteuid(cx: &mut SyscallCx<'_>) -> SysResult<u32> {
    Ok(cx.task.creds().euid)
}

/// getgid(2).
pub(super) fn getgid(cx: &mut SyscallCx<'_>) -> SysResult<u32> {
    Ok(cx.task.creds().gid)
}

/// getegid(2).
pub(super) fn getegid(cx: &mut SyscallCx<'_>) -> SysResult<u32> {
    Ok(cx.task.creds().egid)
}

/// setuid(2).
pub(super) fn setuid(cx: &mut SyscallCx<'_>, uid: u32) -> SysResult<()> {
    if uid == KEEP {
        return fail!(EINVAL);
    }
    let old = cx.task.creds();
    let mut new = (*old).clone();
    if old.capable(Capability::Setuid) {
        new.uid = uid;
        new.suid = uid;
    } else if uid != old.uid && uid != old.suid {
        return fail!(EPERM);
    }
    new.euid = uid;
    new.fsuid = uid;
    commit_uids(cx, &old, new);
    Ok(())
}

/// setgid(2).
pub(super) fn setgid(cx: &mut SyscallCx<'_>, gid: u32) -> SysResult<()> {
    if gid == KEEP {
        return fail!(EINVAL);
    }
    let old = cx.task.creds();
    let mut new = (*old).clone();
    if old.capable(Capability::Setgid) {
        new.gid = gid;
        new.sgid = gid;
    } else if gid != old.gid && gid != old.sgid {
        return fail!(EPERM);
    }
    new.egid = gid;
    new.fsgid = gid;
    commit(cx.task, new);
    Ok(())
}

/// setreuid(2).
pub(super) fn setreuid(cx: &mut SyscallCx<'_>, ruid: u32, euid: u32) -> SysResult<()> {
    let old = cx.task.creds();
    let free = old.capable(Capability::Setuid);
    let mut new = (*old).clone();
    if ruid != KEEP {
        if !free && ![old.uid, old.euid].contains(&ruid) {
            return fail!(EPERM);
        }
        new.uid = ruid;
    }
    if euid != KEEP {
        if !free && ![old.uid, old.euid, old.suid].contains(&euid) {
            return fail!(EPERM);
        }
        new.euid = euid;
    }
    if ruid != KEEP || euid != KEEP && euid != old.uid {
        new.suid = new.euid;
    }
    new.fsuid = new.euid;
    commit_uids(cx, &old, new);
    Ok(())
}

/// setregid(2).
pub(super) fn setregid(cx: &mut SyscallCx<'_>, rgid: u32, egid: u32) -> SysResult<()> {
    let old = cx.task.creds();
    let free = old.capable(Capability::Setgid);
    let mut new = (*old).clone();
    if rgid != KEEP {
        if !free && ![old.gid, old.egid].contains(&rgid) {
            return fail!(EPERM);
        }
        new.gid = rgid;
    }
    if egid != KEEP {
        if !free && ![old.gid, old.egid, old.sgid].contains(&egid) {
            return fail!(EPERM);
        }
        new.egid = egid;
    }
    if rgid != KEEP || egid != KEEP && egid != old.gid {
        new.sgid = new.egid;
    }
    new.fsgid = new.egid;
    commit(cx.task, new);
    Ok(())
}

/// Whether three new ids (or none) are all among the old ones.
fn all_known(new: [u32; 3], old: [u32; 3]) -> bool {
    new.iter().all(|id| *id == KEEP || old.contains(id))
}

fn or_keep(new: u32, old: u32) -> u32 {
    if new == KEEP { old } else { new }
}

/// setresuid(2).
pub(super) fn setresuid(cx: &mut SyscallCx<'_>, ruid: u32, euid: u32, suid: u32) -> SysResult<()> {
    let old = cx.task.creds();
    let known = all_known([ruid, euid, suid], [old.uid, old.euid, old.suid]);
    if !known && !old.capable(Capability::Setuid) {
        return fail!(EPERM);
    }
    let mut new = (*old).clone();
    new.uid = or_keep(ruid, old.uid);
    new.euid = or_keep(euid, old.euid);
    new.suid = or_keep(suid, old.suid);
    new.fsuid = new.euid;
    commit_uids(cx, &old, new);
    Ok(())
}

/// setresgid(2).
pub(super) fn setresgid(cx: &mut SyscallCx<'_>, rgid: u32, egid: u32, sgid: u32) -> SysResult<()> {
    let old = cx.task.creds();
    let known = all_known([rgid, egid, sgid], [old.gid, old.egid, old.sgid]);
    if !known && !old.capable(Capability::Setgid) {
        return fail!(EPERM);
    }
    let mut new = (*old).clone();
    new.gid = or_keep(rgid, old.gid);
    new.egid = or_keep(egid, old.egid);
    new.sgid = or_keep(sgid, old.sgid);
    new.fsgid = new.egid;
    commit(cx.task, new);
    Ok(())
}

/// getresuid(2).
pub(super) fn getresuid(
    cx: &mut SyscallCx<'_>,
    ruid: UserRef<u32>,
    euid: UserRef<u32>,
    suid: UserRef<u32>,
) -> SysResult<()> {
    let creds = cx.task.creds();
    cx.memory.write(ruid, &creds.uid)?;
    cx.memory.write(euid, &creds.euid)?;
    Ok(cx.memory.write(suid, &creds.suid)?)
}

/// getresgid(2).
pub(super) fn getresgid(
    cx: &mut SyscallCx<'_>,
    rgid: UserRef<u32>,
    egid: UserRef<u32>,
    sgid: UserRef<u32>,
) -> SysResult<()> {
    let creds = cx.task.creds();
    cx.memory.write(rgid, &creds.gid)?;
    cx.memory.write(egid, &creds.egid)?;
    Ok(cx.memory.write(sgid, &creds.sgid)?)
}

/// setfsuid(2): the old id, whether it was changed or not.
pub(super) fn setfsuid(cx: &mut SyscallCx<'_>, uid: u32) -> SysResult<u32> {
    let old = cx.task.creds();
    let known = [old.uid, old.euid, old.suid, old.fsuid].contains(&uid);
    if uid != KEEP && uid != old.fsuid && (known || old.capable(Capability::Setuid)) {
        let mut new = (*old).clone();
        new.fsuid = uid;
        if new.securebits & NO_SETUID_FIXUP == 0 {
            if old.fsuid == 0 {
                new.effective &= !FILE_CAPS;
            } else if uid == 0 {
                new.effective |= new.permitted & FILE_CAPS;
            }
        }
        commit(cx.task, new);
    }
    Ok(old.fsuid)
}

/// setfsgid(2): the old id, whether it was changed or not.
pub(super) fn setfsgid(cx: &mut SyscallCx<'_>, gid: u32) -> SysResult<u32> {
    let old = cx.task.creds();
    let known = [old.gid, old.egid, old.sgid, old.fsgid].contains(&gid);
    if gid != KEEP && gid != old.fsgid && (known || old.capable(Capability::Setgid)) {
        let mut new = (*old).clone();
        new.fsgid = gid;
        commit(cx.task, new);
    }
    Ok(old.fsgid)
}

/// getgroups(2).
pub(super) fn getgroups(cx: &mut SyscallCx<'_>, size: i32, list: UserRef<u32>) -> SysResult<usize> {
    let creds = cx.task.creds();
    let Ok(size) = usize::try_from(size) else {
        return fail!(EINVAL);
    };
    if size > 0 {
        if size < creds.groups.len() {
            return fail!(EINVAL);
        }
        cx.memory.write_array(list, &creds.groups)?;
    }
    Ok(creds.groups.len())
}

/// setgroups(2).
pub(super) fn setgroups(cx: &mut SyscallCx<'_>, size: i32, list: UserRef<u32>) -> SysResult<()> {
    let old = cx.task.creds();
    if !old.capable(Capability::Setgid) {
        return fail!(EPERM);
    }
    let count = match usize::try_from(size) {
        Ok(count) if size <= GROUPS_MAX => count,
        _ => return fail!(EINVAL),
    };
    let mut groups = cx.memory.read_array(list, count)?;
    if groups.contains(&KEEP) {
        return fail!(EINVAL);
    }
    groups.sort_unstable();
    let mut new = (*old).clone();
    new.groups = groups.into();
    commit(cx.task, new);
    Ok(())
}

/// How many [`CapData`] a header's version means: none for versions unknown, which are answered with our own.
fn cap_words(cx: &SyscallCx<'_>, header: UserRef<CapHeader>) -> SysResult<(Option<usize>, CapHeader)> {
    const VERSION_3: u32 = 0x2008_0522;
    let value = cx.memory.read(header)?;
    let words = match value.version {
        0x1998_0330 => 1,
        0x2007_1026 | VERSION_3 => 2,
        _ => {
            cx.memory.write(header.addr().cast(), &VERSION_3)?;
            return Ok((None, value));
        }
    };
    Ok((Some(words), value))
}

/// capget(2).
pub(super) fn capget(
    cx: &mut SyscallCx<'_>,
    header: UserRef<CapHeader>,
    data: UserRef<CapData>,
) -> SysResult<()> {
    let (words, header) = cap_words(cx, header)?;
    let Some(words) = words else {
        return if data.is_null() { Ok(()) } else { fail!(EINVAL) };
    };
    if header.pid < 0 {
        return fail!(EINVAL);
    }
    let creds = match header.pid {
        0 => cx.task.creds(),
        pid => cx.kernel.pids.task(pid).ok_or(Errno::ESRCH)?.creds(),
    };
    if data.is_null() {
        return Ok(());
    }
    let values: Vec<CapData> = (0..words)
        .map(|i| CapData {
            effective: word(creds.effective, i),
            permitted: word(creds.permitted, i),
            inheritable: word(creds.inheritable, i),
        })
        .collect();
    Ok(cx.memory.write_array(data, &values)?)
}

fn word(set: u64, index: usize) -> u32 {
    u32::try_from(set >> (32 * index) & 0xffff_ffff).unwrap_or_default()
}

/// capset(2).
pub(super) fn capset(
    cx: &mut SyscallCx<'_>,
    header: UserRef<CapHeader>,
    data: UserRef<CapData>,
) -> SysResult<()> {
    let (words, header) = cap_words(cx, header)?;
    let Some(words) = words else {
        return fail!(EINVAL);
    };
    if header.pid != 0 && header.pid != cx.task.tid() {
        return fail!(EPERM);
    }
    let values = cx.memory.read_array(data, words)?;
    let join = |pick: fn(&CapData) -> u32| {
        let set = values
            .iter()
            .rev()
            .fold(0, |sum, v| sum << 32 | u64::from(pick(v)));
        set & ALL_CAPABILITIES
    };
    let effective = join(|v| v.effective);
    let permitted = join(|v| v.permitted);
    let inheritable = join(|v| v.inheritable);
    let old: Arc<Creds> = cx.task.creds();
    let free = old.capable(Capability::Setpcap);
    let beyond = |set: u64, of: u64| set & !of != 0;
    if !free && beyond(inheritable, old.inheritable | old.permitted)
        || beyond(inheritable, old.inheritable | old.bounding)
        || beyond(permitted, old.permitted)
        || beyond(effective, permitted)
    {
        return fail!(EPERM);
    }
    let mut new = (*old).clone();
    new.effective = effective;
    new.permitted = permitted;
    new.inheritable = inheritable;
    new.ambient &= permitted & inheritable;
    commit(cx.task, new);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_root_drops_capabilities_unless_kept() {
        let root = Creds::of_user(0, 0, &[]);
        let mut user = root.clone();
        (user.uid, user.euid, user.suid) = (5, 5, 5);
        let mut kept = user.clone();
        kept.securebits = KEEP_CAPS;
        fix_capabilities(&root, &mut user);
        assert_eq!((user.permitted, user.effective), (0, 0));
        fix_capabilities(&root, &mut kept);
        assert_eq!((kept.permitted, kept.effective), (ALL_CAPABILITIES, 0));
        let mut effective_only = root.clone();
        effective_only.euid = 5;
        fix_capabilities(&root, &mut effective_only);
        assert_eq!(
            (effective_only.permitted, effective_only.effective),
            (ALL_CAPABILITIES, 0)
        );
        let mut back = effective_only.clone();
        back.euid = 0;
        fix_capabilities(&effective_only, &mut back);
        assert_eq!(back.effective, ALL_CAPABILITIES);
    }
}
