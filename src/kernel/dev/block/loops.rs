//! Loop devices: a file of the guest as a disk. loop(4).

use std::sync::Arc;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::device::{BlockFile, Device};
use super::{BlockDevices, Disk, LOOP_MAJOR, LOOPS_MAX, SECTOR};
use crate::kernel::fs::{Fd, File, FileOps, FileType};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::syscall::SyscallCx;
use crate::kernel::task::Capability;
use crate::kernel::user_memory::{KernelSink, KernelSource, UserAddr};

const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_SET_STATUS64: u32 = 0x4c04;
const LOOP_GET_STATUS64: u32 = 0x4c05;
const LOOP_SET_CAPACITY: u32 = 0x4c07;
const LOOP_SET_DIRECT_IO: u32 = 0x4c08;
const LOOP_SET_BLOCK_SIZE: u32 = 0x4c09;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_ADD: u32 = 0x4c80;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;

/// Most devices below a loop device: each read goes through all of them.
const DEPTH_MAX: usize = 8;

const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, FromBytes, IntoBytes, Immutable)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
#[derive(FromBytes, IntoBytes)]
struct Config {
    fd: i32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// What a loop device is bound to.
#[derive(Clone)]
pub(super) struct Binding {
    file: Arc<File>,
    info: Info,
}

impl Binding {
    /// Have it end with the last user.
    pub(super) fn clear_itself(&mut self) {
        self.info.flags |= AUTOCLEAR;
    }

    /// Whether it ends with the last user.
    pub(super) fn clears_itself(&self) -> bool {
        self.info.flags & AUTOCLEAR != 0
    }

    pub(super) fn offset(&self) -> u64 {
        self.info.offset
    }

    pub(super) fn limit(&self) -> u64 {
        self.info.limit
    }
}

/// A file of the guest as a disk.
struct LoopDisk {
    file: Arc<File>,
    offset: u64,
    size: u64,
    read_only: bool,
    name: String,
}

impl LoopDisk {
    fn new(cx: &SyscallCx<'_>, binding: &Binding) -> Result<Arc<LoopDisk>, Errno> {
        let Binding { file, info } = binding;
        let whole = match file.ops_as::<BlockFile>() {
            Some(device) => device.opened().range()?.1,
            None => file.inode.metadata()?.size,
        };
        let rest = whole.saturating_sub(info.offset);
        let size = match info.limit {
            0 => rest,
            limit => rest.min(limit),
        };
        let root = cx.kernel.vfs.mounts.root();
        let path = file.path.as_ref().map(|path| path.text(&root).text);
        Ok(Arc::new(LoopDisk {
            file: file.clone(),
            offset: info.offset,
            size: size / SECTOR * SECTOR,
            read_only: info.flags & READ_ONLY != 0,
            name: String::from_utf8_lossy(&path.unwrap_or_default()).into_owned(),
        }))
    }
}

impl Disk for LoopDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, buf: &mut [u8], at: u64) -> SysResult<()> {
        let mut done = 0;
        while done < buf.len() {
            let mut pos = self.offset + at + done as u64;
            let mut sink = KernelSink::new(buf.len() - done);
            let n = self.file.ops.read(&self.file, &mut pos, &mut sink)?;
            if n == 0 {
                return Err(Errno::EIO.into());
            }
            buf[done..done + n].copy_from_slice(&sink.bytes[..n]);
            done += n;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> SysResult<()> {
        let mut done = 0;
        while done < bytes.len() {
            let mut pos = self.offset + at + done as u64;
            let mut source = KernelSource::new(&bytes[done..]);
            match self.file.ops.write(&self.file, &mut pos, &mut source)? {
                0 => return Err(Errno::EIO.into()),
                n => done += n,
            }
        }
        Ok(())
    }

    fn zero(&self, at: u64, len: u64) -> SysResult<u64> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.file.ops.allocate(&self.file, mode, self.offset + at, len)
    }

    fn flush(&self) -> SysResult<()> {
        self.file.ops.sync(&self.file, true)
    }

    fn backing(&self) -> Option<String> {
        Some(self.name.clone())
    }
}

