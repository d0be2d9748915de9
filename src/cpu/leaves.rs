//! The leaves of CPUID: those of the host that guests may see, those of the named models, and the topology in either.

use super::features::{FEATURES, Set};
use crate::platform::cpuid::{ANY, Answers, EXTENDED, HYPERVISOR};

/// Asks the host's processor by leaf and subleaf.
pub(super) type Ask<'a> = &'a dyn Fn(u32, u32) -> [u32; 4];

type Leaves = Vec<(u32, u32, [u32; 4])>;

/// What guests find at the first of the hypervisor leaves.
const SIGNATURE: &[u8; 12] = b"uvmuvmuvm\0\0\0";

/// "Genu", "Auth" and "Hygo": ebx of leaf 0.
const INTEL: u32 = 0x756e_6547;
const AMD: [u32; 2] = [0x6874_7541, 0x6f67_7948];

/// XSAVE is enabled: leaf 1, ecx.
const OSXSAVE: u32 = 1 << 27;

const XSTATE: u32 = 0xd;
const CACHES: [u32; 2] = [4, 0x8000_001d];
const EXTENDED_TOPOLOGY: u32 = 0x8000_001e;

/// How many subleaves a leaf has.
#[derive(Clone, Copy)]
enum Subleaves {
    /// It has none.
    One,
    /// Until one has no type in eax.
    UntilEmpty,
    /// As eax of the first says.
    Counted,
    /// One for each component of the extended state.
    Components,
}

use Subleaves::{Components, Counted, One, UntilEmpty};

/// What of a host's leaves its own processor model shows. What is left out is for kernels (monitoring, power, tracing, enclaves) or
/// differs from CPU to CPU, and is answered by zeros; the topology is our own.
const SHOWN: &[(u32, Subleaves)] = &[
    (0, One),
    (1, One),
    (2, One),
    (4, UntilEmpty),
    (6, One),
    (7, Counted),
    (XSTATE, Components),
    (0x15, One),
    (0x16, One),
    (0x19, One),
    (0x1d, Counted),
    (0x1e, One),
    (0x24, Counted),
    (0x8000_0000, One),
    (0x8000_0001, One),
    (0x8000_0002, One),
    (0x8000_0003, One),
    (0x8000_0004, One),
    (0x8000_0005, One),
    (0x8000_0006, One),
    (0x8000_0007, One),
    (0x8000_0008, One),
    (0x8000_001a, One),
    (0x8000_001d, UntilEmpty),
    (EXTENDED_TOPOLOGY, One),
    (0x8000_0021, One),
];

/// The most subleaves of one leaf that are looked at.
const MOST: u32 = 16;

/// The leaves of the host's processor.
pub(super) fn of_host(ask: Ask<'_>) -> Leaves {
    let last = [0, EXTENDED].map(|first| (first, ask(first, 0)[0]));
    let there = |leaf: u32| {
        let mut ranges = last.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&leaf))
    };
    let mut leaves = Vec::new();
    for &(leaf, subleaves) in SHOWN.iter().filter(|(leaf, _)| there(*leaf)) {
        match subleaves {
            One => leaves.push((leaf, ANY, ask(leaf, 0))),
            UntilEmpty => {
                let all = (0..MOST).map(|n| (leaf, n, ask(leaf, n)));
                leaves.extend(all.take_while(|(.., regs)| regs[0] & 0x1f != 0));
            }
            Counted => {
                let count = ask(leaf, 0)[0].min(MOST - 1);
                leaves.extend((0..=count).map(|n| (leaf, n, ask(leaf, n))));
            }
            Components => leaves.extend(extended_state(ask)),
        }
    }
    for leaf in [0xb, 0x1f] {
        if there(leaf) && ask(leaf, 0)[1] != 0 {
            leaves.push((leaf, 0, [0; 4]));
        }
    }
    leaves
}

/// The tiles of AMX and their configuration: components of the extended state.
const TILES: u32 = 3 << 17;

/// What XSAVE does, which no model changes: the host's kernel writes signal frames, and programs save registers, by what the
/// processor has enabled. Only the components of AMX are not told of; the sizes include them, as they are enabled.
fn extended_state(ask: Ask<'_>) -> Leaves {
    let (mut first, second) = (ask(XSTATE, 0), ask(XSTATE, 1));
    first[0] &= !TILES;
    let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    let components = wide(first[0], first[3]) | wide(second[2], second[3]);
    let others = (2..64).filter(|n| components & 1 << n != 0);
    let mut leaves = vec![(XSTATE, 0, first), (XSTATE, 1, second)];
    leaves.extend(others.map(|n| (XSTATE, n, ask(XSTATE, n))));
    leaves
}

/// Signature (family, model and stepping) of the processor that a level's model calls itself: Intel's first that had all of the level. The
/// last one is of the second generation, as some programs avoid wide vectors on the first.
const SIGNATURES: [u32; 4] = [0x6fb, 0x106a5, 0x306c3, 0x606a6];

