//! Each format as the usual tools make it, whole and damaged in every way that a seed leads to.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::*;
use crate::kernel::fs::memfs::testing::{TempDir, open as open_file, plain, read_at};
use crate::kernel::fs::{File, Inode, Link, OpenFlags};
use crate::testing::Random;

impl Medium for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, buf: &mut [u8], at: u64) -> Result<(), Errno> {
        let start = usize::try_from(at).map_err(|_| Errno::EIO)?;
        let end = start.checked_add(buf.len()).ok_or(Errno::EIO)?;
        buf.copy_from_slice(self.get(start..end).ok_or(Errno::EIO)?);
        Ok(())
    }
}

/// A directory with a little of everything that an unprivileged user can make.
fn fill(top: &Path) {
    let mut random = Random(1);
    let some: Vec<u8> = (0..300_000).map(|_| random.index(256) as u8).collect();
    let words: Vec<u8> = (0..60_000u32)
        .flat_map(|n| format!("line {}\n", n * n % 977).into_bytes())
        .collect();
    fs::create_dir_all(top.join("d/deep/er")).unwrap();
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("small", b"contents\n"),
        ("d/random", &some),
        ("d/deep/words", &words),
        ("d/tail", &words[..4096 * 3 + 77]),
        ("d/block", &words[..8192]),
    ] {
        fs::write(top.join(name), bytes).unwrap();
    }
    fs::hard_link(top.join("small"), top.join("d/deep/hard")).unwrap();
    symlink("d/deep/words", top.join("link")).unwrap();
    symlink("x".repeat(200), top.join("d/long")).unwrap();
    fs::set_permissions(top.join("small"), fs::Permissions::from_mode(0o4750)).unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.write_all_at(b"begin", 0).unwrap();
    sparse.write_all_at(b"middle", 3 << 20).unwrap();
    // With data at its end: mke2fs forgets a hole there.
    sparse.write_all_at(b"end", (7 << 20) - 3).unwrap();
    fs::create_dir(top.join("many")).unwrap();
    for n in 0..700 {
        fs::write(
            top.join(format!("many/file-with-a-longer-name-{n}")),
            n.to_string(),
        )
        .unwrap();
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    fs::File::open(top.join("small"))
        .unwrap()
        .set_modified(time)
        .unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    // Where the file system of temporary files has no attributes there are none to compare.
    let _ = rustix::fs::setxattr(top.join("d/tail"), "user.short", b"value", flags);
    let _ = rustix::fs::setxattr(top.join("d/tail"), "user.long", &[7; 900], flags);
    let _ = rustix::fs::setxattr(top.join("d/block"), "user.long", &[7; 900], flags);
}

/// How each kind is made of a directory: the program, its arguments, the files in the places of `IN` and `OUT`.
const WAYS: [&str; 14] = [
    "mksquashfs IN OUT -noappend -quiet -no-progress",
    "mksquashfs IN OUT -noappend -quiet -no-progress -comp xz -b 64K",
    "mksquashfs IN OUT -noappend -quiet -no-progress -comp zstd -b 1M",
    "mksquashfs IN OUT -noappend -quiet -no-progress -comp lz4 -no-fragments",
    "mksquashfs IN OUT -noappend -quiet -no-progress -noI -noD -noF -noX",
    "mkfs.erofs OUT IN",
    "mkfs.erofs -E force-inode-compact,force-inode-blockmap OUT IN",
    "mkfs.erofs --chunksize=4096 OUT IN",
    "mkfs.erofs -zlz4hc OUT IN",
    "mkfs.erofs -zlz4hc -C65536 OUT IN",
    "mkfs.erofs -zlz4 -Elegacy-compress OUT IN",
    "mkfs.ext4 -q -F -E root_owner -b 1024 -O inline_data -I 256 -d IN OUT 24m",
    "mkfs.ext4 -q -F -E root_owner -d IN OUT 24m",
    "mkfs.ext4 -q -F -E root_owner -t ext2 -d IN OUT 24m",
];

fn make(way: &str, top: &Path, out: &Path) -> Vec<u8> {
    let _ = fs::remove_file(out);
    let words: Vec<String> = way
        .split(' ')
        .map(|word| match word {
            "IN" => top.display().to_string(),
            "OUT" => out.display().to_string(),
            word => word.to_owned(),
        })
        .collect();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made = Command::new(&words[0])
        .args(&words[1..])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{way}: {made:?}");
    fs::read(out).unwrap()
}

fn show(bytes: Vec<u8>) -> Result<Arc<dyn Inode>, BadImage> {
    let kind = recognise(&bytes)?.unwrap_or(Kind::Squashfs);
    Ok(open(Arc::new(bytes), kind, 9, true)?.root())
}

