//! `check`: a cluster does what the tests need of it, and leaves nothing behind.
//!
//! Three pods without root get a volume each, write to it, and are found by name; a claim grows;
//! a component that was killed comes back; after `down` the machine has what it had before.

use crate::instance::Instance;
use crate::up::{Wanted, client, up};
use crate::{cgroup, down, process, say};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const READY_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
/// Serves, asks for a Service by its name and, unless it is the first, for the first pod by its
/// own, and is ready then. A name that is asked for too early is unknown for half a minute.
const SCRIPT: &str = "\
echo $(hostname) > /data/name && cd /data && httpd -p 8080 && \
until wget -qO /data/service http://web-all/name; do sleep 0.1; done; \
until [ $(hostname) = web-0 ] || wget -qO /data/first http://web-0.web:8080/name; do \
sleep 0.1; done; echo yes > /data/ready; exec sleep 100000";

/// Runs the check on a cluster of its own below `base`.
///
/// # Errors
/// What did not hold. The cluster is ended in any case.
pub async fn check(base: &Path) -> Result<(), String> {
    let name = format!("check-{}", std::process::id());
    crate::host::need_root()?;
    let before = traces()?;
    let wanted =
        Wanted { base: base.to_owned(), name: name.clone(), nodes: Some(3), images: vec![] };
    let held = try_all(&wanted).await;
    let ended = down::down(base, &name);
    let group = held?;
    ended?;
    let after = traces()?;
    // Where other clusters come and go meanwhile, only what carries its name is surely its own.
    let alone = !before.union(&after).any(|trace| trace.starts_with("/run/netns/quorate-"));
    let own = |trace: &&String| alone || trace.contains(&group) || trace.contains(&name);
    let left: Vec<&String> = after.difference(&before).filter(own).collect();
    if !left.is_empty() {
        return Err(format!("left behind: {left:?}"));
    }
    say("down leaves no namespace, link, mount, control group or file");
    Ok(())
}

/// Gives the name that everything of the cluster had on this machine.
async fn try_all(wanted: &Wanted) -> Result<String, String> {
    let begun = Instant::now();
    let came = up(wanted).await?;
    told("three nodes are ready", begun);
    let client = client(&came.instance, "admin").await?;
    let begun = Instant::now();
    create(&client).await?;
    pods_ready(&client).await?;
    told("three pods without root wrote to their volumes and found each other", begun);
    let begun = Instant::now();
    grow(&client).await?;
    told("a claim grew", begun);
    let begun = Instant::now();
    process::signal(&came.instance, "apiserver", Signal::KILL)?;
    until("the API server ends", async || {
        Ok(process::running(&came.instance, "apiserver").is_none())
    })
    .await?;
    up(wanted).await?;
    told("a killed API server came back", begun);
    let begun = Instant::now();
    remove(&client).await?;
    until("the folders of volumes go with their claims", async || Ok(folders(&came.instance) == 0))
        .await?;
    told("volumes went with their claims", begun);
    Ok(came.instance.group())
}

fn told(what: &str, begun: Instant) {
    say(&format!("{what}: {:.1} s", begun.elapsed().as_secs_f64()));
}

