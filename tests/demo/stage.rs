//! The stage: the group, the applications, the probers, and what is done to them.

use super::fault::{Fault, Measure, Outcome};
use super::interrupt;
use super::record::{Line, Records, judge};
use quorate_tests::cluster::{Cluster, Process, Scratch, binary};
use quorate_tests::load::{Caller, Gaps, History, Prober, boottime_ns};
use quorate_tests::screen::Screen;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Everything comes back within this, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the records are looked at.
const LOOK: Duration = Duration::from_millis(1);
/// A leader wrote within this, in ns.
const FRESH_NS: u64 = 100_000_000;
/// Quiet time after a fault, so that its echoes are its own.
const QUIET: Duration = Duration::from_millis(400);
/// How long the Raft leader is stopped.
const STOPPED: Duration = Duration::from_secs(3);

/// What the whole run came to.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Leaders that there were.
    pub leaders: usize,
    /// Lines that they wrote.
    pub records: usize,
    /// Grants and releases that were acknowledged and checked.
    pub acknowledged: usize,
    /// How often a sidecar came back to the same leader.
    pub survived: usize,
    /// Promises that did not hold.
    pub broken: Vec<String>,
}

type Probed = Vec<(History, Vec<String>)>;
/// How to stop the probers, and what they then say.
type Probers = (watch::Sender<bool>, JoinHandle<Probed>);

/// See the module.
pub struct Stage<'a> {
    screen: &'a Screen,
    cluster: Cluster,
    wrappers: Vec<Child>,
    records: Records,
    gaps: Vec<Gaps>,
    probers: Option<Probers>,
    runtime: tokio::runtime::Runtime,
    verdict: Verdict,
    scratch: Scratch,
}

fn runtime() -> Result<tokio::runtime::Runtime, String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(|e| e.to_string())
}

fn start_probers(cluster: &Cluster) -> Result<(Vec<Gaps>, Probers), String> {
    let (stop, stopped) = watch::channel(false);
    let (mut gaps, mut probers) = (Vec::new(), Vec::new());
    for member in &cluster.members {
        let name = format!("probe-{}", member.name);
        let (prober, gap) = Prober::new(member.endpoint.clone(), name);
        gaps.push(gap);
        probers.push(prober);
    }
    let runtime = runtime()?;
    let thread = std::thread::spawn(move || {
        runtime.block_on(async move {
            let running: Vec<_> = probers
                .into_iter()
                .map(|prober| tokio::spawn(prober.run(stopped.clone())))
                .collect();
            let mut results = Vec::new();
            for prober in running {
                match prober.await {
                    Ok(result) => results.push(result),
                    Err(error) => results.push((History::default(), vec![error.to_string()])),
                }
            }
            results
        })
    });
    Ok((gaps, (stop, thread)))
}

