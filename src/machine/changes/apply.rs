//! Carrying changes out on the host, each file at once or not at all.
//!
//! Everything is reached from one descriptor of the root by openat2(2) without following a link, so that what happens on
//! the host meanwhile cannot lead elsewhere. A file is written under a name of our own beside its place and renamed. What the
//! host changed since the guest began to look at it is left alone, and with it what is below it.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType as HostType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec,
    Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fsetxattr, fstat, mkdirat, mknodat, openat,
    openat2, renameat_with, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::entry::{Entry, Side, What};
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
enum Problem {
    #[error("changed on this machine since the guest began")]
    Changed,
    #[error("something is there on this machine now")]
    Taken,
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

/// Carry out `entries`, parents before children, on the directory `root`, which the guest has seen since `since`.
pub(super) fn apply(root: &Path, entries: &[&Entry], since: Timestamp) -> Result<Vec<Refused>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, flags, Mode::empty()).with_context(|| format!("{}", root.display()))?;
    let mut host = Host {
        root,
        since,
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
    for (entry, problem) in examined {
        let below = |above: &&&[u8]| {
            let rest = entry.path.strip_prefix(**above);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let done = match blocked.iter().find(below) {
            Some(_) => Err(Problem::Above),
            None => problem.map_or_else(|| host.carry_out(entry), Err),
        };
        match done {
            Ok(())
                if entry
                    .after
                    .as_ref()
                    .is_some_and(|side| side.kind() == FileType::Directory) =>
            {
                directories.push(entry);
            }
            Ok(()) => {}
            Err(problem) => {
                if !matches!(problem, Problem::Above) && entry.kind() == FileType::Directory {
                    blocked.push(&entry.path);
                }
                refused.push(tell(entry, &problem));
            }
        }
    }
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
struct Host {
    root: OwnedFd,
    since: Timestamp,
    privileged: bool,
    /// Paths of files with several names that were made, by the guest's inode number.
    links: HashMap<u64, Vec<u8>>,
    /// Number of the next name of our own.
    temporary: u64,
}

/// A directory of the host and a name in it.
struct Place<'a> {
    directory: OwnedFd,
    name: &'a [u8],
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

fn timestamp(sec: i64, nsec: u64) -> Timestamp {
    Timestamp {
        sec,
        nsec: u32::try_from(nsec).unwrap_or(0),
    }
}

impl Host {
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
        let Some(before) = &entry.before else {
            return Ok(());
        };
        let place = self.place(&entry.path)?;
        let now = place.stat()?.ok_or(Problem::Changed)?;
        check(&now, &before.meta)?;
        let goes = entry.after.is_none() || entry.what.contains(What::KIND);
        let directory = is_directory(&now);
        if goes || !directory {
            let ctime = timestamp(now.st_ctime, now.st_ctime_nsec);
            if ctime != before.meta.ctime || self.is_later(ctime) {
                return Err(Problem::Changed);
            }
        }
        if goes && directory {
            self.check_below(place.directory.as_fd(), place.name)?;
        }
        Ok(())
    }

    fn is_later(&self, time: Timestamp) -> bool {
        (time.sec, time.nsec) > (self.since.sec, self.since.nsec)
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
            return remove(&place, now.as_ref());
        };
        if entry.what.contains(What::KIND) {
            if after.kind() == FileType::Socket {
                return Err(Problem::Socket);
            }
            remove(&place, now.as_ref())?;
        }
        let fresh = entry.what.intersects(What::ADDED | What::KIND);
        if fresh || (entry.what.contains(What::CONTENTS) && after.kind() != FileType::Directory) {
            self.put(entry, after, &place, fresh)
        } else if after.kind() != FileType::Directory {
            self.set_attributes(entry, after, &place)
        } else {
            Ok(())
        }
    }

    /// Nothing below a directory may have been changed by the host.
    fn check_below(&self, parent: impl AsFd, name: &[u8]) -> Result<(), Problem> {
        let mut left = vec![open_directory(parent, name)?];
        while let Some(directory) = left.pop() {
            for name in names(&directory)? {
                let stat = statat(&directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
                if self.is_later(timestamp(stat.st_ctime, stat.st_ctime_nsec)) {
                    return Err(Problem::Changed);
                }
                if is_directory(&stat) {
                    left.push(open_directory(&directory, &name)?);
                }
            }
        }
        Ok(())
    }

    /// Put a file in its place: a new name, or instead of what is there.
    fn put(&mut self, entry: &Entry, after: &Side, place: &Place<'_>, fresh: bool) -> Result<(), Problem> {
        let ours = format!(".uvm-apply-{}-{}", std::process::id(), self.temporary).into_bytes();
        self.temporary += 1;
        if after.kind() == FileType::Directory {
            return Ok(mkdirat(&place.directory, place.name, Mode::from_raw_mode(0o700))?);
        }
        let made = self.make(entry, after, place, &ours);
        let flags = if fresh {
            RenameFlags::NOREPLACE
        } else {
            RenameFlags::empty()
        };
        let done = made.and_then(|()| {
            match renameat_with(&place.directory, &ours, &place.directory, place.name, flags) {
                Err(Errno::EXIST) => Err(Problem::Taken),
                renamed => Ok(renamed?),
            }
        });
        if done.is_err() {
            // Best effort: it may not have been made.
            let _ = unlinkat(&place.directory, ours.as_slice(), AtFlags::empty());
        }
        done
    }

    /// Make a file under a name of our own, with all its attributes.
    fn make(&mut self, entry: &Entry, after: &Side, place: &Place<'_>, ours: &[u8]) -> Result<(), Problem> {
        let at = &place.directory;
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
        match after.kind() {
            FileType::Regular => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(at, ours, flags, private)?;
                copy(after, &std::fs::File::from(file.try_clone()?))?;
                for (name, value) in after.xattrs()? {
                    fsetxattr(&file, name.as_slice(), &value, XattrFlags::empty())?;
                }
            }
            FileType::Symlink => symlinkat(after.link()?, at, ours)?,
            FileType::Fifo => mknodat(at, ours, HostType::Fifo, private, 0)?,
            FileType::CharDevice => mknodat(at, ours, HostType::CharacterDevice, private, after.meta.rdev)?,
            FileType::BlockDevice => mknodat(at, ours, HostType::BlockDevice, private, after.meta.rdev)?,
            FileType::Socket => return Err(Problem::Socket),
            FileType::Directory => return Err(Problem::Changed),
        }
        let named = Place {
            directory: place.directory.try_clone()?,
            name: ours,
        };
        self.attributes(entry, after, &named, true)?;
        if after.meta.nlink > 1 {
            self.links.insert(after.meta.ino, entry.path.clone());
        }
        Ok(())
    }

    fn set_attributes(&self, entry: &Entry, after: &Side, place: &Place<'_>) -> Result<(), Problem> {
        if entry.what.contains(What::XATTRS) {
            self.set_xattrs(entry, after, place)?;
        }
        self.attributes(entry, after, place, false)
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
        if self.privileged {
            if new || entry.what.contains(What::OWNER) {
                let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                chownat(&place.directory, place.name, Some(uid), Some(gid), flags)?;
            }
        } else if entry.what.contains(What::OWNER) {
            return Err(Problem::Owner(meta.uid, meta.gid));
        }
        if after.kind() != FileType::Symlink && (new || entry.what.intersects(What::MODE | What::OWNER)) {
            set_mode(place, meta.mode & 0o7777)?;
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

    /// Owner and mode of a directory.
    fn finish_directory(&self, entry: &Entry) -> Result<(), Problem> {
        let place = self.place(&entry.path)?;
        let Some(after) = &entry.after else { return Ok(()) };
        if !place.stat()?.as_ref().is_some_and(is_directory) {
            return Err(Problem::Changed);
        }
        if entry.what.contains(What::XATTRS) {
            self.set_xattrs(entry, after, &place)?;
        }
        let fresh = entry.what.intersects(What::ADDED | What::KIND);
        if fresh || entry.what.intersects(What::MODE | What::OWNER) {
            self.attributes(entry, after, &place, fresh)?;
        }
        Ok(())
    }
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

fn is_directory(stat: &Stat) -> bool {
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

/// Remove what is there, all that is below it included.
fn remove(place: &Place<'_>, now: Option<&Stat>) -> Result<(), Problem> {
    let Some(now) = now else { return Ok(()) };
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
