//! Words on the terminal: standard output for answers, standard error for news. Colour on a
//! terminal only, and never where NO_COLOR is set. Written at once, or by the thread of `voice` in
//! a process that started it.

use crate::voice::{self, Word};
use rustix::process::getpgrp;
use rustix::termios::{LocalModes, tcgetattr, tcgetpgrp};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

/// How bright.
#[derive(Clone, Copy)]
pub enum Ink {
    Bold,
    Dim,
    Green,
    Yellow,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Yellow => "33",
        }
    }
}

fn wants_colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|word| !word.is_empty());
    !refused && io::stdout().is_terminal()
}

/// A word for standard output.
pub fn ink(ink: Ink, word: &str) -> String {
    if wants_colour() { format!("\u{1b}[{}m{word}\u{1b}[0m", ink.code()) } else { word.to_owned() }
}

/// Why the first answer that was not written was not.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// One line of an answer. False: it is not written, and the next one would not be.
pub fn line(text: &str) -> bool {
    let own = voice::hand_over(Word::Answer(text.to_owned()));
    own.is_none_or(|_| note(answer(text)))
}

/// Keeps why something was not written to standard output; false if so.
pub fn note(written: io::Result<()>) -> bool {
    if let Err(error) = &written
        && let Some(why) = lost(error)
    {
        UNWRITTEN.get_or_init(|| why);
    }
    written.is_ok()
}

/// Why an answer was not written; none if all were, or their reader left.
pub fn unwritten() -> Option<&'static str> {
    UNWRITTEN.get().map(String::as_str)
}

/// In words. A closed pipe is the reader's choice.
fn lost(error: &io::Error) -> Option<String> {
    let by_choice = error.kind() == io::ErrorKind::BrokenPipe;
    (!by_choice).then(|| format!("standard output: {error}"))
}

fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush())
}

/// What came from others, without control characters: a name must not move the cursor.
pub fn safe(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// One line for programs on standard error.
pub fn raw(text: &str) {
    utter(Word::Raw(text.to_owned()));
}

/// One line of news. Where the terminal stops background writers, and we are one, it is left out:
/// it would stop us.
pub fn say(text: &str) {
    utter(Word::News(text.to_owned()));
}

fn utter(word: Word) {
    if let Some(word) = voice::hand_over(word) {
        write(&word);
    }
}

/// Writes a word, and waits until it is written. Nobody may be there to read it.
pub fn write(word: &Word) {
    let _ = match word {
        Word::Answer(text) => return answer(text).unwrap_or_else(|error| unsaid(&error)),
        Word::Raw(text) => writeln!(io::stderr().lock(), "{text}"),
        Word::News(_) if would_stop_us() => Ok(()),
        Word::News(text) => writeln!(io::stderr().lock(), "quorate: {text}"),
    };
}

/// A warning: what runs a command goes on.
fn unsaid(error: &io::Error) {
    if let Some(why) = lost(error) {
        write(&Word::News(why));
    }
}

fn would_stop_us() -> bool {
    let err = io::stderr();
    let in_background = tcgetpgrp(&err).is_ok_and(|group| group != getpgrp());
    let stops = || tcgetattr(&err).is_ok_and(|tty| tty.local_modes.contains(LocalModes::TOSTOP));
    in_background && stops()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(safe("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(safe("größe"), "größe");
    }
}
