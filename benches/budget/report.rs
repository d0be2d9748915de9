//! The figures as Markdown tables, with the budget beside them.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::table::{Budget, Row, Samples, Table, Unit};
use crate::variant::Variant;

/// What `--write` replaces in a file lies between these lines; the rest of it is written by hand.
const BEGIN: &str = "<!-- cargo bench -- --write: from here -->";
const END: &str = "<!-- cargo bench -- --write: to here -->";

/// All that was measured so far.
pub(crate) struct Report {
    titles: Vec<String>,
    /// Whose figures are held against the budget.
    judged: Option<usize>,
    text: String,
    /// Ratios to native by table and variant.
    ratios: Vec<(&'static str, Vec<Vec<f64>>)>,
    met: usize,
    not_met: Vec<String>,
}

impl Report {
    pub(crate) fn new(variants: &[Variant]) -> Report {
        let place = |platform| variants.iter().position(|variant| variant.is_uvm(platform));
        Report {
            titles: variants.iter().map(Variant::title).collect(),
            judged: place("seccomp").or_else(|| place("ptrace")),
            text: String::new(),
            ratios: Vec::new(),
            met: 0,
            not_met: Vec::new(),
        }
    }

    /// Takes a table in; its text.
    pub(crate) fn add(&mut self, table: &Table) -> String {
        let mut lines = vec![self.head()];
        for row in &table.rows {
            lines.push(self.line(table, row));
        }
        let compared = matches!(table.unit, Unit::Nanoseconds | Unit::Milliseconds);
        if compared {
            let of = |at| {
                table
                    .rows
                    .iter()
                    .filter_map(move |row| ratio(row, at, Samples::least))
            };
            let ratios = (0..self.titles.len()).map(|at| of(at).collect()).collect();
            self.ratios.push((table.title, ratios));
        }
        let mut text = format!("## {}\n\n{}", table.title, aligned(&lines));
        if !table.note.is_empty() {
            let _ = write!(text, "\n{}\n", table.note);
        }
        let _ = write!(self.text, "\n{text}");
        text
    }

    /// Takes in lines that are text already; the first of them is the head.
    pub(crate) fn add_lines(&mut self, title: &str, lines: &[Vec<String>]) -> String {
        let text = format!("## {title}\n\n{}", aligned(lines));
        let _ = write!(self.text, "\n{text}");
        text
    }

    fn head(&self) -> Vec<String> {
        let mut cells = vec![String::new()];
        for (at, title) in self.titles.iter().enumerate() {
            cells.push(title.clone());
            if at > 0 {
                cells.push("x native".into());
            }
        }
        cells.extend(["budget".into(), "met".into()]);
        cells
    }

    fn line(&mut self, table: &Table, row: &Row) -> Vec<String> {
        let mut cells = vec![row.label.clone()];
        for (at, samples) in row.samples.iter().enumerate() {
            cells.push(table.unit.text(samples.least()));
            if at > 0 {
                let ratios = (ratio(row, at, Samples::least), ratio(row, at, Samples::median));
                cells.push(match ratios {
                    (Some(least), Some(median)) if table.unit.is_compared() => {
                        format!("{least:.2} ({median:.2})")
                    }
                    _ => String::new(),
                });
            }
        }
        cells.push(match row.budget {
            Budget::None => String::new(),
            Budget::Ratio(most) => format!("{most} x"),
            Budget::Most(most) => format!("at most {}", table.unit.text(Some(most))),
            Budget::Least(least) => format!("at least {}", table.unit.text(Some(least))),
        });
        let verdict = self.judged.and_then(|at| is_met(row, at));
        cells.push(match verdict {
            Some(true) => "yes".into(),
            Some(false) => "no".into(),
            None => String::new(),
        });
        match verdict {
            Some(true) => self.met += 1,
            Some(false) => self.not_met.push(row.label.clone()),
            None => {}
        }
        cells
    }

