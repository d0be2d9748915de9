//! Contents in a memfd that guest threads write by themselves.
//!
//! What they write is at once what everybody reads, maps and finds the size of, as it is the same memfd. What the kernel does for a
//! write beside that it does in advance or afterwards: space is set aside up to the bound that the descriptor has; the times are
//! made up from the host's whenever somebody looks ([`Node::note_written`]); and a file is not lent, or no longer, where a write
//! would have to do more (set-user-id bits, limits, append). Readers who have the file are ended, as the first read after a write has
//! to note the access time.
//!
//! A hostile process may keep the descriptor. That is as if it had not closed its own, but for what Linux does when it has none, or
//! at each write: nothing is executed while it is written, and set-user-id bits and capabilities go. So when the file gets those or is
//! executed while the host says that somebody has the descriptor, the memfd is *sealed* against all writing, and whoever is to write
//! it then gets a copy. Until nobody has it or the memfd is sealed, what may be written by it stays set aside; that is looked at
//! when space is short.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use rustix::fs::{SealFlags, Stat, fcntl_add_seals, fstat, ftruncate};
use rustix::io::{ReadWriteFlags, pread, pwritev2};

use super::Tree;
use super::data::{Data, fill, write_only};
use super::node::{Node, State};
use super::xattr;
use crate::kernel::fs::Ticket;
use crate::kernel::fs::hostfs::io::{errno, reopen_read_only};
use crate::kernel::stop::Errno;
use crate::kernel::time::Timestamp;
use crate::kernel::user_memory::CHUNK;
use crate::platform::{HostFile, PAGE_SIZE, WriteBound, is_open_for_reading_alone};

/// Mode bits that a write may have to clear.
pub(super) const SET_ID: u32 = libc::S_ISUID | libc::S_ISGID;

/// The extended attribute that a write has to remove.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

const NANOS_PER_SEC: i64 = 1_000_000_000;

/// How far the host's file times may be behind, in nanoseconds. They are those of its last tick, which virtual machines are late to
/// notice.
const LAG: i64 = 2 * NANOS_PER_SEC;

/// What there is to know of a file because guest threads may write it.
#[derive(Default)]
pub(super) struct Lending {
    /// While somebody may, or may have since somebody looked.
    current: Option<Current>,
    /// Bytes that are set aside for that, beyond what the file is charged for.
    reserved: u64,
    /// How far a process may write the memfd by a descriptor that it may still have, in bytes.
    kept: Option<u64>,
    /// It is in [`Tree::lent`].
    listed: bool,
    /// Nobody can write the memfd, except by mappings.
    sealed: bool,
    /// Some process may have mapped the memfd.
    mapped: bool,
}

struct Current {
    /// The host's time of the last change that the file's times tell of.
    seen: (i64, i64),
}

/// Bytes that are left to those who write at once, after others had space set aside.
const SPARE: u64 = 1 << 20;

fn changed_at(st: &Stat) -> (i64, i64) {
    (st.st_mtime, st.st_mtime_nsec.cast_signed())
}

impl Tree {
    /// Bytes that may still be used or set aside.
    pub(super) fn room(&self) -> u64 {
        self.free().saturating_sub(self.reserved.load(Ordering::Relaxed))
    }

    /// Replace what is set aside for a file.
    fn reserve(&self, reserved: &mut u64, now: u64) {
        if now == *reserved {
            return;
        }
        if now > *reserved {
            self.reserved.fetch_add(now - *reserved, Ordering::Relaxed);
        } else {
            self.reserved.fetch_sub(*reserved - now, Ordering::Relaxed);
        }
        *reserved = now;
    }

    /// Somebody is about to use so many bytes: if they are not there, have what is set aside back.
    pub(super) fn make_room(&self, bytes: u64) {
        let wanted = bytes.saturating_add(2 * PAGE_SIZE);
        if self.reserved.load(Ordering::Relaxed) == 0 || self.room() >= wanted {
            return;
        }
        let lent = std::mem::take(&mut *self.lent.lock());
        for node in lent.iter().filter_map(Weak::upgrade) {
            let mut state = node.state.lock();
            state.lending.listed = false;
            node.release(&mut state);
        }
    }

    /// Remember that something is set aside for a file.
    fn list(&self, lending: &mut Lending, node: &Weak<Node>) {
        if std::mem::replace(&mut lending.listed, true) {
            return;
        }
        let mut lent = self.lent.lock();
        if lent.len() == lent.capacity() {
            lent.retain(|node| node.strong_count() > 0);
        }
        lent.push(node.clone());
    }

    /// When a file was last changed whose host time says `at`, and which was known to have been changed `before`. The host's file
    /// times lag behind: who looks soon finds that it was just now, so that what was changed earlier has no later time.
    fn time_of(&self, (sec, nsec): (i64, i64), before: Timestamp) -> Timestamp {
        let now = self.options.clock.realtime_nanos();
        let ahead = self.options.clock.against_host().map_or(0, |(_, ahead)| ahead);
        let at = sec
            .saturating_mul(NANOS_PER_SEC)
            .saturating_add(nsec)
            .saturating_add(ahead);
        if now.saturating_sub(at) < LAG {
            return Timestamp::from_nanos(now);
        }
        Timestamp::from_nanos(at).max(before)
    }
}

