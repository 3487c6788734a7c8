//! A member whose process is in need: few descriptors, and a standard error that takes no line. It
//! serves all the same. On real processes.

use quorate_proto::admin::maintenance_client::MaintenanceClient;
use quorate_proto::admin::members_client::MembersClient;
use quorate_proto::admin::{BootstrapRequest, CompactRequest, StatusRequest, Voter};
use quorate_proto::v1::CampaignRequest;
use quorate_proto::v1::acquire_response::Outcome;
use quorate_proto::v1::elections_client::ElectionsClient;
use quorate_tests::block_on;
use quorate_tests::cluster::{Process, Scratch, binary};
use quorate_tests::load::{Caller, channel};
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

const PATIENCE: Duration = Duration::from_secs(30);
/// How long the end of a member may take: its goodbyes, and its last lines.
const END_MAX: Duration = Duration::from_secs(10);
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
const VALUE_BYTES: usize = 4_096;
/// Campaigns that wait for their answers.
const AT_ONCE: usize = 64;

/// One member of one, and its process. Dropping it ends it.
struct Alone {
    child: Child,
    socket: PathBuf,
    admin: Channel,
}

impl Drop for Alone {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Free at this moment; all are held until the last one is chosen.
fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("bound").port())
}

async fn connected(port: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
    let endpoint = endpoint.timeout(PATIENCE);
    let end = Instant::now() + PATIENCE;
    loop {
        if let Ok(channel) = endpoint.connect().await {
            return channel;
        }
        assert!(Instant::now() < end, "it never listened");
        tokio::task::yield_now().await;
    }
}

impl Alone {
    /// Starts it with this limit of descriptors and this standard error, and makes a group of it.
    async fn start(dir: &Path, descriptors: &str, stderr: impl Into<Stdio>) -> Alone {
        let socket = dir.join("quorate.sock");
        let [peer, admin, probe] = free_ports();
        let port = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n \"$0\" && exec \"$@\"", descriptors])
            .arg(binary("quorate-sidecar").expect("built"))
            .args(["run", "--name", "alone", "--log", "info"])
            .args(["--peer-listen", &port(peer), "--admin-listen", &port(admin)])
            .args(["--probe-listen", &port(probe), "--data-dir"])
            .arg(dir.join("data"))
            .arg("--socket")
            .arg(&socket);
        let child = command.stdin(Stdio::null()).stderr(stderr).spawn().expect("it starts");
        let alone = Alone { child, socket, admin: connected(admin).await };
        alone.bootstrap().await;
        alone
    }

    async fn bootstrap(&self) {
        let mut members = MembersClient::new(self.admin.clone());
        let status = members.status(StatusRequest::default()).await.expect("answered");
        let member_id = status.into_inner().member_id;
        let voters = vec![Voter { member_id: member_id.clone(), name: "alone".to_owned() }];
        let cluster_id = vec![7; 16];
        let request = BootstrapRequest { cluster_id, member_id, voters, epoch: 900, last_n: 0 };
        members.bootstrap(request).await.expect("a new group");
    }

    async fn caller(&self) -> Caller {
        Caller::connect(self.socket.clone(), vec![1; 16]).await.expect("it listens")
    }

    /// Ends it as a pod's end does; gives its exit code.
    fn ended(&mut self) -> Option<i32> {
        Process::new(self.child.id()).terminate();
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("its own child") {
                return status.code();
            }
            assert!(begun.elapsed() < END_MAX, "it does not end");
            std::thread::yield_now();
        }
    }
}

/// Names are granted and given back, through this connection.
async fn serves(caller: &mut Caller, times: u64) {
    for number in 0..times {
        let (name, request) = (format!("name-{number}"), caller.request());
        let token = caller.acquire(&name, request, 5_000).await.expect("answered");
        let request = caller.request();
        caller.release(&name, token.expect("granted"), request).await.expect("released");
    }
}

#[test]
fn a_process_that_comes_and_goes_leaves_the_log_its_descriptors() {
    let scratch = Scratch::new("descriptors").expect("scratch");
    block_on(async {
        let mut alone = Alone::start(scratch.path(), "128", Stdio::inherit()).await;
        let mut caller = alone.caller().await;
        let _attached = caller.open(60_000, "stays").await.expect("opened");
        for _ in 0..500 {
            drop(UnixStream::connect(&alone.socket).expect("it listens"));
        }
        // They are accepted in order.
        let late = Caller::connect(alone.socket.clone(), vec![2; 16]).await;
        let mut late = late.expect("it listens");
        let _late = late.open(60_000, "late").await.expect("opened");
        let mut maintenance = MaintenanceClient::new(alone.admin.clone());
        // Each takes a file for the snapshot, and lets the log before it go.
        for _ in 0..5 {
            serves(&mut late, 10).await;
            maintenance.compact(CompactRequest {}).await.expect("compacted");
        }
        fill_a_segment(&alone, &mut caller).await;
        serves(&mut caller, 10).await;
        assert_eq!(alone.child.try_wait().expect("its own child"), None, "it lives");
        assert_eq!(alone.ended(), Some(0));
    });
}

/// More than a segment of the log holds: it goes on in a new file.
async fn fill_a_segment(alone: &Alone, caller: &mut Caller) {
    let wire = channel(alone.socket.clone()).await.expect("it listens");
    let elections = ElectionsClient::new(wire);
    for _ in 0..SEGMENT_BYTES / VALUE_BYTES / AT_ONCE + 1 {
        let lowest_unacked = caller.next_request;
        let mut answers = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (request_id, mut elections) = (caller.request(), elections.clone());
            let campaign = CampaignRequest {
                key: caller.key.clone(),
                name: format!("election-{request_id}"),
                request_id,
                lowest_unacked,
                wait_ms: 0,
                value: vec![7; VALUE_BYTES],
            };
            answers.spawn(async move { elections.campaign(campaign).await });
        }
        for answer in answers.join_all().await {
            let outcome = answer.expect("answered").into_inner().outcome;
            assert!(matches!(outcome, Some(Outcome::Granted(_))), "{outcome:?}");
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_to_keeps_no_member() {
    let scratch = Scratch::new("full").expect("scratch");
    let full = OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    block_on(served_and_ended(scratch.path(), full));
}

#[test]
fn a_log_that_nobody_reads_keeps_no_member() {
    let scratch = Scratch::new("unread").expect("scratch");
    let (_unread, writer) = std::io::pipe().expect("a pipe");
    fill(&writer);
    block_on(served_and_ended(scratch.path(), writer));
}

/// Not one byte more fits into it.
fn fill(pipe: &std::io::PipeWriter) {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
    let flags = fcntl_getfl(pipe).expect("a pipe has them");
    fcntl_setfl(pipe, flags | OFlags::NONBLOCK).expect("a pipe has them");
    while rustix::io::write(pipe, &[b'x'; 4_096]).is_ok() {}
    assert_eq!(rustix::io::write(pipe, b"x"), Err(rustix::io::Errno::AGAIN));
    fcntl_setfl(pipe, flags).expect("a pipe has them");
}

async fn served_and_ended(dir: &Path, stderr: impl Into<Stdio>) {
    let mut alone = Alone::start(dir, "1024", stderr).await;
    let mut caller = alone.caller().await;
    let _attached = caller.open(60_000, "served").await.expect("opened");
    serves(&mut caller, 10).await;
    assert_eq!(alone.ended(), Some(0));
}
