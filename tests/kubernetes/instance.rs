//! One cluster: its name, and everything that comes from it.
//!
//! Invariant: a folder is ours only if its `cluster.json` says so, and says that it lies just
//! there. Nothing is stopped, unmounted or removed for any other folder.

use crate::cgroup::Cgroups;
use crate::host;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Clusters that one machine can have at a time: as many subnets there are.
const NUMBERS: u8 = 32;
/// A node's address ends in 10 + its number.
pub const NODES_MAX: u8 = 20;
/// A Unix socket's path has at most 107 bytes; the longest below a cluster's folder takes 43.
const DIR_MAX: usize = 64;
const FILE: &str = "cluster.json";
const KIND: &str = "quorate-cluster";

/// One cluster on this machine.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What people call it.
    pub name: String,
    /// What its addresses and names on this machine come from, below 32.
    pub number: u8,
    /// How many nodes it has.
    pub nodes: u8,
    /// Everything that it keeps.
    pub dir: PathBuf,
    /// The boot of the machine that it was started in.
    boot: String,
}

impl Instance {
    /// The cluster of this name below `base`; `None` if there is none.
    ///
    /// # Errors
    /// There is a folder of this name, and it is not a cluster's.
    pub fn open(base: &Path, name: &str) -> Result<Option<Instance>, String> {
        check_name(name)?;
        let Ok(dir) = base.join(name).canonicalize() else { return Ok(None) };
        let file = dir.join(FILE);
        let stranger =
            || format!("{} is not a cluster's folder; nothing is touched", dir.display());
        let bytes = std::fs::read(&file).map_err(|e| format!("{}: {e}", stranger()))?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| stranger())?;
        let text = |field: &str| value[field].as_str().unwrap_or_default();
        let number = |field: &str| value[field].as_u64().and_then(|n| u8::try_from(n).ok());
        if text("kind") != KIND || text("name") != name || Path::new(text("dir")) != dir {
            return Err(stranger());
        }
        let (number, nodes) = number("number").zip(number("nodes")).ok_or_else(stranger)?;
        let (name, boot) = (name.to_owned(), text("boot").to_owned());
        Ok(Some(Instance { name, number, nodes, dir, boot }))
    }

    /// A new cluster of this name below `base`, with a number that nobody on this machine has.
    ///
    /// # Errors
    /// The name, the folder or the machine does not allow it: a sentence.
    pub fn create(base: &Path, name: &str, nodes: u8) -> Result<Instance, String> {
        check_name(name)?;
        if !(1..=NODES_MAX).contains(&nodes) {
            return Err(format!("--nodes is {nodes}; write 1 to {NODES_MAX}"));
        }
        let failed = |e: std::io::Error| format!("{}: {e}", base.display());
        std::fs::create_dir_all(base).map_err(failed)?;
        let dir = base.canonicalize().map_err(failed)?.join(name);
        if dir.as_os_str().len() > DIR_MAX {
            let (dir, most) = (dir.display(), DIR_MAX);
            return Err(format!("{dir} is too long for sockets below it: at most {most} bytes"));
        }
        let number = free_number(name)?;
        let boot = boot()?;
        let instance = Instance { name: name.to_owned(), number, nodes, dir, boot };
        instance.write().inspect_err(|_| {
            // Nothing is in the group yet, and nothing else would ever remove it.
            let _ = Cgroups::of_machine().and_then(|groups| groups.remove(&instance.group()));
        })?;
        Ok(instance)
    }

    fn write(&self) -> Result<(), String> {
        let value = json!({
            "kind": KIND, "name": self.name, "number": self.number, "nodes": self.nodes,
            "dir": self.dir, "boot": self.boot,
        });
        let failed = |e: std::io::Error| format!("{}: {e}", self.dir.display());
        std::fs::create_dir(&self.dir).map_err(failed)?;
        for folder in ["pid", "log", "pki", "etcd"] {
            std::fs::create_dir(self.dir.join(folder)).map_err(failed)?;
        }
        std::fs::write(self.dir.join(FILE), value.to_string()).map_err(failed)
    }

    /// Whether the machine started anew since: then nothing of the cluster runs.
    ///
    /// # Errors
    /// The machine does not say.
    pub fn is_of_this_boot(&self) -> Result<bool, String> {
        Ok(boot()? == self.boot)
    }

    /// Its network namespace with the control plane, its control group, and its link.
    #[must_use]
    pub fn group(&self) -> String {
        format!("quorate-{}", self.number)
    }

    /// A node's network namespace.
    #[must_use]
    pub fn node_namespace(&self, node: u8) -> String {
        format!("{}-node{node}", self.group())
    }

    /// The control plane's address, which is also the cluster's name server.
    #[must_use]
    pub fn control_address(&self) -> String {
        format!("10.89.{}.1", self.number)
    }

    /// This machine's own address in the nodes' network.
    #[must_use]
    pub fn host_address(&self) -> String {
        format!("10.89.{}.254", self.number)
    }

    /// A node's address.
    #[must_use]
    pub fn node_address(&self, node: u8) -> String {
        format!("10.89.{}.{}", self.number, 10 + node)
    }

    /// The network of a node's pods.
    #[must_use]
    pub fn pods_of(&self, node: u8) -> String {
        format!("10.{}.{node}.0/24", 200 + self.number)
    }

    /// The network of all pods.
    #[must_use]
    pub fn pods(&self) -> String {
        format!("10.{}.0.0/16", 200 + self.number)
    }

    /// The API server.
    #[must_use]
    pub fn server(&self) -> String {
        format!("https://{}:6443", self.control_address())
    }

    /// The folder of a node.
    #[must_use]
    pub fn node_dir(&self, node: u8) -> PathBuf {
        self.dir.join(format!("node{node}"))
    }

    /// How `user` reaches the API server; `admin` may do everything.
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.join(format!("{user}.kubeconfig"))
    }

    /// A containerd's socket.
    #[must_use]
    pub fn containerd(&self, node: u8) -> PathBuf {
        self.node_dir(node).join("containerd.sock")
    }

    /// The numbers of its nodes.
    pub fn node_numbers(&self) -> std::ops::RangeInclusive<u8> {
        1..=self.nodes
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=20).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-') {
        return Ok(());
    }
    Err(format!("--instance is {name:?}; write 1 to 20 of a-z, 0-9 and - (not first)"))
}