/// The names in a directory but `.` and `..`.
fn names(inode: &Arc<dyn Inode>) -> Vec<Vec<u8>> {
    let file = open_file(inode, OpenFlags::DIRECTORY).unwrap();
    let mut found = Vec::new();
    let mut pos = 0;
    // A few at a time, as getdents64(2) does it.
    loop {
        let before = pos;
        let mut left = 50;
        let each = &mut |entry: super::super::DirEntry| {
            if left == 0 {
                return false;
            }
            left -= 1;
            (pos, _) = (entry.next, found.push(entry.name));
            true
        };
        if plain(file.ops.read_dir(&file, before, each)).is_err() || pos == before {
            break;
        }
    }
    found.retain(|name| name != b"." && name != b"..");
    found
}

fn same(host: &Path, inode: &Arc<dyn Inode>) {
    let st = fs::symlink_metadata(host).unwrap();
    let meta = inode.metadata().unwrap();
    let shown = host.display();
    assert_eq!(
        (meta.mode, meta.uid, meta.gid),
        (st.mode(), st.uid(), st.gid()),
        "{shown}"
    );
    if st.is_dir() {
        let mut found = names(inode);
        found.sort();
        found.retain(|name| name != b"lost+found");
        let mut expected: Vec<_> = fs::read_dir(host)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        expected.sort();
        let expected: Vec<_> = expected
            .iter()
            .map(|name| name.as_encoded_bytes().to_vec())
            .collect();
        assert_eq!(found, expected, "{shown}");
        for name in fs::read_dir(host).unwrap().map(|e| e.unwrap().file_name()) {
            same(&host.join(&name), &inode.lookup(name.as_encoded_bytes()).unwrap());
        }
        assert_eq!(inode.lookup(b"not there").err(), Some(Errno::ENOENT));
        return;
    }
    assert_eq!(
        (meta.size, u64::from(meta.nlink), meta.mtime.sec),
        (st.size(), st.nlink(), st.mtime()),
        "{shown}"
    );
    if st.is_symlink() {
        let Link::Text(text) = inode.read_link(None).unwrap() else {
            panic!("{shown}")
        };
        assert_eq!(text, fs::read_link(host).unwrap().as_os_str().as_encoded_bytes());
        return;
    }
    let bytes = fs::read(host).unwrap();
    let file = open_file(inode, OpenFlags::empty()).unwrap();
    assert!(read_at(&file, 0, bytes.len() + 1).unwrap() == bytes, "{shown}");
    let middle = bytes.len() / 3;
    let part = &bytes[middle..(middle + 5000).min(bytes.len())];
    assert!(read_at(&file, middle as u64, 5000).unwrap() == part, "{shown}");
    let mut listed = vec![0; 4096];
    let len = rustix::fs::listxattr(host, &mut listed[..]).unwrap_or(0);
    let listed = listed[..len].split(|&byte| byte == 0);
    let mut expected: Vec<_> = listed
        .filter(|name| name.starts_with(b"user."))
        .map(<[u8]>::to_vec)
        .collect();
    let mut found = inode.list_xattr().unwrap();
    expected.sort();
    found.sort();
    assert_eq!(found, expected, "{shown}");
    for name in found {
        let mut value = vec![0; 4096];
        let len = rustix::fs::getxattr(host, &name[..], &mut value[..]).unwrap();
        assert_eq!(inode.get_xattr(&name).unwrap(), value[..len]);
    }
}

#[test]
fn images_show_what_they_were_made_of() {
    let place = TempDir::new();
    let top = place.path().join("top");
    fill(&top);
    for way in WAYS {
        println!("{way}");
        let root = show(make(way, &top, &place.path().join("image"))).unwrap();
        let compact = way.contains("force-inode-compact");
        if compact {
            // Its inodes have one time for all: that of a file made when the image was.
            let inode = root.lookup(b"d").unwrap().lookup(b"random").unwrap();
            let file = open_file(&inode, OpenFlags::empty()).unwrap();
            assert!(read_at(&file, 0, 400_000).unwrap() == fs::read(top.join("d/random")).unwrap());
            continue;
        }
        same(&top, &root);
        let sparse = root.lookup(b"sparse").unwrap();
        let file = open_file(&sparse, OpenFlags::empty()).unwrap();
        let seek = |at, whence| plain(file.ops.seek(&file, at, whence));
        let data = seek(1 << 20, libc::SEEK_DATA);
        assert!(data.is_ok_and(|at| at <= 3 << 20), "{way}: {data:?}");
        if way.starts_with("mksquashfs") || way.contains("ext") {
            let hole = seek(0, libc::SEEK_HOLE).unwrap();
            assert!((5..=1 << 20).contains(&hole), "{way}: {hole}");
        }
        let (small, hard) = (root.lookup(b"small").unwrap(), root.lookup(b"d").unwrap());
        let hard = hard.lookup(b"deep").unwrap().lookup(b"hard").unwrap();
        assert_eq!(small.metadata().unwrap().ino, hard.metadata().unwrap().ino);
    }
}

