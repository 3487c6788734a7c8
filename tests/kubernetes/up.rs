//! `up`: from nothing, or from what runs already, to a cluster whose nodes are ready.
//!
//! It starts what does not run, so it also heals a cluster that lost one of its processes.

use crate::binaries::Binaries;
use crate::cgroup::Cgroups;
use crate::image::test_images;
use crate::instance::Instance;
use crate::{certificates, control, host, network, node, process, provision};
use http::Request as HttpRequest;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// API server and nodes are ready within this, or something is wrong.
const READY_MAX: Duration = Duration::from_secs(90);
const LOOK: Duration = Duration::from_millis(100);

/// What to start.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The folder of clusters.
    pub base: PathBuf,
    /// The cluster's name.
    pub name: String,
    /// How many nodes; of a cluster that is there, this does not change.
    pub nodes: Option<u8>,
    /// Image archives for every node.
    pub images: Vec<PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Came {
    /// The cluster.
    pub instance: Instance,
    /// Its binaries.
    pub binaries: Binaries,
    /// Whether all of it ran before.
    pub ran: bool,
}

/// Starts a cluster, or what of it does not run, and waits until all nodes are ready.
///
/// # Errors
/// A sentence; what was started stays, to be looked at, until `down`.
pub async fn up(wanted: &Wanted) -> Result<Came, String> {
    host::need_root()?;
    host::need_tools()?;
    let binaries = Binaries::ready()?;
    std::fs::create_dir_all(&wanted.base).map_err(|e| format!("{}: {e}", wanted.base.display()))?;
    let _alone = alone(&wanted.base)?;
    let instance = find(wanted)?;
    let ran = missing(&instance).is_empty();
    if !ran {
        eprintln!("starting {} in {}", instance.name, instance.dir.display());
    }
    start(&instance, &binaries, ran).await?;
    for archive in &wanted.images {
        load(&instance, archive)?;
    }
    Ok(Came { instance, binaries, ran })
}

/// One `up` or `down` at a time; the lock ends with what this returns.
///
/// # Errors
/// The folder cannot be opened.
pub fn alone(base: &Path) -> Result<std::fs::File, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", base.display());
    let folder = std::fs::File::open(base).map_err(failed)?;
    folder.lock().map_err(failed)?;
    Ok(folder)
}

fn find(wanted: &Wanted) -> Result<Instance, String> {
    let Some(instance) = Instance::open(&wanted.base, &wanted.name)? else {
        return Instance::create(&wanted.base, &wanted.name, wanted.nodes.unwrap_or(3));
    };
    if !instance.is_of_this_boot()? {
        return Err(format!(
            "{} is from before a restart of this machine; first: down",
            wanted.name
        ));
    }
    match wanted.nodes {
        Some(nodes) if nodes != instance.nodes => Err(format!(
            "{} has {} nodes; for another number, first: down",
            instance.name, instance.nodes
        )),
        _ => Ok(instance),
    }
}

/// Every component that there should be, control plane first.
#[must_use]
pub fn components(instance: &Instance) -> Vec<String> {
    let mut names: Vec<String> = control::COMPONENTS.map(str::to_owned).into();
    for node in instance.node_numbers() {
        names.extend(["containerd", "kubelet", "proxy"].map(|part| format!("{part}-node{node}")));
    }
    names
}

/// The components that do not run.
#[must_use]
pub fn missing(instance: &Instance) -> Vec<String> {
    let mut names = components(instance);
    names.retain(|name| process::running(instance, name).is_none());
    names
}

async fn start(instance: &Instance, binaries: &Binaries, ran: bool) -> Result<(), String> {
    let begun = Instant::now();
    if !ran {
        Cgroups::of_machine()?.make(&format!("{}/{}", instance.group(), process::SYSTEM))?;
        certificates::make(instance)?;
        network::make(instance)?;
        control::start(instance, binaries, "etcd")?;
        control::start(instance, binaries, "apiserver")?;
        start_runtimes(instance)?;
    }
    let client = client(instance, "admin").await?;
    await_server(instance, &client).await?;
    let took = |what: &str| eprintln!("  {what} after {:.1} s", begun.elapsed().as_secs_f64());
    if !ran {
        took("API server ready");
        for component in control::COMPONENTS {
            control::start(instance, binaries, component)?;
        }
        for node in instance.node_numbers() {
            node::start_kubelet(instance, binaries, node)?;
        }
        storage_class(&client).await?;
    }
    await_nodes(instance, &client).await?;
    if !ran {
        took("all nodes ready");
    }
    Ok(())
}

