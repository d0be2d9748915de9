//! The path walk: path_resolution(7), symlink(7), openat2(2).

use std::rc::Rc;
use std::sync::Arc;

use bitflags::bitflags;

use super::access::{self, Access};
use super::{Dentry, FileType, Link, Path, Places, Vfs};
use crate::kernel::stop::Errno;
use crate::kernel::task::{Capability, Creds, Task};
use crate::kernel::user_memory::PATH_MAX;

/// Most symbolic links followed in one walk.
const LINKS_MAX: u32 = 40;

bitflags! {
    /// How to walk.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct WalkFlags: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// The result must be a directory (ENOTDIR).
        const DIRECTORY = 2;
        /// An empty path means the start itself (AT_EMPTY_PATH).
        const EMPTY_PATH = 4;
        /// RESOLVE_NO_SYMLINKS: meet no symbolic link (ELOOP); the last one may be if it is not followed.
        const NO_SYMLINKS = 8;
        /// RESOLVE_BENEATH: never leave the start (EXDEV).
        const BENEATH = 16;
        /// RESOLVE_IN_ROOT: the start is the root.
        const IN_ROOT = 32;
        /// RESOLVE_NO_XDEV: cross no mount (EXDEV).
        const NO_XDEV = 64;
        /// RESOLVE_NO_MAGICLINKS: follow no link that jumps (ELOOP).
        const NO_MAGICLINKS = 128;
    }
}

/// Who walks, and from where.
pub struct WalkCx<'a> {
    /// The guest's files.
    pub vfs: &'a Vfs,
    /// Whose permissions count.
    pub creds: Arc<Creds>,
    /// Where paths begin.
    pub places: Arc<Places>,
    /// The walking task, for links whose target depends on it; none while the guest is being built.
    pub task: Option<&'a Task>,
}

/// The last component of a walk that stops in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name.
    Name(Vec<u8>),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// There is none: the path is all slashes.
    Root,
}

/// A directory and the last component of a path to something in it.
#[derive(Clone)]
pub struct Parent {
    /// The directory, on which nobody has checked more than search permission.
    pub dir: Path,
    /// The component.
    pub last: Last,
    /// Whether slashes follow it.
    pub trailing_slash: bool,
}

impl Parent {
    /// The name, or `errno` when the last component is not one.
    pub fn name(&self, errno: Errno) -> Result<&[u8], Errno> {
        match &self.last {
            Last::Name(name) => Ok(name),
            _ => Err(errno),
        }
    }
}

/// What open(2) with O_CREAT finds.
pub enum Target {
    /// Something is there.
    Found(Path),
    /// Nothing is there: it could be made here.
    Missing(Parent),
}

