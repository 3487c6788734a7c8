//! Verbs that live in `quorate-sidecar`, or in `quorate-operator`: this process becomes it, with
//! the same arguments.

use crate::{exit, paint};
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
    Some(start(verb, &rest))
}

/// `snapshot save` is ours: it talks to a running member.
fn is_sibling(verb: &str, rest: &[OsString]) -> bool {
    let offline = |word: &OsString| word == "inspect" || word == "restore";
    matches!(verb, "dev" | "wal" | "recover" | "inject")
        || verb == "snapshot" && rest.first().is_some_and(offline)
}

/// Becomes the sibling; returns only if that failed.
pub fn start(verb: &str, arguments: &[OsString]) -> u8 {
    let sibling = if verb == "inject" { OPERATOR } else { SIDECAR };
    let beside = beside(sibling);
    let program = beside.as_deref().map_or(OsStr::new(sibling), |path| path.as_os_str());
    let error = Command::new(program).arg(verb).args(arguments).exec();
    let program = program.display();
    paint::say(&format!(
        "cannot start {program}: {error}; it is looked for beside quorate, then in PATH"
    ));
    exit::UNAVAILABLE
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
    fn other_verbs_are_left_alone() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(if_asked(words("quorate lock dev").into_iter()), None);
        assert_eq!(if_asked(words("quorate").into_iter()), None);
        assert_eq!(if_asked(words("quorate snapshot save f").into_iter()), None);
        assert!(is_sibling("inject", &[]));
        assert!(is_sibling("snapshot", &words("inspect f")) && is_sibling("recover", &[]));
    }
}
