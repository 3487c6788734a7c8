//! Whether a command can be run at all: better known before a grant than after it.

use crate::exit;
use crate::failure::Failure;
use rustix::fs::{Access, access};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Looks for a program as `exec` will: a path as it is, a name in PATH.
///
/// # Errors
/// With the shells' exit code.
pub fn find(program: &OsStr) -> Result<(), Failure> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    find_in(program, &path).map_err(|(code, why)| {
        let words = format!("cannot run {}: {why}", program.display());
        let failure = Failure::new(code, words);
        let line = program.to_string_lossy();
        if code == exit::NOT_FOUND && line.contains(char::is_whitespace) {
            let quoted = crate::typed::quote(&line);
            failure.hint(format!("a line for a shell goes to a shell: -- sh -c {quoted}"))
        } else {
            failure
        }
    })
}

fn find_in(program: &OsStr, path: &OsStr) -> Result<(), (u8, &'static str)> {
    let places: Vec<PathBuf> = if program.as_encoded_bytes().contains(&b'/') {
        vec![PathBuf::from(program)]
    } else {
        std::env::split_paths(path).map(|folder| folder.join(program)).collect()
    };
    let there: Vec<&PathBuf> = places.iter().filter(|place| place.exists()).collect();
    let runs = |place: &Path| place.is_file() && access(place, Access::EXEC_OK).is_ok();
    match there.iter().any(|place| runs(place)) {
        true => Ok(()),
        false if there.is_empty() => Err((exit::NOT_FOUND, "no such command")),
        false => Err((exit::NOT_EXECUTABLE, "it is there, and cannot be executed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_the_shell_does() {
        let code = |program: &str, path: &str| {
            find_in(program.as_ref(), path.as_ref()).err().map(|(code, _)| code)
        };
        assert_eq!(code("sh", "/nowhere:/bin"), None);
        assert_eq!(code("/bin/sh", ""), None);
        assert_eq!(code("sh", "/nowhere"), Some(127));
        assert_eq!(code("/no/such", "/bin"), Some(127));
        assert_eq!(code("/etc/passwd", ""), Some(126));
        assert_eq!(code("/etc", ""), Some(126));
    }
}
