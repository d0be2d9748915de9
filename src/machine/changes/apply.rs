//! Carrying changes out on the host, each file at once or not at all, and nothing lost.
//!
//! 1. All are compared with the host. What it changed since the guest began to look is left alone, and with it what is below.
//! 2. What is new is made under names of our own, a directory with all that is in it. A file of the guest may be one of the host by
//!    another name: nothing of the host is changed before all is made.
//! 3. Each takes its place by a rename.
//! 4. What the guest has removed goes, if all the rest came: it may be what that was made from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Stat, fstat};
use rustix::io::Errno;

use super::entry::{Entry, Side, What};
use super::make::Maker;
use super::place::{Host, Place, ctime, is_directory, is_later, mtime};
use super::removal::{self, Key, Limits, key};
use crate::kernel::fs::{FileType, Metadata};
use crate::kernel::time::Timestamp;

/// A change that was not carried out, or not as the guest has it.
pub struct Refused {
    /// The path on the host, fit to be shown.
    pub path: String,
    /// Why, and what has become of it.
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
    #[error("kept, as something else is not carried out")]
    Kept,
    #[error("a directory above it was not carried out")]
    Above,
    #[error("the root is not changed itself")]
    Root,
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

/// What is not to be changed.
pub(super) struct Spared<'a> {
    /// Paths of the host, with what is below them.
    pub(super) protected: &'a [PathBuf],
    /// Inode numbers of the host's files that the guest has under other names, which are not carried out.
    pub(super) wanted: HashSet<u64>,
}

/// Carry out `entries`, parents before children, on the directory `root`, which the guest has seen since `since`.
pub(super) fn apply(
    root: &Path,
    entries: &[&Entry],
    since: Timestamp,
    spared: Spared<'_>,
) -> Result<Vec<Refused>> {
    let mut work = Work {
        host: Host::open(root).with_context(|| format!("{}", root.display()))?,
        maker: Maker::new(),
        since,
        protected: spared.protected,
        wanted: spared.wanted,
        touched: HashSet::new(),
        complaints: Vec::new(),
    };
    let examine = |entry| Step {
        entry,
        problem: work.examine(entry).err(),
        made: None,
    };
    let mut steps: Vec<Step> = entries.iter().copied().map(examine).collect();
    from_what_changed(&mut steps);
    work.make(&mut steps);
    work.put(&mut steps);
    work.remove(&mut steps);
    let directories = steps
        .iter()
        .rev()
        .filter(|step| step.is_kept_directory() && !step.opens());
    for step in directories {
        // Last and from below: it may lose its right to be written.
        let done = work.set_attributes(step.entry);
        work.finish(step.entry, done);
    }
    let refused = steps
        .iter()
        .filter_map(|step| Some((step.entry, step.problem.as_ref()?)));
    let refused = refused.map(|(entry, problem)| tell(entry, &format!("{problem}; left as it is")));
    let mut all: Vec<Refused> = refused.chain(work.complaints).collect();
    all.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(all)
}

/// What the guest has moved is not what it was either, if the host has changed it where it came from.
fn from_what_changed(steps: &mut [Step<'_>]) {
    let changed = steps
        .iter()
        .filter(|step| matches!(step.problem, Some(Problem::Changed)));
    let changed: HashSet<u64> = changed
        .filter_map(|step| Some(step.entry.before.as_ref()?.meta.ino))
        .collect();
    for step in steps {
        let is_changed = step.entry.moved.is_some_and(|ino| changed.contains(&ino));
        if is_changed && step.problem.is_none() {
            step.problem = Some(Problem::Changed);
        }
    }
}

fn tell(entry: &Entry, reason: &str) -> Refused {
    Refused {
        path: super::quoted(&[b"/", entry.path.as_slice()].concat()),
        reason: reason.to_owned(),
    }
}

/// A change on its way.
struct Step<'a> {
    entry: &'a Entry,
    problem: Option<Problem>,
    made: Option<Made>,
}

/// Where what belongs at a path is for now.
enum Made {
    /// This file, at a path of our own.
    At(Vec<u8>, Key),
    /// In a directory that is at one.
    Inside,
}

