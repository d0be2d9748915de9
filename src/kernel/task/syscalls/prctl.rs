//! prctl(2), arch_prctl(2), personality(2).

use super::creds::commit;
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{ALL_CAPABILITIES, Capability, Creds};
use crate::kernel::user_memory::{UserAddr, UserRef};
use crate::platform::USER_END;

/// Longest name of a thread with its zero, in bytes.
const COMM: usize = 16;

/// Default timer slack, in nanoseconds.
const SLACK: u64 = 50_000;

/// SECBIT_KEEP_CAPS and its lock.
const KEEP_CAPS: u32 = 1 << 4;
const KEEP_CAPS_LOCKED: u32 = 1 << 5;
/// SECBIT_NO_CAP_AMBIENT_RAISE.
const NO_AMBIENT_RAISE: u32 = 1 << 6;
/// All securebits and all their locks.
const SECUREBITS: u32 = 0xff;
const SECUREBIT_LOCKS: u32 = 0xaa;

const PR_GET_AUXV: i32 = 0x4155_5856;

/// prctl(2). Options that are not here are EINVAL, as in a kernel built without them.
pub(super) fn prctl(
    cx: &mut SyscallCx<'_>,
    option: i32,
    arg2: u64,
    arg3: u64,
    arg4: u64,
    arg5: u64,
) -> SysResult<u64> {
    let rest_zero = arg3 == 0 && arg4 == 0 && arg5 == 0;
    match option {
        libc::PR_SET_PDEATHSIG => match i32::try_from(arg2) {
            Ok(signal) if (0..=64).contains(&signal) => {
                cx.task.state.lock().pdeath_signal = signal;
                Ok(0)
            }
            _ => fail!(EINVAL),
        },
        libc::PR_GET_PDEATHSIG => {
            let signal = cx.task.state.lock().pdeath_signal;
            put(cx, arg2, signal)
        }
        libc::PR_GET_DUMPABLE => Ok(cx.task.mm().state.lock().dumpable.cast_unsigned().into()),
        libc::PR_SET_DUMPABLE => match arg2 {
            0 => set_dumpable(cx, 0),
            1 => set_dumpable(cx, 1),
            _ => fail!(EINVAL),
        },
        libc::PR_SET_NAME => set_name(cx, UserAddr(arg2)),
        libc::PR_GET_NAME => {
            let mut name = cx.task.state.lock().comm.clone();
            name.resize(COMM, 0);
            cx.memory.write_bytes(UserAddr(arg2), &name)?;
            Ok(0)
        }
        libc::PR_SET_TIMERSLACK => {
            cx.task.state.lock().timer_slack = if arg2 == 0 { SLACK } else { arg2 };
            Ok(0)
        }
        libc::PR_GET_TIMERSLACK => Ok(cx.task.state.lock().timer_slack),
        libc::PR_SET_CHILD_SUBREAPER => {
            cx.task.group.state.lock().subreaper = arg2 != 0;
            Ok(0)
        }
        libc::PR_GET_CHILD_SUBREAPER => {
            let on = cx.task.group.state.lock().subreaper;
            put(cx, arg2, i32::from(on))
        }
        libc::PR_SET_NO_NEW_PRIVS if arg2 == 1 && rest_zero => {
            cx.task.state.lock().no_new_privs = true;
            Ok(0)
        }
        libc::PR_GET_NO_NEW_PRIVS if arg2 == 0 && rest_zero => Ok(cx.task.state.lock().no_new_privs.into()),
        libc::PR_GET_TID_ADDRESS => {
            let addr = cx.task.state.lock().clear_child_tid;
            cx.memory.write(UserAddr(arg2).cast(), &addr)?;
            Ok(0)
        }
        libc::PR_SET_TSC => set_tsc(cx, arg2),
        libc::PR_GET_TSC => {
            let faults = cx.task.state.lock().tsc_faults;
            put(
                cx,
                arg2,
                if faults {
                    libc::PR_TSC_SIGSEGV
                } else {
                    libc::PR_TSC_ENABLE
                },
            )
        }
        PR_GET_AUXV if arg4 == 0 && arg5 == 0 => get_auxv(cx, UserAddr(arg2), arg3),
        // Neither statistics nor seccomp nor counters are anywhere but at their default.
        libc::PR_GET_TIMING | libc::PR_GET_SECCOMP => Ok(0),
        libc::PR_SET_TIMING if arg2 == 0 => Ok(0),
        libc::PR_TASK_PERF_EVENTS_DISABLE | libc::PR_TASK_PERF_EVENTS_ENABLE => Ok(0),
        _ => capabilities(cx, option, arg2, arg3, arg4 == 0 && arg5 == 0),
    }
}

