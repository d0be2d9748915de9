//! Address spaces: copies, memory operations, handed-in files.

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::*;
use crate::platform::{HostFile, USER_END};

const RW: Prot = Prot::READ.union(Prot::WRITE);
/// Five pages to play with.
const AREA: u64 = 0x4000_0000;

fn with_thread(f: impl FnOnce(&mut dyn Thread)) {
    let (platform, mut thread) = guest(SPIN);
    f(&mut *thread);
    drop(thread);
    platform.run().unwrap();
}

pub(super) fn memfd(content: &[u8]) -> (File, Arc<HostFile>) {
    let file = File::from(memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all_at(content, 0).unwrap();
    let host = HostFile::new(file.try_clone().unwrap().into()).unwrap();
    (file, host)
}

pub(super) fn map_file(
    thread: &mut dyn Thread,
    addr: u64,
    file: &Arc<HostFile>,
    flags: MapFlags,
) -> Result<u64, Errno> {
    thread.memory(&[MemOp::Map {
        addr,
        len: 4096,
        prot: RW,
        flags,
        file: Some((file, 0)),
    }])
}

#[test]
fn copies_end_at_the_first_bad_byte() {
    with_thread(|t| {
        map(t, AREA, 2 * 4096, RW).unwrap();
        map(t, AREA + 2 * 4096, 4096, Prot::READ).unwrap();
        map(t, AREA + 3 * 4096, 4096, Prot::empty()).unwrap();
        let space = Arc::clone(t.space());
        let mut buf = vec![0xaa; 5 * 4096];
        assert_eq!(space.write(AREA + 100, &buf), 2 * 4096 - 100);
        assert_eq!(space.read(AREA + 100, &mut buf), 3 * 4096 - 100);
        assert!(buf[..2 * 4096 - 100].iter().all(|&b| b == 0xaa));
        assert!(buf[2 * 4096 - 100..3 * 4096 - 100].iter().all(|&b| b == 0));
        assert_eq!(space.read(AREA - 1, &mut buf), 0);
        assert_eq!(space.write(AREA + 2 * 4096, &buf), 0);
        assert_eq!(space.peek(AREA, &mut buf), 4 * 4096);
        assert_eq!(space.poke(AREA + 3 * 4096 + 4000, &buf), 96);
        assert_eq!(space.peek(AREA + 3 * 4096 + 4090, &mut buf[..10]), 6);
    });
}

#[test]
fn addresses_outside_the_guest_copy_nothing() {
    with_thread(|t| {
        let space = Arc::clone(t.space());
        let mut buf = [0; 64];
        for addr in [
            0,
            USER_END,
            USER_END + 0x100,
            u64::MAX - 8,
            0xffff_ffff_ff60_0000,
            1 << 63,
        ] {
            assert_eq!(space.read(addr, &mut buf), 0, "{addr:x}");
            assert_eq!(space.write(addr, &buf), 0, "{addr:x}");
            assert_eq!(space.peek(addr, &mut buf), 0, "{addr:x}");
            assert_eq!(space.poke(addr, &buf), 0, "{addr:x}");
        }
        map(t, USER_END - 4096, 4096, RW).unwrap();
        assert_eq!(space.read(USER_END - 10, &mut buf), 10);
        assert_eq!(space.poke(USER_END - 10, &buf), 10);
    });
}

#[test]
fn large_copies_are_whole() {
    with_thread(|t| {
        let len = 1_300_000;
        map(t, AREA, 2 << 20, RW).unwrap();
        let data: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        assert_eq!(t.space().write(AREA + 777, &data), len);
        let mut back = vec![0; len];
        assert_eq!(t.space().read(AREA + 777, &mut back), len);
        assert!(back == data);
    });
}

#[test]
fn mappings_are_the_hosts() {
    with_thread(|t| {
        let before = t.space().mappings().unwrap().len();
        map(t, AREA, 5 * 4096, RW).unwrap();
        let protect = MemOp::Protect {
            addr: AREA + 4096,
            len: 4096,
            prot: Prot::READ,
        };
        let unmap = MemOp::Unmap {
            addr: AREA + 3 * 4096,
            len: 4096,
        };
        t.memory(&[protect, unmap]).unwrap();
        assert_eq!(t.space().write(AREA, b"x"), 1);
        let maps: Vec<_> = t
            .space()
            .mappings()
            .unwrap()
            .into_iter()
            .filter(|m| m.start >= AREA && m.end <= AREA + 5 * 4096)
            .collect();
        let seen: Vec<_> = maps
            .iter()
            .map(|m| ((m.start - AREA) / 4096, (m.end - AREA) / 4096, m.prot))
            .collect();
        assert_eq!(seen, [(0, 1, RW), (1, 2, Prot::READ), (2, 3, RW), (4, 5, RW)]);
        assert!(
            maps.iter()
                .all(|m| !m.shared && m.file.is_none() && m.offset == 0)
        );
        let usage = t.space().mapping_usage().unwrap();
        assert_eq!(usage.len(), before + 4);
        assert_eq!(t.space().size().unwrap().total, (3 + 4) * 4096);
        assert!(t.space().size().unwrap().resident >= 2 * 4096);
    });
}

#[test]
fn remap_moves_and_grows() {
    with_thread(|t| {
        map(t, AREA, 4096, RW).unwrap();
        t.space().write(AREA, b"hello");
        let grown = t
            .memory(&[MemOp::Remap {
                old: AREA,
                old_len: 4096,
                new_len: 3 * 4096,
                flags: 3,
                new: AREA + 0x10_0000,
            }])
            .unwrap();
        assert_eq!(grown, AREA + 0x10_0000);
        let mut buf = [0; 5];
        assert_eq!(t.space().read(grown, &mut buf), 5);
        assert_eq!(&buf, b"hello");
        assert_eq!(t.space().read(AREA, &mut buf), 0);
        assert_eq!(t.space().write(grown + 2 * 4096, b"x"), 1);
    });
}

#[test]
fn operations_stop_at_the_first_failure() {
    with_thread(|t| {
        let anon = |addr, flags| MemOp::Map {
            addr,
            len: 4096,
            prot: RW,
            flags: flags | MapFlags::PRIVATE | MapFlags::ANONYMOUS,
            file: None,
        };
        let fixed = MapFlags::FIXED_NOREPLACE;
        let got = t.memory(&[anon(AREA, fixed), anon(AREA, fixed), anon(AREA + 4096, fixed)]);
        assert_eq!(got, Err(Errno::EEXIST));
        assert_eq!(t.space().write(AREA, b"x"), 1);
        assert_eq!(t.space().write(AREA + 4096, b"x"), 0);
        let elsewhere = t.memory(&[anon(USER_END, MapFlags::empty())]).unwrap();
        assert!(elsewhere < USER_END);
    });
}

#[test]
fn handed_in_files_are_mapped_and_shared() {
    with_thread(|t| {
        let (file, host) = memfd(b"from the file");
        map_file(t, AREA, &host, MapFlags::SHARED | MapFlags::FIXED).unwrap();
        map_file(t, AREA + 4096, &host, MapFlags::PRIVATE | MapFlags::FIXED).unwrap();
        let mut buf = [0; 13];
        assert_eq!(t.space().read(AREA, &mut buf), 13);
        assert_eq!(&buf, b"from the file");
        assert_eq!(t.space().write(AREA, b"FROM"), 4);
        assert_eq!(t.space().write(AREA + 4096, b"private"), 7);
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"FROM the file");
        let map = t
            .space()
            .mappings()
            .unwrap()
            .into_iter()
            .find(|m| m.start == AREA)
            .unwrap();
        assert_eq!((map.file, map.shared), (Some(host.key()), true));
    });
}

