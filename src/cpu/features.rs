//! Features of processors by the names that /proc/cpuinfo has for them: where CPUID tells of each, which level of the x86-64 psABI
//! it belongs to, and what it is of no use without.

use std::fmt;

/// A register of CPUID that tells of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) leaf: u32,
    pub(super) subleaf: u32,
    /// 0 to 3: eax, ebx, ecx, edx.
    pub(super) register: usize,
}

const fn word(leaf: u32, subleaf: u32, register: usize) -> Word {
    Word {
        leaf,
        subleaf,
        register,
    }
}

const D1: Word = word(1, 0, 3);
const C1: Word = word(1, 0, 2);
const B7: Word = word(7, 0, 1);
const C7: Word = word(7, 0, 2);
const D7: Word = word(7, 0, 3);
const A71: Word = word(7, 1, 0);
const D71: Word = word(7, 1, 3);
const XS: Word = word(0xd, 1, 0);
const DE: Word = word(0x8000_0001, 0, 3);
const CE: Word = word(0x8000_0001, 0, 2);
const D87: Word = word(0x8000_0007, 0, 3);
const B88: Word = word(0x8000_0008, 0, 1);

/// One feature.
#[derive(Debug)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) word: Word,
    pub(super) bit: u32,
    /// 1 to 4 for x86-64-v1 to -v4; 0 for none.
    pub(super) level: u8,
    /// The feature that it builds on; empty for none.
    pub(super) needs: &'static str,
}

const fn feature(name: &'static str, word: Word, bit: u32, level: u8, needs: &'static str) -> Feature {
    Feature {
        name,
        word,
        bit,
        level,
        needs,
    }
}

