//! `down`: ends all that a cluster has on this machine, and leaves nothing.
//!
//! Invariants: only a folder that [`Instance::open`] takes for a cluster's is touched. Processes
//! are those of its control group; mounts and files are those below its folder, compared part by
//! part; files elsewhere are those that carry its name. A folder below which something is still
//! mounted is not removed.

use crate::cgroup::Cgroups;
use crate::instance::Instance;
use crate::{host, network, node, up};
use std::path::{Path, PathBuf};

/// Where the network plugins remember what they gave to whom.
const PLUGIN_CACHE: &str = "/var/lib/cni/results";
/// Where a kubelet puts a link to each container's log.
const CONTAINER_LOGS: &str = "/var/log/containers";

/// Ends the cluster of this name below `base`; false if there is none.
///
/// # Errors
/// The folder is not a cluster's, or something does not end.
pub fn down(base: &Path, name: &str) -> Result<bool, String> {
    host::need_root()?;
    if !base.is_dir() {
        return Ok(false);
    }
    let _alone = up::alone(base)?;
    let Some(instance) = Instance::open(base, name)? else { return Ok(false) };
    if instance.is_of_this_boot()? {
        stop(&instance)?;
    }
    remove_links(&instance)?;
    let left = mounts_below(&instance.dir)?;
    if !left.is_empty() {
        return Err(format!("still mounted: {left:?}; {} stays", instance.dir.display()));
    }
    let removed = std::fs::remove_dir_all(&instance.dir);
    removed.map_err(|e| format!("{}: {e}", instance.dir.display()))?;
    Ok(true)
}

fn stop(instance: &Instance) -> Result<(), String> {
    let groups = Cgroups::of_machine()?;
    groups.kill(&instance.group())?;
    remove_shim_sockets(instance);
    // The upper ones first: what is mounted below another cannot be reached once that is gone.
    for mount in mounts_below(&instance.dir)?.iter().rev() {
        host::run("umount", &["--lazy", host::text(mount)?])?;
    }
    network::remove(instance)?;
    groups.remove(&instance.group())?;
    remove_named(PLUGIN_CACHE, &node::network_name(instance))
}

/// A killed shim leaves its socket in a place that all containerds of a machine share; its own
/// folder has the address.
fn remove_shim_sockets(instance: &Instance) {
    let tasks = |node| instance.node_dir(node).join("state/io.containerd.runtime.v2.task/k8s.io");
    for node in instance.node_numbers() {
        for task in std::fs::read_dir(tasks(node)).into_iter().flatten().flatten() {
            let address = std::fs::read_to_string(task.path().join("address"));
            if let Some(socket) = address.unwrap_or_default().strip_prefix("unix://") {
                // A pod's containers share one.
                let _ = std::fs::remove_file(socket);
            }
        }
    }
}

/// Files whose names begin with `name` and a minus sign.
fn remove_named(dir: &str, name: &str) -> Result<(), String> {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let own = entry
            .file_name()
            .to_str()
            .is_some_and(|file| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')));
        if own {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

/// Links that lead below the cluster's folder.
fn remove_links(instance: &Instance) -> Result<(), String> {
    for entry in std::fs::read_dir(CONTAINER_LOGS).into_iter().flatten().flatten() {
        let path = entry.path();
        if std::fs::read_link(&path).is_ok_and(|to| to.starts_with(&instance.dir)) {
            std::fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

/// What is mounted below `dir`, in the order in which it was mounted.
///
/// # Errors
/// The kernel does not say.
pub fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let file = "/proc/self/mountinfo";
    let mounts = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    Ok(below(&mounts, dir))
}

fn below(mounts: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let points = points.map(|point| PathBuf::from(unescape(point)));
    points.filter(|point| point.starts_with(dir) && point != dir).collect()
}

/// The kernel writes a space as `\040`.
fn unescape(point: &str) -> String {
    point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_begins_alike_is_another() {
        let mounts = "\
1 0 0:1 / / rw - ext4 a rw
2 1 0:2 / /t/dev/node1/a rw - tmpfs tmpfs rw
3 1 0:2 / /t/dev2/node1 rw - tmpfs tmpfs rw
4 2 0:2 / /t/dev/node1/a/b\\040c rw - tmpfs tmpfs rw
5 1 0:2 / /t/dev rw - tmpfs tmpfs rw
";
        let own = ["/t/dev/node1/a", "/t/dev/node1/a/b c"].map(PathBuf::from);
        assert_eq!(below(mounts, Path::new("/t/dev")), own);
    }
}
