//! Behaviour of a tree in memory, alone and upon a host directory.

use std::fs;

use super::MemFs;
use super::testing::{TempDir, args, contents, names, open, options, overlay, plain, read_at, write_at};
use crate::kernel::fs::{FileSystem, FileType, Link, MapRequest, OpenFlags, SetAttr};
use crate::kernel::stop::Errno;

fn size(size: u64) -> SetAttr {
    SetAttr {
        size: Some(size),
        ..SetAttr::default()
    }
}

#[test]
fn changes_stay_above_the_lower_tree() {
    let host = TempDir::new();
    fs::write(host.path().join("a"), "lower").unwrap();
    fs::create_dir(host.path().join("d")).unwrap();
    fs::write(host.path().join("d/x"), "x").unwrap();
    let fs_ = overlay(host.path());
    let root = fs_.root();
    let a = root.lookup(b"a").unwrap();
    let ino = a.metadata().unwrap().ino;
    let reader = open(&a, OpenFlags::empty()).unwrap();
    assert_eq!(read_at(&reader, 0, 99).unwrap(), b"lower");
    let writer = open(&a, OpenFlags::RDWR).unwrap();
    assert_eq!(write_at(&writer, 5, b" and upper").unwrap(), 10);
    assert_eq!(read_at(&reader, 0, 99).unwrap(), b"lower and upper");
    drop((a, reader, writer));
    // Changed nodes are kept although nobody uses them.
    let a = root.lookup(b"a").unwrap();
    assert_eq!(contents(&a).unwrap(), b"lower and upper");
    assert_eq!(a.metadata().unwrap().ino, ino);
    root.lookup(b"d").unwrap().unlink(b"x", false).unwrap();
    assert_eq!(root.lookup(b"d").unwrap().lookup(b"x").err(), Some(Errno::ENOENT));
    root.rename(b"d", &root, b"e", 0).unwrap();
    assert_eq!(names(&root), ["a", "e"]);
    root.unlink(b"e", true).unwrap();
    root.unlink(b"a", false).unwrap();
    assert_eq!(names(&root), [""; 0]);
    root.create(b"a", &args(libc::S_IFDIR | 0o755)).unwrap();
    assert_eq!(names(&root.lookup(b"a").unwrap()), [""; 0]);
    assert_eq!(fs::read(host.path().join("a")).unwrap(), b"lower");
    assert_eq!(fs::read(host.path().join("d/x")).unwrap(), b"x");
}

#[test]
fn moved_lower_directories_keep_their_contents() {
    let host = TempDir::new();
    fs::create_dir_all(host.path().join("d/sub")).unwrap();
    fs::write(host.path().join("d/sub/x"), "x").unwrap();
    fs::create_dir(host.path().join("e")).unwrap();
    let fs_ = overlay(host.path());
    let root = fs_.root();
    let e = root.lookup(b"e").unwrap();
    root.rename(b"d", &e, b"d", 0).unwrap();
    let d = e.lookup(b"d").unwrap();
    let sub = d.lookup(b"sub").unwrap();
    assert_eq!(contents(&sub.lookup(b"x").unwrap()).unwrap(), b"x");
    assert_eq!(e.rename(b"d", &sub, b"d", 0), Err(Errno::EINVAL));
    assert_eq!(root.rename(b"e", &d, b"e", 0), Err(Errno::EINVAL));
    assert_eq!(root.unlink(b"e", true), Err(Errno::ENOTEMPTY));
    assert_eq!(e.metadata().unwrap().nlink, 3);
    assert_eq!(root.metadata().unwrap().nlink, 3);
}

#[test]
fn hard_links_of_the_lower_tree_are_one_file() {
    let host = TempDir::new();
    fs::write(host.path().join("a"), "one").unwrap();
    fs::hard_link(host.path().join("a"), host.path().join("b")).unwrap();
    let fs_ = overlay(host.path());
    let root = fs_.root();
    let a = root.lookup(b"a").unwrap();
    write_at(&open(&a, OpenFlags::RDWR).unwrap(), 0, b"two").unwrap();
    drop(a);
    let b = root.lookup(b"b").unwrap();
    assert_eq!(contents(&b).unwrap(), b"two");
    root.unlink(b"a", false).unwrap();
    assert_eq!(b.metadata().unwrap().nlink, 1);
    assert_eq!(contents(&root.lookup(b"b").unwrap()).unwrap(), b"two");
}

