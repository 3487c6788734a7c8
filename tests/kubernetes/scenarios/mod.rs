//! Scenarios on a real Kubernetes: what a user does to a RaftCluster, and what goes wrong around
//! it, with recorded clients at every pod.
//!
//! Invariants: each scenario is one named test with a namespace and a RaftCluster of its own; what
//! is waited for is a condition; the cluster ends with the program, however that ends. A failure
//! shows what the operator, the cluster and the sidecars said.

mod attached;
mod certificates;
mod chart;
mod control;
pub mod demo;
mod faults;
mod fifty;
mod gone;
mod hands;
mod handshake;
mod load;
mod operator;
mod recovery;
mod refused;
mod rights;
mod rival;
mod rolls;
mod service;
mod size;
mod space;
mod stage;
mod storage;
mod storm;

use crate::up::Wanted;
use crate::{down, say};
use stage::Stage;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

/// What to run, and with what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of clusters.
    pub base: PathBuf,
    /// The product's image.
    pub image: PathBuf,
    /// Its name and tag.
    pub image_name: String,
    /// The operator, as a program of this machine.
    pub operator: PathBuf,
    /// The top of the project: its chart and its examples.
    pub source: PathBuf,
    /// Only scenarios whose names contain one of these; none: all.
    pub only: Vec<String>,
}

type Ran<'a> = Pin<Box<dyn Future<Output = Result<String, String>> + 'a>>;

/// A named test; what it gives is what it measured.
struct Scenario {
    name: &'static str,
    run: for<'a> fn(&'a Stage) -> Ran<'a>,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "apply-and-lead", run: |stage| Box::pin(size::apply(stage)) },
    Scenario { name: "scale-3-5-3-1-3", run: |stage| Box::pin(size::scale(stage)) },
    Scenario { name: "scale-3-0-1", run: |stage| Box::pin(size::stop(stage)) },
    Scenario { name: "change-of-mind", run: |stage| Box::pin(size::mind(stage)) },
    Scenario { name: "storage-grown", run: |stage| Box::pin(storage::grown(stage)) },
    Scenario { name: "leader-goes", run: |stage| Box::pin(size::leader_goes(stage)) },
    Scenario { name: "leader-killed", run: |stage| Box::pin(faults::leader_killed(stage)) },
    Scenario { name: "application-killed", run: |stage| Box::pin(faults::application(stage)) },
    Scenario { name: "pod-deleted", run: |stage| Box::pin(faults::pod_deleted(stage)) },
    Scenario { name: "claim-deleted", run: |stage| Box::pin(faults::claim_deleted(stage)) },
    Scenario { name: "claims-deleted", run: |stage| Box::pin(faults::all_claims(stage)) },
    Scenario { name: "majority-lost", run: |stage| Box::pin(recovery::majority(stage)) },
    Scenario { name: "leader-service", run: |stage| Box::pin(service::leader(stage)) },
    // Before the control plane and nodes fail; it began beside the first of these.
    Scenario { name: "at-rest", run: |stage| Box::pin(control::at_rest(stage)) },
    Scenario { name: "api-server-stopped", run: |stage| Box::pin(control::server_stopped(stage)) },
    Scenario { name: "api-server-killed", run: |stage| Box::pin(control::server_killed(stage)) },
    Scenario { name: "template-rolled", run: |stage| Box::pin(rolls::template(stage)) },
    Scenario { name: "template-bad", run: |stage| Box::pin(rolls::bad_template(stage)) },
    Scenario { name: "image-bad", run: |stage| Box::pin(rolls::bad_image(stage)) },
    Scenario { name: "hostile-hand", run: |stage| Box::pin(hands::hostile(stage)) },
    Scenario { name: "nodes-drained", run: |stage| Box::pin(hands::drain(stage)) },
    Scenario { name: "certificates", run: |stage| Box::pin(certificates::all(stage)) },
    Scenario { name: "operator-killed", run: |stage| Box::pin(control::operator_killed(stage)) },
    Scenario { name: "api-storm", run: |stage| Box::pin(storm::weathered(stage)) },
    Scenario { name: "two-operators", run: |stage| Box::pin(control::two_operators(stage)) },
    Scenario { name: "fifty-clusters", run: |stage| Box::pin(fifty::clusters(stage)) },
    Scenario { name: "refused", run: |stage| Box::pin(refused::all(stage)) },
    Scenario { name: "all-pods-deleted", run: |stage| Box::pin(faults::all_deleted(stage)) },
    Scenario { name: "node-cut", run: |stage| Box::pin(faults::node_cut(stage)) },
    Scenario { name: "node-gone", run: |stage| Box::pin(gone::node(stage)) },
    Scenario { name: "sidecar-image", run: |stage| Box::pin(rolls::image(stage)) },
    // Last: from here on the operator is the chart's.
    Scenario { name: "chart-author", run: |stage| Box::pin(chart::author(stage)) },
    Scenario { name: "chart-guard", run: |stage| Box::pin(chart::guard(stage)) },
    Scenario { name: "attached", run: |stage| Box::pin(attached::all(stage)) },
    Scenario { name: "chart", run: |stage| Box::pin(chart::whole(stage)) },
];