/// Takes the first free number, beginning with one that comes from the name. Making the control
/// group is what takes it: of two that try at once, one does.
fn free_number(name: &str) -> Result<u8, String> {
    let groups = Cgroups::of_machine()?;
    let first = name.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    for step in 0..NUMBERS {
        let number = first.wrapping_add(step) % NUMBERS;
        let group = format!("quorate-{number}");
        if is_free(number, &group)? && groups.claim(&group)? {
            return Ok(number);
        }
    }
    Err(format!("all {NUMBERS} numbers for clusters are taken on this machine"))
}

fn is_free(number: u8, group: &str) -> Result<bool, String> {
    if Path::new("/run/netns").join(group).exists() {
        return Ok(false);
    }
    for address in [format!("10.89.{number}.1"), format!("10.{}.1.1", 200 + number)] {
        let routes = host::run("ip", &["-4", "route", "show", "match", &address])?;
        if routes.lines().any(|route| !route.starts_with("default")) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn boot() -> Result<String, String> {
    let file = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(file).map(|id| id.trim().to_owned()).map_err(|e| format!("{file}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for wrong in ["", "/", "..", "a/b", "-a", "A", "a_b", "abcdefghijklmnopqrstu"] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
        assert_eq!(check_name("dev-2"), Ok(()));
    }

    #[test]
    fn a_folder_that_is_not_a_clusters_is_refused() {
        let base = std::env::temp_dir().join(format!("quorate-instance-{}", std::process::id()));
        std::fs::create_dir_all(base.join("dev")).expect("a folder can be made");
        let open = || Instance::open(&base, "dev");
        assert!(open().is_err_and(|why| why.contains("nothing is touched")));
        let elsewhere = json!({"kind": KIND, "name": "dev", "number": 1, "nodes": 1, "dir": "/"});
        std::fs::write(base.join("dev").join(FILE), elsewhere.to_string()).expect("it is ours");
        assert!(open().is_err_and(|why| why.contains("nothing is touched")));
        assert!(Instance::open(&base, "none").is_ok_and(|found| found.is_none()));
        std::fs::remove_dir_all(&base).expect("it is ours");
    }
}
