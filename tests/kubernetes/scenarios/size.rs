//! From nothing to a group, and every size that it can have.

use super::faults::FAILOVER_MAX;
use super::load::{Load, ms};
use super::seconds;
use super::space::{PATIENCE, Space, application_of, kill, managed, sidecar_of, standalone, until};
use super::stage::Stage;
use crate::process::begun_ns;
use quorate_load::boottime_ns;
use std::ops::Range;
use std::path::Path;
use std::time::Instant;

/// A new member votes so soon after its sidecar began, in ns.
const VOTES_MAX: u64 = 2_000_000_000;
/// So many operations tell what a planned change costs.
const PLANNED_OPERATIONS: usize = 1_000;

/// A user applies a RaftCluster with an application whose image has no libc: one of them leads.
pub(super) async fn apply(stage: &Stage) -> Result<String, String> {
    let begun = Instant::now();
    let space = Space::new(stage, "lead", managed(3))?;
    space.kubectl(&["wait", "--for=condition=Ready", "raft/demo", "--timeout=60s"])?;
    let ready = seconds(begun);
    space.settled(3).await?;
    let said = until("an application leads", PATIENCE, async || {
        let said = space.said().await?;
        if said.is_empty() { Err("nobody said so".to_owned()) } else { Ok(said) }
    })
    .await?;
    let led = seconds(begun);
    let [(token, pod)] = said.as_slice() else {
        return Err(format!("more than one application led: {said:?}"));
    };
    for pod in space.pods().await? {
        without_libc(application_of(&pod)?)?;
    }
    Ok(format!("Ready after {ready:.1} s; {pod} leads with token {token} after {led:.1} s"))
}

fn without_libc(pid: i32) -> Result<(), String> {
    let root = Path::new("/proc").join(pid.to_string()).join("root");
    if !root.join("bin/busybox").exists() {
        return Err(format!("{} is not the application's root", root.display()));
    }
    for folder in ["lib", "lib64", "usr/lib"] {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        if let Some(libc) = names.find(|name| name.starts_with("libc") || name.starts_with("ld-")) {
            return Err(format!("the application's image has {folder}/{libc}"));
        }
    }
    Ok(())
}

/// Elections of a group, and leadership that its operator handed over.
pub(super) struct Elections {
    term: u64,
    transfers: u64,
}

impl Elections {
    /// So far.
    pub(super) async fn now(space: &Space<'_>) -> Result<Elections, String> {
        let leader = space.some_leader().await?;
        Ok(Elections { term: space.term(&leader).await?, transfers: space.transfers().await? })
    }

    /// Nobody was elected since but those whom the operator chose, at times more than once.
    pub(super) async fn were_planned(&self, space: &Space<'_>) -> Result<String, String> {
        let now = Elections::now(space).await?;
        let (elected, planned) =
            (now.term.saturating_sub(self.term), now.transfers.saturating_sub(self.transfers));
        match elected <= planned {
            true => Ok(format!("{elected} elections, all planned")),
            false => Err(format!("{elected} elections, and {planned} planned transfers")),
        }
    }
}

/// 3, 5, 3, 1, 3 voters, while every pod's clients go on.
pub(super) async fn scale(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "scale", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let (mut told, mut now, mut operations) = (Vec::new(), 3, 0);
    let elections = Elections::now(&space).await?;
    for next in [5, 3, 1, 3] {
        let begun = Instant::now();
        let doomed: Vec<String> = (next..now).map(|ordinal| format!("demo-{ordinal}")).collect();
        load.retire(&doomed, "demo-0").await?;
        let from = boottime_ns();
        space.scale(next)?;
        let voted = if next == 5 { Some(vote(&space, now..next).await?) } else { None };
        space.settled(next).await?;
        let took = seconds(begun);
        until("volumes of pods that left are gone", PATIENCE, async || {
            let claims = space.claims().await?;
            if claims.len() == next { Ok(()) } else { Err(format!("there are {claims:?}")) }
        })
        .await?;
        load.succeed().await?;
        let cost = load.planned(from, &[]).map_err(|why| format!("{now} to {next}: {why}"))?;
        operations += cost.operations;
        load.follow().await?;
        let last = format!("demo-{}", next - 1);
        load.keep(&last, 20).await?;
        let voted = voted.map(|voted| format!(", votes {} after the start", ms(voted)));
        told.push(format!("{now}→{next} {took:.1} s{} {cost}", voted.unwrap_or_default()));
        now = next;
    }
    if operations < PLANNED_OPERATIONS {
        return Err(format!("{operations} operations tell too little"));
    }
    told.push(elections.were_planned(&space).await?);
    let checked = load.finish().await?;
    Ok(format!("{}; {checked} acknowledged, 0 failed, 0 lost", told.join(", ")))
}

