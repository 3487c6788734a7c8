//! A node that does not come back, and a spare that takes the vote.

use super::faults::SILENT_MAX;
use super::load::{Load, ms};
use super::seconds;
use super::space::{PATIENCE, Pod, Space, holds, standalone, until};
use super::stage::Stage;
use crate::network;
use quorate_load::boottime_ns;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Instant;

/// After so long the spare takes the place, in s: the least that the operator does.
const UNREACHABLE_S: u64 = 10;
/// By which an administrator says that a node's pods do not run any more.
const OUT: &str = "node.kubernetes.io/out-of-service";

async fn voters(space: &Space<'_>) -> Result<BTreeSet<String>, String> {
    let raft = space.raft().await?;
    let members = raft["status"]["members"].as_array().cloned().unwrap_or_default();
    let voters = members.iter().filter(|one| one["role"] == "Voter");
    Ok(voters.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect())
}

/// A pod that votes and has a node to itself.
async fn alone(space: &Space<'_>) -> Result<Pod, String> {
    let (voters, pods) = (voters(space).await?, space.pods().await?);
    let has_it = |pod: &&Pod| {
        let others = pods.iter().filter(|other| other.node == pod.node);
        voters.contains(&pod.name) && others.count() == 1
    };
    let found = pods.iter().find(has_it).cloned();
    found.ok_or_else(|| format!("no voter has a node to itself: {voters:?}"))
}

/// The spare votes, and the pod comes back on another node with another volume.
async fn healed(space: &Space<'_>, lost: &Pod) -> Result<(f64, f64), String> {
    let begun = Instant::now();
    until("the spare votes in its place", PATIENCE, async || {
        let now = voters(space).await?;
        if now.len() == 3 && !now.contains(&lost.name) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await?;
    let voted = seconds(begun);
    let taint = format!("{OUT}=nodeshutdown:NoExecute");
    space.stage.kubectl(&["taint", "node", &lost.node, &taint])?;
    let claim = format!("quorate-log-{}", lost.name);
    space.kubectl(&["delete", "pvc", &claim, "--wait=false"])?;
    until("its pod is on another node", PATIENCE, async || {
        let now = space.pod(&lost.name).await?;
        let moved = now.uid != lost.uid && !now.node.is_empty() && now.node != lost.node;
        if moved { Ok(()) } else { Err(format!("it is on {:?}", now.node)) }
    })
    .await?;
    space.settled(4).await?;
    Ok((voted, seconds(begun)))
}

/// The node is there again, as a new machine would be.
async fn restore(stage: &Stage, node: &str, number: u8) -> Result<(), String> {
    network::link(&stage.instance, number, true)?;
    // It is there only if all went well so far.
    let _ = stage.kubectl(&["taint", "node", node, &format!("{OUT}-")]);
    back(stage, node).await
}

/// Waits until pods may go to a node again that was away.
pub(super) async fn back(stage: &Stage, node: &str) -> Result<(), String> {
    until("the node is back", PATIENCE, async || {
        let found = stage.get(&format!("/api/v1/nodes/{node}")).await?.unwrap_or_default();
        let taints = &found["spec"]["taints"];
        match holds(&found, "Ready") && taints.is_null() {
            true => Ok(()),
            false => Err(format!("{node} is not Ready, or has taints: {taints}")),
        }
    })
    .await
}

/// See the module.
pub(super) async fn node(stage: &Stage) -> Result<String, String> {
    let mut spec = standalone(4);
    spec["repair"] = json!({"unreachableSeconds": UNREACHABLE_S});
    let space = Space::settled_new(stage, "gone", spec).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let lost = alone(&space).await?;
    let number = lost.node_number()?;
    let ask = if lost.name == "demo-0" { "demo-1" } else { "demo-0" };
    load.retire(std::slice::from_ref(&lost.name), ask).await?;
    let from = boottime_ns();
    network::link(&stage.instance, number, false)?;
    let healed = healed(&space, &lost).await;
    let held = load.none_failed(from, &[]);
    let gap = load.gap(from, &[]);
    restore(stage, &lost.node, number).await?;
    let (voted, whole) = healed?;
    held?;
    if gap > SILENT_MAX {
        return Err(format!("the others had a gap of {}", ms(gap)));
    }
    space.settled(4).await?;
    load.follow().await?;
    let checked = load.finish().await?;
    Ok(format!(
        "{} gone for good: the spare votes after {voted:.1} s, four pods after {whole:.1} s, gap \
         of the others {}; {checked} acknowledged, 0 lost",
        lost.node,
        ms(gap)
    ))
}