/// Runs them on a cluster of its own; true if none failed.
///
/// # Errors
/// What this machine lacks, or why there is no cluster.
pub async fn run(options: &Options) -> Result<bool, String> {
    let known = |only: &&String| SCENARIOS.iter().any(|one| one.name.contains(only.as_str()));
    if let Some(unknown) = options.only.iter().find(|only| !known(only)) {
        let names: Vec<&str> = SCENARIOS.iter().map(|one| one.name).collect();
        return Err(format!("no scenario is called {unknown}; there are {}", names.join(", ")));
    }
    let name = format!("test-{}", std::process::id());
    let wanted = Wanted {
        base: options.base.clone(),
        name: name.clone(),
        nodes: Some(3),
        images: vec![options.image.clone()],
    };
    let ran = tokio::select! {
        ran = run_all(options, &wanted) => ran,
        asked = asked_to_end() => Err(asked),
    };
    let ended = down::down(&options.base, &name);
    let passed = ran?;
    ended?;
    Ok(passed)
}

async fn asked_to_end() -> String {
    let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let mut waits = Vec::new();
    for kind in signals {
        match signal(kind) {
            Ok(mut signal) => waits.push(Box::pin(async move { signal.recv().await })),
            Err(error) => return error.to_string(),
        }
    }
    futures_util::future::select_all(waits).await;
    "asked to end; the cluster has ended too".to_owned()
}

async fn run_all(options: &Options, wanted: &Wanted) -> Result<bool, String> {
    let begun = Instant::now();
    let stage = Stage::new(options, wanted).await?;
    say(&format!("the cluster is up, and the operator works: {:.1} s", seconds(begun)));
    let chosen = |one: &&Scenario| {
        options.only.is_empty() || options.only.iter().any(|only| one.name.contains(only.as_str()))
    };
    if SCENARIOS.iter().filter(chosen).any(|one| one.name == "at-rest") {
        stage.at_rest.set(Some(control::rest(&stage).await));
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for scenario in SCENARIOS.iter().filter(chosen) {
        let begun = Instant::now();
        let ended = (scenario.run)(&stage).await;
        let name = scenario.name;
        match ended {
            Ok(measured) => {
                passed += 1;
                say(&format!("ok    {name:<20}{:>6.1} s  {measured}", seconds(begun)));
            }
            Err(why) => {
                failed.push(name);
                say(&format!("FAIL  {name:<20}{:>6.1} s  {why}", seconds(begun)));
                say(&stage.told().await);
            }
        }
        stage.clear();
    }
    say(&format!("all in {:.0} s", seconds(begun)));
    if !failed.is_empty() {
        say(&format!("failed: {}", failed.join(", ")));
    }
    say(&format!("{passed} passed, {} failed", failed.len()));
    Ok(failed.is_empty())
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
