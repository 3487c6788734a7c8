//! `demo --kubernetes --kubeconfig FILE`: the main job on a cluster that is there already.

use super::super::Options;
use super::super::space::NAME;
use super::super::there::{Elsewhere, There, on};
use super::measured::Measured;
use quorate_load::screen::Screen;
use std::time::Instant;

/// Where the example is applied.
const SPACE: &str = "quorate-demo";

const NEXT: &str = "next leads";
const READY: &str = "Ready after";

/// Shows it there; true if every promise was kept.
///
/// # Errors
/// What that cluster lacks, or what did not come about.
pub async fn run(
    options: &Options,
    (rounds, color): (u32, bool),
    to: &Elsewhere,
) -> Result<bool, String> {
    let screen = Screen::new(color);
    screen.title("Your Kubernetes, three pods, one leader. Helm and kubectl do the rest.");
    on((options, Some(screen)), to, SPACE, async |there| {
        Show { there, screen, measured: Measured::default() }.whole(rounds).await
    })
    .await
}

struct Show<'a> {
    there: &'a There,
    screen: Screen,
    measured: Measured,
}

impl Show<'_> {
    /// Does something, and measures until all is well again.
    async fn step(
        &mut self,
        what: &'static str,
        replicas: usize,
        words: &[&str],
    ) -> Result<(), String> {
        self.screen.fault(what);
        let begun = Instant::now();
        self.there.within(words)?;
        self.there.ready(replicas).await?;
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.measured.add(what, READY, took);
        Ok(())
    }

    async fn whole(&mut self, rounds: u32) -> Result<bool, String> {
        self.there.example("apply")?;
        self.screen.news("kubectl apply -f examples/kubernetes/raftcluster.yaml");
        self.there.ready(3).await?;
        self.there.led(0).await?;
        for _ in 0..rounds {
            self.round().await?;
        }
        self.screen.table(&self.measured.rows());
        Ok(self.there.leaders.borrow().tell(&self.screen))
    }

    async fn round(&mut self) -> Result<(), String> {
        let there = self.there;
        self.step("scaled from 3 to 5", 5, &["scale", "raft/demo", "--replicas=5"]).await?;
        self.step("scaled from 5 to 3", 3, &["scale", "raft/demo", "--replicas=3"]).await?;
        let what = "leading pod deleted";
        let before = there.led(0).await?;
        let words = ["delete", "pod", &before.pod, "--grace-period=1", "--wait=false"];
        self.step(what, 3, &words).await?;
        let after = there.led(before.token).await?;
        // Of the former, what was printed after it was looked at last, too.
        let last = there.leaders.borrow().last_of(before.token);
        self.measured.add(what, NEXT, after.first.saturating_sub(last));
        let claim = format!("quorate-log-{}", after.pod);
        there.within(&["delete", "pvc", &claim, "--wait=false"])?;
        let words = ["delete", "pod", &after.pod, "--wait=false"];
        self.step("leading pod and volume deleted", 3, &words).await?;
        there.led(after.token).await?;
        let own = format!("quorate.dev/cluster={NAME}");
        let words = ["delete", "pods", "-l", &own, "--wait=false"];
        self.step("all pods deleted at once", 3, &words).await
    }
}
