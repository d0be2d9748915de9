//! The bytes around a site, as instructions.

use std::ops::Range;

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, Instruction};

/// Bytes of the longest instruction.
pub(super) const MAX_INSTRUCTION: u64 = 15;

/// Bytes of text looked at on each side of a site: the reach of an 8-bit branch into its neighbourhood, and room for
/// decodes to come together.
const REACH: u64 = 256;

/// Bytes in front of a site that are needed to find its predecessors; decodes that begin nearer have had no room to
/// come together.
const ROOM_TO_AGREE: u64 = 48;

/// How many of the 15 decodes must come to the site, and not upon what is no instruction.
const MIN_DECODES: usize = 5;

/// Guest code is aligned to this at functions and often at loops.
const ALIGNMENT: u64 = 16;

/// A part of an executable mapping: the bytes as the file has them, at their addresses.
#[derive(Clone, Debug)]
pub struct Window<'a> {
    text: Range<u64>,
    start: u64,
    bytes: &'a [u8],
}

impl<'a> Window<'a> {
    /// The addresses of `text`, an executable mapping, that should be read for the site at `site`.
    pub fn wanted(text: &Range<u64>, site: u64) -> Range<u64> {
        let start = site.saturating_sub(REACH).max(text.start);
        let end = site.saturating_add(REACH).min(text.end);
        start..end.max(start)
    }

    /// `bytes` found at `start` in the mapping `text`; none when they are not within it.
    pub fn new(text: Range<u64>, start: u64, bytes: &'a [u8]) -> Option<Self> {
        let end = start.checked_add(u64::try_from(bytes.len()).ok()?)?;
        (text.start <= start && end <= text.end).then_some(Self { text, start, bytes })
    }

    /// The bytes of `range`, if they are all in the window.
    pub(super) fn get(&self, range: Range<u64>) -> Option<&'a [u8]> {
        let at = |address: u64| usize::try_from(address.checked_sub(self.start)?).ok();
        self.bytes.get(at(range.start)?..at(range.end)?)
    }

    /// The mapping.
    pub(super) fn text(&self) -> &Range<u64> {
        &self.text
    }

    /// Whether it has all that is wanted for `site`.
    pub(super) fn suffices(&self, site: u64) -> bool {
        let wanted = Self::wanted(&self.text, site);
        self.start <= wanted.start && wanted.end <= self.end()
    }

    /// Offset of an address into the mapping.
    pub(super) fn offset(&self, address: u64) -> u64 {
        address.saturating_sub(self.text.start)
    }

    /// The instruction at `address`; none when it is none or reaches over the end.
    pub(super) fn decode(&self, address: u64) -> Option<Instruction> {
        let rest = self.get(address..self.end())?;
        decode(rest, address).map(|(instruction, _)| instruction)
    }

    /// At most `max` instructions that come right before `site` in execution, in order of address; fewer when the
    /// decodes from further up differ. The module's documentation says why this can be relied on.
    pub(super) fn before(&self, site: u64, max: usize) -> Vec<Instruction> {
        let distances = (ROOM_TO_AGREE..=REACH).rev().step_by(ROOM_TO_AGREE as usize);
        distances
            .filter_map(|distance| site.checked_sub(distance))
            .filter(|first| *first >= self.start)
            .find_map(|first| self.agreed(first, site, max))
            .unwrap_or_default()
    }

    /// What the decodes from the 15 addresses that begin with `first` agree upon, perhaps nothing. None when too few of
    /// them get to the end.
    fn agreed(&self, first: u64, site: u64, max: usize) -> Option<Vec<Instruction>> {
        let mut agreed: Option<Vec<Instruction>> = None;
        let mut decodes = 0;
        for phase in first..first + MAX_INSTRUCTION {
            let Some((end, mut last)) = self.walk(phase, site) else {
                continue;
            };
            if end != site {
                return Some(Vec::new());
            }
            decodes += 1;
            let same = agreed.as_ref().map_or(max, |agreed| common_end(agreed, &last));
            last.drain(..last.len().saturating_sub(same.min(max)));
            agreed = Some(last);
        }
        agreed.filter(|_| decodes >= MIN_DECODES)
    }

    /// Decode from `from` until `to` is reached or passed: where that was, and the instructions. None at what is no
    /// instruction.
    fn walk(&self, from: u64, to: u64) -> Option<(u64, Vec<Instruction>)> {
        let mut found = Vec::new();
        let mut at = from;
        while at < to {
            let instruction = self.decode(at)?;
            at = instruction.next_ip();
            found.push(instruction);
        }
        Some((at, found))
    }

    /// Whether anything in the window, decoded in whatever way is plausible, branches to or takes the address of one of
    /// `forbidden`. `certain` is the address of a real instruction.
    pub(super) fn names(&self, forbidden: &Range<u64>, certain: u64) -> bool {
        let mut seen = vec![false; self.bytes.len()];
        let phases = self.start..self.start + MAX_INSTRUCTION;
        let aligned = (self.start.next_multiple_of(ALIGNMENT)..self.end()).step_by(ALIGNMENT as usize);
        phases
            .chain(aligned)
            .chain([certain])
            .any(|from| self.chain_names(from, forbidden, &mut seen))
    }

    fn chain_names(&self, from: u64, forbidden: &Range<u64>, seen: &mut [bool]) -> bool {
        let mut at = from;
        loop {
            let Some(seen) = seen.get_mut(at.wrapping_sub(self.start) as usize) else {
                return false;
            };
            if std::mem::replace(seen, true) {
                return false;
            }
            let Some(instruction) = self.decode(at) else {
                return false;
            };
            if named(&instruction).is_some_and(|address| forbidden.contains(&address)) {
                return true;
            }
            at = instruction.next_ip();
        }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// The instruction that `bytes` begin with, as if at `address`, and where in it its constants are.
pub(super) fn decode(bytes: &[u8], address: u64) -> Option<(Instruction, ConstantOffsets)> {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then(|| (instruction, decoder.get_constant_offsets(&instruction)))
}

/// The code or data address that an instruction branches to or works out from its own.
fn named(instruction: &Instruction) -> Option<u64> {
    if instruction.near_branch_target() != 0 {
        Some(instruction.near_branch_target())
    } else if instruction.is_ip_rel_memory_operand() {
        Some(instruction.ip_rel_memory_address())
    } else {
        None
    }
}

/// How many instructions two lists have in common at their ends.
fn common_end(left: &[Instruction], right: &[Instruction]) -> usize {
    let pairs = left.iter().rev().zip(right.iter().rev());
    pairs.take_while(|(left, right)| left.ip() == right.ip()).count()
}