impl<'a> Stage<'a> {
    /// Starts everything, and waits until somebody leads.
    pub fn new(screen: &'a Screen) -> Result<Stage<'a>, String> {
        let scratch = Scratch::new("demo")?;
        let arguments = ["--restart-after", "500ms"];
        let cluster = Cluster::start(&scratch.path().join("dev"), &arguments)?;
        let (gaps, probers) = start_probers(&cluster)?;
        let files = (1..=cluster.members.len()).map(|i| scratch.path().join(format!("app-{i}")));
        let records = Records::new(files.collect());
        let mut stage = Stage {
            screen,
            cluster,
            wrappers: Vec::new(),
            records,
            gaps,
            probers: Some(probers),
            runtime: runtime()?,
            verdict: Verdict::default(),
            scratch,
        };
        for app in 0..stage.cluster.members.len() {
            let wrapper = stage.start_app(app)?;
            stage.wrappers.push(wrapper);
        }
        let leader = stage.steady()?;
        stage.announce(leader);
        Ok(stage)
    }

    fn start_app(&self, app: usize) -> Result<Child, String> {
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        Command::new(binary("quorate")?)
            .arg("--endpoint")
            .arg(&self.cluster.members[app].endpoint)
            .args(["elect", "demo", "--again", "--"])
            .arg(own)
            .arg("app")
            .arg(self.scratch.path().join(format!("app-{}", app + 1)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())
    }

    fn announce(&self, line: Line) {
        let (app, token) = (line.app + 1, line.token);
        self.screen.good(&format!("application {app} leads with token {token}"));
    }

    /// Waits until a leader writes, every member's prober succeeds, and every member runs.
    fn steady(&mut self) -> Result<Line, String> {
        interrupt::pause(QUIET)?;
        let (begun, end) = (boottime_ns(), Instant::now() + PATIENCE);
        loop {
            self.cluster.refresh();
            let fresh = |line: &Line| line.at + FRESH_NS > boottime_ns();
            let leader = self.records.last().filter(fresh);
            let probed = self.gaps.iter().all(|gaps| gaps.succeeded_after(begun));
            if let (Some(leader), true) = (leader, probed) {
                return Ok(leader);
            }
            if Instant::now() > end {
                return Err(format!(
                    "after {PATIENCE:?}: leader {leader:?}, probers working {:?}",
                    self.gaps.iter().map(|g| g.succeeded_after(begun)).collect::<Vec<_>>()
                ));
            }
            interrupt::pause(LOOK)?;
        }
    }

    /// Waits for a newer token, and gives its first line.
    fn next_leader(&self, after: u64) -> Result<Line, String> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.records.last().is_some_and(|line| line.token > after) {
                let lines = self.records.lines();
                if let Some(first) = lines.into_iter().find(|line| line.token > after) {
                    self.announce(first);
                    return Ok(first);
                }
            }
            interrupt::pause(LOOK)?;
        }
        Err(format!("nobody led in {PATIENCE:?} after token {after}"))
    }

    /// The place of the Raft leader among the members.
    fn raft_leader(&mut self) -> Result<usize, String> {
        let end = Instant::now() + PATIENCE;
        loop {
            for member in &self.cluster.members {
                let endpoint = member.endpoint.clone();
                let leader = self.runtime.block_on(async move {
                    let mut caller = Caller::connect(endpoint, vec![1; 16]).await.ok()?;
                    caller.leader().await.ok()
                });
                let place = leader
                    .and_then(|leader| self.cluster.members.iter().position(|m| m.name == leader));
                if let Some(place) = place {
                    return Ok(place);
                }
            }
            if Instant::now() > end {
                return Err(format!("no Raft leader in {PATIENCE:?}"));
            }
            interrupt::pause(LOOK)?;
        }
    }

    /// The longest gap of the probers, one member left out.
    fn group_gap(&self, without: usize, from: u64, to: u64) -> u64 {
        let survivors = self.gaps.iter().enumerate().filter(|(i, _)| *i != without);
        survivors.map(|(_, gaps)| gaps.longest(from, to)).max().unwrap_or(0)
    }

    /// Does one thing to the group, and measures what came of it.
    pub fn inflict(&mut self, fault: Fault) -> Result<Outcome, String> {
        let leader = self.steady()?;
        let outcome = match fault {
            Fault::ChildKilled => self.child_killed(leader)?,
            Fault::WrapperKilled => self.wrapper_ended(leader, true)?,
            Fault::Graceful => self.wrapper_ended(leader, false)?,
            Fault::RaftLeaderKilled => {
                let member = self.raft_leader()?;
                let name = self.cluster.members[member].name.clone();
                self.screen.fault(&format!("{name}, the Raft leader, is killed -9"));
                self.sidecar_killed(member)?
            }
            Fault::SidecarKilled => {
                let name = self.cluster.members[leader.app].name.clone();
                self.screen.fault(&format!("{name}, the leading application's, is killed -9"));
                let outcome = self.sidecar_killed(leader.app)?;
                self.same_leader(leader)?;
                outcome
            }
            Fault::RaftLeaderStopped => self.raft_leader_stopped()?,
        };
        for line in &outcome.broken {
            self.screen.bad(line);
            self.verdict.broken.push(line.clone());
        }
        Ok(outcome)
    }

    fn child_killed(&mut self, leader: Line) -> Result<Outcome, String> {
        self.screen.fault(&format!("application {} is killed -9", leader.app + 1));
        let child = Process::new(leader.pid);
        child.kill();
        child.await_gone(PATIENCE);
        let gone = boottime_ns();
        let next = self.next_leader(leader.token)?;
        let measured = vec![(Measure::NameGap, next.at.saturating_sub(gone))];
        Ok(Outcome { measured, broken: Vec::new() })
    }

