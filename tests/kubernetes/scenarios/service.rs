//! The Service that leads to whoever holds an election.

use super::seconds;
use super::space::{PATIENCE, Space, application_of, kill, managed, until};
use super::stage::Stage;
use serde_json::{Value, json};
use std::time::Instant;

/// It leads to the leading application's pod, follows when another one leads, and goes when it is
/// not wanted any more.
pub(super) async fn leader(stage: &Stage) -> Result<String, String> {
    let mut spec = managed(3);
    spec["leaderService"] =
        json!({"election": "demo", "ports": [{"port": 80, "targetPort": 8080}]});
    let space = Space::settled_new(stage, "service", spec).await?;
    let (token, name) = until("an application leads", PATIENCE, async || {
        space.said().await?.pop().ok_or_else(|| "nobody said so".to_owned())
    })
    .await?;
    until("the Service leads to it", PATIENCE, async || leads_to(&space, &name).await).await?;
    kill(application_of(&space.pod(&name).await?)?)?;
    let (next, begun) = until("another application leads", PATIENCE, async || {
        let last = space.said().await?.pop().filter(|(last, _)| *last > token);
        last.map(|(_, name)| (name, Instant::now())).ok_or_else(|| "not yet".to_owned())
    })
    .await?;
    until("the Service follows", PATIENCE, async || leads_to(&space, &next).await).await?;
    let followed = seconds(begun);
    space.apply(managed(3))?;
    until("the Service is gone", PATIENCE, async || {
        let left = [service(&space).await?, slice(&space).await?];
        if left.iter().all(Option::is_none) { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await?;
    space.settled(3).await?;
    Ok(format!("{name}, then {next}: followed {followed:.1} s after its application said so"))
}

async fn service(space: &Space<'_>) -> Result<Option<Value>, String> {
    space.stage.get(&format!("/api/v1/namespaces/{}/services/demo-leader", space.namespace)).await
}

async fn slice(space: &Space<'_>) -> Result<Option<Value>, String> {
    let of = &space.namespace;
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{of}/endpointslices/demo-leader");
    space.stage.get(&path).await
}

async fn leads_to(space: &Space<'_>, name: &str) -> Result<(), String> {
    let pod = space.pod(name).await?;
    let slice = slice(space).await?.unwrap_or_default();
    let to = &slice["endpoints"][0];
    let right = to["targetRef"]["uid"] == pod.uid
        && to["addresses"][0] == pod.object["status"]["podIP"]
        && slice["ports"][0]["port"] == 8080;
    if right && service(space).await?.is_some() { Ok(()) } else { Err(slice.to_string()) }
}
