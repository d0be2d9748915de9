//! Requests of block devices.

use std::sync::Arc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::device::Opened;
use super::{LOOP_MAJOR, SECTOR, loops};
use crate::kernel::fs::File;
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::{UserAddr, UserRef};

const BLKROSET: u32 = 0x125d;
const BLKROGET: u32 = 0x125e;
const BLKRRPART: u32 = 0x125f;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKRASET: u32 = 0x1262;
const BLKRAGET: u32 = 0x1263;
const BLKSECTGET: u32 = 0x1267;
const BLKSSZGET: u32 = 0x1268;
const BLKBSZGET: u32 = 0x8008_1270;
const BLKBSZSET: u32 = 0x4008_1271;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKDISCARD: u32 = 0x1277;
const BLKIOMIN: u32 = 0x1278;
const BLKIOOPT: u32 = 0x1279;
const BLKALIGNOFF: u32 = 0x127a;
const BLKPBSZGET: u32 = 0x127b;
const BLKDISCARDZEROES: u32 = 0x127c;
const BLKSECDISCARD: u32 = 0x127d;
const BLKROTATIONAL: u32 = 0x127e;
const BLKZEROOUT: u32 = 0x127f;
const HDIO_GETGEO: u32 = 0x301;

/// Size of a page, in which Linux has a device's contents cached, in bytes.
const BLOCK: u64 = 4096;

/// `struct hd_geometry`.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable)]
struct Geometry {
    heads: u8,
    sectors: u8,
    cylinders: u16,
    padding: u32,
    start: u64,
}

impl Geometry {
    /// That of a disk of so many bytes, for what begins at `start`.
    fn of(size: u64, start: u64) -> Geometry {
        Geometry {
            heads: 16,
            sectors: 63,
            cylinders: (size / SECTOR / (16 * 63)) as u16,
            padding: 0,
            start: start / SECTOR,
        }
    }
}

/// Carry out a request.
pub(super) fn run(
    opened: &Opened,
    cx: &mut SyscallCx<'_>,
    file: &Arc<File>,
    request: u32,
    arg: u64,
) -> SysResult<u64> {
    let device = &opened.device;
    let to = UserAddr(arg);
    let (start, len) = opened.range()?;
    let sectors = len / SECTOR;
    let admin = cx.task.creds().capable(Capability::SysAdmin);
    match request {
        BLKGETSIZE => cx.memory.write(to.cast(), &sectors)?,
        BLKGETSIZE64 => cx.memory.write(to.cast(), &len)?,
        BLKSSZGET => cx.memory.write(to.cast(), &(SECTOR as i32))?,
        BLKPBSZGET | BLKIOMIN => cx.memory.write(to.cast(), &(SECTOR as u32))?,
        BLKIOOPT => cx.memory.write(to.cast(), &0u32)?,
        BLKALIGNOFF => cx.memory.write(to.cast(), &0i32)?,
        BLKBSZGET => cx.memory.write(to.cast(), &(BLOCK as i32))?,
        BLKSECTGET => cx.memory.write(to.cast(), &2560u16)?,
        BLKRAGET => cx.memory.write(to.cast(), &256u64)?,
        BLKROTATIONAL => cx.memory.write(to.cast(), &0u16)?,
        BLKDISCARDZEROES => cx.memory.write(to.cast(), &0u32)?,
        BLKROGET => cx.memory.write(to.cast(), &i32::from(device.is_read_only()))?,
        HDIO_GETGEO => cx.memory.write(to.cast(), &Geometry::of(device.size(), start))?,
        BLKBSZSET | BLKRASET | BLKROSET | BLKFLSBUF | BLKRRPART if !admin => return Err(Errno::EACCES.into()),
        // What is read ahead, and in which units, is the host's affair.
        BLKRASET => {}
        BLKBSZSET => {
            let size: i32 = cx.memory.read(to.cast())?;
            let fits = u64::try_from(size)
                .is_ok_and(|size| (SECTOR..=BLOCK).contains(&size) && size.is_power_of_two());
            if !fits {
                return Err(Errno::EINVAL.into());
            }
        }
        BLKROSET => {
            let read_only: i32 = cx.memory.read(to.cast())?;
            device.set_read_only(read_only != 0);
        }
        BLKFLSBUF => file.ops.sync(file, false)?,
        BLKRRPART => {
            if opened.partition.is_some() || device.numbers().0 == LOOP_MAJOR {
                return Err(Errno::EINVAL.into());
            }
            device.rescan_unused(cx.kernel)?;
        }
        BLKDISCARD | BLKZEROOUT | BLKSECDISCARD => zero(opened, cx, file, to.cast())?,
        _ if device.numbers().0 == LOOP_MAJOR => return loops::ioctl(device, cx, file, request, arg),
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(0)
}

/// BLKDISCARD and BLKZEROOUT: a start and a length in bytes.
fn zero(opened: &Opened, cx: &mut SyscallCx<'_>, file: &File, range: UserRef<[u64; 2]>) -> SysResult<()> {
    if !file.flags().writable() {
        return Err(Errno::EBADF.into());
    }
    // Later runs go on with what the first one was asked for.
    let known = cx.state.data.as_ref().and_then(|data| data.downcast_ref());
    let [start, len]: [u64; 2] = match known {
        Some(range) => *range,
        None => cx.memory.read(range)?,
    };
    let aligned = start.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR);
    let end = start.checked_add(len).filter(|_| aligned).ok_or(Errno::EINVAL)?;
    if end > opened.range()?.1 {
        return Err(Errno::EINVAL.into());
    }
    cx.state.data = Some(Box::new([start, len]));
    cx.in_steps(len, |done| opened.zero(start + done, len - done))
}
