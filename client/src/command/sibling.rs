//! Verbs that live in `quorate-sidecar`: this process becomes it, with the same arguments.

use crate::{exit, paint};
use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

const SIBLING: &str = "quorate-sidecar";

/// `quorate dev …` and `quorate wal …`, word for word: none of their flags is read here.
pub fn if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<u8> {
    let verb = arguments.nth(1)?;
    let verb = verb.to_str().filter(|verb| matches!(*verb, "dev" | "wal"))?;
    let rest: Vec<OsString> = arguments.collect();
    Some(start(verb, &rest))
}

/// Becomes the sibling; returns only if that failed.
pub fn start(verb: &str, arguments: &[OsString]) -> u8 {
    let beside = beside();
    let program = beside.as_deref().map_or(OsStr::new(SIBLING), |path| path.as_os_str());
    let error = Command::new(program).arg(verb).args(arguments).exec();
    let program = program.display();
    paint::say(&format!(
        "cannot start {program}: {error}; it is looked for beside quorate, then in PATH"
    ));
    exit::UNAVAILABLE
}

/// Beside our own file, links followed.
fn beside() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let path = own.parent()?.join(SIBLING);
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
    }
}
