//! Recorded clients at every pod of a RaftCluster, on a thread of their own.
//!
//! A prober at each pod takes and returns a name of its own without end: when it succeeded and
//! when it was refused is known. A rival at each pod claims one name with all others. Besides,
//! names are taken and kept. At the end the group is asked
//! about every name. A prober follows its pod's name: to the pod that comes after it as well.

use super::rival::{self, Held};
use super::space::{PATIENCE, Space, until};
use quorate_load::{Caller, Fact, Failed, Failure, Gaps, History, Prober, boottime_ns};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Sessions of kept names outlive every scenario.
pub(super) const KEPT_TTL_MS: u64 = 600_000;
/// The machine itself stood still for so long: what is measured meanwhile is not the product's.
const STALL: Duration = Duration::from_millis(100);
/// What clients leave the cluster's own processes of this machine.
const PACE: Duration = Duration::from_millis(4);
const TICK: Duration = Duration::from_millis(5);

struct Probe {
    rival: tokio::task::JoinHandle<()>,
    gaps: Gaps,
    stop: watch::Sender<bool>,
    ends: tokio::task::JoinHandle<(History, Vec<String>)>,
}

/// See the module.
pub(super) struct Load<'a> {
    space: &'a Space<'a>,
    /// Of probers' sessions, where it is not the usual one.
    ttl_ms: Option<u64>,
    handle: Handle,
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    probes: BTreeMap<String, Probe>,
    kept: History,
    all: History,
    stalls: Stalls,
    holds: Holds,
}

/// What rivals held.
type Holds = Arc<Mutex<Vec<Held>>>;

/// When this machine stood still: boottime in ns.
type Stalls = Arc<Mutex<Vec<u64>>>;

pub(super) fn words(failed: Failed) -> String {
    format!("{} {}", failed.reason, failed.message).trim().to_owned()
}

/// A key for a session.
pub(super) fn key() -> Result<Vec<u8>, String> {
    let mut key = [0; 16];
    rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|e| e.to_string())?;
    Ok(key.to_vec())
}

/// A planned change costs other pods no more than this, in ns.
pub(super) const PLANNED_MAX: u64 = 2_000_000_000;
/// And 99 of a hundred operations no more than this.
const PLANNED_P99: u64 = 500_000_000;

/// What a planned change cost.
pub(super) struct Planned {
    /// The longest time without a success, in ns.
    pub(super) gap: u64,
    /// Of the operations, in ns.
    p99: u64,
    pub(super) operations: usize,
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gap, p99) = (ms(self.gap), ms(self.p99));
        write!(f, "gap {gap}, p99 {p99} of {} operations", self.operations)
    }
}