/// Waits until new pods' members vote; gives the time since the last of their sidecars began.
async fn vote(space: &Space<'_>, new: Range<usize>) -> Result<u64, String> {
    until("the new members vote", PATIENCE, async || {
        let voters = space.raft().await?["status"]["voters"].as_u64();
        if voters == u64::try_from(new.end).ok() { Ok(()) } else { Err(format!("{voters:?}")) }
    })
    .await?;
    let (now, mut last) = (boottime_ns(), 0);
    for ordinal in new {
        let pod = space.pod(&format!("demo-{ordinal}")).await?;
        let begun = begun_ns(sidecar_of(&pod.uid)?).ok_or("a sidecar ended")?;
        last = last.max(begun);
    }
    let voted = now.saturating_sub(last);
    if voted > VOTES_MAX {
        Err(format!("they voted {} after the start", ms(voted)))
    } else {
        Ok(voted)
    }
}

/// All stop and keep their disks; then one comes back, with everything that was granted.
pub(super) async fn stop(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "stop", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    load.keep("demo-2", 20).await?;
    let pods: Vec<String> = (0..3).map(|ordinal| format!("demo-{ordinal}")).collect();
    load.retire(&pods, "demo-0").await?;
    let begun = Instant::now();
    space.scale(0)?;
    space.settled(0).await?;
    let stopped = seconds(begun);
    let claims = space.claims().await?;
    if claims.len() != 3 {
        return Err(format!("0 replicas keep every disk, and there are {claims:?}"));
    }
    let begun = Instant::now();
    space.scale(1)?;
    space.settled(1).await?;
    let back = seconds(begun);
    let checked = load.finish().await?;
    Ok(format!("3→0 {stopped:.1} s, 0→1 {back:.1} s; {checked} acknowledged, 0 lost"))
}

/// Waits until the group has begun to be of another size.
async fn begun_to(space: &Space<'_>, ordinal: usize, leaves: bool) -> Result<(), String> {
    let name = format!("demo-{ordinal}");
    let what = if leaves { "begins to leave" } else { "is a member" };
    until(&format!("{name} {what}"), PATIENCE, async || {
        let raft = space.raft().await?;
        let members = raft["status"]["members"].as_array().cloned().unwrap_or_default();
        let role = members.iter().find(|one| one["name"] == name.as_str());
        let role = role.and_then(|one| one["role"].as_str().map(str::to_owned));
        let now = if leaves { role.as_deref() != Some("Voter") } else { role.is_some() };
        if now { Ok(()) } else { Err(format!("{name} is {role:?}")) }
    })
    .await
}

/// Another size, and half-way there the old one again: up, and down.
pub(super) async fn mind(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "mind", standalone(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let from = boottime_ns();
    space.scale(5)?;
    begun_to(&space, 3, false).await?;
    let begun = Instant::now();
    space.scale(3)?;
    space.settled(3).await?;
    let up = seconds(begun);
    load.succeed().await?;
    let gap = load.planned(from, &[])?.gap;
    let doomed = ["demo-1".to_owned(), "demo-2".to_owned()];
    load.retire(&doomed, "demo-0").await?;
    let from = boottime_ns();
    space.scale(1)?;
    begun_to(&space, 2, true).await?;
    let begun = Instant::now();
    space.scale(3)?;
    space.settled(3).await?;
    let down = seconds(begun);
    load.succeed().await?;
    let gap = gap.max(load.planned(from, &[])?.gap);
    let checked = load.finish().await?;
    Ok(format!(
        "3→5 and back {up:.1} s, 3→1 and back {down:.1} s, gap {}; {checked} acknowledged, \
         0 failed, 0 lost",
        ms(gap)
    ))
}

/// The leader is killed while two members leave.
pub(super) async fn leader_goes(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "goes", standalone(5)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    load.retire(&["demo-3".to_owned(), "demo-4".to_owned()], "demo-0").await?;
    let leader = space.some_leader().await?;
    let pid = sidecar_of(&space.pod(&leader).await?.uid)?;
    let (from, begun) = (boottime_ns(), Instant::now());
    space.scale(3)?;
    begun_to(&space, 4, true).await?;
    // It may have handed over meanwhile, since one that leaves does not lead.
    let now = space.leader().await.unwrap_or(leader);
    let pid = space.pod(&now).await.and_then(|pod| sidecar_of(&pod.uid)).unwrap_or(pid);
    kill(pid)?;
    space.settled(3).await?;
    let took = seconds(begun);
    load.succeed().await?;
    let gap = load.gap(from, &[&now]);
    if gap > FAILOVER_MAX {
        return Err(format!("{now} killed: a gap of {}", ms(gap)));
    }
    let checked = load.finish().await?;
    Ok(format!(
        "5→3 with {now} killed {took:.1} s, gap {}; {checked} acknowledged, 0 lost",
        ms(gap)
    ))
}
