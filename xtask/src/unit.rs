//! The levels that are cargo's own: `cargo test`, `cargo clippy`, `cargo fmt`.

use crate::cargo;
use crate::outcome::{Outcome, Tally};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Every test of the workspace; each counts. The tests start the project's own programs, so
/// these are built first.
pub fn level(_: &[&str]) -> Outcome {
    let build = [&["build", "--release", "--bins"], &cargo::BESIDE[..]].concat();
    if let Err(why) = cargo::run(&build) {
        return Outcome::of(Err(why));
    }
    let mut all = Outcome { words: String::new(), tally: Tally::default() };
    for crates in [&cargo::BESIDE[..], &cargo::KUBERNETES[..]] {
        let test = cargo::command(&[&["test", "--release", "--no-fail-fast"], crates].concat());
        let part = cargo_test(test).unwrap_or_else(|why| Outcome::of(Err(why)));
        all.words = format!("{}{}\n", all.words, part.words);
        all.tally.add(part.tally);
    }
    all
}

/// The formatting.
pub fn fmt(_: &[&str]) -> Outcome {
    let hint = |why| format!("{why}\nrun: cargo fmt");
    Outcome::of(cargo::run(&["fmt", "--check"]).map(|()| String::new()).map_err(hint))
}

/// The lints.
pub fn clippy(_: &[&str]) -> Outcome {
    let args = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
    Outcome::of(cargo::run(&args).map(|()| String::new()))
}

/// The decoders on changed input, for so many seconds each.
pub fn fuzz(seconds: &[&str]) -> Outcome {
    let args = [&["test", "--release", "--test", "fuzz"], &cargo::BESIDE[..]].concat();
    let mut command = cargo::command(&args);
    command.env("QUORATE_FUZZ_SECONDS", seconds.join(""));
    cargo_test(command).unwrap_or_else(|why| Outcome::of(Err(why)))
}

/// The core with its planted bugs, in the folder of such builds: what the table of scenarios
/// says fails without its mechanism does, and the exhaustive search finds every bug in its reach.
pub fn scenarios(_: &[&str]) -> Outcome {
    let planted = |target: std::path::PathBuf| {
        let args = ["test", "--release", "-p", "quorate-raft", "--features", "planted"];
        let mut command = cargo::command(&args);
        command.args(["--test", "scenarios", "--test", "exhaustive"]);
        command.env("CARGO_TARGET_DIR", target.join("planted"));
        cargo_test(command)
    };
    cargo::target_dir().and_then(planted).unwrap_or_else(|why| Outcome::of(Err(why)))
}

fn cargo_test(mut command: Command) -> Result<Outcome, String> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().map_err(|e| format!("cargo test: {e}"))?;
    let stdout = child.stdout.take().ok_or("cargo's stdout is not a pipe")?;
    let mut seen = Seen::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.map_err(|e| format!("cargo test: {e}"))?;
        seen.line(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().map_err(|e| format!("cargo test: {e}"))?;
    Ok(seen.outcome(status.success()))
}

/// What cargo test printed so far.
#[derive(Debug, Default)]
struct Seen {
    tally: Tally,
    binaries: u64,
    /// What is not about a test that passed.
    rest: Vec<String>,
}

impl Seen {
    fn line(&mut self, line: &str) {
        if let Some(tally) = result_line(line) {
            self.tally.add(tally);
            self.binaries += 1;
        } else if is_worth_showing(line) {
            self.rest.push(line.to_owned());
        }
    }

    fn outcome(mut self, success: bool) -> Outcome {
        if success {
            let words = format!("{} tests in {} binaries", self.tally.passed, self.binaries);
            return Outcome { tally: self.tally, words };
        }
        // It did not compile, or a binary died before it could count.
        self.tally.failed = self.tally.failed.max(1);
        self.rest.push(format!("cargo test failed: {}", self.tally));
        Outcome { tally: self.tally, words: self.rest.join("\n") }
    }
}

fn is_worth_showing(line: &str) -> bool {
    let passed = line.starts_with("test ") && line.ends_with(" ... ok");
    !passed && !line.is_empty() && !line.starts_with("running ")
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; ...`
fn result_line(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let part = counts.split("; ").find(|part| part.ends_with(what))?;
        part.split(' ').next()?.parse().ok()
    };
    Some(Tally {
        passed: count(" passed")?,
        failed: count(" failed")?,
        skipped: count(" ignored")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; \
                      0 filtered out; finished in 0.00s";
    const FAILED: &str = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; \
                          0 filtered out; finished in 0.00s";

    #[test]
    fn counts_of_all_binaries_are_summed() {
        let mut seen = Seen::default();
        for line in ["running 3 tests", "test a ... ok", OK, "", FAILED, "test b ... FAILED"] {
            seen.line(line);
        }
        assert_eq!(seen.rest, ["test b ... FAILED"]);
        let outcome = seen.outcome(false);
        assert_eq!(outcome.tally, Tally { passed: 4, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_binary_that_died_is_a_failure() {
        assert_eq!(Seen::default().outcome(false).tally.failed, 1);
        assert_eq!(Seen::default().outcome(true).tally.failed, 0);
    }

    #[test]
    fn other_lines_are_no_results() {
        assert_eq!(result_line("test result"), None);
        assert_eq!(result_line("test result: ok. many passed; 0 failed; 0 ignored"), None);
    }
}
