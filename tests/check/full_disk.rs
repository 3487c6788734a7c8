//! A full disk: claims are refused with a reason while what is held stays held and can be given
//! back; room again means service again, in the same processes, and nothing acknowledged is lost.

use super::mounted::{Mounted, need_root};
use super::restart::{endpoints, runtime, verify};
use quorate_tests::cluster::{Cluster, Scratch};
use quorate_tests::load::{Attached, Caller, Failed, History, work};
use quorate_tests::say;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Room for three members' logs, and for what is to fill it.
const IMAGE_BYTES: u64 = 512 << 20;
/// Clients; they write until the logs need another segment, of 16 MiB.
const CLIENTS: usize = 24;
/// They get there within this.
const FULL_MAX: Duration = Duration::from_secs(180);
/// Service is back within this, once there is room.
const BACK_MAX: Duration = Duration::from_secs(30);
/// What the refusal is called.
const REASON: &str = "DISK_FULL";

/// Takes all room that is left.
fn fill(directory: &Path) -> Result<PathBuf, String> {
    let path = directory.join("ballast");
    let mut file = File::create(&path).map_err(|e| e.to_string())?;
    let mut piece = vec![0x5a; 1 << 20];
    while !piece.is_empty() {
        match file.write(&piece) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                piece.truncate(piece.len() / 2);
            }
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    file.sync_all().map_err(|e| e.to_string())?;
    Ok(path)
}

async fn attached(endpoint: PathBuf, number: u8) -> Result<(Caller, Attached), String> {
    let message = |f: Failed| f.message;
    let mut caller = Caller::connect(endpoint, vec![number; 16]).await.map_err(message)?;
    let attached = caller.open(600_000, "full-disk").await.map_err(message)?;
    Ok((caller, attached))
}

/// Loads the group until every client was refused something.
async fn load_until_refused(cluster: &Cluster) -> Result<History, String> {
    // Kept, so that nobody is told to stop.
    let (_stop, stopped) = watch::channel(false);
    let endpoints = endpoints(cluster);
    let start = |i: usize| {
        let endpoint = endpoints[i % endpoints.len()].clone();
        // Long names fill the log sooner.
        let prefix = format!("full-{i:-<200}");
        tokio::spawn(work(endpoint, prefix, stopped.clone()))
    };
    let workers: Vec<_> = (0..CLIENTS).map(start).collect();
    let mut history = History::default();
    let end = Instant::now() + FULL_MAX;
    for worker in workers {
        let left = end.saturating_duration_since(Instant::now());
        let worker = tokio::time::timeout(left, worker).await;
        let done = worker.map_err(|_| format!("the disk was not full after {FULL_MAX:?}"))?;
        history.merge(done.map_err(|e| e.to_string())??);
    }
    Ok(history)
}

/// While it is full: a claim is refused with the reason, and a release is not.
async fn refused(keeper: &mut Caller, kept: &[u64; 2]) -> Result<(), String> {
    let request = keeper.request();
    match keeper.acquire("new", request, 0).await {
        Err(failed) if failed.reason == REASON && !failed.unknown => {}
        other => return Err(format!("a claim on a full disk gave {other:?}, not {REASON}")),
    }
    let message = |f: Failed| f.message;
    for (name, token) in ["kept-0", "kept-1"].into_iter().zip(kept) {
        let holder = keeper.holder(name).await.map_err(message)?;
        if holder.map(|holder| holder.token) != Some(*token) {
            return Err(format!("{name} is not held any more on a full disk"));
        }
    }
    let request = keeper.request();
    keeper.release("kept-1", kept[1], request).await.map_err(message)
}

/// Once there is room: the same claim is granted, by the same processes.
async fn served(keeper: &mut Caller) -> Result<Duration, String> {
    let start = Instant::now();
    loop {
        let request = keeper.request();
        match keeper.acquire("new", request, 0).await {
            Ok(Some(_)) => return Ok(start.elapsed()),
            Err(failed) if failed.reason == REASON && start.elapsed() < BACK_MAX => {}
            other => return Err(format!("with room again a claim gave {other:?}")),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// See the module.
pub fn run() -> Result<(), String> {
    need_root()?;
    let scratch = Scratch::new("full-disk")?;
    let mounted = Mounted::new(scratch.path(), "disk", IMAGE_BYTES, "noatime")?;
    let mut cluster = Cluster::start(&mounted.at().join("dev"), &["--no-restart"])?;
    let (acknowledged, back) = runtime()?.block_on(async {
        let (mut keeper, _events) = attached(endpoints(&cluster)[0].clone(), 7).await?;
        let mut kept = [0; 2];
        for (i, token) in kept.iter_mut().enumerate() {
            let request = keeper.request();
            let granted = keeper.acquire(&format!("kept-{i}"), request, 5_000).await;
            *token = granted.map_err(|f| f.message)?.ok_or("a fresh name is taken")?;
        }
        let ballast = fill(mounted.at())?;
        let history = load_until_refused(&cluster).await?;
        history.check_tokens()?;
        refused(&mut keeper, &kept).await?;
        std::fs::remove_file(ballast).map_err(|e| e.to_string())?;
        let back = served(&mut keeper).await?;
        verify(&cluster, &history).await?;
        cluster.kill();
        cluster = Cluster::start(&mounted.at().join("dev"), &["--no-restart"])?;
        verify(&cluster, &history).await?;
        Ok::<_, String>((history.acknowledged(), back))
    })?;
    cluster.kill();
    say(&format!(
        "full-disk: {acknowledged} grants and releases acknowledged before it was full, 0 lost; \
         claims refused as {REASON}, releases taken; served again {} ms after there was room",
        back.as_millis()
    ));
    Ok(())
}
