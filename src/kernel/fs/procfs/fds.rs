//! /proc/PID/fd and fdinfo, and the links to executable, root and working directory.

use std::sync::Arc;

use super::super::pseudo::{Entry, PseudoDir, PseudoLink};
use super::super::{Fd, File, FileType, Link, Path};
use super::{Found, Subject};
use crate::kernel::stop::Errno;
use crate::kernel::task::Task;

/// fd/ or fdinfo/.
pub(super) struct Dir {
    pub(super) subject: Subject,
    pub(super) info: bool,
}

fn file_of(found: &Found, fd: Fd) -> Result<Arc<File>, Errno> {
    found.task()?.files().get_any(fd).map_err(|_| Errno::ENOENT)
}

impl PseudoDir for Dir {
    fn list(&self) -> Vec<(String, FileType)> {
        let kind = if self.info {
            FileType::Regular
        } else {
            FileType::Symlink
        };
        let files = self
            .subject
            .find()
            .and_then(|f| Ok(f.task()?.files().list()))
            .unwrap_or_default();
        files
            .into_iter()
            .map(|(fd, _)| (fd.0.to_string(), kind))
            .collect()
    }

    fn find(&self, name: &str) -> Option<Entry> {
        let number: i32 = name.parse().ok().filter(|n: &i32| n.to_string() == name)?;
        let found = self.subject.find().ok()?;
        let file = file_of(&found, Fd(number)).ok()?;
        let owner = self.subject.owner();
        if self.info {
            let subject = self.subject.clone();
            let text = move || {
                subject
                    .find()
                    .and_then(|f| info(&f, Fd(number)))
                    .unwrap_or_default()
            };
            return Some(Entry::text(text).mode(0o400).owned(owner));
        }
        let flags = file.flags();
        let mode =
            0o100 | if flags.readable() { 0o400 } else { 0 } | if flags.writable() { 0o200 } else { 0 };
        Some(
            Entry::link(FdLink {
                subject: self.subject.clone(),
                fd: Fd(number),
            })
            .mode(mode)
            .owned(owner),
        )
    }
}

fn info(found: &Found, fd: Fd) -> Result<String, Errno> {
    let files = found.task()?.files();
    let file = files.get_any(fd)?;
    let cloexec = if files.close_on_exec(fd)? {
        libc::O_CLOEXEC.cast_unsigned()
    } else {
        0
    };
    let pos = if file.ops.stays_at_0() { 0 } else { file.pos.get() };
    let mount = file.path.as_ref().map_or(0, |p| p.mount.id);
    let ino = file.inode.metadata().map_or(0, |m| m.ino);
    let flags = file.flags().bits() | cloexec;
    Ok(format!(
        "pos:\t{pos}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{ino}\n{}",
        file.ops.fdinfo(&file)
    ))
}

struct FdLink {
    subject: Subject,
    fd: Fd,
}

impl PseudoLink for FdLink {
    fn target(&self, _: Option<&Task>) -> Result<Link, Errno> {
        let found = self.subject.find()?;
        found.check_inspect()?;
        let file = file_of(&found, self.fd)?;
        Ok(Link::Jump(
            file.path
                .clone()
                .unwrap_or_else(|| found.kernel.vfs.anon.path_of(&file)),
        ))
    }
}

/// exe, root or cwd.
pub(super) struct PlaceLink {
    pub(super) subject: Subject,
    pub(super) place: fn(&Task) -> Option<Path>,
}

impl PseudoLink for PlaceLink {
    fn target(&self, _: Option<&Task>) -> Result<Link, Errno> {
        let found = self.subject.find()?;
        found.check_inspect()?;
        (self.place)(found.task()?).map(Link::Jump).ok_or(Errno::ENOENT)
    }
}
