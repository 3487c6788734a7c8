//! The provisioner: a volume for a claim is a folder on the node that the scheduler chose, as a
//! `local` volume. Unlike the host-path volumes that Kubernetes makes by itself, these take an
//! `fsGroup` and can grow.
//!
//! Every pass looks at all claims and volumes as the watches last told them, and does what is
//! missing; doing it twice changes nothing.

use crate::instance::Instance;
use crate::up;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::reflector::{Store, store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// The class of its volumes, the cluster's default.
pub const CLASS: &str = "standard";
/// Its name.
pub const PROVISIONER: &str = "quorate.test/local-volumes";
const CHOSEN_NODE: &str = "volume.kubernetes.io/selected-node";
const CHOSEN_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// After a failure, and while the API server is away.
const AGAIN: Duration = Duration::from_millis(500);

/// A server that comes back is not to be waited for.
struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(AGAIN)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

struct Provisioner {
    instance: Instance,
    client: Client,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
}

/// Serves claims until this process is ended.
///
/// # Errors
/// There is no such cluster.
pub async fn run(instance: Instance) -> Result<(), String> {
    let client = up::client(&instance, "provisioner").await?;
    let changed = Arc::new(Notify::new());
    let claims = follow(Api::all(client.clone()), Arc::clone(&changed));
    let volumes = follow(Api::all(client.clone()), Arc::clone(&changed));
    let provisioner = Provisioner { instance, client, claims, volumes };
    loop {
        if let Err(why) = provisioner.pass().await {
            eprintln!("{why}");
            // Whatever it was, it is tried again.
            changed.notify_one();
            tokio::time::sleep(AGAIN).await;
        }
        changed.notified().await;
    }
}

/// Keeps a store of all objects of a kind, and tells of every change.
fn follow<K>(api: Api<K>, changed: Arc<Notify>) -> Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static,
    K: k8s_openapi::serde::de::DeserializeOwned,
{
    let (reader, writer) = store();
    let stream = watcher(api, watcher::Config::default()).backoff(Steady).reflect(writer);
    tokio::spawn(async move {
        let mut stream = std::pin::pin!(stream);
        while let Some(event) = stream.next().await {
            if let Err(why) = event {
                eprintln!("watch: {why}");
            }
            changed.notify_one();
        }
    });
    reader
}

impl Provisioner {
    async fn pass(&self) -> Result<(), String> {
        for claim in self.claims.state() {
            if let Some(node) = waits_at(&claim) {
                self.make(&claim, node).await?;
            }
        }
        for volume in self.volumes.state() {
            let Some(dir) = self.folder_of(&volume) else { continue };
            if is_released(&volume) {
                self.remove(&volume, &dir).await?;
            } else if let Some(claim) = self.claim_of(&volume) {
                self.grow(&claim, &volume).await?;
            }
        }
        Ok(())
    }

    /// Makes a folder and the volume that is it.
    async fn make(&self, claim: &PersistentVolumeClaim, node: &str) -> Result<(), String> {
        let (Some(uid), Some(size)) = (claim.uid(), asked(claim)) else { return Ok(()) };
        let name = format!("pvc-{uid}");
        let number = self.instance.node_numbers().find(|n| format!("node{n}") == node);
        let number = number.ok_or_else(|| format!("{name}: {node:?} is not a node of ours"))?;
        let dir = self.instance.node_dir(number).join("volumes").join(&name);
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.clone());
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "capacity": {"storage": size},
                "accessModes": modes,
                "storageClassName": CLASS,
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim", "uid": uid,
                    "name": claim.name_any(), "namespace": claim.namespace(),
                },
                "local": {"path": dir},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
                ]}]}},
            },
        });
        let volume = serde_json::from_value(volume).map_err(|e| format!("{name}: {e}"))?;
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        settled(volumes.create(&PostParams::default(), &volume).await, 409)
    }

    /// The folder of a volume that this program made; anything else is left alone.
    fn folder_of(&self, volume: &PersistentVolume) -> Option<PathBuf> {
        if volume.annotations().get(PROVISIONED_BY).map(String::as_str) != Some(PROVISIONER) {
            return None;
        }
        let path = Path::new(&volume.spec.as_ref()?.local.as_ref()?.path);
        let name = volume.name_any();
        let own = |node| self.instance.node_dir(node).join("volumes").join(&name);
        self.instance.node_numbers().map(own).find(|own| own == path)
    }

    async fn remove(&self, volume: &PersistentVolume, dir: &Path) -> Result<(), String> {
        match std::fs::remove_dir_all(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {e}", dir.display()));
            }
            _ => {}
        }
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let params = DeleteParams::default();
        settled(volumes.delete(&volume.name_any(), &params).await, 404)
    }

    /// The claim that a volume is bound to.
    fn claim_of(&self, volume: &PersistentVolume) -> Option<Arc<PersistentVolumeClaim>> {
        let uid = volume.spec.as_ref()?.claim_ref.as_ref()?.uid.as_ref()?;
        self.claims.find(|claim| claim.metadata.uid.as_ref() == Some(uid))
    }

    /// A folder has no size, so growing is only saying so.
    async fn grow(
        &self,
        claim: &PersistentVolumeClaim,
        volume: &PersistentVolume,
    ) -> Result<(), String> {
        let Some(wanted) = asked(claim) else { return Ok(()) };
        let has = |capacity: &Option<Capacity>| {
            capacity.as_ref().and_then(|capacity| capacity.get("storage")).cloned()
        };
        if volume.spec.as_ref().and_then(|spec| has(&spec.capacity)).as_ref() != Some(&wanted) {
            let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
            let patch = Patch::Merge(json!({"spec": {"capacity": {"storage": wanted}}}));
            let patched = volumes.patch(&volume.name_any(), &PatchParams::default(), &patch).await;
            settled(patched, 404)?;
        }
        let status = claim.status.as_ref();
        let bound = status.is_some_and(|status| status.phase.as_deref() == Some("Bound"));
        if !bound || status.and_then(|status| has(&status.capacity)).as_ref() == Some(&wanted) {
            return Ok(());
        }
        let claims = Api::<PersistentVolumeClaim>::namespaced(
            self.client.clone(),
            &claim.namespace().unwrap_or_default(),
        );
        let patch = Patch::Merge(json!({"status": {"capacity": {"storage": wanted}}}));
        let params = PatchParams::default();
        settled(claims.patch_status(&claim.name_any(), &params, &patch).await, 404)
    }
}

type Capacity =
    std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

/// A refusal of this kind says that it is done already.
fn settled<T>(result: kube::Result<T>, done: u16) -> Result<(), String> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == done => Ok(()),
        Err(why) => Err(why.to_string()),
    }
}

/// The node at which a claim waits for a volume of ours.
fn waits_at(claim: &PersistentVolumeClaim) -> Option<&str> {
    let notes = claim.annotations();
    let ours = notes.get(CHOSEN_PROVISIONER).is_some_and(|name| name == PROVISIONER);
    let unbound = claim.spec.as_ref()?.volume_name.as_deref().unwrap_or_default().is_empty();
    let wanted = ours && unbound && claim.metadata.deletion_timestamp.is_none();
    notes.get(CHOSEN_NODE).filter(|_| wanted).map(String::as_str)
}

fn asked(
    claim: &PersistentVolumeClaim,
) -> Option<k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage").cloned()
}

fn is_released(volume: &PersistentVolume) -> bool {
    let policy = volume.spec.as_ref().and_then(|s| s.persistent_volume_reclaim_policy.as_deref());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    phase == Some("Released") && policy == Some("Delete")
}
