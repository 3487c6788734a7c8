//! A group of real sidecars, started the one way there is: `quorate-sidecar dev --output json`.

mod metrics;
mod process;

pub use metrics::metric;
pub use process::{Process, Usage};

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A group elects, or recovers, within this; else something is wrong.
const READY_MAX: Duration = Duration::from_secs(60);

/// One member, as `dev` tells of it.
#[derive(Clone, Debug)]
pub struct MemberInfo {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub member_id: String,
    /// Its process at the moment.
    pub pid: u32,
    /// Its local API's socket.
    pub endpoint: PathBuf,
    /// Its admin port.
    pub admin: String,
    /// Its probes and metrics, `http://…`.
    pub metrics: String,
}

/// A running group. Dropping it ends it.
#[derive(Debug)]
pub struct Cluster {
    dev: Child,
    lines: Receiver<String>,
    /// The members, in order of their names.
    pub members: Vec<MemberInfo>,
}

/// A binary of the project, built beside this one.
///
/// # Errors
/// It is not there: a sentence that says what to build.
pub fn binary(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut beside = own.with_file_name(name);
    if !beside.exists() {
        // A test's own binary stands one folder deeper.
        beside = own.parent().and_then(Path::parent).map(|dir| dir.join(name)).unwrap_or(beside);
    }
    if beside.exists() {
        return Ok(beside);
    }
    Err(format!(
        "{} is not there; build it with: cargo build --release --workspace --bins",
        beside.display()
    ))
}

impl Cluster {
    /// Starts a group in `dir`, with further arguments of `dev`, and waits for its leader.
    ///
    /// # Errors
    /// It did not start: a sentence.
    pub fn start(dir: &Path, arguments: &[&str]) -> Result<Cluster, String> {
        Cluster::start_with(dir, arguments, &[])
    }

    /// As [`Cluster::start`], with environment variables for the members.
    ///
    /// # Errors
    /// It did not start: a sentence.
    pub fn start_with(
        dir: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Cluster, String> {
        Cluster::start_of(&binary("quorate-sidecar")?, dir, arguments, environment)
    }

    /// As [`Cluster::start_with`], of another program than the one built beside this.
    ///
    /// # Errors
    /// It did not start: a sentence.
    pub fn start_of(
        sidecar: &Path,
        dir: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Cluster, String> {
        let mut dev = Command::new(sidecar)
            .arg("dev")
            .args(["--output", "json", "--dir"])
            .arg(dir)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("quorate-sidecar dev: {e}"))?;
        let stdout = dev.stdout.take().ok_or("dev has no stdout")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut cluster = Cluster { dev, lines, members: Vec::new() };
        let first = cluster
            .lines
            .recv_timeout(READY_MAX)
            .map_err(|e| format!("dev printed no first line: {e}"))?;
        cluster.members = members(&first)?;
        Ok(cluster)
    }

    /// The member of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&MemberInfo> {
        self.members.iter().find(|m| m.name == name)
    }

    /// Takes in what `dev` told since: pids of members that were started again.
    pub fn refresh(&mut self) {
        while let Ok(line) = self.lines.try_recv() {
            self.event(&line);
        }
    }

    fn event(&mut self, line: &str) -> Option<()> {
        let event: Value = serde_json::from_str(line).ok()?;
        if event["event"] == "started" {
            let (name, pid) = (event["name"].as_str()?, event["pid"].as_u64()?);
            let member = self.members.iter_mut().find(|m| m.name == name)?;
            member.pid = u32::try_from(pid).ok()?;
        }
        Some(())
    }

    /// Waits until each of these members runs under another pid than before.
    ///
    /// # Errors
    /// It did not in a minute.
    pub fn await_restart(&mut self, before: &[(String, u32)]) -> Result<(), String> {
        let end = Instant::now() + READY_MAX;
        loop {
            let same = |(name, pid): &&(String, u32)| {
                self.named(name).is_none_or(|member| member.pid == *pid)
            };
            let Some((name, _)) = before.iter().find(same) else { return Ok(()) };
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.event(&line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("{name} was not started again in {READY_MAX:?}"));
                }
                Err(RecvTimeoutError::Disconnected) => return Err("dev ended".to_owned()),
            }
        }
    }

    /// Names and pids, to compare with later.
    #[must_use]
    pub fn pids(&self) -> Vec<(String, u32)> {
        self.members.iter().map(|m| (m.name.clone(), m.pid)).collect()
    }

    /// The process of `dev` itself.
    #[must_use]
    pub fn dev(&self) -> Process {
        Process::new(self.dev.id())
    }

    /// Ends the group, members first, without a goodbye.
    pub fn kill(&mut self) {
        let _ = self.dev.kill(); // It may have ended by itself.
        for member in &self.members {
            Process::new(member.pid).kill();
        }
        let _ = self.dev.wait();
        for member in &self.members {
            Process::new(member.pid).await_gone(Duration::from_secs(5));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

fn members(line: &str) -> Result<Vec<MemberInfo>, String> {
    let wrong = || format!("dev's first line is not what it should be: {line}");
    let first: Value = serde_json::from_str(line).map_err(|_| wrong())?;
    let mut members = Vec::new();
    for member in first["members"].as_array().ok_or_else(wrong)? {
        let text = |field: &str| member[field].as_str().map(str::to_owned).ok_or_else(wrong);
        let pid = member["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        members.push(MemberInfo {
            name: text("name")?,
            member_id: text("member_id")?,
            pid: pid.ok_or_else(wrong)?,
            endpoint: text("endpoint")?.trim_start_matches("unix:").into(),
            admin: text("admin")?,
            metrics: text("metrics")?,
        });
    }
    Ok(members)
}

/// A fresh directory, removed with what is in it when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in the system's place for them.
    ///
    /// # Errors
    /// It cannot be made: a sentence.
    pub fn new(name: &str) -> Result<Scratch, String> {
        let path = std::env::temp_dir().join(format!("quorate-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path); // Of an earlier process of this number.
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Scratch(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is in the system's place for scratch files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
