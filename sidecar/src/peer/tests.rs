//! Members on real loopback sockets, each with a runtime of its own, so that dropping one is its
//! kill -9.

use super::*;
use crate::dev::certificates;
use crate::frame::{Ask, Forward, Heartbeat};
use crate::tls::TlsFiles;
use crate::transport;
use quorate_proto::peer::Frame;
use quorate_proto::peer::peer_client::PeerClient;
use quorate_raft::Term;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::net::TcpListener;
use tonic::{Code, Status};

const SOON: Duration = Duration::from_secs(10);
const CLUSTER: u128 = 0xC1;

#[derive(Debug, PartialEq)]
enum Heard {
    Message(MemberId, PeerMessage),
    Lost(MemberId),
    Restarted(MemberId),
    Cluster(u128),
    Line(String),
}

struct Ear(Mutex<Sender<Heard>>);

impl Ear {
    fn tell(&self, heard: Heard) {
        // The test may be over.
        let _ = self.0.lock().unwrap().send(heard);
    }
}

impl PeerSink for Ear {
    fn received(&self, from: MemberId, message: PeerMessage) {
        self.tell(Heard::Message(from, message));
    }
    fn lost(&self, peer: MemberId) {
        self.tell(Heard::Lost(peer));
    }
    fn restarted(&self, peer: MemberId) {
        self.tell(Heard::Restarted(peer));
    }
    fn cluster_learned(&self, cluster: u128) -> bool {
        self.tell(Heard::Cluster(cluster));
        true
    }
    fn reported(&self, line: String) {
        self.tell(Heard::Line(line));
    }
}

struct Member {
    peers: Peers,
    heard: Receiver<Heard>,
    metrics: Arc<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Setup {
    id: u128,
    cluster: Option<u128>,
    boots: Vec<Boot>,
    tls: Option<TlsFiles>,
    show: Show,
    /// None: everybody's, by name.
    addresses: Option<Addresses>,
    shown: Option<SocketAddr>,
}

fn setup(id: u128) -> Setup {
    let boots = vec![Boot { seq: 1, bits: 10 }];
    let show: Show = Arc::new(|| Ok(()));
    let cluster = Some(CLUSTER);
    Setup { id, cluster, boots, tls: None, show, addresses: None, shown: None }
}

fn name(id: u128) -> String {
    format!("member-{id}")
}

/// A listener a member, kept over its restarts.
struct Ports(Vec<std::net::TcpListener>);

impl Ports {
    fn new(count: usize) -> Ports {
        Ports((0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect())
    }

    fn listener(&self, id: u128) -> &std::net::TcpListener {
        &self.0[usize::try_from(id).unwrap() - 1]
    }

    fn count(&self) -> u128 {
        u128::try_from(self.0.len()).unwrap()
    }

    fn address(&self, id: u128) -> String {
        self.listener(id).local_addr().unwrap().to_string()
    }

    /// Starts a member. Its listening socket stays open when it dies, as if another process had it:
    /// connections are then neither answered nor refused. `dead` closes it for good.
    fn start(&self, setup: Setup) -> Member {
        let Setup { id, cluster, boots, tls, show, addresses, shown } = setup;
        let (sender, heard) = channel();
        let ear: Arc<Ear> = Arc::new(Ear(Mutex::new(sender)));
        let line = Arc::clone(&ear);
        let report: crate::tls::Report = Arc::new(move |text| line.tell(Heard::Line(text)));
        let tls =
            tls.map(|files| Tls::load(files, &name(id), "test", Arc::clone(&report)).unwrap());
        let metrics = Arc::new(Metrics::default());
        let addresses = addresses.unwrap_or_else(|| Addresses {
            named: (1..=self.count()).map(|id| (name(id), self.address(id))).collect(),
            domain: None,
        });
        let options = PeerOptions {
            own: MemberId(id),
            name: name(id),
            cluster,
            boot: boots[boots.len() - 1],
            boots,
            show,
            addresses,
            shown,
            tls: tls.clone(),
            metrics: Arc::clone(&metrics),
        };
        let listener = self.listener(id).try_clone().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        let (started, ready) = channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            let peers = Peers::start(options, ear, runtime.handle().clone());
            started.send(peers.clone()).unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let incoming = transport::incoming((listener, 64), tls, report);
                tokio::select! {
                    served = peers.serve(incoming) => served.unwrap(),
                    _ = stopped => {}
                }
            });
        });
        let peers = ready.recv().unwrap();
        Member { peers, heard, metrics, stop: Some(stop), thread: Some(thread) }
    }
}