/// In the order in which Linux prints them.
pub(super) const FEATURES: &[Feature] = &[
    feature("fpu", D1, 0, 1, ""),
    feature("vme", D1, 1, 1, ""),
    feature("de", D1, 2, 1, ""),
    feature("pse", D1, 3, 1, ""),
    feature("tsc", D1, 4, 1, ""),
    feature("msr", D1, 5, 1, ""),
    feature("pae", D1, 6, 1, ""),
    feature("mce", D1, 7, 1, ""),
    feature("cx8", D1, 8, 1, ""),
    feature("apic", D1, 9, 1, ""),
    feature("sep", D1, 11, 1, ""),
    feature("mtrr", D1, 12, 1, ""),
    feature("pge", D1, 13, 1, ""),
    feature("mca", D1, 14, 1, ""),
    feature("cmov", D1, 15, 1, ""),
    feature("pat", D1, 16, 1, ""),
    feature("pse36", D1, 17, 1, ""),
    feature("clflush", D1, 19, 1, ""),
    feature("dts", D1, 21, 0, ""),
    feature("acpi", D1, 22, 0, ""),
    feature("mmx", D1, 23, 1, ""),
    feature("fxsr", D1, 24, 1, ""),
    feature("sse", D1, 25, 1, "fxsr"),
    feature("sse2", D1, 26, 1, "sse"),
    feature("ss", D1, 27, 0, ""),
    feature("ht", D1, 28, 0, ""),
    feature("tm", D1, 29, 0, ""),
    feature("pbe", D1, 31, 0, ""),
    feature("syscall", DE, 11, 1, ""),
    feature("nx", DE, 20, 1, ""),
    feature("mmxext", DE, 22, 0, ""),
    feature("fxsr_opt", DE, 25, 0, "fxsr"),
    feature("pdpe1gb", DE, 26, 0, ""),
    feature("rdtscp", DE, 27, 0, ""),
    feature("lm", DE, 29, 1, ""),
    feature("3dnowext", DE, 30, 0, "3dnow"),
    feature("3dnow", DE, 31, 0, ""),
    feature("constant_tsc", D87, 8, 0, ""),
    feature("pni", C1, 0, 2, "sse2"),
    feature("pclmulqdq", C1, 1, 0, "sse2"),
    feature("dtes64", C1, 2, 0, ""),
    feature("monitor", C1, 3, 0, ""),
    feature("ds_cpl", C1, 4, 0, ""),
    feature("vmx", C1, 5, 0, ""),
    feature("smx", C1, 6, 0, ""),
    feature("est", C1, 7, 0, ""),
    feature("tm2", C1, 8, 0, ""),
    feature("ssse3", C1, 9, 2, "pni"),
    feature("cid", C1, 10, 0, ""),
    feature("sdbg", C1, 11, 0, ""),
    feature("fma", C1, 12, 3, "avx"),
    feature("cx16", C1, 13, 2, ""),
    feature("xtpr", C1, 14, 0, ""),
    feature("pdcm", C1, 15, 0, ""),
    feature("pcid", C1, 17, 0, ""),
    feature("dca", C1, 18, 0, ""),
    feature("sse4_1", C1, 19, 2, "ssse3"),
    feature("sse4_2", C1, 20, 2, "sse4_1"),
    feature("x2apic", C1, 21, 0, ""),
    feature("movbe", C1, 22, 3, ""),
    feature("popcnt", C1, 23, 2, ""),
    feature("tsc_deadline_timer", C1, 24, 0, ""),
    feature("aes", C1, 25, 0, "sse2"),
    feature("xsave", C1, 26, 3, "fxsr"),
    feature("avx", C1, 28, 3, "xsave"),
    feature("f16c", C1, 29, 3, "avx"),
    feature("rdrand", C1, 30, 0, ""),
    feature("hypervisor", C1, 31, 1, ""),
    feature("lahf_lm", CE, 0, 2, ""),
    feature("cmp_legacy", CE, 1, 0, ""),
    feature("svm", CE, 2, 0, ""),
    feature("extapic", CE, 3, 0, ""),
    feature("cr8_legacy", CE, 4, 0, ""),
    feature("abm", CE, 5, 3, ""),
    feature("sse4a", CE, 6, 0, "pni"),
    feature("misalignsse", CE, 7, 0, "sse"),
    feature("3dnowprefetch", CE, 8, 0, ""),
    feature("osvw", CE, 9, 0, ""),
    feature("ibs", CE, 10, 0, ""),
    feature("xop", CE, 11, 0, "avx"),
    feature("skinit", CE, 12, 0, ""),
    feature("wdt", CE, 13, 0, ""),
    feature("lwp", CE, 15, 0, "xsave"),
    feature("fma4", CE, 16, 0, "avx"),
    feature("tce", CE, 17, 0, ""),
    feature("nodeid_msr", CE, 19, 0, ""),
    feature("tbm", CE, 21, 0, ""),
    feature("topoext", CE, 22, 0, ""),
    feature("perfctr_core", CE, 23, 0, ""),
    feature("perfctr_nb", CE, 24, 0, ""),
    feature("bpext", CE, 26, 0, ""),
    feature("ptsc", CE, 27, 0, ""),
    feature("perfctr_llc", CE, 28, 0, ""),
    feature("mwaitx", CE, 29, 0, ""),
    feature("fsgsbase", B7, 0, 0, ""),
    feature("tsc_adjust", B7, 1, 0, ""),
    feature("sgx", B7, 2, 0, ""),
    feature("bmi1", B7, 3, 3, ""),
    feature("hle", B7, 4, 0, ""),
    feature("avx2", B7, 5, 3, "avx"),
    feature("smep", B7, 7, 0, ""),
    feature("bmi2", B7, 8, 3, ""),
    feature("erms", B7, 9, 0, ""),
    feature("invpcid", B7, 10, 0, ""),
    feature("rtm", B7, 11, 0, ""),
    feature("cqm", B7, 12, 0, ""),
    feature("mpx", B7, 14, 0, "xsave"),
    feature("rdt_a", B7, 15, 0, ""),
    feature("avx512f", B7, 16, 4, "avx2"),
    feature("avx512dq", B7, 17, 4, "avx512f"),
    feature("rdseed", B7, 18, 0, ""),
    feature("adx", B7, 19, 0, ""),
    feature("smap", B7, 20, 0, ""),
    feature("avx512ifma", B7, 21, 0, "avx512f"),
    feature("clflushopt", B7, 23, 0, ""),
    feature("clwb", B7, 24, 0, ""),
    feature("intel_pt", B7, 25, 0, ""),
    feature("avx512pf", B7, 26, 0, "avx512f"),
    feature("avx512er", B7, 27, 0, "avx512f"),
    feature("avx512cd", B7, 28, 4, "avx512f"),
    feature("sha_ni", B7, 29, 0, "sse2"),
    feature("avx512bw", B7, 30, 4, "avx512f"),
    feature("avx512vl", B7, 31, 4, "avx512f"),
    feature("xsaveopt", XS, 0, 0, "xsave"),
    feature("xsavec", XS, 1, 0, "xsave"),
    feature("xgetbv1", XS, 2, 0, "xsave"),
    feature("xsaves", XS, 3, 0, "xsave"),
    feature("sha512", A71, 0, 0, "avx2"),
    feature("sm3", A71, 1, 0, "avx"),
    feature("sm4", A71, 2, 0, "avx2"),
    feature("avx_vnni", A71, 4, 0, "avx2"),
    feature("avx512_bf16", A71, 5, 0, "avx512bw"),
    feature("cmpccxadd", A71, 7, 0, ""),
    feature("fzrm", A71, 10, 0, ""),
    feature("fsrs", A71, 11, 0, ""),
    feature("fsrc", A71, 12, 0, ""),
    feature("amx_fp16", A71, 21, 0, "amx_tile"),
    feature("avx_ifma", A71, 23, 0, "avx2"),
    feature("lam", A71, 26, 0, ""),
    feature("avx_vnni_int8", D71, 4, 0, "avx2"),
    feature("avx_ne_convert", D71, 5, 0, "avx2"),
    feature("amx_complex", D71, 8, 0, "amx_tile"),
    feature("avx_vnni_int16", D71, 10, 0, "avx2"),
    feature("prefetchi", D71, 14, 0, ""),
    feature("clzero", B88, 0, 0, ""),
    feature("irperf", B88, 1, 0, ""),
    feature("xsaveerptr", B88, 2, 0, ""),
    feature("rdpru", B88, 4, 0, ""),
    feature("wbnoinvd", B88, 9, 0, ""),
    feature("avx512vbmi", C7, 1, 0, "avx512bw"),
    feature("umip", C7, 2, 0, ""),
    feature("pku", C7, 3, 0, "xsave"),
    feature("ospke", C7, 4, 0, "pku"),
    feature("waitpkg", C7, 5, 0, ""),
    feature("avx512_vbmi2", C7, 6, 0, "avx512bw"),
    feature("gfni", C7, 8, 0, "sse2"),
    feature("vaes", C7, 9, 0, "avx"),
    feature("vpclmulqdq", C7, 10, 0, "avx"),
    feature("avx512_vnni", C7, 11, 0, "avx512f"),
    feature("avx512_bitalg", C7, 12, 0, "avx512bw"),
    feature("tme", C7, 13, 0, ""),
    feature("avx512_vpopcntdq", C7, 14, 0, "avx512f"),
    feature("la57", C7, 16, 0, ""),
    feature("rdpid", C7, 22, 0, ""),
    feature("bus_lock_detect", C7, 24, 0, ""),
    feature("cldemote", C7, 25, 0, ""),
    feature("movdiri", C7, 27, 0, ""),
    feature("movdir64b", C7, 28, 0, ""),
    feature("enqcmd", C7, 29, 0, ""),
    feature("avx512_4vnniw", D7, 2, 0, "avx512f"),
    feature("avx512_4fmaps", D7, 3, 0, "avx512f"),
    feature("fsrm", D7, 4, 0, ""),
    feature("avx512_vp2intersect", D7, 8, 0, "avx512f"),
    feature("md_clear", D7, 10, 0, ""),
    feature("serialize", D7, 14, 0, ""),
    feature("tsxldtrk", D7, 16, 0, "rtm"),
    feature("pconfig", D7, 18, 0, ""),
    feature("arch_lbr", D7, 19, 0, ""),
    feature("ibt", D7, 20, 0, ""),
    feature("amx_bf16", D7, 22, 0, "amx_tile"),
    feature("avx512_fp16", D7, 23, 0, "avx512bw"),
    feature("amx_tile", D7, 24, 0, "xsave"),
    feature("amx_int8", D7, 25, 0, "amx_tile"),
    feature("flush_l1d", D7, 28, 0, ""),
    feature("arch_capabilities", D7, 29, 0, ""),
];

