//! An idle group costs nothing: no write, no flush, next to no CPU, little memory.
//!
//! What a wake-up takes is the machine's, and on a shared one it changes by a factor within
//! minutes. So the CPU is also judged as a multiple of what the least that a leader must do takes
//! there and then; without bars, that alone.

use super::beats::Beats;
use super::restart::runtime;
use quorate_tests::cluster::{Cluster, MemberInfo, Process, Scratch, Usage, metric};
use quorate_tests::load::{Attached, Caller};
use quorate_tests::say;
use std::time::Duration;

/// Idle sessions in the second half.
const SESSIONS: usize = 100;
/// Of one core, in hundredths of a percent.
const CPU_MAX: u64 = 50;
/// Of what a bare thread takes that only sends and hears heartbeats: TLS, HTTP/2, and deciding.
const CPU_TIMES_MAX: f64 = 10.0;
/// Resident, in KiB: 15 MB.
const RESIDENT_MAX_KIB: u64 = 15_000_000 / 1024;
/// Clock ticks a second.
const TICKS: u64 = 100;

#[derive(Clone, Copy, Debug)]
struct Sample {
    usage: Usage,
    flushes: f64,
}

fn sample(cluster: &Cluster) -> Result<Vec<Sample>, String> {
    let of = |member: &MemberInfo| {
        let usage = Process::new(member.pid).usage();
        Ok(Sample { usage, flushes: metric(member, "quorate_flushes_total")? })
    };
    cluster.members.iter().map(of).collect()
}

fn measure(cluster: &Cluster, (seconds, bars): (u64, bool), what: &str) -> Result<(), String> {
    let (beats, before) = (Beats::start(), sample(cluster)?);
    std::thread::sleep(Duration::from_secs(seconds));
    let after = sample(cluster)?;
    let least = beats.end()? * 10_000.0;
    let cpu_max = CPU_TIMES_MAX * least;
    say(&format!("idle, {what}: heartbeats alone take {:.3} % of a core here", least / 100.0));
    let mut bad = Vec::new();
    for ((member, a), b) in cluster.members.iter().zip(before).zip(after) {
        let written = b.usage.write_bytes - a.usage.write_bytes;
        let flushed = b.flushes - a.flushes;
        let cpu = (b.usage.cpu_ticks - a.usage.cpu_ticks) * 10_000 / (seconds * TICKS);
        let resident = b.usage.resident_kib;
        say(&format!(
            "idle, {what}: {} wrote {written} bytes, flushed {flushed} times, used {}.{:02} % of a \
             core, {resident} KiB resident",
            member.name,
            cpu / 100,
            cpu % 100
        ));
        let busy = share(cpu) > cpu_max || (bars && cpu >= CPU_MAX);
        if written > 0 || flushed > 0.0 || busy || resident > RESIDENT_MAX_KIB {
            bad.push(member.name.clone());
        }
    }
    if bad.is_empty() {
        return Ok(());
    }
    Err(format!(
        "idle, {what}: {bad:?} did more than nothing; allowed are 0 bytes, 0 flushes, {:.2} % of a \
         core ({CPU_TIMES_MAX} times what heartbeats alone take){}, and {RESIDENT_MAX_KIB} KiB",
        cpu_max / 100.0,
        if bars { ", under 0.50 %" } else { "" }
    ))
}

/// Hundredths of a percent, for comparing.
fn share(cpu: u64) -> f64 {
    f64::from(u32::try_from(cpu).unwrap_or(u32::MAX))
}

async fn open_sessions(cluster: &Cluster) -> Result<Vec<(Caller, Attached)>, String> {
    let mut open = Vec::new();
    for i in 0..SESSIONS {
        let endpoint = cluster.members[i % cluster.members.len()].endpoint.clone();
        let mut key = vec![7; 16];
        key[0] = u8::try_from(i).map_err(|e| e.to_string())?;
        let mut caller = Caller::connect(endpoint, key).await.map_err(|f| f.message)?;
        let attached = caller.open(60_000, "idle").await.map_err(|f| f.message)?;
        open.push((caller, attached));
    }
    Ok(open)
}

/// See the module. Half of the time without sessions, half of it with a hundred.
pub fn run(seconds: u64, bars: bool) -> Result<(), String> {
    let scratch = Scratch::new("idle")?;
    let cluster = Cluster::start(scratch.path(), &["--no-restart"])?;
    // "After the first second": the election's own writes are behind it then.
    std::thread::sleep(Duration::from_secs(1));
    let bare = measure(&cluster, (seconds, bars), "no session");
    let runtime = runtime()?;
    let mut sessions = runtime.block_on(open_sessions(&cluster))?;
    // The clients read their streams on a thread of their own while the members are measured.
    let reader = std::thread::spawn(move || {
        runtime.block_on(async move {
            let ends = sessions
                .iter_mut()
                .map(|(_, a)| async { while let Ok(Some(_)) = a.events.message().await {} });
            let ends: Vec<_> = ends.collect();
            for end in ends {
                end.await;
            }
        });
    });
    std::thread::sleep(Duration::from_secs(1));
    let full = measure(&cluster, (seconds, bars), "100 sessions");
    drop(cluster);
    // The streams end with the group.
    reader.join().map_err(|_| "the clients' thread failed".to_owned())?;
    bare.and(full)
}
