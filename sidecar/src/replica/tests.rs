//! Traces that break a looser leader, each as a script. The world here is one replica on a
//! simulated disk, and the other voter, which answers what the script lets it answer.

use super::*;
use crate::frame::{Heartbeat, HeartbeatAck};
use crate::wal::{SimDisk, Source as _};
use quorate_locks::{Attachment, Key, RequestId};
use quorate_raft::{Answer, Body, Config, Restored, Round};

const MS: u64 = 1_000_000;
const OWN: MemberId = MemberId(1);
const OTHER: MemberId = MemberId(2);
const THIRD: MemberId = MemberId(3);
const BOOT: u64 = 9;
const KEY: Key = Key(7);

/// What the other voter answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    All,
    Votes,
    /// Rounds, and entries up to here: its disk is slow.
    UpTo(Index),
    /// Rounds, and no entry after this one: its disk has no room.
    Without(LogId),
    Nothing,
}

struct World {
    replica: Replica<SimDisk>,
    now: Time,
    answers: Answers,
    acks: Vec<HeartbeatAck>,
    replies: Vec<ForwardReply>,
    sent: Vec<Message>,
}

impl World {
    fn blank() -> World {
        World::on(SimDisk::new(1))
    }

    fn on(disk: SimDisk) -> World {
        let (wal, _) = Wal::open(disk, OWN).unwrap();
        let node = Node::new(Config::new(OWN, 1), Time(MS), Restored::default());
        let (now, answers) = (Time(MS), Answers::All);
        let replica = Replica::new(node, wal).unwrap();
        let (acks, replies, sent) = (Vec::new(), Vec::new(), Vec::new());
        World { replica, now, answers, acks, replies, sent }
    }

    /// It leads, and a session of this TTL is open.
    fn leading(ttl_ms: u32) -> World {
        World::leading_on(SimDisk::new(1), ttl_ms)
    }

    fn leading_on(disk: SimDisk, ttl_ms: u32) -> World {
        let mut world = World::on(disk);
        let voters = [OWN, OTHER].map(|id| (id, format!("m{}", id.0)));
        let start = Command::Start { epoch: 1, last_n: 0 };
        world.handle(Event::Bootstrap(Configuration::of_voters(voters), start));
        world.run(200);
        let attachment = Attachment { member: OWN.0, boot: BOOT };
        let open = Command::Open { key: KEY, ttl_ms, attachment, label: String::new() };
        let (term, what) = (world.term(), Ask::Command(open.encode().into()));
        world.handle(Event::Forward(Forward { ticket: 1, term, what }));
        world.run(20);
        assert!(world.session().is_some());
        world
    }

    /// Leadership is lost and won again; of the new term nothing is committed.
    fn depose_and_elect(&mut self) {
        self.answers = Answers::Nothing;
        self.run(1_000);
        assert_ne!(self.replica.node().role(), RoleName::Leader);
        self.answers = Answers::Votes;
        while self.replica.node().role() != RoleName::Leader {
            self.run(1);
        }
    }

    fn term(&self) -> Term {
        self.replica.node().term()
    }

    fn session(&self) -> Option<(SessionId, Generation)> {
        self.replica.machine().session_by_key(KEY).map(|(id, session)| (id, session.generation()))
    }

    fn beat(&mut self, seq: u64) {
        let (term, sessions) = (self.term(), self.session().into_iter().collect());
        let sidecar = None;
        self.handle(Event::Heartbeat(Heartbeat { seq, term, boot: BOOT, sessions, sidecar }));
    }

