//! Puts the program `quorate` where other containers of the pod can run it.
//!
//! Nobody ever sees a part of it: it is written beside its place and then renamed, also over one
//! that runs.

use crate::config::Tool;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;

/// What it is called there.
const NAME: &str = "quorate";
/// While it is being written.
const FRESH: &str = ".quorate.new";
/// Everybody may run it, nobody changes it.
const MODE: u32 = 0o555;

/// Copies the program; its directory is made if it is not there. Says where it is.
///
/// # Errors
/// The source is not there, or the directory cannot be written; each names the path.
pub fn place(tool: &Tool) -> io::Result<PathBuf> {
    let Tool { directory, source } = tool;
    let (fresh, path) = (directory.join(FRESH), directory.join(NAME));
    let named = |path: &PathBuf, why: io::Error| {
        io::Error::new(why.kind(), format!("{}: {why}", path.display()))
    };
    // First: a directory without the program in it would say less.
    fs::metadata(source).map_err(|why| named(source, why))?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(directory);
    made.map_err(|why| named(directory, why))?;
    // Left over from a process that was killed, nobody may write to it.
    match fs::remove_file(&fresh) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(named(&fresh, why)),
        _ => {}
    }
    fs::copy(source, &fresh).map_err(|why| named(&fresh, why))?;
    let mode = fs::set_permissions(&fresh, fs::Permissions::from_mode(MODE));
    mode.and_then(|()| fs::rename(&fresh, &path)).map_err(|why| named(&path, why))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_replaced_as_a_whole() {
        let base = std::env::temp_dir().join(format!("quorate-tool-{}", std::process::id()));
        let source = base.join("source");
        let tool = Tool { directory: base.join("made/bin"), source: source.clone() };
        let missing = place(&tool).unwrap_err().to_string();
        assert!(missing.starts_with(&source.display().to_string()), "{missing}");
        assert!(!tool.directory.exists());
        fs::create_dir_all(&base).unwrap();
        for text in ["first", "second, and longer"] {
            fs::write(&source, text).unwrap();
            fs::create_dir_all(&tool.directory).unwrap();
            fs::write(tool.directory.join(FRESH), "left over").unwrap();
            let path = place(&tool).unwrap();
            assert_eq!(path, tool.directory.join("quorate"));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o555);
            assert_eq!(fs::read_dir(&tool.directory).unwrap().count(), 1);
        }
        fs::remove_dir_all(base).unwrap();
    }
}
