//! `cluster test --kubeconfig FILE`: scenarios on a cluster that is there already. The leaders are
//! judged by what they printed: no client reaches a sidecar's socket from outside its pod.
//!
//! Invariant: all are about one RaftCluster, the example; each begins with it as it stands,
//! whatever the one before left.

use super::leaders::Term;
use super::outcome::Outcome;
use super::refused::refuses;
use super::rolls::{Exchange, MISSING, halted, halts_after_one, uids};
use super::space::{NAME, Pod, until};
use super::stage::{OPERATOR, RELEASE, SYSTEM};
use super::there::{Elsewhere, PATIENCE, There, on};
use super::{Options, Scenario, scenario, seconds};
use crate::say;
use serde_json::{Value, json};
use std::time::Instant;

const SPACE: &str = "quorate-test";
/// Kills every other shell of a container; the code tells whether there was one.
const KILL: &str = "none=1; for one in /proc/[0-9]*; do read -r name < $one/comm; p=${one#/proc/}; \
    [ \"$name\" = sh ] && [ $p != $$ ] && kill -9 $p && none=0; done; exit $none";

/// On any cluster.
const ANY: &[Scenario<There>] = &[
    scenario("refused", |there| Box::pin(bad_manifests(there))),
    scenario("scale-3-5-3-1-3", |there| Box::pin(sizes(there, &[5, 3, 1, 3]))),
    scenario("scale-3-0-3", |there| Box::pin(stopped(there))),
    scenario("application-killed", |there| Box::pin(application(there))),
    scenario("pod-deleted", |there| Box::pin(pod_deleted(there))),
    scenario("claim-deleted", |there| Box::pin(claim_deleted(there))),
    scenario("all-pods-deleted", |there| Box::pin(all_deleted(there))),
    scenario("leader-service", |there| Box::pin(service(there))),
    scenario("template-rolled", |there| Box::pin(template(there))),
    scenario("template-bad", |there| Box::pin(bad_template(there))),
    scenario("image-bad", |there| Box::pin(bad_image(there))),
];

/// They end the operator, or look into it: that of others is left alone.
const OWN: &[Scenario<There>] = &[
    scenario("operator-deleted", |there| Box::pin(operator_deleted(there))),
    scenario("helm-test", |there| Box::pin(helm_test(there))),
    scenario("reinstalled", |there| Box::pin(reinstalled(there))),
];

/// Runs them there; true if none failed.
///
/// # Errors
/// What that cluster lacks, or no scenario is called so.
pub async fn run(options: &Options, to: &Elsewhere) -> Result<bool, String> {
    options.know(&ANY.iter().chain(OWN).map(|one| one.name).collect::<Vec<_>>())?;
    let begun = Instant::now();
    on((options, None), to, SPACE, async |there| {
        let picked =
            |of: &'static [Scenario<There>]| of.iter().filter(|one| options.picks(one.name));
        let (mut wanted, mut left) = (picked(ANY).collect::<Vec<_>>(), Vec::new());
        if there.has_own_operator() { &mut wanted } else { &mut left }.extend(picked(OWN));
        if wanted.is_empty() {
            return Err("these need a cluster without an operator".to_owned());
        }
        whole(there).await.map_err(|why| format!("the example does not come up: {why}"))?;
        let mut outcome = Outcome::default();
        for one in wanted {
            let begun = Instant::now();
            let ran = match whole(there).await {
                Ok(()) => (one.run)(there).await,
                Err(why) => Err(format!("before it began: {why}")),
            };
            if !outcome.add(one.name, begun, ran) {
                say(&there.told());
            }
        }
        for one in left {
            say(&format!("not tried: {}: the operator was there before", one.name));
        }
        outcome.add("one-leader", begun, there.leaders.borrow().judge());
        Ok(outcome.tell(begun))
    })
    .await
}

/// The example as it stands, and all of it works: an application leads.
async fn whole(there: &There) -> Result<(), String> {
    until("the example is as it stands", PATIENCE, async || {
        let found = there.within(&["get", "raft", NAME, "--ignore-not-found", "-o", "name"])?;
        // Applying alone would leave what a scenario added. The status may be written meanwhile.
        let verb = if found.is_empty() { "apply" } else { "replace" };
        there.example(verb)
    })
    .await?;
    there.ready(3).await?;
    there.led(0).await.map(drop)
}

/// Changes the resource by a JSON patch.
fn patch(there: &There, path: &str, value: &Value) -> Result<(), String> {
    let patch = json!([{"op": "add", "path": path, "value": value}]).to_string();
    there.within(&["patch", "raft", NAME, "--type=json", "-p", &patch]).map(drop)
}

