//! Sidecars without a log, beside applications that are no part of the group, on real processes:
//! they serve as a member's do, outlive their relays, and nobody else gets in.

mod pods;

use pods::{CLUSTER, LOOK, MEMBERS, PATIENCE, Pods, name};
use quorate_proto::peer::forward::What;
use quorate_proto::peer::forward_reply::Outcome;
use quorate_proto::peer::frame::Frame as Framed;
use quorate_proto::peer::peer_client::PeerClient;
use quorate_proto::peer::relay_client::RelayClient;
use quorate_proto::peer::relay_event::Event as Heard;
use quorate_proto::peer::relay_request::Request as Word;
use quorate_proto::peer::{
    Boot, Follow, Forward, Frame, Hello, Introduction, RelayEvent, RelayRequest,
};
use quorate_proto::v1::StatusRequest;
use quorate_proto::v1::session_event::Event;
use quorate_proto::v1::status_client::StatusClient;
use quorate_sidecar::dev::certificates::Authority;
use quorate_sidecar::tls::Tls;
use quorate_sidecar::transport;
use quorate_tests::block_on;
use quorate_tests::cluster::{Process, Scratch, binary};
use quorate_tests::load::{Caller, boottime_ns, channel};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, Streaming};

const TTL_MS: u64 = 5_000;

fn key() -> Vec<u8> {
    let mut key = vec![0; 16];
    rustix::rand::getrandom(&mut key[..], rustix::rand::GetRandomFlags::empty()).expect("random");
    key
}

/// An attached sidecar. Dropping it ends it.
struct Beside {
    child: Child,
    endpoint: PathBuf,
    log: PathBuf,
    probe: u16,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended by itself.
        let _ = self.child.wait();
    }
}

fn attach(pods: &Pods, who: &str, certificate: &str) -> Command {
    let mut command = Command::new(binary("quorate-sidecar").expect("built"));
    let files = pods.files(certificate);
    command.args(["attach", "--cluster", CLUSTER, "--name", who]);
    for member in 0..MEMBERS {
        let port = pods.ports[member][3];
        command.arg(format!("--member={}=127.0.0.1:{port}", name(member)));
    }
    command.arg("--tls-cert").arg(files.cert).arg("--tls-key").arg(files.key);
    command.arg("--tls-ca").arg(files.ca).stdin(Stdio::null());
    command.arg("--socket").arg(pods.base.join(format!("{who}.sock")));
    command
}

impl Beside {
    fn start(pods: &Pods, who: &str) -> Beside {
        let log = pods.base.join(format!("{who}.log"));
        let probe = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("free");
        let stderr = File::options().create(true).append(true).open(&log).expect("a file");
        let mut command = attach(pods, who, "client");
        command.arg(format!("--probe-listen={probe}")).stderr(stderr);
        let child = command.spawn().expect("it starts");
        let endpoint = pods.base.join(format!("{who}.sock"));
        Beside { child, endpoint, log, probe: probe.port() }
    }

    async fn caller(&self) -> Caller {
        let end = Instant::now() + PATIENCE;
        loop {
            match Caller::connect(self.endpoint.clone(), key()).await {
                Ok(caller) => return caller,
                Err(why) => assert!(Instant::now() < end, "{why:?}"),
            }
            sleep(LOOK).await;
        }
    }

    /// The members that relayed, in order.
    fn relays(&self) -> Vec<usize> {
        let said = std::fs::read_to_string(&self.log).expect("it has a log");
        let relays = said.lines().filter_map(|line| line.strip_suffix(" relays"));
        let names = relays.filter_map(|line| line.rsplit(' ').next());
        names.map(|of| (0..MEMBERS).find(|at| name(*at) == of).expect("a member")).collect()
    }

    /// Waits until so many relayed; gives the last.
    async fn relay(&self, count: usize) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            let relays = self.relays();
            if let Some(last) = relays.last().filter(|_| relays.len() >= count) {
                return *last;
            }
            assert!(Instant::now() < end, "{relays:?}, and {count} awaited");
            sleep(LOOK).await;
        }
    }
}

