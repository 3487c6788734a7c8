//! Frames from peers: what decodes is what it says, and three nodes that hear them live on.

use crate::fields::mutate_message;
use crate::model::Random;
use crate::mutate::{Corpus, mutate, place, run};
use prost::Message as _;
use quorate_locks::{Generation, SessionId};
use quorate_proto::peer as wire;
use quorate_raft::{
    Answer, Body, Config, Configuration, Entry, Envelope, Index, Input, IoSeq, Kind, LogId,
    MemberId, Message, Node, Output, Restored, RoleName, Round, Snapshot, Term, Ticket, Time, Why,
};
use quorate_sidecar::frame::{
    Ask, Forward, ForwardReply, Heartbeat, HeartbeatAck, PeerMessage, Reply,
};
use quorate_sidecar::peer::Boot;
use quorate_sidecar::peer::convert::{Greeting, Received, from_frame, goodbye, hello, to_frame};

fn greeting() -> wire::Frame {
    let boots: Vec<Boot> = (1..=3).map(|seq| Boot { seq, bits: seq * 0x1111 }).collect();
    hello(&Greeting {
        cluster: Some(0x1234),
        from: MemberId(1),
        to: Some(MemberId(2)),
        boot: boots[2],
        boots,
        name: "member-0".to_owned(),
        address: Some("10.0.0.7:7401".parse().expect("an address")),
    })
}

fn configuration() -> Configuration {
    let voters = (1..=3).map(|id| (MemberId(id), format!("member-{id}")));
    Configuration { index: Index(1), ..Configuration::of_voters(voters) }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let (last, round) = (LogId::new(2, 7), Round(3));
    let prev = LogId::new(1, 4);
    let entries = vec![
        Entry::new(LogId::new(2, 5), Kind::Noop, &[]),
        Entry::new(LogId::new(2, 6), Kind::Command, b"a command"),
        Entry::new(LogId::new(2, 7), Kind::Configuration, &configuration().encode()),
    ];
    let chunk = (*b"part of a state").into();
    let (offset, total) = (4, 40);
    let configuration = configuration();
    vec![
        ("pre-vote", Body::PreVote { last }),
        ("pre-vote-reply", Body::PreVoteReply { granted: true, asked: Term(2) }),
        ("vote", Body::Vote { last, transfer: true }),
        ("vote-reply", Body::VoteReply { granted: true }),
        ("append", Body::Append { prev, entries, commit: prev, round }),
        ("append-empty", Body::Append { prev, entries: Vec::new(), commit: prev, round }),
        ("append-reply", Body::AppendReply { round, answer: Answer::Durable(Index(7)) }),
        ("mismatch", Body::AppendReply { round, answer: Answer::Mismatch { prev, hint: prev } }),
        ("snapshot", Body::Snapshot { last, configuration, offset, total, chunk, round }),
        ("snapshot-reply", Body::SnapshotReply { last, received: 40, round }),
        ("timeout-now", Body::TimeoutNow { last }),
        ("commit", Body::Commit { commit: prev }),
    ]
}

fn others() -> Vec<(&'static str, PeerMessage)> {
    let (ticket, term) = (5, Term(2));
    let sessions = vec![(SessionId(3), Generation(1)), (SessionId(9), Generation(4))];
    let what = Ask::Command((*b"a command").into());
    let not = Reply::NotAppended(Why::Busy);
    let sidecar = Some(9);
    let beat = Heartbeat { seq: 8, term, boot: 77, sessions: sessions.clone(), sidecar };
    vec![
        ("forward", PeerMessage::Forward(Forward { ticket, term, what })),
        ("forward-read", PeerMessage::Forward(Forward { ticket, term, what: Ask::ReadIndex })),
        ("forward-reply", PeerMessage::ForwardReply(ForwardReply { ticket, reply: not })),
        ("heartbeat", PeerMessage::Heartbeat(beat)),
        (
            "heartbeat-ack",
            PeerMessage::HeartbeatAck(HeartbeatAck { seq: 8, term, applied: Index(6), sessions }),
        ),
    ]
}