    fn wrapper_ended(&mut self, leader: Line, killed: bool) -> Result<Outcome, String> {
        let (app, child) = (leader.app, Process::new(leader.pid));
        let wrapper = Process::new(self.wrappers[app].id());
        let at = boottime_ns();
        let mut measured = Vec::new();
        if killed {
            self.screen.fault(&format!("application {}'s wrapper is killed -9", app + 1));
            wrapper.kill();
        } else {
            self.screen.fault(&format!("application {} is asked to end", app + 1));
            wrapper.terminate();
        }
        let ended = child.await_gone(PATIENCE);
        let gone = boottime_ns();
        if killed {
            measured.push((Measure::ChildGone, gone - at));
        }
        let next = self.next_leader(leader.token)?;
        measured.push((Measure::NameGap, next.at.saturating_sub(gone)));
        let _ = self.wrappers[app].wait();
        self.wrappers[app] = self.start_app(app)?;
        let broken = if ended { Vec::new() } else { vec!["the child outlived it".to_owned()] };
        Ok(Outcome { measured, broken })
    }

    fn sidecar_killed(&mut self, member: usize) -> Result<Outcome, String> {
        let before = vec![self.cluster.pids()[member].clone()];
        let at = boottime_ns();
        Process::new(self.cluster.members[member].pid).kill();
        self.cluster.await_restart(&before)?;
        self.screen.news(&format!("{} is back", before[0].0));
        self.steady()?;
        let gap = self.group_gap(member, at, boottime_ns());
        Ok(Outcome { measured: vec![(Measure::GroupGap, gap)], broken: Vec::new() })
    }

    /// After its sidecar came back the same application leads, under the same token, as the same
    /// process.
    fn same_leader(&mut self, before: Line) -> Result<(), String> {
        let now = self.steady()?;
        if (now.token, now.pid) == (before.token, before.pid) {
            self.verdict.survived += 1;
            self.screen.good(&format!("application {} leads on, same token", now.app + 1));
        } else {
            let line = format!(
                "the sidecar came back, and token {} of process {} is now {} of {}",
                before.token, before.pid, now.token, now.pid
            );
            self.screen.bad(&line);
            self.verdict.broken.push(line);
        }
        Ok(())
    }

    fn raft_leader_stopped(&mut self) -> Result<Outcome, String> {
        let member = self.raft_leader()?;
        let name = self.cluster.members[member].name.clone();
        self.screen.fault(&format!("{name}, the Raft leader, is stopped for 3 s"));
        let process = Process::new(self.cluster.members[member].pid);
        let at = boottime_ns();
        process.stop();
        std::thread::sleep(STOPPED);
        process.resume();
        let resumed = boottime_ns();
        self.screen.news(&format!("{name} goes on"));
        self.steady()?;
        let gap = self.group_gap(member, at, resumed);
        Ok(Outcome { measured: vec![(Measure::GroupGap, gap)], broken: Vec::new() })
    }

    /// Ends everything, and judges the records.
    pub fn finish(mut self) -> Result<Verdict, String> {
        let mut verdict = std::mem::take(&mut self.verdict);
        if let Some((stop, thread)) = self.probers.take() {
            let _ = stop.send(true); // It may have ended by itself.
            let results = thread.join().map_err(|_| "the probers' thread failed".to_owned())?;
            let mut history = History::default();
            for (facts, broken) in results {
                history.merge(facts);
                verdict.broken.extend(broken);
            }
            verdict.acknowledged = history.acknowledged();
            verdict.broken.extend(history.check_tokens().err());
        }
        for wrapper in &mut self.wrappers {
            Process::new(wrapper.id()).terminate();
        }
        for wrapper in &mut self.wrappers {
            let _ = wrapper.wait(); // Whatever it exits with: it was asked to end.
        }
        let lines = self.records.lines();
        verdict.records = lines.len();
        match judge(&lines) {
            Ok(leaders) => verdict.leaders = leaders,
            Err(broken) => verdict.broken.push(broken),
        }
        Ok(verdict)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        for wrapper in &mut self.wrappers {
            // Those that ended are gone already.
            let _ = wrapper.kill();
            let _ = wrapper.wait();
        }
    }
}
