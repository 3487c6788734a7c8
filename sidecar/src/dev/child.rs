//! The processes of the members.

use super::place::{CLUSTER, Place, loopback};
use super::{Failure, UNAVAILABLE, certificates};
use crate::process::Process;
use rustix::process::Signal;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// Variables of this process that the members may see; every other QUORATE_ one is this user's own
/// affair.
const PASSED_ON: [&str; 2] = ["QUORATE_FLUSH_DELAY_US", "QUORATE_LOG"];
/// Lines of its log that a member's sudden end shows.
const LAST_LINES: usize = 20;

/// How members are started.
pub(super) struct Launch {
    program: PathBuf,
    election_timeout: Duration,
    peers: String,
    tls: bool,
}

/// One running process.
pub(super) struct Child {
    child: std::process::Child,
    process: Process,
}

impl Launch {
    pub(super) fn new(
        place: &Place,
        tls: bool,
        election_timeout: Duration,
    ) -> Result<Launch, Failure> {
        let program = std::env::current_exe().map_err(|why| {
            Failure::new(UNAVAILABLE, format!("this program is not found: {why}"))
        })?;
        let peers = place.members().iter();
        let peers: Vec<String> =
            peers.map(|member| format!("{}={}", member.name, loopback(member.peer))).collect();
        Ok(Launch { program, election_timeout, peers: peers.join(","), tls })
    }

    /// The flags of `run` for one member.
    fn flags(&self, place: &Place, number: usize) -> Vec<OsString> {
        let member = &place.members()[number];
        let mut flags: Vec<OsString> = vec!["run".into()];
        let mut flag = |name: &str, value: OsString| flags.extend([name.into(), value]);
        flag("--name", member.name.clone().into());
        flag("--data-dir", member.data.clone().into());
        flag("--socket", member.socket.clone().into());
        flag("--peer-listen", loopback(member.peer).to_string().into());
        flag("--admin-listen", loopback(member.admin).to_string().into());
        flag("--probe-listen", loopback(member.probe).to_string().into());
        flag("--peer", self.peers.clone().into());
        flag("--cluster", CLUSTER.into());
        flag("--election-timeout", format!("{}ms", self.election_timeout.as_millis()).into());
        flag("--die-with-parent", std::process::id().to_string().into());
        if self.tls {
            let files = certificates::files(&place.tls_directory(), &member.name);
            flag("--tls-cert", files.cert.into());
            flag("--tls-key", files.key.into());
            flag("--tls-ca", files.ca.into());
        }
        flags
    }

    pub(super) fn start(&self, place: &Place, number: usize) -> Result<Child, Failure> {
        let member = &place.members()[number];
        let log = File::options().create(true).append(true).open(&member.log);
        let log = log.map_err(|why| Failure::file(&member.log, why))?;
        let also = log.try_clone().map_err(|why| Failure::file(&member.log, why))?;
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("QUORATE_") && !PASSED_ON.contains(&&*text) {
                command.env_remove(&name);
            }
        }
        // A group of its own: Ctrl-C reaches this process alone, which then stops the members in
        // order.
        command.args(self.flags(place, number)).process_group(0);
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(also).spawn();
        let mut child = spawned.map_err(|why| {
            let program = self.program.display();
            Failure::new(UNAVAILABLE, format!("{program} cannot be started: {why}"))
        })?;
        // The number is the child's until it is reaped.
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        match Process::open(pid) {
            Ok(Some(process)) => Ok(Child { child, process }),
            Ok(None) | Err(_) => {
                // It cannot be watched, so it must not run on.
                let _ = child.kill();
                let _ = child.wait();
                let text = format!("process {pid} of {} cannot be watched", member.name);
                Err(Failure::new(UNAVAILABLE, text))
            }
        }
    }
}

impl Child {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// How it ended, in words. It has ended already.
    pub(super) fn status(mut self) -> Option<String> {
        self.child.wait().ok().map(words)
    }

    pub(super) fn terminate(&self) {
        // Our own child, and perhaps gone: nothing else can go wrong.
        let _ = self.process.signal(Signal::TERM);
    }

    /// Ends it for certain, and takes it off the process table.
    pub(super) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "unknown status".to_owned(),
    }
}

/// The failure of a member that ended before the cluster had a leader, with what it said last.
pub(super) fn died_at_start(place: &Place, number: usize, status: Option<&str>) -> Failure {
    let member = &place.members()[number];
    let status = status.unwrap_or("unknown status");
    let log = std::fs::read(&member.log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    let mut text = format!("{} ended at its start: {status}; it said last:", member.name);
    for line in last {
        text.push_str("\n  ");
        text.push_str(line);
    }
    if last.is_empty() {
        text.push_str(" nothing");
    }
    Failure::new(UNAVAILABLE, text)
}
