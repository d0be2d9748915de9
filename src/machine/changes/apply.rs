//! Carrying changes out on the host, each file at once or not at all.
//!
//! Everything is reached from one descriptor of the root by openat2(2) without following a link, so that what happens on
//! the host meanwhile cannot lead elsewhere. A file is written under a name of our own beside its place and renamed. What the
//! host changed since the guest began to look at it is left alone, and with it what is below it.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, CWD, FileType as HostType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec,
    Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fsetxattr, fstat, mkdirat, mknodat, openat,
    openat2, renameat_with, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::entry::{Entry, Side, What};
use super::removal;
use crate::kernel::fs::{FileType, Metadata};
use crate::kernel::time::Timestamp;

/// A change that was not carried out.
pub struct Refused {
    /// The path on the host, fit to be shown.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// Why one change is not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("changed on this machine since the guest began")]
    Changed,
    #[error("something is there on this machine now")]
    Taken,
    #[error("something is below it that the guest could not see")]
    Unseen,
    #[error("--ro says that it is not to be written")]
    ReadOnly,
    #[error("kept, as something else that was moved could not be")]
    Kept,
    #[error("a directory above it was not carried out")]
    Above,
    #[error("a socket cannot be carried over")]
    Socket,
    #[error("the guest's owner {0}:{1} takes root to be carried out")]
    Owner(u32, u32),
    #[error("{0}")]
    Host(#[from] std::io::Error),
}

impl From<Errno> for Problem {
    fn from(errno: Errno) -> Problem {
        Problem::Host(errno.into())
    }
}

impl From<crate::kernel::stop::Errno> for Problem {
    fn from(errno: crate::kernel::stop::Errno) -> Problem {
        Problem::Host(errno.into())
    }
}

/// Carry out `entries`, parents before children, on the directory `root`, which the guest has seen since `since`; nothing at and
/// below the paths that are `protected`.
pub(super) fn apply(
    root: &Path,
    entries: &[&Entry],
    since: Timestamp,
    protected: &[PathBuf],
) -> Result<Vec<Refused>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags, Mode::empty()).with_context(|| format!("{}", root.display()))?;
    let mut host = Host {
        root,
        since,
        protected,
        privileged: nix::unistd::geteuid().is_root(),
        links: HashMap::new(),
        temporary: 0,
    };
    let mut refused = Vec::new();
    let mut blocked: Vec<&[u8]> = Vec::new();
    let mut directories = Vec::new();
    let entries = entries.iter().copied().filter(|entry| !entry.path.is_empty());
    // All are looked at before the first is carried out, as that shows in other names of the same file.
    let examined: Vec<(&Entry, Option<Problem>)> =
        entries.map(|entry| (entry, host.examine(entry).err())).collect();
    // What goes may be what has come elsewhere: it goes when all else is done.
    let (removed, others): (Vec<_>, Vec<_>) =
        examined.into_iter().partition(|(entry, _)| entry.after.is_none());
    let mut lost = false;
    for (entry, problem) in others.into_iter().chain(removed) {
        let below = |above: &&&[u8]| {
            let rest = entry.path.strip_prefix(**above);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let done = match blocked.iter().find(below) {
            Some(_) => Err(Problem::Above),
            None if lost && entry.after.is_none() => Err(problem.unwrap_or(Problem::Kept)),
            None => problem.map_or_else(|| host.carry_out(entry), Err),
        };
        match done {
            Ok(()) if entry.after.is_some() && entry.kind() == FileType::Directory => directories.push(entry),
            Ok(()) => {}
            Err(problem) => {
                if !matches!(problem, Problem::Above) && entry.kind() == FileType::Directory {
                    blocked.push(&entry.path);
                }
                lost |= entry.moved;
                refused.push(tell(entry, &problem));
            }
        }
    }
    refused.sort_by(|one, other| one.path.cmp(&other.path));
    // Last and from below: a directory may have lost its right to be written.
    for entry in directories.into_iter().rev() {
        if let Err(problem) = host.finish_directory(entry) {
            refused.push(tell(entry, &problem));
        }
    }
    Ok(refused)
}

fn tell(entry: &Entry, problem: &Problem) -> Refused {
    Refused {
        path: super::quoted(&[b"/", entry.path.as_slice()].concat()),
        reason: problem.to_string(),
    }
}

