//! Members set up as in pods, on real processes: settings from a file, one certificate for all, and
//! another one for attached sidecars.

#![allow(dead_code, reason = "each test file uses a part of it")]

use quorate_proto::admin::members_client::MembersClient;
use quorate_proto::admin::{BootstrapRequest, StatusRequest, StatusResponse, Voter};
use quorate_sidecar::dev::certificates::Authority;
use quorate_sidecar::tls::{Tls, TlsFiles};
use quorate_sidecar::transport;
use quorate_tests::cluster::binary;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;

pub const LOOK: Duration = Duration::from_millis(10);
pub const PATIENCE: Duration = Duration::from_secs(30);
pub const CLUSTER: &str = "pods-1f3a";
pub const MEMBERS: usize = 3;

/// A port a listener of each member: peers, admin, probes, attached sidecars.
pub type Ports = [[u16; LISTENERS]; MEMBERS];
const LISTENERS: usize = 4;

/// Ports that were given out to another test of this process.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Free at this moment; all are held until the last one is chosen.
pub fn free_ports() -> Ports {
    let mut given = GIVEN.lock().expect("nobody panics with it");
    let mut held = Vec::new();
    while held.len() < MEMBERS * LISTENERS {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        if given.insert(listener.local_addr().expect("bound").port()) {
            held.push(listener);
        }
    }
    let port = |at: usize| held[at].local_addr().expect("bound").port();
    std::array::from_fn(|member| std::array::from_fn(|which| port(member * LISTENERS + which)))
}

/// The pods, their processes, and the certificates.
pub struct Pods {
    pub base: PathBuf,
    pub ports: Ports,
    pub authority: Authority,
    pub running: Vec<Option<Child>>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn name(member: usize) -> String {
    format!("app-{member}")
}

pub fn uid(member: usize) -> String {
    format!("00000000-0000-4000-8000-00000000000{member}")
}

impl Pods {
    pub fn new(base: &Path) -> Pods {
        let authority = Authority::new().expect("a CA");
        std::fs::write(base.join("ca.pem"), authority.pem()).expect("written");
        std::fs::write(base.join("quorate"), "a program").expect("written");
        let ports = free_ports();
        let running = (0..MEMBERS).map(|_| None).collect();
        let pods = Pods { base: base.to_owned(), ports, authority, running };
        for whose in ["member", "operator", "client"] {
            pods.issue(whose, &[format!("{whose}.{CLUSTER}.quorate")]);
        }
        for member in 0..MEMBERS {
            std::fs::write(pods.settings(member), pods.lines(member)).expect("written");
        }
        pods
    }

    /// A certificate in a file of its own.
    pub fn issue(&self, file: &str, names: &[String]) {
        let (cert, key) = self.authority.issue(names).expect("issued");
        for (suffix, text) in [("pem", cert), ("key", key)] {
            std::fs::write(self.base.join(format!("{file}.{suffix}")), text).expect("written");
        }
    }

    /// The files of that certificate.
    pub fn files(&self, file: &str) -> TlsFiles {
        let part = |suffix: &str| self.base.join(format!("{file}.{suffix}"));
        TlsFiles { cert: part("pem"), key: part("key"), ca: self.base.join("ca.pem") }
    }

    pub fn settings(&self, member: usize) -> PathBuf {
        self.base.join(format!("{}.settings", name(member)))
    }

    pub fn data(&self, member: usize) -> PathBuf {
        self.base.join(name(member))
    }

    /// What stands in the file. Each member is told of those behind it alone; the others it knows
    /// by what they say of themselves.
    pub fn lines(&self, member: usize) -> String {
        let mut lines = "# of a pod\n".to_owned();
        let path = |name: &str| self.base.join(name).display().to_string();
        let peers = (member + 1..MEMBERS)
            .map(|peer| format!("{}=127.0.0.1:{}", name(peer), self.ports[peer][0]));
        let [peer, admin, probe, client] = self.ports[member].map(|port| format!("0.0.0.0:{port}"));
        let settings = [
            ("DATA_DIR", self.data(member).display().to_string()),
            ("SOCKET", path(&format!("run-{member}/quorate.sock"))),
            ("SOCKET_MODE", "0660".to_owned()),
            ("PEERS", peers.collect::<Vec<_>>().join(",")),
            ("PEER_LISTEN", peer),
            ("ADMIN_LISTEN", admin),
            ("PROBE_LISTEN", probe),
            ("CLUSTER", CLUSTER.to_owned()),
            ("TLS_CERT", path("member.pem")),
            ("TLS_KEY", path("member.key")),
            ("TLS_CA", path("ca.pem")),
            ("READINESS", "quorum".to_owned()),
            ("TOOL_DIR", path(&format!("run-{member}/bin"))),
            ("TOOL_SOURCE", path("quorate")),
            ("CLIENT_LISTEN", client),
        ];
        for (key, value) in settings {
            writeln!(lines, "QUORATE_{key}={value}").expect("a string takes all");
        }
        lines
    }

