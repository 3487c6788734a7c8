//! All members killed -9 under load: every acknowledged grant and release is there afterwards.

use quorate_tests::cluster::{Cluster, Process, Scratch};
use quorate_tests::load::{Caller, History, boottime_ns, work};
use quorate_tests::say;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// Clients of a round; a third at each member.
const CLIENTS: usize = 12;
/// How long a round's load runs before the kill.
const LOAD: Duration = Duration::from_millis(800);
/// A group that came back answers within this.
const BACK: Duration = Duration::from_secs(30);

/// See the module.
pub fn run(rounds: u64) -> Result<(), String> {
    let scratch = Scratch::new("restart")?;
    let mut cluster = Cluster::start(scratch.path(), &["--restart-after", "100ms"])?;
    let runtime = super::restart::runtime()?;
    let (mut acknowledged, mut checked) = (0, 0);
    for round in 1..=rounds {
        let endpoints = endpoints(&cluster);
        let before = cluster.pids();
        let history = runtime.block_on(load(endpoints, &format!("restart-{round}"), || {
            for (_, pid) in &before {
                Process::new(*pid).kill();
            }
        }))?;
        cluster.await_restart(&before)?;
        history.check_tokens()?;
        acknowledged += history.acknowledged();
        checked += runtime.block_on(verify(&cluster, &history))?;
    }
    say(&format!(
        "restart: {rounds} rounds, {acknowledged} acknowledged grants and releases, \
         {checked} names checked, 0 lost"
    ));
    Ok(())
}

/// A runtime for the clients of a check.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(|e| e.to_string())
}

/// The sockets of all members.
pub fn endpoints(cluster: &Cluster) -> Vec<PathBuf> {
    cluster.members.iter().map(|m| m.endpoint.clone()).collect()
}

/// Loads the group for a while, then does `end` to it at once, and gives what was acknowledged.
pub async fn load(
    endpoints: Vec<PathBuf>,
    prefix: &str,
    end: impl FnOnce(),
) -> Result<History, String> {
    let (stop, stopped) = watch::channel(false);
    let workers: Vec<_> = (0..CLIENTS)
        .map(|i| {
            let endpoint = endpoints[i % endpoints.len()].clone();
            tokio::spawn(work(endpoint, format!("{prefix}-{i}"), stopped.clone()))
        })
        .collect();
    tokio::time::sleep(LOAD).await;
    end();
    // Whoever waits for an answer now does not get one.
    let _ = stop.send(true);
    let mut history = History::default();
    for worker in workers {
        history.merge(worker.await.map_err(|e| e.to_string())??);
    }
    if history.acknowledged() == 0 {
        return Err("nothing was acknowledged: the load proves nothing".to_owned());
    }
    Ok(history)
}

/// Compares what was acknowledged with what the group has, once it answers.
pub async fn verify(cluster: &Cluster, history: &History) -> Result<usize, String> {
    verify_at(&cluster.members[0].endpoint, history).await
}

/// The same, at one member.
pub async fn verify_at(endpoint: &Path, history: &History) -> Result<usize, String> {
    let end = boottime_ns() + u64::try_from(BACK.as_nanos()).unwrap_or(u64::MAX);
    loop {
        let answer = match Caller::connect(endpoint.to_owned(), vec![1; 16]).await {
            Ok(mut caller) => match caller.holder("is-anybody-there").await {
                Ok(_) => return history.verify(&mut caller).await,
                Err(failed) => failed,
            },
            Err(failed) => failed,
        };
        if boottime_ns() > end {
            return Err(format!("the group did not come back in {BACK:?}: {}", answer.message));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
