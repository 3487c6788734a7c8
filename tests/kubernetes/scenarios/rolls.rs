//! The application's template and the sidecar's image change.

use super::load::{Load, PLANNED_MAX, ms};
use super::seconds;
use super::space::{PATIENCE, Pod, Space, managed, until};
use super::stage::Stage;
use crate::host;
use quorate_load::boottime_ns;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// An application waits no longer while its own sidecar changes, in ns.
const OWN_MAX: u64 = 3_000_000_000;
/// How long a halted roll is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// An image that nobody has.
pub(super) const MISSING: &str = "quorate.test/missing:1";

/// Who is who: another of the same name has another UID.
pub(super) fn uids(pods: &[Pod]) -> BTreeMap<String, String> {
    pods.iter().map(|pod| (pod.name.clone(), pod.uid.clone())).collect()
}

/// The managed spec, with a variable in the application's environment.
fn changed(value: &str) -> Value {
    let mut spec = managed(3);
    spec["template"]["spec"]["containers"][0]["env"] = json!([{"name": "COLOUR", "value": value}]);
    spec
}

/// Another template: pods are exchanged one at a time, the leader's last.
pub(super) async fn template(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "template", managed(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let leader = space.some_leader().await?;
    let begun = Instant::now();
    let mut roll = Roll::new(&space).await?;
    space.apply(changed("blue"))?;
    roll.whole(&space, &load).await?;
    let took = seconds(begun);
    let Roll { exchange: Exchange { order, .. }, gap, .. } = roll;
    if order.len() != 3 || order.last() != Some(&leader) {
        return Err(format!("{leader} led, and the order was {order:?}"));
    }
    if gap > PLANNED_MAX {
        return Err(format!("a gap of {} at pods whose turn it was not", ms(gap)));
    }
    load.succeed().await?;
    let checked = load.finish().await?;
    let order = order.join(", ");
    Ok(format!(
        "{order} in {took:.1} s, leader last, gap of the others {}; {checked} acknowledged, 0 lost",
        ms(gap)
    ))
}

/// Pods that are exchanged, one at a time.
pub(super) struct Exchange {
    before: BTreeMap<String, String>,
    /// The UIDs of all so far.
    known: BTreeSet<String>,
    /// New pods, in the order of their coming; who comes again stands there again.
    pub(super) order: Vec<String>,
    /// Who did not work at the last look: one at most.
    away: Option<String>,
}

impl Exchange {
    /// Of these pods.
    pub(super) fn new(pods: &[Pod]) -> Exchange {
        let before = uids(pods);
        let known = before.values().cloned().collect();
        Exchange { before, known, order: Vec::new(), away: None }
    }

    /// Notes who is new, and who does not work: one at most.
    pub(super) fn look(&mut self, pods: &[Pod]) -> Result<(), String> {
        let works = |name: &str| pods.iter().any(|p| p.name == name && p.ready && !p.deleting);
        let away: Vec<&String> = self.before.keys().filter(|name| !works(name)).collect();
        if away.len() > 1 {
            return Err(format!("{away:?} are away together"));
        }
        self.away = away.first().map(|name| (*name).clone());
        let new = pods.iter().filter(|pod| self.known.insert(pod.uid.clone()));
        self.order.extend(new.map(|pod| pod.name.clone()));
        Ok(())
    }

    /// What is missing until all pods are new, and work.
    pub(super) fn whole(&self) -> Result<(), String> {
        let all = self.before.keys().all(|name| self.order.contains(name));
        if all && self.away.is_none() { Ok(()) } else { Err(format!("so far: {:?}", self.order)) }
    }
}

/// A roll, as it is watched.
pub(super) struct Roll {
    exchange: Exchange,
    /// The longest at pods whose turn it was not, in ns.
    pub(super) gap: u64,
    looked: u64,
    /// When each that was away was seen so last: a call from before may fail later, and nothing
    /// succeeded meanwhile.
    back: BTreeMap<String, u64>,
}

impl Roll {
    /// Of pods as they are now.
    pub(super) async fn new(space: &Space<'_>) -> Result<Roll, String> {
        let (exchange, back) = (Exchange::new(&space.pods().await?), BTreeMap::new());
        Ok(Roll { exchange, gap: 0, looked: boottime_ns(), back })
    }

    /// Whether it is one of those that are to go.
    pub(super) fn is_old(&self, pod: &Pod) -> bool {
        self.exchange.before.get(&pod.name) == Some(&pod.uid)
    }

    /// Waits until a pod is new.
    pub(super) async fn begun(&mut self, space: &Space<'_>, load: &Load<'_>) -> Result<(), String> {
        self.watch(("a pod is exchanged", PATIENCE), (space, load), async |roll, _| {
            let begun = !roll.exchange.order.is_empty();
            if begun { Ok(()) } else { Err("all are the old ones".to_owned()) }
        })
        .await
    }

    /// Waits until all pods are new and the RaftCluster has settled.
    pub(super) async fn whole(&mut self, space: &Space<'_>, load: &Load<'_>) -> Result<(), String> {
        self.watch(("all pods are exchanged", PATIENCE * 2), (space, load), async |roll, _| {
            roll.exchange.whole()?;
            space.is_settled(roll.exchange.before.len()).await
        })
        .await
    }

    /// Waits until nothing is missing any more of what is asked of the pods, and judges all that is
    /// done meanwhile.
    pub(super) async fn watch(
        &mut self,
        (what, patience): (&str, Duration),
        (space, load): (&Space<'_>, &Load<'_>),
        mut missing: impl AsyncFnMut(&Roll, &[Pod]) -> Result<(), String>,
    ) -> Result<(), String> {
        until(what, patience, async || match self.look(space, load).await {
            // It ends the scenario, not the wait.
            Err(why) => Ok(Err(why)),
            Ok(pods) => missing(self, &pods).await.map(Ok),
        })
        .await?
    }

    /// Judges what was done since the last look; gives the pods of this one.
    async fn look(&mut self, space: &Space<'_>, load: &Load<'_>) -> Result<Vec<Pod>, String> {
        // A pod that begins to go while pods are listed is judged the next time, when it is away.
        let now = boottime_ns();
        let (before, known) = (self.exchange.away.take(), self.exchange.order.len());
        let pods = space.pods().await?;
        self.exchange.look(&pods)?;
        let at = boottime_ns();
        // One that just came back was away for a part of the time since the last look; one that
        // went and came back in it is new.
        let new = &self.exchange.order[known..];
        let away = self.exchange.away.iter().chain(&before).chain(new);
        let without: Vec<&str> = away.map(String::as_str).collect();
        load.none_failed_but((self.looked, now), &without, &self.back)?;
        self.gap = self.gap.max(load.gap_but(self.looked, &without, &self.back));
        self.looked = now;
        self.back.extend(without.iter().map(|name| ((*name).to_owned(), at)));
        Ok(pods)
    }
}

/// Waits until one pod is another than before, and watches that it stays the only one.
pub(super) async fn halts_after_one(
    before: &BTreeMap<String, String>,
    patience: Duration,
    pods: impl AsyncFn() -> Result<Vec<Pod>, String>,
) -> Result<(), String> {
    let touched = async || {
        let now = uids(&pods().await?);
        Ok::<_, String>(now.iter().filter(|(name, uid)| before.get(*name) != Some(uid)).count())
    };
    until("a pod with the bad template is there", patience, async || match touched().await? {
        0 => Err("all pods are the old ones".to_owned()),
        _ => Ok(()),
    })
    .await?;
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        let touched = touched().await?;
        if touched != 1 {
            return Err(format!("{touched} pods have the bad template"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// A template whose pods never get ready halts after one; the old one heals.
pub(super) async fn bad_template(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "bad", managed(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let before = uids(&space.pods().await?);
    let mut spec = managed(3);
    spec["template"]["spec"]["containers"][0]["image"] = json!(MISSING);
    space.apply(spec)?;
    halts_after_one(&before, PATIENCE, async || space.pods().await).await?;
    let begun = Instant::now();
    space.apply(managed(3))?;
    space.settled(3).await?;
    let healed = seconds(begun);
    let checked = load.finish().await?;
    let halted = format!("halted after one pod, healed {healed:.1} s after the revert");
    Ok(format!("{halted}; {checked} acknowledged, 0 lost"))
}

/// Why an update is halted, by a RaftCluster's condition; `None`: it is not.
pub(super) fn halted(raft: &Value) -> Option<String> {
    let mut all = raft["status"]["conditions"].as_array().into_iter().flatten();
    let stalled = all.find(|one| one["type"] == "Stalled" && one["status"] == "True");
    let halted = stalled.filter(|one| one["reason"] == "UpdateHalted");
    halted.and_then(|one| one["message"].as_str().map(str::to_owned))
}

/// A sidecar image that cannot be had, and one that has no sidecar in it, touch nobody; a revert is
/// all it takes.
pub(super) async fn bad_image(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "badimage", managed(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let before = space.pods().await?;
    let (from, mut told) = (boottime_ns(), Vec::new());
    for image in [MISSING, "quorate.test/busybox:1"] {
        let mut spec = managed(3);
        spec["sidecar"] = json!({"image": image});
        space.apply(spec)?;
        let begun = Instant::now();
        let why = until("the update is halted", PATIENCE, async || {
            let raft = space.raft().await?;
            halted(&raft).ok_or_else(|| raft["status"]["conditions"].to_string())
        })
        .await?;
        told.push(format!("{:.1} s", seconds(begun)));
        if !why.contains(image) {
            return Err(format!("the condition does not name the image {image}: {why}"));
        }
        space.apply(managed(3))?;
        space.settled(3).await?;
    }
    for old in &before {
        let new = space.pod(&old.name).await?;
        if new.uid != old.uid || new.restarts("quorate") != old.restarts("quorate") {
            return Err(format!("{} was touched", old.name));
        }
    }
    load.succeed().await?;
    load.none_failed(from, &[])?;
    let (checked, told) = (load.finish().await?, told.join(" and "));
    Ok(format!("halted after {told}, no sidecar touched; {checked} acknowledged, 0 lost"))
}

/// The sidecar's image changes in place: applications run on, and keep their sessions.
pub(super) async fn image(stage: &Stage) -> Result<String, String> {
    let other = format!("{}-other", stage.image);
    for node in stage.instance.node_numbers() {
        let socket = stage.instance.containerd(node);
        let words = ["-a", host::text(&socket)?, "-n", "k8s.io", "images", "tag"];
        host::run("ctr", &[&words[..], &[&stage.image, &other]].concat())?;
    }
    let space = Space::settled_new(stage, "image", managed(3)).await?;
    let mut load = Load::start(&space).await?;
    load.keep("demo-0", 20).await?;
    let before = space.pods().await?;
    let said = space.said().await?;
    let (from, begun) = (boottime_ns(), Instant::now());
    let mut spec = managed(3);
    spec["sidecar"] = json!({"image": other});
    space.apply(spec)?;
    space.settled(3).await?;
    let took = seconds(begun);
    load.succeed().await?;
    for old in &before {
        let new = space.pod(&old.name).await?;
        let (was, is) = (old.container("app"), new.container("app"));
        if new.uid != old.uid
            || was["containerID"] != is["containerID"]
            || was["state"] != is["state"]
        {
            return Err(format!("the application of {} did not run on: {was} {is}", old.name));
        }
        if new.restarts("quorate") != old.restarts("quorate") + 1 {
            return Err(format!("the sidecar of {} was not started once", old.name));
        }
    }
    if space.said().await? != said {
        return Err("leadership of the applications moved".to_owned());
    }
    let own = load.gap(from, &[]);
    if own > OWN_MAX {
        return Err(format!("a pod's own clients waited for {}", ms(own)));
    }
    let checked = load.finish().await?;
    Ok(format!(
        "3 sidecars in {took:.1} s, a pod's own clients waited {}; {checked} acknowledged, 0 lost",
        ms(own)
    ))
}
