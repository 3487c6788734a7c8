//! Runs scenarios in lanes: each has a thread and a cluster of its own, with one scenario after the
//! other. What has to be alone on the machine comes first, before there is another cluster.

use super::outcome::Outcome;
use super::stage::Stage;
use super::{ALONE, CONTROL, GROUPS, Options, Scenario, asked_to_end, control, seconds};
use crate::binaries::Binaries;
use crate::up::Wanted;
use crate::{down, say};
use futures_util::future::join_all;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use tokio::sync::{oneshot, watch};

/// What a lane waits for, and what the other one waits for: until it is dropped.
type Turn = (oneshot::Receiver<()>, Option<oneshot::Sender<()>>);

struct Lane {
    options: Options,
    wanted: Wanted,
    /// Nothing else of ours runs beside these, which come first.
    alone: Vec<&'static Scenario>,
    scenarios: Vec<&'static Scenario>,
}

/// See the module; true if none failed.
pub(super) async fn run(options: &Options) -> Result<bool, String> {
    let begun = Instant::now();
    // Before the lanes: two would build the same.
    Binaries::ready()?;
    let (end, ends) = watch::channel(false);
    let first = Lane::new(options, 0, ALONE, GROUPS);
    let second = Lane::new(options, 1, &[], CONTROL);
    // A lane begins when its sender is dropped: at once, or after what is alone in the other.
    let ((_, at_once), (done, after)) = (oneshot::channel(), oneshot::channel());
    let lanes: Vec<_> = [(first, at_once, Some(done)), (second, after, None)]
        .into_iter()
        .filter(|(lane, ..)| lane.all().next().is_some())
        .map(|(lane, before, done)| started(lane, (before, done), ends.clone()))
        .collect();
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
            Ok(outcome) => all.merge(outcome),
            Err(why) => broken.push(why),
        }
    }
    let passed = all.tell(begun);
    if broken.is_empty() { Ok(passed) } else { Err(broken.join("; ")) }
}

/// On a thread: kubectl and Helm are waited for where they are called.
fn started(
    lane: Lane,
    turn: Turn,
    ends: watch::Receiver<bool>,
) -> oneshot::Receiver<Result<Outcome, String>> {
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        // Nobody listens any more only if the program ends.
        let _ = tell.send(lane.whole(turn, ends));
    });
    told
}

impl Lane {
    fn new(
        options: &Options,
        number: usize,
        alone: &'static [Scenario],
        scenarios: &'static [Scenario],
    ) -> Lane {
        let picked =
            |of: &'static [Scenario]| of.iter().filter(|one| options.picks(one.name)).collect();
        let wanted = Wanted {
            base: options.base.clone(),
            name: format!("test-{}-{number}", std::process::id()),
            nodes: Some(3),
            images: vec![options.image.clone()],
        };
        let (alone, scenarios) = (picked(alone), picked(scenarios));
        Lane { options: options.clone(), wanted, alone, scenarios }
    }

    fn all(&self) -> impl Iterator<Item = &'static Scenario> {
        self.alone.iter().chain(&self.scenarios).copied()
    }

    /// All of it, and its cluster ends.
    fn whole(&self, turn: Turn, mut ends: watch::Receiver<bool>) -> Result<Outcome, String> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().map_err(|e| e.to_string())?;
        let work = async {
            tokio::select! {
                ran = self.run(turn) => ran,
                // An error means that nobody can say it any more.
                _ = ends.wait_for(|end| *end) => Err("asked to end".to_owned()),
            }
        };
        // Whatever happens, the cluster ends.
        let ran = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work)));
        let ran = ran.unwrap_or_else(|_| Err("a scenario panicked".to_owned()));
        let ended = down::down(&self.wanted.base, &self.wanted.name);
        let outcome = ran?;
        ended?;
        Ok(outcome)
    }

    async fn run(&self, turn: Turn) -> Result<Outcome, String> {
        let (before, done) = turn;
        // It is never sent to: an error is that it was dropped.
        let _ = before.await;
        let begun = Instant::now();
        let stage = Stage::new(&self.options, &self.wanted).await?;
        let first = self.all().next().map_or("", |one| one.name);
        let up = seconds(begun);
        say(&format!("a cluster is up, and its operator works: {up:.1} s; first: {first}"));
        let mut outcome = Outcome::default();
        for scenario in &self.alone {
            tried(scenario, &stage, &mut outcome).await;
        }
        drop(done);
        if self.scenarios.iter().any(|one| one.name == "at-rest") {
            stage.at_rest.set(Some(control::rest(&stage).await));
        }
        for scenario in &self.scenarios {
            tried(scenario, &stage, &mut outcome).await;
        }
        Ok(outcome)
    }
}

async fn tried(scenario: &Scenario, stage: &Stage, outcome: &mut Outcome) {
    let begun = Instant::now();
    let ran = (scenario.run)(stage).await;
    if !outcome.add(scenario.name, begun, ran) {
        say(&stage.told().await);
    }
    stage.clear();
}
