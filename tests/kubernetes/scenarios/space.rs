//! One RaftCluster in a namespace of its own: its pods, their sidecars, and what is waited for.

use super::load::words;
use super::stage::Stage;
use quorate_load::Caller;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Everything comes about within this, or something is wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// How often something is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The resource, in its namespace.
pub(super) const NAME: &str = "demo";
/// What every application of the scenarios runs: one of them leads, and says so.
const LEAD: &str = "echo I lead with token $QUORATE_TOKEN; exec sleep 100000";

/// Waits until `look` has something; until then it says what is missing.
pub(super) async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, String> {
    let end = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(why) if Instant::now() > end => {
                return Err(format!("not in {} s: {what}: {why}", patience.as_secs()));
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// A pod, as the API server tells.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) node: String,
    pub(super) ready: bool,
    pub(super) deleting: bool,
    pub(super) object: Value,
}

impl Pod {
    pub(super) fn new(object: Value) -> Pod {
        let text = |place: &str| object.pointer(place).and_then(Value::as_str).unwrap_or_default();
        let (name, uid) = (text("/metadata/name").to_owned(), text("/metadata/uid").to_owned());
        let node = text("/spec/nodeName").to_owned();
        let ready = holds(&object, "Ready");
        let deleting = object.pointer("/metadata/deletionTimestamp").is_some();
        Pod { name, uid, node, ready, deleting, object }
    }

    /// The number of its node.
    pub(super) fn node_number(&self) -> Result<u8, String> {
        let number = self.node.trim_start_matches("node").parse();
        number.map_err(|_| format!("{}: its node {:?} has no number", self.name, self.node))
    }

    /// What the kubelet tells of a container.
    pub(super) fn container(&self, name: &str) -> Value {
        let status = &self.object["status"];
        let lists = ["initContainerStatuses", "containerStatuses"];
        let mut all = lists.iter().filter_map(|list| status[list].as_array()).flatten();
        all.find(|one| one["name"] == name).cloned().unwrap_or_default()
    }

    /// How often a container was started again.
    pub(super) fn restarts(&self, name: &str) -> u64 {
        self.container(name)["restartCount"].as_u64().unwrap_or(0)
    }
}

/// Whether an object's condition is true.
pub(super) fn holds(object: &Value, kind: &str) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == kind && one["status"] == "True")
}

/// Whether a RaftCluster says that it is as its spec wants it, and its members' pods are so.
pub(super) fn is_whole(raft: &Value, pods: &[Pod], replicas: usize) -> Result<(), String> {
    let status = &raft["status"];
    if status["observedGeneration"] != raft["metadata"]["generation"] || !holds(raft, "Ready") {
        return Err(format!("the RaftCluster is not Ready: {}", status["conditions"]));
    }
    if pods.len() != replicas || pods.iter().any(|pod| !pod.ready || pod.deleting) {
        let names: Vec<_> = pods.iter().map(|p| (&p.name, p.ready, p.deleting)).collect();
        return Err(format!("{replicas} pods are to be ready: {names:?}"));
    }
    Ok(())
}

/// See the module.
pub(super) struct Space<'a> {
    pub(super) stage: &'a Stage,
    pub(super) namespace: String,
}

/// Sidecars alone.
pub(super) fn standalone(replicas: u32) -> Value {
    json!({"mode": "Standalone", "replicas": replicas, "storage": {"size": "200Mi"}})
}

/// Applications in an image without a libc, one of which leads.
pub(super) fn managed(replicas: u32) -> Value {
    let command = ["/run/quorate/bin/quorate", "elect", "demo", "--again", "--", "sh", "-c", LEAD];
    let container = json!({
        "name": "app",
        "image": "quorate.test/busybox:1",
        "imagePullPolicy": "Never",
        "command": command,
        "securityContext": {"runAsUser": 65532, "runAsGroup": 65532},
    });
    json!({
        "replicas": replicas,
        "storage": {"size": "200Mi"},
        "template": {"spec": {"containers": [container]}},
    })
}