fn scale(there: &There, replicas: usize) -> Result<(), String> {
    let replicas = format!("--replicas={replicas}");
    there.within(&["scale", "raft/demo", &replicas]).map(drop)
}

async fn bad_manifests(there: &There) -> Result<String, String> {
    let refused = refuses(SPACE, |object| there.apply(object));
    there.within(&["delete", "raft", "fixed", "bad", "--ignore-not-found"])?;
    let refused = refused?;
    Ok(format!("{refused} manifests refused, each with its sentence"))
}

async fn sizes(there: &There, sizes: &[usize]) -> Result<String, String> {
    let mut told = Vec::new();
    for size in sizes {
        let begun = Instant::now();
        scale(there, *size)?;
        there.ready(*size).await?;
        told.push(format!("{size} after {:.1} s", seconds(begun)));
    }
    Ok(told.join(", "))
}

/// Nobody runs for a while; then somebody leads, under a higher token.
async fn stopped(there: &There) -> Result<String, String> {
    let down = sizes(there, &[0]).await?;
    let before = there.leaders.borrow().last().map_or(0, |term| term.token);
    let up = sizes(there, &[3]).await?;
    let after = there.led(before).await?;
    Ok(format!("{down}, {up}; {} leads", after.pod))
}

/// What the leading pod's application started is killed: it is over, and somebody leads anew.
async fn application(there: &There) -> Result<String, String> {
    let before = there.led(0).await?;
    let after = killed(there, &before).await?;
    there.ready(3).await?;
    Ok(format!("{} killed, {} leads", before.pod, after.pod))
}

async fn killed(there: &There, leader: &Term) -> Result<Term, String> {
    there.within(&["exec", &leader.pod, "-c", "app", "--", "sh", "-c", KILL])?;
    there.led(leader.token).await
}

async fn pod_deleted(there: &There) -> Result<String, String> {
    let mut told = Vec::new();
    let ways = [("with grace", &[][..]), ("without", &["--grace-period=0", "--force"])];
    for (how, flags) in ways {
        let (before, begun) = (there.led(0).await?, Instant::now());
        there.within(&[&["delete", "pod", &before.pod, "--wait=false"], flags].concat())?;
        let after = there.led(before.token).await?;
        there.ready(3).await?;
        let ready = seconds(begun);
        told.push(format!("{how}: {} leads, Ready after {ready:.1} s", after.pod));
    }
    Ok(told.join(", "))
}

async fn claim_deleted(there: &There) -> Result<String, String> {
    let before = there.led(0).await?;
    let claim = format!("quorate-log-{}", before.pod);
    let uid = || there.within(&["get", "pvc", &claim, "-o", "jsonpath={.metadata.uid}"]);
    let (first, begun) = (uid()?, Instant::now());
    there.within(&["delete", "pvc", &claim, "--wait=false"])?;
    there.within(&["delete", "pod", &before.pod, "--wait=false"])?;
    there.led(before.token).await?;
    there.ready(3).await?;
    if uid()? == first {
        return Err(format!("{claim} is the former one"));
    }
    Ok(format!("three voters on a new volume after {:.1} s", seconds(begun)))
}

async fn all_deleted(there: &There) -> Result<String, String> {
    let (before, begun) = (there.led(0).await?, Instant::now());
    let own = format!("quorate.dev/cluster={NAME}");
    there.within(&["delete", "pods", "-l", &own, "--wait=false"])?;
    there.ready(3).await?;
    let ready = seconds(begun);
    let after = there.led(before.token).await?;
    Ok(format!("Ready after {ready:.1} s, {} leads", after.pod))
}

/// A Service leads to the leading pod, and follows.
async fn service(there: &There) -> Result<String, String> {
    let service = json!({"election": "demo", "ports": [{"port": 80, "targetPort": 8080}]});
    patch(there, "/spec/leaderService", &service)?;
    let before = there.led(0).await?;
    leads_to(there, &before.pod).await?;
    there.within(&["delete", "pod", &before.pod, "--wait=false"])?;
    let after = there.led(before.token).await?;
    leads_to(there, &after.pod).await?;
    Ok(format!("to {}, then to {}", before.pod, after.pod))
}

async fn leads_to(there: &There, pod: &str) -> Result<(), String> {
    until("the Service leads to it", PATIENCE, async || {
        let slice = there.json(&["-n", SPACE, "get", "endpointslice", "demo-leader"])?;
        let to = &slice["endpoints"][0]["targetRef"]["uid"];
        let uid = uids(&there.pods()?).remove(pod);
        let right = uid.is_some_and(|uid| *to == uid);
        if right { Ok(()) } else { Err(slice["endpoints"].to_string()) }
    })
    .await
}