impl Member {
    /// All sockets of the member close, without a word.
    fn kill(mut self) {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap();
    }

    /// Waits for something; what comes before it is skipped.
    fn hears(&self, mut is: impl FnMut(&Heard) -> bool) -> Heard {
        let mut before = Vec::new();
        loop {
            match self.heard.recv_timeout(SOON) {
                Ok(heard) if is(&heard) => return heard,
                Ok(heard) => before.push(heard),
                Err(_) => panic!("not heard; but {before:?}"),
            }
        }
    }

    fn hears_line(&self, part: &str) {
        self.hears(|heard| matches!(heard, Heard::Line(line) if line.contains(part)));
    }

    fn hears_beat(&self, from: u128, seq: u64) {
        let message = PeerMessage::Heartbeat(beat(seq));
        self.hears(|heard| *heard == Heard::Message(MemberId(from), message.clone()));
    }

    fn dial(&self, ids: &[u128]) {
        self.peers.configuration(ids.iter().map(|id| (MemberId(*id), name(*id))).collect());
    }

    /// Whether a peer dialled, under its name.
    fn is_heard(&self, from: u128) -> bool {
        let peers = self.peers.connected();
        let is = |peer: &PeerState| peer.member == MemberId(from) && peer.name == name(from);
        peers.iter().any(|peer| is(peer) && peer.inbound)
    }

    fn is_connected(&self, to: u128) -> bool {
        let peers = self.peers.connected();
        peers.iter().any(|peer| peer.member == MemberId(to) && peer.outbound && peer.inbound)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn beat(seq: u64) -> Heartbeat {
    Heartbeat { seq, term: Term(1), boot: 7, sessions: Vec::new(), sidecar: None }
}

/// Awaits a condition that only the other threads can bring about.
fn until(what: &str, is: impl Fn() -> bool) {
    let end = Instant::now() + SOON;
    while !is() {
        assert!(Instant::now() < end, "{what} did not happen");
        std::thread::yield_now();
    }
}

fn both_connect(first: &Member, second: &Member, ids: (u128, u128)) {
    first.dial(&[ids.0, ids.1]);
    second.dial(&[ids.0, ids.1]);
    until("connecting", || first.is_connected(ids.1) && second.is_connected(ids.0));
}

fn certificates_for(label: &str, ids: &[u128]) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("quorate-{}-{label}", std::process::id()));
    let names: Vec<String> = ids.iter().map(|id| name(*id)).collect();
    certificates::make(&directory, "test", &names).unwrap();
    directory
}

fn exchange(tls: Option<PathBuf>) {
    let ports = Ports::new(2);
    let files = |id| tls.as_ref().map(|directory| certificates::files(directory, &name(id)));
    let first = ports.start(Setup { tls: files(1), ..setup(1) });
    let second = ports.start(Setup { tls: files(2), ..setup(2) });
    both_connect(&first, &second, (1, 2));
    for seq in 1..=1000 {
        first.peers.send(MemberId(2), PeerMessage::Heartbeat(beat(seq)));
        second.hears_beat(1, seq);
        second.peers.send(MemberId(1), PeerMessage::Heartbeat(beat(seq)));
        first.hears_beat(2, seq);
    }
    let large: Arc<[u8]> = vec![3; 3 * 1024 * 1024].into();
    let forward = Forward { ticket: 1, term: Term(1), what: Ask::Command(large) };
    first.peers.send(MemberId(2), PeerMessage::Forward(forward.clone()));
    let whole = Heard::Message(MemberId(1), PeerMessage::Forward(forward));
    second.hears(|heard| *heard == whole);
    assert_eq!(first.metrics.peer_dropped.get(), 0);
    if let Some(directory) = tls {
        std::fs::remove_dir_all(directory).unwrap();
    }
}