    fn handle(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.replica.handle(self.now, event, &mut effects);
        self.replica.flush(self.now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Ack(ack) => self.acks.push(ack),
                Effect::Reply(reply) => self.replies.push(reply),
                Effect::Send(_, PeerMessage::Raft(message)) => self.arrive(message),
                _ => {}
            }
        }
    }

    /// A message to the other voter.
    fn arrive(&mut self, message: Message) {
        self.sent.push(message.clone());
        let votes = matches!(self.answers, Answers::All | Answers::Votes);
        let appends = matches!(self.answers, Answers::All | Answers::UpTo(_));
        let reply = match message.body {
            Body::PreVote { .. } if votes => {
                Body::PreVoteReply { granted: true, asked: message.term }
            }
            Body::Vote { .. } if votes => Body::VoteReply { granted: true },
            Body::Append { prev, round, .. } if matches!(self.answers, Answers::Without(_)) => {
                let Answers::Without(last) = self.answers else { return };
                let answer = match prev.index > last.index {
                    true => Answer::Mismatch { prev, hint: last },
                    false => Answer::Durable(prev.index),
                };
                Body::AppendReply { round, answer }
            }
            Body::Append { prev, entries, round, .. } if appends => {
                let end = entries.last().map_or(prev, quorate_raft::Entry::id).index;
                let end = if let Answers::UpTo(most) = self.answers { end.min(most) } else { end };
                Body::AppendReply { round, answer: Answer::Durable(end) }
            }
            _ => return,
        };
        let term = match reply {
            Body::PreVoteReply { .. } => Term(message.term.0 - 1),
            _ => message.term,
        };
        self.handle(Event::Peer(OTHER, PeerMessage::Raft(Message { term, body: reply })));
    }

    /// The other voter leads term 1, and sends what follows `prev`.
    fn append(&mut self, prev: LogId, entries: Vec<Entry>) {
        let body = Body::Append { prev, entries, commit: prev, round: Round(0) };
        self.handle(Event::Peer(OTHER, PeerMessage::Raft(Message { term: Term(1), body })));
    }

    /// What the leader, which this member is, says to a command; it has a moment to commit it.
    fn ask(&mut self, command: &Command) -> Reply {
        let (ticket, term) = (self.now.0, self.term());
        let what = Ask::Command(command.encode().into());
        self.handle(Event::Forward(Forward { ticket, term, what }));
        self.run(1);
        let reply = self.replies.pop().expect("a leader answers at once");
        assert_eq!(reply.ticket, ticket);
        reply.reply
    }

    /// Asks for it until there is no room for it.
    fn ask_until_full(&mut self, mut command: impl FnMut(u32) -> Command) -> u32 {
        for number in 0..10_000 {
            match self.ask(&command(number)) {
                Reply::Appended(_) => {}
                Reply::NotAppended(Why::DiskFull) => return number,
                other => panic!("{other:?}"),
            }
        }
        panic!("there is room for ever");
    }

    /// A part of a snapshot from the other voter, which leads term 1.
    fn part(&mut self, snapshot: &Snapshot) {
        let body = Body::Snapshot {
            last: snapshot.last,
            configuration: snapshot.configuration.clone(),
            offset: 0,
            total: u64::try_from(snapshot.data.len()).unwrap(),
            chunk: Arc::clone(&snapshot.data),
            round: Round(0),
        };
        self.handle(Event::Peer(OTHER, PeerMessage::Raft(Message { term: Term(1), body })));
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now = self.now.after(MS);
            self.replica.disk_mut().set_now(self.now);
            while let Some(seq) = self.replica.disk_mut().completed(self.now) {
                self.handle(Event::Durable(seq));
            }
            if let Some(full) = self.replica.disk_mut().space_changed() {
                self.handle(Event::Space { full });
            }
            if self.replica.deadline() <= self.now {
                self.handle(Event::Timer);
            }
        }
    }
}

#[test]
fn heartbeat_is_acknowledged_after_a_round_that_began_after_it() {
    let mut world = World::leading(5_000);
    world.answers = Answers::Nothing;
    world.beat(1);
    world.run(100);
    assert!(world.acks.is_empty(), "who knows whether it still leads");
    world.answers = Answers::All;
    world.run(200);
    assert_eq!(world.acks.len(), 1);
    assert_eq!(world.acks[0].sessions, Vec::from_iter(world.session()));
}

#[test]
fn heartbeat_is_not_acknowledged_before_the_own_first_entry_is_applied() {
    let mut world = World::leading(5_000);
    world.depose_and_elect();
    world.beat(1);
    world.run(50);
    assert!(world.acks.is_empty(), "the leader before may have ended the session in this log");
    world.answers = Answers::All;
    world.run(400);
    world.beat(2);
    world.run(50);
    assert_eq!(world.acks.iter().map(|ack| ack.seq).collect::<Vec<_>>(), [2]);
}

#[test]
fn session_whose_end_is_proposed_is_not_acknowledged() {
    let mut world = World::leading(1_000);
    world.answers = Answers::UpTo(world.replica.node().last().index);
    let before = world.replica.node().last();
    world.run(1_100);
    assert!(world.replica.node().last() > before, "its end is in the log, and not committed");
    world.beat(1);
    world.run(200);
    assert_eq!(world.acks.len(), 1, "the leader still leads");
    assert!(world.acks[0].sessions.is_empty());
}

