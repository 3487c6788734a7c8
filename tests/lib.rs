//! What tries to break the product: the simulator, the checks on real processes, the recorded load,
//! the demos.

pub mod cluster;
pub mod simulator;

pub use quorate_load as load;
pub use quorate_load::screen;

/// Prints a line of a report. A closed pipe ends the report, not the check.
pub fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Runs to its end what needs a runtime, on this thread.
///
/// # Panics
/// Without a runtime there is nothing to test.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime").block_on(work)
}