    /// Geometric means, and how the budget was met.
    pub(crate) fn summary(&mut self) -> String {
        let mut text = String::new();
        if !self.ratios.is_empty() {
            let mut lines = vec![vec![String::new()]];
            lines[0].extend(self.titles.iter().skip(1).cloned());
            for (title, ratios) in &self.ratios {
                let mut cells = vec![(*title).to_owned()];
                cells.extend(ratios.iter().skip(1).map(|ratios| geometric_mean(ratios)));
                lines.push(cells);
            }
            let _ = write!(
                text,
                "## Geometric mean of the ratios to native\n\n{}",
                aligned(&lines)
            );
        }
        if let Some(judged) = self.judged.and_then(|at| self.titles.get(at)) {
            let all = self.met + self.not_met.len();
            let _ = write!(
                text,
                "\n{judged} meets {} of {all} lines of the budget.\n",
                self.met
            );
            if !self.not_met.is_empty() {
                let _ = writeln!(text, "Not met: {}.", self.not_met.join("; "));
            }
        }
        let _ = write!(self.text, "\n{text}");
        text
    }

    /// Writes everything, with what machine it was, between the marks in `path`; the file is made if there is none.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let old = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                format!("# Performance\n\n{BEGIN}\n{END}\n")
            }
            read => read.with_context(|| format!("read {}", path.display()))?,
        };
        let marks = old
            .split_once(BEGIN)
            .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
        let (before, after) = marks.with_context(|| format!("{} has no line '{BEGIN}'", path.display()))?;
        let new = format!("{before}{BEGIN}\n{}\n{}\n{END}{after}", machine(), self.text);
        fs::write(path, new).with_context(|| format!("write {}", path.display()))
    }
}

impl Unit {
    fn is_compared(self) -> bool {
        matches!(self, Unit::Nanoseconds | Unit::Milliseconds)
    }

    pub(crate) fn text(self, value: Option<f64>) -> String {
        let Some(value) = value else {
            return "-".into();
        };
        match self {
            Unit::Nanoseconds if value < 100.0 => format!("{value:.1}"),
            Unit::Milliseconds => format!("{:.2}", value / 1e6),
            Unit::Times => format!("{value:.2}"),
            Unit::Nanoseconds | Unit::Bytes | Unit::Kibibytes | Unit::Ticks => format!("{value:.0}"),
        }
    }
}

/// How many times the native figure, by this choice among the samples.
fn ratio(row: &Row, at: usize, choose: fn(&Samples) -> Option<f64>) -> Option<f64> {
    let native = choose(row.samples.first()?)?;
    Some(choose(row.samples.get(at)?)? / native)
}

fn is_met(row: &Row, at: usize) -> Option<bool> {
    let value = row.samples.get(at)?.least();
    match row.budget {
        Budget::None => None,
        Budget::Ratio(most) => Some(ratio(row, at, Samples::least)? <= most),
        Budget::Most(most) => Some(value? <= most),
        Budget::Least(least) => Some(value? >= least),
    }
}

fn geometric_mean(ratios: &[f64]) -> String {
    if ratios.is_empty() {
        return "-".into();
    }
    let sum: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    // A mean of some dozens at most.
    let count = ratios.iter().map(|_| 1.0).sum::<f64>();
    format!("{:.2}", (sum / count).exp())
}

/// A Markdown table; figures to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |at: usize| {
        lines
            .iter()
            .filter_map(|line| line.get(at))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0).max(3)).collect();
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if at == 0 {
                write!(text, "| {cell:<width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
        if number == 0 {
            for (at, width) in widths.iter().enumerate() {
                let dashes = "-".repeat(*width);
                text.push_str(&if at == 0 {
                    format!("|:{dashes}-")
                } else {
                    format!("|-{dashes}:")
                });
            }
            text.push_str("|\n");
        }
    }
    text
}

/// What the figures were taken on.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_once(':')
            .map_or("?", |(_, value)| value.trim())
            .to_owned()
    };
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let memory: u64 = field(&read("/proc/meminfo"), "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0);
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let user = if nix::unistd::geteuid().is_root() {
        "root"
    } else {
        "an unprivileged user"
    };
    let date = std::process::Command::new("date").arg("+%F").output();
    let date = date.map_or_else(
        |_| String::new(),
        |date| String::from_utf8_lossy(&date.stdout).trim().to_owned(),
    );
    format!(
        "\nMeasured {date} as {user} on Linux {}, {processor}, {cpus} CPUs, {} GiB of memory, load {} at the end. \
         Figures are the least of all rounds; ratios are of the least and, in parentheses, of the medians.\n",
        read("/proc/sys/kernel/osrelease").trim(),
        memory.div_ceil(1 << 20),
        read("/proc/loadavg").split(' ').next().unwrap_or("?"),
    )
}
