//! Finds the scripts, runs each, compares or rewrites.

use crate::{quorum, words};
use std::fs;
use std::io::Write;
use std::path::Path;

fn scripts(folder: &str, run: impl Fn(&str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let rewrite = std::env::var_os("REWRITE").is_some();
    let mut count = 0;
    let mut wrong = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let (input, expected) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
        let output = run(input);
        count += 1;
        if rewrite {
            let mut file = fs::File::create(&path).unwrap();
            write!(file, "{}\n\n{output}", input.trim_end()).unwrap();
        } else if output != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- got\n{output}", path.display()));
        }
    }
    assert!(count > 0, "no scripts");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn quorum_scripts() {
    scripts("quorum", quorum::run);
}

#[test]
fn log_scripts() {
    scripts("log", words::run);
}

#[test]
fn node_scripts() {
    scripts("node", words::run);
}
