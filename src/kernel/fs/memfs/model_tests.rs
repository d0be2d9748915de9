//! Random operations on tmpfs, on an overlay, on a shared host directory and on the host itself: all must answer the
//! same and leave the same tree.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rustix::fs as host;
use rustix::fs::{AtFlags, Mode, OFlags};

use super::MemFs;
use super::disk::tests::on_disk;
use super::testing::{TempDir, args, contents, names, open, options, overlay, read_at, shared, write_at};
use crate::kernel::fs::{FileSystem, FileType, Inode, Link, OpenFlags, SetAttr};
use crate::kernel::stop::Errno;

/// A name in a directory, by steps from the root.
type Place = (Vec<u8>, u8);

#[derive(Clone, Debug)]
enum Op {
    Create(Place, u32),
    Mkdir(Place),
    Symlink(Place, u8),
    Link(Place, Place),
    Unlink(Place),
    Rmdir(Place),
    Rename(Place, Place, u32),
    Write(Place, u32, u32),
    Truncate(Place, u32),
    Chmod(Place, u32),
    Punch(Place, u32, u32),
    Read(Place),
}

fn name(n: u8) -> String {
    char::from(b'a' + n).to_string()
}

fn place() -> impl Strategy<Value = Place> {
    (prop::collection::vec(0..3u8, 0..3), 0..3u8)
}

fn op() -> impl Strategy<Value = Op> {
    let offset = || prop_oneof![0..9000u32, 0..200_000u32];
    let flags = prop_oneof![
        3 => Just(0),
        1 => Just(libc::RENAME_NOREPLACE),
        1 => Just(libc::RENAME_EXCHANGE)
    ];
    prop_oneof![
        4 => (place(), 0..0o200u32).prop_map(|(p, m)| Op::Create(p, 0o600 | m)),
        6 => place().prop_map(Op::Mkdir),
        1 => (place(), any::<u8>()).prop_map(|(p, t)| Op::Symlink(p, t)),
        2 => (place(), place()).prop_map(|(a, b)| Op::Link(a, b)),
        2 => place().prop_map(Op::Unlink),
        2 => place().prop_map(Op::Rmdir),
        6 => (place(), place(), flags).prop_map(|(a, b, f)| Op::Rename(a, b, f)),
        4 => (place(), offset(), 0..80_000u32).prop_map(|(p, o, n)| Op::Write(p, o, n)),
        2 => (place(), offset()).prop_map(|(p, n)| Op::Truncate(p, n)),
        1 => (place(), 0..0o100u32).prop_map(|(p, m)| Op::Chmod(p, 0o700 | m)),
        1 => (place(), offset(), 1..9000u32).prop_map(|(p, o, n)| Op::Punch(p, o, n)),
        1 => place().prop_map(Op::Read),
    ]
}

const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

/// What is written: different at every place, so that a piece in the wrong one shows.
fn pattern(offset: u32, len: u32) -> Vec<u8> {
    (0..len).map(|i| ((offset + i) / 7 + len) as u8).collect()
}

/// The other side of an operation: what to do it on and how.
trait Subject {
    fn apply(&self, op: &Op) -> Result<Vec<u8>, Errno>;
}

struct Tree(Arc<dyn Inode>);

impl Tree {
    fn dir(&self, place: &Place) -> Result<(Arc<dyn Inode>, String), Errno> {
        let mut at = self.0.clone();
        for &step in &place.0 {
            at = at.lookup(name(step).as_bytes())?;
        }
        if at.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok((at, name(place.1)))
    }

    fn find(&self, place: &Place) -> Result<Arc<dyn Inode>, Errno> {
        let (dir, name) = self.dir(place)?;
        dir.lookup(name.as_bytes())
    }

    fn file(&self, place: &Place) -> Result<Arc<dyn Inode>, Errno> {
        let found = self.find(place)?;
        match found.file_type() {
            FileType::Regular => Ok(found),
            FileType::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::ELOOP),
        }
    }
}

