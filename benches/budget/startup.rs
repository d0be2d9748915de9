//! A whole run from outside: from starting the command to having its status.

use std::process::Command;
use std::time::Instant;

use crate::table::{Budget, Row, Table, Unit};
use crate::variant::Variant;
use crate::{Effort, Ground, child};

/// Label, program, budget in nanoseconds.
const RUNS: &[(&str, Started, Budget)] = &[
    ("run ROOTFS /bin/true", Started::True, Budget::Most(4e6)),
    (
        "run ROOTFS static-nop: exec into nothing",
        Started::Nop,
        Budget::None,
    ),
];

#[derive(Clone, Copy)]
enum Started {
    True,
    Nop,
}

pub(crate) fn measure(ground: &Ground, variants: &[Variant], effort: &Effort) -> Vec<Table> {
    let mut rows: Vec<Row> = RUNS
        .iter()
        .map(|(label, _, budget)| Row::new(*label, *budget, variants.len()))
        .collect();
    for round in 1..=effort.rounds {
        eprintln!("startup: round {round} of {}", effort.rounds);
        for (row, (label, started, _)) in rows.iter_mut().zip(RUNS) {
            for (variant, samples) in variants.iter().zip(&mut row.samples) {
                for _ in 0..effort.starts {
                    let mut command = command(ground, variant, *started);
                    let start = Instant::now();
                    match child::run(&mut command) {
                        Ok(()) => samples.push(start.elapsed().as_secs_f64() * 1e9),
                        Err(error) => eprintln!("{label}: {}: {error:#}", variant.title()),
                    }
                }
            }
        }
    }
    vec![Table {
        title: "Start to end of a run, ms",
        note: "The whole command from outside; natively the program alone, on this machine's own root.",
        unit: Unit::Milliseconds,
        rows,
    }]
}

fn command(ground: &Ground, variant: &Variant, started: Started) -> Command {
    match (variant.is_native(), started) {
        // A chroot would be measured with the shell script that makes it.
        (true, Started::True) => Command::new("/bin/true"),
        (true, Started::Nop) => Command::new(ground.programs.join("nop")),
        (false, Started::True) => variant.start(ground, None),
        (false, Started::Nop) => variant.start(ground, Some("nop")),
    }
}
