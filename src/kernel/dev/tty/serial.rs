//! Requests of serial ports: ioctl_tty(2), and what setserial(8) uses.

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::ioctl::{get_int, put_int};
use super::{Device, Tty};
use crate::kernel::dev::console::{Line, Modem};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::UserAddr;
use crate::kernel::wait::{Events, WaitFor};

const TIOCMGET: u32 = 0x5415;
const TIOCMBIS: u32 = 0x5416;
const TIOCMBIC: u32 = 0x5417;
const TIOCMSET: u32 = 0x5418;
const TIOCGSOFTCAR: u32 = 0x5419;
const TIOCSSOFTCAR: u32 = 0x541a;
const TIOCGSERIAL: u32 = 0x541e;
const TIOCSSERIAL: u32 = 0x541f;
const TCSBRK: u32 = 0x5409;
const TCSBRKP: u32 = 0x5425;
const TIOCSBRK: u32 = 0x5427;
const TIOCCBRK: u32 = 0x5428;
const TIOCSERGETLSR: u32 = 0x5459;
const TIOCMIWAIT: u32 = 0x545c;
const TIOCGICOUNT: u32 = 0x545d;

/// Registers of COM1, and its interrupt.
pub(super) const PORT: u32 = 0x3f8;
pub(super) const IRQ: u32 = 4;
/// `PORT_16550A`.
pub(super) const TYPE_16550A: u32 = 4;
/// Clock of the UART by 16, in Hz.
pub(super) const BAUD_BASE: u32 = 115_200;
pub(super) const FIFO_SIZE: u32 = 16;
/// ASYNC_BOOT_AUTOCONF | ASYNC_SKIP_TEST, as Linux has it for COM1.
pub(super) const FLAGS: u32 = 0x1000_0040;
/// ASYNC_USR_MASK: the flags that users may change.
const USER_FLAGS: u32 = 0x3430;
/// TIOCSER_TEMT: nothing is being sent.
const TRANSMITTER_EMPTY: i32 = 1;
/// The modem signals that TIOCMIWAIT waits for.
const WAITABLE: Modem = Modem::THEIRS.union(Modem::RI);

/// `struct serial_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
struct SerialStruct {
    kind: u32,
    line: u32,
    port: u32,
    irq: u32,
    flags: u32,
    xmit_fifo_size: u32,
    custom_divisor: u32,
    baud_base: u32,
    close_delay: u16,
    io_type: u8,
    reserved: u8,
    hub6: u32,
    closing_wait: u16,
    closing_wait2: u16,
    padding: u32,
    iomem_base: u64,
    iomem_reg_shift: u16,
    padding2: u16,
    port_high: u32,
    iomap_base: u64,
}

/// `struct serial_icounter_struct`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
struct Counters {
    cts: u32,
    dsr: u32,
    rng: u32,
    dcd: u32,
    rx: u32,
    tx: u32,
    frame: u32,
    overrun: u32,
    parity: u32,
    brk: u32,
    buf_overrun: u32,
    reserved: [u32; 9],
}

/// What of a port can be changed. The times are in hundredths of a second; they are kept and told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    flags: u32,
    custom_divisor: u32,
    close_delay: u16,
    closing_wait: u16,
}

impl Default for Port {
    fn default() -> Self {
        Port {
            flags: FLAGS,
            custom_divisor: 0,
            close_delay: 50,
            closing_wait: 3000,
        }
    }
}

