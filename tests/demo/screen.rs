//! What people see: colour on a terminal, plain lines otherwise.

use super::fault::Fault;
use super::stage::Verdict;
use super::table::{Table, milliseconds};
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

/// See the module.
#[derive(Debug)]
pub struct Screen {
    color: bool,
    begun: Instant,
}

impl Screen {
    /// A screen.
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

    /// The table of gaps.
    pub fn table(&self, table: &Table) {
        print("");
        let head = format!("{:<32}{:<12}{:>4}{:>12}{:>12}", "fault", "measure", "n", "p50", "max");
        print(&self.paint("1", &head));
        let mut last: Option<Fault> = None;
        for row in table.rows() {
            let name = if last == Some(row.fault) { "" } else { row.fault.name() };
            last = Some(row.fault);
            let (p50, max) = (milliseconds(row.p50), milliseconds(row.max));
            let measure = row.measure.name();
            print(&format!("{name:<32}{measure:<12}{:>4}{p50:>9} ms{max:>9} ms", row.n));
        }
        print("");
    }

    /// The promises.
    pub fn verdict(&self, verdict: &Verdict, bars: &[String]) {
        let kept = |text: String| print(&format!("{} {text}", self.paint("32", "kept  ")));
        let broken = |text: &str| print(&format!("{} {text}", self.paint("1;31", "BROKEN")));
        if verdict.broken.is_empty() {
            kept(format!(
                "one leader at a time, tokens only rise: {} leaders, {} records",
                verdict.leaders, verdict.records
            ));
            kept(format!(
                "nothing acknowledged was lost: {} grants and releases checked",
                verdict.acknowledged
            ));
            kept(format!(
                "a sidecar that came back kept its leader: {} times the same token and child",
                verdict.survived
            ));
        }
        for line in &verdict.broken {
            broken(line);
        }
        for line in bars {
            print(&format!("{} {line}", self.paint("33", "SLOW  ")));
        }
    }
}
