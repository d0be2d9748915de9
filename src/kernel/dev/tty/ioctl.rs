//! Terminal requests: ioctl_tty(2).

use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use super::termios::{TERMIOS_SIZE, Termios, WinSize};
use super::{Tty, job, serial};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::UserAddr;
use crate::kernel::wait::Events;

// What libc does not name, or names with another type.
const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCEXCL: u32 = 0x540c;
const TIOCNXCL: u32 = 0x540d;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCOUTQ: u32 = 0x5411;
const TIOCSTI: u32 = 0x5412;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const TIOCPKT: u32 = 0x5420;
const TIOCNOTTY: u32 = 0x5422;
const TIOCSETD: u32 = 0x5423;
const TIOCGETD: u32 = 0x5424;
const TCSBRKP: u32 = 0x5425;
const TIOCGSID: u32 = 0x5429;
const TIOCVHANGUP: u32 = 0x5437;
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSW2: u32 = 0x402c_542c;
const TCSETSF2: u32 = 0x402c_542d;
const TIOCGPTN: u32 = 0x8004_5430;
const TIOCSPTLCK: u32 = 0x4004_5431;
const TIOCGDEV: u32 = 0x8004_5432;
const TIOCGPKT: u32 = 0x8004_5438;
const TIOCGPTLCK: u32 = 0x8004_5439;
const TIOCGEXCL: u32 = 0x8004_5440;
/// Open the other end; done by the master's file, which knows what to open.
pub(super) const TIOCGPTPEER: u32 = 0x5441;

/// Bits of a packet-mode status byte.
pub(super) const PKT_FLUSHREAD: u8 = 1;
const PKT_FLUSHWRITE: u8 = 2;
const PKT_STOP: u8 = 4;
const PKT_START: u8 = 8;
const PKT_NOSTOP: u8 = 16;
const PKT_DOSTOP: u8 = 32;

/// What requests get at a slave that was cut off.
pub(super) fn after_hang_up(request: u32) -> Errno {
    match request {
        TIOCSPGRP => Errno::ENOTTY,
        _ => Errno::EIO,
    }
}

/// Requests at the slave.
pub(super) fn slave(cx: &mut SyscallCx<'_>, tty: &Arc<Tty>, request: u32, arg: u64) -> SysResult<u64> {
    match request {
        TIOCSCTTY => job::acquire(
            cx.task,
            tty,
            arg == 1 && cx.task.creds().capable(Capability::SysAdmin),
        )?,
        TIOCNOTTY => job::give_up(cx.task, tty)?,
        TIOCGPGRP | TIOCGSID => {
            let (_, sid) = job::place(cx.task);
            let (session, foreground) = tty.job();
            if session != Some(sid) {
                return Err(Errno::ENOTTY.into());
            }
            let value = if request == TIOCGSID { sid } else { foreground };
            put_int(cx, arg, value)?;
        }
        TIOCSPGRP => set_foreground(cx, tty, arg)?,
        FIONREAD => {
            let bytes = tty.state.lock().discipline.readable_bytes();
            put_int(cx, arg, clamp(bytes))?;
        }
        TIOCOUTQ => {
            put_int(cx, arg, clamp(tty.output_len()))?;
        }
        TIOCSTI => {
            // As with dev.tty.legacy_tiocsti off: not even at one's own terminal.
            if !cx.task.creds().capable(Capability::SysAdmin) {
                return Err(Errno::EIO.into());
            }
            let byte: u8 = cx.memory.read(UserAddr(arg).cast())?;
            tty.input(&[byte]);
        }
        TIOCVHANGUP => {
            if !cx.task.creds().capable(Capability::SysAdmin) {
                return Err(Errno::EPERM.into());
            }
            tty.hang_up();
        }
        _ => {
            if matches!(
                request,
                TCSETS
                    | TCSETSW
                    | TCSETSF
                    | TCSETS2
                    | TCSETSW2
                    | TCSETSF2
                    | TCSBRK
                    | TCSBRKP
                    | TCXONC
                    | TCFLSH
            ) {
                job::check_foreground(cx.task, tty, libc::SIGTTOU)?;
            }
            if matches!(
                request,
                TCSETSW | TCSETSF | TCSETSW2 | TCSETSF2 | TCSBRK | TCSBRKP
            ) {
                tty.wait_until_sent()?;
            }
            if let Some(done) = serial::request(cx, tty, request, arg)? {
                return Ok(done);
            }
            return both(cx, tty, request, arg);
        }
    }
    Ok(0)
}

/// Requests at the master.
pub(super) fn master(cx: &mut SyscallCx<'_>, tty: &Arc<Tty>, request: u32, arg: u64) -> SysResult<u64> {
    match request {
        TIOCGPTN => put_int(cx, arg, i32::try_from(tty.index).map_err(|_| Errno::EINVAL)?)?,
        TIOCSPTLCK => {
            let locked = get_int(cx, arg)? != 0;
            tty.state.lock().locked = locked;
        }
        TIOCGPTLCK => {
            let locked = tty.state.lock().locked;
            put_int(cx, arg, i32::from(locked))?;
        }
        TIOCPKT => {
            let on = get_int(cx, arg)? != 0;
            let mut state = tty.state.lock();
            state.packet = on;
            state.packet_status = 0;
        }
        TIOCGPKT => {
            let on = tty.state.lock().packet;
            put_int(cx, arg, i32::from(on))?;
        }
        TIOCGPGRP => put_int(cx, arg, tty.job().1)?,
        TIOCGSID => put_int(cx, arg, tty.job().0.ok_or(Errno::ENOTTY)?)?,
        TIOCSPGRP => set_foreground(cx, tty, arg)?,
        FIONREAD => {
            let bytes = tty.state.lock().discipline.output_len();
            put_int(cx, arg, clamp(bytes))?;
        }
        TIOCOUTQ => put_int(cx, arg, 0)?,
        _ => return both(cx, tty, request, arg),
    }
    Ok(0)
}