impl<'a> Load<'a> {
    /// Starts a prober at each pod, and waits until each succeeds.
    pub(super) async fn start(space: &'a Space<'a>) -> Result<Load<'a>, String> {
        Load::lasting(space, None).await
    }

    /// The same with probers whose sessions last longer: they do not show whether sessions are
    /// renewed, and go on at a pod that is away for long.
    pub(super) async fn lasting(
        space: &'a Space<'a>,
        ttl_ms: Option<u64>,
    ) -> Result<Load<'a>, String> {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build().map_err(|e| e.to_string())?;
        let handle = runtime.handle().clone();
        let (end, mut ended) = watch::channel(false);
        let stalls = Stalls::default();
        let seen = stalls.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = watch_machine(&seen) => {}
                    // An error means that nobody can say stop any more.
                    _ = ended.wait_for(|end| *end) => {}
                }
            });
        });
        let (probes, kept, all, holds) = Default::default();
        let thread = Some(thread);
        let mut load =
            Load { space, ttl_ms, handle, end, thread, probes, kept, all, stalls, holds };
        load.follow().await?;
        Ok(load)
    }

    /// Starts probers at pods that have none, and waits until all succeed.
    pub(super) async fn follow(&mut self) -> Result<(), String> {
        for pod in self.space.pods().await? {
            if self.probes.contains_key(&pod.name) {
                continue;
            }
            let socket = self.space.socket(&pod.name);
            let holds = Arc::clone(&self.holds);
            let rival = rival::compete(socket.clone(), move |held| {
                holds.lock().unwrap_or_else(PoisonError::into_inner).push(held);
            });
            let rival = self.handle.spawn(rival);
            // Of an earlier pod of that name a prober may hold a name until its TTL.
            let (mut prober, gaps) = Prober::new(socket, format!("probe-{}-{}", pod.name, pod.uid));
            if let Some(ttl_ms) = self.ttl_ms {
                prober = prober.lasting(ttl_ms);
            }
            let (stop, stopped) = watch::channel(false);
            let ends = self.handle.spawn(prober.paced(PACE).run(stopped));
            self.probes.insert(pod.name, Probe { rival, gaps, stop, ends });
        }
        self.succeed().await
    }

    /// Waits until every prober succeeded after this moment.
    pub(super) async fn succeed(&self) -> Result<(), String> {
        let now = boottime_ns();
        until("every client's calls succeed", PATIENCE, async || {
            let silent = self.probes.iter().filter(|(_, probe)| !probe.gaps.succeeded_after(now));
            let silent: Vec<&String> = silent.map(|(pod, _)| pod).collect();
            if silent.is_empty() { Ok(()) } else { Err(format!("not yet at {silent:?}")) }
        })
        .await
    }

    fn others(&self, without: &[&str]) -> impl Iterator<Item = (&String, &Gaps)> {
        let others = self.probes.iter().filter(|(pod, _)| !without.contains(&pod.as_str()));
        others.map(|(pod, probe)| (pod, &probe.gaps))
    }

    /// The longest time since `from` without a success at any pod but these, in ns.
    pub(super) fn gap(&self, from: u64, without: &[&str]) -> u64 {
        self.gap_but(from, without, &BTreeMap::new())
    }

    /// The same; at some pods, only what there was since another moment counts.
    pub(super) fn gap_but(&self, from: u64, without: &[&str], back: &BTreeMap<String, u64>) -> u64 {
        let span = (from, boottime_ns());
        let since = |pod: &String| back.get(pod).copied().unwrap_or(0);
        let others = self.others(without);
        others.map(|(pod, gaps)| gaps.longest_of(span, since(pod))).max().unwrap_or(0)
    }

    /// What a planned change cost since `from`: no call at any pod but these failed, few waited,
    /// and none for long.
    pub(super) fn planned(&self, from: u64, without: &[&str]) -> Result<Planned, String> {
        self.none_failed(from, without)?;
        let mut took: Vec<u64> =
            self.others(without).flat_map(|(_, gaps)| gaps.took(from)).collect();
        took.sort_unstable();
        let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or(u64::MAX);
        let planned = Planned { gap: self.gap(from, without), p99, operations: took.len() };
        if planned.gap > PLANNED_MAX || planned.p99 > PLANNED_P99 {
            return Err(format!("a planned change cost {planned}"));
        }
        Ok(planned)
    }

    /// Operations of all pods so far.
    pub(super) fn operations(&self) -> usize {
        self.probes.values().map(|probe| probe.gaps.count()).sum()
    }

    /// No call at any pod but these failed since `from`.
    pub(super) fn none_failed(&self, from: u64, without: &[&str]) -> Result<(), String> {
        self.none_failed_but((from, boottime_ns()), without, &BTreeMap::new())
    }

    /// The same between two moments; at some pods, only calls count that were begun after another.
    pub(super) fn none_failed_but(
        &self,
        (from, to): (u64, u64),
        without: &[&str],
        back: &BTreeMap<String, u64>,
    ) -> Result<(), String> {
        for (pod, gaps) in self.others(without) {
            let back = back.get(pod).copied().unwrap_or(0);
            let mut failed = gaps.failed(from, to);
            failed.retain(|failure| failure.begun > back);
            if let Some(Failure { begun, ended, why }) = failed.first() {
                let (count, took) = (failed.len(), ms(ended - begun));
                return Err(format!("{count} calls at {pod} failed, one after {took}: {why}"));
            }
        }
        Ok(())
    }

    /// Whether the machine stood still since `from`.
    pub(super) fn stalled(&self, from: u64) -> bool {
        let stalls = self.stalls.lock().unwrap_or_else(PoisonError::into_inner);
        stalls.iter().any(|at| *at >= from)
    }

    /// Takes names at a pod, and keeps them.
    pub(super) async fn keep(&mut self, pod: &str, names: usize) -> Result<(), String> {
        self.kept.merge(keep(self.space, pod, names).await?);
        Ok(())
    }

    /// Ends the probers of pods that are to leave, and asks the group about their names.
    pub(super) async fn retire(&mut self, pods: &[String], ask: &str) -> Result<(), String> {
        for pod in pods {
            if let Some(probe) = self.probes.remove(pod) {
                let history = ended(probe).await?;
                verify(self.space, &history, ask).await?;
                self.all.merge(history);
            }
        }
        Ok(())
    }

    /// Ends all, and asks the group about every name: nothing acknowledged may be lost. Gives how
    /// many grants and releases were judged.
    pub(super) async fn finish(mut self) -> Result<usize, String> {
        let ask = self.space.some_leader().await?;
        let pods: Vec<String> = self.probes.keys().cloned().collect();
        self.retire(&pods, &ask).await?;
        let kept = std::mem::take(&mut self.kept);
        verify(self.space, &kept, &ask).await?;
        self.all.merge(kept);
        self.all.check_tokens()?;
        let holds = std::mem::take(&mut *self.holds.lock().unwrap_or_else(PoisonError::into_inner));
        rival::judge(holds)?;
        Ok(self.all.acknowledged())
    }
}