fn put(cx: &SyscallCx<'_>, to: u64, value: i32) -> SysResult<u64> {
    cx.memory.write(UserAddr(to).cast(), &value)?;
    Ok(0)
}

fn set_dumpable(cx: &SyscallCx<'_>, value: i32) -> SysResult<u64> {
    cx.task.mm().state.lock().dumpable = value;
    Ok(0)
}

/// Takes up to 15 bytes, wherever the string ends.
fn set_name(cx: &SyscallCx<'_>, from: UserAddr) -> SysResult<u64> {
    let mut name = [0; COMM - 1];
    let got = cx.memory.copy_in(from, &mut name);
    let end = name[..got].iter().position(|&b| b == 0);
    if end.is_none() && got < name.len() {
        return fail!(EFAULT);
    }
    cx.task.state.lock().comm = name[..end.unwrap_or(got)].to_vec();
    Ok(0)
}

fn set_tsc(cx: &mut SyscallCx<'_>, mode: u64) -> SysResult<u64> {
    let faults = match i32::try_from(mode) {
        Ok(libc::PR_TSC_ENABLE) => false,
        Ok(libc::PR_TSC_SIGSEGV) => true,
        _ => return fail!(EINVAL),
    };
    cx.thread.trap_tsc(faults || cx.kernel.clock.is_virtual())?;
    cx.task.state.lock().tsc_faults = faults;
    Ok(0)
}

fn get_auxv(cx: &SyscallCx<'_>, to: UserAddr, len: u64) -> SysResult<u64> {
    let auxv = cx.task.mm().state.lock().auxv.clone();
    let fits = usize::try_from(len).unwrap_or(usize::MAX).min(auxv.len());
    cx.memory.write_bytes(to, &auxv[..fits])?;
    Ok(auxv.len() as u64)
}

/// The options about capabilities.
fn capabilities(cx: &SyscallCx<'_>, option: i32, arg2: u64, arg3: u64, rest_zero: bool) -> SysResult<u64> {
    let old = cx.task.creds();
    let mut new = (*old).clone();
    match option {
        libc::PR_CAPBSET_READ => Ok(u64::from(old.bounding & capability(arg2)? != 0)),
        libc::PR_CAPBSET_DROP => {
            if !old.capable(Capability::Setpcap) {
                return fail!(EPERM);
            }
            new.bounding &= !capability(arg2)?;
            commit(cx.task, new);
            Ok(0)
        }
        libc::PR_GET_KEEPCAPS => Ok(u64::from(old.securebits & KEEP_CAPS != 0)),
        libc::PR_SET_KEEPCAPS => {
            if arg2 > 1 {
                return fail!(EINVAL);
            }
            if old.securebits & KEEP_CAPS_LOCKED != 0 {
                return fail!(EPERM);
            }
            new.securebits = old.securebits & !KEEP_CAPS | if arg2 == 1 { KEEP_CAPS } else { 0 };
            commit(cx.task, new);
            Ok(0)
        }
        libc::PR_GET_SECUREBITS => Ok(old.securebits.into()),
        libc::PR_SET_SECUREBITS => {
            new.securebits = secure_bits(&old, arg2)?;
            commit(cx.task, new);
            Ok(0)
        }
        libc::PR_CAP_AMBIENT if rest_zero => ambient(cx, new, arg2, arg3),
        _ => fail!(EINVAL),
    }
}

/// A capability as a set; EINVAL for what is none.
fn capability(number: u64) -> SysResult<u64> {
    match 1u64.checked_shl(u32::try_from(number).unwrap_or(64)) {
        Some(set) if set & ALL_CAPABILITIES != 0 => Ok(set),
        _ => fail!(EINVAL),
    }
}

