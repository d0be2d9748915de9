//! Archives as they should be, and damaged in every way that a seed leads to.

use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, memfd_create};

use super::*;
use crate::kernel::fs::Inode;
use crate::testing::Random;

/// A host file with these contents.
fn window(bytes: &[u8]) -> Window {
    let fd: OwnedFd = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    Window::whole(HostFile::new(file.into()).unwrap()).unwrap()
}

fn header(kind: ::tar::EntryType, size: u64) -> ::tar::Header {
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o640);
    header.set_uid(1000);
    header.set_gid(1001);
    header.set_mtime(1_600_000_000);
    header.set_size(size);
    header
}

/// A little of everything.
fn archive() -> Vec<u8> {
    use ::tar::EntryType;
    let mut builder = ::tar::Builder::new(Vec::new());
    let mut put = |kind, path: &str, data: &[u8]| {
        builder
            .append_data(&mut header(kind, data.len() as u64), path, data)
            .unwrap();
    };
    put(EntryType::Directory, "d/", b"");
    put(EntryType::Regular, "d/file", b"contents");
    put(
        EntryType::Regular,
        &format!("d/{}/{}", "long".repeat(40), "name".repeat(30)),
        b"x",
    );
    put(EntryType::Fifo, "fifo", b"");
    put(EntryType::Regular, "d/.wh.gone", b"");
    let mut device = header(EntryType::Char, 0);
    device.set_device_major(5).unwrap();
    device.set_device_minor(1).unwrap();
    builder.append_data(&mut device, "device", &b""[..]).unwrap();
    builder
        .append_link(&mut header(EntryType::Symlink, 0), "link", "d/file")
        .unwrap();
    builder
        .append_link(&mut header(EntryType::Link, 0), "hard", "d/file")
        .unwrap();
    let records: [(&str, &[u8]); 2] = [("SCHILY.xattr.user.a", b"\n\0="), ("mtime", b"1600000000.25")];
    builder.append_pax_extensions(records).unwrap();
    builder
        .append_data(&mut header(EntryType::Regular, 1), "attributes", &b"a"[..])
        .unwrap();
    // 100 bytes at 4096, and one at the end of 1 MiB, as GNU tar stores sparse files by pax 1.0.
    let map = b"2\n4096\n100\n1048575\n1\n";
    let mut data = map.to_vec();
    data.resize(512, 0);
    data.extend([b's'; 100]);
    data.push(b'e');
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"1048576"),
    ];
    builder.append_pax_extensions(records).unwrap();
    builder
        .append_data(
            &mut header(EntryType::Regular, data.len() as u64),
            "GNUSparseFile.0/sparse",
            &data[..],
        )
        .unwrap();
    builder.into_inner().unwrap()
}

fn image(bytes: &[u8]) -> Result<Image> {
    let window = window(bytes);
    let (tree, blobs) = files(std::slice::from_ref(&window), true, &Cache::none())?;
    Ok(image_of(tree, blobs, window))
}

fn image_of(tree: Arc<Tree>, blobs: Vec<Blob>, window: Window) -> Image {
    Image {
        files: Files::Archives { tree, blobs },
        config: Config::default(),
        parts: Parts::Plain(window),
    }
}

fn root(image: &Image) -> Arc<dyn Inode> {
    image.file_system(7).unwrap().root()
}

#[test]
fn files_are_what_the_archive_says() {
    let root = root(&image(&archive()).unwrap());
    let file = root.lookup(b"d").unwrap().lookup(b"file").unwrap();
    let meta = file.metadata().unwrap();
    assert_eq!(
        (meta.uid, meta.gid, meta.mode & 0o7777, meta.nlink, meta.size),
        (1000, 1001, 0o640, 2, 8)
    );
    assert_eq!(root.lookup(b"hard").unwrap().metadata().unwrap().ino, meta.ino);
    let device = root.lookup(b"device").unwrap().metadata().unwrap();
    assert_eq!(
        (device.mode & libc::S_IFMT, device.rdev),
        (libc::S_IFCHR, libc::makedev(5, 1))
    );
    let with = root.lookup(b"attributes").unwrap();
    assert_eq!(with.get_xattr(b"user.a").unwrap(), b"\n\0=");
    assert_eq!(with.metadata().unwrap().mtime.nsec, 250_000_000);
    let long = root
        .lookup(b"d")
        .unwrap()
        .lookup("long".repeat(40).as_bytes())
        .unwrap();
    assert!(long.lookup("name".repeat(30).as_bytes()).is_ok());
    assert!(root.lookup(b"d").unwrap().lookup(b".wh.gone").is_err());
}

