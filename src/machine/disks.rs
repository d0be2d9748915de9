//! The disks of a guest: host files, opened before it begins.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use super::Options;
use crate::kernel::dev::block::{Cow, DISKS_MAX, Disk, Qcow2, Raw, SECTOR, is_qcow2};
use crate::kernel::fs::memfs::MemFsOptions;
use crate::kernel::stop::Errno;
use crate::kernel::{Kernel, stop::Stop};
use crate::platform::HostFile;

/// `--disk FILE[:raw|:qcow2][:ro|:cow]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFile {
    /// Path on the host.
    pub path: PathBuf,
    /// What is said of its contents.
    pub format: Option<DiskFormat>,
    /// What becomes of writes.
    pub writes: DiskWrites,
}

/// What a disk file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// The disk's bytes.
    Raw,
    /// qcow2.
    Qcow2,
}

/// What becomes of what a guest writes to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskWrites {
    /// It goes to the file.
    Through,
    /// It is refused.
    Refused,
    /// It is kept in memory, and gone when the guest ends.
    Kept,
}

/// Open what the options name, as /dev/vda and so on.
pub(super) fn add(kernel: &Arc<Kernel>, options: &Options) -> Result<()> {
    if options.disks.len() > DISKS_MAX {
        bail!("--disk: there can be no more than {DISKS_MAX}");
    }
    for file in &options.disks {
        let shown = || format!("--disk {}", file.path.display());
        let disk = open(kernel, options, file).with_context(shown)?;
        if let Err(Stop::Errno(errno, _)) = kernel.block.add_disk(kernel, disk) {
            return Err(errno).with_context(shown);
        }
    }
    Ok(())
}

/// What a file holds, by what is said of it or else by its name. Its contents do not tell: what a guest writes to a raw disk
/// could make that another one for the next guest.
fn format(file: &DiskFile, host: &HostFile) -> Result<DiskFormat> {
    let is_named = file.path.extension().is_some_and(|end| end == "qcow2");
    let format = match (file.format, is_named) {
        (Some(format), _) => format,
        (None, true) => DiskFormat::Qcow2,
        (None, false) if is_qcow2(host) => {
            bail!("it begins as a qcow2 file does: say which it is by FILE:qcow2 or FILE:raw")
        }
        (None, false) => DiskFormat::Raw,
    };
    if format == DiskFormat::Qcow2 && !is_qcow2(host) {
        bail!("it is no qcow2 file");
    }
    Ok(format)
}

fn open(kernel: &Kernel, options: &Options, file: &DiskFile) -> Result<Arc<dyn Disk>> {
    let through = file.writes == DiskWrites::Through;
    // Opening a FIFO must not wait, and a terminal not become ours.
    let opened = OpenOptions::new()
        .read(true)
        .write(through)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&file.path)?;
    let meta = opened.metadata()?;
    if !meta.is_file() {
        bail!("it is no regular file");
    }
    if meta.len() == 0 {
        bail!("it is empty");
    }
    let lock = match through {
        true => FlockOperation::NonBlockingLockExclusive,
        false => FlockOperation::NonBlockingLockShared,
    };
    // Some file systems have no locks; then there is none to wait for.
    if flock(&opened, lock) == Err(rustix::io::Errno::WOULDBLOCK) {
        bail!("it is in use by another guest");
    }
    let host = HostFile::new(opened.into())?;
    let disk: Arc<dyn Disk> = match format(file, &host)? {
        DiskFormat::Qcow2 => Arc::new(Qcow2::open(host, !through)?),
        DiskFormat::Raw => Arc::new(Raw::new(host, !through)?),
    };
    if disk.size() < SECTOR {
        bail!("it is smaller than a sector");
    }
    if file.writes != DiskWrites::Kept {
        return Ok(disk);
    }
    let limit = match options.max_disk {
        Some(limit) => limit,
        None => MemFsOptions::new(0, kernel.clock.clone()).size,
    };
    match Cow::new(disk, limit) {
        Err(Errno::EFBIG | Errno::EINVAL) => bail!("it is too large for :cow"),
        made => Ok(Arc::new(made?)),
    }
}