/// Waits for a renewal that can only come from a heartbeat sent after `since`.
async fn renewed_after(events: &mut Streaming<quorate_proto::v1::SessionEvent>, since: u64) {
    let safe = TTL_MS * 1_000_000 * 95 / 100;
    let wait = async {
        loop {
            match events.message().await.expect("it lives").expect("it lives").event {
                Some(Event::Renewed(renewed)) if renewed.deadline_boottime_ns > since + safe => {
                    return;
                }
                Some(Event::Renewed(_) | Event::Jeopardy(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("renewed");
}

async fn member(pods: &Pods, at: usize) -> Caller {
    let endpoint = pods.base.join(format!("run-{at}/quorate.sock"));
    Caller::connect(endpoint, key()).await.expect("the member listens")
}

#[test]
fn a_lock_outlives_its_relays() {
    let scratch = Scratch::new("attached").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        pods.start_group().await;
        let beside = Beside::start(&pods, "beside-1");
        let mut holder = beside.caller().await;
        let mut kept = holder.open(TTL_MS, "beside").await.expect("opened").events;
        let request = holder.request();
        let token = holder.acquire("x", request, TTL_MS).await.expect("answered").expect("free");
        let seen = member(&pods, 0).await.holder("x").await.expect("answered").expect("held");
        assert_eq!((seen.token, seen.label.as_str(), seen.member.as_str()), (token, "beside", ""));
        for round in 1..=4 {
            let relay = beside.relay(round).await;
            let process = Process::new(pods.running[relay].as_ref().expect("it runs").id());
            let frozen = round % 2 == 0;
            if frozen {
                process.stop()
            } else {
                pods.kill(relay)
            }
            let since = boottime_ns();
            renewed_after(&mut kept, since).await;
            assert_ne!(beside.relay(round + 1).await, relay);
            let seen = holder.holder("x").await.expect("answered").expect("still held");
            assert_eq!(seen.token, token);
            let mut rival = member(&pods, (relay + 1) % MEMBERS).await;
            let _rival = rival.open(TTL_MS, "rival").await.expect("opened");
            let request = rival.request();
            assert_eq!(rival.acquire("x", request, 0).await.expect("answered"), None);
            if frozen {
                process.resume()
            } else {
                pods.start(relay).await
            }
            pods.until(relay, "/readyz", 200).await;
        }
        let request = holder.request();
        holder.release("x", token, request).await.expect("released");
        let request = holder.request();
        let next = holder.acquire("x", request, TTL_MS).await.expect("answered").expect("free");
        assert!(next > token);
    });
}

#[test]
fn it_shows_what_it_is_and_ends_when_asked() {
    let scratch = Scratch::new("attached-status").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        let mut beside = Beside::start(&pods, "beside-1");
        drop(beside.caller().await);
        assert_eq!(pods::probe(beside.probe, "/startupz"), Some(200));
        assert_eq!(pods::probe(beside.probe, "/readyz"), Some(503), "there is no group");
        pods.start_group().await;
        pods::until(beside.probe, "/readyz", 200).await;
        let mut status = StatusClient::new(channel(beside.endpoint.clone()).await.expect("there"));
        let status = status.get(StatusRequest {}).await.expect("answered").into_inner();
        assert_eq!((status.role.as_str(), status.member.as_str()), ("attached", "beside-1"));
        assert_eq!(status.leader, name(pods.leader().await));
        assert_eq!(status.members.len(), MEMBERS);
        let mut waits = beside.caller().await;
        let attached = waits.open(TTL_MS, "beside").await.expect("opened");
        let request = waits.request();
        let token = waits.acquire("x", request, TTL_MS).await.expect("answered").expect("free");
        let mut events = attached.events;
        let process = Process::new(beside.child.id());
        process.terminate();
        let draining = async {
            while let Some(event) = events.message().await.expect("no failure") {
                if let Some(Event::Draining(_)) = event.event {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(PATIENCE, draining).await.expect("told"));
        assert!(process.await_gone(Duration::from_secs(3)), "it did not end");
        assert!(beside.child.wait().expect("reaped").success());
        // The next process of it takes the session back, and with it the lock.
        let beside = Beside::start(&pods, "beside-1");
        drop(beside.caller().await);
        waits.reconnect().await.expect("it listens");
        let again = waits.resume(attached.generation).await.expect("resumed");
        assert_eq!(again.generation, attached.generation + 1);
        assert_eq!(waits.acquire("x", request, TTL_MS).await.expect("answered"), Some(token));
    });
}

#[test]
fn a_holder_beside_it_ends_in_time_and_frees_its_lock() {
    let scratch = Scratch::new("attached-holder").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        pods.start_group().await;
        let beside = Beside::start(&pods, "beside-1");
        drop(beside.caller().await);
        let lock = |ttl: &str| {
            Command::new(binary("quorate").expect("built"))
                .arg("--endpoint")
                .arg(&beside.endpoint)
                .args(["lock", "x", "--ttl", ttl, "--", "sh", "-c", "echo $$; exec sleep 600"])
                .stdout(Stdio::piped())
                .spawn()
                .expect("quorate starts")
        };
        // Its process is dead: the lock is free at once, long before its TTL.
        let mut holder = lock("60s");
        let mut other = member(&pods, 1).await;
        let _kept = other.open(TTL_MS, "other").await.expect("opened");
        drop(first_pid(&mut holder));
        let killed = boottime_ns();
        Process::new(holder.id()).kill();
        let request = other.request();
        let token = other.acquire("x", request, 20_000).await.expect("answered").expect("freed");
        let gap = Duration::from_nanos(boottime_ns() - killed);
        assert!(gap < Duration::from_secs(3), "it took {gap:?}");
        let request = other.request();
        other.release("x", token, request).await.expect("released");
        holder.wait().expect("reaped");
        // All relays are frozen: its whole tree is gone before the deadline.
        let mut holder = lock("2s");
        let child = first_pid(&mut holder);
        let members: Vec<Process> =
            pods.running.iter().flatten().map(|it| it.id()).map(Process::new).collect();
        members.iter().for_each(Process::stop);
        let latest = boottime_ns() + 2_000_000_000 * 95 / 100;
        let gone = tokio::task::spawn_blocking(move || child.await_gone(PATIENCE)).await;
        let ended = boottime_ns();
        members.iter().for_each(Process::resume);
        assert!(gone.expect("no panic") && ended < latest, "it outlived its deadline");
        assert_eq!(holder.wait().expect("reaped").code(), Some(76));
    });
}

/// The process that prints its number.
fn first_pid(holder: &mut Child) -> Process {
    let mut lines = BufReader::new(holder.stdout.take().expect("a pipe")).lines();
    let line = lines.next().expect("it runs").expect("a line");
    Process::new(line.trim().parse().expect("a number"))
}

/// Attaches by hand: what the relay says to it.
async fn by_hand(
    pods: &Pods,
    tls: Option<&Tls>,
    port: usize,
    words: Vec<Word>,
) -> Result<Streaming<RelayEvent>, Status> {
    let address = format!("127.0.0.1:{}", pods.ports[0][port]);
    let channel = transport::channel(&address, PATIENCE, (tls, &name(0))).await;
    let channel = channel.map_err(|why| Status::unauthenticated(why.to_string()))?;
    let words = words.into_iter().map(|word| RelayRequest { request: Some(word) });
    // It stays open: an end would be an end.
    let words = tokio_stream::iter(words).chain(tokio_stream::pending());
    Ok(RelayClient::new(channel).attach(words).await?.into_inner())
}

/// What the peer port says to somebody with these files who calls himself so.
async fn as_a_peer(pods: &Pods, tls: &Tls, called: &str) -> Result<(), Status> {
    let address = format!("127.0.0.1:{}", pods.ports[0][0]);
    let channel = transport::channel(&address, PATIENCE, (Some(tls), &name(0))).await;
    let channel = channel.map_err(|why| Status::unauthenticated(why.to_string()))?;
    let boot = Boot { seq: 1, bits: 5 };
    let hello = Hello {
        cluster_id: vec![7; 16],
        from: pods.status(1).await.member_id,
        to: pods.status(0).await.member_id,
        boot: Some(boot),
        boots: vec![boot],
        name: called.to_owned(),
        address: String::new(),
    };
    let frames = tokio_stream::once(Frame { frame: Some(Framed::Hello(hello)) });
    let frames = frames.chain(tokio_stream::pending());
    let mut answers = PeerClient::new(channel).stream(frames).await?.into_inner();
    answers.message().await.map(drop)
}

fn introduction() -> Word {
    Word::Introduction(Introduction { sidecar: key(), boot_bits: 77, name: "hand".to_owned() })
}

#[test]
fn only_the_certificate_for_clients_gets_in() {
    let scratch = Scratch::new("attached-refused").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        pods.start_group().await;
        let tls = |file: &str, own: &str| {
            Tls::load(pods.files(file), own, CLUSTER, Arc::new(|_| {})).expect("good files")
        };
        let client = tls("client", "client");
        let hello = || vec![introduction()];
        let mut events = by_hand(&pods, Some(&client), 3, hello()).await.expect("let in");
        let first = events.message().await.expect("answered").expect("a welcome").event;
        assert!(matches!(first, Some(Heard::Welcome(_))), "{first:?}");
        // Another purpose, or another group of the same authority.
        let own = format!("own.{CLUSTER}.quorate");
        pods.issue("foreign", &[own, "client.other-1f3b.quorate".to_owned()]);
        for (file, name) in [("member", "member"), ("operator", "operator"), ("foreign", "own")] {
            let refused = by_hand(&pods, Some(&tls(file, name)), 3, hello()).await;
            let refused = refused.expect_err("refused");
            assert_eq!(refused.code(), Code::PermissionDenied, "{file}: {refused:?}");
            assert!(refused.message().contains("client.pods-1f3a.quorate"), "{refused:?}");
        }
        // No certificate at all, and one of another authority, do not even get that far.
        assert!(by_hand(&pods, None, 3, hello()).await.is_err());
        let other = Authority::new().expect("a CA");
        let names = [format!("client.{CLUSTER}.quorate")];
        let (cert, key) = other.issue(&names).expect("issued");
        let both = [std::fs::read_to_string(pods.files("client").ca).expect("read"), other.pem()];
        let mut files = pods.files("other");
        files.ca = pods.base.join("both.pem");
        let texts = [(&files.cert, cert), (&files.key, key), (&files.ca, both.concat())];
        texts.into_iter().for_each(|(path, text)| std::fs::write(path, text).expect("written"));
        let other = Tls::load(files, "client", CLUSTER, Arc::new(|_| {})).expect("good files");
        assert!(by_hand(&pods, Some(&other), 3, hello()).await.is_err());
        // And the clients' opens no other door.
        let admin = pods
            .admin(0, "client")
            .await
            .status(quorate_proto::admin::StatusRequest::default())
            .await;
        assert_eq!(admin.expect_err("refused").code(), Code::PermissionDenied);
        let peer = by_hand(&pods, Some(&client), 0, hello()).await.expect_err("refused");
        assert_eq!(peer.code(), Code::Unimplemented);
        for (file, own) in [("client", "client"), ("operator", "operator")] {
            for called in [own, "Client", "OPERATOR", "member", "demo-1"] {
                let refused = as_a_peer(&pods, &tls(file, own), called).await;
                let code = refused.expect_err("refused").code();
                assert_eq!(code, Code::PermissionDenied, "{file} as {called}");
            }
        }
        let output = attach(&pods, "beside-2", "member").output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("member.pem is of no use"), "{said}");
    });
}

