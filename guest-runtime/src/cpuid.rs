//! What CPUID tells guests: a table that the supervisor fills in before there is a guest, and how an answer comes of it.

/// Subleaf of a [`Leaf`] that has only one.
pub const ANY: u32 = u32::MAX;
/// Leaves of a table at most.
pub const LEAVES: usize = 160;
/// First of the leaves that hypervisors describe themselves in.
pub const HYPERVISOR: u32 = 0x4000_0000;
/// First of the extended leaves.
pub const EXTENDED: u32 = 0x8000_0000;

/// Leaves of the topology, the older and the newer one.
const TOPOLOGY: [u32; 2] = [0xb, 0x1f];
/// AMD's leaf of the topology.
const EXTENDED_TOPOLOGY: u32 = 0x8000_001e;

/// One answer: eax, ebx, ecx, edx.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// What eax asks for.
    pub leaf: u32,
    /// What ecx asks for, or [`ANY`].
    pub subleaf: u32,
    /// The answer; where it tells on which CPU it is given, those bits are 0.
    pub regs: [u32; 4],
}

/// All answers. What is asked for and not there is answered by zeros.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Answers {
    /// CPUs of the guest, at least 1: they are numbered from 0.
    pub cpus: u32,
    /// How many leaves there are.
    pub count: u32,
    /// The leaf that answers for those beyond the last one of their range, as Intel's processors have it; [`ANY`] for none.
    pub beyond: u32,
    /// Unused.
    pub pad: u32,
    /// The first `count` are in use.
    pub leaves: [Leaf; LEAVES],
}

const _: () = assert!(size_of::<Answers>() <= 4096);

impl Answers {
    /// Without any leaf.
    pub const fn new(cpus: u32, beyond: u32) -> Answers {
        let none = Leaf {
            leaf: 0,
            subleaf: 0,
            regs: [0; 4],
        };
        Answers {
            cpus,
            count: 0,
            beyond,
            pad: 0,
            leaves: [none; LEAVES],
        }
    }

    /// All of it as it lies in memory.
    pub fn words(&self) -> impl Iterator<Item = u32> + '_ {
        let head = [self.cpus, self.count, self.beyond, self.pad];
        let of = |leaf: &Leaf| {
            let [a, b, c, d] = leaf.regs;
            [leaf.leaf, leaf.subleaf, a, b, c, d]
        };
        head.into_iter().chain(self.leaves.iter().flat_map(of))
    }

    /// Add one more. False when there is no room.
    pub fn add(&mut self, leaf: u32, subleaf: u32, regs: [u32; 4]) -> bool {
        let place = self.leaves.get_mut(self.count as usize);
        self.count += u32::from(place.is_some());
        place.map(|place| *place = Leaf { leaf, subleaf, regs }).is_some()
    }

    fn find(&self, leaf: u32, subleaf: u32) -> Option<[u32; 4]> {
        let known = self.leaves.iter().take(self.count as usize);
        let mut fitting = known.filter(|l| l.leaf == leaf && (l.subleaf == subleaf || l.subleaf == ANY));
        fitting.next().map(|l| l.regs)
    }

    /// What CPUID gives on the host's CPU `cpu` for `leaf` in eax and `subleaf` in ecx.
    pub fn answer(&self, leaf: u32, subleaf: u32, cpu: u32) -> [u32; 4] {
        let first = leaf & (HYPERVISOR | EXTENDED);
        let last = self.find(first, 0).map_or(0, |regs| regs[0]);
        let known = matches!(first, 0 | HYPERVISOR | EXTENDED) && leaf <= last;
        let leaf = if known { leaf } else { self.beyond };
        let id = cpu % self.cpus.max(1);
        let mut regs = self.find(leaf, subleaf).unwrap_or([0; 4]);
        match leaf {
            1 => regs[1] |= id << 24,
            EXTENDED_TOPOLOGY if self.find(leaf, 0).is_some() => {
                regs[0] = id;
                regs[1] |= id & 0xff;
            }
            _ if TOPOLOGY.contains(&leaf) && self.find(leaf, 0).is_some() => {
                regs[2] |= subleaf & 0xff;
                regs[3] = id;
            }
            _ => {}
        }
        regs
    }
}

/// Bytes of the CPUID instruction that `code` begins with; none when it is another one.
pub fn length(code: &[u8]) -> Option<usize> {
    /// Segment overrides, operand and address size, repetitions; LOCK makes it invalid.
    const PREFIXES: [u8; 10] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf2, 0xf3];
    let prefixes = code.iter().take_while(|byte| PREFIXES.contains(byte)).count();
    let rex = code.get(prefixes).is_some_and(|byte| byte & 0xf0 == 0x40);
    let at = prefixes + usize::from(rex);
    (code.get(at..at + 2) == Some(&[0x0f, 0xa2]) && at + 2 <= 15).then_some(at + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(beyond: u32) -> Answers {
        let mut answers = Answers::new(4, beyond);
        let leaves = [
            (0, ANY, [0xd, 1, 2, 3]),
            (1, ANY, [4, 5, 6, 7]),
            (0xb, 0, [0, 1, 0x100, 0]),
            (0xb, 1, [2, 4, 0x200, 0]),
            (0xd, 0, [7, 8, 9, 0]),
            (HYPERVISOR, ANY, [HYPERVISOR, 8, 8, 8]),
            (EXTENDED, ANY, [EXTENDED + 4, 0, 0, 0]),
        ];
        for (leaf, subleaf, regs) in leaves {
            assert!(answers.add(leaf, subleaf, regs));
        }
        answers
    }

    #[test]
    fn answers_tell_the_cpu_they_are_given_on() {
        let table = table(0xd);
        assert_eq!(table.answer(0, 99, 3), [0xd, 1, 2, 3]);
        assert_eq!(table.answer(1, 0, 6), [4, 5 | 2 << 24, 6, 7]);
        assert_eq!(table.answer(0xb, 1, 3), [2, 4, 0x201, 3]);
        assert_eq!(table.answer(0xb, 7, 1), [0, 0, 7, 1]);
    }

    #[test]
    fn beyond_the_last_leaf_there_is_what_the_vendor_has_there() {
        assert_eq!(table(0xd).answer(0x20, 0, 0), [7, 8, 9, 0]);
        assert_eq!(table(0xd).answer(0x8000_0005, 0, 0), [7, 8, 9, 0]);
        assert_eq!(table(0xd).answer(0x4000_0001, 0, 0), [7, 8, 9, 0]);
        assert_eq!(table(0xd).answer(0xc000_0000, 0, 0), [7, 8, 9, 0]);
        assert_eq!(table(ANY).answer(0x20, 0, 0), [0; 4]);
        assert_eq!(table(ANY).answer(2, 0, 0), [0; 4]);
    }

    #[test]
    fn the_instruction_is_known_with_its_prefixes() {
        assert_eq!(length(&[0x0f, 0xa2]), Some(2));
        assert_eq!(length(&[0x66, 0xf3, 0x48, 0x0f, 0xa2, 0x90]), Some(5));
        for other in [
            &[0x0f][..],
            &[],
            &[0x0f, 0x05],
            &[0xf0, 0x0f, 0xa2],
            &[0x48, 0x66, 0x0f, 0xa2],
        ] {
            assert_eq!(length(other), None, "{other:x?}");
        }
        let mut long = [0x66; 16];
        long[14..].copy_from_slice(&[0x0f, 0xa2]);
        assert_eq!(length(&long), None);
    }
}
