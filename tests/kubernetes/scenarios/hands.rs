//! What people do to a RaftCluster's objects, and to the nodes, beside its own resource.

use super::load::{Load, PLANNED_MAX, ms};
use super::rolls::Roll;
use super::seconds;
use super::space::{NAME, PATIENCE, Pod, Space, standalone, until};
use super::stage::Stage;
use quorate_load::boottime_ns;
use serde_json::json;
use std::time::Instant;

/// Somebody edits what is the operator's: everything comes back as the resource wants it.
pub(super) async fn hostile(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "hostile", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    load.keep("demo-2", 20).await?;
    let begun = Instant::now();
    let removed = |kind: &str| space.kubectl(&["delete", kind, NAME, "--wait=false"]).map(drop);
    removed("pdb")?;
    space.settled(3).await?;
    until("the budget is back", PATIENCE, async || space.kubectl(&["get", "pdb", NAME])).await?;
    let grace = "{\"spec\":{\"template\":{\"spec\":{\"terminationGracePeriodSeconds\":7}}}}";
    space.kubectl(&["patch", "statefulset", NAME, "--type=merge", "-p", grace])?;
    let place = "jsonpath={.spec.template.spec.terminationGracePeriodSeconds}";
    until("the template is as before", PATIENCE, async || {
        let now = space.kubectl(&["get", "statefulset", NAME, "-o", place])?;
        if now == "30" { Ok(()) } else { Err(now) }
    })
    .await?;
    // A majority is away for as long as its pods take to come back.
    space.kubectl(&["scale", "statefulset", NAME, "--replicas=1"])?;
    until("three pods are wanted again", PATIENCE, async || {
        let now =
            space.kubectl(&["get", "statefulset", NAME, "-o", "jsonpath={.spec.replicas}"])?;
        if now == "3" { Ok(()) } else { Err(now) }
    })
    .await?;
    space.settled(3).await?;
    // Its pods are kept for the set that comes after it.
    let set = || space.kubectl(&["get", "sts", NAME, "-o", "jsonpath={.metadata.uid}"]);
    let former = set()?;
    // kubectl would wait for a name to be free that the operator takes at once: once, for ever.
    space.kubectl(&["delete", "sts", NAME, "--cascade=orphan", "--wait=false"])?;
    until("there is another set", PATIENCE, async || {
        if set()? == former { Err("it is the former".to_owned()) } else { Ok(()) }
    })
    .await?;
    space.settled(3).await?;
    let took = seconds(begun);
    load.succeed().await?;
    let claims = space.claims().await?;
    if claims.len() != 3 {
        return Err(format!("each of three members has a disk, and there are {claims:?}"));
    }
    let checked = load.finish().await?;
    Ok(format!(
        "budget, template, size and the set itself were back after {took:.1} s; {checked} \
         acknowledged, 0 lost"
    ))
}

/// Each node is drained in turn, as for its maintenance: one member is away at a time.
pub(super) async fn drain(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "drained", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let mut told = Vec::new();
    for pod in space.pods().await? {
        let (from, begun) = (boottime_ns(), Instant::now());
        let drained = drain_one(&space, &pod.node).await;
        stage.kubectl(&["uncordon", &pod.node])?;
        drained?;
        space.settled(3).await?;
        load.succeed().await?;
        let cost =
            load.planned(from, &[&pod.name]).map_err(|why| format!("{}: {why}", pod.node))?;
        told.push(format!("{} {:.1} s {cost}", pod.node, seconds(begun)));
    }
    told.push(drain_in_a_roll(&space, &load).await?);
    let checked = load.finish().await?;
    Ok(format!("{}; {checked} acknowledged, 0 lost", told.join(", ")))
}

/// The same while the operator exchanges the pods: still one is away at a time.
async fn drain_in_a_roll(space: &Space<'_>, load: &Load<'_>) -> Result<String, String> {
    let begun = Instant::now();
    let leader = space.pod(&space.some_leader().await?).await?;
    let mut roll = Roll::new(space).await?;
    let restart = r#"{"spec":{"restartedAt":"in a roll"}}"#;
    space.kubectl(&["patch", "raft", NAME, "--type=merge", "-p", restart])?;
    roll.begun(space, load).await?;
    // The operator stands still meanwhile: else it may be the quicker one at every pod. To the
    // leader it would come last.
    space.stage.freeze_operator(true)?;
    let evicted = evict_all(space, load, &mut roll, &leader.node).await;
    space.stage.freeze_operator(false)?;
    space.stage.kubectl(&["uncordon", &leader.node])?;
    if evicted? == 0 {
        return Err("no pod that was to go was evicted".to_owned());
    }
    let numbers = space.stage.instance.node_numbers();
    for node in numbers.map(|number| format!("node{number}")).filter(|n| *n != leader.node) {
        let evicted = evict_all(space, load, &mut roll, &node).await;
        space.stage.kubectl(&["uncordon", &node])?;
        evicted?;
    }
    roll.whole(space, load).await?;
    load.succeed().await?;
    if roll.gap > PLANNED_MAX {
        return Err(format!("a gap of {} at pods whose turn it was not", ms(roll.gap)));
    }
    Ok(format!("all in a roll {:.1} s, gap of the others {}", seconds(begun), ms(roll.gap)))
}

/// Waits until no pod is on a node that takes no new ones. Gives how many that were to go in the
/// roll were evicted.
async fn evict_all(
    space: &Space<'_>,
    load: &Load<'_>,
    roll: &mut Roll,
    node: &str,
) -> Result<usize, String> {
    space.stage.kubectl(&["cordon", node])?;
    let mut evicted = 0;
    roll.watch(("the node is drained", PATIENCE), (space, load), async |roll, pods| {
        let left: Vec<&Pod> = pods.iter().filter(|pod| pod.node == node).collect();
        for pod in left.iter().filter(|pod| !pod.deleting) {
            // The budget is closed while another is away: then it is asked again.
            evict(space, pod)?;
            evicted += usize::from(roll.is_old(pod));
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{} are there", left.len())) }
    })
    .await?;
    Ok(evicted)
}

/// What `kubectl drain` asks for each pod, and for none that comes after it; drain itself would
/// stand still for 5 s where it is refused.
fn evict(space: &Space<'_>, pod: &Pod) -> Result<(), String> {
    let path = format!("/api/v1/namespaces/{}/pods/{}/eviction", space.namespace, pod.name);
    let object = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod.name},
        "deleteOptions": {"preconditions": {"uid": pod.uid}},
    });
    space.stage.post(&path, &object).map(drop)
}

async fn drain_one(space: &Space<'_>, node: &str) -> Result<(), String> {
    space.stage.kubectl(&["cordon", node])?;
    let pods: Vec<_> = space.pods().await?.into_iter().filter(|pod| pod.node == node).collect();
    let flags = ["--delete-emptydir-data", "--ignore-daemonsets", "--timeout=60s"];
    let selector = format!("--pod-selector=quorate.dev/cluster={NAME}");
    let words = [&["drain", node], &flags[..], &[selector.as_str()]].concat();
    // kubectl waits for a budget that is closed just now; what it is refused, it asks again.
    space.stage.kubectl(&words)?;
    for pod in pods {
        until("the pod has left the node", PATIENCE, async || {
            let now = space.pod(&pod.name).await?;
            if now.uid == pod.uid { Err(format!("{} is there", pod.name)) } else { Ok(()) }
        })
        .await?;
    }
    Ok(())
}
