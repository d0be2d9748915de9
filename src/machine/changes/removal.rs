//! Removing a directory of the host with all that is in it, if that is what the guest saw there.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::apply::{Place, Problem, is_directory, is_later, timestamp};
use crate::kernel::fs::Inode;
use crate::kernel::stop;
use crate::kernel::time::Timestamp;

/// Nothing below a directory may have been changed by the host after `since`, nor be what the guest could not see: hidden, or of
/// another file system. `seen` is what the guest had there.
pub(super) fn check(
    place: &Place<'_>,
    now: &Stat,
    seen: &Arc<dyn Inode>,
    since: Timestamp,
) -> Result<(), Problem> {
    let mut left = vec![(open_directory(&place.directory, place.name)?, seen.clone())];
    while let Some((directory, seen)) = left.pop() {
        for name in names(&directory)? {
            let stat = statat(&directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
            let ctime = timestamp(stat.st_ctime, stat.st_ctime_nsec);
            if is_later(ctime, since) {
                return Err(Problem::Changed);
            }
            if stat.st_dev != now.st_dev {
                return Err(Problem::Unseen);
            }
            let seen = match seen.lookup(&name) {
                Err(stop::Errno::ENOENT) => return Err(Problem::Unseen),
                found => found?,
            };
            if is_directory(&stat) {
                left.push((open_directory(&directory, &name)?, seen));
            }
        }
    }
    Ok(())
}

/// Remove what is there, all that is below it included.
pub(super) fn remove(place: &Place<'_>, now: &Stat) -> Result<(), Problem> {
    if !is_directory(now) {
        return Ok(unlinkat(&place.directory, place.name, AtFlags::empty())?);
    }
    let top = open_directory(&place.directory, place.name)?;
    let mut left = names(&top)?;
    let mut at = top;
    let mut above: Vec<(OwnedFd, Vec<Vec<u8>>, Vec<u8>)> = Vec::new();
    loop {
        if let Some(name) = left.pop() {
            match unlinkat(&at, name.as_slice(), AtFlags::empty()) {
                Err(Errno::ISDIR) => {
                    let inner = open_directory(&at, &name)?;
                    let inner_names = names(&inner)?;
                    let outer = std::mem::replace(&mut at, inner);
                    above.push((outer, std::mem::replace(&mut left, inner_names), name));
                }
                done => done?,
            }
        } else if let Some((outer, outer_left, name)) = above.pop() {
            unlinkat(&outer, name.as_slice(), AtFlags::REMOVEDIR)?;
            (at, left) = (outer, outer_left);
        } else {
            return Ok(unlinkat(&place.directory, place.name, AtFlags::REMOVEDIR)?);
        }
    }
}

fn open_directory(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd, Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Problem> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