/// Requests that mean the same at both ends.
fn both(cx: &mut SyscallCx<'_>, tty: &Arc<Tty>, request: u32, arg: u64) -> SysResult<u64> {
    let at = UserAddr(arg);
    match request {
        TCGETS | TCGETS2 => {
            let termios = tty.state.lock().discipline.termios;
            let size = if request == TCGETS {
                TERMIOS_SIZE
            } else {
                size_of::<Termios>()
            };
            cx.memory.write_bytes(at, &termios.as_bytes()[..size])?;
        }
        TCSETS | TCSETSW | TCSETSF => set_termios(cx, tty, at, TERMIOS_SIZE, request == TCSETSF)?,
        TCSETS2 | TCSETSW2 | TCSETSF2 => {
            set_termios(cx, tty, at, size_of::<Termios>(), request == TCSETSF2)?;
        }
        TIOCGWINSZ => cx.memory.write(at.cast(), &tty.size())?,
        TIOCSWINSZ => tty.resize(cx.memory.read::<WinSize>(at.cast())?),
        TCSBRK | TCSBRKP => {}
        TCXONC => flow(tty, arg)?,
        TCFLSH => flush(tty, arg)?,
        TIOCEXCL => tty.state.lock().exclusive = true,
        TIOCNXCL => tty.state.lock().exclusive = false,
        TIOCGEXCL => {
            let on = tty.state.lock().exclusive;
            put_int(cx, arg, i32::from(on))?;
        }
        TIOCGETD => put_int(cx, arg, 0)?,
        TIOCSETD => {
            if get_int(cx, arg)? != 0 {
                return Err(Errno::EINVAL.into());
            }
        }
        TIOCGDEV => put_int(cx, arg, i32::try_from(tty.dev()).map_err(|_| Errno::EINVAL)?)?,
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(0)
}

pub(super) fn get_int(cx: &SyscallCx<'_>, arg: u64) -> Result<i32, Errno> {
    cx.memory.read(UserAddr(arg).cast())
}

pub(super) fn put_int(cx: &SyscallCx<'_>, arg: u64, value: i32) -> Result<(), Errno> {
    cx.memory.write(UserAddr(arg).cast(), &value)
}

fn clamp(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

fn set_foreground(cx: &SyscallCx<'_>, tty: &Tty, arg: u64) -> SysResult<()> {
    let pgid = get_int(cx, arg)?;
    job::set_foreground(cx.task, tty, pgid)
}

fn set_termios(cx: &SyscallCx<'_>, tty: &Tty, at: UserAddr, size: usize, flush: bool) -> SysResult<()> {
    let mut bytes = tty.state.lock().discipline.termios;
    cx.memory.read_bytes(at, &mut bytes.as_mut_bytes()[..size])?;
    let mut termios = Termios::read_from_bytes(bytes.as_bytes()).map_err(|_| Errno::EINVAL)?;
    termios.settle_speeds();
    {
        let mut state = tty.state.lock();
        let was_flow = state.discipline.termios.input(libc::IXON);
        if flush {
            state.discipline.flush_input();
        }
        state.discipline.set_termios(termios);
        if state.packet && was_flow != termios.input(libc::IXON) {
            state.packet_status |= if was_flow { PKT_NOSTOP } else { PKT_DOSTOP };
        }
    }
    tty.slave_queue.notify(Events::READ | Events::WRITE);
    tty.master_queue
        .notify(Events::READ | Events::WRITE | Events::PRI);
    tty.transmit();
    Ok(())
}

/// TCXONC: suspend or resume output; input flow control characters go to the other end.
fn flow(tty: &Tty, action: u64) -> Result<(), Errno> {
    let mut state = tty.state.lock();
    match i32::try_from(action) {
        Ok(libc::TCOOFF) => {
            state.discipline.stopped = true;
            state.packet_status |= PKT_STOP;
        }
        Ok(libc::TCOON) => {
            state.discipline.stopped = false;
            state.packet_status |= PKT_START;
        }
        Ok(libc::TCIOFF | libc::TCION) => {}
        _ => return Err(Errno::EINVAL),
    }
    drop(state);
    tty.slave_queue.notify(Events::WRITE);
    tty.master_queue.notify(Events::READ | Events::PRI);
    tty.transmit();
    Ok(())
}

/// TCFLSH.
fn flush(tty: &Tty, which: u64) -> Result<(), Errno> {
    let mut state = tty.state.lock();
    let (input, output) = match i32::try_from(which) {
        Ok(libc::TCIFLUSH) => (true, false),
        Ok(libc::TCOFLUSH) => (false, true),
        Ok(libc::TCIOFLUSH) => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    if input {
        state.discipline.flush_input();
        state.packet_status |= PKT_FLUSHREAD;
    }
    if output {
        state.discipline.flush_output();
        state.packet_status |= PKT_FLUSHWRITE;
    }
    drop(state);
    tty.slave_queue.notify(Events::WRITE);
    tty.master_queue.notify(Events::WRITE | Events::PRI);
    Ok(())
}
