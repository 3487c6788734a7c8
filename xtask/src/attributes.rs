//! The rules of style about attributes, and which lines are test code.

use crate::scan::Line;

/// It includes the generated code, whose lints nobody answers for.
const INCLUDES_GENERATED: &str = "proto/src/lib.rs";

/// What is wrong with the attribute that starts in the first of `lines`.
pub fn fault(file: &str, lines: &[Line]) -> Option<&'static str> {
    let code = lines.first()?.code.as_str();
    if code.contains("#[ignore") {
        return Some("a test is run, or it is not there");
    }
    let lints = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
    let overrides = file != INCLUDES_GENERATED && lints.iter().any(|lint| code.contains(lint));
    if overrides && !has_reason(lines) {
        return Some("an allowed lint has its reason with it: // why, or reason = ...");
    }
    None
}

/// Whether the attribute says why, on any line up to its end.
fn has_reason(lines: &[Line]) -> bool {
    let length = lines.iter().position(|line| line.code.contains(']')).unwrap_or_default() + 1;
    let says = |line: &Line| !line.comment.trim().is_empty() || line.code.contains("reason =");
    lines.iter().take(length).any(says)
}

/// Which lines are test code: whole files of a crate's `tests/` folder or named as tests, and
/// inline test modules up to the end of the file. Programs that inflict faults or measure for a
/// time, as in `tests/check`, are none.
pub fn test_lines(file: &str, lines: &[Line]) -> Vec<bool> {
    let stem = file.trim_end_matches(".rs");
    let mut inside = file.split('/').skip(1).any(|part| part == "tests")
        || stem.ends_with("/tests")
        || stem.ends_with("_tests");
    let mut marked = false;
    lines
        .iter()
        .map(|line| {
            let code = line.code.trim();
            inside |= marked && code.starts_with("mod ") && code.ends_with('{');
            // Other attributes may stand between the mark and the module.
            marked = code == "#[cfg(test)]" || (marked && code.starts_with("#["));
            inside
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan;

    fn faults(source: &str) -> usize {
        let lines = scan::lines(source);
        (0..lines.len()).filter(|&index| fault("a.rs", &lines[index..]).is_some()).count()
    }

    #[test]
    fn a_test_is_run() {
        assert_eq!(faults("#[ignore = \"slow\"]\nfn a() {}\n#[ignore]"), 2);
    }

    #[test]
    fn an_allowed_lint_has_a_reason() {
        assert_eq!(faults("#[allow(dead_code)]\nfn a() {} // why"), 1);
        assert_eq!(faults("#[allow(dead_code)] // shown by Debug"), 0);
        assert_eq!(faults("#[expect(dead_code, reason = \"x\")]"), 0);
        assert_eq!(faults("#[allow(\n  dead_code,\n  reason = \"x\"\n)]"), 0);
    }
}