/// Requests of a loop device alone.
pub(super) fn ioctl(
    device: &Arc<Device>,
    cx: &mut SyscallCx<'_>,
    file: &Arc<File>,
    request: u32,
    arg: u64,
) -> SysResult<u64> {
    let from = UserAddr(arg);
    let changes = [
        LOOP_SET_STATUS64,
        LOOP_SET_CAPACITY,
        LOOP_SET_DIRECT_IO,
        LOOP_SET_BLOCK_SIZE,
    ];
    if changes.contains(&request)
        && !file.flags().writable()
        && !cx.task.creds().capable(Capability::SysAdmin)
    {
        return Err(Errno::EPERM.into());
    }
    match request {
        LOOP_SET_FD => {
            let info = Info::new_zeroed();
            bind(device, cx, file, arg as i32, info)?;
        }
        LOOP_CONFIGURE => {
            let config: Config = cx.memory.read(from.cast())?;
            if !matches!(config.block_size, 0 | 512) {
                return Err(Errno::EINVAL.into());
            }
            bind(device, cx, file, config.fd, config.info)?;
        }
        LOOP_CLR_FD => {
            device.unbind_at_last()?;
        }
        LOOP_SET_STATUS64 => {
            let old = device.binding().ok_or(Errno::ENXIO)?;
            let mut info: Info = cx.memory.read(from.cast())?;
            check(&info)?;
            // Of the flags only this one can be changed so.
            info.flags = (old.info.flags & !AUTOCLEAR) | (info.flags & AUTOCLEAR);
            rebind(device, cx, old.file, info)?;
        }
        LOOP_GET_STATUS64 => {
            let Binding { file, mut info } = device.binding().ok_or(Errno::ENXIO)?;
            let meta = file.inode.metadata()?;
            (info.device, info.inode, info.rdevice) = (meta.dev, meta.ino, meta.rdev);
            info.number = device.numbers().1;
            cx.memory.write(from.cast(), &info)?;
        }
        LOOP_SET_CAPACITY => {
            let Binding { file, info } = device.binding().ok_or(Errno::ENXIO)?;
            rebind(device, cx, file, info)?;
        }
        LOOP_SET_DIRECT_IO if arg == 0 => {}
        LOOP_SET_BLOCK_SIZE if arg == SECTOR => {}
        LOOP_SET_DIRECT_IO | LOOP_SET_BLOCK_SIZE => return Err(Errno::EINVAL.into()),
        _ => return Err(Errno::ENOTTY.into()),
    }
    Ok(0)
}

/// What cannot be: encryption, a scan for partitions, places beyond all files.
fn check(info: &Info) -> Result<(), Errno> {
    let known = READ_ONLY | AUTOCLEAR | DIRECT_IO;
    let far = i64::try_from(info.offset).is_err() || i64::try_from(info.limit).is_err();
    match info.encrypt_type != 0 || info.flags & !known != 0 || far {
        true => Err(Errno::EINVAL),
        false => Ok(()),
    }
}

/// The device that a file's contents are on.
fn device_below(block: &BlockDevices, file: &File) -> Option<Arc<Device>> {
    match file.ops_as::<BlockFile>() {
        Some(file) => Some(file.opened().device.clone()),
        None => Some(block.find(file.inode.fs().dev())?.0),
    }
}

/// EBADF for a file whose contents are on the device itself, ELOOP for one below which there are too many devices.
fn check_below(block: &BlockDevices, device: &Arc<Device>, file: &File) -> Result<(), Errno> {
    let mut below = device_below(block, file);
    for _ in 0..DEPTH_MAX {
        let Some(at) = below else { return Ok(()) };
        if Arc::ptr_eq(&at, device) {
            return Err(Errno::EBADF);
        }
        below = at
            .binding()
            .and_then(|binding| device_below(block, &binding.file));
    }
    below.map_or(Ok(()), |_| Err(Errno::ELOOP))
}

fn bind(device: &Arc<Device>, cx: &mut SyscallCx<'_>, by: &File, fd: i32, mut info: Info) -> SysResult<()> {
    check(&info)?;
    let file = cx.task.files().get(Fd(fd))?;
    let fits = match file.inode.file_type() {
        FileType::Regular => !file.is_object(),
        // A loop device upon another one would let them go in a circle.
        FileType::BlockDevice => file
            .ops_as::<BlockFile>()
            .is_some_and(|file| file.opened().device.numbers().0 != LOOP_MAJOR),
        _ => false,
    };
    if !fits || !file.flags().readable() {
        return Err(Errno::EINVAL.into());
    }
    check_below(&cx.kernel.block, device, &file)?;
    info.flags &= !DIRECT_IO;
    if !file.flags().writable() || !by.flags().writable() {
        info.flags |= READ_ONLY;
    }
    let binding = Binding { file, info };
    let disk = LoopDisk::new(cx, &binding)?;
    Ok(device.bind(disk, binding, false)?)
}

fn rebind(device: &Arc<Device>, cx: &SyscallCx<'_>, file: Arc<File>, info: Info) -> SysResult<()> {
    let binding = Binding { file, info };
    let disk = LoopDisk::new(cx, &binding)?;
    Ok(device.bind(disk, binding, true)?)
}

/// /dev/loop-control.
pub(super) struct LoopControl;

impl FileOps for LoopControl {
    fn ioctl(&self, cx: &mut SyscallCx<'_>, _: &Arc<File>, request: u32, arg: u64) -> SysResult<u64> {
        if !cx.task.creds().capable(Capability::SysAdmin) {
            return Err(Errno::EPERM.into());
        }
        let block = &cx.kernel.block;
        match request {
            LOOP_CTL_GET_FREE => {
                for number in 0..LOOPS_MAX {
                    if block.loop_device(cx.kernel, number)?.disk().is_none() {
                        return Ok(u64::from(number));
                    }
                }
                Err(Errno::ENOSPC.into())
            }
            LOOP_CTL_ADD => {
                let number = u32::try_from(arg).map_err(|_| Errno::EINVAL)?;
                let known = libc::makedev(LOOP_MAJOR, number);
                if block.find(known).is_some() {
                    return Err(Errno::EEXIST.into());
                }
                block.loop_device(cx.kernel, number)?;
                Ok(u64::from(number))
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }
}
