//! Fifty groups, and what the operator costs with them.

use super::seconds;
use super::space::{Space, holds, standalone, until};
use super::stage::Stage;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CLUSTERS: usize = 50;
/// Two cores start fifty pods within this.
const STARTED_MAX: Duration = Duration::from_secs(300);
const LOOKED_MAX: Duration = Duration::from_secs(180);
/// Of the operator's memory, in bytes.
const MEMORY_MAX: f64 = 40.0 * 1_024.0 * 1_024.0;
/// Of CPU, for one pass, in s.
const PASS_MAX: f64 = 0.020;

async fn ready(space: &Space<'_>) -> Result<(), String> {
    let of = &space.namespace;
    let path = format!("/apis/quorate.dev/v1alpha1/namespaces/{of}/raftclusters");
    let list = space.stage.get(&path).await?.unwrap_or_default();
    let all = list["items"].as_array().cloned().unwrap_or_default();
    let ready = all.iter().filter(|one: &&Value| holds(one, "Ready")).count();
    if ready == CLUSTERS { Ok(()) } else { Err(format!("{ready} of {CLUSTERS} are Ready")) }
}

/// See the module.
pub(super) async fn clusters(stage: &Stage) -> Result<String, String> {
    let space = Space::of(stage, "fifty")?;
    let object = |number: usize| {
        json!({
            "apiVersion": "quorate.dev/v1alpha1",
            "kind": "RaftCluster",
            "metadata": {"name": format!("group-{number}"), "namespace": space.namespace},
            "spec": standalone(1),
        })
    };
    let items: Vec<Value> = (0..CLUSTERS).map(object).collect();
    let begun = Instant::now();
    stage.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}))?;
    until("all groups are Ready", STARTED_MAX, async || ready(&space).await).await?;
    let started = seconds(begun);
    let tell = |name: &str| stage.operator_metric(name);
    let (passes, cpu) =
        (tell("quorate_operator_passes_total")?, tell("process_cpu_seconds_total")?);
    let wanted = f64::from(u32::try_from(CLUSTERS).map_err(|e| e.to_string())?);
    let looked = until("each was looked at again", LOOKED_MAX, async || {
        let more = tell("quorate_operator_passes_total")? - passes;
        if more >= wanted { Ok(more) } else { Err(format!("{more} passes")) }
    })
    .await?;
    let a_pass = (tell("process_cpu_seconds_total")? - cpu) / looked;
    let memory = tell("process_resident_memory_bytes")?;
    if memory > MEMORY_MAX || a_pass > PASS_MAX {
        return Err(format!("a pass took {a_pass:.4} s of CPU, and it has {memory} bytes"));
    }
    Ok(format!(
        "{CLUSTERS} groups Ready after {started:.1} s; a pass {:.1} ms of CPU over {looked} \
         passes; the operator has {:.1} MiB",
        a_pass * 1_000.0,
        memory / 1_048_576.0
    ))
}
