//! The control plane and the operator fail; and what the operator writes when nothing happens.

use super::faults::FAILOVER_MAX;
use super::load::{Load, ms};
use super::seconds;
use super::space::{NAME, PATIENCE, Space, kill, sidecar_of, standalone, until};
use super::stage::{ACCOUNT, Stage};
use crate::control::audit_log;
use quorate_load::boottime_ns;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The API server stands still, and the Raft leader's sidecar is killed meanwhile.
pub(super) async fn server_stopped(stage: &Stage) -> Result<String, String> {
    without_server(stage, "server", async |gone| stage.freeze(gone)).await
}

/// The same with one that is killed, and started again.
pub(super) async fn server_killed(stage: &Stage) -> Result<String, String> {
    let end =
        async |gone| if gone { stage.kill_server().await } else { stage.start_server().await };
    without_server(stage, "server-killed", end).await
}

/// With the API server and without, the leader's sidecar is killed so often; an odd number.
const FAILOVERS: usize = 3;
/// Half of them take no longer, in ns: others saw the connection end, and waited for no timeout.
const SEEN_MAX: u64 = 500_000_000;
const STOPPED: Duration = Duration::from_secs(60);

/// Kills whoever leads, again and again; gives the median gap at the other pods, in ns.
async fn failovers(
    space: &Space<'_>,
    load: &Load<'_>,
    uids: &BTreeMap<String, String>,
) -> Result<u64, String> {
    let mut gaps = Vec::new();
    for _ in 0..FAILOVERS {
        let (from, leader) = (boottime_ns(), space.some_leader().await?);
        let uid = &uids[&leader];
        let former = sidecar_of(uid)?;
        kill(former)?;
        // Its kubelet starts it again by itself; two that are away together are a lost majority.
        until("another sidecar runs there", PATIENCE, async || {
            let now = sidecar_of(uid)?;
            if now == former { Err(format!("it is {former} still")) } else { Ok(()) }
        })
        .await?;
        load.succeed().await?;
        load.none_failed(from, &[&leader])?;
        gaps.push(load.gap(from, &[&leader]));
    }
    gaps.sort_unstable();
    let (half, most) = (gaps[FAILOVERS / 2], gaps[FAILOVERS - 1]);
    if half > SEEN_MAX || most > FAILOVER_MAX {
        let gaps: Vec<String> = gaps.into_iter().map(ms).collect();
        return Err(format!("failovers took {} at other pods", gaps.join(", ")));
    }
    Ok(half)
}

/// `end` takes the API server away, and brings it back.
async fn without_server(
    stage: &Stage,
    name: &str,
    end: impl AsyncFn(bool) -> Result<(), String>,
) -> Result<String, String> {
    let space = Space::settled_new(stage, name, standalone(3)).await?;
    // Now: without the API server nobody tells.
    let pods = space.pods().await?.into_iter();
    let uids = pods.map(|pod| (pod.name, pod.uid)).collect();
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let with = failovers(&space, &load, &uids).await?;
    let (begun, from, before) = (Instant::now(), boottime_ns(), load.operations());
    end(true).await?;
    let held = async {
        tokio::time::sleep(STOPPED / 4).await;
        load.none_failed(from, &[])?;
        let without = failovers(&space, &load, &uids).await?;
        let from = boottime_ns();
        tokio::time::sleep(STOPPED.saturating_sub(begun.elapsed())).await;
        load.succeed().await?;
        load.none_failed(from, &[])?;
        Ok::<_, String>(without)
    }
    .await;
    let (took, done) = (begun.elapsed().as_secs(), load.operations() - before);
    end(false).await?;
    let without = held?;
    let begun = Instant::now();
    space.settled(3).await?;
    let ready = seconds(begun);
    let checked = load.finish().await?;
    Ok(format!(
        "{took} s without it: {done} operations, 0 failed beside killed sidecars, failover gap p50 \
         {} ({} with it); Ready {ready:.1} s after; {checked} acknowledged, 0 lost",
        ms(without),
        ms(with)
    ))
}

