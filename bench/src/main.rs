//! `quorate-bench`: what a lock costs, beside what the machine can do at best, in one run.
//!
//! Absolute times say little on a shared machine; so every bar is a ratio to figures of the same
//! run: F, the log's own write and fdatasync, and R, a round trip of one small message on a stream
//! over a Unix socket.

mod floor;
mod load;
mod metrics;

use quorate_tests::cluster::{Cluster, Scratch};
use quorate_tests::load::Caller;
use quorate_tests::say;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
Measures a group of three members on this machine against the machine's own limits.

  quorate-bench [--quick] [--no-bars]

F is the log's own write and fdatasync, R a round trip on a tonic stream over a Unix socket, both
from this run. The exit code is 0 only if every bar is met; with --no-bars, if everything could be
measured: for machines that do other work too.";

/// Clients of the throughput rows.
const CLIENTS: usize = 64;

struct Sizes {
    samples: usize,
    window: Duration,
}

/// One bar: a figure, its limit, and whether less or more is better.
struct Bar {
    what: String,
    have: f64,
    limit: f64,
    at_most: bool,
}

impl Bar {
    fn at_most(what: impl Into<String>, have: f64, limit: f64) -> Bar {
        Bar { what: what.into(), have, limit, at_most: true }
    }

    fn at_least(what: impl Into<String>, have: f64, limit: f64) -> Bar {
        Bar { what: what.into(), have, limit, at_most: false }
    }

    fn met(&self) -> bool {
        if self.at_most { self.have <= self.limit } else { self.have >= self.limit }
    }

    fn print(&self) {
        let (verdict, sign) =
            (if self.met() { "met   " } else { "MISSED" }, if self.at_most { "≤" } else { "≥" });
        say(&format!("{verdict}  {:<58} {:9.2} {sign} {:.2}", self.what, self.have, self.limit));
    }
}

fn micros(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e6
}

/// The members, the leader's first.
async fn by_role(cluster: &Cluster) -> Result<(usize, usize), String> {
    let endpoint = cluster.members[0].endpoint.clone();
    let mut caller = Caller::connect(endpoint, vec![9; 16]).await.map_err(|f| f.message)?;
    let name = caller.leader().await.map_err(|f| f.message)?;
    let leader = cluster.members.iter().position(|m| m.name == name);
    let leader = leader.ok_or_else(|| format!("no member is called {name:?}"))?;
    Ok((leader, (leader + 1) % cluster.members.len()))
}

async fn one_client(cluster: &Cluster, sizes: &Sizes) -> Result<Vec<Bar>, String> {
    let flush = floor::flush(sizes.samples)?;
    let round = floor::round_trip(sizes.samples).await?;
    let (leader, follower) = by_role(cluster).await?;
    let at = |member: usize| cluster.members[member].endpoint.clone();
    let leaders = load::one(at(leader), sizes.samples).await?;
    let followers = load::one(at(follower), sizes.samples).await?;
    say(&format!("F  write + fdatasync        p50 {:7.1} µs", micros(flush)));
    say(&format!("R  echo, stream, Unix socket p50 {:6.1} µs", micros(round)));
    say(&format!("acquire, leader's member    p50 {:7.1} µs", micros(leaders)));
    say(&format!("acquire, follower's member  p50 {:7.1} µs", micros(followers)));
    let (near, far) = (micros(flush + 2 * round), micros(flush + 3 * round));
    Ok(vec![
        Bar::at_most("acquire at the leader's member / (F + 2R)", micros(leaders) / near, 2.5),
        Bar::at_most("acquire at a follower's member / (F + 3R)", micros(followers) / far, 2.5),
    ])
}

async fn many_clients(cluster: &Cluster, sizes: &Sizes) -> Result<Vec<Bar>, String> {
    let endpoints: Vec<_> = cluster.members.iter().map(|m| m.endpoint.clone()).collect();
    let single = load::many(&endpoints, 1, sizes.window).await?;
    let before = metrics::sum(cluster, "quorate_peer_messages_sent_total")?;
    let pairs = load::many(&endpoints, CLIENTS, sizes.window).await?;
    let messages = metrics::sum(cluster, "quorate_peer_messages_sent_total")? - before;
    let seconds = sizes.window.as_secs_f64();
    say(&format!("pairs/s, 1 client           {:9.0}", single / seconds));
    say(&format!("pairs/s, {CLIENTS} clients         {:9.0}", pairs / seconds));
    Ok(vec![
        Bar::at_most("64 clients: peer messages a pair", messages / pairs, 12.0),
        Bar::at_least("64 clients: pairs/s over those of one client", pairs / single, 5.0),
    ])
}

async fn slow_disk(cluster: &Cluster, sizes: &Sizes) -> Result<Vec<Bar>, String> {
    let endpoints: Vec<_> = cluster.members.iter().map(|m| m.endpoint.clone()).collect();
    let before = metrics::sum(cluster, "quorate_flushes_total")?;
    let pairs = load::many(&endpoints, CLIENTS, sizes.window).await?;
    let flushes = metrics::sum(cluster, "quorate_flushes_total")? - before;
    let seconds = sizes.window.as_secs_f64();
    say(&format!("pairs/s, {CLIENTS} clients, +1 ms a flush {:9.0}", pairs / seconds));
    let members = f64::from(u32::try_from(cluster.members.len()).map_err(|e| e.to_string())?);
    let each = flushes / pairs / members;
    Ok(vec![Bar::at_most("64 clients, +1 ms: flushes a pair and member", each, 0.15)])
}

fn run(sizes: &Sizes) -> Result<bool, String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(|e| e.to_string())?;
    let mut bars = Vec::new();
    {
        let scratch = Scratch::new("bench")?;
        let cluster = Cluster::start(scratch.path(), &["--no-restart"])?;
        bars.extend(runtime.block_on(one_client(&cluster, sizes))?);
        bars.extend(runtime.block_on(many_clients(&cluster, sizes))?);
    }
    let scratch = Scratch::new("bench-slow")?;
    let delay = [("QUORATE_FLUSH_DELAY_US", "1000")];
    let cluster = Cluster::start_with(scratch.path(), &["--no-restart"], &delay)?;
    bars.extend(runtime.block_on(slow_disk(&cluster, sizes))?);
    say("");
    for bar in &bars {
        bar.print();
    }
    Ok(bars.iter().all(Bar::met))
}

fn main() -> ExitCode {
    let mut bars = true;
    let mut sizes = Sizes { samples: 5_000, window: Duration::from_secs(10) };
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--quick" => sizes = Sizes { samples: 2_000, window: Duration::from_secs(3) },
            "--no-bars" => bars = false,
            other => {
                eprintln!("quorate-bench: {other:?} is not known\n\n{USAGE}");
                return ExitCode::from(64);
            }
        }
    }
    match run(&sizes) {
        Ok(met) if met || !bars => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("quorate-bench: {why}");
            ExitCode::from(2)
        }
    }
}