#[test]
fn messages_travel_both_ways_in_order() {
    exchange(None);
}

#[test]
fn messages_travel_over_tls() {
    exchange(Some(certificates_for("exchange", &[1, 2])));
}

#[test]
fn the_death_of_a_peer_is_told_within_milliseconds() {
    let ports = Ports::new(2);
    let first = ports.start(setup(1));
    let mut times = Vec::new();
    for round in 0..10 {
        let boots = (1..=round + 1).map(|seq| Boot { seq, bits: seq }).collect();
        let second = ports.start(Setup { boots, ..setup(2) });
        both_connect(&first, &second, (1, 2));
        let start = Instant::now();
        second.kill();
        first.hears(|heard| *heard == Heard::Lost(MemberId(2)));
        times.push(start.elapsed());
    }
    times.sort();
    assert!(times[5] < Duration::from_millis(50), "{times:?}");
}

#[test]
fn a_planned_end_is_no_loss() {
    let ports = Ports::new(2);
    let (first, second) = (ports.start(setup(1)), ports.start(setup(2)));
    both_connect(&first, &second, (1, 2));
    second.peers.send(MemberId(1), PeerMessage::Heartbeat(beat(9)));
    second.peers.goodbye();
    first.hears_beat(2, 9);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(second.peers.closed(SOON));
    second.kill();
    until("the end of the stream", || !first.is_connected(2));
    assert_eq!(first.metrics.peer_lost.get(), 0);
    // The first one still listens.
    let again = ports.start(Setup { boots: boots(2), ..setup(2) });
    both_connect(&first, &again, (1, 2));
}

fn boots(count: u64) -> Vec<Boot> {
    (1..=count).map(|seq| Boot { seq, bits: seq * 10 }).collect()
}

#[test]
fn a_blank_member_learns_its_cluster_and_answers() {
    let ports = Ports::new(2);
    let first = ports.start(setup(1));
    let blank = ports.start(Setup { cluster: None, ..setup(2) });
    first.dial(&[1, 2]);
    first.peers.send(MemberId(2), PeerMessage::Heartbeat(beat(1)));
    blank.hears(|heard| *heard == Heard::Cluster(CLUSTER));
    until("its name is known", || blank.is_heard(1));
    blank.hears_beat(1, 1);
    // It knows nobody's configuration, and answers whoever called.
    blank.peers.send(MemberId(1), PeerMessage::Heartbeat(beat(2)));
    first.hears_beat(2, 2);
}

#[test]
fn a_member_of_another_cluster_and_a_replaced_disk_are_refused() {
    let ports = Ports::new(3);
    let first = ports.start(setup(1));
    let stranger = ports.start(Setup { cluster: Some(0xBAD), ..setup(2) });
    stranger.dial(&[1]);
    stranger.hears_line("refused: hello.cluster_id");
    first.hears_line("hello.cluster_id");
    // Member 3 was meant, and a new disk (member 9) answers under its name and address.
    let listener = Ports(vec![]);
    drop(listener);
    let other = ports.start(Setup { id: 3, ..setup(3) });
    first.peers.configuration(vec![(MemberId(9), name(3))]);
    first.hears_line("refused: hello.to is another member");
    other.hears_line("hello.to is another member");
    assert_eq!(first.metrics.peer_dials.get(), 0);
    assert!(first.metrics.peer_refused.get() > 0 && other.metrics.peer_refused.get() > 0);
}

#[test]
fn a_member_whose_log_lost_entries_is_heard_no_more() {
    let ports = Ports::new(2);
    let first = ports.start(setup(1));
    let second = ports.start(setup(2));
    both_connect(&first, &second, (1, 2));
    second.kill();
    let second = ports.start(Setup { boots: boots(2), ..setup(2) });
    first.hears(|heard| *heard == Heard::Restarted(MemberId(2)));
    both_connect(&first, &second, (1, 2));
    first.peers.quarantine(MemberId(2), Index(3), Index(5));
    first.hears_line("is in quarantine: its log ends at 3, and it had acknowledged 5");
    second.hears_line("its log ends at 3, and it had acknowledged 5");
    until("the end of its stream", || !first.peers.connected().iter().any(|peer| peer.inbound));
}