/// Requests of serial ports alone; none where there is another meaning or none.
pub(super) fn request(
    cx: &mut SyscallCx<'_>,
    tty: &Arc<Tty>,
    request: u32,
    arg: u64,
) -> SysResult<Option<u64>> {
    let Some(line) = tty.line.as_ref().filter(|_| tty.device == Device::Serial) else {
        return Ok(None);
    };
    match request {
        TIOCMGET => put_int(cx, arg, line.modem().bits().cast_signed())?,
        TIOCMBIS | TIOCMBIC | TIOCMSET => {
            let given = Modem::from_bits_truncate(get_int(cx, arg)?.cast_unsigned());
            let now = line.modem();
            line.set_modem(match request {
                TIOCMBIS => now | given,
                TIOCMBIC => now - given,
                _ => given,
            });
        }
        TIOCMIWAIT => wait_for_change(cx, tty, line, arg)?,
        TIOCGICOUNT => cx.memory.write(UserAddr(arg).cast(), &counters(line))?,
        TIOCGSERIAL => cx.memory.write(UserAddr(arg).cast(), &describe(tty))?,
        TIOCSSERIAL => change(cx, tty, arg)?,
        TIOCSERGETLSR => {
            let empty = tty.output_len() == 0;
            put_int(cx, arg, if empty { TRANSMITTER_EMPTY } else { 0 })?;
        }
        TIOCGSOFTCAR => {
            let local = tty.state.lock().discipline.termios.control(libc::CLOCAL);
            put_int(cx, arg, i32::from(local))?;
        }
        TIOCSSOFTCAR => {
            let local = get_int(cx, arg)? != 0;
            let mut state = tty.state.lock();
            let mut termios = state.discipline.termios;
            termios.cflag &= !libc::CLOCAL;
            termios.cflag |= if local { libc::CLOCAL } else { 0 };
            state.discipline.set_termios(termios);
        }
        // No back-end can pass a break on.
        TCSBRK | TCSBRKP | TIOCSBRK | TIOCCBRK => {}
        _ => return Ok(None),
    }
    Ok(Some(0))
}

fn describe(tty: &Tty) -> SerialStruct {
    let port = tty.state.lock().port;
    SerialStruct {
        kind: TYPE_16550A,
        line: tty.index,
        port: PORT,
        irq: IRQ,
        flags: port.flags,
        xmit_fifo_size: FIFO_SIZE,
        custom_divisor: port.custom_divisor,
        baud_base: BAUD_BASE,
        close_delay: port.close_delay,
        closing_wait: port.closing_wait,
        ..SerialStruct::default()
    }
}

/// TIOCSSERIAL. Without the right to, only some flags can be changed; the hardware is what it is for all: EINVAL.
fn change(cx: &SyscallCx<'_>, tty: &Tty, arg: u64) -> Result<(), Errno> {
    let new: SerialStruct = cx.memory.read(UserAddr(arg).cast())?;
    let old = describe(tty);
    let is_admin = cx.task.creds().capable(Capability::SysAdmin);
    let times = |s: &SerialStruct| (s.close_delay, s.closing_wait);
    let hardware = |s: &SerialStruct| (s.kind, s.port, s.irq, s.baud_base, s.xmit_fifo_size, s.io_type);
    let flags_differ = (new.flags ^ old.flags) & !USER_FLAGS != 0;
    if !is_admin && (flags_differ || times(&new) != times(&old) || hardware(&new) != hardware(&old)) {
        return Err(Errno::EPERM);
    }
    if hardware(&new) != hardware(&old) || new.hub6 != 0 || new.port_high != 0 {
        return Err(Errno::EINVAL);
    }
    tty.state.lock().port = Port {
        flags: new.flags,
        custom_divisor: new.custom_divisor,
        close_delay: new.close_delay,
        closing_wait: new.closing_wait,
    };
    Ok(())
}

fn counters(line: &Line) -> Counters {
    let counts = line.counts();
    // They wrap, as Linux's do.
    let low = |n: u64| (n & u64::from(u32::MAX)) as u32;
    let changes = low(counts.carrier_changes);
    Counters {
        cts: changes,
        dsr: changes,
        dcd: changes,
        rx: low(counts.received),
        tx: low(counts.sent),
        ..Counters::default()
    }
}

/// TIOCMIWAIT: until one of these signals changes.
fn wait_for_change(cx: &mut SyscallCx<'_>, tty: &Tty, line: &Line, arg: u64) -> SysResult<()> {
    let asked = u32::try_from(arg).map_err(|_| Errno::EINVAL)?;
    let wait = WaitFor::queue(&tty.slave_queue, Events::HUP);
    let changes = line.counts().carrier_changes;
    let first = cx.state.data.get_or_insert_with(|| Box::new(changes));
    let is_changed = first.downcast_ref::<u64>().is_some_and(|first| *first != changes);
    // All of them follow the carrier.
    if is_changed && Modem::from_bits_truncate(asked).intersects(WAITABLE - Modem::RI) {
        return Ok(());
    }
    Err(wait.into())
}
