//! Where the branches of a whole text lead.

use std::ops::Range;

/// A text above this size is not scanned, in bytes: it would take too long and too much memory.
const MAX_TEXT: usize = 256 << 20;

/// Functions are taken to begin at multiples of this.
const FUNCTION_ALIGNMENT: usize = 16;

/// Bits for all pairs of bytes, by the number they are when read as one: whether [`Kind::of`] may know what begins with
/// them. Nearly all begin nothing, and are passed over quickly.
const BEGINNINGS: [u64; 1024] = {
    let mut bits = [0; 1024];
    let mut pair = 0;
    while pair < 1 << 16 {
        let [first, second] = (pair as u16).to_le_bytes();
        if Kind::of(first, second).is_some() {
            bits[pair / 64] |= 1 << (pair % 64);
        }
        pair += 1;
    }
    bits
};

/// Everything that the text of one executable mapping names within itself by 32-bit distances, as offsets into the
/// mapping.
///
/// The bytes are not decoded: whatever looks like a branch, at any byte, is taken for one. So there are too many, never
/// too few. Chance leads few of the false ones anywhere near a site.
#[derive(Debug, Default)]
pub struct Targets {
    /// A bit for each byte of the text: what is branched to and what `lea` takes the address of.
    named: Box<[u64]>,
    /// Sorted; where functions begin: what is called and suitably aligned.
    functions: Box<[u32]>,
    /// Sorted; where jumps are that take their destination from a register or an array.
    computed: Box<[u32]>,
}

impl Targets {
    /// Find them in the bytes of a mapping; none when it is too large for that.
    pub fn scan(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let mut named = vec![0_u64; text.len().div_ceil(64)];
        let (mut functions, mut computed) = (Vec::new(), Vec::new());
        for (at, pair) in text.windows(2).enumerate() {
            let &[first, second] = pair else {
                continue;
            };
            let pair = usize::from(u16::from_le_bytes([first, second]));
            if BEGINNINGS[pair / 64] >> (pair % 64) & 1 == 0 {
                continue;
            }
            let Some(kind) = Kind::of(first, second) else {
                continue;
            };
            let bytes = &text[at..];
            if kind == Kind::ComputedJump {
                if second >= 0xe0 || bytes.get(2).copied().is_some_and(has_index) {
                    computed.push(at as u32);
                }
            } else if let Some(target) = kind.target(bytes, at, text.len()) {
                named[target / 64] |= 1 << (target % 64);
                if kind == Kind::Call && target.is_multiple_of(FUNCTION_ALIGNMENT) {
                    functions.push(target as u32);
                }
            }
        }
        functions.sort_unstable();
        functions.dedup();
        Some(Self {
            named: named.into(),
            functions: functions.into(),
            computed: computed.into(),
        })
    }

    /// Whether anything leads to one of these few offsets.
    pub(super) fn lead_into(&self, mut offsets: Range<u64>) -> bool {
        offsets.any(|offset| {
            let word = self.named.get((offset / 64) as usize);
            word.is_some_and(|word| word >> (offset % 64) & 1 != 0)
        })
    }

    /// Whether there is a computed jump in the function around this offset.
    pub(super) fn computed_jump_around(&self, offset: u64) -> bool {
        let next = self
            .functions
            .partition_point(|&start| u64::from(start) <= offset);
        let start = next.checked_sub(1).and_then(|last| self.functions.get(last));
        let end = self.functions.get(next);
        any_in(
            &self.computed,
            start.map_or(0, |&start| start.into())..end.map_or(u64::MAX, |&end| end.into()),
        )
    }
}

/// What a byte may be the beginning of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Call,
    Jump,
    LongBranch,
    AddressOf,
    ComputedJump,
}

impl Kind {
    const fn of(first: u8, second: u8) -> Option<Self> {
        match (first, second) {
            (0xe8, _) => Some(Self::Call),
            (0xe9, _) => Some(Self::Jump),
            // jcc rel32, xbegin
            (0x0f, 0x80..=0x8f) | (0xc7, 0xf8) => Some(Self::LongBranch),
            // lea register, [rip + disp32]
            (0x8d, modrm) if modrm & 0xc7 == 0x05 => Some(Self::AddressOf),
            // jmp register, jmp [... + register * scale]
            (0xff, 0xe0..=0xe7 | 0x24 | 0x64 | 0xa4) => Some(Self::ComputedJump),
            _ => None,
        }
    }

    /// Bytes in front of the distance.
    fn opcode_len(self) -> usize {
        match self {
            Self::Call | Self::Jump => 1,
            Self::LongBranch | Self::AddressOf | Self::ComputedJump => 2,
        }
    }

    /// Where what these bytes begin with leads from `at`, if within a text of `len` bytes.
    fn target(self, bytes: &[u8], at: usize, len: usize) -> Option<usize> {
        let distance = bytes.get(self.opcode_len()..)?.first_chunk()?;
        let end = at + self.opcode_len() + distance.len();
        let target = end.checked_add_signed(i32::from_le_bytes(*distance) as isize)?;
        (target < len).then_some(target)
    }
}

/// Whether a scale-index-base byte names an index register.
fn has_index(sib: u8) -> bool {
    sib & 0x38 != 0x20
}

fn any_in(sorted: &[u32], range: Range<u64>) -> bool {
    let first = sorted.partition_point(|&offset| u64::from(offset) < range.start);
    sorted
        .get(first)
        .is_some_and(|&offset| range.contains(&u64::from(offset)))
}
