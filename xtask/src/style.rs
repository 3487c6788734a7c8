//! The level `style`: the rules of `docs/testing.md` that neither rustfmt nor clippy knows.
//!
//! Every rule here is a function from one file to its faults. `tidy.rs` has those about names,
//! texts and documents, `attributes.rs` those about attributes; here is the rest.

use crate::attributes;
use crate::outcome::Outcome;
use crate::scan::{self, Line};
use crate::tidy::{self, Banned};

const FILE_LINES_MAX: usize = 800;
const VERB_LINES_MAX: usize = 200;
const COLUMNS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
/// What says that something is not finished, as a word of code or comment.
const UNFINISHED: [&str; 5] = ["todo!", "unimplemented!", "TODO", "FIXME", "XXX"];
/// What makes a run differ from the next one.
const IMPURE: [&str; 8] = [
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "std::thread",
    "std::fs",
    "std::net",
    "std::process",
];

/// The level.
pub fn level(_: &[&str]) -> Outcome {
    match judge() {
        Ok((files, faults)) => Outcome::of_faults(format!("{files} files"), faults),
        Err(why) => Outcome::of(Err(why)),
    }
}

fn judge() -> Result<(usize, Vec<String>), String> {
    let read = |file: &str| std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"));
    let (files, banned) = (tidy::files()?, Banned::parse(&read(tidy::BANNED)?)?);
    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.as_str() != tidy::BANNED) {
        let bytes = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
        let text = String::from_utf8_lossy(&bytes);
        faults.extend(banned.faults(file, &text));
        faults.extend(tidy::name_fault(file));
        if file.ends_with(".rs") && !tidy::is_generated(file) {
            faults.extend(code_faults(file, &text));
        }
    }
    faults.extend(tidy::unlinked(&files, |file| read(file).ok()));
    Ok((files.len(), faults))
}

/// All faults of one source file.
fn code_faults(file: &str, text: &str) -> Vec<String> {
    let lines = scan::lines(text);
    let mut faults = size_faults(file, text, &lines);
    let (tests, pure) = (attributes::test_lines(file, &lines), is_pure(file));
    for (index, line) in lines.iter().enumerate() {
        let mut fault = |what: String| faults.push(format!("{file}:{}: {what}", index + 1));
        if let Some(word) = UNFINISHED.iter().find(|word| has(line, word)) {
            fault(format!("{word}: nothing unfinished stays"));
        }
        if let Some(why) = attributes::fault(file, &lines[index..]) {
            fault(why.to_owned());
        }
        if tests[index] && sleeps(&line.code) {
            fault("a test waits for a condition, never for a time".to_owned());
        }
        if let Some(word) = IMPURE.iter().find(|word| pure && has_path(&line.code, word)) {
            fault(format!("{word}: this crate is a function of its inputs"));
        }
    }
    faults
}

fn size_faults(file: &str, text: &str, lines: &[Line]) -> Vec<String> {
    let mut faults = Vec::new();
    let limit = if file.starts_with("xtask/src/") { VERB_LINES_MAX } else { FILE_LINES_MAX };
    let count = text.lines().count();
    if count > limit {
        faults.push(format!("{file}: {count} lines, at most {limit}"));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            faults.push(format!("{file}:{number}: {columns} columns, at most {COLUMNS_MAX}"));
        }
    }
    for function in scan::functions(lines) {
        let scan::Function { name, line, length } = function;
        if length > FUNCTION_LINES_MAX {
            let most = FUNCTION_LINES_MAX;
            faults.push(format!("{file}:{line}: {name} has {length} lines, at most {most}"));
        }
    }
    faults
}

fn has(line: &Line, word: &str) -> bool {
    has_path(&line.code, word) || has_path(&line.comment, word)
}

/// Whether `path` stands in `code` as whole words.
fn has_path(code: &str, path: &str) -> bool {
    let beside = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(path).any(|(at, _)| {
        !code[..at].ends_with(beside) && !code[at + path.len()..].starts_with(beside)
    })
}

fn sleeps(code: &str) -> bool {
    ["thread::sleep", "time::sleep", "sleep_ms"].iter().any(|sleep| has_path(code, sleep))
}

fn is_pure(file: &str) -> bool {
    file.starts_with("raft/src/") || file.starts_with("locks/src/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, text: &str) -> usize {
        code_faults(file, text).len()
    }

    #[test]
    fn sizes_have_limits() {
        assert_eq!(faults("a/src/b.rs", &"x\n".repeat(800)), 0);
        assert_eq!(faults("a/src/b.rs", &"x\n".repeat(801)), 1);
        assert_eq!(faults("xtask/src/b.rs", &"x\n".repeat(201)), 1);
        assert_eq!(faults("a.rs", &"é".repeat(100)), 0);
        assert_eq!(faults("a.rs", &"x".repeat(101)), 1);
        assert_eq!(faults("a.rs", &format!("fn a() {{\n{}}}", "x;\n".repeat(68))), 0);
        assert_eq!(faults("a.rs", &format!("fn a() {{\n{}}}", "x;\n".repeat(69))), 1);
    }

    #[test]
    fn nothing_unfinished_stays() {
        assert_eq!(faults("a.rs", "// TODO later\n// FIXME\ntodo!();\nunimplemented!();"), 4);
        assert_eq!(faults("a.rs", "say(\"TODO\"); // mastodon\n"), 0);
    }

    #[test]
    fn tests_do_not_sleep_and_programs_may() {
        let sleep = "std::thread::sleep(x);";
        for test in ["raft/tests/a.rs", "tests/tests/a.rs", "a/src/b_tests.rs", "a/src/tests.rs"] {
            assert_eq!(faults(test, sleep), 1, "{test}");
        }
        assert_eq!(faults("tests/check/idle.rs", sleep), 0);
        assert_eq!(faults("a/src/b.rs", &format!("#[cfg(test)]\nmod tests {{\n{sleep}\n}}")), 1);
        assert_eq!(faults("a/src/b.rs", &format!("#[cfg(test)]\nmod tests;\n{sleep}")), 0);
    }

    #[test]
    fn pure_crates_stay_pure() {
        assert_eq!(faults("raft/src/a.rs", "use std::collections::HashMap;\nInstant::now()"), 2);
        assert_eq!(faults("locks/src/a.rs", "// no HashMap here\nlet instants = InstantBook;"), 0);
        assert_eq!(faults("sidecar/src/a.rs", "use std::fs;"), 0);
    }
}
