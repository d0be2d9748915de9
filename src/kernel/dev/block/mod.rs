//! Block devices: disks (`--disk`) and loop devices.
//!
//! A [`Disk`] is where bytes are: a host file as it is (`raw.rs`), a qcow2 file (`qcow2`), what was written over another disk
//! (`cow.rs`), a file of the guest (`loops.rs`). A [`Device`] is what the guest sees of one: numbers, names, partitions, requests.
//! All of them are in one table, [`BlockDevices`]. Reading and writing are synchronous, as with regular files, and go to any byte.

mod cow;
mod device;
mod ioctl;
mod loops;
mod partitions;
mod qcow2;
mod raw;
mod shown;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use crate::kernel::Kernel;
use crate::kernel::fs::{
    CreateArgs, Driver, FileOps, NameChange, OpenFlags, Path, Special, SpecialFiles, major, minor,
};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::syscall::SyscallCx;
pub use cow::Cow;
use device::{BlockFile, Device};
pub use device::{DeviceMedium, Opened};
use loops::LoopControl;
pub use qcow2::{BadQcow2, Qcow2, is_qcow2};
pub use raw::Raw;
pub use shown::{Shown, diskstats, partitions, sysfs};

/// Major number of disks; each has 16 minor ones, for itself and its partitions.
pub const DISK_MAJOR: u32 = 254;
const PARTITIONS: u32 = 16;

/// Major number of loop devices.
pub const LOOP_MAJOR: u32 = 7;

/// Minor number of /dev/loop-control among the miscellaneous devices.
const CONTROL: (u32, u32) = (10, 237);

/// Loop devices at first, and at most.
const LOOPS: u32 = 8;
const LOOPS_MAX: u32 = 64;

/// Most disks: they are named by one letter.
pub const DISKS_MAX: usize = 26;

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// Bytes that can be read and written at any place.
pub trait Disk: Send + Sync {
    /// Bytes.
    fn size(&self) -> u64;
    /// Whether nothing can be written.
    fn is_read_only(&self) -> bool;
    /// Read all of `buf`, which lies within the size.
    fn read(&self, buf: &mut [u8], at: u64) -> SysResult<()>;
    /// Write all of `bytes`, which lie within the size.
    fn write(&self, bytes: &[u8], at: u64) -> SysResult<()>;
    /// Make a part zero that lies within the size, and give its space back where that can be. Returns how many bytes of it that was
    /// done to, from its beginning: less than all where that takes long, none only where `len` is 0.
    fn zero(&self, at: u64, len: u64) -> SysResult<u64>;
    /// A place from `at` to `end` before which, from `at` on, all bytes are zero. It need not be the last one.
    fn skip_zeroes(&self, at: u64, end: u64) -> u64 {
        let _ = end;
        at
    }
    /// Have what was written outlive the host.
    fn flush(&self) -> SysResult<()>;
    /// What is shown as the file behind a loop device.
    fn backing(&self) -> Option<String> {
        None
    }
}

/// The block devices of a guest.
pub struct BlockDevices {
    devices: Lock<Vec<Arc<Device>>>,
    /// Where their nodes are.
    directory: OnceLock<Path>,
}

impl Default for BlockDevices {
    fn default() -> Self {
        BlockDevices {
            devices: Lock::new(Rank::Table, Vec::new()),
            directory: OnceLock::new(),
        }
    }
}

impl BlockDevices {
    /// All of them, disks first.
    fn list(&self) -> Vec<Arc<Device>> {
        self.devices.lock().clone()
    }

    /// The device of a number, and which of its partitions it is.
    fn find(&self, rdev: u64) -> Option<(Arc<Device>, Option<u32>)> {
        let (major, minor) = (major(rdev), minor(rdev));
        let (first, partition) = match major {
            DISK_MAJOR => (minor / PARTITIONS * PARTITIONS, minor % PARTITIONS),
            _ => (minor, 0),
        };
        let devices = self.devices.lock();
        let found = devices.iter().find(|device| device.numbers() == (major, first))?;
        Some((found.clone(), (partition > 0).then_some(partition)))
    }

    /// Open what has this number. ENXIO when there is no such device or partition.
    pub fn open(&self, rdev: u64) -> Result<Opened, Errno> {
        let (device, partition) = self.find(rdev).ok_or(Errno::ENXIO)?;
        device.open(partition)
    }

