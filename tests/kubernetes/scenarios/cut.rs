//! A node that is cut off for a minute: the leader's, with clients on both sides of the cut.

use super::faults::SILENT_MAX;
use super::gone;
use super::load::{KEPT_TTL_MS, Load, key, ms, words};
use super::rolls::uids;
use super::seconds;
use super::space::{PATIENCE, Space, standalone, until};
use super::stage::Stage;
use crate::network;
use quorate_load::{Attached, Caller, Failed, boottime_ns};
use std::time::{Duration, Instant};

/// For so long: longer than the control plane takes to call its pods not ready.
const CUT: Duration = Duration::from_secs(60);
/// Until the network is down, a client at the leader may still be served, in ns.
const UNTIL_DOWN: u64 = 2_000_000_000;
/// The name that is claimed on both sides.
const BOTH: &str = "both-sides";

/// A client whose session outlives the cut.
struct Client {
    caller: Caller,
    /// It ends with its sender.
    _attached: Attached,
}

impl Client {
    async fn new(space: &Space<'_>, pod: &str) -> Result<Client, String> {
        let mut caller = Caller::connect(space.socket(pod), key()?).await.map_err(words)?;
        let attached = caller.open(KEPT_TTL_MS, BOTH).await.map_err(words)?;
        Ok(Client { caller, _attached: attached })
    }

    async fn claim(&mut self) -> Result<Option<u64>, Failed> {
        let request = self.caller.request();
        self.caller.acquire(BOTH, request, 5_000).await
    }

    /// A leader without a majority grants nothing, and says why.
    async fn is_refused(&mut self) -> Result<(), String> {
        match self.claim().await {
            Err(failed) if failed.reason == "NO_QUORUM" => Ok(()),
            Err(failed) => Err(format!("the leader that was cut off said {}", words(failed))),
            Ok(token) => Err(format!("the leader that was cut off answered: {token:?}")),
        }
    }

    async fn is_granted(&mut self) -> Result<(), String> {
        until("the others grant a name", PATIENCE, async || {
            self.claim().await.map_err(words)?.ok_or("it is somebody else's")?;
            Ok(())
        })
        .await
    }
}

/// One name is claimed on both sides at once, and once more at the leader that is cut off.
async fn claimed(cut: &mut Client, rest: &mut Client) -> Result<(), String> {
    let (refused, granted) = tokio::join!(cut.is_refused(), rest.is_granted());
    refused?;
    granted?;
    cut.is_refused().await
}

/// The others go on, and it comes back with what it had.
pub(super) async fn node(stage: &Stage) -> Result<String, String> {
    let space = Space::settled_new(stage, "cut", standalone(3)).await?;
    let mut load = Load::lasting(&space, Some(KEPT_TTL_MS)).await?;
    load.keep("demo-0", 20).await?;
    let leader = space.pod(&space.some_leader().await?).await?;
    let (pods, number) = (space.pods().await?, leader.node_number()?);
    let (before, leader, node) = (uids(&pods), leader.name, leader.node);
    if pods.iter().filter(|pod| pod.node == node).count() != 1 {
        return Err(format!("another pod is on {node}, too"));
    }
    let others: Vec<&str> = before.keys().map(String::as_str).filter(|n| *n != leader).collect();
    let (mut cut, mut rest) =
        (Client::new(&space, &leader).await?, Client::new(&space, others[0]).await?);
    let from = boottime_ns();
    network::link(&stage.instance, number, false)?;
    let (claimed, ()) = tokio::join!(claimed(&mut cut, &mut rest), tokio::time::sleep(CUT));
    let held = load.none_failed(from, &[&leader]);
    let (gap, alone) = (load.gap(from, &[&leader]), load.gap(from, &others));
    let seen = space.pod(&leader).await.map(|pod| pod.ready);
    network::link(&stage.instance, number, true)?;
    let begun = Instant::now();
    let served = load.succeed().await;
    let serves = seconds(begun);
    let settled = space.settled(3).await;
    let ready = seconds(begun);
    // Whatever comes next has all nodes, also after a failure.
    let back = gone::back(stage, &node).await;
    held.and(claimed).and(served).and(settled).and(back)?;
    judge(gap, alone, seen?)?;
    let after = uids(&space.pods().await?);
    if after != before {
        return Err(format!("pods are others: {before:?}, then {after:?}"));
    }
    let checked = load.finish().await?;
    Ok(format!(
        "the leader's node away for {} s: gap of the others {}, a name refused there and granted \
         by them; back: serves after {serves:.1} s, Ready after {ready:.1} s; {checked} \
         acknowledged, 0 lost",
        CUT.as_secs(),
        ms(gap)
    ))
}

/// The longest times without a success, of the others and at the leader that was cut off, in ns;
/// and whether the control plane still calls that one ready.
fn judge(gap: u64, alone: u64, ready: bool) -> Result<(), String> {
    if gap > SILENT_MAX {
        return Err(format!("the others had a gap of {}", ms(gap)));
    }
    if Duration::from_nanos(alone + UNTIL_DOWN) < CUT {
        return Err(format!("a leader without a majority served: a gap of {} there", ms(alone)));
    }
    if ready {
        return Err(format!("after {} s the control plane calls it ready", CUT.as_secs()));
    }
    Ok(())
}
