//! The chart and the examples as a user has them: Helm, the operator in pods, no more rights than
//! the chart gives.
//!
//! The first of these scenarios takes the operator of this machine away, with all that was made
//! for it, and installs the chart.

use super::certificates::Nudge;
use super::load;
use super::refused::refused;
use super::rights;
use super::rolls::MISSING;
use super::seconds;
use super::space::{NAME, PATIENCE, Pod, Space, application_of, kill, standalone, until};
use super::stage::{DEFINITION, OPERATOR, RELEASE, SYSTEM, Stage};
use super::storage;
use crate::host;
use serde_json::json;
use std::time::Instant;

const DEPLOYMENT: &str = "deployment/quorate-operator";
/// Where the example with applications is tried, and where the one without.
const SPACE: &str = "chart";
const LOCKS: &str = "chart-locks";
/// What the example's application runs in, and what of ours does the same.
const BUSYBOX: [&str; 2] = ["docker.io/library/busybox:1.36", "quorate.test/busybox:1"];

/// `helm install` or `upgrade`, and what the notes say to do next.
pub(super) fn release(stage: &Stage, verb: &str, flags: &[&str]) -> Result<(), String> {
    let chart = stage.source.join("charts/quorate");
    let words = [verb, RELEASE, host::text(&chart)?, "-n", SYSTEM];
    stage.helm(&[&words, flags].concat())?;
    stage.kubectl(&["-n", SYSTEM, "rollout", "status", DEPLOYMENT, "--timeout=90s"]).map(drop)
}

/// Installs the chart into a cluster that never knew Quorate, unless that was done.
pub(super) async fn installed(stage: &Stage) -> Result<(), String> {
    if stage.has_operator() {
        stage.vacate().await?;
        release(stage, "install", &["--create-namespace"])?;
    }
    Ok(())
}

/// Who may not create StatefulSets writes no RaftCluster; who may, does.
pub(super) async fn author(stage: &Stage) -> Result<String, String> {
    installed(stage).await?;
    stage.enter("chart-author")?;
    let create =
        |words: &[&str]| stage.kubectl(&[&["-n", "chart-author", "create"], words].concat());
    create(&["role", "writer", "--verb=get,create,patch", &format!("--resource={DEFINITION}")])?;
    create(&["rolebinding", "writer", "--role=writer", "--user=alice"])?;
    create(&["rolebinding", "editor", "--clusterrole=edit", "--user=bob"])?;
    create(&["rolebinding", "viewer", "--clusterrole=view", "--user=carol"])?;
    let object = |name: &str, replicas: u32| {
        json!({
            "apiVersion": "quorate.dev/v1alpha1",
            "kind": "RaftCluster",
            "metadata": {"name": name, "namespace": "chart-author"},
            "spec": standalone(replicas),
        })
    };
    let words = "alice may not create one in namespace chart-author";
    let dry = || stage.apply_as("alice", &object("theirs", 0), &["--dry-run=server"]);
    // A policy is in force a moment after it was made; so is a role.
    until("the author is refused", PATIENCE, async || refused("hers", dry(), words)).await?;
    refused("hers", stage.apply_as("alice", &object("theirs", 0), &[]), words)?;
    until("an editor writes one", PATIENCE, async || {
        stage.apply_as("bob", &object("ours", 0), &[])
    })
    .await?;
    // One that is there is no way around either.
    let change = stage.apply_as("alice", &object("ours", 1), &[]);
    refused("another size by alice", change, words)?;
    let change = stage.apply_as("carol", &object("ours", 1), &[]);
    refused("another size by carol", change, "cannot patch resource \"raftclusters\"")?;
    create(&["role", "maker", "--verb=create", "--resource=statefulsets.apps"])?;
    create(&["rolebinding", "maker", "--role=maker", "--user=alice"])?;
    until("who may create StatefulSets writes one", PATIENCE, async || {
        stage.apply_as("alice", &object("theirs", 0), &[])
    })
    .await?;
    Ok("refused without the right to create StatefulSets, also to change one; taken with it"
        .to_owned())
}

