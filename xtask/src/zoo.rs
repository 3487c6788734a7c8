//! `cargo xtask zoo`: builds everything with planted bugs, apart from all other builds, and lets
//! `quorate-zoo` run each bug until something catches it.

use crate::outcome::Outcome;
use crate::{cargo, program};
use serde_json::Value;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Test binaries that may catch a bug: the crate, the target, and its name for `quorate-zoo`.
const BINARIES: &[(&str, &str, &str)] = &[
    ("quorate-raft", "golden", "raft/golden"),
    ("quorate-raft", "configuration", "raft/configuration"),
    ("quorate-raft", "simulator", "raft/simulator"),
    ("quorate-locks", "golden", "locks/golden"),
    ("quorate-locks", "limits", "locks/limits"),
    ("quorate-locks", "bytes", "locks/bytes"),
    ("quorate-locks", "property", "locks/property"),
    ("quorate-sidecar", "quorate_sidecar", "sidecar/lib"),
    ("quorate-sidecar", "wal", "sidecar/wal"),
    ("quorate-sidecar", "wal_files", "sidecar/wal_files"),
    ("quorate-sidecar", "crash_points", "sidecar/crash_points"),
    ("quorate-client", "quorate_client", "client/lib"),
];

/// The verb: this process becomes the zoo.
pub fn start(args: &[&str]) -> Result<ExitCode, String> {
    let failed = prepare(args)?.exec();
    Err(format!("quorate-zoo: {failed}"))
}

/// A level: `zoo ARGS`.
pub fn level(args: &[&str]) -> Outcome {
    program::judge("quorate-zoo", prepare(args), args)
}

/// Builds everything; gives the program with the paths of all that it runs, and its arguments.
fn prepare(args: &[&str]) -> Result<Command, String> {
    let target = cargo::target_dir()?.join("planted");
    eprintln!("building the planted bugs and their tests in release mode");
    let zoo = ["build", "--release", "-p", "quorate-tests", "--bin", "quorate-zoo"];
    build(&target, &zoo, &[])?;
    let mut tests = vec!["test", "--release", "--no-run", "--lib"];
    for (package, binary, _) in BINARIES {
        tests.extend(["-p", package]);
        if !binary.starts_with("quorate_") {
            tests.extend(["--test", binary]);
        }
    }
    // With it the same features are on everywhere, and nothing is built twice.
    tests.extend(["-p", "quorate-tests"]);
    let built = build(&target, &tests, &["--message-format", "json-render-diagnostics"])?;
    let mut command = Command::new(target.join("release").join("quorate-zoo"));
    for (package, binary, name) in BINARIES {
        let path = executable(&built, package, binary);
        let path = path.ok_or_else(|| format!("cargo built no test {binary} of {package}"))?;
        command.arg("--binary").arg(format!("{name}={}", path.display()));
    }
    command.args(args);
    Ok(command)
}

/// Builds into a folder of its own: no other binary can have a planted bug.
fn build(target: &Path, args: &[&str], format: &[&str]) -> Result<String, String> {
    let mut build = cargo::command(args);
    build.args(["--features", "quorate-tests/planted"]).args(format);
    build.env("CARGO_TARGET_DIR", target);
    cargo::output_of(&mut build)
}

/// Where cargo says that this test of this package is.
fn executable(messages: &str, package: &str, binary: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let test = message["profile"]["test"].as_bool() == Some(true);
        let own = message["target"]["name"] == binary && is_of(&message, package);
        let path = message["executable"].as_str()?;
        (test && own).then(|| PathBuf::from(path))
    })
}

/// The id of a package of the workspace names its folder: `path+file:///top/raft#quorate-raft@1`.
fn is_of(message: &Value, package: &str) -> bool {
    let id = cargo::text(message, "package_id");
    id.rsplit_once('#').is_some_and(|(_, name)| name.split('@').next() == Some(package))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(package: &str, name: &str, test: bool, path: &str) -> String {
        serde_json::json!({
            "reason": "compiler-artifact",
            "package_id": format!("path+file:///top/x#{package}@0.1.0"),
            "target": { "name": name },
            "profile": { "test": test },
            "executable": path,
        })
        .to_string()
    }

    #[test]
    fn a_test_is_found_by_its_package_and_name() {
        let messages = [
            message("quorate-locks", "golden", true, "/locks"),
            message("quorate-raft", "golden", false, "/no-test"),
            message("quorate-raft", "golden", true, "/raft"),
        ]
        .join("\n");
        let found = |package, binary| executable(&messages, package, binary);
        assert_eq!(found("quorate-raft", "golden"), Some(PathBuf::from("/raft")));
        assert_eq!(found("quorate-locks", "golden"), Some(PathBuf::from("/locks")));
        assert_eq!(found("quorate-raft", "wal"), None);
    }
}
