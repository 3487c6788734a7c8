//! A node: containerd, kubelet and kube-proxy in a network namespace of their own.

use crate::binaries::Binaries;
use crate::certificates::file;
use crate::cgroup::Cgroups;
use crate::host::{self, text};
use crate::instance::Instance;
use crate::process;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// The image of the process that holds a pod's namespaces.
pub const PAUSE: &str = "quorate.test/pause:1";
/// A containerd answers within this, or something is wrong.
const READY_MAX: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// Starts a node's containerd, unless it runs, and waits until it answers.
///
/// # Errors
/// It does not start.
pub fn start_containerd(instance: &Instance, node: u8) -> Result<(), String> {
    let dir = instance.node_dir(node);
    for folder in ["", "cni", "containerd", "state", "kubelet", "logs", "volumes"] {
        let folder = dir.join(folder);
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    write_json(&dir.join("cni").join("10-pods.conflist"), &plugins(instance, node))?;
    let config = dir.join("containerd.toml");
    host::write(&config, &containerd(&dir))?;
    let name = format!("containerd-node{node}");
    let command = ["containerd", "-c", text(&config)?].map(str::to_owned);
    process::start(instance, &name, &instance.node_namespace(node), &command)?;
    let end = Instant::now() + READY_MAX;
    while let Err(why) = ctr(instance, node, &["version"]) {
        if Instant::now() > end {
            let words = process::last_words(instance, &name);
            return Err(format!("{name} does not answer: {why}\n{words}"));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Starts a node's kubelet and kube-proxy, unless they run.
///
/// # Errors
/// One does not start.
pub fn start_kubelet(instance: &Instance, binaries: &Binaries, node: u8) -> Result<(), String> {
    let (dir, own) = (instance.node_dir(node), format!("node{node}"));
    let group = format!("{}/{own}", instance.group());
    Cgroups::of_machine()?.make(&group)?;
    let config = dir.join("kubelet.json");
    write_json(&config, &kubelet(instance, node, &group))?;
    let kubelet = [
        text(&binaries.path("kubelet")?)?.to_owned(),
        format!("--config={}", text(&config)?),
        format!("--kubeconfig={}", text(&instance.kubeconfig(&own))?),
        format!("--root-dir={}", text(&dir.join("kubelet"))?),
        format!("--cert-dir={}", text(&dir.join("pki"))?),
        format!("--hostname-override={own}"),
        format!("--node-ip={}", instance.node_address(node)),
    ];
    let namespace = instance.node_namespace(node);
    process::start(instance, &format!("kubelet-{own}"), &namespace, &kubelet)?;
    let config = dir.join("proxy.json");
    write_json(&config, &proxy(instance, node))?;
    let proxy =
        [text(&binaries.path("kube-proxy")?)?.to_owned(), format!("--config={}", text(&config)?)];
    process::start(instance, &format!("proxy-{own}"), &namespace, &proxy)
}

/// Imports an image archive into a node.
///
/// # Errors
/// containerd refuses it.
pub fn import(instance: &Instance, node: u8, archive: &Path) -> Result<(), String> {
    ctr(instance, node, &["-n", "k8s.io", "images", "import", text(archive)?]).map(drop)
}

fn ctr(instance: &Instance, node: u8, words: &[&str]) -> Result<String, String> {
    let socket = instance.containerd(node);
    host::run("ctr", &[&["-a", text(&socket)?], words].concat())
}

fn write_json(path: &Path, value: &Value) -> Result<(), String> {
    host::write(path, &format!("{value:#}\n"))
}

/// Every pod has a link of its own to its node, so that all that leaves it is routed: a Service's
/// answer then comes back the way that it went, without help of a bridge.
fn plugins(instance: &Instance, node: u8) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": network_name(instance),
        "plugins": [{
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "dataDir": instance.node_dir(node).join("addresses"),
                "ranges": [[{"subnet": instance.pods_of(node)}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    })
}

/// Files of the network plugins' cache begin with it.
#[must_use]
pub fn network_name(instance: &Instance) -> String {
    format!("{}-pods", instance.group())
}

/// A machine may not let containerd lower the score by which the kernel kills; the namespaces of
/// pods lie below the cluster's folder, so that they end with it.
fn containerd(dir: &Path) -> String {
    let (dir, plugins) = (dir.display(), host::PLUGINS);
    format!(
        r#"version = 2
root = "{dir}/containerd"
state = "{dir}/state"
[grpc]
  address = "{dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{dir}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    Root = "{dir}/runc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
"#
    )
}

fn kubelet(instance: &Instance, node: u8, group: &str) -> Value {
    let dir = instance.node_dir(node);
    let pki = |name: String| file(instance, &name);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", instance.containerd(node).display()),
        "cgroupDriver": "cgroupfs",
        // A kubelet removes the groups of pods that it does not know.
        "cgroupRoot": format!("/{group}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        "makeIPTablesUtilChains": false,
        "podLogsDir": dir.join("logs"),
        "volumePluginDir": dir.join("plugins"),
        "clusterDNS": [instance.control_address()],
        "clusterDomain": "cluster.local",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": pki("ca.crt".to_owned())},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": pki(format!("node{node}.crt")),
        "tlsPrivateKeyFile": pki(format!("node{node}.key")),
        // Nothing can be pulled again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "50Mi",
        },
        "nodeStatusUpdateFrequency": "5s",
        "featureGates": {"KubeletCrashLoopBackOffMax": true},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
    })
}

fn proxy(instance: &Instance, node: u8) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": instance.kubeconfig("proxy")},
        "mode": "nftables",
        "clusterCIDR": instance.pods(),
        "hostnameOverride": format!("node{node}"),
        "conntrack": {"maxPerCore": 0, "min": 0},
    })
}