/// Pods are exchanged one at a time, that of the Raft leader last.
async fn template(there: &There) -> Result<String, String> {
    let (mut exchange, begun) = (Exchange::new(&there.pods()?), Instant::now());
    // The RaftCluster's status may name an earlier one.
    let tool = "/run/quorate/bin/quorate";
    let words = ["exec", "demo-0", "-c", "app", "--", tool, "status", "--output", "json"];
    let said = there.within(&words)?;
    let said: Value = serde_json::from_str(&said).map_err(|e| format!("{said}: {e}"))?;
    let leader = said["leader"].as_str().unwrap_or_default().to_owned();
    let path = "/spec/template/spec/containers/0/env";
    patch(there, path, &json!([{"name": "COLOUR", "value": "blue"}]))?;
    until("all pods are exchanged", PATIENCE, async || match exchange.look(&there.pods()?) {
        // It ends the scenario, not the wait.
        Err(why) => Ok(Err(why)),
        Ok(()) => exchange.whole().map(Ok),
    })
    .await??;
    there.ready(3).await?;
    let order = exchange.order;
    if order.len() != 3 || order.last() != Some(&leader) {
        return Err(format!("{leader:?} led, and the order was {order:?}"));
    }
    Ok(format!("{} in {:.1} s, leader last", order.join(", "), seconds(begun)))
}

/// A template that cannot start halts after one pod; the example heals it.
async fn bad_template(there: &There) -> Result<String, String> {
    let before = uids(&there.pods()?);
    let image = "/spec/template/spec/containers/0/image";
    patch(there, image, &json!(MISSING))?;
    halts_after_one(&before, PATIENCE, async || there.pods()).await?;
    let begun = Instant::now();
    whole(there).await?;
    Ok(format!("halted after one pod, healed {:.1} s after the revert", seconds(begun)))
}

/// A sidecar image that cannot be had touches nobody.
async fn bad_image(there: &There) -> Result<String, String> {
    let (before, begun) = (there.pods()?, Instant::now());
    patch(there, "/spec/sidecar", &json!({"image": MISSING}))?;
    let why = until("the update is halted", PATIENCE, async || {
        let raft = there.raft()?;
        halted(&raft).ok_or_else(|| raft["status"]["conditions"].to_string())
    })
    .await?;
    if !why.contains(MISSING) {
        return Err(format!("the condition does not name the image: {why}"));
    }
    let after = seconds(begun);
    whole(there).await?;
    let told = |pod: &Pod| (pod.uid.clone(), pod.restarts("quorate"));
    let (before, now): (Vec<_>, Vec<_>) =
        (before.iter().map(told).collect(), there.pods()?.iter().map(told).collect());
    if before != now {
        return Err(format!("pods and restarts of their sidecars: {before:?}, then {now:?}"));
    }
    Ok(format!("halted after {after:.1} s, no sidecar touched"))
}

/// The operator's pods are deleted in the middle of changes of the size.
async fn operator_deleted(there: &There) -> Result<String, String> {
    let mut told = Vec::new();
    for size in [5, 3] {
        let begun = Instant::now();
        scale(there, size)?;
        there.kubectl(&["-n", SYSTEM, "delete", "pods", "-l", OPERATOR, "--wait=false"])?;
        there.ready(size).await?;
        told.push(format!("{size} after {:.1} s", seconds(begun)));
    }
    Ok(told.join(", "))
}

async fn helm_test(there: &There) -> Result<String, String> {
    there.helm(&["test", RELEASE, "-n", SYSTEM, "--timeout", "5m"])?;
    Ok("the operator's own check passed".to_owned())
}

/// Without an operator pods run on, and elect; the next one goes on with them.
async fn reinstalled(there: &There) -> Result<String, String> {
    let uid = || there.within(&["get", "raft", NAME, "-o", "jsonpath={.metadata.uid}"]);
    let (raft, before) = (uid()?, uids(&there.pods()?));
    there.uninstall()?;
    until("the operator is gone", PATIENCE, async || {
        let left = there.kubectl(&["-n", SYSTEM, "get", "pods", "-l", OPERATOR, "-o", "name"])?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await?;
    let led = there.led(0).await?;
    let by = killed(there, &led).await?;
    let begun = Instant::now();
    there.install()?;
    scale(there, 5)?;
    there.ready(5).await?;
    let again = seconds(begun);
    let now = uids(&there.pods()?);
    if uid()? != raft || before.iter().any(|(pod, uid)| now.get(pod) != Some(uid)) {
        return Err(format!("something was made anew: {before:?}, then {now:?}"));
    }
    let (killed, by) = (led.pod, by.pod);
    Ok(format!("without it {killed} killed, {by} led; installed again: 5 after {again:.1} s"))
}
