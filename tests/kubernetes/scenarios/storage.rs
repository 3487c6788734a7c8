//! The volumes of the members grow while the group works.

use super::load::Load;
use super::seconds;
use super::space::{NAME, PATIENCE, Space, standalone, until};
use super::stage::Stage;
use quorate_load::boottime_ns;
use serde_json::{Value, json};
use std::time::Instant;

/// Twice the size; a pod that comes later has as much, and no container ends for it.
pub(super) async fn grown(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "grown", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let before = containers(&space).await?;
    let (from, begun) = (boottime_ns(), Instant::now());
    grow(&space, "400Mi")?;
    all_are(&space, 3, "400Mi").await?;
    let took = seconds(begun);
    space.scale(4)?;
    space.settled(4).await?;
    all_are(&space, 4, "400Mi").await?;
    let cost = load.planned(from, &[])?;
    let after = containers(&space).await?;
    if after[..3] != before[..] {
        return Err(format!("sidecars started again: {before:?}, then {after:?}"));
    }
    let checked = load.finish().await?;
    Ok(format!(
        "three volumes of 200Mi had 400Mi after {took:.1} s, and a fourth pod's; no sidecar began \
         again, {cost}; {checked} acknowledged, 0 failed, 0 lost"
    ))
}

/// `kubectl patch`, as a user does.
pub(super) fn grow(space: &Space<'_>, size: &str) -> Result<(), String> {
    let patch = json!({"spec": {"storage": {"size": size}}}).to_string();
    space.kubectl(&["patch", "raft", NAME, "--type=merge", "-p", &patch]).map(drop)
}

/// Waits until so many claims have volumes of this size.
pub(super) async fn all_are(space: &Space<'_>, count: usize, size: &str) -> Result<(), String> {
    until("the volumes have the new size", PATIENCE, async || {
        let claims = space.list("persistentvolumeclaims").await?;
        let has = |claim: &Value| claim["status"]["capacity"]["storage"].clone();
        let sizes: Vec<Value> = claims.iter().map(has).collect();
        let good = sizes.len() == count && sizes.iter().all(|now| now == size);
        if good { Ok(()) } else { Err(format!("they have {sizes:?}")) }
    })
    .await
}

/// The sidecars' containers, by pod.
async fn containers(space: &Space<'_>) -> Result<Vec<String>, String> {
    let mut pods = space.pods().await?;
    pods.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pods.iter().map(|pod| pod.container("quorate")["containerID"].to_string()).collect())
}
