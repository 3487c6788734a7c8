//! What may catch a bug: the scripts of its crate, the simulator of its crate, the product's
//! simulator.

use crate::bugs::{self, Bug, Home};
use crate::trial::{self, End};
use quorate_tests::simulator::world::run_seed;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Simulated seconds of a run.
const SECONDS: u64 = 125;

/// A kind of catcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Catcher {
    /// Written by hand: golden scripts, scripts of the agent, crash points of the log.
    Scripts,
    /// Random runs of one crate: nodes on a simulated network, or commands against a model.
    Core,
    /// Random runs of whole members.
    Product,
}

/// What caught it.
#[derive(Clone, Debug)]
pub struct Caught {
    /// The script, or the seed.
    pub by: String,
    /// What it said.
    pub how: String,
}

/// What a hunt has to work with.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Test binaries, by what they are called here.
    pub binaries: BTreeMap<String, PathBuf>,
    /// Seeds of a simulator at most.
    pub seeds: u64,
    /// For one process.
    pub patience: Duration,
}

/// The binaries that hold the scripts, in the order in which they are tried.
const fn scripts(home: Home) -> &'static [&'static str] {
    match home {
        Home::Raft => &["raft/golden", "raft/configuration"],
        Home::Locks => &["locks/golden", "locks/limits", "locks/bytes"],
        Home::Sidecar => {
            &["sidecar/lib", "sidecar/wal", "sidecar/wal_files", "sidecar/crash_points"]
        }
        Home::Client => &["client/lib"],
    }
}

/// Which tests of a binary are scripts. Others of the same binary use ports and folders.
fn filters(name: &str) -> &'static [&'static str] {
    match name {
        "sidecar/lib" => &["agent::", "replica::", "wal::"],
        "client/lib" => &["deadline::"],
        _ => &[],
    }
}

/// Lets one catcher look for the bug; a simulator from seed `from` on.
pub fn run(
    catcher: Catcher,
    bug: Bug,
    from: u64,
    limits: &Limits,
) -> Result<Option<Caught>, String> {
    match (catcher, bug.home) {
        (Catcher::Scripts, home) => {
            for name in scripts(home) {
                let path = binary(name, limits)?;
                let end = trial::run(&path, filters(name), &[], bug, limits.patience)?;
                if let Some(script) = end.failed_script() {
                    return Ok(Some(Caught { by: format!("{name}: {script}"), how: end.said() }));
                }
            }
            Ok(None)
        }
        (Catcher::Core, Home::Raft) => {
            let path = binary("raft/simulator", limits)?;
            let range = [("SEED", from.to_string()), ("SEEDS", limits.seeds.to_string())];
            let end = trial::run(&path, &[], &range, bug, limits.patience)?;
            Ok(seed_of(&end))
        }
        (Catcher::Core, Home::Locks) => {
            let path = binary("locks/property", limits)?;
            let end = trial::run(&path, &[], &[], bug, limits.patience)?;
            let by = "model".to_owned();
            Ok(end.failed_script().map(|_| Caught { by, how: end.said() }))
        }
        (Catcher::Core, _) => Ok(None),
        (Catcher::Product, _) => {
            let own = std::env::current_exe().map_err(|e| e.to_string())?;
            let range = format!("{from}+{}", limits.seeds);
            let args = ["--product", range.as_str(), "--only", bug.name];
            let end = trial::run(&own, &args, &[], bug, limits.patience)?;
            Ok(seed_of(&end))
        }
    }
}

fn binary(name: &str, limits: &Limits) -> Result<PathBuf, String> {
    let path = limits.binaries.get(name).cloned();
    path.ok_or_else(|| format!("no --binary {name}=PATH was given; run: cargo xtask zoo"))
}

/// A line `seed N` or `seed N: how` says who caught it. A run that fails otherwise caught nothing:
/// so few seeds do not show all that a whole run of a simulator has to.
fn seed_of(end: &End) -> Option<Caught> {
    let line = end.text.lines().find_map(|line| line.strip_prefix("seed "))?;
    let (seed, how) = line.split_once(": ").unwrap_or((line, ""));
    let how = if how.is_empty() { end.said() } else { how.to_owned() };
    Some(Caught { by: seed.to_owned(), how })
}

/// As the child: the product's simulator until something is broken that is whole without the bug.
pub fn product(bug: &str, (from, count): (u64, u64)) {
    // What a caught bug prints on its way is not news.
    std::panic::set_hook(Box::new(|_| {}));
    for seed in from..from + count {
        bugs::plant(bug);
        let Some(broken) = run_seed(seed, SECONDS, false).broken else { continue };
        bugs::plant("");
        if run_seed(seed, SECONDS, false).broken.is_none() {
            return quorate_tests::say(&format!("seed {seed}: {broken}"));
        }
    }
}