/// Nobody but the operator changes what it made; the way through the RaftCluster stays open.
pub(super) async fn guard(stage: &Stage) -> Result<String, String> {
    installed(stage).await?;
    let space = Space::settled_new(stage, "chart-guard", standalone(3)).await?;
    let version = || {
        let path = "jsonpath={.metadata.resourceVersion}";
        space.kubectl(&["get", "statefulset", NAME, "-o", path])
    };
    let kept = "the Quorate operator keeps";
    let label = r#"{"metadata":{"labels":{"quorate.dev/managed-by":null}}}"#;
    let image = r#"{"spec":{"template":{"metadata":{"labels":{"mine":"1"}}}}}"#;
    let attempts: [(&[&str], &str); 7] = [
        (&["scale", "statefulset", NAME, "--replicas=1"], "scale the RaftCluster instead"),
        (&["patch", "statefulset", NAME, "-p", image], kept),
        (&["patch", "statefulset", NAME, "-p", label], kept),
        (&["delete", "statefulset", NAME, "--wait=false"], kept),
        (&["delete", "pdb", NAME], kept),
        (&["delete", "service", "demo-peers"], kept),
        (&["delete", "configmap", "demo-sidecar"], kept),
    ];
    until("the policies are in force", PATIENCE, async || {
        let mut dry = attempts.iter().map(|(words, why)| {
            refused("", space.kubectl(&[words, &["--dry-run=server"][..]].concat()), why)
        });
        dry.try_for_each(|refused| refused)
    })
    .await?;
    space.settled(3).await?;
    let before = version()?;
    for (words, why) in attempts {
        refused(&words.join(" "), space.kubectl(words), why)?;
    }
    if version()? != before {
        return Err("the StatefulSet changed all the same".to_owned());
    }
    // Pods are everybody's, and the door for the size is the RaftCluster's.
    space.kubectl(&["delete", "pod", "demo-2"])?;
    space.settled(3).await?;
    space.scale(1)?;
    space.settled(1).await?;
    space.kubectl(&["delete", "raft", NAME])?;
    until("nothing is left of it", PATIENCE, async || {
        let left = space.kubectl(&["get", "statefulset,pod,pdb,svc", "-o", "name"])?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await?;
    Ok(format!("{} changes by an administrator refused, each with its sentence", attempts.len()))
}

/// Pods and both of their containers, each with the same beginning.
fn same(before: &[Pod], now: &[Pod]) -> Result<(), String> {
    for old in before {
        let new = now.iter().find(|new| new.uid == old.uid);
        let new = new.ok_or_else(|| format!("{} is another pod", old.name))?;
        for part in ["app", "quorate"] {
            let (was, is) = (old.container(part), new.container(part));
            if was["containerID"] != is["containerID"] || was["restartCount"] != is["restartCount"]
            {
                return Err(format!("{part} of {} was started again: {was}, {is}", old.name));
            }
        }
    }
    Ok(())
}

/// The newest leader among the applications.
async fn leads(space: &Space<'_>, above: u64) -> Result<(u64, String), String> {
    until("an application leads", PATIENCE, async || {
        let last = space.said().await?.pop().filter(|(token, _)| *token > above);
        last.ok_or_else(|| format!("none under a token above {above}"))
    })
    .await
}

/// Gives every node an image by another name, as if it had been pulled.
fn tag(stage: &Stage, image: &str, name: &str) -> Result<(), String> {
    for node in stage.instance.node_numbers() {
        let socket = stage.instance.containerd(node);
        let words = ["-a", host::text(&socket)?, "-n", "k8s.io", "images", "tag", "--force"];
        host::run("ctr", &[&words[..], &[image, name]].concat())?;
    }
    Ok(())
}

/// Nodes have the image that the example's application runs in.
pub(super) fn busybox(stage: &Stage) -> Result<(), String> {
    tag(stage, BUSYBOX[1], BUSYBOX[0])
}

/// Applies an example as it stands.
pub(super) fn example(stage: &Stage, within: &str, file: &str) -> Result<(), String> {
    let file = stage.source.join("examples/kubernetes").join(file);
    stage.kubectl(&["-n", within, "apply", "-f", host::text(&file)?]).map(drop)
}

/// Both examples, and what their comments say to do next.
async fn examples<'a>(stage: &'a Stage, told: &mut Vec<String>) -> Result<Space<'a>, String> {
    let begun = Instant::now();
    busybox(stage)?;
    let space = Space::of(stage, SPACE)?;
    stage.kubectl(&["create", "namespace", LOCKS])?;
    let wait = ["wait", "--for=condition=Ready", "--timeout=90s"];
    for (file, name, within) in
        [("raftcluster.yaml", "raft/demo", SPACE), ("standalone.yaml", "raft/locks", LOCKS)]
    {
        example(stage, within, file)?;
        stage.kubectl(&[&["-n", within], &wait[..], &[name]].concat())?;
    }
    space.settled(3).await?;
    let (token, pod) = leads(&space, 0).await?;
    let exec = ["-n", LOCKS, "exec", "locks-0", "--", "quorate", "status"];
    let status = stage.kubectl(&exec)?;
    if !status.contains("leader") {
        return Err(format!("quorate status in locks-0 names no leader: {status}"));
    }
    stage.kubectl(&["delete", "namespace", LOCKS, "--wait=false"])?;
    told.push(format!("both examples {:.1} s, {pod} leads with {token}", seconds(begun)));
    Ok(space)
}

