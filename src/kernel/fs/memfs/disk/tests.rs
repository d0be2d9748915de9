//! Uppers on disk: what is seen when they are opened again, after an end, a kill or damage.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::journal::Journal;
use super::record::{ROOT, Record};
use super::{UpperError, UpperOptions};
use crate::kernel::fs::memfs::MemFs;
use crate::kernel::fs::memfs::testing::{
    TempDir, args, contents, lower, names, open, options, plain, write_at,
};
use crate::kernel::fs::{DirEntry, FileSystem, FileType, Inode, Link, OpenFlags, SetAttr};
use crate::kernel::stop::Errno;
use crate::kernel::time::Timestamp;

/// An overlay upon `path` with its changes in `upper`.
pub(in crate::kernel::fs::memfs) fn on_disk(path: &Path, upper: &Path) -> Arc<MemFs> {
    let upper = UpperOptions {
        dir: upper.to_owned(),
        lower: "test".into(),
        since: Timestamp::default(),
    };
    loop {
        match MemFs::overlay_on_disk(lower(path).root(), options(), &upper) {
            // A child that another test has just forked has the lock too, until it runs its program.
            Err(UpperError::Busy) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

fn reopen(fs_: Arc<MemFs>, below: &Path, upper: &Path) -> Arc<MemFs> {
    drop(fs_);
    on_disk(below, upper)
}

/// Names, whatever bytes they have.
fn names_in(inode: &Arc<dyn Inode>) -> Vec<Vec<u8>> {
    let file = open(inode, OpenFlags::DIRECTORY).unwrap();
    let mut names = Vec::new();
    let mut emit = |entry: DirEntry| {
        names.push(entry.name);
        true
    };
    plain(file.ops.read_dir(&file, 0, &mut emit)).unwrap();
    names.retain(|name| name != b"." && name != b"..");
    names
}

/// What can be seen of each file but its contents.
fn seen(root: &Arc<dyn Inode>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![(String::new(), root.clone())];
    while let Some((path, inode)) = left.pop() {
        let meta = inode.metadata().unwrap();
        let link = match inode.read_link(None) {
            Ok(Link::Text(text)) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        };
        let (mode, nlink, owner, rdev) = (meta.mode, meta.nlink, (meta.uid, meta.gid), meta.rdev);
        let xattrs = inode.list_xattr().unwrap();
        found.insert(
            path.clone(),
            format!(
                "{mode:o} {nlink} {owner:?} {rdev} {link} {xattrs:?} {:?}",
                meta.ctime
            ),
        );
        if inode.file_type() == FileType::Directory && found.len() < 10_000 {
            for name in names_in(&inode) {
                let below = format!("{path}/{}", String::from_utf8_lossy(&name));
                left.push((below, inode.lookup(&name).unwrap()));
            }
        }
    }
    found
}

fn find(fs_: &MemFs, path: &str) -> Arc<dyn Inode> {
    path.split('/')
        .fold(fs_.root(), |at, name| at.lookup(name.as_bytes()).unwrap())
}

fn put(fs_: &MemFs, path: &str, bytes: &[u8]) {
    write_at(&open(&find(fs_, path), OpenFlags::RDWR).unwrap(), 0, bytes).unwrap();
}

fn below() -> TempDir {
    let host = TempDir::new();
    for name in ["d/sub/x", "d/sub/y", "e/f", "g/h", "k", "l"] {
        let path = host.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    fs::hard_link(host.path().join("k"), host.path().join("k2")).unwrap();
    host
}

/// Changes of every kind. Calls `after` behind each.
fn change(fs_: &MemFs, after: &mut dyn FnMut()) {
    let root = fs_.root();
    let regular = args(libc::S_IFREG | 0o640);
    let mut did = |result: Result<(), Errno>| {
        result.unwrap();
        after();
    };
    did(root.create(b"new", &regular).map(|_| ()));
    put(fs_, "new", b"new contents");
    did(root.link(b"hard", &find(fs_, "new")));
    did(root.create(b"fifo", &args(libc::S_IFIFO | 0o600)).map(|_| ()));
    let mut device = args(libc::S_IFCHR | 0o600);
    device.rdev = libc::makedev(1, 3);
    did(root.create(b"null", &device).map(|_| ()));
    did(root.symlink(b"text", b"../else where", &args(0)).map(|_| ()));
    did(find(fs_, "new").set_xattr(b"user.a", b"value", 0));
    let owner = SetAttr {
        uid: Some(1234),
        gid: Some(99),
        mode: Some(0o4711),
        ..SetAttr::default()
    };
    did(find(fs_, "k").set_attr(&owner));
    put(fs_, "d/sub/x", b"changed below");
    did(find(fs_, "d/sub").unlink(b"y", false));
    did(root.rename(b"d", &find(fs_, "e"), b"moved", 0));
    did(find(fs_, "g").unlink(b"h", false));
    did(root.unlink(b"g", true));
    did(root.create(b"g", &args(libc::S_IFDIR | 0o711)).map(|_| ()));
    did(find(fs_, "g").create(b"n", &regular).map(|_| ()));
    did(root.rename(b"new", &find(fs_, "g"), b"n", libc::RENAME_EXCHANGE));
    did(root.rename(b"l", &root, b"l2", libc::RENAME_WHITEOUT));
    did(find(fs_, "e/moved/sub").create(b"inner", &regular).map(|_| ()));
    let sparse = SetAttr {
        size: Some(1 << 32),
        ..SetAttr::default()
    };
    did(find(fs_, "e/moved/sub/inner").set_attr(&sparse));
    did(root.unlink(b"k2", false));
}

fn paths(fs_: &MemFs) -> Vec<(Vec<u8>, bool, bool, bool)> {
    let changes = fs_.changes().unwrap().into_iter();
    changes
        .map(|change| {
            (
                change.path,
                change.after.is_some(),
                change.rewritten,
                change.opaque,
            )
        })
        .collect()
}

#[test]
fn everything_is_there_again() {
    let (host, upper) = (below(), TempDir::new());
    let fs_ = on_disk(host.path(), upper.path());
    change(&fs_, &mut || {});
    // Neither of these has a name that leads to it again.
    fs_.root().create(b"gone", &args(libc::S_IFREG)).unwrap();
    let unlinked = open(&find(&fs_, "gone"), OpenFlags::RDWR).unwrap();
    write_at(&unlinked, 0, b"gone").unwrap();
    fs_.root().unlink(b"gone", false).unwrap();
    let unnamed = fs_.root().create_unnamed(&args(libc::S_IFREG)).unwrap();
    write_at(&open(&unnamed, OpenFlags::RDWR).unwrap(), 0, b"gone").unwrap();
    let (before, changed, used) = (seen(&fs_.root()), paths(&fs_), fs_.statfs().unwrap());
    drop((unlinked, unnamed));
    fs_.settle().unwrap();
    let fs_ = reopen(fs_, host.path(), upper.path());
    assert_eq!(seen(&fs_.root()), before);
    assert_eq!(paths(&fs_), changed);
    assert_eq!(contents(&find(&fs_, "hard")).unwrap(), b"new contents");
    assert_eq!(contents(&find(&fs_, "g/n")).unwrap(), b"new contents");
    assert_eq!(
        find(&fs_, "hard").metadata().unwrap().ino,
        find(&fs_, "g/n").metadata().unwrap().ino
    );
    assert_eq!(contents(&find(&fs_, "e/moved/sub/x")).unwrap(), b"changed below");
    assert_eq!(find(&fs_, "g/n").get_xattr(b"user.a").unwrap(), b"value");
    let sparse = find(&fs_, "e/moved/sub/inner").metadata().unwrap();
    assert_eq!((sparse.size, sparse.blocks), (1 << 32, 0));
    assert!(fs_.statfs().unwrap().bfree >= used.bfree);
    // Three files have contents: what is gone has none.
    assert_eq!(fs::read_dir(upper.path().join("data")).unwrap().count(), 3);
    // What it writes then is there the next time, and what it removes is not.
    put(&fs_, "k", b"again");
    fs_.root().unlink(b"hard", false).unwrap();
    find(&fs_, "g").unlink(b"n", false).unwrap();
    let before = seen(&fs_.root());
    let fs_ = reopen(fs_, host.path(), upper.path());
    assert_eq!(
        seen(&fs_.root()).keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );
    assert_eq!(contents(&find(&fs_, "k")).unwrap(), b"again");
    assert_eq!(fs::read_dir(upper.path().join("data")).unwrap().count(), 3);
}

/// What a kill at this moment leaves, opened by another guest.
fn after_a_kill(below: &Path, upper: &Path) -> (Arc<MemFs>, TempDir) {
    let copy = TempDir::new();
    fs::create_dir(copy.path().join("data")).unwrap();
    fs::copy(upper.join("journal"), copy.path().join("journal")).unwrap();
    for entry in fs::read_dir(upper.join("data")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join("data").join(entry.file_name())).unwrap();
    }
    (on_disk(below, copy.path()), copy)
}

#[test]
fn a_kill_loses_nothing_that_was_written() {
    let (host, upper) = (below(), TempDir::new());
    let fs_ = on_disk(host.path(), upper.path());
    fs_.root().create(b"new", &args(libc::S_IFREG | 0o600)).unwrap();
    fs_.root().create(b"space", &args(libc::S_IFREG | 0o600)).unwrap();
    // All of them stay open.
    let files = ["new", "e/f", "k", "space"].map(|path| open(&find(&fs_, path), OpenFlags::RDWR).unwrap());
    write_at(&files[0], 0, b"written").unwrap();
    write_at(&files[1], 0, b"W").unwrap();
    write_at(&files[2], 1, b"ey").unwrap();
    plain(files[3].ops.allocate(&files[3], 0, 0, 4096).map(drop)).unwrap();
    let (killed, _copy) = after_a_kill(host.path(), upper.path());
    assert_eq!(contents(&find(&killed, "new")).unwrap(), b"written");
    assert_eq!(contents(&find(&killed, "e/f")).unwrap(), b"W/f");
    assert_eq!(contents(&find(&killed, "k2")).unwrap(), b"key");
    assert_eq!(find(&killed, "space").metadata().unwrap().size, 4096);
}

#[test]
fn what_the_disk_did_not_take_is_told_the_next_time() {
    let (host, upper) = (below(), TempDir::new());
    let fs_ = on_disk(host.path(), upper.path());
    change(&fs_, &mut || {});
    let disk = fs_.tree.disk.as_ref().unwrap();
    let inode = fs_.root();
    let any: &dyn std::any::Any = &*inode;
    let root = any.downcast_ref::<super::Node>().unwrap();
    // None of these is told at once.
    for name in [b"hard".as_slice(), b"text", b"fifo"] {
        super::directory::remove(root, name, false).unwrap();
        let mut state = root.change();
        state.mode ^= 0o1000;
        drop(state);
        let untold = fs_.tree.collect(disk);
        assert!(untold.frames.iter().any(|frame| !frame.is_empty()));
        untold.put_back(disk);
        let pending = disk.pending.lock();
        assert_eq!(
            pending.dirty.iter().filter(|node| node.ino == root.ino).count(),
            1
        );
    }
    drop(inode);
    let before = seen(&fs_.root());
    fs_.settle().unwrap();
    let fs_ = reopen(fs_, host.path(), upper.path());
    assert_eq!(seen(&fs_.root()), before);
}

#[test]
fn other_files_are_left_alone() {
    let (host, upper) = (below(), TempDir::new());
    let fs_ = on_disk(host.path(), upper.path());
    put(&fs_, "k", b"again");
    let foreign = ["1", "0003", "04503599627370497", "notes.txt", "+4503599627370599"];
    for name in foreign {
        fs::write(upper.path().join("data").join(name), name).unwrap();
    }
    drop(reopen(fs_, host.path(), upper.path()));
    for name in foreign {
        assert_eq!(
            fs::read_to_string(upper.path().join("data").join(name)).unwrap(),
            name
        );
    }
    fs::remove_file(upper.path().join("journal")).unwrap();
    let again = UpperOptions {
        dir: upper.path().to_owned(),
        lower: "test".into(),
        since: Timestamp::default(),
    };
    let opened = MemFs::overlay_on_disk(lower(host.path()).root(), options(), &again);
    assert!(matches!(opened, Err(UpperError::Foreign)));
    assert_eq!(
        fs::read_dir(upper.path().join("data")).unwrap().count(),
        foreign.len() + 1
    );
}

#[test]
fn an_upper_is_for_one_guest_and_one_lower_tree() {
    let (host, upper) = (below(), TempDir::new());
    let opened = |dir: &Path, lower_id: &str| {
        let upper = UpperOptions {
            dir: dir.to_owned(),
            lower: lower_id.into(),
            since: Timestamp::default(),
        };
        MemFs::overlay_on_disk(lower(host.path()).root(), options(), &upper)
    };
    let fs_ = opened(upper.path(), "one").unwrap();
    assert!(matches!(opened(upper.path(), "one"), Err(UpperError::Busy)));
    drop(fs_);
    assert!(matches!(
        opened(upper.path(), "other"),
        Err(UpperError::OtherLower(..))
    ));
    assert!(matches!(opened(host.path(), "one"), Err(UpperError::Foreign)));
    assert_eq!(
        names(&lower(host.path()).root()).len(),
        6,
        "nothing is made there"
    );
    let fs_ = opened(upper.path(), "one").unwrap();
    put(&fs_, "e/f", b"changed");
    drop(fs_);
    fs::remove_file(host.path().join("e/f")).unwrap();
    assert!(matches!(opened(upper.path(), "one"), Err(UpperError::Lost(path)) if path == "e/f"));
}

/// Wherever the journal ends, what is seen is what was seen after one of the changes.
#[test]
fn a_torn_journal_is_an_earlier_one() {
    let (host, upper) = (below(), TempDir::new());
    let fs_ = on_disk(host.path(), upper.path());
    let journal = upper.path().join("journal");
    let len = || fs::metadata(&journal).unwrap().len();
    let states = std::cell::RefCell::new(vec![(len(), seen(&fs_.root()))]);
    change(&fs_, &mut || states.borrow_mut().push((len(), seen(&fs_.root()))));
    drop(fs_);
    let whole = fs::read(&journal).unwrap();
    let states = states.into_inner();
    assert!(
        states.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "each change is told at once"
    );
    let step = whole.len() / 150 + 1;
    for cut in (states[0].0 as usize..whole.len()).step_by(step) {
        let mut torn = whole[..cut].to_vec();
        // What came behind may have been written, and this not.
        torn.resize(cut + cut % 3 * 20, 0);
        fs::write(&journal, torn).unwrap();
        let fs_ = on_disk(host.path(), upper.path());
        let now = seen(&fs_.root());
        let same = states.iter().any(|(_, state)| state.keys().eq(now.keys()));
        assert!(same, "cut at {cut}: {now:?}");
    }
}

#[test]
fn what_was_on_the_disk_is_not_cut_off() {
    let (host, upper) = (below(), TempDir::new());
    let fs_ = on_disk(host.path(), upper.path());
    change(&fs_, &mut || {});
    fs_.sync().unwrap();
    let end = fs::metadata(upper.path().join("journal")).unwrap().len();
    change_more(&fs_);
    drop(fs_);
    let file = File::options()
        .write(true)
        .open(upper.path().join("journal"))
        .unwrap();
    file.write_all_at(b"xxxx", end - 10).unwrap();
    let upper = UpperOptions {
        dir: upper.path().to_owned(),
        lower: "test".into(),
        since: Timestamp::default(),
    };
    let opened = MemFs::overlay_on_disk(lower(host.path()).root(), options(), &upper);
    assert!(matches!(opened, Err(UpperError::Damaged(_))));
}

fn change_more(fs_: &MemFs) {
    fs_.root().create(b"one more", &args(libc::S_IFREG)).unwrap();
}

#[test]
fn a_long_journal_is_written_anew() {
    let (host, upper) = (below(), TempDir::new());
    let fs_ = on_disk(host.path(), upper.path());
    change(&fs_, &mut || {});
    let file = find(&fs_, "k");
    file.set_xattr(b"user.large", &[7; 60_000], 0).unwrap();
    for mode in 0..700 {
        let wanted = SetAttr {
            mode: Some(mode % 0o1000),
            ..SetAttr::default()
        };
        file.set_attr(&wanted).unwrap();
    }
    drop(file);
    let len = fs::metadata(upper.path().join("journal")).unwrap().len();
    assert!(len < 30 << 20, "{len}");
    let before = seen(&fs_.root());
    let fs_ = reopen(fs_, host.path(), upper.path());
    assert_eq!(seen(&fs_.root()), before);
}

/// Everything that can be done with a tree, whatever it is.
fn use_all(fs_: &MemFs) {
    let paths = seen(&fs_.root());
    fs_.changes().unwrap();
    for path in paths.keys().filter(|path| !path.is_empty()).rev() {
        let path = path.trim_start_matches('/');
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = dir
            .split('/')
            .filter(|name| !name.is_empty())
            .try_fold(fs_.root(), |at, name| at.lookup(name.as_bytes()));
        let Ok(dir) = dir else { continue };
        let Ok(file) = dir.lookup(name.as_bytes()) else {
            continue;
        };
        // Each may be refused.
        let _ = contents(&file);
        let _ = file.set_attr(&SetAttr {
            size: Some(3),
            ..SetAttr::default()
        });
        let _ = dir.rename(name.as_bytes(), &fs_.root(), b"renamed", 0);
        let _ = fs_
            .root()
            .unlink(b"renamed", file.file_type() == FileType::Directory);
    }
    fs_.settle().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes that were changed are seen by the sum; records that were changed, sum included, by what they say.
    #[test]
    fn hostile_journals_are_refused_or_make_sense(
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        summed in any::<bool>(),
    ) {
        let (host, upper) = (below(), TempDir::new());
        let fs_ = on_disk(host.path(), upper.path());
        change(&fs_, &mut || {});
        let mut records = Vec::new();
        for record in fs_.tree.snapshot() {
            record.encode(&mut records);
        }
        drop(fs_);
        let path = upper.path().join("journal");
        if summed {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            for (at, byte) in &hits {
                let at = at.index(records.len());
                records[at] = *byte;
            }
            file.set_len(0).unwrap();
            let mut journal = Journal::create(file).unwrap();
            let mut first = Vec::new();
            Record::Header(super::Header { lower: b"test".to_vec(), since: Timestamp::default() }).encode(&mut first);
            journal.append(&first).unwrap();
            journal.append(&records).unwrap();
        } else {
            let mut bytes = fs::read(&path).unwrap();
            for (at, byte) in &hits {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            fs::write(&path, bytes).unwrap();
        }
        let upper = UpperOptions { dir: upper.path().to_owned(), lower: "test".into(), since: Timestamp::default() };
        if let Ok(fs_) = MemFs::overlay_on_disk(lower(host.path()).root(), options(), &upper) {
            use_all(&fs_);
        }
    }
}

#[test]
fn directories_in_themselves_are_refused() {
    let (host, upper) = (below(), TempDir::new());
    let fs_ = on_disk(host.path(), upper.path());
    let a = fs_.root().create(b"a", &args(libc::S_IFDIR | 0o755)).unwrap();
    a.create(b"b", &args(libc::S_IFDIR | 0o755)).unwrap();
    let mut records = fs_.tree.snapshot();
    let id = |name: &[u8], records: &[Record]| {
        let found = records.iter().find_map(|record| match record {
            Record::Name {
                name: found, node, ..
            } if **found == *name => *node,
            _ => None,
        });
        found.unwrap()
    };
    drop(a);
    let (a, b) = (id(b"a", &records), id(b"b", &records));
    records.push(Record::Unname {
        directory: ROOT,
        name: b"a"[..].into(),
    });
    records.push(Record::Name {
        directory: b,
        name: b"a"[..].into(),
        node: Some(a),
    });
    drop(fs_);
    let dir = super::openat(
        super::CWD,
        upper.path(),
        super::OFlags::RDONLY,
        super::Mode::empty(),
    )
    .unwrap();
    let header = super::Header {
        lower: b"test".to_vec(),
        since: Timestamp::default(),
    };
    super::write_journal(&dir, &header, records.into_iter()).unwrap();
    let upper = UpperOptions {
        dir: upper.path().to_owned(),
        lower: "test".into(),
        since: Timestamp::default(),
    };
    let opened = MemFs::overlay_on_disk(lower(host.path()).root(), options(), &upper);
    assert!(matches!(opened, Err(UpperError::Nonsense(_))));
}
