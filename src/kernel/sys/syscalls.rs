//! uname(2), sysinfo(2), getrandom(2), sethostname(2), reboot(2), syslog(2).

use super::{RELEASE, VERSION};
use crate::kernel::Uts;
use crate::kernel::abi::sys::{Sysinfo, UTS_LEN, Utsname};
use crate::kernel::dev::kmsg;
use crate::kernel::stop::{SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::{Capability, ExitStatus};
use crate::kernel::time::NANOS_PER_SEC;
use crate::kernel::user_memory::{Sink, UserAddr, UserBuf, UserRef};

syscall_table::sys_rows!(crate::kernel::syscall::dispatch_rows);

/// Longest host or domain name, in bytes.
const NAME_MAX: u64 = 64;

/// Random bytes made at once.
const RANDOM_STEP: usize = 4096;

/// uname(2).
fn uname(cx: &mut SyscallCx<'_>, buf: UserRef<Utsname>) -> SysResult<()> {
    let uts = cx.kernel.uts.lock().clone();
    let value = Utsname {
        sysname: field(b"Linux"),
        nodename: field(&uts.nodename),
        release: field(RELEASE.as_bytes()),
        version: field(VERSION.as_bytes()),
        machine: field(b"x86_64"),
        domainname: field(&uts.domainname),
    };
    Ok(cx.memory.write(buf, &value)?)
}

fn field(text: &[u8]) -> [u8; UTS_LEN] {
    let mut field = [0; UTS_LEN];
    let len = text.len().min(UTS_LEN - 1);
    field[..len].copy_from_slice(&text[..len]);
    field
}

/// sethostname(2).
fn sethostname(cx: &mut SyscallCx<'_>, name: UserAddr, len: u64) -> SysResult<()> {
    let name = read_name(cx, name, len)?;
    set_name(cx, |uts| uts.nodename = name);
    Ok(())
}

/// setdomainname(2).
fn setdomainname(cx: &mut SyscallCx<'_>, name: UserAddr, len: u64) -> SysResult<()> {
    let name = read_name(cx, name, len)?;
    set_name(cx, |uts| uts.domainname = name);
    Ok(())
}

fn read_name(cx: &SyscallCx<'_>, from: UserAddr, len: u64) -> SysResult<Vec<u8>> {
    if !cx.task.creds().capable(Capability::SysAdmin) {
        return fail!(EPERM);
    }
    if len > NAME_MAX {
        return fail!(EINVAL);
    }
    let mut name = vec![0; len as usize];
    cx.memory.read_bytes(from, &mut name)?;
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    name.truncate(end);
    Ok(name)
}

fn set_name(cx: &SyscallCx<'_>, change: impl FnOnce(&mut Uts)) {
    change(&mut cx.kernel.uts.lock());
}

/// sysinfo(2).
fn sysinfo(cx: &mut SyscallCx<'_>, info: UserRef<Sysinfo>) -> SysResult<()> {
    let procs = cx.kernel.pids.lock().tasks.len();
    let value = Sysinfo {
        uptime: (cx.kernel.clock.now().0 / NANOS_PER_SEC).cast_signed(),
        totalram: cx.kernel.hardware.memory,
        freeram: cx.kernel.hardware.free_memory(),
        procs: u16::try_from(procs).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::default()
    };
    Ok(cx.memory.write(info, &value)?)
}

/// getrandom(2). Never waits: the host's generator was ready long ago.
fn getrandom(cx: &mut SyscallCx<'_>, buf: UserAddr, len: u64, flags: u32) -> SysResult<usize> {
    let both = libc::GRND_RANDOM | libc::GRND_INSECURE;
    if flags & !(libc::GRND_NONBLOCK | both) != 0 || flags & both == both {
        return fail!(EINVAL);
    }
    let mut to = UserBuf::new(&cx.memory, buf, len.min(i32::MAX as u64))?;
    let mut bytes = [0; RANDOM_STEP];
    while to.remaining() > 0 {
        let step = to.remaining().min(RANDOM_STEP);
        cx.kernel.random.fill(&mut bytes[..step])?;
        match to.put(&bytes[..step]) {
            Ok(put) if put == step => {}
            Err(errno) if to.done() == 0 => return Err(errno.into()),
            _ => break,
        }
    }
    Ok(to.done())
}

/// syslog(2).
fn syslog(cx: &mut SyscallCx<'_>, action: i32, buf: UserAddr, len: i32) -> SysResult<usize> {
    const READ: i32 = 2;
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    const CLEAR: i32 = 5;
    const CONSOLE_LEVEL: i32 = 8;
    const SIZE_UNREAD: i32 = 9;
    const SIZE_BUFFER: i32 = 10;
    let open_to_all = action == READ_ALL || action == SIZE_BUFFER;
    if !open_to_all && !cx.task.creds().capable(Capability::Syslog) {
        return fail!(EPERM);
    }
    let log = &cx.kernel.log;
    let len = usize::try_from(len);
    match (action, len) {
        (READ | READ_ALL | READ_CLEAR, _) if buf.is_null() => fail!(EINVAL),
        (READ, Ok(len)) => {
            let bytes = log.unread(len)?;
            cx.memory.write_bytes(buf, &bytes)?;
            log.was_read(bytes.len());
            Ok(bytes.len())
        }
        (READ_ALL | READ_CLEAR, Ok(len)) => {
            let bytes = log.last(len);
            cx.memory.write_bytes(buf, &bytes)?;
            if action == READ_CLEAR {
                log.clear();
            }
            Ok(bytes.len())
        }
        (CLEAR, _) => {
            log.clear();
            Ok(0)
        }
        (CONSOLE_LEVEL, Ok(1..=8)) | (0 | 1 | 6 | 7, _) => Ok(0),
        (SIZE_UNREAD, _) => Ok(log.unread_size()),
        (SIZE_BUFFER, _) => Ok(kmsg::CAPACITY),
        _ => fail!(EINVAL),
    }
}

/// reboot(2): whatever ends Linux ends the machine. Starting it again is up to whoever started it.
fn reboot(cx: &mut SyscallCx<'_>, magic1: u32, magic2: u32, command: u32, _arg: u64) -> SysResult<()> {
    const MAGIC2: [u32; 4] = [672_274_793, 85_072_278, 369_367_448, 537_993_216];
    const CAD: [u32; 2] = [0, 0x89ab_cdef];
    const ENDING: [u32; 4] = [0x0123_4567, 0xcdef_0123, 0x4321_fedc, 0xa1b2_c3d4];
    if !cx.task.creds().capable(Capability::SysBoot) {
        return fail!(EPERM);
    }
    if magic1 != 0xfee1_dead || !MAGIC2.contains(&magic2) {
        return fail!(EINVAL);
    }
    if CAD.contains(&command) {
        return Ok(());
    }
    if !ENDING.contains(&command) {
        return fail!(EINVAL);
    }
    cx.kernel.shutdown(ExitStatus::Exited(0));
    Ok(())
}
