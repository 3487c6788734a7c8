//! What is killed, deleted or cut off, while every pod's clients go on.

use super::load::{Load, PLANNED_MAX, ms};
use super::seconds;
use super::space::{
    PATIENCE, Pod, Space, application_of, kill, managed, sidecar_of, standalone, until,
};
use super::stage::Stage;
use quorate_load::boottime_ns;
use std::time::Instant;

/// The group is without a leader for no longer than this after its sidecar was killed, in ns.
pub(super) const FAILOVER_MAX: u64 = 1_500_000_000;
/// And half of the times no longer than this.
const FAILOVER_P50: u64 = 50_000_000;
/// A leader whose connections do not end is missed after twice the election timeout at most, which
/// is 1.6 s; and then there is a vote. In ns.
pub(super) const SILENT_MAX: u64 = 2_000_000_000;
/// How often the leader is killed; an odd number.
const KILLS: usize = 7;
/// Samples of a machine that stood still are taken again, so often.
const AGAIN_MAX: usize = 3;
/// An end that the sidecar sees frees the name within this, in s, with all that reading logs
/// takes; else a TTL passes.
const SEEN_MAX: f64 = 3.0;

/// The Raft leader's sidecar is killed; gives the group's gap, in ns.
pub(super) async fn kill_leader(
    space: &Space<'_>,
    load: &Load<'_>,
) -> Result<(String, u64), String> {
    let leader = space.some_leader().await?;
    let pod = space.pod(&leader).await?;
    let restarts = pod.restarts("quorate");
    let pid = sidecar_of(&pod.uid)?;
    let from = boottime_ns();
    kill(pid)?;
    load.succeed().await?;
    let gap = load.gap(from, &[&leader]);
    until("the container is started again", PATIENCE, async || {
        let now = space.pod(&leader).await?.restarts("quorate");
        if now > restarts { Ok(()) } else { Err(format!("it was started {now} times")) }
    })
    .await?;
    space.settled(3).await?;
    Ok((leader, gap))
}

/// [`KILLS`] times.
pub(super) async fn leader_killed(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "failover", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    let (mut gaps, mut again) = (Vec::new(), 0);
    while gaps.len() < KILLS {
        load.keep("demo-0", 10).await?;
        let from = boottime_ns();
        let (_, gap) = kill_leader(&space, &load).await?;
        let slow = gap > FAILOVER_P50 && load.stalled(from);
        if slow && again < AGAIN_MAX {
            again += 1;
            continue;
        }
        gaps.push(gap);
    }
    gaps.sort_unstable();
    let (p50, max) = (gaps[KILLS / 2], gaps[KILLS - 1]);
    if p50 > FAILOVER_P50 || max > FAILOVER_MAX {
        return Err(format!("group gap p50 {}, max {}: {gaps:?}", ms(p50), ms(max)));
    }
    let checked = load.finish().await?;
    let again = format!("{again} taken again for a stalled machine");
    Ok(format!(
        "group gap p50 {}, max {}; {again}; {checked} acknowledged, 0 lost",
        ms(p50),
        ms(max)
    ))
}

/// The leading application is killed with its wrapper: another leads, with a higher token.
pub(super) async fn application(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "application", managed(3)).await?;
    let load = Load::start(&space).await?;
    let (token, name) = until("an application leads", PATIENCE, async || {
        space.said().await?.pop().ok_or_else(|| "nobody said so".to_owned())
    })
    .await?;
    let pod = space.pod(&name).await?;
    let (from, begun) = (boottime_ns(), Instant::now());
    kill(application_of(&pod)?)?;
    let (next, by) = until("an application leads under a higher token", PATIENCE, async || {
        let last = space.said().await?.pop().filter(|(last, _)| *last > token);
        last.ok_or_else(|| format!("the last is {token}"))
    })
    .await?;
    let led = seconds(begun);
    if led > SEEN_MAX {
        return Err(format!("{by} led {led:.1} s later: nobody saw {name} end"));
    }
    space.settled(3).await?;
    let sidecar = space.pod(&name).await?.restarts("quorate");
    if sidecar != pod.restarts("quorate") {
        return Err("the sidecar was started again, too".to_owned());
    }
    load.succeed().await?;
    load.none_failed(from, &[])?;
    let gap = load.gap(from, &[]);
    let checked = load.finish().await?;
    Ok(format!(
        "{name} killed, {by} leads after {led:.1} s ({token} < {next}); group gap {}; \
         {checked} acknowledged, 0 lost",
        ms(gap)
    ))
}

