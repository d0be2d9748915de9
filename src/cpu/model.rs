//! Which processor a guest is shown, chosen by `--cpu` and `--cpus`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::OnceLock;

use super::cpuinfo;
use super::features::{Set, find};
use super::leaves::{self, Ask};
use super::missing;
use crate::platform::cpuid::{Answers, EXTENDED};
use crate::platform::host;

/// `--cpu`: a model, and features that it has beyond itself or lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// 1 to 4; 0 for the host's own processor.
    level: u8,
    /// In order: a feature, and whether it is added.
    changes: Vec<(usize, bool)>,
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        let mut parts = text.split(',');
        let base = parts.next().unwrap_or_default();
        let level = match base {
            "host" => 0,
            "x86-64" | "x86-64-v1" => 1,
            "x86-64-v2" => 2,
            "x86-64-v3" => 3,
            "x86-64-v4" => 4,
            _ => {
                return Err(format!(
                    "'{base}' is no processor: host and x86-64-v1 to x86-64-v4 are"
                ));
            }
        };
        let change = |part: &str| {
            let added = part.starts_with('+');
            let name = part.strip_prefix(['+', '-']);
            let name = name.ok_or_else(|| format!("'{part}' does not begin with + or -"))?;
            let index =
                find(name).ok_or_else(|| format!("'{name}' is no feature that /proc/cpuinfo names"))?;
            Ok::<_, String>((index, added))
        };
        Ok(Choice {
            level,
            changes: parts.map(change).collect::<Result<_, _>>()?,
        })
    }
}

impl Choice {
    /// Whether it is the host's own processor without any change.
    pub fn is_host(&self) -> bool {
        *self == Choice::default()
    }

    /// The same without its sources of random numbers.
    pub fn without_randomness(mut self) -> Choice {
        let sources = ["rdrand", "rdseed"].into_iter().filter_map(find);
        self.changes.extend(sources.map(|index| (index, false)));
        self
    }
}

/// The processor of a guest.
#[derive(Clone, Debug)]
pub struct Model {
    /// CPUs, at least 1.
    pub cpus: u32,
    level: u8,
    features: Set,
    answers: Answers,
    host_cpuinfo: fn() -> String,
    /// Made when somebody reads it: most guests do not.
    cpuinfo: OnceLock<String>,
    emulated: bool,
}

/// What uvm knows of the host's processor.
pub struct HostProcessor<'a> {
    /// Answers CPUID.
    pub ask: Ask<'a>,
    /// Reads /proc/cpuinfo.
    pub cpuinfo: fn() -> String,
}

impl Model {
    /// The processor of `choice` with so many CPUs. What is `emulated` is not missing.
    ///
    /// # Errors
    /// A line that says which features the host lacks.
    pub fn new(
        choice: &Choice,
        cpus: u32,
        emulated: bool,
        host: &HostProcessor<'_>,
    ) -> Result<Model, String> {
        let cpus = cpus.max(1);
        // Asking may take microseconds.
        let known = RefCell::new(HashMap::new());
        let ask = |leaf, subleaf| {
            *known
                .borrow_mut()
                .entry((leaf, subleaf))
                .or_insert_with(|| (host.ask)(leaf, subleaf))
        };
        let has = Set::of(|feature| {
            let word = feature.word;
            let last = ask(word.leaf & EXTENDED, 0)[0];
            // Its state needs a permission that no guest gets.
            !feature.name.starts_with("amx_")
                && word.leaf <= last
                && ask(word.leaf, word.subleaf)[word.register] >> feature.bit & 1 != 0
        });
        let features = choose(choice, cpus, &has, emulated)?;
        let leaves = match choice.level {
            0 => leaves::of_host(&ask),
            level => leaves::of_level(level, &ask),
        };
        let answers = leaves::answers(leaves, &features, cpus);
        Ok(Model {
            cpus,
            level: choice.level,
            features,
            answers,
            host_cpuinfo: host.cpuinfo,
            cpuinfo: OnceLock::new(),
            emulated,
        })
    }

    /// The processor of `choice` on this machine.
    ///
    /// # Errors
    /// As those of [`Model::new`].
    pub fn here(choice: &Choice, cpus: u32, emulated: bool) -> Result<Model, String> {
        let host = HostProcessor {
            ask: &host::cpuid,
            cpuinfo: || std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
        };
        Model::new(choice, cpus, emulated, &host)
    }