#[test]
fn more_files_than_are_kept_open() {
    with_thread(|t| {
        let files: Vec<_> = (0..150u8).map(|i| memfd(&[i]).1).collect();
        for round in 0..2 {
            for (i, file) in files.iter().enumerate() {
                map_file(t, AREA, file, MapFlags::PRIVATE | MapFlags::FIXED).unwrap();
                let mut byte = [0xff];
                assert_eq!(t.space().read(AREA, &mut byte), 1);
                assert_eq!(usize::from(byte[0]), i, "round {round}");
            }
        }
    });
}

#[test]
fn shared_anonymous_memory_has_an_identity() {
    with_thread(|t| {
        let flags = MapFlags::SHARED | MapFlags::ANONYMOUS | MapFlags::FIXED;
        t.memory(&[MemOp::Map {
            addr: AREA,
            len: 4096,
            prot: RW,
            flags,
            file: None,
        }])
        .unwrap();
        let map = t
            .space()
            .mappings()
            .unwrap()
            .into_iter()
            .find(|m| m.start == AREA)
            .unwrap();
        assert!(map.file.is_some() && map.shared);
    });
}

#[test]
fn the_rest_of_the_operations() {
    with_thread(|t| {
        map(t, AREA, 2 * 4096, RW).unwrap();
        t.space().write(AREA, b"x");
        t.memory(&[MemOp::Mincore {
            addr: AREA,
            len: 2 * 4096,
            vec: DATA,
        }])
        .unwrap();
        let mut vec = [9; 2];
        t.space().read(DATA, &mut vec);
        assert_eq!(vec, [1, 0]);
        let (addr, len) = (AREA, 2 * 4096);
        let advice = libc::MADV_DONTNEED as u32;
        t.memory(&[MemOp::Advise { addr, len, advice }]).unwrap();
        t.space().read(AREA, &mut vec);
        assert_eq!(vec, [0, 0]);
        let flags = libc::MS_ASYNC as u32;
        t.memory(&[MemOp::Sync { addr, len, flags }]).unwrap();
        let flags = Some(0);
        t.memory(&[MemOp::Lock { addr, len, flags }]).unwrap();
        let flags = None;
        t.memory(&[MemOp::Lock { addr, len, flags }]).unwrap();
        let (addr, prot) = (USER_END, RW);
        assert_eq!(
            t.memory(&[MemOp::Protect { addr, len, prot }]),
            Err(Errno::ENOMEM)
        );
    });
}

