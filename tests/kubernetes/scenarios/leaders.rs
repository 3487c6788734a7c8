//! Which applications led, and when: what they printed, as a node's disk or `kubectl logs` has it.
//!
//! From disks it is had while the API server is away, too, and before the log of a pod that ended
//! goes.

use super::space::Space;
use quorate_load::screen::Screen;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// What the application of the example prints, once a second.
const WORDS: &str = "I lead with token ";
/// A runtime stamps a line when it reads it, which may be so much later, in ns.
const STAMPED_MAX: u64 = 100_000_000;

/// One leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Term {
    pub(super) token: u64,
    pub(super) pod: String,
    /// Its first and its last line: ns since 1970.
    pub(super) first: u64,
    pub(super) last: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    /// How far each file was read.
    read: BTreeMap<PathBuf, u64>,
    terms: BTreeMap<u64, Term>,
    /// Another pod that said a token that one had said before.
    twice: Option<(u64, String)>,
    /// When each line was printed.
    lines: BTreeSet<u64>,
}

impl Leaders {
    /// Reads what was printed since the last time; gives the leaders that are new.
    pub(super) fn look(&mut self, space: &Space<'_>) -> Vec<Term> {
        let before = self.terms.keys().next_back().copied().unwrap_or(0);
        let instance = &space.stage.instance;
        for node in instance.node_numbers() {
            for folder in entries(&instance.node_dir(node).join("logs")) {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let mut parts = name.split('_');
                if let (Some(of), Some(pod)) = (parts.next(), parts.next())
                    && of == space.namespace
                {
                    entries(&folder.join("app")).iter().for_each(|file| self.file(file, pod));
                }
            }
        }
        self.terms.range(before + 1..).map(|(_, term)| term.clone()).collect()
    }

    /// Takes in lines of a pod, as `kubectl logs --timestamps` gives them, at times again; gives
    /// the leaders that are new.
    pub(super) fn hear(&mut self, text: &str, pod: &str) -> Vec<Term> {
        let before = self.terms.keys().next_back().copied().unwrap_or(0);
        text.lines().filter_map(parse).for_each(|(at, token)| self.add(at, token, pod));
        self.terms.range(before + 1..).map(|(_, term)| term.clone()).collect()
    }

    /// The last line under a token, in ns since 1970.
    pub(super) fn last_of(&self, token: u64) -> u64 {
        self.terms.get(&token).map_or(0, |term| term.last)
    }

    /// One that cannot be read just went with its pod.
    fn file(&mut self, path: &Path, pod: &str) {
        let from = self.read.get(path).copied().unwrap_or(0);
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.read_to_string(&mut text)
        });
        if read.is_err() {
            return;
        }
        // A line that is being written is read the next time.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text[..whole].lines().filter_map(parse).for_each(|(at, token)| self.add(at, token, pod));
        self.read.insert(path.to_path_buf(), from + u64::try_from(whole).unwrap_or(0));
    }

    fn add(&mut self, at: u64, token: u64, pod: &str) {
        self.lines.insert(at);
        let new = || Term { token, pod: pod.to_owned(), first: at, last: at };
        let term = self.terms.entry(token).or_insert_with(new);
        if term.pod != pod {
            self.twice = Some((token, pod.to_owned()));
        }
        (term.first, term.last) = (term.first.min(at), term.last.max(at));
    }

    /// The newest.
    pub(super) fn last(&self) -> Option<&Term> {
        self.terms.values().next_back()
    }

    /// The longest time between two lines of whomever, in ns.
    pub(super) fn silence(&self, from: u64, to: u64) -> u64 {
        let before = self.lines.range(..from).next_back().copied().unwrap_or(from);
        let (mut last, mut longest) = (before, 0);
        for at in self.lines.range(from..to).copied().chain([to]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        longest
    }

    /// For how long two led at once, in ns.
    pub(super) fn overlap(&self) -> u64 {
        let terms: Vec<&Term> = self.terms.values().collect();
        let over = terms.windows(2).map(|pair| pair[0].last.saturating_sub(pair[1].first));
        over.filter(|both| *both > STAMPED_MAX).sum()
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.terms.len()
    }

    /// Says whether there was one at a time; true if so.
    pub(super) fn tell(&self, screen: &Screen) -> bool {
        let judged = self.judge();
        match &judged {
            Ok(kept) => screen.kept(kept),
            Err(why) => screen.broken(why),
        }
        judged.is_ok()
    }

    /// One at a time, under tokens that rise: a sentence either way.
    pub(super) fn judge(&self) -> Result<String, String> {
        if let Some((token, pod)) = &self.twice {
            return Err(format!("{pod} led under token {token}, too: {:?}", self.terms.get(token)));
        }
        let terms: Vec<&Term> = self.terms.values().collect();
        for pair in terms.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            if after.first + STAMPED_MAX < before.last {
                return Err(format!(
                    "two applications led at once, or tokens fell, or the clocks of nodes differ \
                     by more than {} ms: {before:?}, {after:?}",
                    STAMPED_MAX / 1_000_000
                ));
            }
        }
        let (leaders, lines) = (self.terms.len(), self.lines.len());
        Ok(format!(
            "one leader at a time, tokens only rise: {leaders} leaders, {lines} lines of theirs"
        ))
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// When, and under which token: `TIME stdout F I lead with token N`.
fn parse(line: &str) -> Option<(u64, u64)> {
    let (time, rest) = line.split_once(' ')?;
    let (_, token) = rest.split_once(WORDS)?;
    let time: jiff::Timestamp = time.parse().ok()?;
    Some((u64::try_from(time.as_nanosecond()).ok()?, token.trim().parse().ok()?))
}

/// Now, as the runtimes stamp it: ns since 1970.
pub(super) fn now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(lines: &[(&str, u64, &str)]) -> Result<String, String> {
        let mut leaders = Leaders::default();
        for (second, token, pod) in lines {
            let line = format!("2026-01-01T00:00:{second}Z stdout F {WORDS}{token}");
            let (at, token) = parse(&line).expect("it is such a line");
            leaders.add(at, token, pod);
        }
        leaders.judge()
    }

    #[test]
    fn two_at_once_and_falling_tokens_are_found() {
        let kept = "one leader at a time, tokens only rise: 2 leaders, 3 lines of theirs";
        let two = led(&[("01.5", 1, "a"), ("02.5", 1, "a"), ("03", 2, "b")]);
        assert_eq!(two.as_deref(), Ok(kept));
        assert!(led(&[("01", 1, "a"), ("05", 1, "a"), ("03", 2, "b")]).is_err());
        assert!(led(&[("03", 1, "a"), ("01", 2, "b")]).is_err());
        assert!(led(&[("01", 1, "a"), ("02", 1, "b")]).is_err(), "one token, two pods");
    }

    #[test]
    fn the_longest_silence_is_found() {
        let mut leaders = Leaders::default();
        [10, 20, 50, 60].into_iter().for_each(|at| leaders.add(at, 1, "a"));
        assert_eq!(leaders.silence(15, 60), 30);
        assert_eq!(leaders.silence(15, 120), 60);
    }

    #[test]
    fn other_lines_are_no_leaders() {
        assert_eq!(parse("2026-01-01T00:00:00Z stderr F cannot connect"), None);
    }
}