impl Step<'_> {
    /// Whether something of the host goes for good.
    fn removes(&self) -> bool {
        let before = self.entry.before.as_ref();
        let was_directory = before.is_some_and(|before| before.kind() == FileType::Directory);
        self.entry.after.is_none() || self.entry.what.contains(What::KIND) && was_directory
    }

    /// Whether it is about a directory that stays and may get other attributes.
    fn is_kept_directory(&self) -> bool {
        let is_directory = self.entry.after.is_some() && self.entry.kind() == FileType::Directory;
        self.problem.is_none() && is_directory && !self.entry.is_new()
    }

    /// Whether it is a directory that its owner could not write to.
    fn opens(&self) -> bool {
        let mode = |side: &Option<Side>| side.as_ref().map_or(0, |side| side.meta.mode);
        let writable = |side| mode(side) & 0o200 != 0;
        self.is_kept_directory() && !writable(&self.entry.before) && writable(&self.entry.after)
    }

    /// Whether what the guest has here is refused.
    fn is_lost(&self) -> bool {
        let matters = !matches!(self.problem, None | Some(Problem::Socket | Problem::Root));
        matters && self.entry.after.is_some()
    }
}

struct Work<'a> {
    host: Host,
    maker: Maker,
    since: Timestamp,
    protected: &'a [PathBuf],
    wanted: HashSet<u64>,
    /// Files that we have changed under one of their names.
    touched: HashSet<Key>,
    /// What did not become all that it should.
    complaints: Vec<Refused>,
}

