//! `cargo xtask cluster | image`: builds the program that starts a real Kubernetes and writes
//! images, with all that goes into these, and becomes it.

use crate::outcome::Outcome;
use crate::{cargo, program};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the product's image holds: a crate, and its program. The first is what a container starts.
const BINARIES: [(&str, &str); 2] =
    [("quorate-sidecar", "quorate-sidecar"), ("quorate-operator", "quorate-operator")];
/// The program that the sidecar hands to images without a libc; in this one, it is the command.
const STATIC: (&str, &str) = ("quorate-client", "quorate");
const IMAGE: &str = "quorate-image.tar";

/// The verb `cluster`: this process becomes the program.
pub fn start(args: &[&str]) -> Result<ExitCode, String> {
    Err(format!("quorate-cluster: {}", prepare(args)?.exec()))
}

/// A level: `cluster ARGS`.
pub fn level(args: &[&str]) -> Outcome {
    program::judge("quorate-cluster", prepare(args), args)
}

fn prepare(args: &[&str]) -> Result<Command, String> {
    let program = build()?;
    let mut command = Command::new(&program);
    command.arg("cluster").args(args);
    if needs_image(args) {
        let archive = cargo::target_dir()?.join(IMAGE);
        write_image(&program, &["--out", text(&archive)?])?;
        command.arg(&archive);
    }
    if args.first() == Some(&"test") && !asks_for_help(args) && !is_elsewhere(args) {
        add_product(&program, &mut command)?;
    }
    if needs_dir(args) {
        command.arg("--dir").arg(cargo::target_dir()?.join("kubernetes"));
    }
    Ok(command)
}

/// The verb `demo --kubernetes`: this process becomes the program.
pub fn demo(args: &[&str]) -> Result<ExitCode, String> {
    let program = build()?;
    let mut command = Command::new(&program);
    command.arg("demo").args(args);
    if !asks_for_help(args) {
        if !is_elsewhere(args) {
            add_product(&program, &mut command)?;
        }
        if !args.iter().any(is_dir) {
            command.arg("--dir").arg(cargo::target_dir()?.join("kubernetes"));
        }
    }
    Err(format!("quorate-cluster: {}", command.exec()))
}

/// The image and the operator, as they are built now.
fn add_product(program: &Path, command: &mut Command) -> Result<(), String> {
    let target = cargo::target_dir()?;
    let archive = target.join(IMAGE);
    write_image(program, &["--out", text(&archive)?])?;
    command.arg("--image").arg(archive);
    command.arg("--operator").arg(target.join("release").join("quorate-operator"));
    Ok(())
}

/// The verb `image`.
pub fn image(args: &[&str]) -> Result<ExitCode, String> {
    let program = build()?;
    if asks_for_help(args) {
        let failed = Command::new(program).arg("image").args(args).exec();
        return Err(format!("quorate-cluster: {failed}"));
    }
    write_image(&program, args).map(|()| ExitCode::SUCCESS)
}

/// Nodes of somebody's own cluster pull their image.
fn is_elsewhere(args: &[&str]) -> bool {
    args.iter().any(|arg| arg.starts_with("--kubeconfig"))
}

fn asks_for_help(args: &[&str]) -> bool {
    args.iter().any(|arg| matches!(*arg, "--help" | "-h"))
}

/// `load` without an archive loads what is built now.
fn needs_image(args: &[&str]) -> bool {
    let mut archives = args.iter().skip(1).peekable();
    let mut given = false;
    while let Some(arg) = archives.next() {
        if !arg.starts_with('-') || matches!(*arg, "-h" | "--help") {
            given = true;
        } else if !arg.contains('=') {
            archives.next();
        }
    }
    args.first() == Some(&"load") && !given
}

/// The folder of clusters is beside what cargo builds, wherever that is.
fn needs_dir(args: &[&str]) -> bool {
    let verb = args.first().is_some_and(|verb| !verb.starts_with('-'));
    verb && !matches!(args.first(), Some(&"build" | &"help")) && !args.iter().any(is_dir)
}

fn is_dir(arg: &&str) -> bool {
    *arg == "--dir" || arg.starts_with("--dir=")
}

fn build() -> Result<PathBuf, String> {
    build_binaries(&[&cargo::KUBERNETES[..], &["--bin", "quorate-cluster"]].concat(), &[])?;
    Ok(cargo::target_dir()?.join("release").join("quorate-cluster"))
}

fn build_binaries(args: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let pairs = args.windows(2).filter(|pair| pair[0] == "--bin");
    let named: Vec<&str> = pairs.map(|pair| pair[1]).collect();
    eprintln!("building {} in release mode", named.join(", "));
    let mut build = cargo::command(&[&["build", "--release"], args].concat());
    let status = build.envs(environment.iter().copied()).status();
    let status = status.map_err(|e| format!("cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo build {} failed", named.join(" "))) }
}

fn write_image(program: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.arg("image").args(args);
    let target = cargo::target_dir()?;
    if !args.iter().any(|arg| *arg == "--out" || arg.starts_with("--out=")) {
        command.arg("--out").arg(target.join(IMAGE));
    }
    let (mut beside, mut kubernetes) = (cargo::BESIDE.to_vec(), cargo::KUBERNETES.to_vec());
    for (package, binary) in BINARIES {
        let apart = cargo::KUBERNETES.contains(&package);
        if apart { &mut kubernetes } else { &mut beside }.extend(["--bin", binary]);
        command.arg("--binary").arg(target.join("release").join(binary));
    }
    build_binaries(&beside, &[])?;
    build_binaries(&kubernetes, &[])?;
    command.arg("--static").arg(build_static(&target)?);
    let status = command.status().map_err(|e| format!("quorate-cluster: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("quorate-cluster image: {status}")) }
}

/// With its libc inside, apart from the other builds: every crate of it is built anew.
fn build_static(target: &Path) -> Result<PathBuf, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = cargo::output_of(Command::new(rustc).arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc -vV names no host")?;
    let apart = target.join("static");
    let crates = ["-p", STATIC.0, "--bin", STATIC.1, "--target", host];
    let environment =
        [("RUSTFLAGS", "-C target-feature=+crt-static"), ("CARGO_TARGET_DIR", text(&apart)?)];
    build_binaries(&crates, &environment)?;
    Ok(apart.join(host).join("release").join(STATIC.1))
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_without_an_archive_makes_one() {
        assert!(needs_image(&["load"]));
        assert!(needs_image(&["load", "--instance", "a", "--dir=b"]));
        assert!(!needs_image(&["load", "a.tar"]));
        assert!(!needs_image(&["load", "--instance", "a", "b.tar"]));
        assert!(!needs_image(&["load", "--help"]));
        assert!(!needs_image(&["up"]));
    }

    #[test]
    fn a_folder_that_is_named_stays() {
        assert!(needs_dir(&["up", "--nodes", "1"]));
        assert!(!needs_dir(&["down", "--dir", "x"]));
        assert!(!needs_dir(&["build"]) && !needs_dir(&["--help"]) && !needs_dir(&[]));
    }
}
