//! Host directories: nothing outside can be reached, and what the host does meanwhile is borne.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Coherence, HostFs, HostFsOptions};
use crate::kernel::fs::memfs::testing::{
    TempDir, args, contents, lower, names, open, read_at, shared, write_at,
};
use crate::kernel::fs::{File, FileSystem, FileType, Link, OpenFlags, SetAttr};
use crate::kernel::stop::Errno;

fn both(path: &std::path::Path) -> [Arc<HostFs>; 2] {
    [lower(path), shared(path)]
}

#[test]
fn links_are_never_followed() {
    let host = TempDir::new();
    fs::create_dir(host.path().join("d")).unwrap();
    for (name, to) in [
        ("abs", "/etc"),
        ("up", "../../../../etc"),
        ("root", "/"),
        ("self", "."),
    ] {
        symlink(to, host.path().join(name)).unwrap();
        for tree in both(host.path()) {
            let link = tree.root().lookup(name.as_bytes()).unwrap();
            assert_eq!(link.file_type(), FileType::Symlink);
            let Ok(Link::Text(text)) = link.read_link(None) else {
                panic!("no text")
            };
            assert_eq!(text, to.as_bytes());
            assert_eq!(link.lookup(b"passwd").err(), Some(Errno::ENOTDIR));
            assert_eq!(link.clone().open(OpenFlags::empty()).err(), Some(Errno::ENXIO));
        }
    }
}

/// Names that a path walk never passes on must not lead outside either.
#[test]
fn odd_names_lead_nowhere() {
    let host = TempDir::new();
    fs::create_dir(host.path().join("d")).unwrap();
    for tree in both(host.path()) {
        let root = tree.root();
        for name in ["", ".", "..", "/etc", "d/../..", "../..", "/"] {
            let name = name.as_bytes();
            assert!(root.lookup(name).is_err());
            assert!(root.create(name, &args(libc::S_IFDIR)).is_err());
            assert!(root.unlink(name, true).is_err());
            assert!(root.rename(b"d", &root, name, 0).is_err());
        }
        assert_eq!(names(&root), ["d"]);
    }
}

