//! The rules of style about files as such: their names, what stands in any text, and whether a
//! document can be found.

use crate::cargo;
use std::process::Command;

/// Words of machines and of authors, that no file of the project contains. A file of its own,
/// since whoever lists them writes them.
pub const BANNED: &str = "xtask/banned.txt";

/// Names that say nothing about what is in a module.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "helpers", "helper", "common", "misc", "manager"];

/// Every file of the project, committed or about to be, in order.
pub fn files() -> Result<Vec<String>, String> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let text = cargo::output_of(Command::new("git").args(list))?;
    let exists = |file: &&str| std::path::Path::new(file).is_file();
    let mut files: Vec<String> = text.split('\0').filter(exists).map(str::to_owned).collect();
    files.sort_unstable();
    files.dedup();
    if files.is_empty() { Err("git knows no files here".to_owned()) } else { Ok(files) }
}

/// Whether a file is made by a program and judged by none of the rules about code.
pub fn is_generated(file: &str) -> bool {
    file.contains("/generated/")
}

/// What no file may contain.
#[derive(Debug, Default)]
pub struct Banned {
    paths: Vec<String>,
    words: Vec<String>,
}

impl Banned {
    /// One a line: `path TEXT` for any file, `word TEXT` for `.rs` and `.md`; `#` starts a comment.
    pub fn parse(text: &str) -> Result<Banned, String> {
        let mut banned = Banned::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_once(' ') {
                Some(("path", path)) => banned.paths.push(path.to_owned()),
                Some(("word", word)) => banned.words.push(word.to_owned()),
                _ => return Err(format!("{BANNED}: {line:?} is neither a path nor a word")),
            }
        }
        Ok(banned)
    }

    /// The faults of one file.
    pub fn faults(&self, file: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let is_prose = file.ends_with(".rs") || file.ends_with(".md");
        for (number, line) in (1..).zip(text.lines()) {
            let mut fault = |what: &str| faults.push(format!("{file}:{number}: {what}"));
            for path in self.paths.iter().filter(|path| line.contains(path.as_str())) {
                fault(&format!("{path:?} is a place of one machine"));
            }
            let words = self.words.iter().filter(|word| is_prose && has_word(line, word));
            words.for_each(|word| fault(&format!("{word:?} is not about the project")));
        }
        faults
    }
}

/// Whether `word` stands in `line` with no letter or digit beside it.
fn has_word(line: &str, word: &str) -> bool {
    let beside = |c: char| c.is_alphanumeric();
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(beside) && !line[at + word.len()..].starts_with(beside)
    })
}

/// The fault of a file's own name.
pub fn name_fault(file: &str) -> Option<String> {
    let stem = file.strip_suffix(".rs")?;
    let empty = stem.split('/').find(|part| EMPTY_NAMES.contains(part))?;
    Some(format!("{file}: {empty:?} says nothing about what is in it"))
}

/// Documents that no index names: the README, `docs/README.md`, or the README of their folder.
pub fn unlinked(files: &[String], read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let documents = files.iter().filter(|file| file.starts_with("docs/"));
    let is_unlinked = |file: &&String| {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let indexes = [String::new(), "docs/".to_owned(), format!("{folder}/")];
        file.as_str() != "docs/README.md"
            && !indexes.iter().any(|index| {
                let named = file.strip_prefix(index.as_str());
                let text = read(&format!("{index}README.md")).unwrap_or_default();
                named.is_some_and(|named| links(&text).any(|link| link == named))
            })
    };
    let unlinked = documents.filter(is_unlinked);
    unlinked.map(|file| format!("{file}: neither README.md nor docs/README.md links it")).collect()
}

/// The targets of a document's links, without their anchors.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(|target| target.split('#').next().unwrap_or(target).trim_start_matches("./"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_texts_are_found_where_they_count() {
        let banned = Banned::parse("# why\n\npath /nowhere/\nword Zed\n").expect("a list");
        assert_eq!(banned.faults("a.toml", "x = \"/nowhere/y\"\nZed").len(), 1);
        assert_eq!(banned.faults("a.md", "by Zed\nZeds and aZed").len(), 1);
        assert!(Banned::parse("other x").is_err());
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        assert!(name_fault("raft/src/utils.rs").is_some());
        assert!(name_fault("raft/tests/common/mod.rs").is_some());
        assert!(name_fault("raft/src/commonality.rs").is_none());
        assert!(name_fault("docs/misc.md").is_none());
    }

    #[test]
    fn a_document_needs_a_link() {
        let files = ["docs/a.md", "docs/b.md", "docs/adr/README.md", "docs/adr/c.md", "docs/d.md"];
        let read = |file: &str| {
            let text = match file {
                "README.md" => "[a](docs/a.md#top)",
                "docs/README.md" => "[b](./b.md) [adr](adr/README.md)",
                "docs/adr/README.md" => "[c](c.md)",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let found = unlinked(&files.map(str::to_owned), read);
        assert!(found.len() == 1 && found[0].starts_with("docs/d.md"), "{found:?}");
    }
}