impl Subject for Tree {
    fn apply(&self, op: &Op) -> Result<Vec<u8>, Errno> {
        match op {
            Op::Create(p, mode) => {
                let (dir, name) = self.dir(p)?;
                dir.create(name.as_bytes(), &args(libc::S_IFREG | mode))?;
            }
            Op::Mkdir(p) => {
                let (dir, name) = self.dir(p)?;
                dir.create(name.as_bytes(), &args(libc::S_IFDIR | 0o755))?;
            }
            Op::Symlink(p, text) => {
                let (dir, name) = self.dir(p)?;
                dir.symlink(name.as_bytes(), &[b'x'; 300][..=usize::from(*text)], &args(0))?;
            }
            Op::Link(a, b) => {
                let inode = self.find(a)?;
                let (dir, name) = self.dir(b)?;
                dir.link(name.as_bytes(), &inode)?;
            }
            Op::Unlink(p) => {
                let (dir, name) = self.dir(p)?;
                dir.unlink(name.as_bytes(), false)?;
            }
            Op::Rmdir(p) => {
                let (dir, name) = self.dir(p)?;
                dir.unlink(name.as_bytes(), true)?;
            }
            Op::Rename(a, b, flags) => {
                let (dir, name) = self.dir(a)?;
                let (new_dir, new_name) = self.dir(b)?;
                dir.rename(name.as_bytes(), &new_dir, new_name.as_bytes(), *flags)?;
            }
            Op::Write(p, offset, len) => {
                let file = open(&self.file(p)?, OpenFlags::RDWR)?;
                let done = write_at(&file, u64::from(*offset), &pattern(*offset, *len))?;
                return Ok(done.to_string().into_bytes());
            }
            Op::Truncate(p, size) => {
                let size = Some(u64::from(*size));
                let change = SetAttr {
                    size,
                    ..SetAttr::default()
                };
                self.file(p)?.set_attr(&change)?;
            }
            Op::Chmod(p, mode) => {
                let found = self.find(p)?;
                if found.file_type() == FileType::Symlink {
                    return Err(Errno::ELOOP);
                }
                let change = SetAttr {
                    mode: Some(*mode),
                    ..SetAttr::default()
                };
                found.set_attr(&change)?;
            }
            Op::Punch(p, offset, len) => {
                let file = open(&self.file(p)?, OpenFlags::RDWR)?;
                super::testing::allocate(&file, PUNCH, u64::from(*offset), u64::from(*len))?;
            }
            Op::Read(p) => return read_at(&*open(&self.file(p)?, OpenFlags::empty())?, 0, 1 << 20),
        }
        Ok(Vec::new())
    }
}

struct Host<'a>(&'a Path);

fn errno(e: rustix::io::Errno) -> Errno {
    Errno::from_raw(e.raw_os_error())
}

