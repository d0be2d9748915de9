//! Upper layers on disk: an overlay whose changes outlive uvm.
//!
//! Contents are host files in `data`, one for each file that has any, named by the file's number and written in place, so the host's
//! page cache is the only one. All else (names, owners, modes, times, extended attributes, whiteouts) is kept in memory as for
//! any tree, and told to a [`Journal`]: before a call returns that changed a name or an attribute, the new state of
//! what it changed is in the journal as one frame. docs/upper-layer.md describes the files.
//!
//! # What survives
//! All of it a kill of uvm at any moment, except the times of writes to files that are still open. When the host itself goes
//! down, what was synced: fsync(2) waits for the data file, for the directory of data files, and for the journal, in
//! this order. Data files that nothing refers to any more are removed when the journal that says so is on the disk.
//!
//! # Locks
//! What changes names holds [`Tree::operation`] meanwhile, so that a frame never has half of it; [`Tree::commit`]
//! takes the log, and then that.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType as HostType, FlockOperation, Mode, OFlags, flock, fstatvfs, fsync, mkdirat,
    openat, renameat, statat, unlinkat,
};
use rustix::io::Errno as HostErrno;

use super::data::Data;
use super::node::Node;
use super::{Tree, directory};
use crate::kernel::fs::hostfs::io::errno;
use crate::kernel::stop::Errno;
use crate::kernel::sync::{Lock, LockGuard, Rank};
use crate::kernel::time::Timestamp;
use crate::platform::HostFile;
use journal::{FRAME_MAX, Journal};
use record::{Header, Record};

mod journal;
mod load;
mod record;
mod sync;
mod told;

pub(super) use told::Kept;

/// Name of the journal.
const JOURNAL: &str = "journal";
/// Name of the journal that replaces it when it is whole.
const JOURNAL_NEW: &str = "journal.new";
/// Name of the file that is locked.
const LOCK: &str = "lock";
/// Name of the directory of data files.
const DATA: &str = "data";

/// A journal shorter than this is not written anew, in bytes.
const COMPACT_MIN: u64 = 16 << 20;
/// Nor is one that has not grown by this factor since.
const COMPACT_FACTOR: u64 = 4;

/// Most data files that wait to be removed.
const GONE_MAX: usize = 256;
/// The same in bytes.
const GONE_BYTES_MAX: u64 = 64 << 20;

/// Where an upper is, and what it is to lie upon.
pub struct UpperOptions {
    /// The directory; made if it is missing.
    pub dir: PathBuf,
    /// What the lower tree is: an upper is opened with the same only.
    pub lower: String,
    /// When a guest began to look at the lower tree, for a new upper.
    pub since: Timestamp,
}

/// Why an upper cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum UpperError {
    /// The host says no.
    #[error(transparent)]
    Host(#[from] io::Error),
    /// It is locked.
    #[error("another guest is using it")]
    Busy,
    /// There are other files.
    #[error("it is no upper layer, and not empty")]
    Foreign,
    /// It begins with something else.
    #[error("its journal is not one that this version of uvm reads")]
    Unknown,
    /// What was on the disk is not what was written.
    #[error("its journal is damaged at byte {0}")]
    Damaged(u64),
    /// Whole frames say what cannot be.
    #[error("its journal contradicts itself: {0}")]
    Nonsense(String),
    /// It belongs to another lower tree.
    #[error("it lies upon {0}, not upon {1}")]
    OtherLower(String, String),
    /// The lower tree has lost what was changed.
    #[error("it changes /{0}, which is no longer there in what it lies upon")]
    Lost(String),
    /// More than the limits of the file system allow.
    #[error("it holds more files than a guest may have")]
    TooMany,
}

impl From<HostErrno> for UpperError {
    fn from(errno: HostErrno) -> UpperError {
        UpperError::Host(errno.into())
    }
}

impl From<Errno> for UpperError {
    fn from(errno: Errno) -> UpperError {
        UpperError::Host(errno.into())
    }
}

/// An upper on disk.
pub(super) struct Disk {
    dir: OwnedFd,
    data: OwnedFd,
    /// Locked as long as this exists.
    _lock: OwnedFd,
    header: Header,
    log: Lock<Log>,
    /// See [`Tree::operation`].
    operations: Lock<()>,
    pending: Lock<Pending>,
    /// The errno of a journal that could not be written, else 0.
    failed: AtomicI32,
    /// Whether there are data files whose names may not be on the disk.
    fresh: AtomicBool,
}

struct Log {
    journal: Journal,
    /// How long it was when it was written anew.
    compacted: u64,
    /// How many times that was.
    generation: u64,
}