impl<'a> Space<'a> {
    /// Makes the namespace, for a resource that is written elsewhere.
    pub(super) fn of(stage: &'a Stage, name: &str) -> Result<Space<'a>, String> {
        stage.enter(name)?;
        Ok(Space { stage, namespace: name.to_owned() })
    }

    /// Makes the namespace, and applies the resource.
    pub(super) fn new(stage: &'a Stage, name: &str, spec: Value) -> Result<Space<'a>, String> {
        let space = Space::of(stage, name)?;
        space.apply(spec)?;
        Ok(space)
    }

    /// Makes it, and waits until all of it works.
    pub(super) async fn settled_new(
        stage: &'a Stage,
        name: &str,
        spec: Value,
    ) -> Result<Space<'a>, String> {
        let replicas = spec["replicas"].as_u64().and_then(|n| usize::try_from(n).ok());
        let space = Space::new(stage, name, spec)?;
        space.settled(replicas.unwrap_or(3)).await?;
        Ok(space)
    }

    /// Applies the resource, as a user does.
    pub(super) fn apply(&self, spec: Value) -> Result<(), String> {
        let object = json!({
            "apiVersion": "quorate.dev/v1alpha1",
            "kind": "RaftCluster",
            "metadata": {"name": NAME, "namespace": self.namespace},
            "spec": spec,
        });
        self.stage.apply(&object).map(drop)
    }

    /// `kubectl` in the namespace.
    pub(super) fn kubectl(&self, words: &[&str]) -> Result<String, String> {
        self.stage.kubectl(&[&["-n", &self.namespace], words].concat())
    }

    /// `kubectl scale`, as a user does.
    pub(super) fn scale(&self, replicas: usize) -> Result<(), String> {
        let replicas = format!("--replicas={replicas}");
        self.kubectl(&["scale", "raft/demo", &replicas]).map(drop)
    }

    /// The resource.
    pub(super) async fn raft(&self) -> Result<Value, String> {
        let of = &self.namespace;
        let path = format!("/apis/quorate.dev/v1alpha1/namespaces/{of}/raftclusters/{NAME}");
        self.stage.get(&path).await?.ok_or_else(|| "there is no RaftCluster".to_owned())
    }

    /// Objects of the namespace.
    pub(super) async fn list(&self, kind: &str) -> Result<Vec<Value>, String> {
        let path = format!("/api/v1/namespaces/{}/{kind}", self.namespace);
        let list = self.stage.get(&path).await?.unwrap_or_default();
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// The members' pods, by name; links to their sockets are made anew on the way.
    pub(super) async fn pods(&self) -> Result<Vec<Pod>, String> {
        let list = self.list("pods").await?.into_iter();
        // Another pod of the operator's fetches an image, for moments.
        let members =
            list.filter(|pod| pod["metadata"]["labels"]["quorate.dev/component"] == "member");
        let mut pods: Vec<Pod> = members.map(Pod::new).collect();
        pods.sort_by(|one, other| one.name.cmp(&other.name));
        pods.iter().filter(|pod| !pod.node.is_empty()).try_for_each(|pod| self.link(pod))?;
        Ok(pods)
    }

    /// One pod.
    pub(super) async fn pod(&self, name: &str) -> Result<Pod, String> {
        let found = self.pods().await?.into_iter().find(|pod| pod.name == name);
        found.ok_or_else(|| format!("there is no pod {name}"))
    }

    /// Claims for volumes, with their UIDs.
    pub(super) async fn claims(&self) -> Result<Vec<(String, String)>, String> {
        let text = |claim: &Value, field: &str| {
            claim["metadata"][field].as_str().unwrap_or_default().to_owned()
        };
        let claims = self.list("persistentvolumeclaims").await?;
        Ok(claims.iter().map(|claim| (text(claim, "name"), text(claim, "uid"))).collect())
    }

    /// Where a pod's socket is, at any time: by a link, since a socket's path is short.
    pub(super) fn socket(&self, pod: &str) -> PathBuf {
        self.stage.links.join(format!("{}.{pod}", self.namespace)).join("quorate.sock")
    }

    fn link(&self, pod: &Pod) -> Result<(), String> {
        let volume = self.stage.instance.dir.join(&pod.node).join("kubelet/pods").join(&pod.uid);
        let volume = volume.join("volumes/kubernetes.io~empty-dir/quorate-run");
        let link = self.stage.links.join(format!("{}.{}", self.namespace, pod.name));
        if std::fs::read_link(&link).is_ok_and(|to| to == volume) {
            return Ok(());
        }
        let draft = link.with_extension("new");
        let made = std::os::unix::fs::symlink(&volume, &draft)
            .and_then(|()| std::fs::rename(&draft, &link));
        made.map_err(|e| format!("{}: {e}", link.display()))
    }

    /// Waits until it is as the spec wants it: told by its conditions, its pods and its sidecars.
    pub(super) async fn settled(&self, replicas: usize) -> Result<(), String> {
        until("all is as wanted", PATIENCE, async || self.is_settled(replicas).await).await
    }

    /// What is missing until then.
    pub(super) async fn is_settled(&self, replicas: usize) -> Result<(), String> {
        let voters = if replicas == 0 { 0 } else { (replicas.min(5) - 1) / 2 * 2 + 1 };
        let raft = self.raft().await?;
        let status = &raft["status"];
        is_whole(&raft, &self.pods().await?, replicas)?;
        if replicas > 0 && status["voters"] != json!(voters) {
            return Err(format!("{} members vote, and {voters} are to", status["voters"]));
        }
        // The status may name an earlier leader: a change of it alone brings no pass.
        if replicas > 0 {
            self.leader().await?;
        }
        Ok(())
    }

    /// The pod whose sidecar leads, by its own word.
    pub(super) async fn leader(&self) -> Result<String, String> {
        let links = std::fs::read_dir(&self.stage.links).map_err(|e| e.to_string())?;
        let own = format!("{}.", self.namespace);
        for link in links.flatten() {
            let name = link.file_name().to_string_lossy().into_owned();
            let Some(pod) = name.strip_prefix(&own) else { continue };
            let Ok(mut caller) = Caller::connect(self.socket(pod), vec![1; 16]).await else {
                continue;
            };
            if caller.leader().await.is_ok_and(|leader| leader == pod) {
                return Ok(pod.to_owned());
            }
        }
        Err("no sidecar says that it leads".to_owned())
    }

    /// The Raft term, as a sidecar knows it.
    pub(super) async fn term(&self, pod: &str) -> Result<u64, String> {
        let mut caller = Caller::connect(self.socket(pod), vec![1; 16]).await.map_err(words)?;
        caller.term().await.map_err(words)
    }

    /// How often the operator handed leadership over.
    pub(super) async fn transfers(&self) -> Result<u64, String> {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", self.namespace);
        let list = self.stage.get(&path).await?.unwrap_or_default();
        let all = list["items"].as_array().cloned().unwrap_or_default();
        let ours = all.iter().filter(|event| event["reason"] == "LeaderTransfer");
        Ok(ours.map(|event| event["series"]["count"].as_u64().unwrap_or(1)).sum())
    }

    /// Waits for a leader.
    pub(super) async fn some_leader(&self) -> Result<String, String> {
        until("somebody leads", PATIENCE, async || self.leader().await).await
    }

    /// Which applications said that they lead, with their tokens, oldest token first.
    pub(super) async fn said(&self) -> Result<Vec<(u64, String)>, String> {
        let mut said = Vec::new();
        for pod in self.pods().await? {
            // An application that did not start yet said nothing.
            let log = self.kubectl(&["logs", &pod.name, "-c", "app"]).unwrap_or_default();
            let tokens = log.lines().filter_map(|line| line.strip_prefix("I lead with token "));
            let tokens = tokens.filter_map(|token| token.trim().parse().ok());
            said.extend(tokens.map(|token| (token, pod.name.clone())));
        }
        said.sort_unstable();
        Ok(said)
    }
}

/// Processes of this machine whose file in /proc has this text.
fn processes(file: &str, text: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(text)
    };
    let mut found: Vec<i32> = numbers.filter(has).collect();
    found.sort_unstable();
    found
}

/// The process of a pod's sidecar, as this machine numbers it.
pub(super) fn sidecar_of(uid: &str) -> Result<i32, String> {
    let mut of = processes("environ", &format!("QUORATE_POD_UID={uid}\0")).into_iter();
    let runs = of.find(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.ends_with(b"quorate-sidecar\0run\0")
    });
    runs.ok_or_else(|| format!("no sidecar of pod {uid} runs"))
}

/// The first process of a pod's application.
pub(super) fn application_of(pod: &Pod) -> Result<i32, String> {
    let container = pod.container("app");
    let id = container["containerID"].as_str().and_then(|id| id.strip_prefix("containerd://"));
    let id = id.ok_or_else(|| format!("{} has no application", pod.name))?;
    // Numbers begin anew where they end: the lowest may be of what the first one started.
    let is_first = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let within = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        within.is_some_and(|numbers| numbers.split_whitespace().next_back() == Some("1"))
    };
    let first = processes("cgroup", id).into_iter().find(is_first);
    first.ok_or_else(|| format!("the application of {} does not run", pod.name))
}

/// Ends a process at once.
pub(super) fn kill(pid: i32) -> Result<(), String> {
    let pid = Pid::from_raw(pid).ok_or("no process has this number")?;
    kill_process(pid, Signal::KILL).map_err(|e| e.to_string())
}