impl Host<'_> {
    fn dir(&self, place: &Place) -> rustix::io::Result<(OwnedFd, String)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let mut at = host::open(self.0, flags, Mode::empty())?;
        for &step in &place.0 {
            at = host::openat(&at, name(step), flags, Mode::empty())?;
        }
        Ok((at, name(place.1)))
    }

    fn file(&self, place: &Place, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let (dir, name) = self.dir(place)?;
        host::openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty())
    }

    fn run(&self, op: &Op) -> rustix::io::Result<Vec<u8>> {
        match op {
            Op::Create(p, mode) => {
                let (dir, name) = self.dir(p)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
                let fd = host::openat(dir, name, flags, Mode::empty())?;
                host::fchmod(fd, Mode::from_raw_mode(*mode))?;
            }
            Op::Mkdir(p) => {
                let (dir, name) = self.dir(p)?;
                host::mkdirat(&dir, &name, Mode::from_raw_mode(0o700))?;
                host::chmodat(dir, name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
            }
            Op::Symlink(p, text) => {
                let (dir, name) = self.dir(p)?;
                host::symlinkat(&[b'x'; 300][..=usize::from(*text)], dir, name)?;
            }
            Op::Link(a, b) => {
                let (dir, name) = self.dir(a)?;
                let (new_dir, new_name) = {
                    host::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW)?;
                    self.dir(b)?
                };
                host::linkat(dir, name, new_dir, new_name, AtFlags::empty())?;
            }
            Op::Unlink(p) => {
                let (dir, name) = self.dir(p)?;
                host::unlinkat(dir, name, AtFlags::empty())?;
            }
            Op::Rmdir(p) => {
                let (dir, name) = self.dir(p)?;
                host::unlinkat(dir, name, AtFlags::REMOVEDIR)?;
            }
            Op::Rename(a, b, flags) => {
                let (dir, name) = self.dir(a)?;
                let (new_dir, new_name) = self.dir(b)?;
                let flags = host::RenameFlags::from_bits_retain(*flags);
                host::renameat_with(dir, name, new_dir, new_name, flags)?;
            }
            Op::Write(p, offset, len) => {
                let fd = self.file(p, OFlags::RDWR)?;
                let done = rustix::io::pwrite(fd, &pattern(*offset, *len), u64::from(*offset))?;
                return Ok(done.to_string().into_bytes());
            }
            Op::Truncate(p, size) => host::ftruncate(self.file(p, OFlags::RDWR)?, u64::from(*size))?,
            Op::Chmod(p, mode) => {
                let fd = self.file(p, OFlags::RDONLY)?;
                host::fchmod(fd, Mode::from_raw_mode(*mode))?;
            }
            Op::Punch(p, offset, len) => {
                let fd = self.file(p, OFlags::RDWR)?;
                let mode = host::FallocateFlags::from_bits_retain(PUNCH.cast_unsigned());
                host::fallocate(fd, mode, u64::from(*offset), u64::from(*len))?;
            }
            Op::Read(p) => {
                let fd = self.file(p, OFlags::RDWR)?;
                let mut bytes = Vec::with_capacity(1 << 20);
                rustix::io::pread(fd, rustix::buffer::spare_capacity(&mut bytes), 0)?;
                return Ok(bytes);
            }
        }
        Ok(Vec::new())
    }
}

impl Subject for Host<'_> {
    fn apply(&self, op: &Op) -> Result<Vec<u8>, Errno> {
        self.run(op).map_err(errno)
    }
}

/// Everything that is in a tree, by path: kind, mode, links and contents.
fn dump(dir: &Arc<dyn Inode>, path: &str, into: &mut BTreeMap<String, (FileType, u32, u32, Vec<u8>)>) {
    for name in names(dir) {
        let inode = dir.lookup(name.as_bytes()).unwrap();
        let path = format!("{path}/{name}");
        let meta = inode.metadata().unwrap();
        let contents = match inode.file_type() {
            FileType::Regular => contents(&inode).unwrap(),
            FileType::Symlink => match inode.read_link(None) {
                Ok(Link::Text(text)) => text,
                _ => panic!("{path}: no text"),
            },
            _ => Vec::new(),
        };
        if inode.file_type() == FileType::Regular {
            assert_eq!(meta.size, contents.len() as u64, "{path}");
        }
        let kind = meta.file_type();
        into.insert(path.clone(), (kind, meta.mode & 0o7777, meta.nlink, contents));
        if kind == FileType::Directory {
            dump(&inode, &path, into);
        }
    }
}

