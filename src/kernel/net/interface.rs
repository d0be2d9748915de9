//! The loopback interface `lo`, the only one: netdevice(7).

use super::socket::Socket;
use crate::kernel::stop::{Errno, SysResult, fail};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::user_memory::UserAddr;

/// Its name.
pub(super) const NAME: &[u8] = b"lo";
/// Its index.
pub(super) const INDEX: i32 = 1;
/// Largest packet, in bytes.
pub(super) const MTU: i32 = 65_536;
/// Length of its queue, in packets.
pub(super) const QUEUE: i32 = 1000;
/// ARPHRD_LOOPBACK
pub(super) const HARDWARE: u16 = 772;
/// IFF_UP, IFF_LOOPBACK, IFF_RUNNING
const FLAGS: i16 = 0x49;

/// Size of an interface's name and of `struct ifreq`, in bytes.
const NAME_SIZE: usize = 16;
const REQUEST_SIZE: usize = 40;

const SIOCATMARK: u32 = 0x8905;
const SIOCGIFNAME: u32 = 0x8910;
const SIOCGIFCONF: u32 = 0x8912;
const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCGIFDSTADDR: u32 = 0x8917;
const SIOCGIFBRDADDR: u32 = 0x8919;
const SIOCGIFNETMASK: u32 = 0x891b;
const SIOCGIFMETRIC: u32 = 0x891d;
const SIOCGIFMTU: u32 = 0x8921;
const SIOCGIFHWADDR: u32 = 0x8927;
const SIOCGIFINDEX: u32 = 0x8933;
const SIOCGIFTXQLEN: u32 = 0x8942;
/// SIOCSIFFLAGS to SIOCSIFTXQLEN, as far as they change something.
const CHANGES: [u32; 10] = [
    0x8914, 0x8916, 0x8918, 0x891a, 0x891c, 0x891e, 0x8922, 0x8923, 0x8924, 0x8943,
];

/// ioctl(2) of a socket: ENODEV for another interface, EPERM for what would change one, ENOTTY.
pub(super) fn ioctl(cx: &SyscallCx<'_>, socket: &dyn Socket, request: u32, arg: UserAddr) -> SysResult<u64> {
    let is_inet = [libc::AF_INET, libc::AF_INET6].contains(&socket.domain());
    match request {
        SIOCATMARK if is_inet => {
            cx.memory.write(arg.cast(), &0i32)?;
            return Ok(0);
        }
        SIOCGIFCONF => return list(cx, arg),
        SIOCGIFADDR | SIOCGIFDSTADDR | SIOCGIFBRDADDR | SIOCGIFNETMASK if !is_inet => return fail!(ENOTTY),
        _ if CHANGES.contains(&request) => return fail!(EPERM),
        SIOCGIFNAME | SIOCGIFFLAGS | SIOCGIFADDR | SIOCGIFDSTADDR | SIOCGIFBRDADDR | SIOCGIFNETMASK
        | SIOCGIFMETRIC | SIOCGIFMTU | SIOCGIFHWADDR | SIOCGIFINDEX | SIOCGIFTXQLEN => {}
        _ => return fail!(ENOTTY),
    }
    let mut bytes = [0; REQUEST_SIZE];
    cx.memory.read_bytes(arg, &mut bytes)?;
    answer(request, &mut bytes)?;
    cx.memory.write_bytes(arg, &bytes)?;
    Ok(0)
}

/// Fill in a `struct ifreq`.
fn answer(request: u32, bytes: &mut [u8; REQUEST_SIZE]) -> Result<(), Errno> {
    let (name, value) = bytes.split_at_mut(NAME_SIZE);
    if request == SIOCGIFNAME {
        if value[..4] != INDEX.to_le_bytes() {
            return Err(Errno::ENODEV);
        }
        name.fill(0);
        name[..NAME.len()].copy_from_slice(NAME);
        return Ok(());
    }
    if name.split(|byte| *byte == 0).next() != Some(NAME) {
        return Err(Errno::ENODEV);
    }
    let number = |number: i32| number.to_le_bytes().to_vec();
    let answer = match request {
        SIOCGIFFLAGS => FLAGS.to_le_bytes().to_vec(),
        SIOCGIFADDR | SIOCGIFDSTADDR => inet([127, 0, 0, 1]),
        SIOCGIFBRDADDR => inet([0; 4]),
        SIOCGIFNETMASK => inet([255, 0, 0, 0]),
        SIOCGIFMTU => number(MTU),
        SIOCGIFINDEX => number(INDEX),
        SIOCGIFTXQLEN => number(QUEUE),
        SIOCGIFHWADDR => {
            let mut address = HARDWARE.to_le_bytes().to_vec();
            address.resize(16, 0);
            address
        }
        _ => number(0),
    };
    value[..answer.len()].copy_from_slice(&answer);
    Ok(())
}

/// A `struct sockaddr_in` without a port.
fn inet(ip: [u8; 4]) -> Vec<u8> {
    let mut bytes = (libc::AF_INET as u16).to_le_bytes().to_vec();
    bytes.extend([0; 2]);
    bytes.extend(ip);
    bytes.resize(16, 0);
    bytes
}

/// SIOCGIFCONF: a list of all interfaces, or its length where none is to be written.
fn list(cx: &SyscallCx<'_>, arg: UserAddr) -> SysResult<u64> {
    let [length, buffer]: [u64; 2] = cx.memory.read(arg.cast())?;
    let room = length as u32 as i32;
    let mut used = REQUEST_SIZE as i32;
    if buffer != 0 {
        if room < used {
            used = 0;
        } else {
            let mut entry = [0; REQUEST_SIZE];
            entry[..NAME.len()].copy_from_slice(NAME);
            entry[NAME_SIZE..2 * NAME_SIZE].copy_from_slice(&inet([127, 0, 0, 1]));
            cx.memory.write_bytes(UserAddr(buffer), &entry)?;
        }
    }
    cx.memory.write(arg.cast(), &used)?;
    Ok(0)
}
