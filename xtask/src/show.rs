//! What people see: lines on stdout, in colour on a terminal.

use std::io::{IsTerminal as _, Write as _};

/// How a word is meant.
#[derive(Clone, Copy, Debug)]
pub enum Tone {
    Good,
    Bad,
    Warn,
    Faint,
    Strong,
}

/// A line on stdout. A closed pipe ends the report, not the verdict.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// `text` in colour, if stdout is a terminal and `NO_COLOR` is not set.
pub fn paint(tone: Tone, text: &str) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Warn => "33",
        Tone::Faint => "2",
        Tone::Strong => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}