/// The leaves of a level's model, the same on every host but for the extended state.
pub(super) fn of_level(level: u8, ask: Ask<'_>) -> Leaves {
    let last = XSTATE;
    let brand = format!("{:\0<48}", brand(level));
    let text = |at: usize| [0, 4, 8, 12].map(|n| word(brand.as_bytes(), at + n));
    let signature = SIGNATURES[usize::from(level.clamp(1, 4)) - 1];
    let mut leaves = vec![
        (0, ANY, [last, INTEL, 0x6c65_746e, 0x4965_6e69]),
        (1, ANY, [signature, 8 << 8, 0, 0]),
        // Look at leaf 4.
        (2, ANY, [0x00fe_ff01, 0xf0, 0, 0]),
        (4, 0, [0x121, 7 << 22 | 63, 63, 0]),
        (4, 1, [0x122, 7 << 22 | 63, 63, 0]),
        (4, 2, [0x143, 15 << 22 | 63, 1023, 0]),
        (4, 3, [0x163, 15 << 22 | 63, 16383, 4]),
        // The local timer never stops.
        (6, ANY, [4, 0, 0, 0]),
        (7, 0, [1, 0, 0, 0]),
        (7, 1, [0; 4]),
        (0xb, 0, [0; 4]),
        (EXTENDED, ANY, [EXTENDED + 8, 0, 0, 0]),
        (EXTENDED + 1, ANY, [0; 4]),
        (EXTENDED + 2, ANY, text(0)),
        (EXTENDED + 3, ANY, text(16)),
        (EXTENDED + 4, ANY, text(32)),
        (EXTENDED + 6, ANY, [0, 0, 1024 << 16 | 8 << 12 | 64, 0]),
        (EXTENDED + 7, ANY, [0; 4]),
        // 46 physical and 48 virtual address bits.
        (EXTENDED + 8, ANY, [0x302e, 0, 0, 0]),
    ];
    if ask(0, 0)[0] >= XSTATE {
        leaves.extend(extended_state(ask));
    }
    leaves
}

/// Name of a level's model, as programs print it.
pub(super) fn brand(level: u8) -> String {
    format!("uvm x86-64-v{level} processor")
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// The table of a processor with these features and this many CPUs.
pub(super) fn answers(leaves: Leaves, features: &Set, cpus: u32) -> Answers {
    let vendor = leaves
        .iter()
        .find(|(leaf, ..)| *leaf == 0)
        .map_or(0, |(.., regs)| regs[1]);
    let last = leaves
        .iter()
        .find(|(leaf, ..)| *leaf == 0)
        .map_or(0, |(.., regs)| regs[0]);
    let mut answers = Answers::new(cpus, if vendor == INTEL { last } else { ANY });
    let amd = AMD.contains(&vendor);
    let gone = |leaf: u32| match leaf {
        XSTATE => !features.has("xsave"),
        0x1d | 0x1e => !features.has("amx_tile"),
        EXTENDED_TOPOLOGY => !amd,
        _ => false,
    };
    for (leaf, subleaf, mut regs) in leaves.into_iter().filter(|(leaf, ..)| !gone(*leaf)) {
        with_features(leaf, subleaf, &mut regs, features);
        match leaf {
            0xb | 0x1f => {
                // One thread for each core, then all cores.
                let cores = [cpus.next_power_of_two().trailing_zeros(), cpus, 2 << 8, 0];
                answers.add(leaf, 0, [0, 1, 1 << 8, 0]);
                regs = cores;
                answers.add(leaf, 1, regs);
                continue;
            }
            _ => with_topology(leaf, &mut regs, cpus, amd),
        }
        if !answers.add(leaf, subleaf, regs) {
            tracing::warn!("this processor has more CPUID leaves than guests can be told of");
        }
    }
    let name = [0, 4, 8].map(|at| word(SIGNATURE, at));
    answers.add(HYPERVISOR, ANY, [HYPERVISOR, name[0], name[1], name[2]]);
    answers
}

fn with_features(leaf: u32, subleaf: u32, regs: &mut [u32; 4], features: &Set) {
    let subleaf = if subleaf == ANY { 0 } else { subleaf };
    let mut words: Vec<_> = FEATURES.iter().map(|feature| feature.word).collect();
    words.retain(|word| word.leaf == leaf && word.subleaf == subleaf);
    words.dedup();
    for word in words {
        regs[word.register] = features.apply(word, regs[word.register]);
    }
    if leaf == 1 {
        regs[2] = regs[2] & !OSXSAVE | if features.has("xsave") { OSXSAVE } else { 0 };
    }
}

/// One package of `cpus` cores of one thread each; only the last caches are shared.
fn with_topology(leaf: u32, regs: &mut [u32; 4], cpus: u32, amd: bool) {
    let ids = cpus.next_power_of_two();
    match leaf {
        1 => regs[1] = regs[1] & 0xffff | ids.min(255) << 16,
        leaf if CACHES.contains(&leaf) => {
            let shared = if regs[0] >> 5 & 7 >= 3 { ids - 1 } else { 0 };
            let cores = if leaf == CACHES[0] {
                (ids - 1).min(63) << 26
            } else {
                0
            };
            regs[0] = regs[0] & 0x3fff | shared.min(0xfff) << 14 | cores;
        }
        0x8000_0008 if amd => {
            regs[2] = regs[2] & 0xffff_0000 | ids.trailing_zeros() << 12 | (cpus - 1).min(0xff);
        }
        EXTENDED_TOPOLOGY => *regs = [0; 4],
        _ => {}
    }
}