    pub fn command(&self, member: usize, verb: &str) -> Command {
        let mut command = Command::new(binary("quorate-sidecar").expect("built"));
        command.arg(verb).env("QUORATE_CONFIG", self.settings(member)).stdin(Stdio::null());
        command
    }

    pub async fn start(&mut self, member: usize) {
        let mut command = self.command(member, "run");
        command.env("QUORATE_NAME", name(member)).env("QUORATE_POD_UID", uid(member));
        let child = command.env("QUORATE_POD_IP", "127.0.0.1").spawn().expect("it starts");
        self.running[member] = Some(child);
        self.until(member, "/startupz", 200).await;
    }

    /// Starts all, and makes a group of them.
    pub async fn start_group(&mut self) {
        for member in 0..MEMBERS {
            self.start(member).await;
        }
        self.bootstrap().await;
        for member in 0..MEMBERS {
            self.until(member, "/readyz", 200).await;
        }
    }

    pub fn kill(&mut self, member: usize) {
        let mut child = self.running[member].take().expect("it runs");
        child.kill().expect("its own child");
        child.wait().expect("its own child");
    }

    /// `quorate-sidecar drain`, as a preStop hook; and how long it took.
    pub fn drain(&self, member: usize) -> (Output, Duration) {
        let begun = Instant::now();
        (self.command(member, "drain").output().expect("it starts"), begun.elapsed())
    }

    /// The status of a probe; none if nobody listens.
    pub fn probe(&self, member: usize, path: &str) -> Option<u16> {
        probe(self.ports[member][2], path)
    }

    pub async fn until(&self, member: usize, path: &str, status: u16) {
        until(self.ports[member][2], path, status).await;
    }

    /// The admin port, as whom this certificate speaks for.
    pub async fn admin(&self, member: usize, whose: &str) -> MembersClient<Channel> {
        let tls =
            Tls::load(self.files(whose), whose, CLUSTER, Arc::new(|_| {})).expect("good files");
        let address = format!("127.0.0.1:{}", self.ports[member][1]);
        let called = name(member);
        let expected = (Some(&tls), called.as_str());
        let channel = transport::channel(&address, PATIENCE, expected).await;
        MembersClient::new(channel.expect("it proves that it is a member"))
    }

    pub async fn status(&self, member: usize) -> StatusResponse {
        let answer = self.admin(member, "operator").await.status(StatusRequest::default()).await;
        answer.expect("answered").into_inner()
    }

    pub async fn leader(&self) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            for member in 0..MEMBERS {
                if self.status(member).await.role == "leader" {
                    return member;
                }
            }
            assert!(Instant::now() < end, "nobody leads");
            sleep(LOOK).await;
        }
    }

    /// Makes a group of the blank members.
    pub async fn bootstrap(&self) {
        let mut voters = Vec::new();
        for member in 0..MEMBERS {
            let member_id = self.status(member).await.member_id;
            voters.push(Voter { member_id, name: name(member) });
        }
        let member_id = voters[0].member_id.clone();
        let cluster_id = vec![7; 16];
        let request = BootstrapRequest { cluster_id, member_id, voters, epoch: 900, last_n: 0 };
        let answer = self.admin(0, "operator").await.bootstrap(request).await;
        answer.expect("a new group");
    }
}

pub fn probe(port: u16, path: &str) -> Option<u16> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

pub async fn until(port: u16, path: &str, status: u16) {
    let end = Instant::now() + PATIENCE;
    while probe(port, path) != Some(status) {
        assert!(Instant::now() < end, "{path} of port {port} never said {status}");
        sleep(LOOK).await;
    }
}