fn corpus() -> Corpus {
    Corpus::load("frame", || {
        let raft = |body| PeerMessage::Raft(Message { term: Term(2), body });
        let mut frames: Vec<(&str, wire::Frame)> =
            bodies().into_iter().map(|(name, body)| (name, to_frame(&raft(body)))).collect();
        frames.extend(others().iter().map(|(name, message)| (*name, to_frame(message))));
        frames.extend([("hello", greeting()), ("goodbye", goodbye())]);
        let file = |(name, frame): (&str, wire::Frame)| (name.to_owned(), frame.encode_to_vec());
        frames.into_iter().map(file).collect()
    })
}

fn decode(bytes: &[u8]) -> Option<Received> {
    from_frame(wire::Frame::decode(bytes).ok()?).ok()
}

fn encode(received: &Received) -> Vec<u8> {
    match received {
        Received::Hello(greeting) => hello(greeting),
        Received::Message(message) => to_frame(message),
        Received::Goodbye => goodbye(),
    }
    .encode_to_vec()
}

fn damage(random: &mut Random, frame: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=random.below(2) {
        mutate_message(random, frame, other);
    }
    if random.below(4) == 0 {
        mutate(random, frame, other);
    }
}

fn mutated(corpus: &Corpus, random: &mut Random) -> Vec<u8> {
    let mut input = corpus.any(random).to_vec();
    let other = corpus.any(random).to_vec();
    damage(random, &mut input, &other);
    input
}

#[test]
fn a_frame_decodes_to_what_it_says_or_not_at_all() {
    let corpus = corpus();
    for (name, bytes) in &corpus.files {
        let received = decode(bytes);
        assert!(received.is_some_and(|received| encode(&received) == *bytes), "{name}");
    }
    run(
        "a frame",
        |random| mutated(&corpus, random),
        |input| {
            let Some(received) = decode(input) else { return false };
            let again = encode(&received);
            assert!(again.len() <= 2 * input.len() + 64, "it grew to {}", again.len());
            assert_eq!(decode(&again), Some(received));
            true
        },
    );
}

/// A member: its node, and what the node waits for.
struct Peer {
    node: Node,
    issued: IoSeq,
    durable: IoSeq,
    held: Vec<Envelope>,
}

/// Three of them, and the frames between them.
struct Group {
    random: Random,
    now: Time,
    peers: Vec<Peer>,
    wire: Vec<(MemberId, usize, Vec<u8>)>,
    heard: u64,
}

impl Group {
    fn new(seed: u64) -> Group {
        let mut random = Random(seed);
        let peer = |id: u128| {
            let mut config = Config::new(MemberId(id), seed);
            config.check = true;
            config.window_entries = random.below(5);
            config.frame_bytes = random.below(300);
            config.tail_bytes = random.below(200);
            config.command_bytes = 300;
            config.uncommitted_bytes = 3000;
            config.snapshot_chunk_bytes = random.below(20);
            let node = Node::new(config, Time(0), restored(&mut random));
            Peer { node, issued: IoSeq(0), durable: IoSeq(0), held: Vec::new() }
        };
        let peers = (1..=3).map(peer).collect();
        Group { random, now: Time(0), peers, wire: Vec::new(), heard: 0 }
    }

    fn step(&mut self, at: usize, input: Input) {
        let mut out = Output::default();
        let peer = &mut self.peers[at];
        peer.node.step(self.now, input, &mut out);
        if self.random.below(4) > 0 {
            peer.node.flush(self.now, &mut out);
        }
        if let Some(range) = out.apply.take() {
            peer.node.step(self.now, Input::Applied(*range.end()), &mut out);
        }
        peer.issued = out.writes.last().map_or(peer.issued, |(seq, _)| *seq);
        peer.held.extend(out.sends);
        let from = peer.node.id();
        for Envelope { to, message, .. } in
            peer.held.extract_if(.., |envelope| envelope.after <= peer.durable)
        {
            let to = usize::try_from(to.0.saturating_sub(1)).unwrap_or(usize::MAX);
            if to < 3 && self.wire.len() < 64 {
                let frame = to_frame(&PeerMessage::Raft(message));
                self.wire.push((from, to, frame.encode_to_vec()));
            }
        }
    }

