//! A majority of the voters is lost for ever, and one survivor goes on alone: only because its user
//! says so, in the words that name this group.

use super::load::{Load, key, words};
use super::seconds;
use super::space::{NAME, PATIENCE, Space, standalone, until};
use super::stage::Stage;
use quorate_load::Caller;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Whoever held something gave it back before.
const HOLD_OFF: Duration = Duration::from_secs(20);

/// Two of three volumes are destroyed at once, with their pods.
pub(super) async fn majority(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "recovery", standalone(3)).await?;
    let load = Load::start(&space).await?;
    let checked = load.finish().await?;
    let survivor = "demo-0";
    let (before, lost) = (token(&space, survivor).await?, group(&space).await?);
    destroy(&space, &["demo-1", "demo-2"]).await?;
    says(&space, "let one member go on alone").await?;
    // Not with words that anybody may write anywhere, and not before all is known to be silent.
    ask(&space, &recovery(survivor, "yes", &[]))?;
    says(&space, "this cannot be undone").await?;
    let words = format!("the other members of {lost} are lost");
    ask(&space, &recovery(survivor, &words, &["demo-1"]))?;
    says(&space, "whether demo-2 still run").await?;
    let begun = Instant::now();
    ask(&space, &recovery(survivor, &words, &["demo-1", "demo-2"]))?;
    space.settled(3).await?;
    let ready = seconds(begun);
    if group(&space).await? == lost {
        return Err("the group is the same".to_owned());
    }
    let made = async || token(&space, survivor).await;
    let after = until("grants are made", PATIENCE, made).await?;
    let granted = begun.elapsed();
    if after <= before {
        return Err(format!("tokens went back, from {before} to {after}"));
    }
    if granted < HOLD_OFF {
        return Err(format!("granted after {granted:?}, and the hold-off is {HOLD_OFF:?}"));
    }
    let load = Load::start(&space).await?;
    load.succeed().await?;
    let again = load.finish().await?;
    let granted = granted.as_secs_f64();
    Ok(format!(
        "refused without the words, and while one may run; three voters again after {ready:.1} s, \
         grants after {granted:.1} s (held off for {HOLD_OFF:?}); tokens {before} < {after}; \
         {checked} acknowledged before, {again} after"
    ))
}

fn recovery(survivor: &str, confirm: &str, accept: &[&str]) -> Value {
    json!({
        "survivor": survivor,
        "confirm": confirm,
        "acceptRunning": accept,
        "holdOffSeconds": HOLD_OFF.as_secs(),
    })
}

fn ask(space: &Space<'_>, recovery: &Value) -> Result<(), String> {
    let patch = json!({"spec": {"recovery": recovery}}).to_string();
    space.kubectl(&["patch", "raft", NAME, "--type=merge", "-p", &patch]).map(drop)
}

/// Waits until the operator says so, of why it does nothing.
async fn says(space: &Space<'_>, why: &str) -> Result<(), String> {
    until(why, PATIENCE, async || {
        let told = stalled(space).await?;
        if told.contains(why) { Ok(()) } else { Err(told) }
    })
    .await
}

async fn stalled(space: &Space<'_>) -> Result<String, String> {
    let raft = space.raft().await?;
    let conditions = raft["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let mut all = conditions.iter().filter(|one| one["type"] == "Stalled");
    let told = all.next().and_then(|one| one["message"].as_str()).unwrap_or_default();
    Ok(told.to_owned())
}

async fn group(space: &Space<'_>) -> Result<String, String> {
    let raft = space.raft().await?;
    let id = raft["status"]["birth"]["clusterId"].as_str();
    id.map(str::to_owned).ok_or_else(|| "the status names no group".to_owned())
}

/// The token of a lock that is taken and given back at a pod.
async fn token(space: &Space<'_>, pod: &str) -> Result<u64, String> {
    let mut caller = Caller::connect(space.socket(pod), key()?).await.map_err(words)?;
    let _session = caller.open(10_000, "recovery").await.map_err(words)?;
    let token = caller.acquire("recovery", 1, 0).await.map_err(words)?;
    caller.close().await.map_err(words)?;
    token.ok_or_else(|| "it is not granted".to_owned())
}

/// The volumes go with their pods, all at once: no guard of the API server's keeps anybody from it.
async fn destroy(space: &Space<'_>, pods: &[&str]) -> Result<(), String> {
    let before = space.claims().await?;
    let claims: Vec<String> = pods.iter().map(|pod| format!("quorate-log-{pod}")).collect();
    for claim in &claims {
        space.kubectl(&["delete", "pvc", claim, "--wait=false"])?;
    }
    space.kubectl(&[&["delete", "pod", "--wait=false"], pods].concat())?;
    until("the volumes are gone", PATIENCE, async || {
        let now = space.claims().await?;
        let left = before.iter().filter(|(name, _)| claims.contains(name));
        let left: Vec<_> = left.filter(|claim| now.contains(claim)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await
}
