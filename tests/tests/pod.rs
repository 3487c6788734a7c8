//! Members set up as in pods: settings from a file, one certificate for all, addresses from hellos,
//! probes, the control socket, calls that say which pod they mean. On real processes.

use quorate_proto::admin::members_client::MembersClient;
use quorate_proto::admin::{BootstrapRequest, RetireRequest, StatusRequest, StatusResponse, Voter};
use quorate_sidecar::control;
use quorate_sidecar::dev::certificates::Authority;
use quorate_sidecar::tls::{Tls, TlsFiles};
use quorate_sidecar::transport;
use quorate_tests::block_on;
use quorate_tests::cluster::{Process, Scratch, binary};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic::{Code, Request};

const LOOK: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);
const CLUSTER: &str = "pods-1f3a";
const MEMBERS: usize = 3;

/// A port a listener of each member: peers, admin, probes.
type Ports = [[u16; 3]; MEMBERS];

/// Ports that were given out to another test of this process.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Free at this moment; all are held until the last one is chosen.
fn free_ports() -> Ports {
    let mut given = GIVEN.lock().expect("nobody panics with it");
    let mut held = Vec::new();
    while held.len() < MEMBERS * 3 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        if given.insert(listener.local_addr().expect("bound").port()) {
            held.push(listener);
        }
    }
    let port = |at: usize| held[at].local_addr().expect("bound").port();
    std::array::from_fn(|member| std::array::from_fn(|which| port(member * 3 + which)))
}

/// The pods, their processes, and the certificates.
struct Pods {
    base: PathBuf,
    ports: Ports,
    running: Vec<Option<Child>>,
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

fn name(member: usize) -> String {
    format!("app-{member}")
}

fn uid(member: usize) -> String {
    format!("00000000-0000-4000-8000-00000000000{member}")
}

impl Pods {
    fn new(base: &Path) -> Pods {
        let authority = Authority::new().expect("a CA");
        let issue = |whose: &str| {
            let dns = format!("{whose}.{CLUSTER}.quorate");
            let (cert, key) = authority.issue(&[dns]).expect("issued");
            for (suffix, text) in [("pem", cert), ("key", key)] {
                std::fs::write(base.join(format!("{whose}.{suffix}")), text).expect("written");
            }
        };
        issue("member");
        issue("operator");
        std::fs::write(base.join("ca.pem"), authority.pem()).expect("written");
        std::fs::write(base.join("quorate"), "a program").expect("written");
        let ports = free_ports();
        let pods =
            Pods { base: base.to_owned(), ports, running: (0..MEMBERS).map(|_| None).collect() };
        for member in 0..MEMBERS {
            std::fs::write(pods.settings(member), pods.lines(member)).expect("written");
        }
        pods
    }

    fn settings(&self, member: usize) -> PathBuf {
        self.base.join(format!("{}.settings", name(member)))
    }

    fn data(&self, member: usize) -> PathBuf {
        self.base.join(name(member))
    }

    /// What stands in the file. Each member is told of those behind it alone; the others it knows
    /// by what they say of themselves.
    fn lines(&self, member: usize) -> String {
        let mut lines = "# of a pod\n".to_owned();
        let path = |name: &str| self.base.join(name).display().to_string();
        let peers = (member + 1..MEMBERS)
            .map(|peer| format!("{}=127.0.0.1:{}", name(peer), self.ports[peer][0]));
        let [peer, admin, probe] = self.ports[member].map(|port| format!("0.0.0.0:{port}"));
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
        ];
        for (key, value) in settings {
            writeln!(lines, "QUORATE_{key}={value}").expect("a string takes all");
        }
        lines
    }

    fn command(&self, member: usize, verb: &str) -> Command {
        let mut command = Command::new(binary("quorate-sidecar").expect("built"));
        command.arg(verb).env("QUORATE_CONFIG", self.settings(member)).stdin(Stdio::null());
        command
    }

    async fn start(&mut self, member: usize) {
        let mut command = self.command(member, "run");
        command.env("QUORATE_NAME", name(member)).env("QUORATE_POD_UID", uid(member));
        let child = command.env("QUORATE_POD_IP", "127.0.0.1").spawn().expect("it starts");
        self.running[member] = Some(child);
        self.until(member, "/startupz", 200).await;
    }

    /// Starts all, and makes a group of them.
    async fn start_group(&mut self) {
        for member in 0..MEMBERS {
            self.start(member).await;
        }
        self.bootstrap().await;
        for member in 0..MEMBERS {
            self.until(member, "/readyz", 200).await;
        }
    }