    /// Add a disk as /dev/vda or the next one.
    pub fn add_disk(&self, kernel: &Kernel, disk: Arc<dyn Disk>) -> SysResult<()> {
        let mut devices = self.devices.lock();
        let count = devices
            .iter()
            .filter(|device| device.numbers().0 == DISK_MAJOR)
            .count();
        let letter = u8::try_from(count)
            .ok()
            .filter(|_| count < DISKS_MAX)
            .ok_or(Errno::ENOSPC)?;
        let name = format!("vd{}", char::from(b'a' + letter));
        let device = Device::new(name, (DISK_MAJOR, u32::from(letter) * PARTITIONS), Some(disk));
        devices.push(device.clone());
        drop(devices);
        self.node(kernel, device.name(), device.numbers())?;
        device.rescan(kernel)
    }

    /// The loop device of a number, made if need be. ENOSPC.
    fn loop_device(&self, kernel: &Kernel, number: u32) -> Result<Arc<Device>, Errno> {
        if number >= LOOPS_MAX {
            return Err(Errno::ENOSPC);
        }
        let numbers = (LOOP_MAJOR, number);
        let mut devices = self.devices.lock();
        if let Some(known) = devices.iter().find(|device| device.numbers() == numbers) {
            return Ok(known.clone());
        }
        let device = Device::new(format!("loop{number}"), numbers, None);
        devices.push(device.clone());
        drop(devices);
        self.node(kernel, device.name(), numbers)?;
        Ok(device)
    }

    /// Make nodes below `directory` from now on, those of the loop devices at once.
    pub fn start(&self, kernel: &Kernel, directory: Path) -> Result<(), Errno> {
        self.directory.get_or_init(|| directory);
        for number in 0..LOOPS {
            self.loop_device(kernel, number)?;
        }
        Ok(())
    }

    fn node(&self, kernel: &Kernel, name: &str, (major, minor): (u32, u32)) -> Result<(), Errno> {
        let Some(directory) = self.directory.get() else {
            return Ok(());
        };
        let args = CreateArgs {
            mode: libc::S_IFBLK | 0o660,
            uid: 0,
            gid: 0,
            rdev: libc::makedev(major, minor),
        };
        let mut change = NameChange::of(&directory.dentry);
        change.begin();
        match directory.inode().create(name.as_bytes(), &args) {
            Ok(inode) => drop(kernel.vfs.added(&directory.dentry, name.as_bytes(), inode)),
            // The guest may have made it, or something else; that is its own affair.
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Remove the node of a partition that is not there any more.
    fn remove_node(&self, kernel: &Kernel, name: &str) {
        let Some(directory) = self.directory.get() else {
            return;
        };
        let mut change = NameChange::of(&directory.dentry);
        change.begin();
        let name = name.as_bytes();
        if let Ok(victim) = kernel.vfs.child(&directory.dentry, name)
            && directory.inode().unlink(name, false).is_ok()
        {
            kernel.vfs.removed(&directory.dentry, name, victim);
        }
    }
}

/// The character node that all guests have for loop devices: name, major, minor, permission bits.
pub const CONTROL_NODE: (&str, u32, u32, u32) = ("loop-control", CONTROL.0, CONTROL.1, 0o660);

/// Make the drivers known.
pub fn register(special: &SpecialFiles) {
    special.register(Special::BlockMajor(DISK_MAJOR), Arc::new(BlockDriver));
    special.register(Special::BlockMajor(LOOP_MAJOR), Arc::new(BlockDriver));
    special.register(Special::Char(CONTROL.0, CONTROL.1), Arc::new(ControlDriver));
}

/// Opens block devices.
struct BlockDriver;

impl Driver for BlockDriver {
    fn open(&self, cx: &mut SyscallCx<'_>, path: &Path, _: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        let rdev = path.inode().metadata()?.rdev;
        Ok(Arc::new(BlockFile::new(cx.kernel.block.open(rdev)?)))
    }
}

/// Opens /dev/loop-control.
struct ControlDriver;

impl Driver for ControlDriver {
    fn open(&self, _: &mut SyscallCx<'_>, _: &Path, _: OpenFlags) -> SysResult<Arc<dyn FileOps>> {
        Ok(Arc::new(LoopControl))
    }
}
