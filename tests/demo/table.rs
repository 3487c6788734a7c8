//! The table at the end.

use super::fault::{Fault, Measure, Outcome};
use quorate_tests::screen::{Row, milliseconds};
use std::collections::BTreeMap;

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: BTreeMap<(Fault, Measure), Vec<u64>>,
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
        let lines = self.rows.iter();
        lines
            .filter_map(|((fault, measure), ns)| Row::of(fault.name(), measure.name(), ns))
            .collect()
    }

    /// The bars that were not met.
    #[must_use]
    pub fn broken_bars(&self) -> Vec<String> {
        let mut broken = Vec::new();
        for ((fault, measure), ns) in &self.rows {
            let Some(row) = Row::of(fault.name(), measure.name(), ns) else { continue };
            for (_, p50, max) in fault.bars().iter().filter(|(m, ..)| m == measure) {
                for (what, have, bar) in [("p50", row.p50, p50), ("max", row.max, max)] {
                    if let Some(bar) = bar
                        && have > bar * 1_000_000
                    {
                        let (name, measure) = (row.fault, row.measure);
                        let ms = milliseconds(have);
                        broken.push(format!("{name}: {measure} {what} {ms} ms, over {bar} ms"));
                    }
                }
            }
        }
        broken
    }
}
