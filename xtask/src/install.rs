//! `cargo xtask install`: puts the binaries where the shell finds them.

use crate::{cargo, show};
use std::path::{Path, PathBuf};

const BINARIES: [&str; 2] = ["quorate", "quorate-sidecar"];
const OPERATOR: &str = "quorate-operator";
const USAGE: &str = "\
Builds quorate and quorate-sidecar in release mode and copies them.

  cargo xtask install              into cargo's bin folder: below CARGO_INSTALL_ROOT, CARGO_HOME,
                                   or ~/.cargo, whichever is set first
  cargo xtask install --root DIR   into DIR/bin
  cargo xtask install --operator   quorate-operator as well, which `quorate inject` starts";

/// The verb.
pub fn run(args: &[&str]) -> Result<(), String> {
    let (mut root, mut operator) = (None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match *arg {
            "--root" => root = Some(args.next().ok_or(USAGE)?),
            "--operator" => operator = true,
            "--help" | "-h" => {
                show::say(USAGE);
                return Ok(());
            }
            _ => return Err(USAGE.to_owned()),
        }
    }
    let bin = root.map_or_else(cargo_home, |root| Ok(PathBuf::from(root)))?.join("bin");
    eprintln!("building {} in release mode", BINARIES.join(" and "));
    let mut build = vec!["build", "--release"];
    build.extend(cargo::BESIDE);
    build.extend(BINARIES.iter().flat_map(|binary| ["--bin", *binary]));
    cargo::run(&build)?;
    if operator {
        eprintln!("building {OPERATOR} in release mode");
        cargo::run(&["build", "--release", "-p", OPERATOR, "--bin", OPERATOR])?;
    }
    let built = cargo::target_dir()?.join("release");
    std::fs::create_dir_all(&bin).map_err(|e| format!("{}: {e}", bin.display()))?;
    for name in BINARIES.into_iter().chain(operator.then_some(OPERATOR)) {
        place(&built.join(name), &bin.join(name))?;
        show::say(&format!("installed {}", bin.join(name).display()));
    }
    if !on_path(&bin) {
        let bin = bin.display();
        show::say(&format!("{bin} is not on your PATH; put it there: export PATH=\"{bin}:$PATH\""));
    }
    Ok(())
}

/// Copies beside the place and renames, since a running program's file cannot be written.
fn place(from: &Path, to: &Path) -> Result<(), String> {
    let draft = to.with_extension("new");
    std::fs::copy(from, &draft)
        .and_then(|_| std::fs::rename(&draft, to))
        .map_err(|e| format!("{}: {e}", to.display()))
}

fn cargo_home() -> Result<PathBuf, String> {
    let set = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let own = set("CARGO_INSTALL_ROOT").or_else(|| set("CARGO_HOME"));
    let below_home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    own.or_else(below_home).ok_or_else(|| "HOME is not set; say where: --root DIR".to_owned())
}

fn on_path(bin: &Path) -> bool {
    // A folder that does not resolve is on nobody's path.
    let Ok(bin) = std::fs::canonicalize(bin) else { return false };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .any(|folder| std::fs::canonicalize(folder).is_ok_and(|folder| folder == bin))
}
