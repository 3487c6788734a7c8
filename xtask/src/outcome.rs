//! What a level came to.

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// So many lines of a level's words are said again.
const LAST_LINES: usize = 16;

/// The counts of a level, and a word about it: a figure, or what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub tally: Tally,
    pub words: String,
}

impl Outcome {
    /// A level that counts as one test, from its figure or from what is wrong.
    pub fn of(result: Result<String, String>) -> Outcome {
        match result {
            Ok(words) => Outcome { tally: Tally { passed: 1, ..Tally::default() }, words },
            Err(words) => Outcome { tally: Tally { failed: 1, ..Tally::default() }, words },
        }
    }

    /// This machine cannot run it, for want of `needs`.
    pub fn skipped(needs: &str) -> Outcome {
        let words = format!("skipped: needs {needs}");
        Outcome { tally: Tally { skipped: 1, ..Tally::default() }, words }
    }

    /// From a list of faults; none is a pass.
    pub fn of_faults(figure: String, faults: Vec<String>) -> Outcome {
        Outcome::of(if faults.is_empty() { Ok(figure) } else { Err(faults.join("\n")) })
    }

    /// The end of the words, to be said again where people look first: a log is often cut to its
    /// last page.
    pub fn last_lines(&self) -> Vec<&str> {
        let lines: Vec<&str> = self.words.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_words_the_last_are_said_again() {
        let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let outcome = Outcome::of(Err(many.join("\n")));
        assert_eq!(outcome.last_lines().first(), Some(&"24"));
        assert_eq!(outcome.last_lines().len(), LAST_LINES);
        assert_eq!(Outcome::skipped("root").last_lines(), ["skipped: needs root"]);
    }
}
