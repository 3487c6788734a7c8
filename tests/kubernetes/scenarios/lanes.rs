//! Runs scenarios in lanes: each has a thread and a cluster of its own, with one scenario after the
//! other. What has to be alone on the machine waits until the other lane stands still.

use super::stage::Stage;
use super::{LANES, Options, Scenario, asked_to_end, control, seconds};
use crate::binaries::Binaries;
use crate::up::Wanted;
use crate::{down, say};
use futures_util::future::join_all;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{RwLock, oneshot, watch};

/// Read by who runs beside others, written by who runs alone.
type Machine = Arc<RwLock<()>>;

/// What came of a lane.
#[derive(Default)]
struct Outcome {
    passed: usize,
    failed: Vec<&'static str>,
}

struct Lane {
    options: Options,
    wanted: Wanted,
    scenarios: Vec<&'static Scenario>,
    machine: Machine,
}

/// See the module; true if none failed.
pub(super) async fn run(options: &Options) -> Result<bool, String> {
    let begun = Instant::now();
    // Before the lanes: two would build the same.
    Binaries::ready()?;
    let (machine, (end, ends)) = (Machine::default(), watch::channel(false));
    let mut lanes = Vec::new();
    for (number, scenarios) in LANES.iter().enumerate() {
        let scenarios: Vec<_> = scenarios.iter().filter(|one| options.picks(one)).collect();
        if scenarios.is_empty() {
            continue;
        }
        let wanted = Wanted {
            base: options.base.clone(),
            name: format!("test-{}-{number}", std::process::id()),
            nodes: Some(3),
            images: vec![options.image.clone()],
        };
        let (options, machine) = (options.clone(), Arc::clone(&machine));
        lanes.push(started(Lane { options, wanted, scenarios, machine }, ends.clone()));
    }
    let mut running = std::pin::pin!(join_all(lanes));
    let outcomes = tokio::select! {
        outcomes = &mut running => outcomes,
        why = asked_to_end() => {
            let _ = end.send(true); // Lanes that ended need not be told.
            running.await;
            return Err(why);
        }
    };
    let (mut all, mut broken) = (Outcome::default(), Vec::new());
    for outcome in outcomes {
        match outcome.unwrap_or_else(|_| Err("a lane broke off".to_owned())) {
            Ok(outcome) => {
                all.passed += outcome.passed;
                all.failed.extend(outcome.failed);
            }
            Err(why) => broken.push(why),
        }
    }
    say(&format!("all in {:.0} s", seconds(begun)));
    if !all.failed.is_empty() {
        say(&format!("failed: {}", all.failed.join(", ")));
    }
    say(&format!("{} passed, {} failed", all.passed, all.failed.len()));
    if !broken.is_empty() {
        return Err(broken.join("; "));
    }
    Ok(all.failed.is_empty())
}

/// On a thread: kubectl and Helm are waited for where they are called.
fn started(lane: Lane, ends: watch::Receiver<bool>) -> oneshot::Receiver<Result<Outcome, String>> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody listens any more only if the program ends.
        let _ = tell.send(lane.whole(ends));
    });
    told
}

impl Lane {
    /// All of it, and its cluster ends.
    fn whole(&self, mut ends: watch::Receiver<bool>) -> Result<Outcome, String> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().map_err(|e| e.to_string())?;
        let work = async {
            tokio::select! {
                ran = self.scenarios() => ran,
                // An error means that nobody can say it any more.
                _ = ends.wait_for(|end| *end) => Err("asked to end".to_owned()),
            }
        };
        // Whatever happens, the cluster ends.
        let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        let ran = ran.unwrap_or_else(|_| Err("a scenario panicked".to_owned()));
        let _beside = runtime.block_on(self.machine.read());
        let ended = down::down(&self.wanted.base, &self.wanted.name);
        let outcome = ran?;
        ended?;
        Ok(outcome)
    }

    async fn scenarios(&self) -> Result<Outcome, String> {
        let begun = Instant::now();
        let beside = self.machine.read().await;
        let stage = Stage::new(&self.options, &self.wanted).await?;
        let first = self.scenarios.first().map_or("", |one| one.name);
        let up = seconds(begun);
        say(&format!("a cluster is up, and its operator works: {up:.1} s; first: {first}"));
        if self.scenarios.iter().any(|one| one.name == "at-rest") {
            stage.at_rest.set(Some(control::rest(&stage).await));
        }
        drop(beside);
        let mut outcome = Outcome::default();
        for scenario in &self.scenarios {
            if scenario.alone {
                let _alone = self.machine.write().await;
                outcome.add(scenario, &stage).await;
            } else {
                let _beside = self.machine.read().await;
                outcome.add(scenario, &stage).await;
            }
        }
        Ok(outcome)
    }
}

impl Outcome {
    /// Runs one, and says what came of it.
    async fn add(&mut self, scenario: &Scenario, stage: &Stage) {
        let (name, begun) = (scenario.name, Instant::now());
        match (scenario.run)(stage).await {
            Ok(measured) => {
                self.passed += 1;
                say(&format!("ok    {name:<20}{:>6.1} s  {measured}", seconds(begun)));
            }
            Err(why) => {
                self.failed.push(name);
                say(&format!("FAIL  {name:<20}{:>6.1} s  {why}", seconds(begun)));
                say(&stage.told().await);
            }
        }
        stage.clear();
    }
}