    /// Whether instructions that the host's processor lacks are carried out.
    pub fn emulates_missing(&self) -> bool {
        self.emulated
    }

    /// What CPUID says.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// What /proc/cpuinfo says.
    pub fn cpuinfo(&self) -> &str {
        self.cpuinfo.get_or_init(|| match self.level {
            0 => cpuinfo::of_host(&(self.host_cpuinfo)(), &self.features, self.cpus),
            level => cpuinfo::of_level(level, &self.answers, &self.features, self.cpus),
        })
    }

    /// AT_HWCAP.
    pub fn hwcap(&self) -> u64 {
        let [.., edx] = self.answers.answer(1, 0, 0);
        edx.into()
    }

    /// AT_HWCAP2, where the host's is `host`.
    pub fn hwcap2(&self, host: u64) -> u64 {
        /// The FSGSBASE instructions may be used.
        const FSGSBASE: u64 = 1 << 1;
        if self.features.has("fsgsbase") {
            host & FSGSBASE
        } else {
            0
        }
    }
}

/// The features of `choice` where the host has these.
fn choose(choice: &Choice, cpus: u32, has: &Set, emulated: bool) -> Result<Set, String> {
    let mut wanted = match choice.level {
        0 => has.clone(),
        level => Set::of(|feature| (1..=level).contains(&feature.level)),
    };
    for name in [Some("hypervisor"), (cpus > 1).then_some("ht")]
        .into_iter()
        .flatten()
    {
        find(name).into_iter().for_each(|index| wanted.add(index));
    }
    for &(index, added) in &choice.changes {
        if added {
            wanted.add(index);
        } else {
            wanted.remove(index);
        }
    }
    // These two say something of the guest, not of the host.
    let mut ours = vec!["hypervisor", "ht"];
    if emulated {
        ours.extend(missing::SHOWN);
    }
    let lacking: Vec<&str> = wanted.iter().map(|feature| feature.name).collect();
    let lacking: Vec<&str> = lacking
        .into_iter()
        .filter(|name| !has.has(name) && !ours.contains(name))
        .collect();
    if lacking.is_empty() {
        Ok(wanted)
    } else {
        Err(format!("this machine's processor lacks {}", lacking.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::features::FEATURES;
    use crate::platform::cpuid::HYPERVISOR;

    /// A made-up processor of everything, or without some leaf-7 features.
    fn made_up(leaf7: u32) -> impl Fn(u32, u32) -> [u32; 4] {
        move |leaf, subleaf| match (leaf, subleaf) {
            (0, _) => [0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
            (1, _) => [0x806f8, 0x07ff_0800, u32::MAX, u32::MAX],
            (4, n @ 0..4) => [(0x121 + n * 0x21) | 0xffff_c000, 0x1c0_003f, 0x3f, 0],
            (7, 0) => [1, leaf7, u32::MAX, u32::MAX],
            (0xb | 0x1f, 0) => [1, 2, 0x100, 77],
            (0xd, 0) => [0x6_0007, 0x2b00, 0x2b00, 0],
            (0xd, 2) => [0x100, 0x240, 0, 0],
            (0xd, 1) => [0xf, 0x340, 0, 0],
            (0xd, 17) => [0x40, 0xac0, 2, 0],
            (0xd, 18) => [0x2000, 0xb00, 6, 0],
            (0x1d | 0x1e, 0) => [1; 4],
            (0x8000_0000, _) => [0x8000_0008, 0, 0, 0],
            (0x8000_0001..=0x8000_0008, _) => [u32::MAX; 4],
            _ => [0; 4],
        }
    }

    fn model(text: &str, cpus: u32, leaf7: u32) -> Result<Model, String> {
        let ask = made_up(leaf7);
        let host = HostProcessor {
            ask: &ask,
            cpuinfo: || {
                "processor\t: 0\nmodel name\t: made up\nflags\t\t: fpu avx avx2 own_name\n\n".to_owned()
            },
        };
        Model::new(&text.parse()?, cpus, false, &host)
    }

    #[test]
    fn nonsense_gets_a_line() {
        for wrong in [
            "",
            "pentium",
            "x86-64-v5",
            "host,avx",
            "host,+",
            "host,-flux",
            "host,,",
        ] {
            let error = wrong.parse::<Choice>().unwrap_err();
            assert!(!error.contains('\n'), "{error}");
        }
        let error = model("x86-64-v3", 1, 1 << 3).unwrap_err();
        assert_eq!(error, "this machine's processor lacks avx2, bmi2");
        let error = model("host,+avx512bw", 1, 1 << 5).unwrap_err();
        assert_eq!(error, "this machine's processor lacks avx512f, avx512bw");
    }

    #[test]
    fn a_level_says_the_same_wherever_it_runs() {
        let (one, other) = (
            model("x86-64-v3", 3, u32::MAX).unwrap(),
            model("x86-64-v3", 3, 0x128).unwrap(),
        );
        for leaf in [
            0,
            1,
            2,
            4,
            6,
            7,
            0xb,
            HYPERVISOR,
            0x8000_0000,
            0x8000_0001,
            0x8000_0003,
        ] {
            for subleaf in 0..4 {
                let (one, other) = (one.answers(), other.answers());
                assert_eq!(
                    one.answer(leaf, subleaf, 1),
                    other.answer(leaf, subleaf, 1),
                    "{leaf:x}"
                );
            }
        }
        assert_eq!(one.cpuinfo(), other.cpuinfo());
        assert_eq!(one.answers().answer(0xd, 0, 0), [7, 0x2b00, 0x2b00, 0]);
    }

    #[test]
    fn nobody_is_shown_amx() {
        let host = model("host", 1, u32::MAX).unwrap();
        assert_eq!(host.answers().answer(7, 0, 0)[3] & (1 << 22 | 3 << 24), 0);
        // Who saves all that XGETBV names still needs the room for it.
        assert_eq!(host.answers().answer(0xd, 0, 0), [7, 0x2b00, 0x2b00, 0]);
        for (leaf, subleaf) in [(0xd, 17), (0xd, 18), (0x1d, 0), (0x1e, 0)] {
            assert_eq!(host.answers().answer(leaf, subleaf, 0), [0; 4]);
        }
        let error = model("host,+amx_tile", 1, u32::MAX).unwrap_err();
        assert_eq!(error, "this machine's processor lacks amx_tile");
    }

    #[test]
    fn what_a_level_lacks_is_nowhere() {
        let v2 = model("x86-64-v2,+aes", 1, u32::MAX).unwrap();
        let [_, _, ecx, edx] = v2.answers().answer(1, 0, 0);
        assert_eq!((ecx >> 25 & 1, ecx >> 26 & 7, edx & 0xff), (1, 0, 0xff));
        assert_eq!(v2.answers().answer(7, 0, 0)[1..], [0; 3]);
        assert_eq!(v2.answers().answer(0xd, 0, 0), [0; 4]);
        assert_eq!((v2.hwcap(), v2.hwcap2(3)), (u64::from(edx), 0));
        assert!(v2.cpuinfo().contains(" aes ") && !v2.cpuinfo().contains("avx"));
        assert_eq!(model("host", 1, u32::MAX).unwrap().hwcap2(3), 2);
    }

    #[test]
    fn the_topology_is_that_of_the_guest() {
        let host = model("host", 6, u32::MAX).unwrap();
        let answer = |leaf, subleaf| host.answers().answer(leaf, subleaf, 5);
        assert_eq!(answer(1, 0)[1], 5 << 24 | 8 << 16 | 0x800);
        assert_eq!(
            (answer(4, 0)[0] >> 14, answer(4, 3)[0] >> 14),
            (7 << 12, 7 << 12 | 7)
        );
        assert_eq!(answer(0xb, 0), [0, 1, 0x100, 5]);
        assert_eq!(answer(0x1f, 1), [3, 6, 0x201, 5]);
        assert_eq!(
            answer(HYPERVISOR, 0),
            [HYPERVISOR, 0x756d_7675, 0x7675_6d76, 0x6d]
        );
        assert_eq!(host.cpuinfo().matches("processor\t: ").count(), 6);
        let one = model("host", 1, u32::MAX).unwrap();
        assert_eq!(one.answers().answer(0xb, 1, 3), [0, 1, 0x201, 0]);
    }

    #[test]
    fn every_name_is_in_the_table_once() {
        let mut names: Vec<_> = FEATURES.iter().map(|feature| feature.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FEATURES.len());
    }
}