#[test]
fn for_room_no_peer_is_forgotten_that_is_configured_or_heard() {
    let (mut state, boot) = (State::default(), Boot { seq: 1, bits: 10 });
    state.configured.insert(MemberId(2), name(2));
    let (replaced, _sign) = oneshot::channel();
    state.inbound.insert(MemberId(3), Inbound { number: 1, name: name(3), replaced });
    let strangers = (0..known::PEERS_MAX).map(|number| 100 + u128::try_from(number).unwrap());
    for id in [2, 3, 4].into_iter().chain(strangers) {
        assert_eq!(state.meet(MemberId(id), boot, &[boot]), Ok(Met::AsBefore));
    }
    let other = Boot { seq: 1, bits: 99 };
    let forgot = Err(Refusal::Forgot { known: 1 });
    for (id, judged) in [(2, forgot), (3, forgot), (4, Ok(Met::AsBefore))] {
        assert_eq!(state.meet(MemberId(id), other, &[other]), judged, "{id}");
    }
}

/// A disk that counts how often it is to store that a boot was shown, and refuses so many times.
fn shows_after(refusals: u64) -> (Show, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let show = move || match count.fetch_add(1, Ordering::Relaxed) {
        before if before < refusals => Err("the disk is away".to_owned()),
        _ => Ok(()),
    };
    (Arc::new(show), asked)
}

#[test]
fn no_hello_leaves_before_it_is_durable_that_the_boot_is_shown() {
    let ports = Ports::new(2);
    let first = ports.start(setup(1));
    // It dials, and its own disk refuses: the other one hears of no boot.
    let (show, never) = shows_after(u64::MAX);
    let second = ports.start(Setup { boots: boots(2), show, ..setup(2) });
    second.dial(&[1, 2]);
    second.hears_line("this member cannot say who it is: the disk is away");
    // It is dialled: nor does it answer.
    first.dial(&[1, 2]);
    first.hears_line("this member cannot say who it is: the disk is away");
    assert!(never.load(Ordering::Relaxed) >= 2 && !first.is_connected(2));
    second.kill();
    // Nobody saw boot 2, so nobody misses it.
    let boots = vec![Boot { seq: 1, bits: 10 }, Boot { seq: 3, bits: 30 }];
    let (show, asked) = shows_after(3);
    let second = ports.start(Setup { boots, show, ..setup(2) });
    both_connect(&first, &second, (1, 2));
    second.peers.send(MemberId(1), PeerMessage::Heartbeat(beat(5)));
    first.hears_beat(2, 5);
    assert_eq!(asked.load(Ordering::Relaxed), 4, "once it is stored it is not asked again");
}

#[test]
fn a_disk_that_went_back_is_refused_in_both_directions() {
    let ports = Ports::new(2);
    let first = ports.start(setup(1));
    let second = ports.start(Setup { boots: boots(3), ..setup(2) });
    both_connect(&first, &second, (1, 2));
    second.kill();
    first.hears(|heard| *heard == Heard::Lost(MemberId(2)));
    let mut rolled = boots(2);
    rolled.extend([Boot { seq: 3, bits: 77 }, Boot { seq: 4, bits: 78 }]);
    let back = ports.start(Setup { boots: rolled, ..setup(2) });
    back.dial(&[1, 2]);
    back.hears_line("its disk does not know its boot 3");
    first.hears_line("its disk does not know its boot 3");
    assert!(!first.is_connected(2) && !back.is_connected(1));
}

