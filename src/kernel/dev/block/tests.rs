//! Disks against a model, partition tables damaged by seeds, and a host without space.

use std::io::Write;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::partitions::Partition;
use super::*;
use crate::kernel::stop::Stop;
use crate::platform::HostFile;
use crate::testing::Random;

/// A host file with these contents, which cannot grow.
fn host(bytes: &[u8]) -> Arc<HostFile> {
    let fd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).unwrap();
    fcntl_add_seals(&file, SealFlags::GROW).unwrap();
    HostFile::new(file.into()).unwrap()
}

fn raw(bytes: &[u8]) -> Arc<Raw> {
    Arc::new(Raw::new(host(bytes), false).unwrap())
}

/// Make a part zero, in as many calls as that takes.
pub(super) fn zero(disk: &dyn Disk, at: u64, len: u64) -> SysResult<()> {
    let mut done = 0;
    while done < len {
        let some = disk.zero(at + done, len - done)?;
        assert!((1..=len - done).contains(&some));
        done += some;
    }
    Ok(())
}

fn errno(result: SysResult<()>) -> Option<Errno> {
    match result {
        Err(Stop::Errno(errno, _)) => Some(errno),
        _ => None,
    }
}

#[test]
fn what_is_written_over_a_disk_is_read_back() {
    const SIZE: usize = 300_000;
    for seed in 0..20 {
        let mut random = Random(seed);
        let below: Vec<u8> = (0..SIZE).map(|at| (at / 5000 % 3) as u8).collect();
        let disk = raw(&below);
        let cow = Cow::new(disk.clone(), 1 << 30).unwrap();
        let mut model = below.clone();
        for _ in 0..100 {
            let at = random.below(SIZE as u64) as usize;
            let len = (1 + random.below(20_000) as usize).min(SIZE - at);
            if random.below(3) == 0 {
                assert!(zero(&cow, at as u64, len as u64).is_ok());
                model[at..at + len].fill(0);
            } else {
                assert!(cow.write(&vec![seed as u8 + 9; len], at as u64).is_ok());
                model[at..at + len].fill(seed as u8 + 9);
            }
        }
        let mut found = vec![0; SIZE];
        assert!(cow.read(&mut found, 0).is_ok() && found == model);
        assert!(disk.read(&mut found, 0).is_ok() && found == below);
    }
}

/// A disk of zeroes that counts what is read of it.
#[derive(Default)]
struct Counted {
    bytes: std::sync::atomic::AtomicU64,
    has_holes: bool,
}

impl Disk for Counted {
    fn size(&self) -> u64 {
        1 << 40
    }

    fn is_read_only(&self) -> bool {
        true
    }

    fn read(&self, buf: &mut [u8], _: u64) -> SysResult<()> {
        let len = buf.len() as u64;
        self.bytes.fetch_add(len, std::sync::atomic::Ordering::Relaxed);
        buf.fill(1);
        Ok(())
    }

    fn write(&self, _: &[u8], _: u64) -> SysResult<()> {
        Err(Errno::EPERM.into())
    }

    fn zero(&self, _: u64, _: u64) -> SysResult<u64> {
        Err(Errno::EPERM.into())
    }

    fn skip_zeroes(&self, at: u64, end: u64) -> u64 {
        if self.has_holes { end } else { at }
    }

    fn flush(&self) -> SysResult<()> {
        Ok(())
    }
}

#[test]
fn a_call_makes_no_more_zero_than_it_has_time_for() {
    let full = Arc::new(Counted::default());
    let cow = Cow::new(full.clone(), 1 << 30).unwrap();
    let done = cow.zero(100, (1 << 40) - 100);
    let read = full.bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(matches!(done, Ok(n) if (1 << 20..=32 << 20).contains(&n)));
    assert!(read <= 32 << 20);
    let holes = Arc::new(Counted {
        has_holes: true,
        ..Counted::default()
    });
    let cow = Cow::new(holes.clone(), 1 << 30).unwrap();
    assert!(cow.write(&[7; 10], 1 << 30).is_ok());
    let before = holes.bytes.load(std::sync::atomic::Ordering::Relaxed);
    assert!(zero(&cow, 0, 1 << 40).is_ok());
    assert_eq!(holes.bytes.load(std::sync::atomic::Ordering::Relaxed), before);
    let mut found = [1; 10];
    assert!(cow.read(&mut found, 1 << 30).is_ok() && found == [0; 10]);
}

#[test]
fn what_is_kept_in_memory_is_bounded() {
    let cow = Cow::new(raw(&[1; 100_000]), 8192).unwrap();
    assert!(cow.write(&[2; 10], 0).is_ok() && cow.write(&[2; 10], 50_000).is_ok());
    assert_eq!(errno(cow.write(&[2; 10], 90_000)), Some(Errno::ENOSPC));
    // What is over already can be written further.
    assert!(cow.write(&[3; 4096], 0).is_ok());
    let mut found = [0; 20];
    assert!(cow.read(&mut found, 90_000).is_ok() && found == [1; 20]);
}

