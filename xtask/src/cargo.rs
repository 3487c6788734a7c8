//! Cargo, and where things are.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What runs beside applications, and what tests that. The clients of the API server are built
/// apart, as a crate gets all features that anybody asks for in one build: what they need of the
/// crates that all share is in no sidecar.
pub const BESIDE: [&str; 5] =
    ["--workspace", "--exclude", "quorate-operator", "--exclude", "quorate-cluster"];
/// The clients of the API server.
pub const KUBERNETES: [&str; 4] = ["-p", "quorate-operator", "-p", "quorate-cluster"];

/// Makes the top of the project the current directory, wherever in it xtask was started.
pub fn enter_top() -> Result<(), String> {
    let start = std::env::current_dir().map_err(|e| format!("the current directory: {e}"))?;
    let is_top = |dir: &&Path| dir.join("Cargo.lock").exists() && dir.join("xtask").is_dir();
    let top = start.ancestors().find(is_top);
    let top = top.ok_or("this is not inside the project: no folder above has a Cargo.lock")?;
    std::env::set_current_dir(top).map_err(|e| format!("{}: {e}", top.display()))
}

/// The cargo that started this, or the one on the PATH.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    command
}

/// Runs cargo, its output shown.
pub fn run(args: &[&str]) -> Result<(), String> {
    let status = command(args).status().map_err(|e| format!("cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo {} failed", args.join(" "))) }
}

/// Whether cargo has this subcommand here.
pub fn has(subcommand: &str) -> bool {
    let mut probe = command(&[subcommand, "--version"]);
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// What `command` prints on stdout; an error if it fails. Its stderr is shown.
pub fn output_of(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stderr(Stdio::inherit()).output().map_err(|e| format!("{name}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{name} failed: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{name} printed what is not UTF-8"))
}

/// `cargo metadata`, as of the committed lock file.
pub fn metadata(args: &[&str]) -> Result<Value, String> {
    let text = output_of(command(&["metadata", "--format-version", "1", "--locked"]).args(args))?;
    serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))
}

/// The text at `key`; what cargo leaves out or says as null is empty.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The list at `key`.
pub fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Where cargo builds; `CARGO_TARGET_DIR` and cargo's own settings count.
pub fn target_dir() -> Result<PathBuf, String> {
    let metadata = metadata(&["--no-deps"])?;
    Ok(PathBuf::from(text(&metadata, "target_directory")))
}
