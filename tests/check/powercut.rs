//! A power cut under load: what was acknowledged before it is there after it.
//!
//! All members have their logs on one loop-mounted ext4 whose own commits come every 300 s, so that
//! only what the product synced itself is in the image. Every thread of every member is stopped and
//! seen stopped, the image is copied, the members are killed, and the copy takes the image's place.

use super::restart::{endpoints, load, runtime, verify};
use quorate_tests::cluster::{Cluster, Process, Scratch};
use quorate_tests::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Room for three members' logs.
const IMAGE_BYTES: u64 = 512 << 20;
/// All threads stop within this.
const STOP_MAX: Duration = Duration::from_secs(5);

struct Mounted {
    image: PathBuf,
    at: PathBuf,
}

fn command(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|e| format!("{program}: {e}; it is in the packages e2fsprogs and mount"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {}: {words}", arguments.join(" ")))
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

impl Mounted {
    fn new(scratch: &Path) -> Result<Mounted, String> {
        let (image, at) = (scratch.join("disk.img"), scratch.join("disk"));
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(IMAGE_BYTES).map_err(|e| e.to_string())?;
        std::fs::create_dir_all(&at).map_err(|e| e.to_string())?;
        command("mkfs.ext4", &["-q", "-F", text(&image)?])?;
        let mounted = Mounted { image, at };
        mounted.mount()?;
        Ok(mounted)
    }

    fn mount(&self) -> Result<(), String> {
        command("mount", &["-o", "loop,commit=300", text(&self.image)?, text(&self.at)?])
    }

    /// Puts the copy in the image's place.
    fn replace(&self, copy: &Path) -> Result<(), String> {
        command("umount", &[text(&self.at)?])?;
        std::fs::rename(copy, &self.image).map_err(|e| e.to_string())?;
        self.mount()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Ok(at) = text(&self.at) {
            // Lazily: whoever still has a file open there is being killed.
            let _ = command("umount", &["-l", at]);
        }
    }
}

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
    if !rustix::process::geteuid().is_root() {
        return Err("skipped: needs root, to mount a file system of its own".to_owned());
    }
    let scratch = Scratch::new("powercut")?;
    let mounted = Mounted::new(scratch.path())?;
    let copy = scratch.path().join("copy.img");
    let runtime = runtime()?;
    let (mut acknowledged, mut checked) = (0, 0);
    let mut cluster = Cluster::start(&mounted.at.join("dev"), &["--no-restart"])?;
    for round in 1..=rounds {
        let members: Vec<Process> = cluster.members.iter().map(|m| Process::new(m.pid)).collect();
        let mut stopped = Ok(());
        let history =
            runtime.block_on(load(endpoints(&cluster), &format!("cut-{round}"), || {
                stopped = stop_all(&members);
            }))?;
        stopped?;
        command("cp", &["--sparse=always", text(&mounted.image)?, text(&copy)?])?;
        cluster.kill();
        mounted.replace(&copy)?;
        cluster = Cluster::start(&mounted.at.join("dev"), &["--no-restart"])?;
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