/// Another value: the operator's pods are exchanged, and no other.
async fn upgrade(space: &Space<'_>, told: &mut Vec<String>) -> Result<(), String> {
    let stage = space.stage;
    let begun = Instant::now();
    let before = space.pods().await?;
    let operators = || {
        let own = ["get", "pods", "-l", OPERATOR, "-o", "name"];
        stage.kubectl(&[&["-n", SYSTEM], &own[..]].concat())
    };
    let old = operators()?;
    let name = "extraEnv[0].name=QUORATE_OPERATOR_CA_SETTLE";
    let value = ["--set-string", "extraEnv[0].value=1"];
    let flags = ["--set", "resources.requests.cpu=30m", "--set", name, value[0], value[1]];
    release(stage, "upgrade", &flags)?;
    until("all pods of the operator are new", PATIENCE, async || {
        let new = operators()?;
        match new.lines().find(|pod| old.contains(pod)) {
            Some(pod) => Err(format!("{pod} is there")),
            None => Ok(()),
        }
    })
    .await?;
    // It proves that it works by working; that it replaces its authority meanwhile disturbs nobody.
    let secret = ["-n", SYSTEM, "annotate", "secret/quorate-ca", "quorate.dev/rotate=now"];
    stage.kubectl(&secret)?;
    space.scale(5)?;
    space.settled(5).await?;
    same(&before, &space.pods().await?)?;
    space.scale(3)?;
    space.settled(3).await?;
    same(&before, &space.pods().await?)?;
    let tested = stage.helm(&["test", RELEASE, "-n", SYSTEM, "--timeout", "90s"])?;
    if !tested.contains("Succeeded") {
        return Err(format!("helm test: {tested}"));
    }
    told.push(format!("upgrade, 3→5→3 and helm test {:.1} s, no pod touched", seconds(begun)));
    Ok(())
}

/// The authority that was asked for has taken the place of the former, and the API server believes
/// the webhook.
async fn renewed(space: &Space<'_>, told: &mut Vec<String>) -> Result<(), String> {
    let (stage, begun, mut nudge) = (space.stage, Instant::now(), Nudge::new(space));
    until("the authority is another", PATIENCE * 4, async || {
        nudge.again()?;
        let path = "jsonpath={.metadata.annotations}";
        let told = stage.kubectl(&["-n", SYSTEM, "get", "secret/quorate-ca", "-o", path])?;
        if told.contains("rotate") || told.contains("phase") { Err(told) } else { Ok(()) }
    })
    .await?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "attached", "namespace": SPACE, "labels": {"quorate.dev/attach": NAME},
        },
        "spec": {"containers": [{"name": "app", "image": BUSYBOX[0]}]},
    });
    let made = stage.would_be(&pod, "{.spec.initContainers[*].name}")?;
    if !made.contains("quorate") {
        return Err(format!("the webhook added no sidecar: {made:?}"));
    }
    told.push(format!("another authority {:.1} s later", seconds(begun)));
    Ok(())
}