#[test]
fn devices_and_owners() {
    let place = TempDir::new();
    let (top, out) = (place.path().join("top"), place.path().join("image"));
    fs::create_dir(&top).unwrap();
    let nodes: [&[&str]; 2] = [&["c", "5", "1"], &["b", "259", "70000"]];
    let mut squashfs = make(WAYS[0], &top, &out);
    assert!(show(squashfs).is_ok());
    let mut command = Command::new("mksquashfs");
    command
        .arg(&top)
        .arg(&out)
        .args(["-noappend", "-quiet", "-no-progress"]);
    for (name, node) in ["char", "block"].iter().zip(nodes) {
        command.args([
            "-p",
            &format!("{name} {} 640 1000 70000 {} {}", node[0], node[1], node[2]),
        ]);
    }
    assert!(command.output().unwrap().status.success());
    squashfs = fs::read(&out).unwrap();
    let root = show(squashfs).unwrap();
    let meta = root.lookup(b"block").unwrap().metadata().unwrap();
    assert_eq!(
        (meta.mode, meta.uid, meta.gid),
        (libc::S_IFBLK | 0o640, 1000, 70000)
    );
    assert_eq!(meta.rdev, libc::makedev(259, 70000));
    let meta = root.lookup(b"char").unwrap().metadata().unwrap();
    assert_eq!(
        (meta.mode & libc::S_IFMT, meta.rdev),
        (libc::S_IFCHR, libc::makedev(5, 1))
    );
}

/// Look at everything, but not without end: a damaged directory can have any number of names.
fn visit(root: &Arc<dyn Inode>) {
    let mut left = vec![root.clone()];
    let mut seen = 0;
    while let Some(inode) = left.pop() {
        seen += 1;
        if seen > 300 {
            return;
        }
        let Ok(meta) = inode.metadata() else { continue };
        let _ = (
            inode.list_xattr(),
            inode.read_link(None),
            inode.get_xattr(b"user.short"),
        );
        let Ok(ops) = inode.clone().open(OpenFlags::empty()) else {
            continue;
        };
        let file = File::anonymous(ops, String::new(), inode.clone(), Default::default());
        for at in [0, 4000, meta.size / 2, meta.size.saturating_sub(1), u64::MAX - 5] {
            let mut sink = crate::kernel::user_memory::KernelSink::new(5000);
            let _ = file.ops.read(&file, &mut at.clone(), &mut sink);
            for whence in [libc::SEEK_DATA, libc::SEEK_HOLE, libc::SEEK_END] {
                let _ = file.ops.seek(&file, at.cast_signed(), whence);
            }
        }
        let mut found = Vec::new();
        let _ = file.ops.read_dir(&file, 0, &mut |entry| {
            found.push(entry.name);
            found.len() < 300
        });
        for name in found.iter().filter(|name| *name != b"." && *name != b"..") {
            left.extend(inode.lookup(name));
        }
    }
}

/// Nothing that an image says makes the reader panic, or go on without end.
#[test]
fn damaged_images_do_no_harm() {
    let place = TempDir::new();
    let (top, out) = (place.path().join("top"), place.path().join("image"));
    fs::create_dir_all(top.join("d/e")).unwrap();
    for n in 0..20 {
        fs::write(top.join(format!("d/{n}")), "text ".repeat(n * 300)).unwrap();
    }
    symlink("d/e", top.join("link")).unwrap();
    let _ = rustix::fs::setxattr(
        top.join("d/7"),
        "user.short",
        b"value",
        rustix::fs::XattrFlags::empty(),
    );
    for way in WAYS {
        let whole = make(
            &way.replace("24m", "400k").replace("-b 1024", "-b 1024 -N 64"),
            &top,
            &out,
        );
        // Where the tables are: damage elsewhere is a byte of contents.
        let used: Vec<usize> = (0..whole.len())
            .filter(|&at| whole[at & !63..].iter().take(64).any(|&byte| byte != 0))
            .collect();
        for seed in 0..150 {
            let mut random = Random(seed);
            let mut bytes = whole.clone();
            for _ in 0..=random.index(6) {
                let at = match random.index(3) {
                    0 => used[random.index(used.len().min(1500))],
                    _ => used[random.index(used.len())],
                }
                .min(bytes.len() - 1);
                match random.index(5) {
                    0 => bytes[at] = random.index(256) as u8,
                    1 => bytes[at] ^= 1 << random.index(8),
                    2 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.index(5)],
                    3 => bytes[at..].iter_mut().take(8).for_each(|byte| *byte = 0xff),
                    _ if random.index(4) == 0 => bytes.truncate(at.max(1)),
                    _ => {}
                }
            }
            if let Ok(root) = show(bytes) {
                visit(&root);
            }
        }
    }
}

