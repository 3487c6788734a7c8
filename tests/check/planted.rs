//! Planted bugs: each must be found by the simulator.

use quorate_tests::say;

/// See the module.
pub fn run(seeds: u64) -> Result<(), String> {
    say(&format!("{seeds}"));
    Err("skipped: needs a build with --features planted".to_owned())
}
