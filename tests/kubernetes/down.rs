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
/// Every kubelet of a machine listens here for plugins of devices; the last that started has it.
const DEVICE_SOCKET: &str = "/var/lib/kubelet/device-plugins/kubelet.sock";
/// Folders that kubelets and network plugins make outside of their own, the inner ones first.
const SHARED: [&str; 5] = [
    PLUGIN_CACHE,
    "/var/lib/cni",
    CONTAINER_LOGS,
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
];

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
    remove_shared();
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
    forget_addresses(instance)
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

/// What the network plugins remember of this cluster's pods: `NETWORK-POD-eth0`, and of the same
/// pods' loopback links, whose names do not say whose they are.
fn forget_addresses(instance: &Instance) -> Result<(), String> {
    let (cache, own) = (Path::new(PLUGIN_CACHE), node::network_name(instance));
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pod) = name.to_str().and_then(|name| pod_of(name, &own)) else { continue };
        let failed = |e: std::io::Error| format!("{}: {e}", entry.path().display());
        std::fs::remove_file(entry.path()).map_err(failed)?;
        // One that failed half-way has none.
        let _ = std::fs::remove_file(cache.join(format!("cni-loopback-{pod}-lo")));
    }
    Ok(())
}

/// The pod in the name of a file of the network plugins' cache, if it is of this network.
fn pod_of<'a>(file: &'a str, network: &str) -> Option<&'a str> {
    file.strip_prefix(network)?.strip_prefix('-')?.strip_suffix("-eth0")
}

/// What every cluster shares goes with the last: a socket on which nobody listens, and folders
/// with nothing in them.
fn remove_shared() {
    let refused = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionRefused;
    if std::os::unix::net::UnixStream::connect(DEVICE_SOCKET).is_err_and(|e| refused(&e)) {
        let _ = std::fs::remove_file(DEVICE_SOCKET); // Another `down` may have been first.
    }
    for folder in SHARED {
        let _ = std::fs::remove_dir(folder); // It stays if something is in it.
    }
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
    fn a_file_of_another_network_stays() {
        assert_eq!(pod_of("quorate-1-pods-abc-eth0", "quorate-1-pods"), Some("abc"));
        assert_eq!(pod_of("quorate-12-pods-abc-eth0", "quorate-1-pods"), None);
        assert_eq!(pod_of("cni-loopback-abc-lo", "quorate-1-pods"), None);
    }

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