/// Names that others than Linux have for features, and what Linux calls them.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("lzcnt", "abm"),
    ("sse3", "pni"),
    ("sse4.1", "sse4_1"),
    ("sse4.2", "sse4_2"),
    ("sha", "sha_ni"),
    ("lahf", "lahf_lm"),
];

/// Where in [`FEATURES`] a name is.
pub(super) fn find(name: &str) -> Option<usize> {
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name);
    let name = other.map_or(name, |(_, known)| known);
    FEATURES.iter().position(|feature| feature.name == name)
}

/// Some of [`FEATURES`].
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Set([bool; FEATURES.len()]);

impl Set {
    /// Those that are `wanted`.
    pub(super) fn of(wanted: impl Fn(&Feature) -> bool) -> Set {
        let mut set = Set([false; FEATURES.len()]);
        for (has, feature) in set.0.iter_mut().zip(FEATURES) {
            *has = wanted(feature);
        }
        set
    }

    pub(super) fn has(&self, name: &str) -> bool {
        find(name).is_some_and(|index| self.0[index])
    }

    /// Add a feature and what it builds on.
    pub(super) fn add(&mut self, index: usize) {
        let mut next = Some(index);
        while let Some(index) = next {
            self.0[index] = true;
            next = find(FEATURES[index].needs);
        }
    }

