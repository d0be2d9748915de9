//! Random instructions: bytes that look like one, kept if a decoder takes them for one.

use iced_x86::{Code, ConstantOffsets, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

/// Numbers from a seed, the same wherever they are drawn.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    fn byte(&mut self) -> u8 {
        self.draw() as u8
    }
}

/// An address for pieces of code; where they are executed does not matter to decoding.
const ADDRESS: u64 = 0x10_1000_1800;

/// The next instruction that may be tried.
pub(crate) fn instruction(random: &mut Random) -> Vec<u8> {
    loop {
        let mut bytes = shape(random);
        let (decoded, offsets) = decode(&bytes);
        // Some that no decoder knows: those are to raise the same exception.
        if decoded.is_invalid() && random.below(64) != 0 {
            continue;
        }
        if decoded.is_invalid() || may_be_tried(&decoded) {
            let length = if decoded.is_invalid() {
                bytes.len()
            } else {
                decoded.len()
            };
            bytes.truncate(length);
            bring_near(random, &mut bytes, &offsets);
            let (decoded, _) = decode(&bytes);
            if decoded.is_invalid() || may_be_tried(&decoded) {
                return bytes;
            }
        }
    }
}

/// What a decoder makes of it.
pub(crate) fn decode(bytes: &[u8]) -> (Instruction, ConstantOffsets) {
    let mut decoder = Decoder::with_ip(64, bytes, ADDRESS, DecoderOptions::NONE);
    let decoded = decoder.decode();
    let offsets = decoder.get_constant_offsets(&decoded);
    (decoded, offsets)
}

/// Fifteen bytes that begin like an instruction.
fn shape(random: &mut Random) -> Vec<u8> {
    const PREFIXES: [u8; 8] = [0x66, 0xf2, 0xf3, 0x67, 0x64, 0x65, 0xf0, 0x2e];
    let mut bytes = Vec::with_capacity(15);
    if random.below(4) == 0 {
        bytes.push(PREFIXES[random.below(8) as usize]);
    }
    match random.below(100) {
        0..70 => {
            if random.below(2) == 0 {
                bytes.push(0x40 | random.byte() & 15);
            }
            match random.below(10) {
                0..5 => {}
                5..8 => bytes.push(0x0f),
                8 => bytes.extend([0x0f, 0x38]),
                _ => bytes.extend([0x0f, 0x3a]),
            }
        }
        70..85 => {
            let second = random.byte();
            match random.below(3) {
                0 => bytes.extend([0xc5, second]),
                // Maps 1 to 3.
                _ => bytes.extend([0xc4, second & 0xe0 | (1 + random.below(3) as u8), random.byte()]),
            }
        }
        _ => {
            let map = [1, 2, 3, 5, 6][random.below(5) as usize];
            bytes.extend([0x62, random.byte() & 0xf0 | map, random.byte() | 4, random.byte()]);
        }
    }
    while bytes.len() < 15 {
        bytes.push(random.byte());
    }
    bytes
}

/// Whether what it does is a matter of itself and of the state it begins with, and it comes to an end.
fn may_be_tried(decoded: &Instruction) -> bool {
    use Mnemonic as M;
    let elsewhere = matches!(
        decoded.mnemonic(),
        // Calls.
        M::Syscall | M::Sysenter
        // Time, randomness, hypervisors.
        | M::Rdtsc | M::Rdtscp | M::Rdrand | M::Rdseed | M::Rdpru | M::Umwait | M::Tpause | M::Vmcall | M::Vmmcall
        // What the processor is, as the guest is told.
        | M::Cpuid
        // What of the extended state counts as used is the processor's business.
        | M::Xsave | M::Xsave64 | M::Xsavec | M::Xsavec64 | M::Xsaveopt | M::Xsaveopt64 | M::Xsaves | M::Xsaves64
        | M::Xrstor | M::Xrstor64 | M::Xrstors | M::Xrstors64 | M::Xgetbv
        // Signal handlers could not run.
        | M::Wrpkru
    );
    let linux = matches!(decoded.code(), Code::Int_imm8) && decoded.immediate8() == 0x80;
    let start = decoded.ip();
    // Back into itself: for ever, or into anything.
    let loops = matches!(
        decoded.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch | FlowControl::Call
    ) && (start..decoded.next_ip()).contains(&decoded.near_branch_target());
    // Locks of what lies across two cache lines stop the whole machine, and hosts punish them.
    let locks = decoded.has_lock_prefix()
        || decoded.mnemonic() == M::Xchg && decoded.op_kinds().any(|kind| kind == OpKind::Memory);
    !elsewhere && !linux && !loops && !locks
}

/// Let most of those with a long displacement meet the data.
fn bring_near(random: &mut Random, bytes: &mut [u8], offsets: &ConstantOffsets) {
    if offsets.displacement_size() == 4
        && random.below(4) != 0
        && let Some(place) = bytes.get_mut(offsets.displacement_offset()..offsets.displacement_offset() + 4)
    {
        let near = random.below(0x800) as i32 - 0x400;
        place.copy_from_slice(&near.to_le_bytes());
    }
}

/// An instruction that can be carried out where the processor lacks it.
pub(crate) fn scalar(random: &mut Random) -> Vec<u8> {
    loop {
        let mut bytes = scalar_shape(random);
        let (decoded, offsets) = decode(&bytes);
        if !decoded.is_invalid() && !decoded.has_lock_prefix() && is_scalar(decoded.mnemonic()) {
            bytes.truncate(decoded.len());
            bring_near(random, &mut bytes, &offsets);
            return bytes;
        }
    }
}

fn is_scalar(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Movbe
            | M::Popcnt
            | M::Lzcnt
            | M::Tzcnt
            | M::Crc32
            | M::Andn
            | M::Bextr
            | M::Blsi
            | M::Blsmsk
            | M::Blsr
            | M::Bzhi
            | M::Mulx
            | M::Pdep
            | M::Pext
            | M::Rorx
            | M::Sarx
            | M::Shlx
            | M::Shrx
    )
}

fn scalar_shape(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(15);
    if random.below(2) == 0 {
        // VEX of maps 2 and 3, one of the four prefixes within.
        let map = if random.below(8) == 0 { 3 } else { 2 };
        bytes.extend([0xc4, random.byte() & 0xe0 | map, random.byte() & 0xfb]);
        bytes.push(0xf0 | random.byte() & 7);
    } else {
        if random.below(4) == 0 {
            bytes.push(0x66);
        }
        if random.below(4) != 0 {
            bytes.push(0xf2 | random.byte() & 1);
        }
        if random.below(2) == 0 {
            bytes.push(0x40 | random.byte() & 15);
        }
        match random.below(2) {
            0 => bytes.extend([0x0f, 0xb8 | random.byte() & 7]),
            _ => bytes.extend([0x0f, 0x38, 0xf0 | random.byte() & 1]),
        }
    }
    while bytes.len() < 15 {
        bytes.push(random.byte());
    }
    bytes
}