/// A second operator waits, writes nothing, and takes over when the first ends.
pub(super) async fn two_operators(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "two", standalone(1)).await?;
    let second = stage.second_operator()?;
    let log = second.start.log.clone();
    let said = || std::fs::read_to_string(&log).unwrap_or_default();
    until("the second operator waits", PATIENCE, async || {
        if said().contains("waiting for the Lease") { Ok(()) } else { Err(said()) }
    })
    .await?;
    space.scale(3)?;
    space.settled(3).await?;
    if said().lines().count() != 1 {
        return Err(format!("the second operator did more than wait: {}", said()));
    }
    let begun = Instant::now();
    stage.hand_over(second).await?;
    until("the second operator works", PATIENCE, async || {
        if said().contains("works") { Ok(()) } else { Err(said()) }
    })
    .await?;
    let took = seconds(begun);
    space.scale(1)?;
    space.settled(1).await?;
    let acted = said().contains(&format!("{NAME}: "));
    if !acted {
        return Err("the change was not the second operator's".to_owned());
    }
    Ok(format!("the second waited, and took over after {took:.1} s"))
}

/// A group that nobody touches, beside the scenarios.
pub(super) struct AtRest {
    since: Instant,
    /// What the audit log had of the operator's writes.
    writes: usize,
}

/// The operator renews its Lease no more often, in seconds.
const RENEWED_S: u64 = 10;
/// Where it is.
const REST: &str = "rest";
/// How long it is looked at.
const REST_SPAN: Duration = Duration::from_secs(180);
/// What ended a moment ago may have echoes: it is at rest once a while brought no write.
const QUIET: Duration = Duration::from_secs(5);

/// Makes it, and waits until it is at rest.
pub(super) async fn rest(stage: &Stage) -> Result<AtRest, String> {
    let space = Space::settled_new(stage, REST, standalone(3)).await?;
    until("no more writes come", PATIENCE, async || {
        let before = writes(stage, 0)?.len();
        tokio::time::sleep(QUIET).await;
        let new = writes(stage, before)?;
        let own = own(&new);
        if own.is_empty() { Ok(()) } else { Err(own.join(", ")) }
    })
    .await?;
    // It outlives the scenario that comes next.
    stage.keep(&space.namespace);
    Ok(AtRest { since: Instant::now(), writes: writes(stage, 0)?.len() })
}

/// While other groups came and went, the operator wrote nothing about the one at rest; and of its
/// Lease no more than it must.
pub(super) async fn at_rest(stage: &Stage) -> Result<String, String> {
    let at_rest = stage.at_rest.take().ok_or("there is no group at rest")??;
    tokio::time::sleep(REST_SPAN.saturating_sub(at_rest.since.elapsed())).await;
    let new = writes(stage, at_rest.writes)?;
    let seconds = at_rest.since.elapsed().as_secs();
    let own = own(&new);
    if !own.is_empty() {
        return Err(format!("at rest the operator wrote {}", own.join(", ")));
    }
    let leases = new.iter().filter(|write| *write == LEASE).count();
    let most = usize::try_from(seconds / RENEWED_S + 1).unwrap_or(usize::MAX);
    if leases == 0 || leases > most {
        return Err(format!("{leases} writes of the Lease in {seconds} s"));
    }
    stage.kubectl(&["delete", "namespace", REST, "--wait=false"])?;
    let others = new.len() - leases;
    Ok(format!("{seconds} s: 0 writes, {leases} of the Lease; {others} about other groups"))
}

/// The operator's own, in its namespace.
const LEASE: &str = "update leases quorate-system/quorate-operator";

/// Writes of the operator in the audit log, without the first so many: verb, kind and name.
fn writes(stage: &Stage, after: usize) -> Result<Vec<String>, String> {
    let file = audit_log(&stage.instance);
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let reads = |line: &Value| ["get", "list", "watch"].iter().any(|verb| line["verb"] == *verb);
    let own = lines.filter(|line| line["user"]["username"] == ACCOUNT && !reads(line));
    let told = own.map(|line| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = &line["objectRef"];
        let (kind, part) = (text(&of["resource"]), text(&of["subresource"]));
        let (verb, name) = (text(&line["verb"]), text(&of["name"]));
        format!("{verb} {kind} {}/{name}{part}", text(&of["namespace"]))
    });
    Ok(told.skip(after).collect())
}

/// About the group at rest.
fn own(writes: &[String]) -> Vec<String> {
    let of = format!(" {REST}/");
    writes.iter().filter(|write| write.contains(&of)).cloned().collect()
}
