//! File structures in guest memory.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::kernel::fs::{Metadata, StatFs, major, minor};
use crate::kernel::time::Timestamp;

/// `struct stat`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct Stat {
    pub dev: u64,
    pub ino: u64,
    pub nlink: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub pad: u32,
    pub rdev: u64,
    pub size: u64,
    pub blksize: u64,
    pub blocks: u64,
    pub atime: [i64; 2],
    pub mtime: [i64; 2],
    pub ctime: [i64; 2],
    pub unused: [u64; 3],
}

impl From<&Metadata> for Stat {
    fn from(meta: &Metadata) -> Stat {
        let pair = |t: Timestamp| [t.sec, i64::from(t.nsec)];
        Stat {
            dev: meta.dev,
            ino: meta.ino,
            nlink: u64::from(meta.nlink),
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            pad: 0,
            rdev: meta.rdev,
            size: meta.size,
            blksize: u64::from(meta.blksize),
            blocks: meta.blocks,
            atime: pair(meta.atime),
            mtime: pair(meta.mtime),
            ctime: pair(meta.ctime),
            unused: [0; 3],
        }
    }
}

/// `struct statx_timestamp`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct StatxTime {
    pub sec: i64,
    pub nsec: u32,
    pub reserved: i32,
}

impl From<Timestamp> for StatxTime {
    fn from(time: Timestamp) -> StatxTime {
        StatxTime {
            sec: time.sec,
            nsec: time.nsec,
            reserved: 0,
        }
    }
}

/// `struct statx`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct Statx {
    pub mask: u32,
    pub blksize: u32,
    pub attributes: u64,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
    pub spare0: u16,
    pub ino: u64,
    pub size: u64,
    pub blocks: u64,
    pub attributes_mask: u64,
    pub atime: StatxTime,
    pub btime: StatxTime,
    pub ctime: StatxTime,
    pub mtime: StatxTime,
    pub rdev_major: u32,
    pub rdev_minor: u32,
    pub dev_major: u32,
    pub dev_minor: u32,
    pub mnt_id: u64,
    pub dio_mem_align: u32,
    pub dio_offset_align: u32,
    pub spare: [u64; 12],
}

impl From<&Metadata> for Statx {
    /// All that an inode tells; attributes and mount are the caller's.
    fn from(meta: &Metadata) -> Statx {
        let born = if meta.btime.is_some() {
            libc::STATX_BTIME
        } else {
            0
        };
        Statx {
            mask: libc::STATX_BASIC_STATS | born,
            blksize: meta.blksize,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            mode: u16::try_from(meta.mode & 0o177_777).unwrap_or_default(),
            ino: meta.ino,
            size: meta.size,
            blocks: meta.blocks,
            atime: meta.atime.into(),
            btime: meta.btime.unwrap_or_default().into(),
            ctime: meta.ctime.into(),
            mtime: meta.mtime.into(),
            rdev_major: major(meta.rdev),
            rdev_minor: minor(meta.rdev),
            dev_major: major(meta.dev),
            dev_minor: minor(meta.dev),
            ..Statx::default()
        }
    }
}

/// `struct statfs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct Statfs {
    pub magic: u64,
    pub bsize: u64,
    pub blocks: u64,
    pub bfree: u64,
    pub bavail: u64,
    pub files: u64,
    pub ffree: u64,
    pub fsid: [u32; 2],
    pub namelen: u64,
    pub frsize: u64,
    pub flags: u64,
    pub spare: [u64; 4],
}

impl From<&StatFs> for Statfs {
    /// All that a file system tells; flags are the mount's.
    fn from(fs: &StatFs) -> Statfs {
        Statfs {
            magic: fs.magic,
            bsize: fs.bsize,
            blocks: fs.blocks,
            bfree: fs.bfree,
            bavail: fs.bavail,
            files: fs.files,
            ffree: fs.ffree,
            namelen: fs.namelen,
            frsize: fs.bsize,
            ..Statfs::default()
        }
    }
}

/// `struct utimbuf`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct Utimbuf {
    pub actime: i64,
    pub modtime: i64,
}

/// `struct flock`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct Flock {
    pub kind: i16,
    pub whence: i16,
    pub pad: u32,
    pub start: i64,
    pub len: i64,
    pub pid: i32,
    pub pad2: u32,
}

/// `struct f_owner_ex`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct OwnerEx {
    pub kind: i32,
    pub pid: i32,
}

/// `struct open_how`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[allow(missing_docs)]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

const _: () = {
    assert!(size_of::<Stat>() == 144);
    assert!(size_of::<Statx>() == 256);
    assert!(size_of::<Statfs>() == 120);
    assert!(size_of::<Flock>() == 32);
};