    fn kill(&mut self, member: usize) {
        let mut child = self.running[member].take().expect("it runs");
        child.kill().expect("its own child");
        child.wait().expect("its own child");
    }

    /// `quorate-sidecar drain`, as a preStop hook; and how long it took.
    fn drain(&self, member: usize) -> (Output, Duration) {
        let begun = Instant::now();
        (self.command(member, "drain").output().expect("it starts"), begun.elapsed())
    }

    /// The status of a probe; none if nobody listens.
    fn probe(&self, member: usize, path: &str) -> Option<u16> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.ports[member][2]));
        let mut stream = TcpStream::connect(address).ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split(' ').nth(1)?.parse().ok()
    }

    async fn until(&self, member: usize, path: &str, status: u16) {
        let end = Instant::now() + PATIENCE;
        while self.probe(member, path) != Some(status) {
            assert!(Instant::now() < end, "{path} of {} never said {status}", name(member));
            sleep(LOOK).await;
        }
    }

    /// The admin port, as whom this certificate speaks for.
    async fn admin(&self, member: usize, whose: &str) -> MembersClient<Channel> {
        let file = |suffix: &str| self.base.join(format!("{whose}.{suffix}"));
        let files = TlsFiles { cert: file("pem"), key: file("key"), ca: self.base.join("ca.pem") };
        let tls = Tls::load(files, whose, CLUSTER, Arc::new(|_| {})).expect("good files");
        let address = format!("127.0.0.1:{}", self.ports[member][1]);
        let called = name(member);
        let expected = (Some(&tls), called.as_str());
        let channel = transport::channel(&address, PATIENCE, expected).await;
        MembersClient::new(channel.expect("it proves that it is a member"))
    }

    async fn status(&self, member: usize) -> StatusResponse {
        let answer = self.admin(member, "operator").await.status(StatusRequest::default()).await;
        answer.expect("answered").into_inner()
    }

    async fn leader(&self) -> usize {
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
    async fn bootstrap(&self) {
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

#[test]
fn a_group_of_pods_starts_serves_and_hands_over() {
    let scratch = Scratch::new("pods").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        for member in 0..MEMBERS {
            pods.start(member).await;
            // Blank: started and live, and not ready.
            assert_eq!(pods.probe(member, "/livez"), Some(200));
            assert_eq!(pods.probe(member, "/readyz"), Some(503));
            assert!(!pods.status(member).await.caught_up);
            let tool = scratch.path().join(format!("run-{member}/bin/quorate"));
            let mode = std::fs::metadata(tool).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o555);
        }
        pods.bootstrap().await;
        for member in 0..MEMBERS {
            pods.until(member, "/readyz", 200).await;
        }
        for member in 0..MEMBERS {
            let status = pods.status(member).await;
            assert_eq!(status.pod_uid, uid(member));
            assert!(status.caught_up && status.format_version == 1, "{status:?}");
        }
        guarded(&pods).await;
        control_socket(&pods).await;
        handed_over(&mut pods).await;
    });
}

/// Who may use the admin port, and whom a call may reach.
async fn guarded(pods: &Pods) {
    let mut operator = pods.admin(1, "operator").await;
    let mut ask = async |meant: &str| {
        let mut request = Request::new(StatusRequest::default());
        let key = "quorate-pod-uid";
        request.metadata_mut().insert(key, meant.parse().expect("ASCII"));
        operator.status(request).await
    };
    ask(&uid(1)).await.expect("the pod that is meant");
    let refused = ask(&uid(2)).await.expect_err("another pod is meant");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let message = refused.message();
    assert!(message.contains(&uid(1)) && message.contains(&uid(2)), "{message}");
    // The certificate that all members share is for the peer port.
    let refused = pods.admin(1, "member").await.status(StatusRequest::default()).await;
    assert_eq!(refused.expect_err("refused").code(), Code::PermissionDenied);
}

/// The control socket is this user's, and has no more than a pod's end needs.
async fn control_socket(pods: &Pods) {
    let socket = control::socket(&pods.data(2));
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let channel = quorate_tests::load::channel(socket).await.expect("it listens");
    let mut members = MembersClient::new(channel);
    let status = members.status(StatusRequest::default()).await.expect("answered").into_inner();
    assert_eq!(status.name, name(2));
    let retire = RetireRequest { member_id: status.member_id, still_a_member: true };
    let refused = members.retire(retire).await.expect_err("refused");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
}

