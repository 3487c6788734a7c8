//! What the demo does to the group, and what is measured of it.

use super::super::faults::kill_leader;
use super::super::leaders::{self, Leaders, Term};
use super::super::load::Load;
use super::super::space::{PATIENCE, Pod, Space, application_of, kill, until};
use super::measured::Measured;
use crate::network;
use quorate_load::boottime_ns;
use quorate_load::screen::{Row, Screen};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// How long a node is cut off, and the API server stopped.
const AWAY: Duration = Duration::from_secs(20);
/// What people see when nothing happens.
const QUIET: Duration = Duration::from_secs(1);

const GAP: &str = "group gap";
const NEXT: &str = "next leads";
const READY: &str = "Ready after";

/// See the module.
pub(super) struct Show<'a> {
    pub(super) screen: Screen,
    pub(super) space: &'a Space<'a>,
    pub(super) leaders: &'a RefCell<Leaders>,
    load: Load<'a>,
    measured: Measured,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a> Show<'a> {
    /// With clients at every pod.
    pub(super) async fn new(
        space: &'a Space<'a>,
        screen: Screen,
        leaders: &'a RefCell<Leaders>,
    ) -> Result<Show<'a>, String> {
        let mut load = Load::start(space).await?;
        load.keep("demo-0", 20).await?;
        Ok(Show { screen, space, leaders, load, measured: Measured::default() })
    }

    /// One of each fault.
    pub(super) async fn round(&mut self) -> Result<(), String> {
        self.application().await?;
        self.pod().await?;
        self.sidecar().await?;
        self.scale(3, 5).await?;
        self.scale(5, 3).await?;
        self.volume().await?;
        self.node().await?;
        self.server().await
    }

    /// The application that leads now.
    async fn leading(&self) -> Result<(Term, Pod), String> {
        let none = || "no application leads".to_owned();
        let term = self.leaders.borrow().last().cloned().ok_or_else(none)?;
        let pod = self.space.pod(&term.pod).await?;
        Ok((term, pod))
    }

    /// Waits for the next leader; ns since `from`, which is the time since 1970.
    async fn next(&self, after: &Term, from: u64) -> Result<u64, String> {
        until("another application leads", PATIENCE, async || {
            let last = self.leaders.borrow().last().cloned();
            let next = last.filter(|term| term.token > after.token);
            let next = next.ok_or_else(|| format!("the last token is {}", after.token))?;
            Ok(next.first.saturating_sub(from))
        })
        .await
    }

    async fn calm(&self) -> Result<(), String> {
        self.load.succeed().await?;
        tokio::time::sleep(QUIET).await;
        Ok(())
    }

    async fn application(&mut self) -> Result<(), String> {
        let fault = "leading application killed -9";
        let (term, pod) = self.leading().await?;
        self.screen.fault(&format!("the application in {} is killed -9", pod.name));
        let (from, at) = (boottime_ns(), leaders::now());
        kill(application_of(&pod)?)?;
        let next = self.next(&term, at).await?;
        self.space.settled(3).await?;
        self.load.succeed().await?;
        self.measured.add(fault, GAP, self.load.gap(from, &[]));
        self.measured.add(fault, NEXT, next);
        self.calm().await
    }

    async fn pod(&mut self) -> Result<(), String> {
        let fault = "leading pod deleted";
        let (term, pod) = self.leading().await?;
        let name = &pod.name;
        self.screen.fault(&format!("kubectl delete pod {name}, whose application leads"));
        let (from, at, begun) = (boottime_ns(), leaders::now(), Instant::now());
        self.space.kubectl(&["delete", "pod", name, "--wait=false"])?;
        let next = self.next(&term, at).await?;
        until("another pod has its place", PATIENCE, async || {
            let new = self.space.pod(name).await?;
            if new.uid == pod.uid { Err("it is the old one".to_owned()) } else { Ok(()) }
        })
        .await?;
        self.space.settled(3).await?;
        let took = nanos(begun.elapsed());
        self.load.succeed().await?;
        self.measured.add(fault, GAP, self.load.gap(from, &[name]));
        self.measured.add(fault, NEXT, next);
        self.measured.add(fault, READY, took);
        self.calm().await
    }

    async fn sidecar(&mut self) -> Result<(), String> {
        let leader = self.space.some_leader().await?;
        let killed = format!("the sidecar of {leader}, the Raft leader, is killed -9");
        self.screen.fault(&killed);
        let (_, gap) = kill_leader(self.space, &self.load).await?;
        self.measured.add("Raft leader's sidecar killed -9", GAP, gap);
        self.calm().await
    }

    async fn scale(&mut self, from: usize, to: usize) -> Result<(), String> {
        let fault = if from < to { "scaled 3 to 5" } else { "scaled 5 to 3" };
        let doomed: Vec<String> = (to..from).map(|ordinal| format!("demo-{ordinal}")).collect();
        self.load.retire(&doomed, "demo-0").await?;
        self.screen.fault(&format!("kubectl scale raft/demo --replicas={to}"));
        let (at, begun) = (boottime_ns(), Instant::now());
        self.space.scale(to)?;
        self.space.settled(to).await?;
        let took = nanos(begun.elapsed());
        self.load.succeed().await?;
        self.load.none_failed(at, &[])?;
        self.measured.add(fault, GAP, self.load.gap(at, &[]));
        self.measured.add(fault, READY, took);
        self.load.follow().await?;
        self.load.keep(&format!("demo-{}", to - 1), 10).await?;
        self.calm().await
    }

    /// The member that votes from a pod.
    async fn member(&self, pod: &str) -> Result<String, String> {
        let raft = self.space.raft().await?;
        let members = raft["status"]["members"].as_array().cloned().unwrap_or_default();
        let votes = members.iter().find(|one| one["name"] == pod && one["role"] == "Voter");
        let id = votes.and_then(|one| one["memberId"].as_str().map(str::to_owned));
        id.ok_or_else(|| format!("{pod} does not vote"))
    }

    async fn volume(&mut self) -> Result<(), String> {
        let fault = "volume deleted";
        let leader = self.space.some_leader().await?;
        let pods = self.space.pods().await?;
        let pod = pods.into_iter().map(|pod| pod.name).rfind(|name| *name != leader);
        let pod = pod.ok_or("there is one pod alone")?;
        let others = if leader == "demo-0" { "demo-1" } else { "demo-0" };
        let ask = if pod == others { leader.as_str() } else { others };
        self.load.retire(std::slice::from_ref(&pod), ask).await?;
        let before = self.member(&pod).await?;
        self.screen.fault(&format!("the volume of {pod} is deleted, and the pod"));
        let (at, begun) = (boottime_ns(), Instant::now());
        let claim = format!("quorate-log-{pod}");
        self.space.kubectl(&["delete", "pvc", &claim, "--wait=false"])?;
        self.space.kubectl(&["delete", "pod", &pod, "--wait=false"])?;
        until("another member votes in its place", PATIENCE, async || {
            let now = self.member(&pod).await?;
            if now == before { Err("it is the old one".to_owned()) } else { Ok(()) }
        })
        .await?;
        self.space.settled(3).await?;
        let took = nanos(begun.elapsed());
        self.load.succeed().await?;
        self.load.none_failed(at, &[])?;
        self.measured.add(fault, GAP, self.load.gap(at, &[]));
        self.measured.add(fault, READY, took);
        self.load.follow().await?;
        self.calm().await
    }

    async fn node(&mut self) -> Result<(), String> {
        let fault = "leading node cut off for 20 s";
        let (term, pod) = self.leading().await?;
        let node = pod.node_number()?;
        let pods = self.space.pods().await?;
        let away: Vec<&str> =
            pods.iter().filter(|one| one.node == pod.node).map(|one| one.name.as_str()).collect();
        let with = away.join(" and ");
        self.screen.fault(&format!("node{node} is cut off, with {with}"));
        let (from, at, cut) = (boottime_ns(), leaders::now(), Instant::now());
        network::link(&self.space.stage.instance, node, false)?;
        let next = self.next(&term, at).await;
        tokio::time::sleep(AWAY.saturating_sub(cut.elapsed())).await;
        let gap = self.load.gap(from, &away);
        self.screen.fault(&format!("node{node} is back"));
        network::link(&self.space.stage.instance, node, true)?;
        let next = next?;
        let begun = Instant::now();
        self.load.succeed().await?;
        self.space.settled(3).await?;
        self.measured.add(fault, GAP, gap);
        self.measured.add(fault, NEXT, next);
        self.measured.add(fault, READY, nanos(begun.elapsed()));
        self.calm().await
    }

    async fn server(&mut self) -> Result<(), String> {
        let fault = "API server stopped for 20 s";
        let (term, pod) = self.leading().await?;
        let application = application_of(&pod)?;
        let stage = self.space.stage;
        self.screen.fault("the API server is stopped");
        let (from, begun) = (boottime_ns(), Instant::now());
        stage.freeze(true)?;
        let held: Result<u64, String> = async {
            tokio::time::sleep(AWAY / 4).await;
            self.load.none_failed(from, &[])?;
            let name = &pod.name;
            self.screen.fault(&format!("meanwhile the application in {name} is killed -9"));
            let at = leaders::now();
            kill(application)?;
            let next = self.next(&term, at).await?;
            tokio::time::sleep(AWAY.saturating_sub(begun.elapsed())).await;
            self.load.succeed().await?;
            Ok(next)
        }
        .await;
        let gap = self.load.gap(from, &[]);
        let failed = self.load.none_failed(from, &[]);
        self.screen.fault("the API server goes on");
        stage.freeze(false)?;
        let next = held?;
        failed?;
        self.space.settled(3).await?;
        self.measured.add(fault, GAP, gap);
        self.measured.add(fault, NEXT, next);
        self.calm().await
    }

    /// Ends the clients, and asks the group about every name. Gives the table, and how many grants
    /// and releases were judged, or which promise was broken.
    pub(super) async fn finish(self) -> (Vec<Row>, Result<usize, String>) {
        (self.measured.rows(), self.load.finish().await)
    }
}
