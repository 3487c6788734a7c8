//! The operator as a process of this machine, with a service account of its own, so that the audit
//! log tells what it wrote.

use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What it is started with.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) program: PathBuf,
    pub(super) kubeconfig: PathBuf,
    pub(super) image: String,
    pub(super) log: PathBuf,
    /// Who it is, in the Lease.
    pub(super) identity: String,
}

/// One that runs, until it is dropped.
#[derive(Debug)]
pub(super) struct Operator {
    child: Child,
    pub(super) start: Start,
    /// Where it answers probes.
    pub(super) probe: SocketAddr,
}

impl Operator {
    /// Starts one; its log goes on where an earlier one's ended.
    pub(super) fn start(start: &Start) -> Result<Operator, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", start.program.display());
        let log = File::options().create(true).append(true).open(&start.log).map_err(failed)?;
        // Nobody else takes it in the moment between.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(failed)?;
        let child = Command::new(&start.program)
            .args(["run", "--image", &start.image, "--identity", &start.identity, "--listen"])
            .arg(port.to_string())
            // No pod here is attached while an authority changes.
            .args(["--ca-settle", "2"])
            .env("KUBECONFIG", &start.kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        Ok(Operator { child, start: start.clone(), probe: port })
    }

    /// Whether it runs.
    pub(super) fn runs(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// As a machine that loses power would.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill(); // One that ended is gone already.
        let _ = self.child.wait();
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or("a process has a number")?;
        kill_process(pid, signal).map_err(|e| e.to_string())
    }

    /// Asks it to end, and waits until it did.
    pub(super) async fn terminate(&mut self) -> Result<(), String> {
        self.signal(Signal::TERM)?;
        super::space::until("the operator ends", Duration::from_secs(20), async || {
            if self.runs() { Err("it runs".to_owned()) } else { Ok(()) }
        })
        .await
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a file.
pub(super) fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
