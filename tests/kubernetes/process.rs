//! The long-lived processes of a cluster: each has a log and a file with its number and the time
//! of its start.
//!
//! Invariant: a number alone is never trusted. It may have passed to another process; that one
//! started at another time.

use crate::cgroup::Cgroups;
use crate::host;
use crate::instance::Instance;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The group of the cluster's own processes, below the cluster's; with version 2 of control
/// groups, a group that has others below it may hold no process.
pub const SYSTEM: &str = "system";

fn file(instance: &Instance, name: &str) -> PathBuf {
    instance.dir.join("pid").join(name)
}

/// The log of a component.
#[must_use]
pub fn log(instance: &Instance, name: &str) -> PathBuf {
    instance.dir.join("log").join(format!("{name}.log"))
}

/// All components that were started.
///
/// # Errors
/// The folder cannot be read.
pub fn names(instance: &Instance) -> Result<Vec<String>, String> {
    let dir = instance.dir.join("pid");
    let entries = std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let name = |entry: std::fs::DirEntry| entry.file_name().into_string().ok();
    let mut names: Vec<String> = entries.flatten().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// The process of a component; `None` if it does not run.
#[must_use]
pub fn running(instance: &Instance, name: &str) -> Option<i32> {
    let text = std::fs::read_to_string(file(instance, name)).ok()?;
    let (pid, begun) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (start_time(pid)? == begun).then_some(pid)
}

/// Sends a signal to a component, if it runs; false if not.
///
/// # Errors
/// It cannot be sent.
pub fn signal(instance: &Instance, name: &str, signal: Signal) -> Result<bool, String> {
    let Some(pid) = running(instance, name).and_then(Pid::from_raw) else { return Ok(false) };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(false) };
    // Only now it cannot become another's.
    if running(instance, name).is_none() {
        return Ok(false);
    }
    pidfd_send_signal(&handle, signal).map_err(|e| format!("{name}: {e}"))?;
    Ok(true)
}

/// When a process was started: CLOCK_BOOTTIME in ns, to the hundredth of a second.
pub fn begun_ns(pid: i32) -> Option<u64> {
    let ticks: u64 = start_time(pid)?.parse().ok()?;
    Some(ticks * 10_000_000)
}

/// When it started, in ticks since the boot; `None` if it is gone, or waits to be buried.
fn start_time(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; what follows may not.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let begun = fields.get(19)?;
    (fields.first() != Some(&"Z")).then(|| (*begun).to_owned())
}

/// Starts a component in a network namespace, unless it runs.
///
/// # Errors
/// It cannot be started.
pub fn start(
    instance: &Instance,
    name: &str,
    namespace: &str,
    command: &[String],
) -> Result<(), String> {
    if running(instance, name).is_some() {
        return Ok(());
    }
    let failed = |e: std::io::Error| format!("{name}: {e}");
    let log = log(instance, name);
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).map_err(failed)?;
    let door = Cgroups::of_machine()?.door(&format!("{}/{SYSTEM}", instance.group()));
    // The shell puts itself into the group before it becomes the component: nothing that this
    // starts is ever outside. `ip netns exec` would hide the control groups: it mounts a new /sys.
    let enter = "echo $$ > \"$0\" && exec \"$@\"";
    let mut start = Command::new("sh");
    start.args(["-c", enter, host::text(&door)?, "setsid", "nsenter"]);
    start.arg(format!("--net=/run/netns/{namespace}")).args(command);
    start.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log);
    start.env("PATH", path()).current_dir("/");
    let child = start.spawn().map_err(failed)?;
    let pid = i32::try_from(child.id()).map_err(|e| e.to_string())?;
    let begun = start_time(pid).ok_or_else(|| format!("{name} ended at once; see its log"))?;
    std::fs::write(file(instance, name), format!("{pid} {begun}\n")).map_err(failed)
}

/// What runs pods looks for `runc`, `mount` and `nft` on its PATH.
fn path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

/// The last lines of a component's log, for who has to find out why it does not run.
#[must_use]
pub fn last_words(instance: &Instance, name: &str) -> String {
    let text = std::fs::read(log(instance, name)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_time_is_this_process_s_own() {
        let own = i32::try_from(std::process::id()).expect("a pid is positive");
        let begun = start_time(own).expect("this runs");
        assert!(begun.parse::<u64>().is_ok_and(|ticks| ticks > 0), "{begun}");
        assert_eq!(start_time(i32::MAX), None);
    }
}