/// What the journal does not say yet.
#[derive(Default)]
struct Pending {
    /// Nodes whose records have to be told again; each once.
    dirty: Vec<Arc<Node>>,
    /// Records about names.
    names: Vec<u8>,
    /// Data files to be removed, and how much they hold.
    gone: Vec<u64>,
    gone_bytes: u64,
}

impl Disk {
    /// Open the directory of an upper, which is made if it is missing, and tell what its journal says.
    fn open(
        options: &UpperOptions,
        tell: &mut dyn FnMut(Record) -> Result<(), UpperError>,
    ) -> Result<Disk, UpperError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match mkdirat(CWD, &options.dir, Mode::from_raw_mode(0o700)) {
            Err(HostErrno::EXIST) => {}
            made => made?,
        }
        let dir = openat(CWD, &options.dir, flags, Mode::empty())?;
        check_names(&dir)?;
        let lock = open_file(&dir, LOCK, OFlags::CREATE | OFlags::RDWR)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(HostErrno::WOULDBLOCK) => return Err(UpperError::Busy),
            locked => locked?,
        }
        match mkdirat(&dir, DATA, Mode::from_raw_mode(0o700)) {
            Err(HostErrno::EXIST) => {}
            made => made?,
        }
        let data = openat(&dir, DATA, flags | OFlags::NOFOLLOW, Mode::empty())?;
        let wanted = Header {
            lower: options.lower.clone().into_bytes(),
            since: options.since,
        };
        let (journal, header) = match open_file(&dir, JOURNAL, OFlags::RDWR) {
            Err(HostErrno::NOENT) => (write_journal(&dir, &wanted, std::iter::empty())?, wanted),
            opened => read_journal(opened?.into(), &wanted, tell)?,
        };
        Ok(Disk {
            dir,
            data,
            _lock: lock,
            header,
            log: Lock::new(
                Rank::Journal,
                Log {
                    compacted: journal.len(),
                    journal,
                    generation: 0,
                },
            ),
            operations: Lock::new(Rank::Operation, ()),
            pending: Lock::new(Rank::Leaf, Pending::default()),
            failed: AtomicI32::new(0),
            fresh: AtomicBool::new(true),
        })
    }

    /// Remove the data files that nothing refers to: those of files that were open when the last guest ended.
    fn sweep(&self, wanted: &dyn Fn(u64) -> bool) -> Result<(), UpperError> {
        for entry in Dir::read_from(&self.data)? {
            let entry = entry?;
            if number_of(entry.file_name().to_bytes()).is_some_and(|number| !wanted(number)) {
                unlinkat(&self.data, entry.file_name(), AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Size in bytes and 512-byte blocks of a data file. One that is missing, as after the host went down, is empty.
    pub(super) fn extent(&self, id: u64) -> Result<(u64, u64), Errno> {
        match statat(&self.data, id.to_string(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(HostErrno::NOENT) => Ok((0, 0)),
            Err(e) => Err(errno(e)),
            Ok(st) if is_plain(&st) => Ok((st.st_size.cast_unsigned(), st.st_blocks.cast_unsigned())),
            Ok(_) => Err(Errno::EIO),
        }
    }

    /// Bytes that the host's file system has, and that are free.
    pub(super) fn space(&self) -> Result<(u64, u64), Errno> {
        let st = fstatvfs(&self.dir).map_err(errno)?;
        let bytes = |blocks: u64| blocks.saturating_mul(st.f_frsize);
        Ok((bytes(st.f_blocks), bytes(st.f_bavail)))
    }

    /// Open the data file of a number.
    pub(super) fn file(&self, id: u64) -> Result<Arc<HostFile>, Errno> {
        match open_file(&self.data, &id.to_string(), OFlags::RDWR) {
            Err(HostErrno::NOENT) => self.create(id),
            Err(e) => Err(descriptors(e)),
            Ok(fd) => HostFile::new(fd),
        }
    }

    /// Make an empty data file, instead of any that there is.
    pub(super) fn create(&self, id: u64) -> Result<Arc<HostFile>, Errno> {
        let make = || {
            open_file(
                &self.data,
                &id.to_string(),
                OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            )
        };
        let made = match make() {
            // Somebody may still be copying to that one.
            Err(HostErrno::EXIST) => {
                unlinkat(&self.data, id.to_string(), AtFlags::empty()).map_err(errno)?;
                make()
            }
            made => made,
        };
        self.fresh.store(true, Ordering::Release);
        HostFile::new(made.map_err(descriptors)?)
    }

    /// A file is gone: its data file is to be removed when the journal that says so is on the disk.
    pub(super) fn condemn(&self, id: u64, bytes: u64) {
        let mut pending = self.pending.lock();
        pending.gone.push(id);
        pending.gone_bytes += bytes;
    }
}

/// EMFILE is the guest's own limit; ours is the system's to it.
fn descriptors(e: HostErrno) -> Errno {
    match errno(e) {
        Errno::EMFILE => Errno::ENFILE,
        e => e,
    }
}

/// The number of the file that a data file of this name belongs to; none if uvm gives no such names.
fn number_of(name: &[u8]) -> Option<u64> {
    let number: u64 = std::str::from_utf8(name).ok()?.parse().ok()?;
    (number > record::ROOT && number.to_string().as_bytes() == name).then_some(number)
}

/// A regular file that has no other name.
fn is_plain(st: &rustix::fs::Stat) -> bool {
    HostType::from_raw_mode(st.st_mode) == HostType::RegularFile && st.st_nlink == 1
}

/// Open a regular file of an upper, whatever somebody put in its place.
fn open_file(dir: impl AsFd, name: &str, flags: OFlags) -> Result<OwnedFd, HostErrno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let fd = openat(dir, name, flags, Mode::from_raw_mode(0o600))?;
    match is_plain(&rustix::fs::fstat(&fd)?) {
        true => Ok(fd),
        false => Err(HostErrno::IO),
    }
}

/// A directory with a journal is an upper; one without is about to become one, and has nothing else in it, data neither.
fn check_names(dir: &OwnedFd) -> Result<(), UpperError> {
    let mut foreign = false;
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"journal" => return Ok(()),
            b"." | b".." | b"journal.new" | b"lock" => {}
            b"data" => foreign |= !is_empty_directory(dir, DATA)?,
            _ => foreign = true,
        }
    }
    if foreign { Err(UpperError::Foreign) } else { Ok(()) }
}

fn is_empty_directory(dir: &OwnedFd, name: &str) -> Result<bool, HostErrno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = match openat(dir, name, flags, Mode::empty()) {
        Err(HostErrno::NOTDIR | HostErrno::LOOP) => return Ok(false),
        opened => opened?,
    };
    for entry in Dir::read_from(&opened)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Write a whole journal, and put it in the place of any that there is.
fn write_journal(
    dir: &OwnedFd,
    header: &Header,
    records: impl Iterator<Item = Record>,
) -> Result<Journal, UpperError> {
    let file = open_file(dir, JOURNAL_NEW, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)?;
    let mut journal = Journal::create(File::from(file))?;
    let header = Record::Header(header.clone());
    journal.append_all(std::iter::once(header).chain(records))?;
    let file = journal.file()?;
    file.sync_all()?;
    renameat(dir, JOURNAL_NEW, dir, JOURNAL)?;
    fsync(dir)?;
    journal.note_synced(journal.len());
    Ok(journal)
}

/// Read a journal, whose header must say what is wanted.
fn read_journal(
    file: File,
    wanted: &Header,
    tell: &mut dyn FnMut(Record) -> Result<(), UpperError>,
) -> Result<(Journal, Header), UpperError> {
    let mut header = None;
    let journal = Journal::open(file, &mut |record| match (record, &header) {
        (Record::Header(_), Some(_)) => Err(UpperError::Nonsense("two headers".into())),
        (Record::Header(found), None) if found.lower != wanted.lower => Err(UpperError::OtherLower(
            String::from_utf8_lossy(&found.lower).escape_debug().to_string(),
            String::from_utf8_lossy(&wanted.lower).into_owned(),
        )),
        (Record::Header(found), None) => {
            header = Some(found);
            Ok(())
        }
        (_, None) => Err(UpperError::Nonsense("no header".into())),
        (record, Some(_)) => tell(record),
    })?;
    let header = header.ok_or(UpperError::Damaged(0))?;
    Ok((journal, header))
}

/// What was taken from [`Pending`] to be told.
struct Untold {
    /// Records; the last frame has all names.
    frames: Vec<Vec<u8>>,
    /// Nodes, and whether the journal had been told of them before.
    nodes: Vec<(Arc<Node>, bool)>,
    names: Vec<u8>,
}

impl Untold {
    /// The journal was not told: have it be told the next time, of each node once.
    fn put_back(&self, disk: &Disk) {
        for (node, told) in &self.nodes {
            let mut state = node.state.lock();
            state.told |= told;
            node.mark(&mut state);
        }
        let mut pending = disk.pending.lock();
        pending.names.splice(..0, self.names.iter().copied());
    }
}

/// Names that change on disk as one.
pub(super) type Operation<'a> = Option<LockGuard<'a, ()>>;

impl Tree {
    /// Begin to change names. What the disk said when it would not take the last change.
    pub(super) fn operation(&self) -> Result<Operation<'_>, Errno> {
        let Some(disk) = &self.disk else { return Ok(None) };
        self.ready()?;
        Ok(Some(disk.operations.lock()))
    }

    /// Whether changes can be told to the disk: what it said when it would not take the last one, which is tried again.
    pub(super) fn ready(&self) -> Result<(), Errno> {
        match &self.disk {
            Some(disk) if disk.failed.load(Ordering::Acquire) != 0 => self.commit(),
            _ => Ok(()),
        }
    }

    /// Tell the journal all that was changed.
    pub(super) fn commit(&self) -> Result<(), Errno> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let failed = disk.failed.load(Ordering::Acquire) != 0;
        if !failed && disk.is_told() {
            return Ok(());
        }
        let (written, untold) = {
            let mut log = disk.log.lock();
            let untold = self.collect(disk);
            let written = untold
                .frames
                .iter()
                .try_for_each(|frame| log.journal.append(frame));
            match written {
                Ok(()) => self.compact(disk, &mut log),
                Err(_) => untold.put_back(disk),
            }
            (written, untold)
        };
        // The last use of a node may free much, and condemn its data file.
        drop(untold);
        let failure = written
            .err()
            .map(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)));
        disk.failed
            .store(failure.map_or(0, |errno| errno as i32), Ordering::Release);
        if let Some(errno) = failure {
            return Err(errno);
        }
        let many = {
            let pending = disk.pending.lock();
            pending.gone.len() > GONE_MAX || pending.gone_bytes > GONE_BYTES_MAX
        };
        if many { disk.sync() } else { Ok(()) }
    }

    /// Take all that was changed.
    fn collect(&self, disk: &Disk) -> Untold {
        let _operations = disk.operations.lock();
        let (dirty, names) = {
            let mut pending = disk.pending.lock();
            (
                std::mem::take(&mut pending.dirty),
                std::mem::take(&mut pending.names),
            )
        };
        let mut frames = Vec::new();
        let mut records = Vec::new();
        let mut gone = Vec::new();
        let mut nodes = Vec::with_capacity(dirty.len());
        for node in dirty {
            let mut state = node.state.lock();
            let told = state.told;
            state.dirty = false;
            state.told_data = matches!(state.data, Data::Stored(_));
            if state.nlink > 0 {
                state.told = true;
                Record::Node(Box::new(node.record(&state))).encode(&mut records);
            } else if told {
                state.told = false;
                Record::Forget(node.id()).encode(&mut gone);
            }
            drop(state);
            nodes.push((node, told));
            // Files may be told before their names are.
            if records.len() + names.len() + gone.len() > FRAME_MAX / 2 {
                frames.push(std::mem::take(&mut records));
            }
        }
        records.extend_from_slice(&names);
        records.extend_from_slice(&gone);
        frames.push(records);
        Untold { frames, nodes, names }
    }

    /// Write the journal anew if it has become long for what it says. Nothing has to be told to it.
    fn compact(&self, disk: &Disk, log: &mut Log) {
        if log.journal.len() < COMPACT_MIN.max(log.compacted.saturating_mul(COMPACT_FACTOR)) {
            return;
        }
        let records = {
            let _operations = disk.operations.lock();
            self.snapshot()
        };
        match write_journal(&disk.dir, &disk.header, records.into_iter()) {
            Ok(journal) => {
                log.compacted = journal.len();
                log.journal = journal;
                log.generation += 1;
            }
            // The old one is as good; the next try is when it has grown again.
            Err(_) => log.compacted = log.journal.len(),
        }
    }

    /// Records of all there is.
    fn snapshot(&self) -> Vec<Record> {
        let mut left: Vec<Arc<Node>> = {
            let known = self.known.lock();
            known.values().filter_map(|known| known.changed.clone()).collect()
        };
        let mut seen = std::collections::HashSet::new();
        let mut nodes = Vec::new();
        let mut names = Vec::new();
        while let Some(node) = left.pop() {
            if !seen.insert(node.id()) {
                continue;
            }
            let state = node.state.lock();
            if state.nlink == 0 {
                continue;
            }
            nodes.push(Record::Node(Box::new(node.record(&state))));
            drop(state);
            for (name, child) in directory::own_names(&node).unwrap_or_default() {
                names.push(Record::Name {
                    directory: node.id(),
                    name: (*name).into(),
                    node: child.as_ref().map(|child| child.id()),
                });
                left.extend(child);
            }
        }
        nodes.extend(names);
        nodes
    }
}

impl Disk {
    fn is_told(&self) -> bool {
        let pending = self.pending.lock();
        pending.dirty.is_empty() && pending.names.is_empty()
    }

    /// When a guest first began to look at the lower tree.
    pub(super) fn since(&self) -> Timestamp {
        self.header.since
    }
}

#[cfg(test)]
pub(super) mod tests;