impl Node {
    /// A descriptor by which a guest may write the memfd by itself, up to a bound, until the ticket ends.
    pub(super) fn lend_for_writing(&self, ticket: &Arc<Ticket>) -> Option<(Arc<HostFile>, WriteBound)> {
        if !matches!(
            xattr::get(self, CAPABILITY),
            Err(Errno::ENODATA | Errno::EOPNOTSUPP)
        ) {
            return None;
        }
        let mut state = self.state.lock();
        let has_caps = state
            .xattrs
            .as_ref()
            .is_some_and(|own| own.contains_key(CAPABILITY));
        let scarce = self.tree.memfds.load(Ordering::Relaxed) >= self.tree.memfd_limit / 2;
        let fits = match &state.data {
            Data::Memfd(_) => true,
            Data::Small(_) => !scarce && self.tree.disk.is_none(),
            _ => false,
        };
        if !fits || has_caps || state.mode & SET_ID != 0 {
            return None;
        }
        let file = self.to_memfd(&mut state).ok()?;
        let st = fstat(&file).ok()?;
        self.note_written(&mut state).ok()?;
        // While the state is locked: who has it from here on is seen by whoever asks whether somebody has.
        let writing = write_only(&file).ok()?;
        let bound = self.set_aside(&mut state, st.st_size.cast_unsigned())?;
        let seen = changed_at(&st);
        state.lending.current.get_or_insert(Current { seen });
        self.tree.list(&mut state.lending, &self.this);
        self.granted.revoke();
        self.writers.add(ticket);
        Some((writing, bound))
    }

    /// Set aside what a file of so many bytes may grow by: to twice the size at least, or a little where there is no more.
    fn set_aside(&self, state: &mut State, size: u64) -> Option<WriteBound> {
        let (charged, reserved) = (state.charged, state.lending.reserved);
        let room = self.tree.room().saturating_add(reserved).saturating_sub(SPARE);
        let affords = |bound: &&WriteBound| bound.end().saturating_sub(charged) <= room;
        let beyond = |size: u64| WriteBound::ALL.iter().find(|bound| bound.start() > size);
        let wanted = beyond(size.saturating_mul(2)).filter(affords);
        let bound = *wanted.or_else(|| beyond(size).filter(affords))?;
        state.lending.kept = state.lending.kept.max(Some(bound.end()));
        self.keep_aside(state, size);
        Some(bound)
    }

    /// Have as much set aside as may be written to the file of `size` bytes without the kernel: of one that goes on beyond that, all
    /// of what lies below may be holes.
    fn keep_aside(&self, state: &mut State, size: u64) {
        let wanted = match state.lending.kept {
            Some(end) if size > end => end,
            Some(end) => end.saturating_sub(state.charged),
            None => 0,
        };
        self.tree.reserve(&mut state.lending.reserved, wanted);
    }

    /// Have the times and the account tell of what guests have written by themselves so far.
    pub(super) fn note_written(&self, state: &mut State) -> Result<(), Errno> {
        let (Some(current), Data::Memfd(file)) = (&mut state.lending.current, &state.data) else {
            return Ok(());
        };
        let st = fstat(file).map_err(errno)?;
        let at = changed_at(&st);
        if std::mem::replace(&mut current.seen, at) != at {
            let now = self.tree.time_of(at, state.mtime);
            state.modified(now);
        }
        let used = st.st_blocks.cast_unsigned().saturating_mul(512);
        self.recharge(state, used, st.st_size.cast_unsigned());
        Ok(())
    }

    /// The file takes so many bytes now, and is that long.
    pub(super) fn recharge(&self, state: &mut State, used: u64, size: u64) {
        self.tree.recharge(&mut state.charged, used);
        self.keep_aside(state, size);
    }

    /// The kernel has written itself, and notes that itself.
    pub(super) fn note_own_write(&self, state: &mut State) -> Result<(), Errno> {
        if let (Some(current), Data::Memfd(file)) = (&mut state.lending.current, &state.data) {
            current.seen = changed_at(&fstat(file).map_err(errno)?);
        }
        self.note_written(state)
    }

    /// From now on nobody writes but by the kernel, unless he goes on against the rules.
    pub(super) fn recall(&self, state: &mut State) {
        self.writers.revoke();
        // Of a memfd there is nothing that could fail.
        let _ = self.note_written(state);
        state.lending.current = None;
    }

    /// Somebody needs the space. A mapped memfd is not sealed: a copy would not be what is mapped.
    fn release(&self, state: &mut State) {
        self.recall(state);
        if state.lending.kept.is_none() || self.is_given_back(state) {
            return;
        }
        if state.lending.mapped || !self.shut(state) {
            self.tree.list(&mut state.lending, &self.this);
        }
    }

    /// Whether nobody has a descriptor any more that writes the memfd; then nothing is set aside for it.
    fn is_given_back(&self, state: &mut State) -> bool {
        let Data::Memfd(file) = &state.data else {
            return true;
        };
        let file = file.clone();
        let back = reopen_read_only(file.as_fd()).is_ok_and(is_open_for_reading_alone);
        if back {
            self.unkeep(state, &file);
        }
        back
    }

