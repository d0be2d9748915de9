//! Removing a directory of the host with all that is in it, if that is what the guest saw there.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, Stat, chmod, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::apply::Problem;
use super::place::{Place, ctime, is_directory, is_later};
use crate::kernel::fs::Inode;
use crate::kernel::stop;
use crate::kernel::time::Timestamp;

/// Host device and inode number.
pub(super) type Key = (u64, u64);

pub(super) fn key(stat: &Stat) -> Key {
    (stat.st_dev, stat.st_ino)
}

/// What must hold of all that is below a directory that goes.
pub(super) struct Limits<'a> {
    /// When the guest began to look.
    pub(super) since: Timestamp,
    /// What we have changed ourselves, under another name.
    pub(super) touched: &'a HashSet<Key>,
    /// Inode numbers of what the guest has elsewhere, where it does not come to.
    pub(super) wanted: &'a HashSet<u64>,
}

/// Nothing below a directory may have been changed by the host since the guest began, be on another file system, or be what the guest
/// could not see. `seen` is what it had there; none: that was looked at before.
pub(super) fn check(
    place: &Place<'_>,
    seen: Option<&Arc<dyn Inode>>,
    limits: &Limits<'_>,
) -> Result<(), Problem> {
    let mut at = open_directory(&place.directory, place.name)?;
    let device = fstat(&at)?.st_dev;
    let mut left = names(&at)?;
    let mut seen = seen.cloned();
    let mut above = Vec::new();
    loop {
        let Some(name) = left.pop() else {
            let Some(outer) = above.pop() else { return Ok(()) };
            (at, left, seen) = outer;
            continue;
        };
        let stat = statat(&at, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
        if is_later(ctime(&stat), limits.since) && !limits.touched.contains(&key(&stat)) {
            return Err(Problem::Changed);
        }
        if stat.st_dev != device {
            return Err(Problem::Unseen);
        }
        let inner = match seen.as_ref().map(|seen| seen.lookup(&name)).transpose() {
            Err(stop::Errno::ENOENT) => return Err(Problem::Unseen),
            found => found?,
        };
        if let Some(inner) = &inner
            && limits.wanted.contains(&inner.metadata()?.ino)
        {
            return Err(Problem::Kept);
        }
        if is_directory(&stat) {
            let inside = open_directory(&at, &name)?;
            let names = names(&inside)?;
            let outer = (
                std::mem::replace(&mut at, inside),
                std::mem::replace(&mut left, names),
                std::mem::replace(&mut seen, inner),
            );
            above.push(outer);
        }
    }
}

/// Remove what is there, all that is below it included, if it is the one of this `key`. Returns what of it has more names elsewhere.
pub(super) fn remove(place: &Place<'_>, top: Key) -> Result<Vec<Key>, Problem> {
    let mut linked = Vec::new();
    let unlink = |directory: &OwnedFd, name: &[u8], linked: &mut Vec<Key>| {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if is_directory(&stat) {
            return Err(Errno::ISDIR);
        }
        if stat.st_nlink > 1 {
            linked.push(key(&stat));
        }
        unlinkat(directory, name, AtFlags::empty())
    };
    match unlink(&place.directory, place.name, &mut linked) {
        Err(Errno::ISDIR) => {}
        done => return Ok(done.map(|()| linked)?),
    }
    let mut at = open_to_empty(&place.directory, place.name)?;
    if key(&fstat(&at)?) != top {
        return Err(Problem::Changed);
    }
    let mut left = names(&at)?;
    let mut above: Vec<(OwnedFd, Vec<Vec<u8>>, Vec<u8>)> = Vec::new();
    loop {
        if let Some(name) = left.pop() {
            match unlink(&at, &name, &mut linked) {
                Err(Errno::ISDIR) => {
                    let inner = open_to_empty(&at, &name)?;
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
            unlinkat(&place.directory, place.name, AtFlags::REMOVEDIR)?;
            return Ok(linked);
        }
    }
}

/// The same of one that is to be emptied. The guest, which has, may have changed its mode to do so.
fn open_to_empty(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Problem> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(parent, name, flags, Mode::empty())?;
    let mode = fstat(&found)?.st_mode;
    if mode & 0o700 != 0o700 {
        // Only its owner can; for root it means nothing.
        let _ = chmod(
            format!("/proc/self/fd/{}", found.as_raw_fd()),
            Mode::from_raw_mode(mode & 0o7777 | 0o700),
        );
    }
    open_directory(&found, b".")
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
