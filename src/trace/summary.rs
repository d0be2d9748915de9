//! Calls that the kernel has refused, counted for the end of a trace.

use std::collections::BTreeMap;
use std::io::{self, Write};

use syscall_table::{Level, errno};

/// Counts calls that have no handler.
#[derive(Debug, Default)]
pub struct Summary {
    counts: BTreeMap<u64, u64>,
}

impl Summary {
    /// Counts a call, if it is one that is refused whatever its arguments are.
    pub fn count(&mut self, nr: u64) {
        let row = syscall_table::lookup(nr);
        if row.is_none_or(|row| matches!(row.level, Level::Refused { .. })) {
            let count = self.counts.entry(nr).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// Whether no call was refused.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Prints one line per refused call, the most frequent first; nothing if there were none.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let mut calls: Vec<(u64, u64)> = self.counts.iter().map(|(nr, count)| (*count, *nr)).collect();
        calls.sort_by_key(|(count, nr)| (std::cmp::Reverse(*count), *nr));
        writeln!(out, "refused system calls:")?;
        writeln!(
            out,
            "{:>8} {:>6} {:<20} {:<10} reason",
            "count", "number", "name", "errno"
        )?;
        for (count, nr) in calls {
            let (name, errno, reason) = describe(nr);
            writeln!(out, "{count:>8} {nr:>6} {name:<20} {errno:<10} {reason}")?;
        }
        Ok(())
    }
}

fn describe(nr: u64) -> (&'static str, &'static str, &'static str) {
    match syscall_table::lookup(nr).map(|row| (row.name, row.level)) {
        Some((name, Level::Refused { errno, reason })) => {
            (name, errno::name(errno).unwrap_or_default(), reason)
        }
        Some((name, _)) => (name, "", ""),
        None => ("?", "ENOSYS", "Linux has no call of this number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refused_calls_are_listed_the_most_frequent_first() {
        let mut summary = Summary::default();
        let mut out = Vec::new();
        summary.print(&mut out).expect("a vector takes everything");
        assert!(out.is_empty() && summary.is_empty());
        // rseq, bpf twice, and a number that nobody has
        for nr in [334, 321, 321, 9999] {
            summary.count(nr);
        }
        summary.print(&mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("text");
        let lines: Vec<&str> = text.lines().skip(2).map(str::trim).collect();
        assert!(
            lines[0].starts_with("2    321 bpf                  EPERM"),
            "{text}"
        );
        assert!(
            lines[1].starts_with("1    334 rseq                 ENOSYS     glibc"),
            "{text}"
        );
        assert!(lines[2].starts_with("1   9999 ?"), "{text}");
    }
}