/// Uses what of its rights a quiet life does not need: a template, a bad one, a sidecar's image.
async fn changes(space: &Space<'_>, told: &mut Vec<String>) -> Result<(), String> {
    let begun = Instant::now();
    let patch = |patch: serde_json::Value| {
        let patch = json!([patch]).to_string();
        space.kubectl(&["patch", "raft", NAME, "--type=json", "-p", &patch])
    };
    let container = "/spec/template/spec/containers/0";
    let exchanged = async |before: &[Pod], least: usize| {
        until("pods are exchanged", PATIENCE * 2, async || {
            let now = space.pods().await?;
            let new = now.iter().filter(|pod| before.iter().all(|old| old.uid != pod.uid)).count();
            if new >= least { Ok(()) } else { Err(format!("{new} of them")) }
        })
        .await
    };
    let before = space.pods().await?;
    let variable = json!([{"name": "COLOUR", "value": "blue"}]);
    patch(json!({"op": "add", "path": format!("{container}/env"), "value": variable}))?;
    exchanged(&before, 3).await?;
    space.settled(3).await?;
    let before = space.pods().await?;
    let image = format!("{container}/image");
    patch(json!({"op": "replace", "path": image, "value": MISSING}))?;
    exchanged(&before, 1).await?;
    patch(json!({"op": "replace", "path": image, "value": "busybox:1.36"}))?;
    space.settled(3).await?;
    let stage = space.stage;
    let other = format!("{}-chart", stage.image);
    tag(stage, &stage.image, &other)?;
    patch(json!({"op": "add", "path": "/spec/sidecar", "value": {"image": other}}))?;
    space.settled(3).await?;
    routed(space, &patch).await?;
    limited(space, &patch).await?;
    space.scale(1)?;
    space.settled(1).await?;
    space.scale(3)?;
    space.settled(3).await?;
    storage::grow(space, "2Gi")?;
    storage::all_are(space, 3, "2Gi").await?;
    told.push(format!("templates, image, 3→1→3, greater volumes {:.1} s", seconds(begun)));
    Ok(())
}

/// Waits until these objects are there, or none of them is.
async fn there(space: &Space<'_>, objects: &[&str], wanted: bool) -> Result<(), String> {
    until("what was asked for comes and goes", PATIENCE, async || {
        let words = [&["get"], objects, &["--ignore-not-found", "-o", "name"]].concat();
        let found = space.kubectl(&words)?;
        let count = if wanted { objects.len() } else { 0 };
        if found.lines().count() == count { Ok(()) } else { Err(format!("found {found:?}")) }
    })
    .await
}

/// A Service of the leader, for a while.
async fn routed(
    space: &Space<'_>,
    patch: impl Fn(serde_json::Value) -> Result<String, String>,
) -> Result<(), String> {
    let objects = ["service/demo-leader", "endpointslice/demo-leader"];
    let service = json!({"election": "demo", "ports": [{"port": 80}]});
    patch(json!({"op": "add", "path": "/spec/leaderService", "value": service}))?;
    there(space, &objects, true).await?;
    patch(json!({"op": "remove", "path": "/spec/leaderService"}))?;
    there(space, &objects, false).await?;
    space.settled(3).await
}

/// A NetworkPolicy, for a while. That it is obeyed is for the cluster's network to do; here nothing
/// does.
async fn limited(
    space: &Space<'_>,
    patch: impl Fn(serde_json::Value) -> Result<String, String>,
) -> Result<(), String> {
    for (access, wanted) in [("PortsOnly", true), ("None", false)] {
        patch(json!({"op": "add", "path": "/spec/networkPolicy", "value": access}))?;
        there(space, &["networkpolicy/demo-ports"], wanted).await?;
        space.settled(3).await?;
    }
    Ok(())
}

