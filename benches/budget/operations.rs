//! Single operations, by `benches/guest/operations.c`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::calls::Calls;
use crate::table::{Budget, Row, Samples, Table, Unit};
use crate::variant::Variant;
use crate::{Effort, Ground, child};

/// Name in the program, label, budget.
const OPERATIONS: &[(&str, &str, Budget)] = &[
    ("getppid", "getppid", Budget::Ratio(0.5)),
    ("clock_gettime", "clock_gettime", Budget::Ratio(1.5)),
    ("cpuid", "CPUID", Budget::Ratio(1.5)),
    (
        "cpuid-fault",
        "CPUID at a site that cannot be patched",
        Budget::None,
    ),
    ("umask", "umask: a call that does nothing", Budget::None),
    ("stat", "stat, present", Budget::Ratio(4.0)),
    ("stat-absent", "stat, absent", Budget::Ratio(5.0)),
    ("stat-crowd", "stat, present, no CPU idle", Budget::Ratio(9.0)),
    (
        "stat-absent-crowd",
        "stat, absent, no CPU idle",
        Budget::Ratio(13.0),
    ),
    ("open", "open+close", Budget::Ratio(6.0)),
    ("pread", "pread 4 KiB", Budget::Ratio(1.5)),
    ("pwrite", "pwrite 4 KiB", Budget::Ratio(1.5)),
    ("pread-large", "pread 64 KiB", Budget::Ratio(1.5)),
    ("pipe", "pipe write+read", Budget::Ratio(2.0)),
    (
        "ping-pong",
        "pipe ping-pong, 2 processes on 1 CPU",
        Budget::Ratio(1.5),
    ),
    ("mmap", "mmap+touch+munmap", Budget::Ratio(1.3)),
    ("touch", "first touch of a page", Budget::Ratio(1.05)),
    ("fork", "fork+exit+wait", Budget::Ratio(2.5)),
    ("spawn", "posix_spawn of a static nop", Budget::None),
    ("thread", "thread create+join", Budget::Ratio(3.0)),
];

/// The programs' names for 1 and for 2 threads, label, and the least speed-up.
const SCALING: &[([&str; 2], &str, f64)] = &[
    (["compute-1", "compute-2"], "compute, 2 threads", 1.9),
    (
        ["futex-mix-1", "futex-mix-2"],
        "futex and small reads, 2 threads",
        1.5,
    ),
];

/// What no kernel of this shape can be without, by the native program: name, label.
const FLOORS: [(&str, &str); 3] = [
    (
        "hop-asleep",
        "a question and its answer between two processes, both asleep, 1 CPU",
    ),
    ("hop-watched", "the same, both looking, 2 CPUs"),
    ("trap", "a call that a seccomp filter makes a signal"),
];

/// Repetitions of the two runs whose difference is counted: in the first all sites are patched and files and pipes lent.
const COUNTED: [u32; 2] = [1000, 3000];

/// How many times longer a batch of those is: what threads do together is meant for more than the first milliseconds, in
/// which they are made and spread over the CPUs.
const SUSTAINED: u32 = 20;

pub(crate) fn measure(ground: &Ground, variants: &[Variant], effort: &Effort) -> Vec<Table> {
    let names = OPERATIONS
        .iter()
        .map(|(name, ..)| *name)
        .chain(SCALING.iter().flat_map(|(names, ..)| names.iter().copied()))
        .chain(FLOORS.iter().map(|(name, ..)| *name))
        .filter(|name| effort.wants(name));
    let mut figures: BTreeMap<&str, Vec<Samples>> = names
        .map(|name| (name, vec![Samples::default(); variants.len()]))
        .collect();
    for round in 1..=effort.rounds {
        eprintln!("operations: round {round} of {}", effort.rounds);
        for (name, samples) in &mut figures {
            let is_floor = FLOORS.iter().any(|(floor, ..)| floor == name);
            for (at, variant) in variants
                .iter()
                .enumerate()
                .filter(|(_, variant)| !is_floor || variant.is_native())
            {
                match once(ground, variant, effort, name) {
                    Ok(nanoseconds) => samples[at].push(nanoseconds),
                    Err(error) => eprintln!("{name}: {}: {error:#}", variant.title()),
                }
            }
        }
    }
    vec![
        costs(&figures),
        scaling(&figures, variants.len()),
        floors(&figures),
    ]
}

