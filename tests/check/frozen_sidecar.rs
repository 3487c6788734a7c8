//! A holder whose sidecar is stopped: its whole process tree is gone before the deadline, whatever
//! it does.

use quorate_tests::cluster::{Cluster, Process, Scratch, binary};
use quorate_tests::load::boottime_ns;
use quorate_tests::say;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of the TTL, what a holder may count on, in percent, from the last renewal on.
const SAFE_PERCENT: u64 = 95;
/// The wrapper and its tree report within this.
const START_MAX: Duration = Duration::from_secs(20);

/// A tree of three; the stubborn one does not end on SIGTERM.
fn script(stubborn: bool) -> String {
    let trap = if stubborn { "trap '' TERM; " } else { "" };
    format!("{trap}sleep 600 & {trap}sh -c 'sleep 600 & echo $$ $!; wait' & echo $$ $!; wait")
}

fn start(endpoint: &Path, name: &str, ttl: Duration, stubborn: bool) -> Result<Child, String> {
    Command::new(binary("quorate")?)
        .arg("--endpoint")
        .arg(endpoint)
        .args(["lock", name, "--ttl", &format!("{}ms", ttl.as_millis()), "--"])
        .args(["sh", "-c", &script(stubborn)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())
}

/// The pids that the tree prints: two lines of two.
fn tree(wrapper: &mut Child) -> Result<Vec<Process>, String> {
    let stdout = wrapper.stdout.take().ok_or("the wrapper has no stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut pids = Vec::new();
    while pids.len() < 4 {
        let line = lines.next().ok_or("the holder ended early")?.map_err(|e| e.to_string())?;
        pids.extend(line.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(pids.into_iter().map(Process::new).collect())
}

/// One run: how long before the latest possible deadline the tree was gone.
fn one(cluster: &Cluster, run: u64, ttl: Duration) -> Result<Duration, String> {
    let stubborn = run.is_multiple_of(2);
    let at = usize::try_from(run).unwrap_or(0) % cluster.members.len();
    let member = &cluster.members[at];
    let mut wrapper = start(&member.endpoint, &format!("frozen-{run}"), ttl, stubborn)?;
    let tree = tree(&mut wrapper)?;
    let sidecar = Process::new(member.pid);
    sidecar.stop();
    let stopped = boottime_ns();
    let safe = ttl.as_nanos() * u128::from(SAFE_PERCENT) / 100;
    // The last renewal left before the stop; so the deadline is at most this.
    let deadline = stopped + u64::try_from(safe).map_err(|e| e.to_string())?;
    let mut gone = true;
    for process in &tree {
        gone &= process.await_gone(ttl + START_MAX);
    }
    let ended = boottime_ns();
    let status = await_exit(&mut wrapper)
        .map_err(|why| format!("run {run}, whose tree is gone: {gone}: {why}"))?;
    sidecar.resume();
    if !gone || ended >= deadline {
        let late = Duration::from_nanos(ended.saturating_sub(deadline));
        return Err(format!("run {run}: the tree outlived its deadline by {late:?}"));
    }
    if status != Some(76) {
        return Err(format!("run {run}: exit code {status:?}, and 76 means lost while held"));
    }
    Ok(Duration::from_nanos(deadline - ended))
}

/// What each thread of a process waits for.
fn threads_of(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let words = tasks.map(|task| {
        let (path, syscall) = (task.path(), read(task.path().join("syscall")));
        let (name, waits) = (read(path.join("comm")), read(path.join("wchan")));
        let call = syscall.split_whitespace().next().unwrap_or_default();
        format!("{} in {waits} (system call {call})", name.trim())
    });
    words.collect::<Vec<_>>().join(", ")
}

fn await_exit(wrapper: &mut Child) -> Result<Option<i32>, String> {
    let end = Instant::now() + START_MAX;
    loop {
        if let Some(status) = wrapper.try_wait().map_err(|e| e.to_string())? {
            return Ok(status.code());
        }
        if Instant::now() > end {
            let threads = threads_of(wrapper.id());
            let _ = wrapper.kill();
            return Err(format!("the wrapper did not end; its threads: {threads}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// See the module.
pub fn run(runs: u64, ttl: Duration) -> Result<(), String> {
    let scratch = Scratch::new("frozen")?;
    let cluster = Cluster::start(scratch.path(), &["--no-restart"])?;
    let mut least = Duration::MAX;
    for run in 0..runs {
        least = least.min(one(&cluster, run, ttl)?);
    }
    say(&format!(
        "frozen-sidecar: {runs} runs at a TTL of {ttl:?}, half of them ignoring SIGTERM: every \
         tree was gone before its deadline, by {least:?} or more, and every exit code was 76"
    ));
    Ok(())
}
