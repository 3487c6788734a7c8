//! What the machine must have: root, a few programs of the system, and how to run one.

use crate::SKIPPED;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs of the system, each with the Debian package that has it.
const TOOLS: [(&str, &str); 8] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("umount", "mount"),
    ("busybox", "busybox-static"),
];
/// Where Debian puts the plugins that give a pod its network.
pub const PLUGINS: &str = "/usr/lib/cni";
const PLUGIN: (&str, &str) = ("/usr/lib/cni/ptp", "containernetworking-plugins");

/// A program on the PATH, or where only root's PATH looks.
#[must_use]
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/sbin", "/usr/sbin", "/usr/local/go/bin"].map(PathBuf::from);
    let folders = std::env::split_paths(&path).chain(more);
    folders.map(|folder| folder.join(tool)).find(|file| file.is_file())
}

/// Runs a program to its end, and gives what it printed.
///
/// # Errors
/// It cannot be started, or it failed: a sentence with its own words.
pub fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let file = find(program).ok_or_else(|| format!("{program} is not on this machine"))?;
    feed(Command::new(file), arguments, "")
}

/// Runs a command with these further arguments to its end, lets it read `input`, and gives what it
/// printed.
///
/// # Errors
/// It cannot be started, or it failed: a sentence with its own words.
pub fn feed(mut command: Command, arguments: &[&str], input: &str) -> Result<String, String> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    let program = program.to_string_lossy().into_owned();
    let failed = |e: std::io::Error| format!("{program}: {e}");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {words}", arguments.join(" ")))
}

/// A path as an argument.
///
/// # Errors
/// It is not UTF-8.
pub fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

/// Writes a file, unless this is what it holds: some components end when theirs is written anew.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, content: &str) -> Result<(), String> {
    if std::fs::read(path).is_ok_and(|has| has == content.as_bytes()) {
        return Ok(());
    }
    std::fs::write(path, content).map_err(|e| format!("{}: {e}", path.display()))
}

/// Says that an ordinary user cannot start a Kubernetes.
///
/// # Errors
/// The sentence.
pub fn need_root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(format!("{SKIPPED}root, for namespaces, control groups and mounts of its own"))
}

/// Makes sure that every program of the system is there; installs what is missing with apt-get.
///
/// # Errors
/// What is missing, and cannot be installed.
pub fn need_tools() -> Result<(), String> {
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let needs = format!("{SKIPPED}the Debian packages {}", packages.join(" "));
    if find("apt-get").is_none() {
        return Err(format!("{needs}; there is no apt-get to install them"));
    }
    eprintln!("installing {} with apt-get", packages.join(" "));
    // Stale lists are tried as they are; the install tells.
    let _ = apt_get(&["update"]);
    let install = [&["install", "-y", "--no-install-recommends"], packages.as_slice()].concat();
    apt_get(&install).map_err(|why| format!("{needs}; {why}"))
}

fn missing() -> Vec<&'static str> {
    let absent = TOOLS.into_iter().filter(|(tool, _)| find(tool).is_none());
    let mut packages: Vec<&str> = absent.map(|(_, package)| package).collect();
    packages.extend((!Path::new(PLUGIN.0).exists()).then_some(PLUGIN.1));
    packages.dedup();
    packages
}

fn apt_get(arguments: &[&str]) -> Result<(), String> {
    use std::os::fd::AsFd as _;
    let mut command = Command::new("apt-get");
    // Its words are no result of ours, so they go to stderr.
    let stderr = std::io::stderr().as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(stderr);
    let status = command.status().map_err(|e| format!("apt-get: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("apt-get {} failed", arguments.join(" "))) }
}