#[test]
fn new_leader_gives_every_session_its_whole_ttl() {
    let mut world = World::leading(1_000);
    world.depose_and_elect();
    world.answers = Answers::All;
    world.run(800);
    assert!(world.session().is_some(), "it is not older than its leader");
    world.run(600);
    assert!(world.session().is_none());
}

#[test]
fn vote_leaves_once_it_is_durable() {
    let mut world = World::blank();
    world.replica.disk_mut().set_latency(50 * MS);
    let body = Body::Vote { last: LogId::ZERO, transfer: false };
    world.handle(Event::Peer(OTHER, PeerMessage::Raft(Message { term: Term(3), body })));
    world.run(40);
    assert!(world.sent.is_empty());
    world.run(100);
    assert!(matches!(world.sent[..], [Message { body: Body::VoteReply { granted: true }, .. }]));
}

const SEGMENT: u64 = 64 * 1024;

/// Room for a segment and the next.
fn small_disk() -> SimDisk {
    let mut disk = SimDisk::new(1);
    disk.set_segment_bytes(SEGMENT);
    disk.set_capacity(2 * SEGMENT);
    disk
}

fn three() -> Configuration {
    Configuration::of_voters([OWN, OTHER, THIRD].map(|id| (id, format!("m{}", id.0))))
}

fn open(number: u64) -> Command {
    let attachment = Attachment { member: OTHER.0, boot: BOOT };
    let label = "x".repeat(100);
    Command::Open { key: Key(number.into()), ttl_ms: 600_000, attachment, label }
}

fn entry(index: u64, command: &Command) -> Entry {
    Entry::new(LogId::new(1, index), Kind::Command, &command.encode())
}

/// A follower of three, with this many sessions.
fn following(disk: SimDisk, sessions: u64) -> World {
    let mut world = World::on(disk);
    let mut payload = three().encode();
    payload.extend(Command::Start { epoch: 1, last_n: 0 }.encode());
    let first = Entry::new(LogId::new(1, 1), Kind::Configuration, &payload);
    world.append(LogId::ZERO, vec![first]);
    for number in 2..2 + sessions {
        let last = world.replica.node().last();
        world.append(last, vec![entry(number, &open(number))]);
        world.run(1);
    }
    world
}

/// A state of this many sessions, as of this entry.
fn snapshot_of(sessions: u64, index: u64) -> Snapshot {
    let mut machine = Machine::new();
    machine.apply(1, &Command::Start { epoch: 1, last_n: 0 }, &mut Vec::new());
    for number in 2..2 + sessions {
        machine.apply(number, &open(number), &mut Vec::new());
    }
    let configuration = Configuration { index: Index(1), ..three() };
    Snapshot { last: LogId::new(1, index), configuration, data: machine.encode().into() }
}

fn ends(number: u64) -> Command {
    Command::Expire { sessions: vec![(SessionId(number), Generation(1))] }
}

#[test]
fn leader_without_room_takes_what_ends_something_for_longer_than_anything_else() {
    let mut world = World::leading_on(small_disk(), 600_000);
    let (session, generation) = world.session().unwrap();
    let (request, token) = (RequestId(1), Token(1));
    let attachment = Attachment { member: OWN.0, boot: BOOT };
    let resume = Command::Resume { key: KEY, replaces: generation, attachment };
    let release =
        Command::Release { session, generation, request: None, name: "x".to_owned(), token };
    let cancel = Command::Cancel { session, generation, request };
    let close = Command::Close { session: SessionId(2_000), generation };
    // One session alone, so that its end is small: the log here is as well.
    world.ask_until_full(|_| open(1));
    assert!(world.replica.is_full());
    world.ask_until_full(|_| resume.clone());
    for end in [&release, &cancel, &close] {
        assert!(matches!(world.ask(end), Reply::Appended(_)), "{end:?}");
    }
    assert!(world.ask_until_full(|_| release.clone()) > 10);
    // What the leader does of itself still fits, as often as it takes.
    let before = world.replica.node().last();
    world.depose_and_elect();
    world.answers = Answers::All;
    world.run(600_400);
    assert!(world.session().is_none(), "no expiry after {before}");
}