/// The RaftCluster is deleted and made anew on the volumes that stayed: its group goes on.
async fn kept(space: &Space<'_>, told: &mut Vec<String>) -> Result<(), String> {
    let (mut raft, claims) = (space.raft().await?, space.claims().await?);
    let (mut spec, group) = (raft["spec"].take(), raft["status"]["birth"]["clusterId"].take());
    let ((token, _), names) = (leads(space, 0).await?, load::keep(space, "demo-0", 20).await?);
    let before = rights::calls(space.stage, 0)?.len();
    space.kubectl(&["delete", "raft", NAME])?;
    until("its pods are gone", PATIENCE, async || {
        let left = space.pods().await?;
        if left.is_empty() { Ok(()) } else { Err(format!("{} are there", left.len())) }
    })
    .await?;
    spec["adoptExisting"] = json!(true);
    let begun = Instant::now();
    space.apply(spec)?;
    space.settled(claims.len()).await?;
    let (next, by) = leads(space, token).await?;
    let took = seconds(begun);
    if space.claims().await? != claims {
        return Err("the volumes are others".to_owned());
    }
    let now = space.raft().await?["status"]["birth"]["clusterId"].take();
    if !group.is_string() || now != group {
        return Err(format!("the volumes have group {group}, and this is {now}"));
    }
    let held = load::verify(space, &names, "demo-0").await?;
    rights::enough(space.stage, &rights::calls(space.stage, before)?).await?;
    told.push(format!(
        "on {} kept volumes {by} leads after {took:.1} s ({token} < {next}), {held} names held",
        claims.len()
    ));
    Ok(())
}

/// Without an operator the pods go on, and elect; the next one takes them over.
async fn uninstall(space: &Space<'_>, told: &mut Vec<String>) -> Result<(), String> {
    let stage = space.stage;
    let before = space.pods().await?;
    let uid = || space.kubectl(&["get", "raft", NAME, "-o", "jsonpath={.metadata.uid}"]);
    let raft = uid()?;
    stage.helm(&["uninstall", RELEASE, "-n", SYSTEM])?;
    until("the operator is gone", PATIENCE, async || {
        let left = stage.kubectl(&["-n", SYSTEM, "get", "deploy,pod", "-o", "name"])?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await?;
    stage.kubectl(&["get", "crd", DEFINITION])?;
    same(&before, &space.pods().await?)?;
    let (token, name) = leads(space, 0).await?;
    kill(application_of(&space.pod(&name).await?)?)?;
    let begun = Instant::now();
    let (next, by) = leads(space, token).await?;
    let led = seconds(begun);
    let others: Vec<Pod> = before.into_iter().filter(|pod| pod.name != name).collect();
    // One that ends while its roles go may have been forbidden its last words.
    let before = rights::calls(stage, 0)?.len();
    let begun = Instant::now();
    release(stage, "install", &[])?;
    space.scale(5)?;
    space.settled(5).await?;
    let took = seconds(begun);
    same(&others, &space.pods().await?)?;
    if uid()? != raft {
        return Err("the RaftCluster is another one".to_owned());
    }
    rights::enough(stage, &rights::calls(stage, before)?).await?;
    told.push(format!(
        "uninstalled: pods run on, {name} killed and {by} leads {led:.1} s later ({token} < \
         {next}); installed again: 3→5 {took:.1} s"
    ));
    Ok(())
}

/// The whole life of a release.
pub(super) async fn whole(stage: &Stage) -> Result<String, String> {
    installed(stage).await?;
    let mut told = Vec::new();
    let space = examples(stage, &mut told).await?;
    upgrade(&space, &mut told).await?;
    changes(&space, &mut told).await?;
    renewed(&space, &mut told).await?;
    let calls = rights::calls(stage, 0)?;
    let used = rights::least(stage, &calls).await?;
    told.push(format!("{} calls of the operator, 0 forbidden, {used} rights used", calls.len()));
    uninstall(&space, &mut told).await?;
    kept(&space, &mut told).await?;
    Ok(told.join("; "))
}
