//! /proc/cpuinfo.

use std::fmt::Write;

use super::features::{Set, find};
use super::leaves::brand;
use crate::platform::cpuid::Answers;

/// Names in the flags of every processor that are no features of CPUID: what Linux knows besides.
const KNOWN_TO_LINUX: &[&str] = &["rep_good", "nopl", "xtopology", "cpuid", "tsc_known_freq"];

/// The host's text with the guest's number of CPUs and features.
pub(super) fn of_host(text: &str, features: &Set, cpus: u32) -> String {
    let all: Vec<&str> = text.split_inclusive("\n\n").collect();
    let mut out = String::new();
    for cpu in 0..cpus {
        let Some(own) = all.get(cpu as usize).or(all.first()) else {
            break;
        };
        for line in own.lines() {
            let (key, value) = line.split_once(':').unwrap_or((line, ""));
            let number = match key.trim_end() {
                "" => continue,
                "processor" | "core id" | "apicid" | "initial apicid" => cpu,
                "physical id" => 0,
                "siblings" | "cpu cores" => cpus,
                "flags" => {
                    let _ = writeln!(out, "{key}: {}", flags(value, features));
                    continue;
                }
                _ => {
                    out.push_str(line);
                    out.push('\n');
                    continue;
                }
            };
            let _ = writeln!(out, "{key}: {number}");
        }
        out.push('\n');
    }
    out
}

/// The host's flags without those that the guest does not have.
fn flags(host: &str, features: &Set) -> String {
    let kept = host
        .split_whitespace()
        .filter(|name| find(name).is_none() || features.has(name));
    let mut kept: Vec<&str> = kept.collect();
    for name in ["ht", "hypervisor"] {
        if features.has(name) && !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept.join(" ")
}

/// That of a level's model.
pub(super) fn of_level(level: u8, answers: &Answers, features: &Set, cpus: u32) -> String {
    let [signature, ..] = answers.answer(1, 0, 0);
    let mut names: Vec<&str> = features.iter().map(|feature| feature.name).collect();
    names.extend(KNOWN_TO_LINUX);
    let mut out = String::new();
    for cpu in 0..cpus {
        let lines = [
            ("processor\t", cpu.to_string()),
            ("vendor_id\t", "GenuineIntel".into()),
            ("cpu family\t", (signature >> 8 & 0xf).to_string()),
            (
                "model\t\t",
                (signature >> 12 & 0xf0 | signature >> 4 & 0xf).to_string(),
            ),
            ("model name\t", brand(level)),
            ("stepping\t", (signature & 0xf).to_string()),
            ("microcode\t", "0x1".into()),
            ("cpu MHz\t\t", "2000.000".into()),
            ("cache size\t", "16384 KB".into()),
            ("physical id\t", "0".into()),
            ("siblings\t", cpus.to_string()),
            ("core id\t\t", cpu.to_string()),
            ("cpu cores\t", cpus.to_string()),
            ("apicid\t\t", cpu.to_string()),
            ("initial apicid\t", cpu.to_string()),
            ("fpu\t\t", "yes".into()),
            ("fpu_exception\t", "yes".into()),
            ("cpuid level\t", answers.answer(0, 0, 0)[0].to_string()),
            ("wp\t\t", "yes".into()),
            ("flags\t\t", names.join(" ")),
            ("bugs\t\t", String::new()),
            ("bogomips\t", "4000.00".into()),
            ("clflush size\t", "64".into()),
            ("cache_alignment\t", "64".into()),
            ("address sizes\t", "46 bits physical, 48 bits virtual".into()),
            ("power management", String::new()),
        ];
        for (key, value) in lines {
            let _ = match value.as_str() {
                "" => writeln!(out, "{key}:"),
                value => writeln!(out, "{key}: {value}"),
            };
        }
        out.push('\n');
    }
    out
}
