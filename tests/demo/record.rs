//! What the applications wrote, read back and judged.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// One line of an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// When, CLOCK_BOOTTIME in ns.
    pub at: u64,
    /// Under which token.
    pub token: u64,
    /// By which process.
    pub pid: u32,
    /// Of which application.
    pub app: usize,
}

/// The records of all applications.
#[derive(Clone, Debug)]
pub struct Records {
    files: Vec<PathBuf>,
}

impl Records {
    /// Of these files, one an application.
    #[must_use]
    pub fn new(files: Vec<PathBuf>) -> Records {
        Records { files }
    }

    /// All lines so far, by time. A line that is being written is left out.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for (app, file) in self.files.iter().enumerate() {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            lines.extend(whole.lines().filter_map(|line| parse(line, app)));
        }
        lines.sort_unstable();
        lines
    }

    /// The newest line.
    #[must_use]
    pub fn last(&self) -> Option<Line> {
        self.files
            .iter()
            .enumerate()
            .filter_map(|(app, file)| {
                let text = tail(file)?;
                text.lines()
                    .rev()
                    .skip(usize::from(!text.ends_with('\n')))
                    .find_map(|line| parse(line, app))
            })
            .max()
    }
}

fn tail(file: &PathBuf) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(file).ok()?;
    let length = file.metadata().ok()?.len();
    let from = length.saturating_sub(400);
    file.seek(SeekFrom::Start(from)).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    // The first line of a tail may be half of one.
    match (from, text.find('\n')) {
        (0, _) => Some(text),
        (_, at) => at.map(|at| text[at + 1..].to_owned()),
    }
}

fn parse(line: &str, app: usize) -> Option<Line> {
    let mut fields = line.split(' ');
    let token = fields.next()?.parse().ok()?;
    let at = fields.next()?.parse().ok()?;
    let pid = fields.next()?.parse().ok()?;
    Some(Line { at, token, pid, app })
}

/// No two tokens' times overlap, and tokens rise with time. Gives how many leaders there were.
pub fn judge(lines: &[Line]) -> Result<usize, String> {
    let mut spans: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for line in lines {
        let span = spans.entry(line.token).or_insert((line.at, line.at));
        *span = (span.0.min(line.at), span.1.max(line.at));
    }
    let mut before: Option<(u64, u64)> = None;
    for (token, (first, last)) in &spans {
        if let Some((earlier, end)) = before
            && *first <= end
        {
            return Err(format!(
                "token {token} was used from {first} on, and token {earlier} until {end}: overlap"
            ));
        }
        before = Some((*token, *last));
    }
    Ok(spans.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(token: u64, at: u64) -> Line {
        Line { at, token, pid: 1, app: 0 }
    }

    #[test]
    fn overlap_and_falling_tokens_are_found() {
        assert_eq!(judge(&[line(1, 10), line(1, 20), line(2, 30)]), Ok(2));
        assert!(judge(&[line(1, 10), line(1, 40), line(2, 30)]).is_err());
        assert!(judge(&[line(2, 10), line(1, 20)]).is_err());
    }
}
