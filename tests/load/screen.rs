//! What people see of a demo: colour on a terminal, plain lines otherwise.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Whether colour helps: a terminal, and nobody who asked for none.
#[must_use]
pub fn color_wanted() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Prints a text as it is.
pub fn print(text: &str) {
    // A closed pipe ends the show, not the demo.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Nanoseconds as milliseconds with one decimal.
#[must_use]
pub fn milliseconds(nanos: u64) -> String {
    format!("{}.{}", nanos / 1_000_000, nanos / 100_000 % 10)
}

/// One line of the table at the end: what a fault came to, in ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The fault.
    pub fault: &'static str,
    /// What was measured.
    pub measure: &'static str,
    /// How often.
    pub n: usize,
    /// The median.
    pub p50: u64,
    /// The longest.
    pub max: u64,
}

impl Row {
    /// Of all that was measured; `None`: nothing was.
    #[must_use]
    pub fn of(fault: &'static str, measure: &'static str, values: &[u64]) -> Option<Row> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let max = *sorted.last()?;
        let (n, p50) = (sorted.len(), sorted[(sorted.len() - 1) / 2]);
        Some(Row { fault, measure, n, p50, max })
    }
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    color: bool,
    begun: Instant,
}

impl Screen {
    /// A screen; what it shows has the time since now.
    #[must_use]
    pub fn new(color: bool) -> Screen {
        Screen { color, begun: Instant::now() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// The first line.
    pub fn title(&self, text: &str) {
        print(&self.paint("1", text));
    }

    fn stamped(&self, text: &str) {
        let millis = self.begun.elapsed().as_millis();
        let stamp = format!("{:3}.{:01} s", millis / 1000, millis / 100 % 10);
        print(&format!("{}  {text}", self.paint("2", &stamp)));
    }

    /// Something happened by itself.
    pub fn news(&self, text: &str) {
        self.stamped(text);
    }

    /// Something good.
    pub fn good(&self, text: &str) {
        self.stamped(&self.paint("32", text));
    }

    /// We break something.
    pub fn fault(&self, text: &str) {
        self.stamped(&self.paint("33", &format!("> {text}")));
    }

    /// A promise is broken.
    pub fn bad(&self, text: &str) {
        self.stamped(&self.paint("1;31", text));
    }

    /// The table.
    pub fn table(&self, rows: &[Row]) {
        print("");
        let head = format!("{:<32}{:<12}{:>4}{:>12}{:>12}", "fault", "measure", "n", "p50", "max");
        print(&self.paint("1", &head));
        let mut last = "";
        for row in rows {
            let name = if last == row.fault { "" } else { row.fault };
            last = row.fault;
            let (p50, max) = (milliseconds(row.p50), milliseconds(row.max));
            print(&format!("{name:<32}{:<12}{:>4}{p50:>9} ms{max:>9} ms", row.measure, row.n));
        }
        print("");
    }

    /// A promise that was kept.
    pub fn kept(&self, text: &str) {
        print(&format!("{} {text}", self.paint("32", "kept  ")));
    }

    /// One that was not.
    pub fn broken(&self, text: &str) {
        print(&format!("{} {text}", self.paint("1;31", "BROKEN")));
    }

    /// Something took longer than it may.
    pub fn slow(&self, text: &str) {
        print(&format!("{} {text}", self.paint("33", "SLOW  ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_median_and_the_longest() {
        let row = Row::of("fault", "gap", &[3, 1, 2, 9]).expect("there are values");
        assert_eq!((row.n, row.p50, row.max), (4, 2, 9));
        assert_eq!(Row::of("fault", "gap", &[]), None);
    }
}