/// All nodes at once, each with the images that every pod needs.
fn start_runtimes(instance: &Instance) -> Result<(), String> {
    let images = test_images(&instance.dir)?;
    let start = |number: u8| {
        let running = process::running(instance, &format!("containerd-node{number}")).is_some();
        node::start_containerd(instance, number)?;
        if running {
            return Ok(());
        }
        images.iter().try_for_each(|image| node::import(instance, number, image))
    };
    at_every_node(instance, start)
}

fn at_every_node(
    instance: &Instance,
    act: impl Fn(u8) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let act = &act;
    std::thread::scope(|scope| {
        let nodes = instance.node_numbers();
        let started: Vec<_> = nodes.map(|node| scope.spawn(move || act(node))).collect();
        let mut ended = started.into_iter().map(std::thread::ScopedJoinHandle::join);
        ended.try_for_each(|result| result.map_err(|_| "a thread panicked".to_owned())?)
    })
}

/// Imports an image archive into every node.
///
/// # Errors
/// The archive is not there, or a node refuses it.
pub fn load(instance: &Instance, archive: &Path) -> Result<(), String> {
    at_every_node(instance, |node| node::import(instance, node, archive))
        .map_err(|why| format!("{}: {why}", archive.display()))
}

/// A client of the cluster, as the user whose kubeconfig this is.
///
/// # Errors
/// The kubeconfig cannot be read.
pub async fn client(instance: &Instance, user: &str) -> Result<Client, String> {
    let file = instance.kubeconfig(user);
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let kubeconfig = Kubeconfig::read_from(&file).map_err(|e| failed(&e))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.map_err(|e| failed(&e))?).map_err(|e| failed(&e))
}

async fn await_server(instance: &Instance, client: &Client) -> Result<(), String> {
    let end = Instant::now() + READY_MAX;
    loop {
        let why = match is_ready(client).await {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        if Instant::now() > end || process::running(instance, "apiserver").is_none() {
            let words = process::last_words(instance, "apiserver");
            return Err(format!("the API server does not get ready: {why}\n{words}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn is_ready(client: &Client) -> Result<(), String> {
    let request = http_get("/readyz")?;
    client.request_text(request).await.map(drop).map_err(|e| e.to_string())
}

fn http_get(path: &str) -> Result<HttpRequest<Vec<u8>>, String> {
    HttpRequest::get(path).body(Vec::new()).map_err(|e| e.to_string())
}

/// Pods that name no class get volumes of the provisioner.
async fn storage_class(client: &Client) -> Result<(), String> {
    let class = json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": provision::CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": provision::PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": true,
        "reclaimPolicy": "Delete",
    });
    let classes: Api<StorageClass> = Api::all(client.clone());
    let params = PatchParams::apply("quorate-cluster").force();
    let applied = classes.patch(provision::CLASS, &params, &Patch::Apply(class)).await;
    applied.map(drop).map_err(|e| format!("the class of volumes: {e}"))
}

async fn await_nodes(instance: &Instance, client: &Client) -> Result<(), String> {
    let end = Instant::now() + READY_MAX;
    loop {
        let ready = ready_nodes(client).await?;
        if ready.len() >= usize::from(instance.nodes) {
            return Ok(());
        }
        if Instant::now() > end {
            let (ready, logs) = (ready.join(", "), instance.dir.join("log"));
            return Err(format!("ready are only: {ready}; see {}", logs.display()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The names of the nodes that are ready.
///
/// # Errors
/// The API server does not say.
pub async fn ready_nodes(client: &Client) -> Result<Vec<String>, String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = nodes.list(&ListParams::default()).await.map_err(|e| e.to_string())?;
    let is_ready = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = |c: &k8s_openapi::api::core::v1::NodeCondition| {
            c.type_ == "Ready" && c.status == "True"
        };
        conditions.is_some_and(|conditions| conditions.iter().any(ready))
    };
    Ok(nodes.into_iter().filter(is_ready).filter_map(|node| node.metadata.name).collect())
}
