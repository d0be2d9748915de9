//! File systems whose contents are computed: the parts that procfs and sysfs are made of.
//!
//! A directory lists names and finds entries; a file makes its whole text when it is read from the start; a link makes
//! its target when it is followed. Nothing is cached, so what comes and goes is always true.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use super::{
    CreateArgs, DirEntry, File, FileOps, FileSystem, FileType, Inode, Link, Metadata, OpenFlags, SetAttr,
    StatFs,
};
use crate::kernel::stop::{Errno, SysResult};
use crate::kernel::sync::{Lock, Rank};
use crate::kernel::task::Task;
use crate::kernel::time::Timestamp;
use crate::kernel::user_memory::{Sink, Source};

/// Longest text one write may bring, in bytes.
const WRITE_MAX: usize = 4096;

/// A directory's contents.
pub trait PseudoDir: Send + Sync {
    /// All names with the kinds of what they name.
    fn list(&self) -> Vec<(String, FileType)>;
    /// What a name is.
    fn find(&self, name: &str) -> Option<Entry>;
    /// How many directories it holds, where programs count them by its links.
    fn subdirectories(&self) -> u32 {
        0
    }
}

/// A file's contents.
pub trait PseudoFile: Send + Sync {
    /// The whole text.
    fn text(&self) -> Result<Vec<u8>, Errno>;
    /// Take what was written in one call.
    fn write(&self, text: &[u8]) -> Result<(), Errno> {
        let _ = text;
        Err(Errno::EACCES)
    }
    /// Operations of its own, where it is no text.
    fn ops(self: Arc<Self>) -> Result<Option<Arc<dyn FileOps>>, Errno> {
        Ok(None)
    }
}

/// A link's target.
pub trait PseudoLink: Send + Sync {
    /// Where it leads for the task that follows it (none: nobody does yet, the guest is being built).
    fn target(&self, task: Option<&Task>) -> Result<Link, Errno>;
}

/// What a name in a [`PseudoDir`] is, with permission bits and owner.
pub struct Entry {
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// What it is.
    pub body: Body,
}

/// The kinds of entry.
#[derive(Clone)]
#[allow(missing_docs)]
pub enum Body {
    Dir(Arc<dyn PseudoDir>),
    File(Arc<dyn PseudoFile>),
    Link(Arc<dyn PseudoLink>),
}

impl Entry {
    /// A directory that all may read.
    pub fn dir(dir: impl PseudoDir + 'static) -> Entry {
        Entry {
            mode: 0o555,
            owner: (0, 0),
            body: Body::Dir(Arc::new(dir)),
        }
    }

    /// A file that all may read.
    pub fn file(file: impl PseudoFile + 'static) -> Entry {
        Entry {
            mode: 0o444,
            owner: (0, 0),
            body: Body::File(Arc::new(file)),
        }
    }

    /// A file that all may read, made by a function.
    pub fn text(make: impl Fn() -> String + Send + Sync + 'static) -> Entry {
        Entry::file(Text(make))
    }

    /// A symbolic link.
    pub fn link(link: impl PseudoLink + 'static) -> Entry {
        Entry {
            mode: 0o777,
            owner: (0, 0),
            body: Body::Link(Arc::new(link)),
        }
    }

    /// The same with other permission bits.
    pub fn mode(self, mode: u32) -> Entry {
        Entry { mode, ..self }
    }

    /// The same with another owner.
    pub fn owned(self, owner: (u32, u32)) -> Entry {
        Entry { owner, ..self }
    }
}

struct Text<F>(F);

impl<F: Fn() -> String + Send + Sync> PseudoFile for Text<F> {
    fn text(&self) -> Result<Vec<u8>, Errno> {
        Ok((self.0)().into_bytes())
    }
}

/// A file system made of a [`PseudoDir`].
pub struct PseudoFs {
    name: &'static str,
    magic: u64,
    dev: u64,
    since: Timestamp,
    root: Arc<dyn PseudoDir>,
    this: Weak<PseudoFs>,
}

impl PseudoFs {
    /// A file system of type `name` with this root, statfs magic and device number.
    pub fn new(
        name: &'static str,
        magic: u64,
        dev: u64,
        since: Timestamp,
        root: impl PseudoDir + 'static,
    ) -> Arc<PseudoFs> {
        Arc::new_cyclic(|this| PseudoFs {
            name,
            magic,
            dev,
            since,
            root: Arc::new(root),
            this: this.clone(),
        })
    }
}

impl FileSystem for PseudoFs {
    fn name(&self) -> &'static str {
        self.name
    }

    fn root(&self) -> Arc<dyn Inode> {
        match self.this.upgrade() {
            Some(fs) => Arc::new(Node {
                fs,
                ino: 1,
                mode: 0o555,
                owner: (0, 0),
                body: Body::Dir(self.root.clone()),
            }),
            None => unreachable!("a file system is asked through its own reference"),
        }
    }

    fn dev(&self) -> u64 {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs, Errno> {
        Ok(StatFs {
            magic: self.magic,
            bsize: 4096,
            namelen: 255,
            ..StatFs::default()
        })
    }
}

struct Node {
    fs: Arc<PseudoFs>,
    ino: u64,
    mode: u32,
    owner: (u32, u32),
    body: Body,
}

/// The same name in the same directory has the same number, always.
fn ino_of(parent: u64, name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (parent, name).hash(&mut hasher);
    hasher.finish() >> 32 | 0x1_0000_0000
}

