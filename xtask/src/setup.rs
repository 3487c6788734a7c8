//! `cargo xtask setup`: the tools of the system that the tests need.

use crate::{cargo, show};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

const USAGE: &str = "\
Installs what `cargo xtask test` needs of the system: mkfs.ext4, fsfreeze, losetup, mount and
umount, for the checks on disks of their own. It uses apt-get where this is root; where it is not,
it says what is missing.";

/// Tools of the checks on disks of their own, each with the package that has it.
const TOOLS: [(&str, &str); 5] = [
    ("mkfs.ext4", "e2fsprogs"),
    ("fsfreeze", "util-linux"),
    ("losetup", "mount"),
    ("mount", "mount"),
    ("umount", "mount"),
];

/// The verb.
pub fn run(args: &[&str]) -> Result<(), String> {
    match args {
        [] => {
            disk_tools().map_err(|missing| format!("needs {missing}"))?;
            show::say("everything that the tests need is there");
            Ok(())
        }
        ["--help" | "-h"] => {
            show::say(USAGE);
            Ok(())
        }
        _ => Err(USAGE.to_owned()),
    }
}

/// Nothing but Rust.
pub fn nothing() -> Result<(), String> {
    Ok(())
}

/// Clippy, or its name.
pub fn clippy() -> Result<(), String> {
    if cargo::has("clippy") { Ok(()) } else { Err("clippy".to_owned()) }
}

/// Rustfmt, or its name.
pub fn rustfmt() -> Result<(), String> {
    if cargo::has("fmt") { Ok(()) } else { Err("rustfmt".to_owned()) }
}

/// The tools that make and mount a file system; installs them if that is possible.
///
/// # Errors
/// What is missing.
pub fn disk_tools() -> Result<(), String> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let tools: Vec<&str> = missing.iter().map(|(tool, _)| *tool).collect();
    let needs = format!("{} (packages: {})", tools.join(", "), packages.join(" "));
    if !is_root() {
        return Err(format!("{needs}, and root to install them"));
    }
    if find("apt-get").is_none() {
        return Err(format!("{needs}, and apt-get is not here to install them"));
    }
    eprintln!("installing {} with apt-get", packages.join(" "));
    let install = [&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat();
    // Stale lists are tried as they are; the install tells.
    let _ = apt_get(&["update"]);
    apt_get(&install).map_err(|why| format!("{needs}; {why}"))
}

fn missing() -> Vec<(&'static str, &'static str)> {
    TOOLS.into_iter().filter(|(tool, _)| find(tool).is_none()).collect()
}

fn apt_get(args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    // Its words are no result of ours, so they go to stderr.
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(stderr);
    let status = command.status().map_err(|e| format!("apt-get: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("apt-get {} failed", args.join(" "))) }
}

/// A program on the PATH, or where only root's PATH looks.
fn find(tool: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/sbin".into(), "/usr/sbin".into()]);
    folders.map(|folder| folder.join(tool)).find(|file| file.is_file())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of this process's own folder is its effective user.
    std::fs::metadata(Path::new("/proc/self")).is_ok_and(|own| own.uid() == 0)
}
