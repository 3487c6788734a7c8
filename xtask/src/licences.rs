//! The level `licences`: every dependency can be used under a licence of the list.

use crate::cargo;
use crate::outcome::Outcome;

const ALLOWED: [&str; 12] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "CC0-1.0",
    "Unlicense",
    "0BSD",
    "CDLA-Permissive-2.0",
];

/// The level.
pub fn level(_: &[&str]) -> Outcome {
    // Only what is built here: other platforms' crates are not even downloaded.
    let host = match host() {
        Ok(host) => host,
        Err(why) => return Outcome::of(Err(why)),
    };
    let metadata = match cargo::metadata(&["--filter-platform", &host]) {
        Ok(metadata) => metadata,
        Err(why) => return Outcome::of(Err(why)),
    };
    let (packages, mut faults) = (cargo::list(&metadata, "packages"), Vec::new());
    for package in packages {
        let name = format!("{} {}", cargo::text(package, "name"), cargo::text(package, "version"));
        let licence = cargo::text(package, "license");
        match satisfiable(licence) {
            Ok(true) => {}
            Ok(false) => faults.push(format!("{name}: {licence:?} is not on the list")),
            Err(why) => faults.push(format!("{name}: {licence:?}: {why}")),
        }
    }
    Outcome::of_faults(format!("{} packages", packages.len()), faults)
}

fn host() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let text = cargo::output_of(std::process::Command::new(rustc).arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc -vV names no host".to_owned())
}

/// Whether a choice of licences within `expression` is on the list: `OR` and the old `/` choose,
/// `AND` binds tighter, and parentheses group.
fn satisfiable(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words };
    let allowed = parser.any()?;
    match parser.words {
        [] => Ok(allowed),
        [word, ..] => Err(format!("{word:?} is not expected there")),
    }
}

struct Parser<'a> {
    words: &'a [&'a str],
}

impl Parser<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut allowed = self.all()?;
        while self.take("OR") {
            allowed |= self.all()?;
        }
        Ok(allowed)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Ok(allowed)
    }

    fn one(&mut self) -> Result<bool, String> {
        if self.take("(") {
            let allowed = self.any()?;
            return if self.take(")") { Ok(allowed) } else { Err("a ) is missing".to_owned()) };
        }
        let (name, rest) = self.words.split_first().ok_or("a licence is missing")?;
        if matches!(*name, "OR" | "AND" | "WITH" | ")") {
            return Err(format!("{name:?} is not a licence"));
        }
        self.words = rest;
        if !self.take("WITH") {
            return Ok(ALLOWED.contains(name));
        }
        let (exception, rest) = self.words.split_first().ok_or("an exception is missing")?;
        self.words = rest;
        Ok(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_needs_one_and_a_sum_needs_all() {
        for yes in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(MIT OR GPL-3.0) AND ISC",
            "GPL-3.0 AND ISC OR MIT",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert_eq!(satisfiable(yes), Ok(true), "{yes}");
        }
        for no in ["GPL-3.0", "MIT AND GPL-3.0", "MIT WITH GCC-exception", "(GPL-3.0)"] {
            assert_eq!(satisfiable(no), Ok(false), "{no}");
        }
    }

    #[test]
    fn what_is_no_expression_is_an_error() {
        for wrong in ["", "(MIT", "MIT)", "MIT OR", "AND MIT", "MIT ISC", "MIT WITH"] {
            assert!(satisfiable(wrong).is_err(), "{wrong}");
        }
    }
}
