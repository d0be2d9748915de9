//! The host calls that hostfs makes, each on one component of a path: a name never holds a slash and is never `..`, so
//! nothing here can leave the directory it is given.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp, openat, openat2,
    readlinkat_raw, statx,
};

use crate::kernel::fs::{FileType, Metadata};
use crate::kernel::stop::Errno;
use crate::kernel::time::Timestamp;
use crate::kernel::user_memory::PATH_MAX;

/// A host error as one of ours.
pub(in crate::kernel) fn errno(e: rustix::io::Errno) -> Errno {
    Errno::from_raw(e.raw_os_error())
}

/// Flags of every descriptor opened here: gone at exec, no waiting for the other end of a FIFO, no terminal taken.
const ALWAYS: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);

/// Open `name` in `dir` for looking at alone (O_PATH): has no effect on what is opened, whatever it is.
pub(super) fn open_path(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    beneath(dir, name, OFlags::PATH | ALWAYS)
}

/// Open `name` in `dir` for reading or writing. The caller knows that it is a regular file or a directory.
pub(super) fn open_name(dir: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let dir = dir.as_fd();
    quietly(flags, |flags| {
        beneath(dir, name, flags | ALWAYS | OFlags::NONBLOCK | OFlags::NOCTTY)
    })
}

fn beneath(dir: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    openat2(dir, name, flags, Mode::empty(), resolve).map_err(errno)
}

/// Try without updating the host's access time first, which only the owner of a file may.
fn quietly(flags: OFlags, open: impl Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    match open(flags | OFlags::NOATIME) {
        Err(Errno::EPERM) => open(flags),
        other => other,
    }
}

/// The host's `/proc/self/fd`, through which an O_PATH descriptor is opened again or changed.
#[derive(Debug)]
pub(super) struct SelfFd(OwnedFd);

impl SelfFd {
    pub(super) fn open() -> Result<SelfFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, "/proc/self/fd", flags, Mode::empty()).map_err(errno)?;
        Ok(SelfFd(fd))
    }

    /// Open what an O_PATH descriptor refers to. The caller has seen that it is a regular file or a directory, and the
    /// descriptor cannot come to mean anything else.
    pub(super) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let name = fd.as_raw_fd().to_string();
        quietly(flags, |flags| {
            let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
            openat(&self.0, name.as_str(), flags, Mode::empty()).map_err(errno)
        })
    }

    /// Another O_PATH descriptor of what `fd` refers to.
    pub(super) fn reopen_path(&self, fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat(&self.0, fd.as_raw_fd().to_string(), flags, Mode::empty()).map_err(errno)
    }

    /// The directory and the name in it that mean what `fd` refers to when links are followed.
    pub(super) fn name_of(&self, fd: BorrowedFd<'_>) -> (BorrowedFd<'_>, String) {
        (self.0.as_fd(), fd.as_raw_fd().to_string())
    }
}

/// A path that means what `fd` refers to when its last link is followed, for calls that take no descriptor.
pub(super) fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Attributes of `name` in `dir`, a final link not followed; of `dir` itself for an empty name.
pub(super) fn stat_at(dir: impl AsFd, name: &[u8]) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME).map_err(errno)
}

/// What a symbolic link says: `name` in `dir`, or the O_PATH descriptor itself for an empty name.
pub(super) fn read_link(dir: impl AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::with_capacity(PATH_MAX);
    readlinkat_raw(dir, name, spare_capacity(&mut text)).map_err(errno)?;
    text.shrink_to_fit();
    Ok(text)
}

/// Host device and inode number.
pub(super) fn key(st: &Statx) -> (u64, u64) {
    (makedev(st.stx_dev_major, st.stx_dev_minor), st.stx_ino)
}

/// The kind of file.
pub(super) fn kind(st: &Statx) -> FileType {
    FileType::from_mode(u32::from(st.stx_mode)).unwrap_or(FileType::Regular)
}

/// A device number in the layout of stat(2).
pub(super) fn makedev(major: u32, minor: u32) -> u64 {
    rustix::fs::makedev(major, minor)
}

fn time(t: &StatxTimestamp) -> Timestamp {
    Timestamp {
        sec: t.tv_sec,
        nsec: t.tv_nsec,
    }
}

/// As our metadata; device, inode number and owner are the host's still.
pub(super) fn metadata(st: &Statx) -> Metadata {
    let (dev, ino) = key(st);
    Metadata {
        dev,
        ino,
        mode: u32::from(st.stx_mode),
        nlink: st.stx_nlink,
        uid: st.stx_uid,
        gid: st.stx_gid,
        rdev: makedev(st.stx_rdev_major, st.stx_rdev_minor),
        size: st.stx_size,
        blksize: st.stx_blksize,
        blocks: st.stx_blocks,
        atime: time(&st.stx_atime),
        mtime: time(&st.stx_mtime),
        ctime: time(&st.stx_ctime),
        btime: (st.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| time(&st.stx_btime)),
    }
}
