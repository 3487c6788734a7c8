//! A program that runs as a level: its output shown, its end kept.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

/// How a program ended.
#[derive(Debug)]
pub struct End {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    /// In words.
    pub how: String,
    /// What it said that it lacks, if it did.
    pub needs: String,
    /// The end of what it said on stderr.
    pub last: VecDeque<String>,
}

/// So many lines of a failed program are said again where people look first: at the end.
const LAST_LINES: usize = 12;

/// Runs `command` to its end, passing its stderr on line by line.
pub fn watch(command: &mut Command) -> Result<End, String> {
    let mut child = command.stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
    let stderr = child.stderr.take().ok_or("its stderr is not a pipe")?;
    let mut needs = "what it did not name".to_owned();
    let mut last = VecDeque::new();
    for line in BufReader::new(stderr).split(b'\n') {
        let line = line.map_err(|e| e.to_string())?;
        let line = String::from_utf8_lossy(&line);
        needs = needs_of(&line).unwrap_or(needs);
        // Nobody to read it is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{line}");
        last.push_back(line.into_owned());
        last.drain(..last.len().saturating_sub(LAST_LINES));
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    Ok(End { code: status.code(), how: status.to_string(), needs, last })
}

fn needs_of(line: &str) -> Option<String> {
    line.split_once("skipped: needs ").map(|(_, needs)| needs.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> End {
        watch(Command::new("sh").args(["-c", script])).expect("there is a shell")
    }

    #[test]
    fn a_program_that_says_what_it_needs_is_skipped() {
        let end = shell("echo 'quorate-check: skipped: needs root' >&2; exit 77");
        assert_eq!((end.code, end.needs.as_str()), (Some(77), "root"));
    }

    #[test]
    fn a_program_that_fails_is_not_skipped() {
        let end = shell("echo 'skipped: needs root' >&2; exit 3");
        assert_eq!(end.code, Some(3));
        assert!(end.how.contains('3'));
        assert_eq!(shell("kill -9 $$").code, None);
    }

    #[test]
    fn of_a_program_that_fails_the_end_is_kept() {
        let last = shell("seq 1 40 >&2; exit 1").last;
        assert_eq!(last.len(), LAST_LINES);
        assert_eq!((last[0].as_str(), last[11].as_str()), ("29", "40"));
    }
}
