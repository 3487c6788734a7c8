//! What came of scenarios, and how it is told.

use super::seconds;
use crate::say;
use std::time::Instant;

/// See the module.
#[derive(Default)]
pub(super) struct Outcome {
    passed: usize,
    failed: Vec<&'static str>,
}

impl Outcome {
    /// Says what came of one that began then: what it measured, or what is wrong. True: it passed.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        begun: Instant,
        ran: Result<String, String>,
    ) -> bool {
        let passed = ran.is_ok();
        let (how, told) = match ran {
            Ok(measured) => ("ok  ", measured),
            Err(why) => ("FAIL", why),
        };
        say(&format!("{how}  {name:<20}{:>6.1} s  {told}", seconds(begun)));
        if passed {
            self.passed += 1
        } else {
            self.failed.push(name)
        }
        passed
    }

    pub(super) fn merge(&mut self, other: Outcome) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
    }

    /// Says what came of all since then; true if none failed.
    pub(super) fn tell(&self, begun: Instant) -> bool {
        say(&format!("all in {:.0} s", seconds(begun)));
        if !self.failed.is_empty() {
            say(&format!("failed: {}", self.failed.join(", ")));
        }
        say(&format!("{} passed, {} failed", self.passed, self.failed.len()));
        self.failed.is_empty()
    }
}
