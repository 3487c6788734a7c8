//! Scenarios on a real Kubernetes: what a user does to a RaftCluster, and what goes wrong around
//! it, with recorded clients at every pod.
//!
//! Invariants: each scenario is one named test with a namespace and a RaftCluster of its own; what
//! is waited for is a condition; the clusters end with the program, however that ends. A failure
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
mod lanes;
mod load;
mod operator;
mod points;
mod proxy;
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

type Run = for<'a> fn(&'a Stage) -> Ran<'a>;

/// A named test; what it gives is what it measured.
struct Scenario {
    name: &'static str,
    run: Run,
    /// Its bars are times of a few milliseconds: nothing else of ours runs meanwhile.
    alone: bool,
}

const fn beside(name: &'static str, run: Run) -> Scenario {
    Scenario { name, run, alone: false }
}

const fn alone(name: &'static str, run: Run) -> Scenario {
    Scenario { name, run, alone: true }
}

/// What users do to groups, and what happens to pods and nodes.
const GROUPS: &[Scenario] = &[
    alone("scale-3-5-3-1-3", |stage| Box::pin(size::scale(stage))),
    alone("leader-killed", |stage| Box::pin(faults::leader_killed(stage))),
    beside("apply-and-lead", |stage| Box::pin(size::apply(stage))),
    beside("scale-3-0-1", |stage| Box::pin(size::stop(stage))),
    beside("change-of-mind", |stage| Box::pin(size::mind(stage))),
    beside("storage-grown", |stage| Box::pin(storage::grown(stage))),
    beside("leader-goes", |stage| Box::pin(size::leader_goes(stage))),
    beside("application-killed", |stage| Box::pin(faults::application(stage))),
    beside("pod-deleted", |stage| Box::pin(faults::pod_deleted(stage))),
    beside("claim-deleted", |stage| Box::pin(faults::claim_deleted(stage))),
    beside("claims-deleted", |stage| Box::pin(faults::all_claims(stage))),
    beside("majority-lost", |stage| Box::pin(recovery::majority(stage))),
    beside("leader-service", |stage| Box::pin(service::leader(stage))),
    beside("template-rolled", |stage| Box::pin(rolls::template(stage))),
    beside("template-bad", |stage| Box::pin(rolls::bad_template(stage))),
    beside("image-bad", |stage| Box::pin(rolls::bad_image(stage))),
    beside("hostile-hand", |stage| Box::pin(hands::hostile(stage))),
    beside("refused", |stage| Box::pin(refused::all(stage))),
    beside("all-pods-deleted", |stage| Box::pin(faults::all_deleted(stage))),
    beside("sidecar-image", |stage| Box::pin(rolls::image(stage))),
    // It began beside the first of these; the next ones touch every group.
    beside("at-rest", |stage| Box::pin(control::at_rest(stage))),
    beside("certificates", |stage| Box::pin(certificates::all(stage))),
    beside("nodes-drained", |stage| Box::pin(hands::drain(stage))),
    beside("node-cut", |stage| Box::pin(faults::node_cut(stage))),
    beside("node-gone", |stage| Box::pin(gone::node(stage))),
];

/// What happens to the operator and the control plane; the chart, and what comes with it.
const CONTROL: &[Scenario] = &[
    beside("operator-killed", |stage| Box::pin(points::killed(stage))),
    beside("two-operators", |stage| Box::pin(control::two_operators(stage))),
    beside("api-storm", |stage| Box::pin(storm::weathered(stage))),
    beside("fifty-clusters", |stage| Box::pin(fifty::clusters(stage))),
    beside("api-server-stopped", |stage| Box::pin(control::server_stopped(stage))),
    beside("api-server-killed", |stage| Box::pin(control::server_killed(stage))),
    // Last: from here on the operator is the chart's.
    beside("chart-author", |stage| Box::pin(chart::author(stage))),
    beside("chart-guard", |stage| Box::pin(chart::guard(stage))),
    beside("attached", |stage| Box::pin(attached::all(stage))),
    beside("chart", |stage| Box::pin(chart::whole(stage))),
];

/// Each on a cluster of its own, side by side.
const LANES: [&[Scenario]; 2] = [GROUPS, CONTROL];

fn all() -> impl Iterator<Item = &'static Scenario> {
    LANES.into_iter().flatten()
}

impl Options {
    /// Whether a scenario is to run.
    fn picks(&self, scenario: &Scenario) -> bool {
        let mut only = self.only.iter();
        self.only.is_empty() || only.any(|only| scenario.name.contains(only.as_str()))
    }
}

/// Waits for a signal that asks this process to end.
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
    "asked to end; what was started has ended too".to_owned()
}

/// Runs them, on clusters of their own; true if none failed.
///
/// # Errors
/// What this machine lacks, or why there is no cluster.
pub async fn run(options: &Options) -> Result<bool, String> {
    let known = |only: &&String| all().any(|one| one.name.contains(only.as_str()));
    if let Some(unknown) = options.only.iter().find(|only| !known(only)) {
        let names: Vec<&str> = all().map(|one| one.name).collect();
        return Err(format!("no scenario is called {unknown}; there are {}", names.join(", ")));
    }
    lanes::run(options).await
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