/// An ext4 of a directory with `a/b`, `d` and an empty `hole`, changed by requests of debugfs(8).
fn changed(requests: &[&str]) -> Arc<dyn Inode> {
    let place = TempDir::new();
    let (top, out) = (place.path().join("top"), place.path().join("image"));
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::create_dir(top.join("d")).unwrap();
    fs::write(top.join("hole"), b"").unwrap();
    let way =
        "mkfs.ext4 -q -F -E root_owner -b 4096 -O ^has_journal,^metadata_csum,^inline_data -d IN OUT 24m";
    make(way, &top, &out);
    for request in requests {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("debugfs");
        command.args(["-w", "-R", request]).arg(&out).env("PATH", path);
        assert!(command.output().unwrap().status.success(), "{request}");
    }
    show(fs::read(&out).unwrap()).unwrap()
}

#[test]
fn sizes_beyond_the_format_are_refused_and_a_hole_is_one_part() {
    let root = changed(&["sif /hole size 0x7ffffffffffff000"]);
    assert_eq!(root.lookup(b"hole").err(), Some(Errno::EIO));
    let most = (1u64 << 32) * 4096;
    let root = changed(&[&format!("sif /hole size {most}")]);
    let file = open_file(&root.lookup(b"hole").unwrap(), OpenFlags::empty()).unwrap();
    let data = plain(file.ops.seek(&file, 0, libc::SEEK_DATA));
    assert_eq!(data, Err(Errno::ENXIO));
    assert_eq!(plain(file.ops.seek(&file, 5, libc::SEEK_HOLE)), Ok(5));
    assert_eq!(read_at(&file, most - 3, 10).unwrap(), [0; 3]);
}

#[test]
fn directories_are_no_larger_than_what_they_are_in() {
    let root = changed(&["sif /d size 0x10000000", "sif /a size 0x100000"]);
    assert_eq!(root.lookup(b"d").err(), Some(Errno::EIO));
    // What is there is found; behind it is a hole.
    let a = root.lookup(b"a").unwrap();
    assert!(a.lookup(b"b").is_ok());
    assert_eq!(a.lookup(b"not there").err(), Some(Errno::EIO));
}

#[test]
fn a_directory_is_in_one_place() {
    let root = changed(&["ln /a /d/a", "ln /a /a/b/up"]);
    let b = root.lookup(b"a").unwrap().lookup(b"b").unwrap();
    assert_eq!(b.lookup(b"up").err(), Some(Errno::EIO));
    let d = root.lookup(b"d").unwrap();
    assert_eq!(d.lookup(b"a").err(), Some(Errno::EIO));
    assert!(root.lookup(b"a").is_ok());
}

#[test]
fn squashfs_is_read_backwards_and_its_holes_are_few_parts() {
    let place = TempDir::new();
    let (top, out) = (place.path().join("top"), place.path().join("image"));
    fs::create_dir(&top).unwrap();
    let mut random = Random(3);
    let some: Vec<u8> = (0..3000 * 4096 + 5)
        .map(|_| b'a' + random.index(4) as u8)
        .collect();
    fs::write(top.join("long"), &some).unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let root = show(make(
        "mksquashfs IN OUT -noappend -quiet -no-progress -b 4K",
        &top,
        &out,
    ))
    .unwrap();
    let file = open_file(&root.lookup(b"long").unwrap(), OpenFlags::empty()).unwrap();
    for number in (0..3000).rev().chain([2999, 1, 1025, 1024, 1023, 0]) {
        let at = number * 4096;
        assert!(
            read_at(&file, at as u64, 4096).unwrap() == some[at..at + 4096],
            "{number}"
        );
    }
    let file = open_file(&root.lookup(b"sparse").unwrap(), OpenFlags::empty()).unwrap();
    assert_eq!(
        plain(file.ops.seek(&file, 4097, libc::SEEK_DATA)),
        Err(Errno::ENXIO)
    );
}