#[test]
fn an_older_boot_that_waits_for_the_disk_is_overtaken_by_a_newer_one() {
    let ports = Ports::new(2);
    let (open, gate) = channel::<()>();
    let (waits, waiting) = channel();
    let (gate, waits) = (Mutex::new(gate), Mutex::new(waits));
    let show: Show = Arc::new(move || {
        waits.lock().unwrap().send(()).unwrap();
        gate.lock().unwrap().recv().map_err(|error| error.to_string())
    });
    let first = ports.start(Setup { show, ..setup(1) });
    let dial = |count| {
        let address = ports.address(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let greeting = greet(&address, None, ("member-2", boots(count)));
            runtime.unwrap().block_on(greeting)
        })
    };
    let older = dial(1);
    waiting.recv_timeout(SOON).expect("its hello came");
    let newer = dial(2);
    first.hears(|heard| *heard == Heard::Restarted(MemberId(2)));
    open.send(()).unwrap();
    let older = older.join().unwrap().expect_err("a newer boot was seen").unwrap();
    assert_eq!(older.code(), Code::FailedPrecondition, "{older:?}");
    assert!(older.message().contains("older than boot 2"), "{older:?}");
    assert!(newer.join().unwrap().expect("it is heard").is_some());
}

#[test]
fn foreign_certificates_and_foreign_names_are_refused() {
    let ports = Ports::new(2);
    let directory = certificates_for("foreign", &[1, 2]);
    let other = certificates_for("foreign-ca", &[1, 2]);
    let files = |directory: &PathBuf, id| certificates::files(directory, &name(id));
    let first = ports.start(Setup { tls: Some(files(&directory, 1)), ..setup(1) });
    let address = ports.address(1);
    let load = |files, name: &str| Tls::load(files, name, "test", Arc::new(|_| {})).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();

    // Plain, and of another CA: no stream at all.
    runtime.block_on(async {
        let strangers = [None, Some(load(files(&other, 2), &name(2)))];
        for tls in strangers {
            let result = hello_to(&address, tls.as_ref(), &name(2)).await;
            assert!(result.is_err(), "{result:?}");
            first.hears_line("a connection from");
        }
        // A good certificate, of another member than the hello names.
        let tls = load(files(&directory, 2), &name(2));
        let status = hello_to(&address, Some(&tls), &name(7)).await.unwrap_err().unwrap();
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        assert!(status.message().contains("member-7.test.quorate"), "{status:?}");
        assert!(hello_to(&address, Some(&tls), &name(2)).await.is_ok());
        // The dialler checks too: member 1 is no member 2.
        let wrong = transport::dial(&address, SOON, (Some(&tls), &*name(2))).await.unwrap_err();
        assert!(wrong.to_string().contains("not valid for name"), "{wrong}");
    });
    std::fs::remove_dir_all(directory).unwrap();
    std::fs::remove_dir_all(other).unwrap();
}

/// Dials as member 2 under a name of choice.
async fn hello_to(
    address: &str,
    tls: Option<&Tls>,
    name: &str,
) -> Result<Option<Frame>, Option<Status>> {
    greet(address, tls, (name, boots(1))).await
}

/// The same with these boots.
async fn greet(
    address: &str,
    tls: Option<&Tls>,
    (name, boots): (&str, Vec<Boot>),
) -> Result<Option<Frame>, Option<Status>> {
    let channel = transport::channel(address, SOON, (tls, "member-1")).await.map_err(|_| None)?;
    let (from, name, boot) = (MemberId(2), name.to_owned(), boots[boots.len() - 1]);
    let greeting =
        Greeting { cluster: Some(CLUSTER), from, to: None, boot, boots, name, address: None };
    let frames = tokio_stream::iter([convert::hello(&greeting)]);
    let mut client = PeerClient::new(channel);
    let mut answer = client.stream(frames).await.map_err(Some)?.into_inner();
    answer.message().await.map_err(Some)
}