impl<'a> WalkCx<'a> {
    /// The walk of a task: with its credentials, root and working directory.
    pub fn of(task: &'a Task) -> WalkCx<'a> {
        let (fs, creds) = task.fs_and_creds();
        let places = fs.lock().places().clone();
        WalkCx {
            vfs: &task.kernel.vfs,
            creds,
            places,
            task: Some(task),
        }
    }

    /// A walk with all rights from the root of everything, while the guest is being built.
    pub fn at_root(vfs: &'a Vfs) -> WalkCx<'a> {
        let root = vfs.mounts.root();
        WalkCx {
            vfs,
            creds: Arc::new(Creds::of_user(0, 0, &[])),
            places: Arc::new(Places {
                cwd: root.clone(),
                root,
            }),
            task: None,
        }
    }

    /// What a path leads to, from `start` (none: the working directory).
    pub fn lookup(&self, start: Option<&Path>, path: &[u8], flags: WalkFlags) -> Result<Path, Errno> {
        let mut walker = Walker::start(self, start, path, flags)?;
        walker.run(Stop::Never)?;
        let at = walker.at;
        if flags.contains(WalkFlags::DIRECTORY) && at.inode().file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(at)
    }

    /// The directory that the last component of a path is in, for creating, removing and renaming it.
    pub fn parent(&self, start: Option<&Path>, path: &[u8], flags: WalkFlags) -> Result<Parent, Errno> {
        let mut walker = Walker::start(self, start, path, flags)?;
        match walker.run(Stop::BeforeLast)? {
            Some(parent) => Ok(parent),
            None => Ok(Parent {
                dir: walker.at,
                last: Last::Root,
                trailing_slash: false,
            }),
        }
    }

    /// As [`WalkCx::lookup`], but stops where the last component (also of a symbolic link followed) could be created, and
    /// in front of a name that slashes follow.
    pub fn target(&self, start: Option<&Path>, path: &[u8], flags: WalkFlags) -> Result<Target, Errno> {
        let mut walker = Walker::start(self, start, path, flags)?;
        match walker.run(Stop::AtMissing)? {
            Some(parent) => Ok(Target::Missing(parent)),
            None => Ok(Target::Found(walker.at)),
        }
    }

    /// What `name` leads to in a directory that [`WalkCx::parent`] found, mounts crossed, links not followed.
    pub fn child(&self, dir: &Path, name: &[u8]) -> Result<Path, Errno> {
        let dentry = self.vfs.child(&dir.dentry, name)?;
        Ok(self.vfs.mounts.cross(Path {
            mount: dir.mount.clone(),
            dentry,
        }))
    }
}

/// Where a walk ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Behind the last component.
    Never,
    /// In front of it.
    BeforeLast,
    /// In front of it if it is a name that leads nowhere.
    AtMissing,
}

struct Walker<'w, 'a> {
    cx: &'w WalkCx<'a>,
    flags: WalkFlags,
    /// What `/` and `..` cannot leave.
    root: &'w Path,
    at: Path,
    /// What to walk; a symbolic link's text is put in front of what was still to be walked.
    text: Rc<[u8]>,
    /// How far it has been walked.
    done: usize,
    links: u32,
    /// Whether the root has mattered yet: Linux looks it up late, and RESOLVE_NO_XDEV refuses to go to a root that it
    /// does not know.
    root_known: bool,
}

impl<'w, 'a> Walker<'w, 'a> {
    fn start(
        cx: &'w WalkCx<'a>,
        start: Option<&'w Path>,
        path: &[u8],
        flags: WalkFlags,
    ) -> Result<Walker<'w, 'a>, Errno> {
        if path.is_empty() && !flags.contains(WalkFlags::EMPTY_PATH) {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let start = start.unwrap_or(&cx.places.cwd);
        let scoped = flags.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT);
        let root = if scoped { start } else { &cx.places.root };
        let absolute = path.first() == Some(&b'/');
        if absolute && flags.contains(WalkFlags::BENEATH) {
            return Err(Errno::EXDEV);
        }
        Ok(Walker {
            cx,
            flags,
            root,
            at: if absolute { root } else { start }.clone(),
            text: path.into(),
            done: 0,
            links: 0,
            root_known: scoped || absolute,
        })
    }

    /// Go to the root if a symbolic link says so.
    fn absolute(&mut self) -> Result<(), Errno> {
        if self.text.first() == Some(&b'/') {
            let unknown = self.flags.contains(WalkFlags::NO_XDEV) && !self.root_known;
            if unknown || self.flags.contains(WalkFlags::BENEATH) {
                return Err(Errno::EXDEV);
            }
            self.root_known = true;
            self.go(self.root.clone())?;
        }
        Ok(())
    }

    /// Go to a path that is not a child: RESOLVE_NO_XDEV has a say.
    fn go(&mut self, to: Path) -> Result<(), Errno> {
        if self.flags.contains(WalkFlags::NO_XDEV) && to.mount.id != self.at.mount.id {
            return Err(Errno::EXDEV);
        }
        self.at = to;
        Ok(())
    }

    /// Walk on; the parent and last component if the walk stopped in front of it.
    fn run(&mut self, stop: Stop) -> Result<Option<Parent>, Errno> {
        loop {
            let text = self.text.clone();
            let slashes = text[self.done..].iter().take_while(|&&b| b == b'/').count();
            let from = &text[self.done + slashes..];
            if from.is_empty() {
                return Ok(None);
            }
            let (name, rest) = from.split_at(from.iter().take_while(|&&b| b != b'/').count());
            self.done = text.len() - rest.len();
            let last = rest.iter().all(|&b| b == b'/');
            let slash = !rest.is_empty();
            self.may_search()?;
            if last && stop == Stop::BeforeLast {
                return Ok(Some(self.parent(name, slash)));
            }
            match name {
                b"." => {}
                b".." => self.up()?,
                _ => {
                    if let Some(parent) = self.down(name, last, slash, stop)? {
                        return Ok(Some(parent));
                    }
                }
            }
            if slash && self.at.inode().file_type() != FileType::Directory {
                return Err(Errno::ENOTDIR);
            }
        }
    }

    fn parent(&self, name: &[u8], trailing_slash: bool) -> Parent {
        let last = match name {
            b"." => Last::Dot,
            b".." => Last::DotDot,
            _ => Last::Name(name.to_vec()),
        };
        Parent {
            dir: self.at.clone(),
            last,
            trailing_slash,
        }
    }

    /// ENOTDIR and EACCES for looking a name up where the walk is.
    fn may_search(&self) -> Result<(), Errno> {
        let inode = self.at.inode();
        if inode.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let creds = &self.cx.creds;
        if creds.capable(Capability::DacOverride) || creds.capable(Capability::DacReadSearch) {
            return Ok(());
        }
        access::may(creds, &inode.metadata()?, Access::EXEC)
    }

