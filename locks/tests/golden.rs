//! Golden scripts: each file in `testdata` is input lines, a blank line, and what they printed.
//! The file's name says the situation and what must come of it. `REWRITE=1` writes the outputs
//! anew; read the difference before it is kept.
//!
//! One command a line, at indexes from 1 (`at N` sets the next one). A session is the letter of
//! its key; `#N` names one by its id. Tokens are `epoch:n`. After every line the machine is
//! checked, and `snapshot` goes on with what its bytes decode to.

#[cfg(test)]
mod script;

use std::fs;
use std::path::{Path, PathBuf};

#[test]
#[expect(clippy::disallowed_methods, reason = "REWRITE=1 writes the scripts")]
fn every_script_prints_what_its_file_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut paths: Vec<PathBuf> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 25, "only {} scripts in {}", paths.len(), dir.display());
    let mut wrong = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
        let printed = script::run(input);
        if rewrite {
            fs::write(&path, format!("{input}\n\n{printed}")).unwrap();
        } else if printed != expected {
            wrong.push(format!("{}\n{}", path.display(), difference(expected, &printed)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn difference(expected: &str, printed: &str) -> String {
    let (mut left, mut right) = (expected.lines(), printed.lines());
    let mut line = 0;
    loop {
        line += 1;
        match (left.next(), right.next()) {
            (None, None) => return "the ends differ".to_owned(),
            (a, b) if a == b => {}
            (a, b) => return format!("output line {line}\n  file: {a:?}\n  now:  {b:?}"),
        }
    }
}
