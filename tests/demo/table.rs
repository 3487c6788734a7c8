//! The table at the end.

use super::fault::{Fault, Measure, Outcome};
use std::collections::BTreeMap;

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<(Fault, Measure), Vec<u64>>,
}

/// One line of it, in ns.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The fault.
    pub fault: Fault,
    /// What was measured.
    pub measure: Measure,
    /// How often.
    pub n: usize,
    /// The median.
    pub p50: u64,
    /// The longest.
    pub max: u64,
}

impl Table {
    /// Adds a fault's figures.
    pub fn add(&mut self, fault: Fault, outcome: &Outcome) {
        for (measure, nanos) in &outcome.measured {
            self.rows.entry((fault, *measure)).or_default().push(*nanos);
        }
    }

    /// The lines, by fault.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let row = |((fault, measure), values): (&(Fault, Measure), &Vec<u64>)| {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            let (p50, max) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() - 1]);
            Row { fault: *fault, measure: *measure, n: sorted.len(), p50, max }
        };
        self.rows.iter().map(row).collect()
    }

    /// The bars that were not met.
    #[must_use]
    pub fn broken_bars(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for row in self.rows() {
            for (_, p50, max) in row.fault.bars().iter().filter(|(m, ..)| *m == row.measure) {
                for (what, have, bar) in [("p50", row.p50, p50), ("max", row.max, max)] {
                    if let Some(bar) = bar
                        && have > bar * 1_000_000
                    {
                        let (name, measure) = (row.fault.name(), row.measure.name());
                        let ms = milliseconds(have);
                        broken.push(format!("{name}: {measure} {what} {ms} ms, over {bar} ms"));
                    }
                }
            }
        }
        broken
    }
}

/// Nanoseconds as milliseconds with one decimal.
#[must_use]
pub fn milliseconds(nanos: u64) -> String {
    format!("{}.{}", nanos / 1_000_000, nanos / 100_000 % 10)
}