fn secure_bits(old: &Creds, wanted: u64) -> SysResult<u32> {
    let Some(wanted) = u32::try_from(wanted).ok().filter(|bits| bits & !SECUREBITS == 0) else {
        return fail!(EPERM);
    };
    let locked = (old.securebits & SECUREBIT_LOCKS) >> 1;
    let unlocks = old.securebits & SECUREBIT_LOCKS & !wanted != 0;
    if locked & (old.securebits ^ wanted) != 0 || unlocks || !old.capable(Capability::Setpcap) {
        return fail!(EPERM);
    }
    Ok(wanted)
}

fn ambient(cx: &SyscallCx<'_>, mut new: Creds, action: u64, number: u64) -> SysResult<u64> {
    if action == libc::PR_CAP_AMBIENT_CLEAR_ALL as u64 {
        if number != 0 {
            return fail!(EINVAL);
        }
        new.ambient = 0;
        commit(cx.task, new);
        return Ok(0);
    }
    let set = capability(number)?;
    match i32::try_from(action) {
        Ok(libc::PR_CAP_AMBIENT_IS_SET) => return Ok(u64::from(new.ambient & set != 0)),
        Ok(libc::PR_CAP_AMBIENT_RAISE) => {
            if new.permitted & new.inheritable & set == 0 || new.securebits & NO_AMBIENT_RAISE != 0 {
                return fail!(EPERM);
            }
            new.ambient |= set;
        }
        Ok(libc::PR_CAP_AMBIENT_LOWER) => new.ambient &= !set,
        _ => return fail!(EINVAL),
    }
    commit(cx.task, new);
    Ok(0)
}

/// arch_prctl(2).
pub(super) fn arch_prctl(cx: &mut SyscallCx<'_>, code: i32, addr: u64) -> SysResult<u64> {
    const ARCH_SET_GS: i32 = 0x1001;
    const ARCH_SET_FS: i32 = 0x1002;
    const ARCH_GET_FS: i32 = 0x1003;
    const ARCH_GET_GS: i32 = 0x1004;
    const ARCH_GET_CPUID: i32 = 0x1011;
    const ARCH_SET_CPUID: i32 = 0x1012;
    const ARCH_GET_XCOMP_SUPP: i32 = 0x1021;
    const ARCH_GET_XCOMP_PERM: i32 = 0x1022;
    const ARCH_REQ_XCOMP_PERM: i32 = 0x1023;
    let to: UserRef<u64> = UserAddr(addr).cast();
    match code {
        ARCH_SET_GS | ARCH_SET_FS if addr > USER_END => return fail!(EPERM),
        ARCH_SET_GS => cx.thread.regs_mut().gs_base = addr,
        ARCH_SET_FS => cx.thread.regs_mut().fs_base = addr,
        ARCH_GET_FS => cx.memory.write(to, &cx.thread.regs().fs_base)?,
        ARCH_GET_GS => cx.memory.write(to, &cx.thread.regs().gs_base)?,
        ARCH_GET_CPUID => return Ok(u64::from(!cx.task.state.lock().cpuid_faults)),
        ARCH_SET_CPUID if !cx.kernel.platform.traps_cpuid() => return fail!(ENODEV),
        ARCH_SET_CPUID => {
            if addr == 0 {
                cx.thread.bare_cpuid();
            }
            cx.task.set_cpuid_faults(addr == 0);
        }
        ARCH_GET_XCOMP_SUPP | ARCH_GET_XCOMP_PERM => cx.memory.write(to, &state_components(cx))?,
        // As where no component has to be asked for.
        ARCH_REQ_XCOMP_PERM => return fail!(EOPNOTSUPP),
        _ => return fail!(EINVAL),
    }
    Ok(0)
}

/// The components of the extended state that programs may use: those of the processor but AMX's.
fn state_components(cx: &SyscallCx<'_>) -> u64 {
    const XSTATE: u32 = 0xd;
    const LEGACY: u64 = 3;
    let [low, _, _, high] = cx.kernel.processor.answers().answer(XSTATE, 0, 0);
    u64::from(high) << 32 | u64::from(low) | LEGACY
}

/// personality(2): the old one; all ones only asks.
pub(super) fn personality(cx: &mut SyscallCx<'_>, persona: u32) -> SysResult<u32> {
    let mut state = cx.task.state.lock();
    let old = state.personality;
    if persona != u32::MAX {
        state.personality = persona;
    }
    Ok(old)
}