/// Each pod drains as it stops; one that is killed is found again, and caught up.
async fn handed_over(pods: &mut Pods) {
    let first = pods.leader().await;
    let (output, took) = pods.drain(first);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && took < control::DRAIN_MAX, "{took:?}: {said}");
    assert!(said.contains("does not stand for leadership any more"), "{said}");
    assert!(pods.status(first).await.draining);
    let second = pods.leader().await;
    assert_ne!(first, second);
    pods.kill(second);
    let (output, took) = pods.drain(second);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && took < control::DRAIN_MAX, "{took:?}: {said}");
    assert!(said.contains("no sidecar answers at"), "{said}");
    pods.start(second).await;
    pods.until(second, "/readyz", 200).await;
    assert_eq!(pods.status(second).await.boot_seq, 2);
    // One that hangs keeps nobody.
    let process = Process::new(pods.running[second].as_ref().expect("it runs").id());
    process.stop();
    let (output, took) = pods.drain(second);
    process.resume();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && took < control::DRAIN_MAX, "{took:?}: {said}");
    assert!(said.contains("the sidecar did not answer within 5 s"), "{said}");
    // Alone, a member has no quorum; it asked to be ready only with one.
    let rest: BTreeSet<usize> = (0..MEMBERS).filter(|member| *member != first).collect();
    rest.iter().for_each(|member| pods.kill(*member));
    pods.until(first, "/readyz", 503).await;
    assert_eq!(pods.probe(first, "/livez"), Some(200));
    assert!(pods.status(first).await.caught_up);
}

#[test]
fn bad_settings_are_all_named_and_nothing_starts() {
    let scratch = Scratch::new("settings").expect("scratch");
    let pods = Pods::new(scratch.path());
    let path = pods.settings(0);
    let good = std::fs::read_to_string(&path).expect("written");
    let bad = good.replace("=0660", "=rw") + "QUORATE_LOUD=yes\nhello\n";
    std::fs::write(&path, bad).expect("written");
    let run = pods.command(0, "run").env("QUORATE_NAME", "Not A Label").output();
    let output = run.expect("it starts");
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let file = path.display();
    let parts = [
        format!("{file}:4: --socket-mode is \"rw\""),
        format!("{file}:16: \"QUORATE_LOUD\" is no setting"),
        format!("{file}:17: \"hello\" is no KEY=VALUE"),
        "--name is \"Not A Label\"".to_owned(),
    ];
    for part in &parts {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(said.lines().count(), parts.len(), "{said}");
    assert!(!pods.data(0).exists());
    let lost = Command::new(binary("quorate-sidecar").expect("built"))
        .args(["drain"])
        .env_remove("QUORATE_CONFIG")
        .env_remove("QUORATE_DATA_DIR")
        .output();
    assert_eq!(lost.expect("it starts").status.code(), Some(64));
}

/// Changes one byte of the first record of a member's log; others follow it.
fn damage_log(data: &Path) {
    let names = std::fs::read_dir(data).expect("it is there").map(|entry| entry.expect("read"));
    let log = names.map(|entry| entry.path()).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-"))
    });
    let log = log.min().expect("it has a log");
    let mut bytes = std::fs::read(&log).expect("read");
    bytes[4096 + 24] ^= 1;
    std::fs::write(log, bytes).expect("written");
}

#[test]
fn members_that_cannot_vote_start_and_live_and_are_not_ready() {
    let scratch = Scratch::new("unfit-pods").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        pods.start_group().await;
        // Retired, damaged, and without a majority.
        let member_id = pods.status(0).await.member_id;
        let retire = RetireRequest { member_id, still_a_member: true };
        pods.admin(0, "operator").await.retire(retire).await.expect("retired");
        (0..MEMBERS).for_each(|member| pods.kill(member));
        damage_log(&pods.data(1));
        for (member, role) in [(0, "retired"), (1, "unfit")] {
            pods.start(member).await;
            assert_eq!(pods.status(member).await.role, role);
        }
        pods.start(2).await;
        for member in 0..MEMBERS {
            assert_eq!(pods.probe(member, "/livez"), Some(200));
            assert_eq!(pods.probe(member, "/readyz"), Some(503));
            let (output, took) = pods.drain(member);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && took < control::DRAIN_MAX, "{took:?}: {said}");
            assert!(said.contains("does not stand for leadership any more"), "{said}");
        }
        assert!(!pods.status(2).await.caught_up);
    });
}
