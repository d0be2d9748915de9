//! Extended attributes of host files. What has a meaning to the host's own security modules or access control lists
//! is not the guest's business and is not shown.

use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{
    XattrFlags, getxattr, lgetxattr, listxattr, llistxattr, lremovexattr, lsetxattr, removexattr, setxattr,
};

use super::host::{errno, path_of};
use super::inode::HostInode;
use crate::kernel::stop::Errno;

/// XATTR_SIZE_MAX and XATTR_LIST_MAX.
const MAX: usize = 65536;

/// How path-based calls reach an inode.
enum Reach {
    /// Through a descriptor's magic link, which is followed.
    Follow(Vec<u8>),
    /// By a name in a descriptor's directory, whose link is not followed.
    Name(Vec<u8>),
}

/// Run `call` with a path that means the inode while the descriptor behind it is held.
fn reach<T>(inode: &HostInode, call: impl FnOnce(Reach) -> rustix::io::Result<T>) -> Result<T, Errno> {
    let (dir, name) = inode.at()?;
    let mut path = path_of(dir.as_fd()).into_bytes();
    let result = if name.is_empty() {
        call(Reach::Follow(path))
    } else {
        path.push(b'/');
        path.extend_from_slice(name);
        call(Reach::Name(path))
    };
    result.map_err(errno)
}

fn check_shown(name: &[u8]) -> Result<(), Errno> {
    if is_shown(name) {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}

fn is_shown(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name.starts_with(b"trusted.") || name == b"security.capability"
}

pub(super) fn get(inode: &HostInode, name: &[u8]) -> Result<Vec<u8>, Errno> {
    check_shown(name)?;
    let mut value = Vec::with_capacity(MAX);
    reach(inode, |path| match path {
        Reach::Follow(path) => getxattr(path, name, spare_capacity(&mut value)),
        Reach::Name(path) => lgetxattr(path, name, spare_capacity(&mut value)),
    })?;
    value.shrink_to_fit();
    Ok(value)
}

pub(super) fn list(inode: &HostInode) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::with_capacity(MAX);
    let listed = reach(inode, |path| match path {
        Reach::Follow(path) => listxattr(path, spare_capacity(&mut names)),
        Reach::Name(path) => llistxattr(path, spare_capacity(&mut names)),
    });
    match listed {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        other => other?,
    };
    let shown = names.split(|&b| b == 0).filter(|name| is_shown(name));
    Ok(shown.map(<[u8]>::to_vec).collect())
}

pub(super) fn set(inode: &HostInode, name: &[u8], value: &[u8], flags: i32) -> Result<(), Errno> {
    inode.check_writable()?;
    check_shown(name)?;
    let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
    reach(inode, |path| match path {
        Reach::Follow(path) => setxattr(path, name, value, flags),
        Reach::Name(path) => lsetxattr(path, name, value, flags),
    })
}

pub(super) fn remove(inode: &HostInode, name: &[u8]) -> Result<(), Errno> {
    inode.check_writable()?;
    check_shown(name)?;
    reach(inode, |path| match path {
        Reach::Follow(path) => removexattr(path, name),
        Reach::Name(path) => lremovexattr(path, name),
    })
}
