//! Random memory calls in a real address space, against a table of pages.

use proptest::prelude::*;

use super::syscalls::{brk, mmap, mprotect, mremap, munmap};
use crate::kernel::fs::Fd;
use crate::kernel::stop::{Errno, Stop, SysResult};
use crate::kernel::task::testing::Caller;
use crate::platform::{PAGE_SIZE, Prot};

/// Where the pages that are played with lie, and how many there are.
const ARENA: u64 = 0x1000_0000;
const PAGES: usize = 48;

/// Where the heap begins, far from the arena.
const HEAP: u64 = 0x4000_0000;
const HEAP_PAGES: u64 = 32;

/// MAP_PRIVATE | MAP_ANONYMOUS, with MAP_FIXED and with MAP_FIXED_NOREPLACE.
const FIXED: u32 = 0x32;
const NOREPLACE: u32 = 0x10_0022;
/// MREMAP_MAYMOVE | MREMAP_FIXED.
const MOVE: u64 = 3;

#[derive(Clone, Copy, Debug)]
enum Step {
    Map {
        page: usize,
        pages: usize,
        prot: u32,
        replace: bool,
    },
    Unmap {
        page: usize,
        pages: usize,
    },
    Protect {
        page: usize,
        pages: usize,
        prot: u32,
    },
    Move {
        from: usize,
        to: usize,
    },
    Write {
        page: usize,
    },
    Break {
        bytes: u64,
    },
}

/// A mapped page: its rights and the byte at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    prot: u32,
    byte: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let page = 0..PAGES;
    let pages = 1..12usize;
    let prot = prop::sample::select(vec![0u32, 1, 3, 5]);
    let step = prop_oneof![
        3 => (page.clone(), pages.clone(), prot.clone(), any::<bool>())
            .prop_map(|(page, pages, prot, replace)| Step::Map { page, pages, prot, replace }),
        2 => (page.clone(), pages.clone()).prop_map(|(page, pages)| Step::Unmap { page, pages }),
        2 => (page.clone(), pages, prot).prop_map(|(page, pages, prot)| Step::Protect { page, pages, prot }),
        2 => (page.clone(), page.clone()).prop_map(|(from, to)| Step::Move { from, to }),
        2 => page.prop_map(|page| Step::Write { page }),
        1 => (0..HEAP_PAGES * PAGE_SIZE).prop_map(|bytes| Step::Break { bytes }),
    ];
    prop::collection::vec(step, 1..60)
}

fn addr(page: usize) -> u64 {
    ARENA + page as u64 * PAGE_SIZE
}

fn errno<T>(result: SysResult<T>) -> Result<T, Errno> {
    result.map_err(|stop| match stop {
        Stop::Errno(errno, _) => errno,
        _ => Errno::EIO,
    })
}

/// The table that the address space must agree with.
struct Model {
    pages: [Option<Page>; PAGES],
    next_byte: u8,
    brk: u64,
}

impl Model {
    /// Make one call and say what it should have returned; the table follows.
    fn step(&mut self, caller: &mut Caller, step: Step) -> (Result<u64, Errno>, Result<u64, Errno>) {
        match step {
            Step::Map {
                page,
                pages,
                prot,
                replace,
            } => {
                let end = (page + pages).min(PAGES);
                let len = (end - page) as u64 * PAGE_SIZE;
                let flags = if replace { FIXED } else { NOREPLACE };
                let got = caller.call(|cx| errno(mmap(cx, addr(page), len, prot, flags, Fd(-1), 0)));
                let free = self.pages[page..end].iter().all(Option::is_none);
                if !replace && !free {
                    return (got, Err(Errno::EEXIST));
                }
                self.pages[page..end].fill(Some(Page { prot, byte: 0 }));
                (got, Ok(addr(page)))
            }
            Step::Unmap { page, pages } => {
                let end = (page + pages).min(PAGES);
                let len = (end - page) as u64 * PAGE_SIZE;
                let got = caller.call(|cx| errno(munmap(cx, addr(page), len)));
                self.pages[page..end].fill(None);
                (got.map(|()| 0), Ok(0))
            }
            Step::Protect { page, pages, prot } => {
                let end = (page + pages).min(PAGES);
                let len = (end - page) as u64 * PAGE_SIZE;
                let got = caller.call(|cx| errno(mprotect(cx, addr(page), len, prot.into())));
                // As far as the first hole it takes effect.
                for slot in &mut self.pages[page..end] {
                    match slot {
                        Some(page) => page.prot = prot,
                        None => return (got.map(|()| 0), Err(Errno::ENOMEM)),
                    }
                }
                (got.map(|()| 0), Ok(0))
            }
            // What becomes of the new place when there is nothing at the old one differs between releases of Linux.
            Step::Move { from, .. } if self.pages[from].is_none() => (Ok(0), Ok(0)),
            Step::Move { from, to } => {
                let got =
                    caller.call(|cx| errno(mremap(cx, addr(from), PAGE_SIZE, PAGE_SIZE, MOVE, addr(to))));
                if from == to {
                    return (got, Err(Errno::EINVAL));
                }
                self.pages[to] = self.pages[from].take();
                (got, Ok(addr(to)))
            }
            Step::Write { page } => {
                self.next_byte = self.next_byte.wrapping_add(1);
                let byte = self.next_byte;
                let got = caller.task.memory().space().write(addr(page), &[byte]);
                let writable = self.pages[page].as_mut().filter(|p| p.prot & 2 != 0);
                let expected = u64::from(writable.is_some());
                if let Some(page) = writable {
                    page.byte = byte;
                }
                (Ok(got as u64), Ok(expected))
            }
            Step::Break { bytes } => {
                let got = caller.call(|cx| errno(brk(cx, HEAP + bytes)));
                self.brk = HEAP + bytes;
                (got, Ok(self.brk))
            }
        }
    }

    /// Compare with the host's map and with what memory holds.
    fn check(&self, caller: &Caller) -> Result<(), TestCaseError> {
        let mm = caller.task.mm();
        let mappings = mm.space.mappings().unwrap_or_default();
        let at = |addr: u64| mappings.iter().find(|m| (m.start..m.end).contains(&addr));
        for (index, page) in self.pages.iter().enumerate() {
            let host = at(addr(index)).map(|m| m.prot);
            prop_assert_eq!(
                host,
                page.map(|p| Prot::from_bits_truncate(p.prot)),
                "page {}",
                index
            );
            if let Some(page) = page {
                let mut byte = [0];
                prop_assert_eq!(mm.space.peek(addr(index), &mut byte), 1);
                prop_assert_eq!(byte[0], page.byte, "page {}", index);
            }
        }
        let heap_end = self.brk.next_multiple_of(PAGE_SIZE);
        for page in 0..HEAP_PAGES {
            let addr = HEAP + page * PAGE_SIZE;
            prop_assert_eq!(at(addr).is_some(), addr < heap_end, "heap page {}", page);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn memory_calls_agree_with_a_table_of_pages(steps in steps()) {
        let mut caller = Caller::new();
        {
            let mm = caller.task.mm();
            let mut state = mm.state.lock();
            state.brk_start = HEAP;
            state.brk = HEAP;
        }
        let mut model = Model { pages: [None; PAGES], next_byte: 0, brk: HEAP };
        for step in steps {
            let (got, expected) = model.step(&mut caller, step);
            prop_assert_eq!(got, expected, "{:?}", step);
            model.check(&caller)?;
        }
    }
}