/// Takes names at a pod, and keeps them for longer than a scenario takes.
pub(super) async fn keep(space: &Space<'_>, pod: &str, names: usize) -> Result<History, String> {
    let mut caller = Caller::connect(space.socket(pod), key()?).await.map_err(words)?;
    let label = format!("kept-{pod}-{}", boottime_ns());
    let _attached = caller.open(KEPT_TTL_MS, &label).await.map_err(words)?;
    let mut kept = History::default();
    for number in 0..names {
        let (name, request) = (format!("{label}-{number}"), caller.request());
        let token = caller.acquire(&name, request, 5_000).await.map_err(words)?;
        let token = token.ok_or_else(|| format!("{name} is nobody else's, and not granted"))?;
        kept.add(Fact::Granted { name, token });
    }
    Ok(kept)
}

/// Asks the group, at a pod, about every name. Gives how many they are.
pub(super) async fn verify(
    space: &Space<'_>,
    history: &History,
    ask: &str,
) -> Result<usize, String> {
    until("the group is asked about every name", PATIENCE, async || {
        let socket = space.socket(ask);
        let mut caller = Caller::connect(socket, key()?).await.map_err(words)?;
        Ok(history.verify(&mut caller).await)
    })
    .await?
}

async fn ended(probe: Probe) -> Result<History, String> {
    probe.rival.abort();
    let _ = probe.stop.send(true); // It may have ended by itself.
    let (history, broken) = probe.ends.await.map_err(|e| e.to_string())?;
    match broken.first() {
        Some(broken) => Err(format!("a promise was broken: {broken}")),
        None => Ok(history),
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let _ = self.end.send(true); // It may have ended by itself.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Notes when the machine does not run what is ready to run.
async fn watch_machine(stalls: &Stalls) {
    loop {
        let before = boottime_ns();
        tokio::time::sleep(TICK).await;
        let now = boottime_ns();
        if Duration::from_nanos(now - before) > STALL {
            stalls.lock().unwrap_or_else(PoisonError::into_inner).push(now);
        }
    }
}

/// Nanoseconds as milliseconds with one decimal.
pub(super) fn ms(nanos: u64) -> String {
    format!("{}.{} ms", nanos / 1_000_000, nanos / 100_000 % 10)
}
