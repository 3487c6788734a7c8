//! The control groups of a cluster: one for its own processes, and one a node for its pods.
//!
//! On a machine with version 1 a group is a folder in each hierarchy; with version 2 it is one
//! folder. All processes of a cluster are below its group, containers and their shims included,
//! so that its end needs no list of them.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A killed process is gone within this, or it waits for a disk.
const GONE_MAX: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// The hierarchies of this machine.
#[derive(Debug)]
pub struct Cgroups {
    hierarchies: Vec<PathBuf>,
    /// On a machine with both versions, that of version 2: some make groups there, too.
    beside: Vec<PathBuf>,
    unified: bool,
}

impl Cgroups {
    /// Those that are mounted.
    ///
    /// # Errors
    /// There are none.
    pub fn of_machine() -> Result<Cgroups, String> {
        let file = "/proc/self/mountinfo";
        let mounts = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
        let groups = Cgroups::of(&mounts);
        if groups.hierarchies.is_empty() {
            return Err(format!("{}control groups, mounted", crate::SKIPPED));
        }
        Ok(groups)
    }

    /// A machine with both versions has its controllers in version 1.
    fn of(mounts: &str) -> Cgroups {
        let of_type = |wanted: &str| -> Vec<PathBuf> {
            let mounted = |line: &str| {
                let (place, kind) = line.split_once(" - ")?;
                let at = place.split(' ').nth(4)?;
                (kind.split(' ').next() == Some(wanted)).then(|| PathBuf::from(at))
            };
            mounts.lines().filter_map(mounted).collect()
        };
        let hierarchies = of_type("cgroup");
        if hierarchies.is_empty() {
            let hierarchies = of_type("cgroup2");
            return Cgroups { hierarchies, beside: Vec::new(), unified: true };
        }
        Cgroups { hierarchies, beside: of_type("cgroup2"), unified: false }
    }

    /// Where each hierarchy begins.
    pub fn tops(&self) -> impl Iterator<Item = &PathBuf> {
        self.hierarchies.iter().chain(&self.beside)
    }

    /// The hierarchy that the processes of a cluster are found in.
    fn main(&self) -> &Path {
        let pids = |path: &&PathBuf| path.ends_with("pids");
        let any = || self.hierarchies.first().map_or(Path::new("/"), PathBuf::as_path);
        self.hierarchies.iter().find(pids).map_or_else(any, PathBuf::as_path)
    }

    /// Makes `group` where nobody has it yet; false if somebody has.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn claim(&self, group: &str) -> Result<bool, String> {
        let dir = self.main().join(group);
        match std::fs::create_dir(&dir) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(format!("{}: {e}", dir.display())),
        }
    }

    /// Makes `group` in every hierarchy, with all that it needs to hold processes.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self, group: &str) -> Result<(), String> {
        for hierarchy in &self.hierarchies {
            let mut dir = hierarchy.clone();
            for part in group.split('/') {
                let above = dir.clone();
                dir.push(part);
                if self.unified {
                    delegate(&above);
                }
                let made = std::fs::create_dir_all(&dir);
                made.map_err(|e| format!("{}: {e}", dir.display()))?;
                fill_cpuset(&above, &dir)?;
            }
        }
        Ok(())
    }

    /// The file that moves a process into `group`.
    #[must_use]
    pub fn door(&self, group: &str) -> PathBuf {
        self.main().join(group).join("cgroup.procs")
    }

    /// Kills all that is in `group` or below it, and waits for its end.
    ///
    /// # Errors
    /// Something did not end.
    pub fn kill(&self, group: &str) -> Result<(), String> {
        let (dir, end) = (self.main().join(group), Instant::now() + GONE_MAX);
        loop {
            let pids = processes(&dir);
            if pids.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(format!("these processes of {group} do not end: {pids:?}"));
            }
            pids.into_iter().for_each(|pid| kill_in(pid, group));
            std::thread::sleep(LOOK);
        }
    }

    /// Removes `group` and all below it; nothing may be in it.
    ///
    /// # Errors
    /// Something is.
    pub fn remove(&self, group: &str) -> Result<(), String> {
        self.tops().try_for_each(|hierarchy| remove_below(&hierarchy.join(group)))
    }
}

/// Version 2: what is below `dir` may use every controller that `dir` has.
fn delegate(dir: &Path) {
    let controllers = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        // One that cannot be handed down is not needed by a kubelet, or it says so itself.
        let _ = std::fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Version 1: a new group may use no processor until it is told which.
fn fill_cpuset(above: &Path, dir: &Path) -> Result<(), String> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (above.join(file), dir.join(file));
        let empty = std::fs::read_to_string(&to).is_ok_and(|set| set.trim().is_empty());
        // Version 2 takes what is empty from above.
        if !empty || dir.join("cgroup.controllers").exists() {
            continue;
        }
        let set = std::fs::read_to_string(&from).map_err(|e| format!("{}: {e}", from.display()))?;
        std::fs::write(&to, set.trim()).map_err(|e| format!("{}: {e}", to.display()))?;
    }
    Ok(())
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// The processes in `dir` and below it.
fn processes(dir: &Path) -> Vec<i32> {
    let own = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    folders(dir).iter().for_each(|below| pids.extend(processes(below)));
    pids
}

/// Kills a process if it still is in `group`: its number may have passed to another.
fn kill_in(pid: i32, group: &str) {
    let Some(handle) = Pid::from_raw(pid) else { return };
    let Ok(handle) = pidfd_open(handle, PidfdFlags::empty()) else { return };
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    if groups.lines().any(|line| is_in(line, group)) {
        // It may have ended by itself.
        let _ = pidfd_send_signal(&handle, Signal::KILL);
    }
}

/// Whether a line of a process's groups, `ID:CONTROLLERS:/PATH`, names `group` or one below it.
fn is_in(line: &str, group: &str) -> bool {
    let path = line.splitn(3, ':').nth(2).unwrap_or_default();
    Path::new(path).starts_with(Path::new("/").join(group))
}

fn remove_below(dir: &Path) -> Result<(), String> {
    for below in folders(dir) {
        remove_below(&below)?;
    }
    let end = Instant::now() + GONE_MAX;
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // The kernel lets go of a process some time after its end.
            Err(_) if Instant::now() < end => std::thread::sleep(LOOK),
            Err(e) => return Err(format!("{}: {e}", dir.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
32 30 0:28 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
33 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn both_versions_are_told_apart() {
        let old = Cgroups::of(V1);
        assert!(!old.unified);
        assert_eq!((old.hierarchies.len(), old.tops().count()), (2, 3));
        assert_eq!(old.main(), Path::new("/sys/fs/cgroup/pids"));
        let new = Cgroups::of("29 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate");
        assert!(new.unified);
        assert_eq!(new.door("a"), Path::new("/sys/fs/cgroup/a/cgroup.procs"));
    }

    #[test]
    fn a_group_is_not_another_that_begins_alike() {
        assert!(is_in("4:pids:/quorate-1/node1/kubepods", "quorate-1"));
        assert!(is_in("0::/quorate-1", "quorate-1"));
        assert!(!is_in("4:pids:/quorate-12/node1", "quorate-1"));
        assert!(!is_in("4:pids:/", "quorate-1"));
    }
}