/// The host swaps a directory for a link to elsewhere while the guest looks below it.
#[test]
fn swaps_while_looking_up_do_not_escape() {
    let (host, outside) = (TempDir::new(), TempDir::new());
    fs::write(outside.path().join("secret"), "outside").unwrap();
    fs::create_dir(host.path().join("real")).unwrap();
    fs::write(host.path().join("real/secret"), "inside").unwrap();
    symlink(outside.path(), host.path().join("link")).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = {
        let (stop, path) = (stop.clone(), host.path().to_owned());
        std::thread::spawn(move || {
            use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
            while !stop.load(Ordering::Relaxed) {
                let (a, b) = (path.join("real"), path.join("link"));
                renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        })
    };
    let mut found = 0;
    for _ in 0..3000 {
        for tree in both(host.path()) {
            for name in [&b"real"[..], b"link"] {
                let below = tree.root().lookup(name).and_then(|dir| dir.lookup(b"secret"));
                if let Ok(text) = below.and_then(|file| contents(&file)) {
                    assert_eq!(text, b"inside");
                    found += 1;
                }
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(found > 0);
}

#[test]
fn special_files_are_shown_and_not_opened() {
    let host = TempDir::new();
    nix::unistd::mkfifo(
        &host.path().join("fifo"),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(host.path().join("sock")).unwrap();
    for tree in both(host.path()) {
        for (name, kind) in [(&b"fifo"[..], FileType::Fifo), (b"sock", FileType::Socket)] {
            let inode = tree.root().lookup(name).unwrap();
            assert_eq!(inode.file_type(), kind);
            assert_eq!(inode.metadata().unwrap().file_type(), kind);
            assert_eq!(inode.open(OpenFlags::RDWR).err(), Some(Errno::ENXIO));
        }
    }
}

#[test]
fn a_shared_tree_follows_the_host() {
    let host = TempDir::new();
    let tree = shared(host.path());
    let root = tree.root();
    assert!(!root.cacheable());
    assert_eq!(root.lookup(b"f").err(), Some(Errno::ENOENT));
    fs::write(host.path().join("f"), "one").unwrap();
    let inode = root.lookup(b"f").unwrap();
    let file = open(&inode, OpenFlags::RDWR).unwrap();
    fs::write(host.path().join("f"), "second").unwrap();
    assert_eq!(inode.metadata().unwrap().size, 6);
    assert_eq!(read_at(&file, 0, 99).unwrap(), b"second");
    fs::rename(host.path().join("f"), host.path().join("g")).unwrap();
    assert_eq!(root.lookup(b"f").err(), Some(Errno::ENOENT));
    assert!(Arc::ptr_eq(&root.lookup(b"g").unwrap(), &inode));
    fs::remove_file(host.path().join("g")).unwrap();
    assert_eq!(inode.metadata().unwrap().nlink, 0);
    assert_eq!(write_at(&file, 0, b"S").unwrap(), 1);
    assert_eq!(read_at(&file, 0, 99).unwrap(), b"Second");
}

#[test]
fn changes_reach_the_host() {
    let host = TempDir::new();
    let tree = shared(host.path());
    let root = tree.root();
    // A file that its mode forbids to write is written through the descriptor that made it.
    let made = root.create(b"ro", &args(libc::S_IFREG | 0o444)).unwrap();
    let file = open(&made, OpenFlags::RDWR).unwrap();
    assert_eq!(write_at(&file, 0, b"kept").unwrap(), 4);
    let path = host.path().join("ro");
    assert_eq!(fs::read(&path).unwrap(), b"kept");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
    let change = SetAttr {
        mode: Some(0o4755),
        size: Some(2),
        ..SetAttr::default()
    };
    made.set_attr(&change).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"ke");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o4755);
    match made.set_xattr(b"user.k", b"v", 0) {
        Err(Errno::EOPNOTSUPP) => {}
        set => {
            set.unwrap();
            assert_eq!(made.get_xattr(b"user.k").unwrap(), b"v");
            assert_eq!(made.list_xattr().unwrap(), [b"user.k"]);
            made.remove_xattr(b"user.k").unwrap();
            assert_eq!(made.get_xattr(b"user.k"), Err(Errno::ENODATA));
        }
    }
    match root.create_unnamed(&args(libc::S_IFREG | 0o600)) {
        Err(Errno::EOPNOTSUPP) => {}
        unnamed => {
            let unnamed = unnamed.unwrap();
            assert_eq!(names(&root), ["ro"]);
            root.link(b"named", &unnamed).unwrap();
            assert_eq!(names(&root), ["named", "ro"]);
        }
    }
}

#[test]
fn a_tree_that_is_not_writable_stays_as_it_is() {
    let host = TempDir::new();
    fs::write(host.path().join("f"), "f").unwrap();
    let root = lower(host.path()).root();
    let file = root.lookup(b"f").unwrap();
    let ro = Some(Errno::EROFS);
    assert_eq!(root.create(b"g", &args(libc::S_IFREG)).err(), ro);
    assert_eq!(root.symlink(b"g", b"f", &args(0)).err(), ro);
    assert_eq!(root.link(b"g", &file).err(), ro);
    assert_eq!(root.unlink(b"f", false).err(), ro);
    assert_eq!(root.rename(b"f", &root, b"g", 0).err(), ro);
    assert_eq!(file.set_attr(&SetAttr::default()).err(), ro);
    assert_eq!(file.set_xattr(b"user.k", b"", 0).err(), ro);
    assert_eq!(file.open(OpenFlags::RDWR).err(), ro);
}

/// Far more directories than descriptors are kept; each can still be reached when its descriptor was let go.
#[test]
fn descriptors_of_directories_are_a_cache() {
    let host = TempDir::new();
    let mut path = host.path().to_owned();
    let mut inodes = vec![lower(host.path()).root()];
    for i in 0..200 {
        path.push("d");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("f"), i.to_string()).unwrap();
        let next = inodes.last().unwrap().lookup(b"d").unwrap();
        inodes.push(next);
    }
    let any: &dyn std::any::Any = &*inodes[1];
    let tree = any.downcast_ref::<super::HostInode>().unwrap().tree.clone();
    for (i, dir) in inodes.iter().skip(1).enumerate() {
        tree.directories.clear();
        let file = dir.lookup(b"f").unwrap();
        assert_eq!(contents(&file).unwrap(), i.to_string().as_bytes());
    }
    assert_eq!(names(&inodes[200]), ["f"]);
}

#[test]
fn a_missing_or_wrong_directory_is_an_error() {
    let host = TempDir::new();
    fs::write(host.path().join("f"), "").unwrap();
    let options = HostFsOptions {
        dev: 1,
        coherence: Coherence::Fixed,
        writable: false,
        own_ids: false,
        reproducible: false,
    };
    let open = |name: &str| HostFs::open(&host.path().join(name), options).err();
    assert_eq!(open("f"), Some(Errno::ENOTDIR));
    assert_eq!(open("missing"), Some(Errno::ENOENT));
}

#[test]
fn copies_of_a_tree_are_the_same_when_they_are_to_be() {
    let shown = |order: &[&str]| {
        let host = TempDir::new();
        for name in order {
            fs::write(host.path().join(name), "").unwrap();
        }
        fs::hard_link(host.path().join("b"), host.path().join("link")).unwrap();
        let options = HostFsOptions {
            dev: 1,
            coherence: Coherence::Fixed,
            writable: false,
            own_ids: false,
            reproducible: true,
        };
        let root = HostFs::open(host.path(), options).unwrap().root();
        let ops = root.clone().open(OpenFlags::DIRECTORY).unwrap();
        let file = File::anonymous(ops, String::new(), root.clone(), OpenFlags::DIRECTORY);
        let mut seen = Vec::new();
        let mut from_the_fourth = Vec::new();
        file.ops
            .read_dir(&file, 0, &mut |entry| {
                let name = String::from_utf8(entry.name).unwrap();
                seen.push((name, entry.ino, entry.next));
                true
            })
            .unwrap();
        file.ops
            .read_dir(&file, seen[2].2, &mut |entry| {
                from_the_fourth.push(String::from_utf8(entry.name).unwrap());
                true
            })
            .unwrap();
        assert_eq!(from_the_fourth, ["b", "c", "link"]);
        for (name, ino, _) in &seen[2..] {
            assert_eq!(
                root.lookup(name.as_bytes()).unwrap().metadata().unwrap().ino,
                *ino
            );
        }
        seen
    };
    let first = shown(&["a", "b", "c"]);
    assert_eq!(first, shown(&["c", "b", "a"]));
    let names: Vec<_> = first.iter().map(|entry| entry.0.as_str()).collect();
    assert_eq!(names, [".", "..", "a", "b", "c", "link"]);
    let inos: Vec<_> = first.iter().map(|entry| entry.1).collect();
    assert_eq!(inos, [1, 2, 3, 4, 5, 4]);
}
