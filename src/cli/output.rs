//! Files that are written for the user: what was there before stays until all of the new one is written.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid, fchown, linkat, openat};
use rustix::io::Errno;

/// A file that is being written: without a name, or with one of its own where the file system knows no such files.
pub(super) struct Output {
    file: BufWriter<File>,
    /// Where it goes when it is whole; none for what is written in place: a device, a FIFO, what stdout is.
    target: Option<PathBuf>,
    /// Its name meanwhile.
    temporary: Option<PathBuf>,
}

impl Output {
    /// Find out whether a path can be written. Nothing can be seen of it yet.
    pub(super) fn begin(path: &Path) -> io::Result<Output> {
        let there = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            there => Some(there?),
        };
        // What uvm was given by whoever started it, perhaps to go on with it.
        let passed = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc"];
        let passed = passed.iter().any(|one| path.starts_with(one));
        let (Some(there), false) = (&there, passed) else {
            return match passed {
                true => Ok(Output::in_place(File::options().append(true).open(path)?)),
                false => Output::beside(path.to_owned()),
            };
        };
        let old = File::options().write(true).open(path)?;
        if !there.is_file() {
            return Ok(Output::in_place(old));
        }
        let new = Output::beside(fs::canonicalize(path)?)?;
        new.file.get_ref().set_permissions(there.permissions())?;
        // Only root can.
        let (uid, gid) = (Uid::from_raw(there.uid()), Gid::from_raw(there.gid()));
        let _ = fchown(new.file.get_ref(), Some(uid), Some(gid));
        Ok(new)
    }

    fn in_place(file: File) -> Output {
        Output {
            file: BufWriter::new(file),
            target: None,
            temporary: None,
        }
    }

    fn beside(target: PathBuf) -> io::Result<Output> {
        if target.file_name().is_none() {
            return Err(Errno::ISDIR.into());
        }
        let above = target.parent().filter(|above| !above.as_os_str().is_empty());
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let opened = openat(
            CWD,
            above.unwrap_or(Path::new(".")),
            flags,
            Mode::from_raw_mode(0o666),
        );
        let (file, temporary) = match opened.map(OwnedFd::into) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let path = unique(&target)?;
                (File::create_new(&path)?, Some(path))
            }
            opened => (opened?, None),
        };
        Ok(Output {
            file: BufWriter::new(file),
            target: Some(target),
            temporary,
        })
    }

    /// Write it, and put it in its place.
    pub(super) fn write<E: From<io::Error>>(
        mut self,
        fill: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        fill(&mut self.file)?;
        self.file.flush()?;
        let Some(target) = self.target.take() else {
            return Ok(());
        };
        if self.temporary.is_none() {
            let path = unique(&target)?;
            let from = format!("/proc/self/fd/{}", self.file.get_ref().as_raw_fd());
            linkat(CWD, from, CWD, &path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)?;
            self.temporary = Some(path);
        }
        if let Some(path) = &self.temporary {
            fs::rename(path, target)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(path) = &self.temporary {
            // Best effort: it is not whole.
            let _ = fs::remove_file(path);
        }
    }
}

/// A name beside a file that nobody else has.
fn unique(target: &Path) -> io::Result<PathBuf> {
    let unique = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(target.with_file_name(format!(".uvm-output-{unique:016x}")))
}