impl Work<'_> {
    /// Whether the host has changed what an entry is about since the guest looked at it.
    fn examine(&self, entry: &Entry) -> Result<(), Problem> {
        if entry.path.is_empty() {
            return Err(Problem::Root);
        }
        let goes = entry.after.is_none() || entry.what.contains(What::KIND);
        let path = super::absolute(entry);
        let is_kept = |top: &PathBuf| path.starts_with(top) || goes && top.starts_with(&path);
        if self.protected.iter().any(is_kept) {
            return Err(Problem::ReadOnly);
        }
        let Some(before) = &entry.before else {
            return Ok(());
        };
        let place = self.host.place(&entry.path)?;
        let now = place.stat()?.ok_or(Problem::Changed)?;
        self.compare(&now, &before.meta)?;
        if goes || !is_directory(&now) {
            let ctime = ctime(&now);
            if ctime != before.meta.ctime || is_later(ctime, self.since) {
                return Err(Problem::Changed);
            }
        }
        if goes && self.wanted.contains(&before.meta.ino) {
            return Err(Problem::Kept);
        }
        if goes && is_directory(&now) {
            removal::check(&place, Some(&before.inode), &self.limits())?;
        }
        Ok(())
    }

    fn limits(&self) -> Limits<'_> {
        Limits {
            since: self.since,
            touched: &self.touched,
            wanted: &self.wanted,
        }
    }

    /// Whether a file is what it was: the same kind of file, mode, owner, size and times. A directory, in which something was carried out
    /// perhaps, is told by its mode and owner, and what we have changed ourselves is not told.
    fn compare(&self, now: &Stat, before: &Metadata) -> Result<(), Problem> {
        let same_rights = (now.st_mode, now.st_uid, now.st_gid) == (before.mode, before.uid, before.gid);
        let same_size = now.st_size.cast_unsigned() == before.size;
        let same_times = mtime(now) == before.mtime && ctime(now) == before.ctime;
        let same_contents = is_directory(now) || same_size && same_times;
        if self.touched.contains(&key(now)) || same_rights && same_contents {
            Ok(())
        } else {
            Err(Problem::Changed)
        }
    }

    /// Note that we have changed a file, which its other names will show.
    fn touch(&mut self, now: Option<&Stat>) {
        self.touched.extend(now.filter(|now| now.st_nlink > 1).map(key));
    }

    /// What is at an entry's place, if it is what the guest saw there.
    fn look(&self, entry: &Entry, place: &Place<'_>) -> Result<Option<Stat>, Problem> {
        let now = place.stat()?;
        match (&entry.before, &now) {
            (None, Some(_)) => Err(Problem::Taken),
            (Some(_), None) => Err(Problem::Changed),
            (Some(before), Some(stat)) => self.compare(stat, &before.meta).map(|()| now),
            (None, None) => Ok(now),
        }
    }

    /// Make all that is new.
    fn make(&mut self, steps: &mut [Step<'_>]) {
        for step in steps.iter_mut().filter(|step| step.opens()) {
            // The guest has written to it then.
            step.problem = self.set_attributes(step.entry).err();
        }
        let mut blocked = Blocked::default();
        // The last directory that was made, and where. What is in it comes next.
        let mut inside: Option<(&[u8], Vec<u8>)> = None;
        for step in steps.iter_mut() {
            let entry = step.entry;
            if blocked.has(entry) {
                step.problem = Some(Problem::Above);
            }
            if let (None, Some(after)) = (&step.problem, &entry.after)
                && (entry.is_new() || entry.what.contains(What::CONTENTS))
            {
                let around = inside.as_ref().filter(|(above, _)| is_below(&entry.path, above));
                let (path, is_inside) = match around {
                    Some((above, ours)) => ([ours, &entry.path[above.len()..]].concat(), true),
                    None => (self.host.own_path(&entry.path), false),
                };
                match self.maker.make(&self.host, entry, after, &path) {
                    Ok(_) if is_inside => step.made = Some(Made::Inside),
                    Ok(key) => {
                        if after.kind() == FileType::Directory {
                            inside = Some((&entry.path, path.clone()));
                        }
                        step.made = Some(Made::At(path, key));
                    }
                    Err(problem) => step.problem = Some(problem),
                }
            }
            blocked.note(step);
        }
        self.finish_made(steps);
    }

    /// Attributes of directories that were made, now that all is in them, from below.
    fn finish_made(&mut self, steps: &[Step<'_>]) {
        let mut tops: Vec<(&[u8], &[u8])> = Vec::new();
        for step in steps {
            if let Some(Made::At(ours, _)) = &step.made {
                tops.push((&step.entry.path, ours));
            }
        }
        let new = |step: &&Step| step.made.is_some() && step.entry.kind() == FileType::Directory;
        for step in steps.iter().rev().filter(new) {
            let entry = step.entry;
            while tops.last().is_some_and(|(top, _)| !is_below(&entry.path, top)) {
                tops.pop();
            }
            let Some((top, ours)) = tops.last() else { return };
            let path = [ours, &entry.path[top.len()..]].concat();
            let place = self.host.place(&path);
            let done = place.and_then(|place| self.maker.finish_new(entry, &place));
            self.finish(entry, done);
        }
    }

    /// Tell of a directory whose attributes could not be set.
    fn finish(&mut self, entry: &Entry, done: Result<(), Problem>) {
        if let Err(problem) = done {
            let reason = format!("not all its attributes could be set: {problem}");
            self.complaints.push(tell(entry, &reason));
        }
    }

    /// Put what was made in its place, and set attributes of files that stay.
    fn put(&mut self, steps: &mut [Step<'_>]) {
        let lost = steps.iter().filter(|step| step.is_lost());
        self.wanted.extend(lost.filter_map(|step| step.entry.moved));
        let mut blocked = Blocked::default();
        for step in steps.iter_mut().filter(|step| !step.removes()) {
            if blocked.has(step.entry) && step.problem.is_none() {
                step.problem = Some(Problem::Above);
            }
            if step.problem.is_none() {
                let done = match &step.made {
                    Some(Made::At(ours, key)) => self.put_one(step.entry, ours, *key),
                    Some(Made::Inside) => Ok(()),
                    None if step.is_kept_directory() => Ok(()),
                    None => self.set_attributes(step.entry),
                };
                step.problem = done.err();
            }
            if step.is_lost() {
                self.wanted.extend(step.entry.moved);
            }
            blocked.note(step);
        }
    }

    fn put_one(&mut self, entry: &Entry, ours: &[u8], made: Key) -> Result<(), Problem> {
        let ours = self.host.place(ours)?;
        let mut left = made;
        let done = self.host.place(&entry.path).and_then(|place| {
            let now = self.look(entry, &place)?;
            if ours.stat()?.as_ref().map(key) != Some(made) {
                return Err(Problem::Changed);
            }
            match &entry.before {
                None => ours.rename(&place),
                Some(before) if self.wanted.contains(&before.meta.ino) => Err(Problem::Kept),
                Some(_) => {
                    ours.exchange(&place)?;
                    if ours
                        .stat()?
                        .is_some_and(|old| now.is_none_or(|now| was_written(&now, &old)))
                    {
                        ours.exchange(&place)?;
                        return Err(Problem::Changed);
                    }
                    self.touch(now.as_ref());
                    left = now.as_ref().map_or(made, key);
                    Ok(())
                }
            }
        });
        // What is left under our name is what was there before, or what came to nothing.
        let gone = match ours.stat() {
            Ok(Some(_)) => removal::remove(&ours, left).map(drop),
            nothing => nothing.map(drop),
        };
        done.and(gone)
    }

    fn set_attributes(&mut self, entry: &Entry) -> Result<(), Problem> {
        let (Some(before), Some(after)) = (&entry.before, &entry.after) else {
            return Ok(());
        };
        let file = self.host.place(&entry.path)?.open()?;
        let now = fstat(&file)?;
        self.compare(&now, &before.meta)?;
        self.touch(Some(&now));
        self.maker.attributes(entry, after, &file, false)
    }

    /// Remove what the guest has removed, unless something did not come that may have been made from it.
    fn remove(&mut self, steps: &mut [Step<'_>]) {
        let complete = !steps.iter().any(Step::is_lost);
        for step in steps.iter_mut().filter(|step| step.removes()) {
            let ours = match step.made.take() {
                Some(Made::At(ours, key)) => Some((ours, key)),
                _ => None,
            };
            if step.problem.is_none() && !complete {
                step.problem = Some(Problem::Kept);
            }
            if step.problem.is_some() {
                if let Some((ours, key)) = ours {
                    self.discard(&ours, key);
                }
                continue;
            }
            let done = match ours {
                Some((ours, key)) => self.replace_directory(step.entry, &ours, key),
                None => self.remove_one(step.entry),
            };
            step.problem = done.err();
        }
    }

    /// Remove what came to nothing.
    fn discard(&self, ours: &[u8], made: Key) {
        if let Ok(place) = self.host.place(ours) {
            // That its change was not carried out is told.
            let _ = removal::remove(&place, made);
        }
    }

    fn remove_one(&mut self, entry: &Entry) -> Result<(), Problem> {
        let place = self.host.place(&entry.path)?;
        let now = self.look(entry, &place)?.ok_or(Problem::Changed)?;
        if !is_directory(&now) {
            place.unlink()?;
            self.touch(Some(&now));
            return Ok(());
        }
        // Under another name nobody finds it and puts something in.
        let ours = self.host.own_path(&entry.path);
        let ours = self.host.place(&ours)?;
        place.rename(&ours)?;
        let gone =
            removal::check(&ours, None, &self.limits()).and_then(|()| removal::remove(&ours, key(&now)));
        match gone {
            Ok(linked) => self.touched.extend(linked),
            Err(problem) => {
                ours.rename(&place)?;
                return Err(problem);
            }
        }
        Ok(())
    }

    /// Put what was made in the place of a directory.
    fn replace_directory(&mut self, entry: &Entry, ours: &[u8], made: Key) -> Result<(), Problem> {
        let place = self.host.place(&entry.path)?;
        let at = self.host.place(ours)?;
        let put = self.look(entry, &place).and_then(|now| {
            at.exchange(&place)?;
            now.ok_or(Problem::Changed)
        });
        let old = match put {
            Ok(old) => key(&old),
            Err(problem) => {
                self.discard(ours, made);
                return Err(problem);
            }
        };
        if let Err(problem) = removal::check(&at, None, &self.limits()) {
            at.exchange(&place)?;
            self.discard(ours, made);
            return Err(problem);
        }
        match removal::remove(&at, old) {
            Ok(linked) => self.touched.extend(linked),
            Err(problem) => {
                let left = super::quoted(&[b"/", ours].concat());
                let reason =
                    format!("what was there could not all be removed: {problem}; the rest is {left}");
                self.complaints.push(tell(entry, &reason));
            }
        }
        Ok(())
    }
}

/// Whether what was `now` in its place has become another file, or its contents other ones.
fn was_written(now: &Stat, old: &Stat) -> bool {
    let tell = |stat: &Stat| (key(stat), stat.st_size, mtime(stat));
    tell(now) != tell(old)
}

/// Directories that are not carried out, and so nothing below them.
#[derive(Default)]
struct Blocked<'a> {
    paths: Vec<&'a [u8]>,
}

impl<'a> Blocked<'a> {
    fn has(&self, entry: &Entry) -> bool {
        self.paths.iter().any(|above| is_below(&entry.path, above))
    }

    fn note(&mut self, step: &Step<'a>) {
        let matters = !matches!(step.problem, None | Some(Problem::Above | Problem::Root));
        if matters && step.entry.kind() == FileType::Directory {
            self.paths.push(&step.entry.path);
        }
    }
}

/// Whether a path is this one or below it.
fn is_below(path: &[u8], above: &[u8]) -> bool {
    let rest = path.strip_prefix(above);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
