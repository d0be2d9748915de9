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

/// The ids of one kind, of users or of groups.
#[derive(Clone, Copy)]
struct Ids {
    real: u32,
    effective: u32,
    saved: u32,
    /// What files are opened with.
    files: u32,
}

/// How they change; `free` is who may take any.
impl Ids {
    /// setuid(2), setgid(2).
    fn set(mut self, id: u32, free: bool) -> SysResult<Ids> {
        if id == KEEP {
            return fail!(EINVAL);
        }
        if free {
            (self.real, self.saved) = (id, id);
        } else if id != self.real && id != self.saved {
            return fail!(EPERM);
        }
        (self.effective, self.files) = (id, id);
        Ok(self)
    }

    /// setreuid(2), setregid(2).
    fn set_pair(self, real: u32, effective: u32, free: bool) -> SysResult<Ids> {
        let mut new = self;
        if real != KEEP {
            if !free && ![self.real, self.effective].contains(&real) {
                return fail!(EPERM);
            }
            new.real = real;
        }
        if effective != KEEP {
            if !free && ![self.real, self.effective, self.saved].contains(&effective) {
                return fail!(EPERM);
            }
            new.effective = effective;
        }
        if real != KEEP || effective != KEEP && effective != self.real {
            new.saved = new.effective;
        }
        new.files = new.effective;
        Ok(new)
    }

    /// setresuid(2), setresgid(2).
    fn set_three(self, real: u32, effective: u32, saved: u32, free: bool) -> SysResult<Ids> {
        let own = [self.real, self.effective, self.saved];
        let known = |id: &u32| *id == KEEP || own.contains(id);
        if !free && ![real, effective, saved].iter().all(known) {
            return fail!(EPERM);
        }
        let or_keep = |new: u32, old: u32| if new == KEEP { old } else { new };
        let effective = or_keep(effective, self.effective);
        Ok(Ids {
            real: or_keep(real, self.real),
            effective,
            saved: or_keep(saved, self.saved),
            files: effective,
        })
    }
}

fn change_users(cx: &SyscallCx<'_>, change: impl FnOnce(Ids, bool) -> SysResult<Ids>) -> SysResult<()> {
    let old = cx.task.creds();
    let ids = Ids {
        real: old.uid,
        effective: old.euid,
        saved: old.suid,
        files: old.fsuid,
    };
    let ids = change(ids, old.capable(Capability::Setuid))?;
    let mut new = (*old).clone();
    (new.uid, new.euid, new.suid, new.fsuid) = (ids.real, ids.effective, ids.saved, ids.files);
    fix_capabilities(&old, &mut new);
    commit(cx.task, new);
    Ok(())
}

fn change_groups(cx: &SyscallCx<'_>, change: impl FnOnce(Ids, bool) -> SysResult<Ids>) -> SysResult<()> {
    let old = cx.task.creds();
    let ids = Ids {
        real: old.gid,
        effective: old.egid,
        saved: old.sgid,
        files: old.fsgid,
    };
    let ids = change(ids, old.capable(Capability::Setgid))?;
    let mut new = (*old).clone();
    (new.gid, new.egid, new.sgid, new.fsgid) = (ids.real, ids.effective, ids.saved, ids.files);
    commit(cx.task, new);
    Ok(())
}

/// setuid(2).
pub(super) fn setuid(cx: &mut SyscallCx<'_>, uid: u32) -> SysResult<()> {
    change_users(cx, |ids, free| ids.set(uid, free))
}

/// setgid(2).
pub(super) fn setgid(cx: &mut SyscallCx<'_>, gid: u32) -> SysResult<()> {
    change_groups(cx, |ids, free| ids.set(gid, free))
}

/// setreuid(2).
pub(super) fn setreuid(cx: &mut SyscallCx<'_>, ruid: u32, euid: u32) -> SysResult<()> {
    change_users(cx, |ids, free| ids.set_pair(ruid, euid, free))
}

/// setregid(2).
pub(super) fn setregid(cx: &mut SyscallCx<'_>, rgid: u32, egid: u32) -> SysResult<()> {
    change_groups(cx, |ids, free| ids.set_pair(rgid, egid, free))
}

/// setresuid(2).
pub(super) fn setresuid(cx: &mut SyscallCx<'_>, ruid: u32, euid: u32, suid: u32) -> SysResult<()> {
    change_users(cx, |ids, free| ids.set_three(ruid, euid, suid, free))
}

/// setresgid(2).
pub(super) fn setresgid(cx: &mut SyscallCx<'_>, rgid: u32, egid: u32, sgid: u32) -> SysResult<()> {
    change_groups(cx, |ids, free| ids.set_three(rgid, egid, sgid, free))
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