/// Nanoseconds of one operation in a guest of its own.
fn once(ground: &Ground, variant: &Variant, effort: &Effort, name: &str) -> Result<f64> {
    let program = variant.program(ground, "operations");
    let (batch, batches) = if SCALING.iter().any(|(names, ..)| names.contains(&name)) {
        (effort.batch * SUSTAINED, effort.batches.div_ceil(2))
    } else {
        (effort.batch, effort.batches)
    };
    let (batch, batches) = (batch.to_string(), batches.to_string());
    let arguments = [&program, "--batch", &batch, "--batches", &batches, name];
    let text = child::output(&mut variant.command(ground, &arguments))?;
    let (_, nanoseconds) = text.trim().split_once(' ').context("no figure")?;
    nanoseconds.parse().context("no figure")
}

/// Calls of one operation, by label.
pub(crate) fn calls(
    ground: &Ground,
    variant: &Variant,
    effort: &Effort,
) -> Vec<(&'static str, Result<Calls>)> {
    let all = OPERATIONS.iter().filter(|(name, ..)| effort.wants(name));
    all.map(|(name, label, _)| (*label, calls_of(ground, variant, name)))
        .collect()
}

fn calls_of(ground: &Ground, variant: &Variant, name: &str) -> Result<Calls> {
    let program = variant.program(ground, "operations");
    // Beside others it makes the calls that it makes alone.
    let name = name.trim_end_matches("-crowd");
    let run = |count: u32| Calls::of(ground, variant, &[&program, "--count", &count.to_string(), name]);
    let [few, many] = COUNTED;
    Ok(run(many)?.since(run(few)?).each(many - few))
}

fn costs(figures: &BTreeMap<&str, Vec<Samples>>) -> Table {
    let row = |(name, label, budget): &(&str, &str, Budget)| row(figures, name, label, *budget);
    Table {
        title: "Operations, ns",
        note: "",
        unit: Unit::Nanoseconds,
        rows: OPERATIONS.iter().filter_map(row).collect(),
    }
}

fn row(figures: &BTreeMap<&str, Vec<Samples>>, name: &str, label: &str, budget: Budget) -> Option<Row> {
    Some(Row {
        label: label.into(),
        budget,
        samples: figures.get(name)?.clone(),
    })
}

fn floors(figures: &BTreeMap<&str, Vec<Samples>>) -> Table {
    let row = |(name, label): &(&str, &str)| row(figures, name, label, Budget::None);
    Table {
        title: "Floors: what the host takes for that of which a call is made, ns",
        note: "",
        unit: Unit::Nanoseconds,
        rows: FLOORS.iter().filter_map(row).collect(),
    }
}

/// The least native figures of [`FLOORS`] among `tables`.
pub(crate) fn floors_of(tables: &[Table]) -> [Option<f64>; FLOORS.len()] {
    let rows = || tables.iter().flat_map(|table| &table.rows);
    FLOORS.map(|(_, label)| rows().find(|row| row.label == label)?.samples.first()?.least())
}

fn scaling(figures: &BTreeMap<&str, Vec<Samples>>, variants: usize) -> Table {
    let mut rows = Vec::new();
    for (names, label, least) in SCALING {
        let (Some(one), Some(two)) = (figures.get(names[0]), figures.get(names[1])) else {
            continue;
        };
        let mut row = Row::new(*label, Budget::Least(*least), variants);
        for (at, samples) in row.samples.iter_mut().enumerate() {
            if let (Some(one), Some(two)) = (one[at].least(), two[at].least()) {
                samples.push(one / two);
            }
        }
        rows.push(row);
    }
    Table {
        title: "Work of 2 threads on 2 CPUs, times that of one thread",
        note: "",
        unit: Unit::Times,
        rows,
    }
}
