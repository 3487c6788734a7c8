//! What a demo measured, for the table at its end.

use quorate_load::screen::Row;

/// Values in ns by fault and measure, in the order in which these first came.
#[derive(Debug, Default)]
pub(super) struct Measured(Vec<(&'static str, &'static str, Vec<u64>)>);

impl Measured {
    pub(super) fn add(&mut self, fault: &'static str, measure: &'static str, value: u64) {
        let row = self.0.iter_mut().find(|(f, m, _)| (*f, *m) == (fault, measure));
        match row {
            Some((_, _, values)) => values.push(value),
            None => {
                // Rows of one fault stand together.
                let same = self.0.iter().rposition(|(f, ..)| *f == fault);
                let place = same.map_or(self.0.len(), |last| last + 1);
                self.0.insert(place, (fault, measure, vec![value]));
            }
        }
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        self.0.iter().filter_map(|(f, m, values)| Row::of(f, m, values)).collect()
    }
}