fn tree_of(root: &Arc<dyn Inode>) -> BTreeMap<String, (FileType, u32, u32, Vec<u8>)> {
    let mut tree = BTreeMap::new();
    dump(root, "", &mut tree);
    tree
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_file_systems_agree_with_the_host(
        before in prop::collection::vec(op(), 0..60),
        after in prop::collection::vec(op(), 1..60),
    ) {
        let (real, through, below) = (TempDir::new(), TempDir::new(), TempDir::new());
        let tmpfs = MemFs::tmpfs(options());
        let hostfs = shared(through.path());
        for op in &before {
            let expected = Host(real.path()).apply(op);
            prop_assert_eq!(&Host(below.path()).apply(op), &expected);
            prop_assert_eq!(&Tree(tmpfs.root()).apply(op), &expected, "tmpfs: {:?}", op);
            prop_assert_eq!(&Tree(hostfs.root()).apply(op), &expected, "hostfs: {:?}", op);
        }
        let untouched = tree_of(&super::testing::lower(below.path()).root());
        let changed = overlay(below.path());
        let upper = TempDir::new();
        let mut kept = on_disk(below.path(), upper.path());
        for (n, op) in after.iter().enumerate() {
            if n == after.len() / 2 {
                drop(kept);
                kept = on_disk(below.path(), upper.path());
            }
            let expected = Host(real.path()).apply(op);
            prop_assert_eq!(&Tree(changed.root()).apply(op), &expected, "overlay: {:?}", op);
            prop_assert_eq!(&Tree(kept.root()).apply(op), &expected, "overlay on disk: {:?}", op);
            prop_assert_eq!(&Tree(tmpfs.root()).apply(op), &expected, "tmpfs: {:?}", op);
            prop_assert_eq!(&Tree(hostfs.root()).apply(op), &expected, "hostfs: {:?}", op);
        }
        let expected = tree_of(&shared(real.path()).root());
        prop_assert_eq!(&tree_of(&changed.root()), &expected, "overlay");
        prop_assert_eq!(&tree_of(&kept.root()), &expected, "overlay on disk");
        drop(kept);
        let kept = on_disk(below.path(), upper.path());
        prop_assert_eq!(&tree_of(&kept.root()), &expected, "overlay on disk, opened again");
        prop_assert_eq!(&tree_of(&tmpfs.root()), &expected, "tmpfs");
        prop_assert_eq!(&tree_of(&hostfs.root()), &expected, "hostfs");
        prop_assert_eq!(&tree_of(&super::testing::lower(below.path()).root()), &untouched);
    }
}

/// Many threads at once on one tree: no lock is taken in the wrong order or left waiting, and what is left makes sense.
#[test]
fn threads_do_not_get_in_each_others_way() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    const THREADS: usize = 4;
    const OPS: usize = 1500;
    let below = TempDir::new();
    let mut runner = TestRunner::deterministic();
    let mut ops = |n| -> Vec<Op> {
        let ops = prop::collection::vec(op(), n);
        ops.new_tree(&mut runner).unwrap().current()
    };
    for op in ops(100) {
        // Whether each is possible does not matter.
        let _ = Host(below.path()).apply(&op);
    }
    let upper = TempDir::new();
    let trees = [overlay(below.path()), on_disk(below.path(), upper.path())];
    let plans: Vec<_> = (0..THREADS).map(|_| ops(OPS)).collect();
    for changed in trees {
        std::thread::scope(|scope| {
            for plan in &plans {
                let tree = Tree(changed.root());
                scope.spawn(move || {
                    for op in plan {
                        let _ = tree.apply(op);
                        names(&tree.0);
                    }
                });
            }
        });
        check_links(&tree_of(&changed.root()));
    }
    let again = on_disk(below.path(), upper.path());
    check_links(&tree_of(&again.root()));
}

/// A directory has as many links as it is named.
fn check_links(left: &BTreeMap<String, (FileType, u32, u32, Vec<u8>)>) {
    let dirs = |prefix: &str| {
        let below = |path: &&String| path.rsplit_once('/').is_some_and(|(dir, _)| dir == prefix);
        let is_dir = |path: &&String| left[*path].0 == FileType::Directory;
        left.keys().filter(below).filter(is_dir).count()
    };
    for (path, (kind, _, nlink, _)) in left {
        if *kind == FileType::Directory {
            assert_eq!(*nlink as usize, 2 + dirs(path), "{path}");
        }
    }
}
