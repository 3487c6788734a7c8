//! The level `arrows`: who may depend on whom. Between crates from `cargo metadata`; inside the
//! sidecar from the sources, where the parts that the simulator runs know neither tokio nor tonic.

use crate::outcome::Outcome;
use crate::{cargo, scan, tidy};
use serde_json::Value;

/// Crates that may depend on these and on nothing else, whoever made it.
const CLOSED: [(&str, &[&str]); 4] = [
    ("quorate-raft", &[]),
    ("quorate-locks", &[]),
    ("quorate-proto", &["prost", "tonic", "tonic-prost"]),
    ("xtask", &["prost", "protox", "serde_json", "tonic-prost-build"]),
];

/// Crates that may depend on these of the project, and on any other.
const OPEN: [(&str, &[&str]); 4] = [
    ("quorate-sidecar", &["quorate-raft", "quorate-locks", "quorate-proto"]),
    ("quorate-client", &["quorate-proto"]),
    ("quorate-operator", &["quorate-proto"]),
    ("quorate-load", &["quorate-proto"]),
];

/// Crates that may depend on anything.
const FREE: [&str; 3] = ["quorate-tests", "quorate-cluster", "quorate-bench"];

/// The parts of the sidecar that the simulator runs: a file, or all files below a folder.
const PURE: [&str; 4] =
    ["sidecar/src/agent", "sidecar/src/member.rs", "sidecar/src/replica", "sidecar/src/wal"];

/// The level.
pub fn level(_: &[&str]) -> Outcome {
    let faults = cargo::metadata(&["--no-deps"]).and_then(|metadata| {
        let mut faults = crate_faults(cargo::list(&metadata, "packages"));
        let files = tidy::files()?;
        for part in PURE {
            faults.extend(part_faults(part, &files)?);
        }
        Ok(faults)
    });
    match faults {
        Ok(faults) => Outcome::of_faults(String::new(), faults),
        Err(why) => Outcome::of(Err(why)),
    }
}

fn crate_faults(packages: &[Value]) -> Vec<String> {
    let ours: Vec<&str> = packages.iter().map(|package| cargo::text(package, "name")).collect();
    let mut faults = Vec::new();
    for package in packages {
        let name = cargo::text(package, "name");
        let row = |table: &[(&str, &'static [&'static str])]| {
            table.iter().find(|(of, _)| *of == name).map(|(_, to)| *to)
        };
        let (to, only_ours) = match (row(&CLOSED), row(&OPEN)) {
            (Some(to), _) => (to, false),
            (None, Some(to)) => (to, true),
            (None, None) if FREE.contains(&name) => continue,
            (None, None) => {
                faults.push(format!("{name}: no rule says what it may depend on"));
                continue;
            }
        };
        for dependency in dependencies(package) {
            let counts = !only_ours || ours.contains(&dependency);
            if counts && !to.contains(&dependency) {
                faults.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    faults
}

/// Those of the product and its build; tests may use what they want.
fn dependencies(package: &Value) -> impl Iterator<Item = &str> {
    let all = cargo::list(package, "dependencies").iter();
    all.filter(|one| one["kind"].as_str() != Some("dev")).map(|one| cargo::text(one, "name"))
}

fn part_faults(part: &str, files: &[String]) -> Result<Vec<String>, String> {
    let below = format!("{part}/");
    let is_in = |file: &&String| file.as_str() == part || file.starts_with(&below);
    let files: Vec<&String> = files.iter().filter(is_in).collect();
    if files.is_empty() {
        // A rule about nothing would look as if it held.
        return Err(format!("{part} is not there; was it renamed? then rename it in {}", file!()));
    }
    let mut faults = Vec::new();
    for file in files.into_iter().filter(|file| file.ends_with(".rs")) {
        let source = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
        faults.extend(source_faults(file, &source));
    }
    Ok(faults)
}

fn source_faults(file: &str, source: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in (1..).zip(scan::lines(source)) {
        let foreign = |word: &&str| word.starts_with("tokio") || word.starts_with("tonic");
        for word in scan::words(&line.code).filter(foreign) {
            faults
                .push(format!("{file}:{number}: {word}; this part knows neither tokio nor tonic"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_arrow_that_is_not_allowed_is_named() {
        let dependency = |name: &str, kind: Value| json!({"name": name, "kind": kind});
        let packages = [
            json!({"name": "quorate-raft", "dependencies": [dependency("rand", Value::Null),
                dependency("criterion", json!("dev"))]}),
            json!({"name": "quorate-client", "dependencies": [dependency("clap", Value::Null),
                dependency("quorate-raft", Value::Null)]}),
            json!({"name": "quorate-tests", "dependencies": [dependency("rand", Value::Null)]}),
            json!({"name": "new", "dependencies": []}),
        ];
        assert_eq!(
            crate_faults(&packages),
            [
                "quorate-raft must not depend on rand",
                "quorate-client must not depend on quorate-raft",
                "new: no rule says what it may depend on",
            ]
        );
    }

    #[test]
    fn a_comment_may_name_tokio_and_code_may_not() {
        assert_eq!(source_faults("a.rs", "// tokio waits\nfn protokio() {}\n").len(), 0);
        assert_eq!(source_faults("a.rs", "use tokio::time;\nlet x = tonic_types::y();").len(), 2);
    }

    #[test]
    fn a_part_that_is_gone_is_an_error() {
        assert!(part_faults("sidecar/src/none", &[]).is_err());
    }
}
