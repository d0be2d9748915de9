//! The state that the runner has every piece begin with, and what it tells of the end, as in `runner.c`.

use iced_x86::Mnemonic;
use uvm::platform::Regs;

use super::generate::Random;

/// Where the data lies.
pub(crate) const DATA: u64 = 0x10_0000_0000;
const PAGE: u64 = 4096;
const START: u64 = 0x10_1000_0000 + PAGE + 2048;

/// The general registers in the order in which the runner tells them.
const NAMES: [&str; 16] = [
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx",
    "rsp",
];

fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 29
}

/// Hash of some memory.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).filter_map(|word| word.first_chunk());
    words.fold(7, |hash, word| mix(hash, u64::from_le_bytes(*word)))
}

fn value(random: &mut Random) -> u64 {
    let r = random.draw();
    match r >> 60 {
        0..9 => (DATA + PAGE).wrapping_add((r & 0xff8).wrapping_sub(0x800)),
        9..12 => r & 0x3f,
        12 => (r & 0xff).wrapping_neg(),
        13 => r & 0xffff_ffff,
        _ => r | 1 << 62,
    }
}

/// The data.
pub(crate) fn data(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let words = (0..2 * PAGE / 8).map(|_| {
        if random.draw() & 3 != 0 {
            random.draw()
        } else {
            value(&mut random)
        }
    });
    words.flat_map(u64::to_le_bytes).collect()
}

/// The registers that piece number `at` begins with.
pub(crate) fn registers(seed: u64, at: u64) -> Regs {
    let mut random = Random(mix(seed, at));
    let mut drawn = [0; 15];
    drawn.fill_with(|| value(&mut random));
    let [
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rdi,
        rsi,
        rbp,
        rbx,
        rdx,
        rax,
        mut rcx,
    ] = drawn;
    if random.draw() & 3 != 0 {
        rcx &= 0x1f;
    }
    let rsp = DATA + PAGE + (random.draw() & 0x3f8);
    Regs {
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rdi,
        rsi,
        rbp,
        rbx,
        rdx,
        rax,
        rcx,
        rsp,
        eflags: 0x202 | random.draw() & 0x8d5,
        cs: 0x33,
        rip: START,
        fs_base: DATA + 0x400,
        gs_base: DATA + 0x800,
        ..Regs::default()
    }
}

/// The general registers in the order of [`NAMES`].
pub(crate) fn general(r: &Regs) -> [u64; 16] {
    [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax,
        r.rcx, r.rsp,
    ]
}

/// Flags that an instruction leaves defined, its own and those that it does not change.
pub(crate) fn defined_flags(mnemonic: Mnemonic) -> u64 {
    const ALL: u64 = 0x8d5;
    const ADJUST_AND_PARITY: u64 = 0x14;
    const SIGN: u64 = 0x80;
    match mnemonic {
        Mnemonic::Lzcnt | Mnemonic::Tzcnt => 0x41,
        Mnemonic::Bextr => ALL & !ADJUST_AND_PARITY & !SIGN,
        Mnemonic::Andn | Mnemonic::Blsi | Mnemonic::Blsmsk | Mnemonic::Blsr | Mnemonic::Bzhi => {
            ALL & !ADJUST_AND_PARITY
        }
        _ => ALL,
    }
}

/// An outcome as the runner tells it.
pub(crate) struct Told<'a>(&'a str);

impl<'a> Told<'a> {
    pub(crate) fn of(line: &'a str) -> Told<'a> {
        Told(line)
    }

    /// The number of this name.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let mut words = self.0.split(' ');
        let word = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        u64::from_str_radix(word.expect("a number of that name"), 16).expect("a number")
    }

    /// The general registers.
    pub(crate) fn registers(&self) -> [u64; 16] {
        NAMES.map(|name| self.number(name))
    }
}