/// Waits until another pod has a deleted one's name, and all is well.
async fn replaced(space: &Space<'_>, old: &Pod) -> Result<(), String> {
    until("a new pod has the name", PATIENCE, async || {
        let new = space.pod(&old.name).await?;
        if new.uid == old.uid { Err("the old one is there".to_owned()) } else { Ok(()) }
    })
    .await?;
    space.settled(3).await
}

/// The leader's pod is deleted, with grace and without.
pub(super) async fn pod_deleted(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "deleted", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    let mut told = Vec::new();
    let ways: [(&str, &[&str], u64); 2] = [
        ("with grace", &[], PLANNED_MAX),
        ("without", &["--grace-period=0", "--force"], FAILOVER_MAX),
    ];
    for (way, flags, most) in ways {
        load.keep("demo-0", 10).await?;
        let leader = space.some_leader().await?;
        let pod = space.pod(&leader).await?;
        let (from, begun) = (boottime_ns(), Instant::now());
        space.kubectl(&[&["delete", "pod", &leader, "--wait=false"], flags].concat())?;
        replaced(&space, &pod).await?;
        load.succeed().await?;
        load.none_failed(from, &[&leader]).map_err(|why| format!("{way}: {why}"))?;
        let (gap, took) = (load.gap(from, &[&leader]), seconds(begun));
        if gap > most {
            return Err(format!("{way}: a gap of {} at other pods", ms(gap)));
        }
        told.push(format!("{way}: gap {}, back after {took:.1} s", ms(gap)));
    }
    let checked = load.finish().await?;
    Ok(format!("{}; {checked} acknowledged, 0 lost", told.join("; ")))
}

/// A claim is deleted, and its pod: a new member takes the place.
pub(super) async fn claim_deleted(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "claim", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let member = async || {
        let raft = space.raft().await?;
        let members = raft["status"]["members"].as_array().cloned().unwrap_or_default();
        let of = members.iter().find(|one| one["name"] == "demo-1" && one["role"] == "Voter");
        let id = of.and_then(|one| one["memberId"].as_str().map(str::to_owned));
        id.ok_or_else(|| format!("demo-1 does not vote: {members:?}"))
    };
    let before = member().await?;
    let pod = space.pod("demo-1").await?;
    load.retire(&["demo-1".to_owned()], "demo-0").await?;
    let (from, begun) = (boottime_ns(), Instant::now());
    space.kubectl(&["delete", "pvc", "quorate-log-demo-1", "--wait=false"])?;
    space.kubectl(&["delete", "pod", "demo-1", "--wait=false"])?;
    replaced(&space, &pod).await?;
    until("another member votes in its place", PATIENCE, async || {
        let now = member().await?;
        if now == before { Err("it is the old one".to_owned()) } else { Ok(()) }
    })
    .await?;
    space.settled(3).await?;
    let took = seconds(begun);
    load.succeed().await?;
    load.none_failed(from, &[])?;
    let gap = load.gap(from, &[]);
    let checked = load.finish().await?;
    Ok(format!("3 voters after {took:.1} s, gap {}; {checked} acknowledged, 0 lost", ms(gap)))
}

/// All claims are deleted at once, by somebody who is in a hurry: the group moves, member by
/// member, onto new volumes.
pub(super) async fn all_claims(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "claims", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    load.keep("demo-1", 20).await?;
    let before = space.claims().await?;
    let begun = Instant::now();
    space.kubectl(&["delete", "pvc", "--all", "--wait=false"])?;
    until("all volumes are new", PATIENCE * 2, async || {
        let now = space.claims().await?;
        let old = now.iter().filter(|claim| before.contains(claim)).count();
        if old == 0 && now.len() == 3 { Ok(()) } else { Err(format!("{now:?}, {old} old")) }
    })
    .await?;
    space.settled(3).await?;
    let took = seconds(begun);
    load.succeed().await?;
    let checked = load.finish().await?;
    Ok(format!("3 voters on new volumes after {took:.1} s; {checked} acknowledged, 0 lost"))
}

/// All pods are deleted at once.
pub(super) async fn all_deleted(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "all", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    load.keep("demo-1", 20).await?;
    let before = space.pods().await?;
    let (from, begun) = (boottime_ns(), Instant::now());
    space.kubectl(&["delete", "pods", "--all", "--wait=false"])?;
    for pod in &before {
        replaced(&space, pod).await?;
    }
    load.succeed().await?;
    let (took, gap) = (seconds(begun), load.gap(from, &[]));
    let checked = load.finish().await?;
    Ok(format!("Ready after {took:.1} s, gap {}; {checked} acknowledged, 0 lost", ms(gap)))
}
