//! What tries to break the product: the simulator, the checks on real processes, the recorded load,
//! the demos.

pub mod cluster;
pub mod load;
pub mod screen;
pub mod simulator;

/// Prints a line of a report. A closed pipe ends the report, not the check.
pub fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}