    /// `..`
    fn up(&mut self) -> Result<(), Errno> {
        self.root_known = true;
        let mut at = self.at.clone();
        loop {
            if at.same(self.root) {
                return if self.flags.contains(WalkFlags::BENEATH) {
                    Err(Errno::EXDEV)
                } else {
                    self.go(self.cx.vfs.mounts.cross(at))
                };
            }
            if !at.is_mount_root() {
                break;
            }
            match at.mount.at() {
                Some(below) => at = below,
                None => return self.go(at),
            }
        }
        if !at.dentry.is_within(&at.mount.root) {
            return Err(Errno::ENOENT);
        }
        let dentry = at.dentry.parent().unwrap_or_else(|| at.dentry.clone());
        let mount = at.mount;
        self.go(self.cx.vfs.mounts.cross(Path { mount, dentry }))
    }

    /// A name in the directory where the walk is.
    fn down(&mut self, name: &[u8], last: bool, slash: bool, stop: Stop) -> Result<Option<Parent>, Errno> {
        if last && slash && stop == Stop::AtMissing {
            // What open(2) would create is no directory, so it does not even look.
            return Ok(Some(self.parent(name, slash)));
        }
        let child = match self.cx.vfs.child(&self.at.dentry, name) {
            Err(Errno::ENOENT) if last && stop == Stop::AtMissing => {
                return Ok(Some(self.parent(name, slash)));
            }
            child => child?,
        };
        let (mount, dentry) = if child.is_mount_point() {
            let mount = self.at.mount.clone();
            let Path { mount, dentry } = self.cx.vfs.mounts.cross(Path { mount, dentry: child });
            (Some(mount), dentry)
        } else {
            (None, child)
        };
        let is_link = dentry.inode.file_type() == FileType::Symlink;
        if is_link && (!last || slash || self.flags.contains(WalkFlags::FOLLOW)) {
            self.follow(&dentry)?;
        } else if let Some(mount) = mount {
            self.go(Path { mount, dentry })?;
        } else {
            self.at.dentry = dentry;
        }
        Ok(None)
    }

    /// Follow a symbolic link in the directory where the walk is.
    fn follow(&mut self, link: &Arc<Dentry>) -> Result<(), Errno> {
        self.links += 1;
        if self.links > LINKS_MAX || self.flags.contains(WalkFlags::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        if self.done == self.text.len() {
            access::may_follow(
                &self.cx.creds,
                &self.at.inode().metadata()?,
                &link.inode.metadata()?,
            )?;
        }
        match link.inode.read_link(self.cx.task)? {
            Link::Text(text) => {
                if text.is_empty() {
                    return Err(Errno::ENOENT);
                }
                // What follows begins with its slash, or is empty.
                self.text = [&text, &self.text[self.done..]].concat().into();
                self.done = 0;
                self.absolute()
            }
            Link::Jump(path) => {
                if self.flags.contains(WalkFlags::NO_MAGICLINKS) {
                    return Err(Errno::ELOOP);
                }
                if self.flags.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT) {
                    return Err(Errno::EXDEV);
                }
                self.go(path)
            }
        }
    }
}

/// A path as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathText {
    /// The text, without any note on what follows.
    pub text: Vec<u8>,
    /// Whether it leads there from the root it was asked for; otherwise it begins at the root of its own tree.
    pub reachable: bool,
    /// Whether the name has been removed.
    pub deleted: bool,
}

impl PathText {
    /// What /proc/PID/fd shows: with ` (deleted)` behind it when that is so.
    pub fn shown(mut self) -> Vec<u8> {
        if self.deleted {
            self.text.extend_from_slice(b" (deleted)");
        }
        self.text
    }
}

impl Path {
    /// The way from `root` to this.
    pub fn text(&self, root: &Path) -> PathText {
        let deleted = self.dentry.is_unlinked();
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut at = self.clone();
        let reachable = loop {
            if at.same(root) {
                break true;
            }
            if at.is_mount_root() {
                match at.mount.at() {
                    Some(below) => at = below,
                    None => break false,
                }
                continue;
            }
            let name = at.dentry.name();
            match at.dentry.parent() {
                Some(parent) => {
                    parts.push(name);
                    at.dentry = parent;
                }
                // An anonymous object's name is all there is.
                None if parts.is_empty() && !name.is_empty() => {
                    return PathText {
                        text: name,
                        reachable: true,
                        deleted: false,
                    };
                }
                None => break false,
            }
        };
        let mut text = Vec::new();
        for part in parts.iter().rev() {
            text.push(b'/');
            text.extend_from_slice(part);
        }
        if text.is_empty() {
            text.push(b'/');
        }
        PathText {
            text,
            reachable,
            deleted,
        }
    }
}