impl Inode for Node {
    fn metadata(&self) -> Result<Metadata, Errno> {
        let kind = self.file_type();
        Ok(Metadata {
            dev: self.fs.dev,
            ino: self.ino,
            mode: kind.mode() | self.mode,
            nlink: match &self.body {
                Body::Dir(dir) => 2 + dir.subdirectories(),
                _ => 1,
            },
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: self.fs.since,
            mtime: self.fs.since,
            ctime: self.fs.since,
            btime: None,
        })
    }

    fn file_type(&self) -> FileType {
        match self.body {
            Body::Dir(_) => FileType::Directory,
            Body::File(_) => FileType::Regular,
            Body::Link(_) => FileType::Symlink,
        }
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn open(self: Arc<Self>, _: OpenFlags) -> Result<Arc<dyn FileOps>, Errno> {
        match &self.body {
            Body::Dir(dir) => Ok(Arc::new(OpenDir {
                ino: self.ino,
                dir: dir.clone(),
            })),
            Body::File(file) => match file.clone().ops()? {
                Some(ops) => Ok(ops),
                None => Ok(OpenText::new(file.clone())),
            },
            Body::Link(_) => Err(Errno::ELOOP),
        }
    }

    fn set_attr(&self, change: &SetAttr) -> Result<(), Errno> {
        // Opening for writing with O_TRUNC is fine; there is nothing else to change.
        let only_size = change.mode.or(change.uid).or(change.gid).is_none();
        if only_size && matches!(self.body, Body::File(_)) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>, Errno> {
        let Body::Dir(dir) = &self.body else {
            return Err(Errno::ENOTDIR);
        };
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let entry = dir.find(name).ok_or(Errno::ENOENT)?;
        let Entry { mode, owner, body } = entry;
        Ok(Arc::new(Node {
            fs: self.fs.clone(),
            ino: ino_of(self.ino, name),
            mode,
            owner,
            body,
        }))
    }

    fn create(&self, _: &[u8], _: &CreateArgs) -> Result<Arc<dyn Inode>, Errno> {
        // What is not there cannot be: Linux says the same of making things in /proc.
        Err(Errno::ENOENT)
    }

    fn cacheable(&self) -> bool {
        false
    }

    fn read_link(&self, task: Option<&Task>) -> Result<Link, Errno> {
        match &self.body {
            Body::Link(link) => link.target(task),
            _ => Err(Errno::EINVAL),
        }
    }
}

struct OpenDir {
    ino: u64,
    dir: Arc<dyn PseudoDir>,
}

/// Where a name stands in its directory: descriptors and processes by their number, after all others, so that no one's
/// place changes when another one goes.
fn place(index: u64, name: &str) -> u64 {
    name.parse::<u32>()
        .map_or(index, |number| (1 << 32) + u64::from(number))
}

impl FileOps for OpenDir {
    fn seekable(&self) -> bool {
        true
    }

    fn pollable(&self) -> bool {
        false
    }

    fn read_dir(&self, _: &File, pos: u64, emit: &mut dyn FnMut(DirEntry) -> bool) -> SysResult<()> {
        let dots = [(".", self.ino), ("..", self.ino)]
            .map(|(name, ino)| (name.to_owned(), ino, FileType::Directory));
        let listed = self.dir.list().into_iter().map(|(name, kind)| {
            let ino = ino_of(self.ino, &name);
            (name, ino, kind)
        });
        let mut entries: Vec<_> = (0u64..)
            .zip(dots.into_iter().chain(listed))
            .map(|(index, entry)| (place(index, &entry.0), entry))
            .filter(|(place, _)| *place >= pos)
            .collect();
        entries.sort_by_key(|(place, _)| *place);
        for (place, (name, ino, kind)) in entries {
            let entry = DirEntry {
                ino,
                kind: Some(kind),
                name: name.into_bytes(),
                next: place + 1,
            };
            if !emit(entry) {
                break;
            }
        }
        Ok(())
    }
}

/// An open file that is read as its text.
pub struct OpenText {
    file: Arc<dyn PseudoFile>,
    /// The text as of the first read or the last one from the start, so that a reader in pieces sees one state.
    text: Lock<Option<Arc<Vec<u8>>>>,
}

impl OpenText {
    /// A file as it is when it has just been opened.
    pub fn new(file: Arc<dyn PseudoFile>) -> Arc<OpenText> {
        Arc::new(OpenText {
            file,
            text: Lock::new(Rank::Leaf, None),
        })
    }
}

impl FileOps for OpenText {
    fn read(&self, _: &File, pos: &mut u64, to: &mut dyn Sink) -> SysResult<usize> {
        let kept = self.text.lock().clone().filter(|_| *pos > 0);
        let text = match kept {
            Some(text) => text,
            None => {
                let text = Arc::new(self.file.text()?);
                *self.text.lock() = Some(text.clone());
                text
            }
        };
        let start = usize::try_from(*pos).unwrap_or(usize::MAX).min(text.len());
        let end = text.len().min(start.saturating_add(to.remaining()));
        let put = if start == end {
            0
        } else {
            to.put(&text[start..end])?
        };
        *pos += put as u64;
        Ok(put)
    }

    fn write(&self, _: &File, pos: &mut u64, from: &mut dyn Source) -> SysResult<usize> {
        let mut bytes = vec![0; from.remaining().min(WRITE_MAX)];
        let taken = from.take(&mut bytes)?;
        self.file.write(&bytes[..taken])?;
        *pos += taken as u64;
        Ok(taken)
    }

    fn seekable(&self) -> bool {
        true
    }

    fn seek(&self, _: &File, _: i64, _: i32) -> SysResult<u64> {
        Err(Errno::EINVAL.into())
    }
}
