//! A disk that stops answering: the Raft leader on it hands over by itself, the others go on, and
//! the same process serves again once its disk does. Nothing acknowledged is lost.

use super::mounted::{Mounted, command, need_root, text};
use super::restart::{endpoints, runtime, verify};
use quorate_tests::cluster::{Cluster, Scratch};
use quorate_tests::load::{Caller, Failed, History, work};
use quorate_tests::say;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Room for one member's log.
const IMAGE_BYTES: u64 = 192 << 20;
/// Clients at each member whose disk works.
const CLIENTS: usize = 4;
/// Another member leads within this: the leader notices after one election timeout (800 ms), and an
/// election takes up to two.
const HANDOVER_MAX: Duration = Duration::from_secs(5);
/// The disk stays away for so long after that.
const AWAY: Duration = Duration::from_secs(2);
/// The member serves within this, once its disk does.
const BACK_MAX: Duration = Duration::from_secs(30);

/// Starts a group whose members have a file system each.
fn start(scratch: &Path, mounts: &[Mounted]) -> Result<Cluster, String> {
    let dir = scratch.join("dev");
    let mut cluster = Cluster::start(&dir, &["--no-restart"])?;
    cluster.kill();
    for (member, mounted) in cluster.members.iter().zip(mounts) {
        let (old, new) = (dir.join(&member.name).join("data"), mounted.at().join("data"));
        command("cp", &["-a", text(&old)?, text(&new)?])?;
        std::fs::remove_dir_all(&old).map_err(|e| e.to_string())?;
        std::os::unix::fs::symlink(&new, &old).map_err(|e| e.to_string())?;
    }
    Cluster::start(&dir, &["--no-restart"])
}

async fn leader(caller: &mut Caller, cluster: &Cluster) -> Result<Option<usize>, String> {
    let name = caller.leader().await.map_err(|f: Failed| f.message)?;
    Ok(cluster.members.iter().position(|member| member.name == name))
}

/// Waits until somebody else leads, as another member sees it.
async fn handed_over(cluster: &Cluster, from: usize) -> Result<Duration, String> {
    let start = Instant::now();
    let other = endpoints(cluster)[(from + 1) % cluster.members.len()].clone();
    let mut caller = Caller::connect(other, vec![9; 16]).await.map_err(|f| f.message)?;
    while start.elapsed() < HANDOVER_MAX {
        if leader(&mut caller, cluster).await?.is_some_and(|leads| leads != from) {
            return Ok(start.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("nobody else led {HANDOVER_MAX:?} after the leader's disk stopped"))
}

/// Waits until the member serves its own clients again.
async fn back(cluster: &Cluster, member: usize) -> Result<Duration, String> {
    let start = Instant::now();
    let mut caller = Caller::connect(endpoints(cluster)[member].clone(), vec![8; 16])
        .await
        .map_err(|f| f.message)?;
    loop {
        match caller.open(5_000, "back").await {
            Ok(_) => return Ok(start.elapsed()),
            Err(failed) if start.elapsed() > BACK_MAX => {
                return Err(format!("no service {BACK_MAX:?} after the disk works: {failed:?}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// What happened in a round.
struct Round {
    handover: Duration,
    back: Duration,
    acknowledged: usize,
}

async fn round(cluster: &Cluster, mounts: &[Mounted], number: u64) -> Result<Round, String> {
    let all = endpoints(cluster);
    let mut caller = Caller::connect(all[0].clone(), vec![9; 16]).await.map_err(|f| f.message)?;
    let leads = leader(&mut caller, cluster).await?.ok_or("nobody leads")?;
    let (stop, stopped) = watch::channel(false);
    let healthy = (0..all.len()).filter(|member| *member != leads);
    let clients = healthy.flat_map(|member| (0..CLIENTS).map(move |i| (member, i)));
    let start = |(member, i): (usize, usize)| {
        let prefix = format!("stalled-{number}-{member}-{i}");
        tokio::spawn(work(all[member].clone(), prefix, stopped.clone()))
    };
    let workers: Vec<_> = clients.map(start).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    mounts[leads].freeze()?;
    let handover = handed_over(cluster, leads).await;
    tokio::time::sleep(AWAY).await;
    mounts[leads].thaw()?;
    let back = back(cluster, leads).await?;
    stop.send_replace(true);
    let mut history = History::default();
    for worker in workers {
        history.merge(worker.await.map_err(|e| e.to_string())??);
    }
    history.check_tokens()?;
    verify(cluster, &history).await?;
    Ok(Round { handover: handover?, back, acknowledged: history.acknowledged() })
}

/// See the module.
pub fn run(rounds: u64) -> Result<(), String> {
    need_root()?;
    let scratch = Scratch::new("stalled-disk")?;
    let mount = |i| Mounted::new(scratch.path(), &format!("disk-{i}"), IMAGE_BYTES, "noatime");
    let mounts = (0..3).map(mount).collect::<Result<Vec<_>, _>>()?;
    let mut cluster = start(scratch.path(), &mounts)?;
    let before = cluster.pids();
    let runtime = runtime()?;
    let (mut handover, mut back, mut acknowledged) = (Duration::ZERO, Duration::ZERO, 0);
    for number in 1..=rounds {
        let one = runtime.block_on(round(&cluster, &mounts, number))?;
        handover = handover.max(one.handover);
        back = back.max(one.back);
        acknowledged += one.acknowledged;
    }
    cluster.refresh();
    if cluster.pids() != before {
        return Err("a member was started again: its disk came back, and it should live".to_owned());
    }
    cluster.kill();
    say(&format!(
        "stalled-disk: {rounds} rounds, {acknowledged} acknowledged grants and releases, 0 lost; \
         another leader after {} ms at most, the member served again after {} ms at most",
        handover.as_millis(),
        back.as_millis()
    ));
    Ok(())
}