/// The tree that is changed.
struct Host<'a> {
    root: OwnedFd,
    since: Timestamp,
    protected: &'a [PathBuf],
    privileged: bool,
    /// Paths of files with several names that were made, by the guest's inode number.
    links: HashMap<u64, Vec<u8>>,
    /// Number of the next name of our own.
    temporary: u64,
}

/// A directory of the host and a name in it.
pub(super) struct Place<'a> {
    pub(super) directory: OwnedFd,
    pub(super) name: &'a [u8],
}

impl Place<'_> {
    /// What is there; none if nothing is.
    fn stat(&self) -> Result<Option<Stat>, Problem> {
        match statat(&self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

pub(super) fn timestamp(sec: i64, nsec: u64) -> Timestamp {
    Timestamp {
        sec,
        nsec: u32::try_from(nsec).unwrap_or(0),
    }
}

impl Host<'_> {
    /// Where a path of the guest is on the host.
    fn place<'a>(&self, path: &'a [u8]) -> Result<Place<'a>, Problem> {
        let cut = path.iter().rposition(|&byte| byte == b'/');
        let (above, name) = match cut {
            Some(cut) => (&path[..cut], &path[cut + 1..]),
            None => (&b"."[..], path),
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match openat2(&self.root, above, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(Problem::Changed),
            opened => opened?,
        };
        Ok(Place { directory, name })
    }

    /// Whether the host has changed what an entry is about since the guest looked at it.
    fn examine(&self, entry: &Entry) -> Result<(), Problem> {
        let goes = entry.after.is_none() || entry.what.contains(What::KIND);
        let path = super::absolute(entry);
        let is_kept = |top: &PathBuf| path.starts_with(top) || goes && top.starts_with(&path);
        if self.protected.iter().any(is_kept) {
            return Err(Problem::ReadOnly);
        }
        let Some(before) = &entry.before else {
            return Ok(());
        };
        let place = self.place(&entry.path)?;
        let now = place.stat()?.ok_or(Problem::Changed)?;
        check(&now, &before.meta)?;
        let directory = is_directory(&now);
        if goes || !directory {
            let ctime = timestamp(now.st_ctime, now.st_ctime_nsec);
            if ctime != before.meta.ctime || is_later(ctime, self.since) {
                return Err(Problem::Changed);
            }
        }
        if goes && directory {
            removal::check(&place, &now, &before.inode, self.since)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, entry: &Entry) -> Result<(), Problem> {
        let place = self.place(&entry.path)?;
        let now = place.stat()?;
        match (&entry.before, &now) {
            (None, Some(_)) => return Err(Problem::Taken),
            (Some(_), None) => return Err(Problem::Changed),
            (Some(before), Some(now)) => check(now, &before.meta)?,
            (None, None) => {}
        }
        let Some(after) = &entry.after else {
            return now.map_or(Ok(()), |now| removal::remove(&place, &now));
        };
        if entry.what.contains(What::KIND) && after.kind() == FileType::Socket {
            return Err(Problem::Socket);
        }
        let fresh = entry.is_new();
        if fresh || (entry.what.contains(What::CONTENTS) && after.kind() != FileType::Directory) {
            self.put(entry, after, &place)
        } else if after.kind() != FileType::Directory {
            self.set_attributes(entry, after, &place)
        } else {
            Ok(())
        }
    }

    /// Put a file in its place: a new name, or instead of what is there.
    fn put(&mut self, entry: &Entry, after: &Side, place: &Place<'_>) -> Result<(), Problem> {
        let ours = format!(".uvm-apply-{}-{}", std::process::id(), self.temporary).into_bytes();
        self.temporary += 1;
        let ours = Place {
            directory: place.directory.try_clone()?,
            name: &ours,
        };
        let done = self
            .make(entry, after, &ours)
            .and_then(|()| exchange(entry, &ours, place));
        // What is left under our name is what was there before, or what came to nothing.
        let left = match ours.stat() {
            Ok(Some(stat)) => removal::remove(&ours, &stat),
            nothing => nothing.map(drop),
        };
        done.and(left)
    }

    /// Make a file under a name of our own, with all its attributes; a directory gets them last.
    fn make(&mut self, entry: &Entry, after: &Side, place: &Place<'_>) -> Result<(), Problem> {
        let (at, ours) = (&place.directory, place.name);
        if after.meta.nlink > 1
            && let Some(known) = self.links.get(&after.meta.ino)
        {
            let known = self.place(known)?;
            return Ok(rustix::fs::linkat(
                &known.directory,
                known.name,
                at,
                ours,
                AtFlags::empty(),
            )?);
        }
        let private = Mode::from_raw_mode(0o600);
        let mut file = None;
        match after.kind() {
            FileType::Regular => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = std::fs::File::from(openat(at, ours, flags, private)?);
                copy(after, &made)?;
                file = Some(made);
            }
            FileType::Symlink => symlinkat(after.link()?, at, ours)?,
            FileType::Fifo => mknodat(at, ours, HostType::Fifo, private, 0)?,
            FileType::CharDevice => mknodat(at, ours, HostType::CharacterDevice, private, after.meta.rdev)?,
            FileType::BlockDevice => mknodat(at, ours, HostType::BlockDevice, private, after.meta.rdev)?,
            FileType::Socket => return Err(Problem::Socket),
            FileType::Directory => return Ok(mkdirat(at, ours, Mode::from_raw_mode(0o700))?),
        }
        self.attributes(entry, after, place, true)?;
        // A change of owner takes capabilities away.
        if let Some(file) = file {
            for (name, value) in after.xattrs()? {
                fsetxattr(&file, name.as_slice(), &value, XattrFlags::empty())?;
            }
        }
        if after.meta.nlink > 1 {
            self.links.insert(after.meta.ino, entry.path.clone());
        }
        Ok(())
    }

    fn set_attributes(&self, entry: &Entry, after: &Side, place: &Place<'_>) -> Result<(), Problem> {
        self.attributes(entry, after, place, false)?;
        let loses_some = after.kind() == FileType::Regular && entry.what.contains(What::OWNER);
        if loses_some || entry.what.contains(What::XATTRS) {
            self.set_xattrs(entry, after, place)?;
        }
        Ok(())
    }

    fn set_xattrs(&self, entry: &Entry, after: &Side, place: &Place<'_>) -> Result<(), Problem> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&place.directory, place.name, flags, Mode::empty())?;
        let wanted = after.xattrs()?;
        let old = entry
            .before
            .as_ref()
            .map(Side::xattrs)
            .transpose()?
            .unwrap_or_default();
        for (name, _) in old
            .iter()
            .filter(|(name, _)| wanted.iter().all(|(n, _)| n != name))
        {
            rustix::fs::fremovexattr(&file, name.as_slice())?;
        }
        for (name, value) in wanted {
            fsetxattr(&file, name.as_slice(), &value, XattrFlags::empty())?;
        }
        Ok(())
    }

    /// Owner, mode and time of a file; of a new one all that differ from what a new file gets.
    fn attributes(&self, entry: &Entry, after: &Side, place: &Place<'_>, new: bool) -> Result<(), Problem> {
        let meta = &after.meta;
        if !self.privileged && entry.what.contains(What::OWNER) {
            return Err(Problem::Owner(meta.uid, meta.gid));
        }
        let owned = new.then(|| self.own(entry, meta, place)).transpose()?;
        if self.privileged && !new && entry.what.contains(What::OWNER) {
            chown(place, meta)?;
        }
        if after.kind() != FileType::Symlink && (new || entry.what.intersects(What::MODE | What::OWNER)) {
            // Whoever it belongs to now, it is not to act for that one.
            let mask = if owned == Some(false) { 0o1777 } else { 0o7777 };
            set_mode(place, meta.mode & mask)?;
        }
        if new || entry.what.contains(What::TIME) {
            let times = Timestamps {
                last_access: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
                last_modification: Timespec {
                    tv_sec: meta.mtime.sec,
                    tv_nsec: meta.mtime.nsec.into(),
                },
            };
            utimensat(&place.directory, place.name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Give what we have made its owner and group; whether it has them. Without privilege a new file of the guest's is the caller's,
    /// but what takes the place of another file has to be that one's owner's.
    fn own(&self, entry: &Entry, meta: &Metadata, place: &Place<'_>) -> Result<bool, Problem> {
        match chown(place, meta) {
            Ok(()) => Ok(true),
            Err(problem) if self.privileged => Err(problem),
            Err(_) if entry.before.is_some() && !entry.what.contains(What::KIND) => {
                Err(Problem::Owner(meta.uid, meta.gid))
            }
            Err(_) => Ok(false),
        }
    }

    /// Owner and mode of a directory.
    fn finish_directory(&self, entry: &Entry) -> Result<(), Problem> {
        let place = self.place(&entry.path)?;
        let Some(after) = &entry.after else { return Ok(()) };
        if !place.stat()?.as_ref().is_some_and(is_directory) {
            return Err(Problem::Changed);
        }
        let fresh = entry.is_new();
        if fresh || entry.what.intersects(What::MODE | What::OWNER) {
            self.attributes(entry, after, &place, fresh)?;
        }
        if fresh || entry.what.contains(What::XATTRS) {
            self.set_xattrs(entry, after, &place)?;
        }
        Ok(())
    }
}

/// Have what was made under our name stand in its place. What stood there is under our name then, unless nothing did or it is gone.
fn exchange(entry: &Entry, ours: &Place<'_>, place: &Place<'_>) -> Result<(), Problem> {
    let flags = match &entry.before {
        None => RenameFlags::NOREPLACE,
        Some(before) => {
            // To make it may have taken long.
            check(&place.stat()?.ok_or(Problem::Changed)?, &before.meta)?;
            RenameFlags::EXCHANGE
        }
    };
    let rename = |flags| renameat_with(&ours.directory, ours.name, &place.directory, place.name, flags);
    let renamed = match rename(flags) {
        // A file system that cannot exchange can still put one file instead of another.
        Err(Errno::INVAL) if flags == RenameFlags::EXCHANGE => rename(RenameFlags::empty()),
        renamed => renamed,
    };
    match renamed {
        Err(Errno::EXIST) => Err(Problem::Taken),
        renamed => Ok(renamed?),
    }
}

fn chown(place: &Place<'_>, meta: &Metadata) -> Result<(), Problem> {
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(chownat(
        &place.directory,
        place.name,
        Some(uid),
        Some(gid),
        flags,
    )?)
}

pub(super) fn is_later(time: Timestamp, since: Timestamp) -> bool {
    (time.sec, time.nsec) > (since.sec, since.nsec)
}

/// Set the permissions of what is no link. One that was put there this moment is not followed, as chmod(2) would.
fn set_mode(place: &Place<'_>, mode: u32) -> Result<(), Problem> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&place.directory, place.name, flags, Mode::empty())?;
    if HostType::from_raw_mode(fstat(&file)?.st_mode) == HostType::Symlink {
        return Err(Problem::Changed);
    }
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(chmod(path, Mode::from_raw_mode(mode))?)
}

/// Copy contents; holes and blocks of zeroes become holes.
fn copy(from: &Side, to: &std::fs::File) -> Result<(), Problem> {
    const BLOCK: usize = 64 << 10;
    let mut reader = from.reader()?;
    let mut block = vec![0; BLOCK];
    loop {
        reader.skip_hole()?;
        let at = reader.position();
        match reader.read(&mut block)? {
            0 => return Ok(to.set_len(at)?),
            n if block[..n].iter().all(|&byte| byte == 0) => {}
            n => to.write_all_at(&block[..n], at)?,
        }
    }
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    HostType::from_raw_mode(stat.st_mode) == HostType::Directory
}

/// Whether a file is what it was: the same kind of file, mode, size and time of its contents. A directory of which something
/// was carried out already is told by its mode alone.
fn check(now: &Stat, before: &Metadata) -> Result<(), Problem> {
    let mtime = timestamp(now.st_mtime, now.st_mtime_nsec);
    let contents = is_directory(now) || (now.st_size.cast_unsigned() == before.size && mtime == before.mtime);
    if now.st_mode == before.mode && contents {
        Ok(())
    } else {
        Err(Problem::Changed)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn modes_are_not_set_through_links() {
        let directory = std::env::temp_dir().join(format!("uvm-apply-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("create");
        let file = directory.join("file");
        fs::write(&file, "").expect("write");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("chmod");
        symlink("file", directory.join("link")).expect("link");
        let set = |name: &'static str, mode| {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let opened = openat(CWD, &directory, flags, Mode::empty()).expect("open");
            let place = Place {
                directory: opened,
                name: name.as_bytes(),
            };
            set_mode(&place, mode)
        };
        let mode = || fs::metadata(&file).expect("stat").permissions().mode() & 0o7777;
        assert!(matches!(set("link", 0o777), Err(Problem::Changed)));
        assert_eq!(mode(), 0o640);
        assert!(set("file", 0o4711).is_ok());
        assert_eq!(mode(), 0o4711);
        fs::remove_dir_all(&directory).expect("remove");
    }
}
