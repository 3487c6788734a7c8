//! Verbs that live in `quorate-sidecar`, or in `quorate-operator`: this process becomes it, with
//! the same arguments.

use crate::cli::Output;
use crate::failure::Failure;
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

const SIDECAR: &str = "quorate-sidecar";
const OPERATOR: &str = "quorate-operator";

/// `quorate dev …`, `wal …`, `recover …`, `snapshot inspect|restore …` and `inject …`, word for
/// word: none of their flags is read here.
pub fn if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<u8> {
    let verb = arguments.nth(1)?;
    let rest: Vec<OsString> = arguments.collect();
    let verb = verb.to_str().filter(|verb| is_sibling(verb, &rest))?;
    Some(start(verb, rest, Output::Text).say(Output::Text))
}

/// `snapshot save` is ours: it talks to a running member.
fn is_sibling(verb: &str, rest: &[OsString]) -> bool {
    let offline = |word: &OsString| word == "inspect" || word == "restore";
    matches!(verb, "dev" | "wal" | "recover" | "inject")
        || verb == "snapshot" && rest.first().is_some_and(offline)
}

/// Becomes the sibling, which is told how answers are written if that was said before the verb;
/// returns only if it failed.
pub fn start(verb: &str, mut arguments: Vec<OsString>, output: Output) -> Failure {
    if output == Output::Json {
        if matches!(verb, "wal" | "inject") {
            return Failure::usage(format!("`quorate {verb}` writes no JSON: leave out --output"));
        }
        hand_on_json(&mut arguments);
    }
    let sibling = if verb == "inject" { OPERATOR } else { SIDECAR };
    let beside = beside(sibling);
    let program = beside.as_deref().map_or(OsStr::new(sibling), |path| path.as_os_str());
    let error = Command::new(program).arg(verb).args(arguments).exec();
    let program = program.display();
    let how =
        if verb == "inject" { " (`cargo xtask install --operator` puts it there)" } else { "" };
    Failure::unavailable(format!(
        "cannot start {program}: {error}; it is looked for beside quorate, then in PATH{how}"
    ))
}

fn hand_on_json(arguments: &mut Vec<OsString>) {
    let is_it = |word: &OsString| word.as_encoded_bytes().starts_with(b"--output");
    if !arguments.iter().any(is_it) {
        let end = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
        arguments.splice(end..end, ["--output".into(), "json".into()]);
    }
}

/// Beside our own file, links followed.
fn beside(sibling: &str) -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let path = own.parent()?.join(sibling);
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_handed_on_once() {
        let handed = |text: &str| {
            let mut words: Vec<OsString> = text.split(' ').map(OsString::from).collect();
            hand_on_json(&mut words);
            words.join(" ".as_ref()).into_string().unwrap()
        };
        assert_eq!(handed("inspect f"), "inspect f --output json");
        assert_eq!(handed("inspect -- f"), "inspect --output json -- f");
        assert_eq!(handed("f --output=text"), "f --output=text");
    }

    #[test]
    fn other_verbs_are_left_alone() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(if_asked(words("quorate lock dev").into_iter()), None);
        assert_eq!(if_asked(words("quorate").into_iter()), None);
        assert_eq!(if_asked(words("quorate snapshot save f").into_iter()), None);
        assert!(is_sibling("inject", &[]));
        assert!(is_sibling("snapshot", &words("inspect f")) && is_sibling("recover", &[]));
    }
}
