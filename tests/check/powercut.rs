//! A power cut under load: what was acknowledged before it is there after it.
//!
//! All members have their logs on one loop-mounted ext4 whose own commits come every 300 s, so that
//! only what the product synced itself is in the image. Every thread of every member is stopped and
//! seen stopped, the image is copied, the members are killed, and the copy takes the image's place.

use super::mounted::{Mounted, command, need_root, text};
use super::restart::{endpoints, load, runtime, verify};
use quorate_tests::cluster::{Cluster, Process, Scratch};
use quorate_tests::say;
use std::time::{Duration, Instant};

/// Room for three members' logs.
const IMAGE_BYTES: u64 = 512 << 20;
/// Only what the product synced itself gets into the image.
const OPTIONS: &str = "commit=300";
/// All threads stop within this.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Stops every thread of every member, and sees it stopped.
fn stop_all(members: &[Process]) -> Result<(), String> {
    for member in members {
        member.stop();
    }
    let end = Instant::now() + STOP_MAX;
    while !members.iter().all(Process::is_stopped) {
        if Instant::now() > end {
            return Err(format!("the members did not stop in {STOP_MAX:?}"));
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// See the module.
pub fn run(rounds: u64) -> Result<(), String> {
    need_root()?;
    let scratch = Scratch::new("powercut")?;
    let mounted = Mounted::new(scratch.path(), "disk", IMAGE_BYTES, OPTIONS)?;
    let copy = scratch.path().join("copy.img");
    let runtime = runtime()?;
    let (mut acknowledged, mut checked) = (0, 0);
    let mut cluster = Cluster::start(&mounted.at().join("dev"), &["--no-restart"])?;
    for round in 1..=rounds {
        let members: Vec<Process> = cluster.members.iter().map(|m| Process::new(m.pid)).collect();
        let mut stopped = Ok(());
        let history =
            runtime.block_on(load(endpoints(&cluster), &format!("cut-{round}"), || {
                stopped = stop_all(&members);
            }))?;
        stopped?;
        command("cp", &["--sparse=always", text(mounted.image())?, text(&copy)?])?;
        cluster.kill();
        mounted.replace(&copy)?;
        cluster = Cluster::start(&mounted.at().join("dev"), &["--no-restart"])?;
        history.check_tokens()?;
        acknowledged += history.acknowledged();
        checked += runtime.block_on(verify(&cluster, &history))?;
    }
    cluster.kill();
    say(&format!(
        "powercut: {rounds} rounds, {acknowledged} acknowledged grants and releases, \
         {checked} names checked, 0 lost"
    ));
    Ok(())
}
