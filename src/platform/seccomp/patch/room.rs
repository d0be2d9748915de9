//! Where trampolines go in a guest's address space.

use std::ops::Range;

use super::Refusal;
use crate::platform::{Mapping, PAGE_SIZE, Prot, USER_END, USER_START};

/// Everything that a trampoline and its text may refer to in each other's neighbourhood is within this distance. Less
/// than 2 GiB, since copies of instructions refer to the data of the image, which may be as far from its text as this
/// leaves.
const REACH: u64 = 0x7000_0000;

/// Free space left on both sides, so that the host does not merge a mapping of the guest's with ours.
const MARGIN: u64 = PAGE_SIZE;

/// Free space left below private anonymous writable memory, which may be a stack that grows.
const STACK_ROOM: u64 = 256 << 20;

/// Addresses are multiples of this.
const ALIGNMENT: u64 = 64 << 10;

/// An address for `len` bytes of trampolines for `text`, to be mapped there without replacing anything. `mappings` are
/// all of the space in order of address, trampolines among them.
///
/// Below the text first, as near as possible, at the upper end of a hole: memory grows upwards from the lower end of a
/// hole (the break of a program lies above its image). Only where there is no such hole, above the text, as far as
/// possible: away from the break.
pub fn find_room(mappings: &[Mapping], text: &Range<u64>, len: u64) -> Result<u64, Refusal> {
    let lowest = text.end.saturating_sub(REACH).max(USER_START);
    let highest = text.start.saturating_add(REACH).min(USER_END);
    let holes = holes(mappings);
    let below = holes.iter().rev().filter(|hole| hole.range.end <= text.start);
    let above = holes.iter().rev().filter(|hole| hole.range.start >= text.end);
    let fitting = |hole: &Hole| hole.upper_end(lowest, highest, len);
    below.chain(above).find_map(fitting).ok_or(Refusal::TooFar)
}

/// Free addresses between two mappings.
struct Hole {
    range: Range<u64>,
    /// What is above it may be a stack.
    under_stack: bool,
}

impl Hole {
    /// The highest address in the hole for `len` bytes, all between `lowest` and `highest`.
    fn upper_end(&self, lowest: u64, highest: u64, len: u64) -> Option<u64> {
        let room = if self.under_stack { STACK_ROOM } else { MARGIN };
        let end = self.range.end.checked_sub(room)?.min(highest);
        let start = end.checked_sub(len)? / ALIGNMENT * ALIGNMENT;
        (start >= lowest && start >= self.range.start.checked_add(MARGIN)?).then_some(start)
    }
}

/// What is free of the guest's addresses, in order.
fn holes(mappings: &[Mapping]) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut free = USER_START - MARGIN;
    for mapping in mappings.iter().filter(|mapping| mapping.start < USER_END) {
        if mapping.start > free {
            let anonymous = mapping.file.is_none() && !mapping.shared;
            holes.push(Hole {
                range: free..mapping.start,
                under_stack: anonymous && mapping.prot.contains(Prot::WRITE),
            });
        }
        free = free.max(mapping.end);
    }
    if free < USER_END {
        holes.push(Hole {
            range: free..USER_END,
            under_stack: false,
        });
    }
    holes
}

/// A mapping for trampolines, filled from its start.
#[derive(Clone, Debug)]
pub struct Arena {
    range: Range<u64>,
    next: u64,
}

impl Arena {
    /// An empty one.
    pub fn new(range: Range<u64>) -> Self {
        Self {
            next: range.start,
            range,
        }
    }

    /// All of it.
    pub fn range(&self) -> &Range<u64> {
        &self.range
    }

    /// Whether it is near enough to serve `text`.
    pub fn serves(&self, text: &Range<u64>) -> bool {
        let span = self.range.end.max(text.end) - self.range.start.min(text.start);
        span <= REACH
    }

    /// Where the next trampoline will be.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Take `len` bytes at [`Arena::next`]. False, and nothing is taken, when so many are not left.
    pub fn take(&mut self, len: usize) -> bool {
        let end = self.next.saturating_add(len as u64).saturating_add(15) & !15;
        let fits = end <= self.range.end;
        if fits {
            self.next = end;
        }
        fits
    }
}