    /// Remove a feature and all that builds on it.
    pub(super) fn remove(&mut self, index: usize) {
        self.0[index] = false;
        for (other, feature) in FEATURES.iter().enumerate() {
            if self.0[other] && feature.needs == FEATURES[index].name {
                self.remove(other);
            }
        }
    }

    /// The features in it.
    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Feature> + '_ {
        FEATURES
            .iter()
            .zip(&self.0)
            .filter(|(_, has)| **has)
            .map(|(feature, _)| feature)
    }

    /// A word of CPUID with the bits of all features in it set, and those of all others clear.
    pub(super) fn apply(&self, word: Word, value: u32) -> u32 {
        let of_word = FEATURES
            .iter()
            .zip(&self.0)
            .filter(|(feature, _)| feature.word == word);
        of_word.fold(value, |value, (feature, has)| {
            value & !(1 << feature.bit) | u32::from(*has) << feature.bit
        })
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.iter().map(|feature| feature.name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_told_apart_and_build_on_ones_that_exist() {
        for (at, feature) in FEATURES.iter().enumerate() {
            assert_eq!(find(feature.name), Some(at), "{}", feature.name);
            let same = |other: &Feature| other.word == feature.word && other.bit == feature.bit;
            assert_eq!(FEATURES.iter().position(same), Some(at), "{}", feature.name);
            assert!(
                feature.needs.is_empty() || find(feature.needs).is_some(),
                "{}",
                feature.name
            );
            if let Some(needed) = find(feature.needs) {
                let lower = FEATURES[needed].level;
                assert!(
                    feature.level == 0 || (1..=feature.level).contains(&lower),
                    "{}",
                    feature.name
                );
            }
        }
        assert_eq!(find("lzcnt"), find("abm"));
        assert_eq!(find(""), None);
    }

    #[test]
    fn adding_takes_what_is_needed_along_and_removing_what_needs_it() {
        let mut set = Set::of(|_| false);
        set.add(find("avx512bw").unwrap());
        let names: Vec<_> = set.iter().map(|feature| feature.name).collect();
        assert_eq!(names, ["fxsr", "xsave", "avx", "avx2", "avx512f", "avx512bw"]);
        set.remove(find("avx").unwrap());
        let names: Vec<_> = set.iter().map(|feature| feature.name).collect();
        assert_eq!(names, ["fxsr", "xsave"]);
    }

    #[test]
    fn words_keep_bits_that_are_no_feature_here() {
        let set = Set::of(|feature| feature.name == "bmi2");
        assert_eq!(set.apply(B7, u32::MAX) & 1 << 8, 1 << 8);
        assert_eq!(set.apply(B7, u32::MAX) & 1 << 6, 1 << 6);
        assert_eq!(set.apply(B7, 0), 1 << 8);
    }
}