    /// Nobody can write the memfd any more as he was let.
    fn unkeep(&self, state: &mut State, file: &HostFile) {
        state.lending.kept = None;
        // Of a memfd there is nothing that could fail.
        let _ = self.recharge_memfd(state, file);
    }

    /// Seal the memfd, if the host knows that seal.
    fn shut(&self, state: &mut State) -> bool {
        let Data::Memfd(file) = &state.data else {
            return true;
        };
        let file = file.clone();
        if fcntl_add_seals(&file, SealFlags::FUTURE_WRITE | SealFlags::GROW).is_err() {
            return false;
        }
        state.lending.sealed = true;
        self.unkeep(state, &file);
        true
    }

    /// A description is closed: unless somebody has another, nobody writes any more.
    pub(super) fn settle(&self) {
        let mut state = self.state.lock();
        if state.lending.current.is_some() && !self.writers.any_in_force() {
            self.recall(&mut state);
        }
    }

    /// Bytes that the kernel may use for this file up to `end`.
    pub(super) fn room(&self, state: &State, end: u64) -> u64 {
        let own = match state.lending.kept {
            Some(kept) if end <= kept => state.lending.reserved,
            _ => 0,
        };
        self.tree.room().saturating_add(own)
    }

    /// Whether somebody may write the memfd by himself, now or against the rules.
    pub(super) fn may_be_written(&self, state: &State) -> bool {
        state.lending.kept.is_some()
    }

    /// Append to the memfd, whoever writes it meanwhile. How much, and where that ends.
    pub(super) fn append(&self, file: &HostFile, bytes: &[u8]) -> Result<(usize, u64), Errno> {
        let bytes = [std::io::IoSlice::new(bytes)];
        let done = pwritev2(file, &bytes, 0, ReadWriteFlags::APPEND).map_err(errno)?;
        let end = fstat(file).map_err(errno)?.st_size.cast_unsigned();
        Ok((done, end))
    }

    /// From now on nobody writes the memfd, whatever he has kept.
    pub(super) fn seal(&self, state: &mut State) -> Result<(), Errno> {
        if state.lending.kept.is_none() {
            return Ok(());
        }
        self.recall(state);
        if !self.is_given_back(state) && !self.shut(state) {
            self.part(state)?;
        }
        Ok(())
    }

    /// A memfd that can be written, with these contents.
    pub(super) fn unsealed(&self, state: &mut State, file: Arc<HostFile>) -> Result<Arc<HostFile>, Errno> {
        if !state.lending.sealed {
            return Ok(file);
        }
        drop(file);
        self.part(state)
    }

    /// Go on with a copy of the memfd.
    fn part(&self, state: &mut State) -> Result<Arc<HostFile>, Errno> {
        let Data::Memfd(old) = &state.data else {
            return Err(Errno::EIO);
        };
        let old = old.clone();
        let new = self.new_file()?;
        let copied = copy(&old, &new);
        self.tree.memfds.fetch_sub(1, Ordering::Relaxed);
        copied?;
        self.granted.revoke();
        state.data = Data::Memfd(new.clone());
        if !state.lending.mapped && Arc::strong_count(&old) == 1 {
            // Nobody reads it just now, and who keeps it is to have nothing of it.
            let _ = ftruncate(&old, 0);
        }
        state.lending.kept = None;
        state.lending.sealed = false;
        state.lending.mapped = false;
        self.recharge_memfd(state, &new)?;
        Ok(new)
    }

    /// The memfd is going to be mapped.
    pub(super) fn note_mapped(&self, state: &mut State) {
        state.lending.mapped = true;
    }

    /// Whether the next writer gets a copy of a memfd that nobody has mapped yet.
    pub(super) fn awaits_copy(&self, state: &State) -> bool {
        state.lending.sealed && !state.lending.mapped
    }
}

impl Lending {
    /// The file is gone: so is what a process that keeps the memfd could have of it.
    pub(super) fn give_up(&mut self, tree: &Tree, data: &Data) {
        tree.reserve(&mut self.reserved, 0);
        let Data::Memfd(file) = data else { return };
        if self.kept.is_none() && !self.sealed {
            return;
        }
        // Where it fails that process has some memory more, as much as it could have by mmap(2).
        if !self.mapped {
            let _ = ftruncate(file, 0);
        }
        let _ = fcntl_add_seals(file, SealFlags::FUTURE_WRITE | SealFlags::GROW);
    }
}

/// Copy contents to an empty file.
fn copy(from: &HostFile, to: &HostFile) -> Result<(), Errno> {
    let size = fstat(from).map_err(errno)?.st_size.cast_unsigned();
    let mut buf = vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        at = match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => return Err(errno(e)),
        };
        let got = pread(from, &mut buf, at).map_err(errno)?;
        if got == 0 {
            break;
        }
        fill(to, &buf[..got], at)?;
        at += got as u64;
    }
    ftruncate(to, size).map_err(errno)
}