#[test]
fn follower_without_room_takes_what_ends_something_and_what_comes_before_it() {
    let mut world = following(small_disk(), 2_000);
    assert!(world.replica.is_full());
    let last = world.replica.node().last();
    let (one, two, three) = (last.index.0 + 1, last.index.0 + 2, last.index.0 + 3);
    let noop = Entry::new(LogId::new(1, two), Kind::Noop, &[]);
    world.append(last, vec![entry(one, &ends(2)), noop, entry(three, &open(three))]);
    world.run(10);
    assert_eq!(world.replica.node().durable(), Index(two), "all before what does not fit");
    // In the end what is left is for votes.
    for _ in 0..1_000 {
        let last = world.replica.node().last();
        world.append(last, vec![entry(last.index.0 + 1, &ends(2))]);
        world.run(1);
    }
    let left = world.replica.node().last().index.0;
    assert!(left > two + 10 && left < two + 900, "{left} of {two}");
}

#[test]
fn member_that_takes_no_more_entries_is_not_sent_them_again_and_again() {
    let mut world = World::leading(600_000);
    world.answers = Answers::Without(world.replica.node().last());
    for number in 0..300 {
        world.ask(&open(number));
    }
    world.sent.clear();
    world.run(2_000);
    assert_eq!(world.replica.node().role(), RoleName::Leader);
    let entries = |message: &Message| match &message.body {
        Body::Append { entries, .. } => entries.len(),
        _ => 0,
    };
    let sent: usize = world.sent.iter().map(entries).sum();
    assert!(sent < 600, "{sent} entries in 2 s to one that takes none");
    world.answers = Answers::All;
    world.run(200);
    assert_eq!(world.replica.node().commit().index, world.replica.node().last().index);
}

#[test]
fn answers_that_wait_for_a_stuck_write_are_bounded() {
    let mut world = World::on(small_disk());
    world.run(100);
    let snapshot = snapshot_of(300, 5_000);
    for _ in 0..5_000 {
        world.part(&snapshot);
        world.run(1);
    }
    assert!(world.replica.is_full(), "it waits for room");
    let held = world.replica.held.len();
    assert!((1..=HELD_MAX).contains(&held), "{held} are held");
    world.replica.disk_mut().set_capacity(0);
    world.run(2_000);
    let whole = |m: &Message| {
        let Body::SnapshotReply { last, received, .. } = &m.body else { return false };
        *last == snapshot.last && *received > 0
    };
    assert!(world.sent.iter().any(whole), "it is answered in the end");
    assert!(world.replica.held.is_empty());
}

#[test]
fn install_that_waits_for_room_gets_that_of_the_spare_segment() {
    let mut disk = SimDisk::new(1);
    disk.set_segment_bytes(SEGMENT);
    let mut world = following(disk, 500);
    world.part(&snapshot_of(1, 5_000));
    world.run(100);
    world.append(LogId::new(1, 5_000), vec![entry(5_001, &ends(2))]);
    world.run(100);
    let names = world.replica.disk_mut().list().unwrap();
    assert!(names.iter().any(|name| name.starts_with("spare-")), "{names:?}");
    let used = world.replica.disk_mut().used();
    world.replica.disk_mut().set_capacity(used + 1024);
    world.part(&snapshot_of(200, 6_000));
    world.run(3_000);
    assert!(!world.replica.is_full(), "the spare segment held what the snapshot needs");
    let installed = world.replica.node().snapshot().map(|snapshot| snapshot.last.index);
    assert_eq!(installed, Some(Index(6_000)));
    assert!(world.replica.node().durable() >= Index(6_000));
}

#[test]
fn follower_without_room_takes_no_more_entries_and_still_votes() {
    // More than fits into what there is: the leader, which has room, goes on and on.
    let mut world = following(small_disk(), 2_000);
    let last = world.replica.node().last();
    assert!(world.replica.is_full(), "the log did not run out of room");
    assert!(last > LogId::new(1, 100), "it took what fits");
    let vote = Body::Vote { last: LogId::new(1, 9_999), transfer: true };
    world.handle(Event::Peer(THIRD, PeerMessage::Raft(Message { term: Term(2), body: vote })));
    world.run(100);
    let voted = |m: &Message| m.term == Term(2) && m.body == Body::VoteReply { granted: true };
    assert!(world.sent.iter().any(voted), "no vote on a full disk");
    // Room again: what was left out comes.
    world.replica.disk_mut().set_capacity(0);
    world.run(3_000);
    assert!(!world.replica.is_full());
}
