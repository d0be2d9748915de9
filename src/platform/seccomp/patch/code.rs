//! The bytes around a site, as instructions.

use std::ops::Range;

use iced_x86::{ConstantOffsets, Decoder, DecoderOptions, Instruction};

/// Bytes of the longest instruction.
pub(super) const MAX_INSTRUCTION: u64 = 15;

/// Bytes of text looked at in front of a site: the reach of an 8-bit branch into its neighbourhood, and room for decodes
/// to come together.
const REACH: u64 = 256;

/// Bytes of text looked at from the site on: the reach of an 8-bit branch.
const REACH_BEHIND: u64 = 160;

/// Bytes in front of a site that are needed to find its predecessors; decodes that begin nearer have had no room to
/// come together.
const ROOM_TO_AGREE: u64 = 48;

/// How many of the 15 decodes must come to the site, and not upon what is no instruction.
const MIN_DECODES: usize = 5;

/// At most so many instructions in front of a site are moved.
pub(super) const MAX_BEFORE: usize = 3;

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
        let end = site.saturating_add(REACH_BEHIND).min(text.end);
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

    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// A window being decoded. Every place is decoded once at most, for it is asked for again and again.
pub(super) struct Code<'w> {
    window: &'w Window<'w>,
    decoder: Decoder<'w>,
    /// What was found at each byte of the window; none where nobody has looked.
    steps: Vec<Option<Step>>,
}

/// What is kept of a decoded instruction.
#[derive(Clone, Copy)]
struct Step {
    /// Bytes; zero when it is no instruction, or reaches over the end.
    len: u8,
    /// The code or data address that it branches to or works out from its own; zero for none.
    named: u64,
}

impl<'w> Code<'w> {
    pub(super) fn new(window: &'w Window<'w>) -> Self {
        Self {
            window,
            decoder: Decoder::with_ip(64, window.bytes, window.start, DecoderOptions::NONE),
            steps: vec![None; window.bytes.len()],
        }
    }

    /// The instruction at `address`; none when it is none or reaches over the end.
    pub(super) fn decode(&mut self, address: u64) -> Option<Instruction> {
        let at = usize::try_from(address.checked_sub(self.window.start)?).ok()?;
        self.decoder.set_position(at).ok()?;
        self.decoder.set_ip(address);
        let instruction = self.decoder.decode();
        (!instruction.is_invalid()).then_some(instruction)
    }

    fn step(&mut self, address: u64) -> Option<Step> {
        let at = usize::try_from(address.checked_sub(self.window.start)?).ok()?;
        if let Some(step) = *self.steps.get(at)? {
            return Some(step);
        }
        let step = match self.decode(address) {
            Some(instruction) => Step {
                len: instruction.len() as u8,
                named: named(&instruction),
            },
            None => Step { len: 0, named: 0 },
        };
        *self.steps.get_mut(at)? = Some(step);
        Some(step)
    }

    /// The address behind the instruction at `address`.
    fn next(&mut self, address: u64) -> Option<u64> {
        let len = self.step(address)?.len;
        (len != 0).then(|| address + u64::from(len))
    }

    /// At most [`MAX_BEFORE`] instructions that come right before `site` in execution, in order of address; fewer when
    /// the decodes from further up differ. The module's documentation says why this can be relied on.
    pub(super) fn before(&mut self, site: u64) -> Vec<Instruction> {
        let distances = (ROOM_TO_AGREE..=REACH).rev().step_by(ROOM_TO_AGREE as usize);
        let agreed = distances
            .filter_map(|distance| site.checked_sub(distance))
            .filter(|first| *first >= self.window.start)
            .find_map(|first| self.agreed(first, site));
        let agreed = agreed.unwrap_or_default().into_iter().rev().flatten();
        agreed.filter_map(|address| self.decode(address)).collect()
    }

    /// Where the instructions begin that the decodes from the 15 addresses that begin with `first` agree upon, perhaps
    /// nowhere, the last one first. None when too few of them get to the end.
    fn agreed(&mut self, first: u64, site: u64) -> Option<Last> {
        let mut agreed: Option<Last> = None;
        let mut decodes = 0;
        for phase in first..first + MAX_INSTRUCTION {
            let Some((end, last)) = self.walk(phase, site) else {
                continue;
            };
            if end != site {
                return Some(Last::default());
            }
            decodes += 1;
            agreed = Some(agreed.map_or(last, |agreed| common(agreed, last)));
        }
        agreed.filter(|_| decodes >= MIN_DECODES)
    }

    /// Decode from `from` until `to` is reached or passed: where that was, and where the last instructions begin. None
    /// at what is no instruction.
    fn walk(&mut self, from: u64, to: u64) -> Option<(u64, Last)> {
        let mut last = Last::default();
        let mut at = from;
        while at < to {
            last.rotate_right(1);
            last[0] = Some(at);
            at = self.next(at)?;
        }
        Some((at, last))
    }

    /// Whether anything in the window, decoded in whatever way is plausible, branches to or takes the address of one of
    /// `forbidden`. `certain` is the address of a real instruction.
    pub(super) fn names(&mut self, forbidden: &Range<u64>, certain: u64) -> bool {
        let (start, end) = (self.window.start, self.window.end());
        let mut seen = vec![false; self.steps.len()];
        let aligned = (start.next_multiple_of(ALIGNMENT)..end).step_by(ALIGNMENT as usize);
        let mut from = (start..start + MAX_INSTRUCTION).chain(aligned).chain([certain]);
        from.any(|from| self.chain_names(from, forbidden, &mut seen))
    }

    fn chain_names(&mut self, from: u64, forbidden: &Range<u64>, seen: &mut [bool]) -> bool {
        let mut at = from;
        loop {
            match seen.get_mut(at.wrapping_sub(self.window.start) as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => return false,
            }
            match self.step(at) {
                Some(step) if forbidden.contains(&step.named) => return true,
                Some(step) if step.len != 0 => at += u64::from(step.len),
                _ => return false,
            }
        }
    }
}

/// Where the last instructions before a place begin, the last one first.
type Last = [Option<u64>; MAX_BEFORE];

/// What two lists have in common at their beginnings.
fn common(left: Last, right: Last) -> Last {
    let mut same = true;
    std::array::from_fn(|index| {
        same &= left[index] == right[index];
        left[index].filter(|_| same)
    })
}

/// The instruction that `bytes` begin with, as if at `address`, and where in it its constants are.
pub(super) fn decode(bytes: &[u8], address: u64) -> Option<(Instruction, ConstantOffsets)> {
    let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then(|| (instruction, decoder.get_constant_offsets(&instruction)))
}

/// The code or data address that an instruction branches to or works out from its own; zero for none.
fn named(instruction: &Instruction) -> u64 {
    if instruction.is_ip_rel_memory_operand() {
        instruction.ip_rel_memory_address()
    } else {
        instruction.near_branch_target()
    }
}