#[test]
fn sparse_files_have_holes() {
    use crate::kernel::fs::memfs::testing::{open, plain, read_at};
    let root = root(&image(&archive()).unwrap());
    let sparse = root.lookup(b"sparse").unwrap();
    let meta = sparse.metadata().unwrap();
    assert_eq!((meta.size, meta.blocks), (1 << 20, 8));
    let file = open(&sparse, crate::kernel::fs::OpenFlags::empty()).unwrap();
    assert_eq!(
        read_at(&file, 4095, 102).unwrap(),
        [&[0][..], &[b's'; 100], &[0]].concat()
    );
    assert_eq!(read_at(&file, (1 << 20) - 2, 9).unwrap(), b"\0e");
    let seek = |at, whence| plain(file.ops.seek(&file, at, whence));
    assert_eq!(seek(0, libc::SEEK_DATA), Ok(4096));
    assert_eq!(seek(4096, libc::SEEK_HOLE), Ok(4196));
    assert_eq!(seek(5000, libc::SEEK_DATA), Ok((1 << 20) - 1));
}

/// Put the right checksums back, so that what is behind them is tried too.
fn mend_sums(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        }
    }
}

/// Look at everything in a tree.
fn visit(root: &Arc<dyn Inode>) {
    let mut left = vec![(root.clone(), 0)];
    while let Some((inode, depth)) = left.pop() {
        let meta = inode.metadata().unwrap();
        let _ = (inode.list_xattr(), inode.read_link(None));
        let Ok(ops) = inode.clone().open(crate::kernel::fs::OpenFlags::empty()) else {
            continue;
        };
        let file = crate::kernel::fs::File::anonymous(ops, String::new(), inode.clone(), Default::default());
        for at in [0, 4000, meta.size.saturating_sub(1), u64::MAX - 5] {
            let mut sink = crate::kernel::user_memory::KernelSink::new(5000);
            let _ = file.ops.read(&file, &mut at.clone(), &mut sink);
            for whence in [libc::SEEK_DATA, libc::SEEK_HOLE, libc::SEEK_END] {
                let _ = file.ops.seek(&file, at.cast_signed(), whence);
            }
        }
        let mut names = Vec::new();
        let _ = file.ops.read_dir(&file, 0, &mut |entry| {
            names.push(entry.name);
            true
        });
        for name in names.iter().filter(|name| *name != b"." && *name != b"..") {
            assert!(depth < 3000);
            left.push((inode.lookup(name).unwrap(), depth + 1));
        }
    }
}

/// Nothing that an archive says makes the reader panic; what it accepts can be walked and read.
#[test]
fn damaged_archives_do_no_harm() {
    let whole = archive();
    for seed in 0..3000 {
        let mut random = Random(seed);
        let mut bytes = whole.clone();
        for _ in 0..=random.index(4) {
            let at = random.index(bytes.len());
            match random.index(4) {
                0 => bytes[at] = random.index(256) as u8,
                1 => bytes[at] ^= 1 << random.index(8),
                2 => bytes[at] = b"0123456789./\0\x80\xff "[random.index(16)],
                _ => bytes.truncate(at.max(1)),
            }
        }
        if seed % 2 == 0 {
            mend_sums(&mut bytes);
        }
        if let Ok(image) = image(&bytes) {
            visit(&root(&image));
        }
    }
}

