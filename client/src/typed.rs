//! What was typed and not understood, with a tip for the likeliest mistake.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;

/// A word as a shell takes it.
pub fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `quorate lock NAME CMD`: the command belongs behind `--`.
pub fn tip(error: &clap::Error, words: &[OsString]) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(stray)) = error.get(ContextKind::InvalidArg) else { return None };
    let words: Vec<&str> = words.iter().map(|word| word.to_str()).collect::<Option<_>>()?;
    let at = words.iter().skip(1).position(|word| word == stray)? + 1;
    let runs = words[..at].iter().any(|word| matches!(*word, "lock" | "elect"));
    if !runs || stray.starts_with('-') || words.contains(&"--") {
        return None;
    }
    let quoted = |words: &[&str]| words.iter().map(|word| quote(word)).collect::<Vec<_>>();
    let (before, command) = (quoted(&words[1..at]).join(" "), quoted(&words[at..]).join(" "));
    Some(format!("put `--` before the command: quorate {before} -- {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser as _;

    fn tip_for(words: &[&str]) -> Option<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let error = Cli::try_parse_from(&words).expect_err("bad usage");
        tip(&error, &words)
    }

    #[test]
    fn a_command_without_dashes() {
        let tip = tip_for(&["/bin/quorate", "lock", "backup", "./x.sh"]).unwrap();
        assert!(tip.ends_with(": quorate lock backup -- ./x.sh"), "{tip}");
        let words = ["quorate", "elect", "a", "--wait", "5s", "sh", "-c", "it's"];
        let tip = tip_for(&words).unwrap();
        assert!(tip.ends_with(r": quorate elect a --wait 5s -- sh -c 'it'\''s'"), "{tip}");
    }

    #[test]
    fn other_mistakes_get_no_such_tip() {
        for words in [
            &["quorate", "lock", "a", "--shared"][..],
            &["quorate", "ls", "a", "b"],
            &["quorate", "lock"],
        ] {
            assert_eq!(tip_for(words), None, "{words:?}");
        }
    }

    #[test]
    fn words_are_quoted_if_they_must_be() {
        let table = [("a/b.sh", "a/b.sh"), ("", "''"), ("a b", "'a b'"), ("$x", "'$x'")];
        for (word, quoted) in table {
            assert_eq!(quote(word), quoted);
        }
    }
}