#[test]
fn a_stack_grows_under_a_copy() {
    with_thread(|t| {
        let flags = MapFlags::PRIVATE | MapFlags::ANONYMOUS | MapFlags::FIXED | MapFlags::GROWSDOWN;
        t.memory(&[MemOp::Map {
            addr: AREA,
            len: 4096,
            prot: RW,
            flags,
            file: None,
        }])
        .unwrap();
        let before = *t.regs();
        let data = vec![7; 300_000];
        let low = AREA - 200_000;
        assert_eq!(t.space().write(low, &data), 204_096);
        let mut back = vec![0; 300_000];
        assert_eq!(t.space().read(low - 100_000, &mut back), 300_000);
        assert!(back[..100_000].iter().all(|&b| b == 0) && back[100_000..].iter().all(|&b| b == 7));
        assert_eq!(*t.regs(), before);
        map(t, AREA - 0x10_0000, 4096, RW).unwrap();
        assert_eq!(t.space().read(AREA - 0x10_0000 + 4096, &mut back[..1]), 0);
    });
}

#[test]
fn a_bit_is_set() {
    with_thread(|t| {
        t.space().write(DATA, &[1, 0, 0, 0x80]);
        t.memory(&[MemOp::SetBit { addr: DATA, bit: 30 }]).unwrap();
        let mut word = [0; 4];
        t.space().read(DATA, &mut word);
        assert_eq!(word, [1, 0, 0, 0xc0]);
        assert_eq!(
            t.memory(&[MemOp::SetBit { addr: AREA, bit: 0 }]),
            Err(Errno::EFAULT)
        );
    });
}
