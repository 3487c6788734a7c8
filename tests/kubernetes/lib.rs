//! A real Kubernetes on one machine, without a container engine or an image registry: an API
//! server, its controllers and scheduler, and nodes that each have a containerd, a kubelet and a
//! kube-proxy of their own in a network namespace of their own.
//!
//! Invariants: everything that a cluster has on a machine has a name, an address or a folder that
//! comes from its [`Instance`](instance::Instance); all its processes are in its control group.
//! So `down` takes what is its own, and nothing else.

pub mod archive;
pub mod binaries;
pub mod certificates;
pub mod cgroup;
pub mod check;
pub mod control;
pub mod down;
pub mod host;
pub mod image;
pub mod instance;
pub mod lease;
pub mod network;
pub mod node;
pub mod process;
pub mod provision;
pub mod scenarios;
pub mod up;

/// Prints a line of a result. A closed pipe ends the report, not the work.
pub fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What this machine lacks is named behind this; the exit code is then 77.
pub const SKIPPED: &str = "skipped: needs ";