#[test]
fn a_full_host_is_an_error_for_the_guest() {
    let place = crate::kernel::fs::memfs::testing::TempDir::new();
    let image = place.path().join("image");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-o", "cluster_size=4k"])
        .arg(&image)
        .arg("1m")
        .status();
    assert!(made.unwrap().success());
    let mut bytes = std::fs::read(&image).unwrap();
    // Room for a few clusters more.
    bytes.resize(bytes.len().next_multiple_of(4096) + 5 * 4096, 0);
    std::fs::write(&image, &bytes).unwrap();
    let file = host(&bytes);
    let disk = Qcow2::open(file.clone(), false).unwrap();
    assert!(errno(disk.write(&[7; 100], 0)).is_some());
    let mut found = [1; 100];
    assert!(disk.read(&mut found, 0).is_ok() && found == [0; 100]);
    std::fs::write(&image, {
        let mut left = vec![0; bytes.len()];
        super::raw::read_exact(&file, &mut left, 0).unwrap();
        left
    })
    .unwrap();
    // Not even a cluster is lost.
    let checked = std::process::Command::new("qemu-img")
        .args(["check", "-q", "-f", "qcow2"])
        .arg(&image)
        .status();
    assert!(checked.unwrap().success());
}

/// A table of one primary partition and a chain of logical ones.
fn table() -> Vec<u8> {
    let mut bytes = vec![0; 200 * SECTOR as usize];
    let mut row = |sector: usize, row: usize, kind: u8, start: u32, len: u32| {
        let at = sector * SECTOR as usize;
        let place = at + 446 + row * 16;
        bytes[place + 4] = kind;
        bytes[place + 8..place + 12].copy_from_slice(&start.to_le_bytes());
        bytes[place + 12..place + 16].copy_from_slice(&len.to_le_bytes());
        bytes[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
    };
    row(0, 0, 0x83, 2, 40);
    row(0, 1, 0x5, 50, 150);
    row(50, 0, 0x83, 1, 20);
    row(50, 1, 0x5, 30, 40);
    row(80, 0, 0x83, 2, 30);
    bytes
}

#[test]
fn partitions_of_a_chain() {
    let sectors = |number, start, len| Partition {
        number,
        start: start * SECTOR,
        len: len * SECTOR,
    };
    let found = super::partitions::read(&*raw(&table())).unwrap_or_default();
    let expected = [
        sectors(1, 2, 40),
        sectors(2, 50, 2),
        sectors(5, 51, 20),
        sectors(6, 82, 30),
    ];
    assert_eq!(found, expected);
    // One that leads back to itself ends all the same.
    let mut circle = table();
    circle[80 * 512 + 462..80 * 512 + 478].copy_from_slice(&table()[50 * 512 + 462..50 * 512 + 478]);
    let found = super::partitions::read(&*raw(&circle)).unwrap_or_default();
    assert_eq!(found.len(), 13);
}

#[test]
fn damaged_partition_tables_do_no_harm() {
    let mut gpt = table();
    gpt[446 + 4] = 0xee;
    gpt[512..520].copy_from_slice(b"EFI PART");
    gpt[512 + 72] = 2;
    gpt[512 + 80] = 128;
    gpt[512 + 84] = 128;
    for number in 0..20 {
        let row = 1024 + number * 128;
        gpt[row] = 1;
        gpt[row + 32] = 40 + number as u8;
        gpt[row + 40] = 50 + number as u8;
    }
    assert_eq!(
        super::partitions::read(&*raw(&gpt)).map_or(0, |found| found.len()),
        15
    );
    for seed in 0..4000 {
        let mut random = Random(seed);
        let mut bytes = if seed % 2 == 0 { table() } else { gpt.clone() };
        for _ in 0..=random.below(4) {
            let sector = [0, 1, 2, 50, 80][random.below(5) as usize] * 512;
            let at = sector + [random.below(512), 446 + random.below(64)][random.below(2) as usize] as usize;
            match random.below(3) {
                0 => bytes[at] = 0xff,
                1 => bytes[at] ^= 1 << random.below(8),
                _ => bytes[at..at + 8].fill(random.below(256) as u8),
            }
        }
        for part in super::partitions::read(&*raw(&bytes)).unwrap_or_default() {
            assert!(part.start + part.len <= bytes.len() as u64 && part.len > 0 && part.number < 16);
        }
    }
}

/// Two who write to one grain for the first time: what each wrote is there.
#[test]
fn writes_to_one_grain_at_once_are_kept() {
    const GRAINS: usize = 2000;
    let cow = Cow::new(raw(&vec![1; GRAINS * 4096]), 1 << 30).unwrap();
    let both = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        for writer in 0..2u8 {
            let (cow, both) = (&cow, &both);
            scope.spawn(move || {
                for grain in 0..GRAINS {
                    both.wait();
                    let at = grain as u64 * 4096 + u64::from(writer) * 512;
                    assert!(cow.write(&[b'A' + writer; 512], at).is_ok());
                }
            });
        }
    });
    for grain in 0..GRAINS {
        let mut found = [0; 1025];
        assert!(cow.read(&mut found, grain as u64 * 4096).is_ok());
        assert_eq!((found[0], found[512], found[1024]), (b'A', b'B', 1), "{grain}");
    }
}
