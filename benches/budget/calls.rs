//! What calls to the kernel make of a figure: how many there are, and what they would take if the kernel had nothing to do.
//!
//! A call that another process answers takes at least a question and its answer between two processes, which the native
//! program measures in the same run. The native figure and so many of these are the floor of a line.

use anyhow::{Context, Result};

use crate::table::{Row, Samples, Table, Unit};
use crate::variant::Variant;
use crate::{Effort, Ground, child, operations, programs};

/// Calls that came to the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    all: f64,
    /// Of these, by a trap and not by a patched site.
    trapped: f64,
}

impl Calls {
    /// Of a whole run of `program`.
    pub(crate) fn of(ground: &Ground, variant: &Variant, program: &[&str]) -> Result<Calls> {
        let mut command = variant.counting(ground, program).context("only uvm counts")?;
        let (_, report) = child::outputs(&mut command)?;
        let number = |what: &str| {
            let before = report.split_once(what)?.0;
            before.rsplit([' ', '\n']).next()?.parse().ok()
        };
        Ok(Calls {
            all: number(" calls to the kernel").context("no count of calls")?,
            trapped: number(" trapped;").context("no count of traps")?,
        })
    }

    /// What came after `before`.
    pub(crate) fn since(self, before: Calls) -> Calls {
        Calls {
            all: self.all - before.all,
            trapped: self.trapped - before.trapped,
        }
    }

    /// On each of so many.
    pub(crate) fn each(self, count: u32) -> Calls {
        Calls {
            all: self.all / f64::from(count),
            trapped: self.trapped / f64::from(count),
        }
    }
}

/// Least figures of the native program, in nanoseconds.
struct Floors {
    /// A question and its answer, whichever way is faster.
    hop: f64,
    /// The same while no CPU is idle.
    crowded_hop: f64,
    trap: f64,
}

/// A table of cells for each of the tables of times among `tables`, by title; none where the floors were not measured.
pub(crate) fn measure(
    ground: &Ground,
    variants: &[Variant],
    effort: &Effort,
    tables: &[Table],
) -> Vec<(String, Vec<Vec<String>>)> {
    let place = variants.iter().position(|variant| variant.is_uvm("seccomp"));
    let (Some(at), Some(floors)) = (place, floors(tables)) else {
        return Vec::new();
    };
    eprintln!("calls");
    let mut calls = operations::calls(ground, &variants[at], effort);
    calls.extend(programs::calls(ground, &variants[at], effort));
    let compared = tables
        .iter()
        .filter(|table| matches!(table.unit, Unit::Nanoseconds | Unit::Milliseconds));
    let mut made = Vec::new();
    for table in compared {
        let line = |row: &Row| {
            let (_, calls) = calls.iter().find(|(label, _)| *label == row.label)?;
            match calls {
                Ok(calls) => line(table.unit, row, at, *calls, &floors),
                Err(error) => {
                    eprintln!("calls: {}: {error:#}", row.label);
                    None
                }
            }
        };
        let lines: Vec<_> = table.rows.iter().filter_map(line).collect();
        if !lines.is_empty() {
            let head = [
                "",
                "calls to the kernel",
                "by a trap",
                "native",
                "floor",
                "uvm seccomp",
                "x floor",
            ];
            let head = head.map(ToOwned::to_owned).to_vec();
            let title = format!(
                "Calls to the kernel, and the floor that they make: {}",
                table.title
            );
            made.push((title, [vec![head], lines].concat()));
        }
    }
    made
}

fn floors(tables: &[Table]) -> Option<Floors> {
    let [asleep, watched, trap] = operations::floors_of(tables);
    Some(Floors {
        hop: asleep?.min(watched?),
        crowded_hop: asleep?,
        trap: trap?,
    })
}

fn line(unit: Unit, row: &Row, at: usize, calls: Calls, floors: &Floors) -> Option<Vec<String>> {
    let native = row.samples.first()?.least()?;
    let measured = row.samples.get(at).and_then(Samples::least)?;
    let hop = if row.label.contains("no CPU idle") {
        floors.crowded_hop
    } else {
        floors.hop
    };
    let floor = native + calls.all * hop + calls.trapped * floors.trap;
    // Two runs may differ by a call that neither of them made for the operation.
    let count = |number: f64| match number.max(0.0) {
        many if many >= 100.0 => format!("{many:.0}"),
        few => format!("{few:.1}"),
    };
    Some(vec![
        row.label.clone(),
        count(calls.all),
        count(calls.trapped),
        unit.text(Some(native)),
        unit.text(Some(floor)),
        unit.text(Some(measured)),
        format!("{:.2}", measured / floor),
    ])
}
