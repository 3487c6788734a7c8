//! What the API server's rules cannot say about a template: names, places and ports that are the
//! sidecar's. Each fault is one sentence that says what to write instead.
//!
//! Invariants: pure; a template without a fault is one that the sidecar fits into.

use crate::crd::RaftClusterSpec;
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// Names of volumes and containers that begin with this are the sidecar's.
const NAMES: &str = "quorate";
/// Where the sidecar's socket is, in every container.
const SOCKET_DIR: &str = "/run/quorate";
/// Where the sidecar's log is.
const DATA_DIR: &str = "/var/lib/quorate";
/// Ports of the sidecar.
const PORTS: std::ops::RangeInclusive<i32> = 7400..=7404;
/// Seconds that the sidecar needs to hand over and end.
const GRACE_MIN_S: i64 = 10;

/// The first thing that is wrong with a spec, and what to write instead.
#[must_use]
pub fn fault(spec: &RaftClusterSpec) -> Option<String> {
    let claims = spec.volume_claim_templates.iter();
    let names = claims.filter_map(|claim| claim.metadata.name.as_deref());
    let claim = { names }.find(|name| name.starts_with(NAMES)).map(|name| {
        format!("spec.volumeClaimTemplates: the name {name} is the sidecar's: {ANOTHER_NAME}")
    });
    let pod = spec.template.as_ref().and_then(|template| template.spec.as_ref());
    claim.or_else(|| pod.and_then(pod_fault))
}

const ANOTHER_NAME: &str = "names that begin with quorate are taken, write another";

/// The first thing in a pod's spec, which stands at `at`, that keeps an attached sidecar out.
#[must_use]
pub fn attached_fault(at: &str, pod: &PodSpec) -> Option<String> {
    volume_fault(at, pod).or_else(|| containers_fault(at, pod))
}

fn volume_fault(at: &str, pod: &PodSpec) -> Option<String> {
    let volumes = pod.volumes.iter().flatten();
    { volumes }.find(|volume| volume.name.starts_with(NAMES)).map(|volume| {
        let name = &volume.name;
        format!("{at}.volumes: the name {name} is the sidecar's: {ANOTHER_NAME}")
    })
}

fn containers_fault(at: &str, pod: &PodSpec) -> Option<String> {
    let starts = pod.init_containers.iter().flatten().map(|one| ("initContainers", one));
    let runs = pod.containers.iter().map(|one| ("containers", one));
    starts.chain(runs).find_map(|(list, one)| container_fault(&format!("{at}.{list}"), one))
}

fn pod_fault(pod: &PodSpec) -> Option<String> {
    let volume = volume_fault("template.spec", pod);
    let grace = pod.termination_grace_period_seconds.filter(|seconds| *seconds < GRACE_MIN_S);
    let grace = grace.map(|seconds| {
        format!(
            "template.spec.terminationGracePeriodSeconds is {seconds}, and the sidecar needs \
             {GRACE_MIN_S} to hand over: write 30, or leave it out"
        )
    });
    let policy = pod.restart_policy.as_deref().filter(|policy| *policy != "Always");
    let policy = policy.map(|policy| {
        format!("template.spec.restartPolicy is {policy}: write Always, or leave it out")
    });
    let network = (pod.host_network == Some(true)).then(|| {
        "template.spec.hostNetwork is set, and two members on one node would share their ports: \
         remove it"
            .to_owned()
    });
    let containers = || containers_fault("template.spec", pod);
    volume.or(grace).or(policy).or(network).or_else(containers)
}

fn container_fault(at: &str, container: &Container) -> Option<String> {
    let Container { name, .. } = container;
    if name.starts_with(NAMES) {
        return Some(format!("{at}: the name {name} is the sidecar's: {ANOTHER_NAME}"));
    }
    mount_fault(at, container).or_else(|| port_fault(at, container))
}

fn mount_fault(at: &str, container: &Container) -> Option<String> {
    let Container { name, .. } = container;
    let mounts = container.volume_mounts.iter().flatten();
    mounts.into_iter().find_map(|mount| {
        let path = mount.mount_path.trim_end_matches('/');
        let below = |dir: &str| path == dir || path.starts_with(&format!("{dir}/"));
        if let Some(dir) = [SOCKET_DIR, DATA_DIR].into_iter().find(|dir| below(dir)) {
            return Some(format!(
                "{at}: {name} mounts a volume at {path}, and {dir} is the sidecar's: write \
                 another mountPath"
            ));
        }
        mount.name.starts_with(NAMES).then(|| {
            let volume = &mount.name;
            format!(
                "{at}: {name} mounts {volume}, which is the sidecar's: remove it, the socket at \
                 {SOCKET_DIR} is there without it"
            )
        })
    })
}

fn port_fault(at: &str, container: &Container) -> Option<String> {
    let Container { name, .. } = container;
    container.ports.iter().flatten().find_map(|port| {
        let number = port.container_port;
        if PORTS.contains(&number) {
            return Some(format!(
                "{at}: {name} listens on port {number}, and 7400 to 7404 are the sidecar's: \
                 write another containerPort"
            ));
        }
        let number = port.host_port.filter(|number| PORTS.contains(number))?;
        Some(format!(
            "{at}: {name} takes port {number} of the node, and 7400 to 7404 are the sidecar's: \
             write another hostPort, or none"
        ))
    })
}
