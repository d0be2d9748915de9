//! Where the branches of a whole text lead.

use std::ops::Range;

/// A text above this size is not scanned, in bytes: it would take too long and too much memory.
const MAX_TEXT: usize = 256 << 20;

/// Functions are taken to begin at multiples of this.
const FUNCTION_ALIGNMENT: u32 = 16;

/// Everything that the text of one executable mapping names within itself by 32-bit distances, as offsets into the
/// mapping.
///
/// The bytes are not decoded: whatever looks like a branch, at any byte, is taken for one. So there are too many, never
/// too few. Chance leads few of the false ones anywhere near a site.
#[derive(Debug, Default)]
pub struct Targets {
    /// Sorted; what is branched to and what `lea` takes the address of.
    named: Box<[u32]>,
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
        let (mut named, mut functions, mut computed) = (Vec::new(), Vec::new(), Vec::new());
        for (at, &byte) in text.iter().enumerate() {
            let Some(kind) = Kind::of(byte, text.get(at + 1..)) else {
                continue;
            };
            if kind == Kind::ComputedJump {
                computed.push(at as u32);
            } else if let Some(target) = target(text, at + kind.opcode_len()) {
                named.push(target);
                if kind == Kind::Call && target.is_multiple_of(FUNCTION_ALIGNMENT) {
                    functions.push(target);
                }
            }
        }
        Some(Self {
            named: sorted(named),
            functions: sorted(functions),
            computed: computed.into(),
        })
    }

    /// Whether anything leads to one of these offsets.
    pub(super) fn lead_into(&self, offsets: Range<u64>) -> bool {
        any_in(&self.named, offsets)
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
    fn of(byte: u8, next: Option<&[u8]>) -> Option<Self> {
        let [second, third, ..] = *next? else {
            return None;
        };
        match (byte, second) {
            (0xe8, _) => Some(Self::Call),
            (0xe9, _) => Some(Self::Jump),
            // jcc rel32, xbegin
            (0x0f, 0x80..=0x8f) | (0xc7, 0xf8) => Some(Self::LongBranch),
            // lea register, [rip + disp32]
            (0x8d, modrm) if modrm & 0xc7 == 0x05 => Some(Self::AddressOf),
            // jmp register
            (0xff, 0xe0..=0xe7) => Some(Self::ComputedJump),
            // jmp [... + register * scale]; without an index it is no jump within a function.
            (0xff, 0x24 | 0x64 | 0xa4) if third & 0x38 != 0x20 => Some(Self::ComputedJump),
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
}

/// Where the distance at `at` leads, if within the text.
fn target(text: &[u8], at: usize) -> Option<u32> {
    let distance = i32::from_le_bytes(text.get(at..at + 4)?.try_into().ok()?);
    let target = (at + 4).checked_add_signed(distance as isize)?;
    if target >= text.len() {
        return None;
    }
    u32::try_from(target).ok()
}

fn sorted(mut offsets: Vec<u32>) -> Box<[u32]> {
    offsets.sort_unstable();
    offsets.dedup();
    offsets.into()
}

fn any_in(sorted: &[u32], range: Range<u64>) -> bool {
    let first = sorted.partition_point(|&offset| u64::from(offset) < range.start);
    sorted
        .get(first)
        .is_some_and(|&offset| range.contains(&u64::from(offset)))
}