/// What was written can be read; whatever was damaged is noticed; what somebody made up does no harm.
#[test]
fn indexes_are_checked() {
    let window = window(&archive());
    let sizes = [window.len()];
    let (tree, blobs) = files(std::slice::from_ref(&window), true, &Cache::none()).unwrap();
    let whole = tree.to_bytes();
    let read = Tree::from_bytes(&whole, &sizes).unwrap();
    assert_eq!(format!("{read:?}"), format!("{tree:?}"));
    assert!(
        Tree::from_bytes(&whole, &[]).is_none(),
        "contents beyond its blobs"
    );
    let mut accepted = 0;
    for seed in 0..4000 {
        let mut random = Random(seed);
        let mut bytes = whole.clone();
        for _ in 0..=random.index(3) {
            let at = random.index(bytes.len());
            match random.index(8) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_slice(&whole[at.min(whole.len())..]),
                2 => bytes[at] = random.index(256) as u8,
                3 => bytes[at] = bytes[at].wrapping_add(1),
                _ => bytes[at] ^= 1 << random.index(8),
            }
            if bytes.is_empty() {
                break;
            }
        }
        assert!(
            bytes == whole || Tree::from_bytes(&bytes, &sizes).is_none(),
            "seed {seed}"
        );
        if let Some((header, rest)) = bytes.split_at_mut_checked(16) {
            header[12..].copy_from_slice(&crc32fast::hash(rest).to_le_bytes());
        }
        if let Some(tree) = Tree::from_bytes(&bytes, &sizes) {
            accepted += 1;
            visit(&root(&image_of(Arc::new(tree), blobs.clone(), window.clone())));
        }
    }
    assert!(accepted > 100, "{accepted}");
}

/// The same for compressed ones, which must not grow without end either.
#[test]
fn damaged_compression_does_no_harm() {
    let cache = Cache::none();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive()).unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(&archive()[..], ruzstd::encoding::CompressionLevel::Fastest);
    for whole in [gzip.finish().unwrap(), zstd] {
        assert!(compressed::plain(&window(&whole), None, &cache, &Growth::of(0)).is_ok());
        for seed in 0..300 {
            let mut random = Random(seed);
            let mut bytes = whole.clone();
            let at = random.index(bytes.len());
            match random.index(3) {
                0 => bytes.truncate(at),
                _ => bytes[at] ^= 1 << random.index(8),
            }
            if let Ok(plain) = compressed::plain(&window(&bytes), None, &cache, &Growth::of(0)) {
                let _ = archive::scan(&plain, &mut |_| Ok(()));
            }
        }
    }
}

#[test]
fn bombs_are_refused() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..1100 {
        gzip.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = window(&gzip.finish().unwrap());
    let mut grown = 0u64;
    // The store's own file would take as much of the disk: it is counted here instead.
    let result = compressed::expand(&bomb, &mut |bytes| {
        grown += bytes.len() as u64;
        Ok(())
    });
    let error = format!("{:#}", result.err().unwrap());
    assert!(error.contains("bomb") && grown <= 1 << 30, "{error}");
    // The layers of an image share what they may grow by.
    let shared = Growth::of(0);
    let take = || shared.take(400 << 20).is_ok();
    assert_eq!([take(), take(), take()], [true, true, false]);
}

#[test]
fn whiteouts_by_their_names() {
    let shown = |path: &str| match whiteout(path.as_bytes()) {
        None => "none".to_owned(),
        Some(Whiteout::Name(path)) => String::from_utf8(path).unwrap(),
        Some(Whiteout::Opaque(path)) => format!("opaque {}", String::from_utf8_lossy(path)),
        Some(Whiteout::Other) => "other".to_owned(),
    };
    let paths = [
        "a/b",
        "a/.wh.b",
        ".wh.b",
        "a/.wh..wh..opq",
        "a/.wh..wh.plnk",
        ".wh.",
        "a.wh.b",
    ];
    assert_eq!(
        paths.map(shown),
        ["none", "a/b", "b", "opaque a/", "other", "other", "none"]
    );
}
