//! One process with one bug planted in it, and what it said.

use crate::bugs::{Bug, Home};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a child is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Characters of a message that are shown.
const SHOWN: usize = 120;

/// How a process ended.
pub struct End {
    /// Everything that it printed.
    pub text: String,
    /// It ended by itself, and failed.
    failed: bool,
}

/// Runs `program` with `bug` planted, in the folder of its crate. One that does not end in time is
/// stopped, and caught nothing.
pub fn run(
    program: &Path,
    args: &[&str],
    settings: &[(&str, String)],
    bug: Bug,
    patience: Duration,
) -> Result<End, String> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let said = std::env::temp_dir().join(format!("quorate-zoo-{}-{number}", std::process::id()));
    let broken = |e: std::io::Error| format!("{}: {e}", program.display());
    let out = File::create(&said).map_err(broken)?;
    let mut command = Command::new(program);
    command.args(args).env("QUORATE_PLANTED", bug.name).envs(settings.iter().cloned());
    command.current_dir(folder(bug.home)).stdin(Stdio::null());
    command.stdout(out.try_clone().map_err(broken)?).stderr(out);
    let child = command.spawn().map_err(broken)?;
    let failed = wait(child, patience).map_err(broken)?;
    let text = std::fs::read(&said).map_err(broken)?;
    // What is left behind in the folder for temporary files harms nobody.
    let _ = std::fs::remove_file(&said);
    Ok(End { text: String::from_utf8_lossy(&text).into_owned(), failed })
}

/// Where the tests of a crate run.
const fn folder(home: Home) -> &'static str {
    match home {
        Home::Raft => "raft",
        Home::Locks => "locks",
        Home::Sidecar => "sidecar",
        Home::Client => "client",
    }
}

fn wait(mut child: Child, patience: Duration) -> std::io::Result<bool> {
    let end = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(!status.success());
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
}

impl End {
    /// The first script that failed, by name, and how many more did; else the first test.
    pub fn failed_script(&self) -> Option<String> {
        if !self.failed {
            return None;
        }
        let scripts: BTreeSet<&str> = self.text.lines().filter_map(script_in).collect();
        let tests: BTreeSet<&str> = self.text.lines().filter_map(failed_test).collect();
        let names = if scripts.is_empty() { tests } else { scripts };
        let more = names.len().saturating_sub(1);
        let first = names.first().copied().unwrap_or("it died");
        Some(if more == 0 { first.to_owned() } else { format!("{first}, +{more}") })
    }

    /// What the first panic said.
    pub fn said(&self) -> String {
        let mut lines = self.text.lines().skip_while(|line| !line.contains("panicked at"));
        let message = lines.nth(1).unwrap_or_default();
        message.chars().take(SHOWN).collect()
    }
}

/// The script whose file this line names.
fn script_in(line: &str) -> Option<&str> {
    let (_, path) = line.split_once("/testdata/")?;
    let name = path.rsplit('/').next()?;
    Some(name.strip_suffix(".txt").unwrap_or(name))
}

/// The test of a line `test NAME ... FAILED`.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}
