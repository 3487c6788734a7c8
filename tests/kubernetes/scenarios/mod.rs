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
mod cut;
pub mod demo;
pub mod elsewhere;
mod faults;
mod fifty;
mod gone;
mod hands;
mod handshake;
mod lanes;
mod leaders;
mod load;
mod operator;
mod outcome;
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
mod there;

pub use there::Elsewhere;

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

type Run<On> = for<'a> fn(&'a On) -> Ran<'a>;

/// A named test; what it gives is what it measured.
struct Scenario<On = Stage> {
    name: &'static str,
    run: Run<On>,
}

const fn scenario<On>(name: &'static str, run: Run<On>) -> Scenario<On> {
    Scenario { name, run }
}

/// Their bars are times of a few milliseconds: nothing else of ours runs meanwhile.
const ALONE: &[Scenario] = &[
    scenario("scale-3-5-3-1-3", |stage| Box::pin(size::scale(stage))),
    scenario("leader-killed", |stage| Box::pin(faults::leader_killed(stage))),
];

/// What users do to groups, and what happens to pods, nodes and the operator.
const GROUPS: &[Scenario] = &[
    scenario("apply-and-lead", |stage| Box::pin(size::apply(stage))),
    scenario("scale-3-0-1", |stage| Box::pin(size::stop(stage))),
    scenario("change-of-mind", |stage| Box::pin(size::mind(stage))),
    scenario("storage-grown", |stage| Box::pin(storage::grown(stage))),
    scenario("leader-goes", |stage| Box::pin(size::leader_goes(stage))),
    scenario("application-killed", |stage| Box::pin(faults::application(stage))),
    scenario("pod-deleted", |stage| Box::pin(faults::pod_deleted(stage))),
    scenario("claim-deleted", |stage| Box::pin(faults::claim_deleted(stage))),
    scenario("claims-deleted", |stage| Box::pin(faults::all_claims(stage))),
    scenario("majority-lost", |stage| Box::pin(recovery::majority(stage))),
    scenario("leader-service", |stage| Box::pin(service::leader(stage))),
    scenario("template-rolled", |stage| Box::pin(rolls::template(stage))),
    scenario("template-bad", |stage| Box::pin(rolls::bad_template(stage))),
    scenario("image-bad", |stage| Box::pin(rolls::bad_image(stage))),
    scenario("hostile-hand", |stage| Box::pin(hands::hostile(stage))),
    scenario("refused", |stage| Box::pin(refused::all(stage))),
    scenario("all-pods-deleted", |stage| Box::pin(faults::all_deleted(stage))),
    scenario("sidecar-image", |stage| Box::pin(rolls::image(stage))),
    // It began beside the first of these; the next ones touch every group.
    scenario("at-rest", |stage| Box::pin(control::at_rest(stage))),
    scenario("operator-killed", |stage| Box::pin(points::killed(stage))),
    scenario("two-operators", |stage| Box::pin(control::two_operators(stage))),
    scenario("certificates", |stage| Box::pin(certificates::all(stage))),
    scenario("nodes-drained", |stage| Box::pin(hands::drain(stage))),
    scenario("node-cut", |stage| Box::pin(cut::node(stage))),
    scenario("node-gone", |stage| Box::pin(gone::node(stage))),
];

/// What happens to the control plane; the chart, and what comes with it.
const CONTROL: &[Scenario] = &[
    scenario("api-storm", |stage| Box::pin(storm::weathered(stage))),
    scenario("fifty-clusters", |stage| Box::pin(fifty::clusters(stage))),
    scenario("api-server-stopped", |stage| Box::pin(control::server_stopped(stage))),
    scenario("api-server-killed", |stage| Box::pin(control::server_killed(stage))),
    // Last: from here on the operator is the chart's.
    scenario("chart-author", |stage| Box::pin(chart::author(stage))),
    scenario("chart-guard", |stage| Box::pin(chart::guard(stage))),
    scenario("attached", |stage| Box::pin(attached::all(stage))),
    scenario("chart", |stage| Box::pin(chart::whole(stage))),
];

fn all() -> impl Iterator<Item = &'static Scenario> {
    [ALONE, GROUPS, CONTROL].into_iter().flatten()
}

impl Options {
    /// Whether a scenario is to run.
    fn picks(&self, name: &str) -> bool {
        let mut only = self.only.iter();
        self.only.is_empty() || only.any(|only| name.contains(only.as_str()))
    }

    /// Whether each that is asked for is one of these.
    fn know(&self, names: &[&str]) -> Result<(), String> {
        let known = |only: &&String| names.iter().any(|name| name.contains(only.as_str()));
        match self.only.iter().find(|only| !known(only)) {
            None => Ok(()),
            Some(unknown) => {
                let names = names.join(", ");
                Err(format!("no scenario is called {unknown}; there are {names}"))
            }
        }
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
    options.know(&all().map(|one| one.name).collect::<Vec<_>>())?;
    lanes::run(options).await
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