#[test]
fn large_files_are_copied_up_whole_and_stay_sparse() {
    let host = TempDir::new();
    let path = host.path().join("big");
    let file = fs::File::create(&path).unwrap();
    file.set_len(100 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", (100 << 20) - 3).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 40 << 10], 0).unwrap();
    let fs_ = overlay(host.path());
    let big = fs_.root().lookup(b"big").unwrap();
    let file = open(&big, OpenFlags::RDWR).unwrap();
    write_at(&file, 100, b"new").unwrap();
    assert_eq!(read_at(&file, 99, 5).unwrap(), b"\x07new\x07");
    assert_eq!(read_at(&file, (100 << 20) - 4, 9).unwrap(), b"\0end");
    let meta = big.metadata().unwrap();
    assert_eq!(meta.size, 100 << 20);
    assert!(meta.blocks < 1000, "{}", meta.blocks);
    big.set_attr(&size(1 << 20)).unwrap();
    assert_eq!(big.metadata().unwrap().size, 1 << 20);
}

#[test]
fn limits_are_enforced_and_given_back() {
    let mut limited = options().apply(b"size=1m,nr_inodes=4").unwrap();
    limited.dev = 9;
    let fs_ = MemFs::tmpfs(limited);
    let root = fs_.root();
    let file = root.create(b"f", &args(libc::S_IFREG | 0o644)).unwrap();
    let open_file = open(&file, OpenFlags::RDWR).unwrap();
    assert_eq!(write_at(&open_file, 0, &vec![1; 2 << 20]).unwrap(), 1 << 20);
    assert_eq!(write_at(&open_file, 1 << 20, b"x"), Err(Errno::ENOSPC));
    assert_eq!(write_at(&open_file, 5, b"over").unwrap(), 4);
    assert_eq!(fs_.statfs().unwrap().bfree, 0);
    file.set_attr(&size(4096)).unwrap();
    assert_eq!(fs_.statfs().unwrap().bfree, 255);
    root.create(b"g", &args(libc::S_IFREG)).unwrap();
    root.create(b"h", &args(libc::S_IFREG)).unwrap();
    let full = root.create(b"i", &args(libc::S_IFREG)).err();
    assert_eq!(full, Some(Errno::ENOSPC));
    root.unlink(b"f", false).unwrap();
    assert_eq!(fs_.statfs().unwrap().bfree, 255);
    drop((file, open_file));
    assert_eq!(fs_.statfs().unwrap().bfree, 256);
    root.create(b"i", &args(libc::S_IFREG)).unwrap();
}

/// What is kept in the supervisor's own memory counts too: names, texts of links, extended attributes.
#[test]
fn small_things_without_end_are_refused() {
    let fs_ = MemFs::tmpfs(options().apply(b"size=1m,nr_inodes=100").unwrap());
    let root = fs_.root();
    let before = fs_.statfs().unwrap();
    let file = root.create(b"f", &args(libc::S_IFREG | 0o644)).unwrap();
    let name = |i: usize| i.to_string().into_bytes();
    let linked = (0..).take_while(|&i| root.link(&name(i), &file).is_ok()).count();
    assert_eq!(linked, 98);
    assert_eq!(root.link(b"one more", &file), Err(Errno::ENOSPC));
    for i in 0..linked {
        root.unlink(&name(i), false).unwrap();
    }
    let attribute = |i: usize| format!("user.{i}").into_bytes();
    let set = |i: usize| file.set_xattr(&attribute(i), &[0; 60_000], 0);
    assert_eq!((0..9).take_while(|&i| set(i).is_ok()).count(), 4);
    let text = |i: usize| root.symlink(&name(i), &[b'x'; 4000], &args(0));
    assert!((0..90).all(|i| text(i).is_ok()));
    for i in 0..90 {
        root.unlink(&name(i), false).unwrap();
    }
    root.unlink(b"f", false).unwrap();
    drop(file);
    let after = fs_.statfs().unwrap();
    assert_eq!((after.bfree, after.ffree), (before.bfree, before.ffree));
}

#[test]
fn positions_survive_removal() {
    let host = TempDir::new();
    for i in 0..50 {
        fs::write(host.path().join(format!("l{i:02}")), "").unwrap();
    }
    let fs_ = overlay(host.path());
    let root = fs_.root();
    for i in 0..50 {
        let name = format!("o{i:02}");
        root.create(name.as_bytes(), &args(libc::S_IFREG)).unwrap();
    }
    let file = open(&root, OpenFlags::DIRECTORY).unwrap();
    let mut seen = Vec::new();
    let mut pos = 0;
    loop {
        let mut batch = Vec::new();
        let mut emit = |entry: crate::kernel::fs::DirEntry| {
            batch.push(entry);
            batch.len() < 3
        };
        plain(file.ops.read_dir(&file, pos, &mut emit)).unwrap();
        let Some(last) = batch.last() else { break };
        pos = last.next;
        for entry in batch {
            if entry.kind == Some(FileType::Regular) {
                root.unlink(&entry.name, false).unwrap();
                seen.push(entry.name);
            }
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 100);
    assert_eq!(names(&root), [""; 0]);
}

#[test]
fn mappings_and_calls_see_the_same_bytes() {
    let fs_ = MemFs::tmpfs(options());
    let file = fs_.root().create(b"f", &args(libc::S_IFREG | 0o600)).unwrap();
    let open_file = open(&file, OpenFlags::RDWR).unwrap();
    write_at(&open_file, 0, b"hello").unwrap();
    let request = |shared, write| MapRequest {
        offset: 0,
        len: 4096,
        shared,
        write,
    };
    let host = plain(open_file.ops.map(&open_file, &request(true, true))).unwrap();
    rustix::io::pwrite(&*host, b"J", 0).unwrap();
    assert_eq!(read_at(&open_file, 0, 9).unwrap(), b"Jello");
    for shared in [true, false] {
        let read_only = plain(open_file.ops.map(&open_file, &request(shared, false))).unwrap();
        assert_eq!(read_only.key(), host.key());
        assert!(rustix::io::pwrite(&*read_only, b"K", 0).is_err());
    }
    file.set_attr(&size(2)).unwrap();
    assert_eq!(read_at(&open_file, 0, 9).unwrap(), b"Je");
}

#[test]
fn deep_trees_are_dropped_without_deep_recursion() {
    let fs_ = MemFs::tmpfs(options());
    let mut at = fs_.root();
    for _ in 0..50_000 {
        at = at.create(b"d", &args(libc::S_IFDIR | 0o755)).unwrap();
    }
    drop(at);
    drop(fs_);
}

#[test]
fn links_are_text() {
    let fs_ = MemFs::tmpfs(options());
    let link = fs_.root().symlink(b"l", b"../x", &args(0)).unwrap();
    let Ok(Link::Text(text)) = link.read_link(None) else {
        panic!("no text")
    };
    assert_eq!(text, b"../x");
    assert_eq!(link.metadata().unwrap().size, 4);
}

/// Changes as text: `+` added, `-` removed, `*` perhaps changed, `!` written; `o` behind it for an opaque directory.
fn changes(fs_: &MemFs) -> Vec<String> {
    let line = |change: super::Change| {
        let mark = match (&change.before, &change.after, change.rewritten) {
            (None, ..) => '+',
            (_, None, _) => '-',
            (.., true) => '!',
            _ => '*',
        };
        let opaque = if change.opaque { " o" } else { "" };
        format!("{mark}{}{opaque}", String::from_utf8(change.path).unwrap())
    };
    fs_.changes().unwrap().into_iter().map(line).collect()
}

#[test]
fn changes_are_listed_by_path() {
    let host = TempDir::new();
    for name in ["d/sub/x", "d/sub/y", "e/f", "g/h", "k"] {
        let path = host.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
    let fs_ = overlay(host.path());
    let root = fs_.root();
    let find = |path: &str| {
        path.split('/')
            .fold(root.clone(), |at, name| at.lookup(name.as_bytes()).unwrap())
    };
    assert_eq!(changes(&fs_), [""; 0]);
    // Nobody but the list of changes knows of this one when its users are gone.
    write_at(&open(&find("d/sub/x"), OpenFlags::RDWR).unwrap(), 0, b"new").unwrap();
    assert_eq!(changes(&fs_), ["!d/sub/x"]);
    find("d/sub").unlink(b"y", false).unwrap();
    find("k")
        .set_attr(&SetAttr {
            uid: Some(7),
            ..SetAttr::default()
        })
        .unwrap();
    assert_eq!(changes(&fs_), ["*d/sub", "!d/sub/x", "-d/sub/y", "*k"]);
    // A directory that moved is gone from its place, and new where it is, with all that is in it.
    root.rename(b"d", &find("e"), b"moved", 0).unwrap();
    assert_eq!(
        changes(&fs_),
        [
            "*",
            "-d",
            "*e",
            "+e/moved",
            "+e/moved/sub",
            "+e/moved/sub/x",
            "*k"
        ]
    );
    // One that was removed and made again shows nothing of the old one.
    find("g").unlink(b"h", false).unwrap();
    root.unlink(b"g", true).unwrap();
    let g = root.create(b"g", &args(libc::S_IFDIR | 0o755)).unwrap();
    g.create(b"n", &args(libc::S_IFREG | 0o644)).unwrap();
    let listed = changes(&fs_);
    assert_eq!(listed[6..], ["!g o", "-g/h", "+g/n", "*k"]);
}
