//! Golden scripts: each file in `testdata/plan` is a situation, a blank line, and what is planned
//! and told. The file's name says the situation. `REWRITE=1` writes the outputs anew; read the
//! difference before it is kept.
//!
//! `healthy N` is a group at rest with N pods; the lines after it say what is different. Members
//! are letters: a is the one of pod 0, unless a line says otherwise.

#[cfg(test)]
mod script;

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_situation_is_answered_as_its_file_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/plan");
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 40, "only {} scripts in {}", paths.len(), dir.display());
    let mut wrong = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
        let printed = script::run(input);
        if rewrite {
            fs::write(&path, format!("{input}\n\n{printed}")).unwrap();
        } else if printed != expected {
            wrong.push(format!("{}\n{expected}--- now\n{printed}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