#[test]
fn garbage_is_refused_and_harms_nobody() {
    use std::io::{Read as _, Write as _};
    let ports = Ports::new(2);
    let (first, second) = (ports.start(setup(1)), ports.start(setup(2)));
    both_connect(&first, &second, (1, 2));
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xFF; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xFF"]
    {
        let mut stream = std::net::TcpStream::connect(ports.address(1)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // Either side may close first.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let channel =
            transport::channel(&ports.address(1), SOON, (None, "member-1")).await.unwrap();
        let mut client = PeerClient::new(channel);
        let frames = tokio_stream::iter([convert::goodbye()]);
        let status = client.stream(frames).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        // A second hello after the first one.
        let hello = convert::hello(&second.peers.shared.greeting(None));
        let frames = tokio_stream::iter([hello.clone(), hello]);
        let mut answer = client.stream(frames).await.unwrap().into_inner();
        assert!(answer.message().await.unwrap().is_some());
        assert_eq!(answer.message().await.unwrap_err().code(), Code::InvalidArgument);
    });
    first.hears_line("a second hello");
    // That stream took the place of member 2's own; it comes back by itself.
    until("connecting again", || first.is_connected(2));
    second.peers.send(MemberId(1), PeerMessage::Heartbeat(beat(5)));
    first.hears_beat(2, 5);
}

fn shows(ports: &Ports, id: u128) -> Option<SocketAddr> {
    Some(ports.listener(id).local_addr().unwrap())
}

#[test]
fn a_peer_is_dialled_where_it_said_that_it_is() {
    let ports = Ports::new(2);
    // Nothing tells the first where the second is, but the second's own hello.
    let first = ports.start(Setup { addresses: Some(Addresses::default()), ..setup(1) });
    first.dial(&[1, 2]);
    first.hears_line("neither --peer nor --peer-domain gives the address of \"member-2\"");
    let second = ports.start(Setup { shown: shows(&ports, 2), ..setup(2) });
    second.dial(&[1, 2]);
    both_connect(&first, &second, (1, 2));
    first.peers.send(MemberId(2), PeerMessage::Heartbeat(beat(5)));
    second.hears_beat(1, 5);
    // The answer to a dial says it as well.
    second.kill();
    let again = Setup { boots: boots(2), shown: shows(&ports, 2), ..setup(2) };
    let second = ports.start(again);
    until("dialled again", || first.is_connected(2));
    first.peers.send(MemberId(2), PeerMessage::Heartbeat(beat(6)));
    second.hears_beat(1, 6);
}

#[test]
fn a_peer_is_dialled_where_it_was_found() {
    let ports = Ports::new(3);
    let first = ports.start(Setup { addresses: Some(Addresses::default()), ..setup(1) });
    let second = ports.start(Setup { shown: shows(&ports, 2), ..setup(2) });
    // Of somebody who is no member nothing is kept.
    first.peers.found_at(MemberId(2), shows(&ports, 2).unwrap());
    first.dial(&[1, 2]);
    first.hears_line("neither --peer nor --peer-domain gives the address of \"member-2\"");
    // Nobody is there any more; the next word counts, and at once.
    first.peers.found_at(MemberId(2), shows(&ports, 3).unwrap());
    first.hears_line("no stream to member-2");
    first.peers.found_at(MemberId(2), shows(&ports, 2).unwrap());
    until("dialled where it was found", || first.is_connected(2));
    // While it is connected, what it is told cannot be newer.
    first.peers.found_at(MemberId(2), shows(&ports, 3).unwrap());
    second.kill();
    let again = Setup { boots: boots(2), shown: shows(&ports, 2), ..setup(2) };
    let _second = ports.start(again);
    until("dialled where it was", || first.is_connected(2));
}

#[test]
fn a_shown_address_comes_first_and_the_settings_second() {
    let ports = Ports::new(3);
    // Somebody else answers at the address that the second says is its own.
    let domain = Some(("localhost".to_owned(), shows(&ports, 2).unwrap().port()));
    let addresses = Some(Addresses { named: BTreeMap::new(), domain });
    let first = ports.start(Setup { addresses, ..setup(1) });
    let _third = ports.start(setup(3));
    let second = ports.start(Setup { shown: shows(&ports, 3), ..setup(2) });
    second.dial(&[1, 2]);
    until("the second dials", || first.is_heard(2));
    first.dial(&[1, 2]);
    // By its name in the domain, if this machine's resolver knows such names.
    match std::net::ToSocketAddrs::to_socket_addrs("member-2.localhost:1") {
        Ok(_) => until("dialled by its name", || first.is_connected(2)),
        Err(_) => first.hears_line("no stream to member-2 at member-2.localhost"),
    }
}
