//! What was measured: rows of samples, one list for each variant.

/// What a row is held against.
#[derive(Clone, Copy)]
pub(crate) enum Budget {
    None,
    /// At most so many times the native figure.
    Ratio(f64),
    /// At most so much, in the unit of the table.
    Most(f64),
    /// At least so much, in the unit of the table.
    Least(f64),
}

/// How the figures of a table are written.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Kept in nanoseconds, written in milliseconds.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// KiB.
    Kibibytes,
    /// A bare number with two decimals.
    Times,
    /// Clock ticks of the kernel's accounting.
    Ticks,
}

/// The figures of one variant for one row.
#[derive(Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The least, which is what the thing costs when nothing comes between.
    pub(crate) fn least(&self) -> Option<f64> {
        self.0.iter().copied().min_by(f64::total_cmp)
    }

    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }
}

/// One thing that was measured.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) label: String,
    pub(crate) budget: Budget,
    /// In the order of the variants; empty where a variant cannot do it.
    pub(crate) samples: Vec<Samples>,
}

/// Rows of one unit.
pub(crate) struct Table {
    pub(crate) title: &'static str,
    /// What one should know to read it.
    pub(crate) note: &'static str,
    pub(crate) unit: Unit,
    pub(crate) rows: Vec<Row>,
}

impl Row {
    pub(crate) fn new(label: impl Into<String>, budget: Budget, variants: usize) -> Row {
        Row {
            label: label.into(),
            budget,
            samples: vec![Samples::default(); variants],
        }
    }
}
