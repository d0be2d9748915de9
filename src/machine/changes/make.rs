//! Making the guest's files on the host, with all their attributes.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, CWD, FileType as HostType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
    chmod, chownat, fstat, linkat, mkdirat, mknodat, openat, removexattr, setxattr, symlinkat, utimensat,
};

use super::apply::Problem;
use super::entry::{Entry, Side, What};
use super::place::{Host, Place};
use super::removal::{self, Key, key};
use crate::image::pack::Xattr;
use crate::kernel::fs::{FileType, Metadata};

/// Makes files.
pub(super) struct Maker {
    /// Who we are.
    user: u32,
    /// Paths of files with several names that were made, by the guest's inode number.
    links: HashMap<u64, Vec<u8>>,
}

impl Maker {
    pub(super) fn new() -> Maker {
        Maker {
            user: nix::unistd::geteuid().as_raw(),
            links: HashMap::new(),
        }
    }

    /// Make what the guest has at a path of the host where nothing is; which file that is. A directory gets its attributes when all is in
    /// it ([`Maker::finish_new`]).
    pub(super) fn make(
        &mut self,
        host: &Host,
        entry: &Entry,
        after: &Side,
        path: &[u8],
    ) -> Result<Key, Problem> {
        let place = host.place(path)?;
        let made = self.make_at(host, entry, after, &place);
        if made.is_err()
            && let Ok(Some(left)) = place.stat()
        {
            // What hinders this is told already.
            let _ = removal::remove(&place, key(&left));
        }
        let made = made?;
        if after.meta.nlink > 1 && after.kind() != FileType::Directory {
            self.links.entry(after.meta.ino).or_insert_with(|| path.to_vec());
        }
        Ok(made)
    }

    fn make_at(&self, host: &Host, entry: &Entry, after: &Side, place: &Place<'_>) -> Result<Key, Problem> {
        let (at, name) = (&place.directory, place.name);
        if let Some(known) = self.links.get(&after.meta.ino) {
            let known = host.place(known)?;
            linkat(&known.directory, known.name, at, name, AtFlags::empty())?;
            return Ok(key(&place.stat()?.ok_or(Problem::Changed)?));
        }
        let private = Mode::from_raw_mode(0o600);
        let rdev = after.meta.rdev;
        match after.kind() {
            FileType::Regular => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = std::fs::File::from(openat(at, name, flags, private)?);
                copy(after, &file)?;
                let file = file.into();
                self.attributes(entry, after, &file, true)?;
                return Ok(key(&fstat(&file)?));
            }
            FileType::Symlink => symlinkat(after.link()?, at, name)?,
            FileType::Fifo => mknodat(at, name, HostType::Fifo, private, 0)?,
            FileType::CharDevice => mknodat(at, name, HostType::CharacterDevice, private, rdev)?,
            FileType::BlockDevice => mknodat(at, name, HostType::BlockDevice, private, rdev)?,
            FileType::Socket => return Err(Problem::Socket),
            FileType::Directory => mkdirat(at, name, Mode::from_raw_mode(0o700))?,
        }
        let file = self.ours(after, place)?;
        if after.kind() != FileType::Directory {
            self.attributes(entry, after, &file, true)?;
        }
        Ok(key(&fstat(&file)?))
    }

    /// What we have just made by its name, or what the owner of the directory has put there instead: that one must not get the guest's
    /// rights.
    fn ours(&self, after: &Side, place: &Place<'_>) -> Result<OwnedFd, Problem> {
        let file = place.open()?;
        let stat = fstat(&file)?;
        let own = stat.st_uid == self.user && FileType::from_mode(stat.st_mode) == Some(after.kind());
        let single = stat.st_nlink == 1 || after.kind() == FileType::Directory;
        if own && single {
            Ok(file)
        } else {
            Err(Problem::Changed)
        }
    }

    /// All attributes of a directory that we have made.
    pub(super) fn finish_new(&self, entry: &Entry, place: &Place<'_>) -> Result<(), Problem> {
        match &entry.after {
            Some(after) => self.attributes(entry, after, &self.ours(after, place)?, true),
            None => Ok(()),
        }
    }

    /// Owner, extended attributes, mode and time, in this order, as a change of owner takes from the others: of what is new all that
    /// differ from what a new file gets, else those that the guest has changed. By a descriptor, as names may lead elsewhere by now.
    pub(super) fn attributes(
        &self,
        entry: &Entry,
        after: &Side,
        file: &OwnedFd,
        new: bool,
    ) -> Result<(), Problem> {
        let meta = &after.meta;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let owner_changes = entry.what.contains(What::OWNER);
        if !self.is_privileged() && owner_changes {
            return Err(Problem::Owner(meta.uid, meta.gid));
        }
        // What is not its owner's is not to act for whoever it belongs to.
        let mut mask = 0o7777;
        if new && !self.own(entry, meta, file)? {
            mask = 0o1777;
        } else if owner_changes {
            chown(file, meta)?;
        }
        if new || owner_changes || entry.what.contains(What::XATTRS) {
            let before = entry.before.as_ref().filter(|_| !new);
            set_xattrs(before, after, &path)?;
        }
        if after.kind() != FileType::Symlink && (new || entry.what.intersects(What::MODE | What::OWNER)) {
            chmod(&path, Mode::from_raw_mode(meta.mode & mask))?;
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
            utimensat(CWD, &path, &times, AtFlags::empty())?;
        }
        Ok(())
    }

    fn is_privileged(&self) -> bool {
        self.user == 0
    }

    /// Give what we have made its owner and group; whether it has them. Without privilege a new file of the guest's is the caller's,
    /// but what takes the place of another file has to be that one's owner's.
    fn own(&self, entry: &Entry, meta: &Metadata, file: &OwnedFd) -> Result<bool, Problem> {
        match chown(file, meta) {
            Ok(()) => Ok(true),
            Err(problem) if self.is_privileged() => Err(problem),
            Err(_) if entry.before.is_some() && !entry.what.contains(What::KIND) => {
                Err(Problem::Owner(meta.uid, meta.gid))
            }
            Err(_) => Ok(false),
        }
    }
}

fn chown(file: &OwnedFd, meta: &Metadata) -> Result<(), Problem> {
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    Ok(chownat(file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
}

/// Have a file have the extended attributes that it has in the guest, instead of those that it had.
fn set_xattrs(before: Option<&Side>, after: &Side, path: &str) -> Result<(), Problem> {
    if !matches!(after.kind(), FileType::Regular | FileType::Directory) {
        return Ok(());
    }
    let wanted = after.xattrs()?;
    let old: Vec<Xattr> = before.map(Side::xattrs).transpose()?.unwrap_or_default();
    let is_wanted = |name: &[u8]| wanted.iter().any(|(wanted, _)| wanted == name);
    for (name, _) in old.iter().filter(|(name, _)| !is_wanted(name)) {
        removexattr(path, name.as_slice())?;
    }
    for (name, value) in &wanted {
        setxattr(path, name.as_slice(), value, XattrFlags::empty())?;
    }
    Ok(())
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