/// Waits for a condition.
async fn until(
    what: &str,
    mut holds: impl AsyncFnMut() -> Result<bool, String>,
) -> Result<(), String> {
    let end = Instant::now() + READY_MAX;
    while !holds().await? {
        if Instant::now() > end {
            return Err(format!("not in {READY_MAX:?}: {what}"));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

fn words(e: &kube::Error) -> String {
    e.to_string()
}

async fn create(client: &Client) -> Result<(), String> {
    let services: Api<Service> = Api::default_namespaced(client.clone());
    let pods = json!({"app": "web"});
    let peers = json!({"clusterIP": "None", "publishNotReadyAddresses": true, "selector": pods});
    let ports = json!([{"port": 80, "targetPort": 8080}]);
    let all = json!({"publishNotReadyAddresses": true, "selector": pods, "ports": ports});
    for (name, spec) in [("web", peers), ("web-all", all)] {
        let service = parsed(json!({"metadata": {"name": name}, "spec": spec}))?;
        services.create(&PostParams::default(), &service).await.map_err(|e| words(&e))?;
    }
    let sets: Api<StatefulSet> = Api::default_namespaced(client.clone());
    let set = parsed(stateful_set())?;
    // A new cluster has the account of its pods only after a moment; the controller tries again.
    sets.create(&PostParams::default(), &set).await.map(drop).map_err(|e| words(&e))
}

fn parsed<T: k8s_openapi::serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

fn stateful_set() -> Value {
    let labels = json!({"app": "web"});
    let container = json!({
        "name": "app",
        "image": "quorate.test/busybox:1",
        "command": ["sh", "-c", SCRIPT],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    });
    let spread = json!({
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": labels},
    });
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "serviceName": "web",
            "replicas": 3,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "securityContext": {
                        "runAsUser": 65532, "runAsGroup": 65532, "runAsNonRoot": true,
                        "fsGroup": 65532,
                    },
                    "topologySpreadConstraints": [spread],
                    "containers": [container],
                },
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "resources": {"requests": {"storage": "10Mi"}},
                },
            }],
        },
    })
}

async fn pods_ready(client: &Client) -> Result<(), String> {
    let sets: Api<StatefulSet> = Api::default_namespaced(client.clone());
    until("three pods are ready", async || {
        let set = sets.get("web").await.map_err(|e| words(&e))?;
        Ok(set.status.and_then(|status| status.ready_replicas) == Some(3))
    })
    .await
}

async fn grow(client: &Client) -> Result<(), String> {
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(client.clone());
    let more = json!({"spec": {"resources": {"requests": {"storage": "20Mi"}}}});
    let patched = claims.patch("data-web-0", &PatchParams::default(), &Patch::Merge(more)).await;
    patched.map_err(|e| words(&e))?;
    until("the claim has 20Mi", async || {
        let claim = claims.get("data-web-0").await.map_err(|e| words(&e))?;
        let capacity = claim.status.and_then(|status| status.capacity).unwrap_or_default();
        Ok(capacity.get("storage").is_some_and(|size| size.0 == "20Mi"))
    })
    .await
}

async fn remove(client: &Client) -> Result<(), String> {
    let sets: Api<StatefulSet> = Api::default_namespaced(client.clone());
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(client.clone());
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    sets.delete("web", &DeleteParams::default()).await.map_err(|e| words(&e))?;
    for claim in claims.list(&ListParams::default()).await.map_err(|e| words(&e))? {
        let deleted = claims.delete(&claim.name_any(), &DeleteParams::default()).await;
        deleted.map_err(|e| words(&e))?;
    }
    until("no volume is left", async || {
        let left = volumes.list(&ListParams::default()).await.map_err(|e| words(&e))?;
        Ok(left.items.is_empty())
    })
    .await
}

/// How many volumes have a folder.
fn folders(instance: &Instance) -> usize {
    let dirs = instance.node_numbers().map(|node| instance.node_dir(node).join("volumes"));
    dirs.flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten()).count()
}

/// Everything on this machine that a cluster could leave.
fn traces() -> Result<BTreeSet<String>, String> {
    let mut places: Vec<PathBuf> = cgroup::Cgroups::of_machine()?.tops().cloned().collect();
    let more = ["/run/netns", "/sys/class/net", "/run/containerd/s", "/var/log/containers"];
    places.extend(more.map(PathBuf::from));
    places.extend(["/var/lib/cni/results", "/var/lib/kubelet"].map(PathBuf::from));
    let entries = places.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten());
    let mut traces: BTreeSet<String> =
        entries.flatten().map(|entry| entry.path().display().to_string()).collect();
    let mounts = down::mounts_below(Path::new("/"))?;
    traces.extend(mounts.iter().map(|mount| format!("mount {}", mount.display())));
    Ok(traces)
}