#[test]
fn it_speaks_for_its_own_sessions_alone() {
    let scratch = Scratch::new("attached-foreign").expect("scratch");
    let mut pods = Pods::new(scratch.path());
    block_on(async {
        pods.start_group().await;
        let mut victim = member(&pods, 1).await;
        let _kept = victim.open(TTL_MS, "victim").await.expect("opened");
        let request = victim.request();
        let token = victim.acquire("x", request, TTL_MS).await.expect("answered").expect("free");
        let session = victim.holder("x").await.expect("answered").expect("held").session_id;
        let generation = quorate_locks::Generation(1);
        let session = quorate_locks::SessionId(session);
        let close = quorate_locks::Command::Close { session, generation }.encode();
        let tls = Tls::load(pods.files("client"), "client", CLUSTER, Arc::new(|_| {}));
        let tls = tls.expect("good files");
        let term = pods.status(0).await.term;
        let what = Some(What::Command(close));
        let close = Word::Forward(Forward { ticket: 78, term, what });
        let words = vec![introduction(), Word::Follow(Follow { applied: 0 }), close];
        let mut events = by_hand(&pods, Some(&tls), 3, words).await.expect("let in");
        let answer = async {
            while let Some(event) = events.message().await.expect("it lives") {
                if let Some(Heard::ForwardReply(reply)) = event.event {
                    return reply.outcome;
                }
            }
            None
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await.expect("answered");
        assert!(matches!(&answer, Some(Outcome::NotAppended(_))), "{answer:?}");
        let held = victim.holder("x").await.expect("answered").expect("still held");
        assert_eq!(held.token, token);
    });
}