    fn hear(&mut self, from: MemberId, to: usize, frame: &[u8]) {
        if let Some(Received::Message(PeerMessage::Raft(message))) = decode(frame) {
            self.heard += 1;
            self.step(to, Input::Recv(from, message));
        }
    }

    /// The next frame, mostly as it was sent.
    fn deliver(&mut self, corpus: &Corpus) {
        if self.wire.is_empty() {
            return;
        }
        let next = place(&mut self.random, self.wire.len().min(4));
        let (from, to, mut frame) = self.wire.remove(next);
        if self.random.below(12) == 0 {
            damage(&mut self.random, &mut frame, corpus.any(&mut Random(self.heard)));
        }
        self.hear(from, to, &frame);
        if self.random.below(16) == 0 {
            self.wire.push((from, to, frame));
        }
    }

    fn any(&mut self, corpus: &Corpus) {
        let at = place(&mut self.random, 3);
        self.now = self.now.after(self.random.below(1 << 21));
        let node = &self.peers[at].node;
        let ticket = Ticket(self.random.below(100));
        match self.random.below(40) {
            0 => {
                let from = MemberId((1 + self.random.below(4)).into());
                let frame = mutated(corpus, &mut self.random);
                self.hear(from, at, &frame);
            }
            1 => {
                self.now = self.now.max(node.deadline().min(self.now.after(1 << 31)));
                self.step(at, Input::Timer);
            }
            2..=4 => {
                let length = place(&mut self.random, 320);
                self.step(at, Input::Propose(ticket, vec![7; length].into()));
            }
            5 => self.step(at, Input::Read(ticket)),
            6 => {
                let peer = MemberId((1 + self.random.below(3)).into());
                let lost = self.random.below(2) == 0;
                let input = if lost { Input::PeerLost(peer) } else { Input::PeerRestarted(peer) };
                self.step(at, input);
            }
            7 => self.step(at, Input::Transfer(ticket, None)),
            8 => {
                let last = node.entry(node.applied()).map(Entry::id);
                let configuration = node.configuration().clone();
                let data = vec![5; 60].into();
                if let Some(last) = last {
                    let snapshot = Snapshot { last, configuration, data };
                    self.step(at, Input::SnapshotBuilt(snapshot));
                }
            }
            9..=16 => {
                let peer = &mut self.peers[at];
                peer.durable = peer.issued;
                let durable = peer.durable;
                self.step(at, Input::Durable(durable));
            }
            _ => self.deliver(corpus),
        }
    }
}

/// Mostly a member of the group; now and then a blank one, or one that came from a snapshot.
fn restored(random: &mut Random) -> Restored {
    let first = Entry::new(LogId::new(1, 1), Kind::Configuration, &configuration().encode());
    let begun = Restored { term: Term(1), entries: vec![first], ..Restored::default() };
    match random.below(8) {
        0 => Restored::default(),
        1 => {
            let data = vec![9; 50].into();
            let snapshot =
                Snapshot { last: LogId::new(1, 4), configuration: configuration(), data };
            Restored { term: Term(1), snapshot: Some(snapshot), ..Restored::default() }
        }
        _ => begun,
    }
}

#[test]
fn no_frame_makes_a_node_panic() {
    let corpus = corpus();
    let (mut heard, mut leaders) = (0, 0);
    run(
        "nodes that hear mutated frames",
        |random| random.bits().to_le_bytes().to_vec(),
        |seed| {
            let seed = seed.try_into().expect("eight bytes");
            let mut group = Group::new(u64::from_le_bytes(seed));
            for _ in 0..400 {
                group.any(&corpus);
            }
            heard += group.heard;
            let leads = |peer: &Peer| peer.node.role() == RoleName::Leader;
            let led = group.peers.iter().any(leads);
            leaders += u64::from(led);
            led
        },
    );
    eprintln!("{heard:9} frames heard, {leaders:9} groups with a leader at their end");
    assert!(heard > 1000 && leaders > 10, "{heard} heard, {leaders} led");
}
