//! Members of this version and of the next one in one group, exchanged in every order under load:
//! nothing acknowledged is lost, and whoever is of this version refuses what the next one wrote.
//!
//! The next version is this build, whose sidecar writes a log format one higher where
//! `NEXT_QUORATE_VERSION` is set; the present one is the release build.

use super::restart::{endpoints, load, runtime, verify_at};
use quorate_tests::cluster::{Cluster, Process, Scratch, binary};
use quorate_tests::load::boottime_ns;
use quorate_tests::say;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Every order in which three can be exchanged.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
/// A member that was started again tells what it is within this.
const TOLD: Duration = Duration::from_secs(30);
/// What one of the next version tells.
const NEXT: &str = "\"format_version\":2";
/// What one of this version says to a log of the next.
const REFUSAL: &str = "its format is of version 2";

struct Group {
    /// What members are started from.
    program: PathBuf,
    /// This version, and the next one.
    versions: [PathBuf; 2],
    /// `quorate`.
    tool: PathBuf,
    cluster: Cluster,
}

impl Group {
    fn start(scratch: &Path, versions: &[PathBuf; 2]) -> Result<Group, String> {
        let program = scratch.join("quorate-sidecar");
        put(&versions[0], &program)?;
        let next = [("NEXT_QUORATE_VERSION", "1")];
        let again = ["--restart-after", "100ms"];
        let cluster = Cluster::start_of(&program, &scratch.join("group"), &again, &next)?;
        let tool = versions[0].with_file_name("quorate");
        Ok(Group { program, versions: versions.clone(), tool, cluster })
    }

    /// Ends a member under load; what comes after it is of this or the next version. Gives how
    /// many names were checked.
    fn exchange(&mut self, number: usize, version: usize) -> Result<usize, String> {
        put(&self.versions[version], &self.program)?;
        let member = &self.cluster.members[number];
        let (before, process) = ((member.name.clone(), member.pid), Process::new(member.pid));
        let prefix = format!("mixed-{}-{}", member.name, boottime_ns());
        let runtime = runtime()?;
        let mut others = endpoints(&self.cluster);
        others.remove(number);
        let ask = others[0].clone();
        let history = runtime.block_on(load(others, &prefix, || process.kill()))?;
        self.cluster.await_restart(&[before])?;
        history.check_tokens()?;
        runtime.block_on(verify_at(&ask, &history))
    }

    /// Waits until a member tells this of itself.
    fn told(&self, number: usize, words: &str) -> Result<(), String> {
        let member = &self.cluster.members[number];
        let end = boottime_ns() + u64::try_from(TOLD.as_nanos()).unwrap_or(u64::MAX);
        loop {
            let mut ask = Command::new(&self.tool);
            ask.args(["members", "status", "--output", "json", "--admin", &member.admin]);
            let output = ask.output().map_err(|e| format!("quorate: {e}"))?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if said.contains(words) {
                return Ok(());
            }
            if boottime_ns() > end {
                let why = String::from_utf8_lossy(&output.stderr);
                return Err(format!("{} says {said} {why}", member.name));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Puts a program into another's place; whoever runs that runs on.
fn put(from: &Path, to: &Path) -> Result<(), String> {
    let draft = to.with_extension("new");
    let copied = std::fs::copy(from, &draft).and_then(|_| std::fs::rename(&draft, to));
    copied.map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

/// See the module.
pub fn run(release: &Path) -> Result<(), String> {
    let versions = [release.with_file_name("quorate-sidecar"), binary("quorate-sidecar")?];
    let mut checked = 0;
    for order in ORDERS {
        let scratch = Scratch::new("mixed")?;
        let mut group = Group::start(scratch.path(), &versions)?;
        for number in order {
            checked += group.exchange(number, 1)?;
            group.told(number, NEXT)?;
        }
        // There is no way back: the log says so, and the others go on.
        let last = order[2];
        checked += group.exchange(last, 0)?;
        group.told(last, REFUSAL)?;
        let names = order.map(|number| group.cluster.members[number].name.clone());
        say(&format!("{}: each joined as the next version, no way back", names.join(", ")));
    }
    say(&format!("mixed versions: {} orders, {checked} names checked, 0 lost", ORDERS.len()));
    Ok(())
}
