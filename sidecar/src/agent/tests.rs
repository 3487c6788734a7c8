//! Traces that once went wrong, each as a script. The world here is one member that leads: what the
//! agent forwards is applied at once, unless the script keeps it back.

use super::*;
use crate::frame::{Ask, Reply};
use quorate_locks::Command;
use quorate_raft::Why;
use std::collections::VecDeque;

const SECOND: u64 = 1_000 * NANOS_PER_MS;
const TERM: Term = Term(2);
const KEY: Key = Key(7);
const TTL_MS: u32 = 5_000;

struct World {
    agent: Agent,
    machine: Machine,
    index: u64,
    now: Time,
    /// Forwards that wait to be applied.
    forwards: VecDeque<Forward>,
    /// Heartbeats that left, and when.
    beats: Vec<(Time, Heartbeat)>,
    told: Vec<(CallId, Told)>,
    finished: Vec<(CallId, Result<Option<Told>, Failure>)>,
}

impl World {
    fn new() -> World {
        let own = Attachment { member: 1, boot: 9 };
        let mut world = World {
            agent: Agent::new(own, Timing::new(800 * NANOS_PER_MS)),
            machine: Machine::new(),
            index: 0,
            now: Time(SECOND),
            forwards: VecDeque::new(),
            beats: Vec::new(),
            told: Vec::new(),
            finished: Vec::new(),
        };
        world.apply(&Command::Start { epoch: 1, last_n: 0 });
        world.input(Input::Leader(TERM, Some(MemberId(1))));
        world
    }

    fn apply(&mut self, command: &Command) -> LogId {
        self.index += 1;
        let mut events = Vec::new();
        let outcome = self.machine.apply(self.index, command, &mut events);
        let id = LogId { term: TERM, index: Index(self.index) };
        self.agent.handle(self.now, Input::Applied(id, Some(&outcome), &events), &self.machine);
        self.collect();
        id
    }

    fn input(&mut self, input: Input<'_>) {
        self.agent.handle(self.now, input, &self.machine);
        self.collect();
    }

    fn collect(&mut self) {
        for effect in self.agent.effects() {
            match effect {
                Effect::Forward(_, forward) => self.forwards.push_back(forward),
                Effect::Heartbeat(_, beat) => self.beats.push((self.now, beat)),
                Effect::Tell(call, told) => self.told.push((call, told)),
                Effect::Finish(call, end) => self.finished.push((call, end)),
            }
        }
    }

    fn reply(&mut self, ticket: u64, reply: Reply) {
        self.input(Input::Reply(ForwardReply { ticket, reply }));
    }

    /// Appends and applies the first forward that waits; a read is answered.
    fn serve(&mut self) {
        let Forward { ticket, what, .. } = self.forwards.pop_front().expect("a forward waits");
        let Ask::Command(bytes) = what else {
            return self.reply(ticket, Reply::ReadAt(Index(self.index)));
        };
        let command = Command::decode(&bytes).expect("the agent's commands decode");
        let id = LogId { term: TERM, index: Index(self.index + 1) };
        self.reply(ticket, Reply::Appended(id));
        assert_eq!(self.apply(&command), id);
    }

    fn serve_all(&mut self) {
        while !self.forwards.is_empty() {
            self.serve();
        }
    }

    fn call(&mut self, call: u64, connection: u64, request: Request) {
        self.input(Input::Call(CallId(call), ConnectionId(connection), request));
    }

    fn broken(&mut self, connection: u64) {
        let connection = ConnectionId(connection);
        self.input(Input::ConnectionEnded { connection, by_peer: true });
    }

    fn pass(&mut self, nanos: u64) {
        self.now = self.now.after(nanos);
        self.input(Input::Timer);
    }

    /// Acknowledges this heartbeat, as of this index of the leader.
    fn acknowledge(&mut self, beat: &Heartbeat, applied: Index) {
        let Heartbeat { seq, term, sessions, .. } = beat.clone();
        self.input(Input::Ack(HeartbeatAck { seq, term, applied, sessions }));
    }

    /// The deadlines that clients were told of with a renewal.
    fn renewals(&self) -> Vec<Time> {
        let renewal = |(_, told): &(CallId, Told)| match told {
            Told::Renewed(deadline) => Some(*deadline),
            _ => None,
        };
        self.told.iter().filter_map(renewal).collect()
    }

    /// Another session, of another sidecar, holds the name.
    fn held_by_another(&mut self, kind: NameKind) -> (SessionId, Generation, Token) {
        let attachment = Attachment { member: 2, boot: 1 };
        let label = String::new();
        self.apply(&Command::Open { key: Key(8), ttl_ms: TTL_MS, attachment, label });
        let (session, generation) = (SessionId(self.index), Generation(1));
        self.apply(&Command::Claim(quorate_locks::Claim {
            session,
            generation,
            request: RequestId(1),
            lowest_unacked: RequestId(1),
            name: "x".to_owned(),
            kind,
            mode: quorate_locks::Mode::Exclusive,
            permits: 1,
            priority: 0,
            value: Vec::new(),
            queue: true,
        }));
        (session, generation, self.machine.last_token())
    }

    /// How many wait for the name.
    fn waiters(&self) -> usize {
        self.machine.name("x").map_or(0, |name| name.waiters.len())
    }

    fn is_granted(&self, call: u64) -> bool {
        let granted = |told: &Told| matches!(told, Told::Granted(..));
        self.told.iter().any(|(id, told)| *id == CallId(call) && granted(told))
    }

    fn lives(&self) -> bool {
        self.machine.session_by_key(KEY).is_some()
    }
}

fn opening(stops_at_break: bool) -> Opening {
    let bond = Bond { stops_at_break, tethered: false };
    Opening { ttl_ms: TTL_MS, label: String::new(), bond }
}

fn hold(request: u64, stops_at_break: bool) -> Request {
    Request::Claim(ClaimRequest {
        key: KEY,
        opening: Some(opening(stops_at_break)),
        name: "x".to_owned(),
        kind: NameKind::Lock,
        value: Vec::new(),
        request: RequestId(request),
        lowest_unacked: RequestId(1),
        queue: true,
        wait: None,
        stream: true,
    })
}

#[test]
fn client_that_came_back_in_time_keeps_its_session() {
    let mut world = World::new();
    world.call(1, 1, hold(1, true));
    world.serve_all();
    assert!(world.is_granted(1));
    world.input(Input::Gone(CallId(1)));
    world.broken(1);
    world.pass(400 * NANOS_PER_MS);
    world.call(2, 2, hold(1, true));
    world.serve_all();
    assert!(world.is_granted(2));
    world.pass(SECOND);
    world.serve_all();
    assert!(world.lives(), "its first connection's end is no reason any more");
}

#[test]
fn second_break_counts_from_its_own_moment() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(true)));
    world.serve_all();
    world.broken(1);
    world.pass(500 * NANOS_PER_MS);
    world.call(2, 2, Request::Open(KEY, opening(true)));
    world.pass(400 * NANOS_PER_MS);
    world.broken(2);
    world.pass(150 * NANOS_PER_MS);
    world.serve_all();
    assert!(world.lives(), "1.05 s after the first break, 0.15 s after the second");
    world.pass(900 * NANOS_PER_MS);
    world.serve_all();
    assert!(!world.lives());
}

#[test]
fn death_of_one_of_two_keepers_ends_nothing() {
    let mut world = World::new();
    world.call(1, 1, hold(1, false));
    world.serve_all();
    world.call(2, 2, Request::Open(KEY, opening(false)));
    world.broken(2);
    world.input(Input::ProcessDead(ConnectionId(2)));
    world.serve_all();
    assert!(world.lives(), "the holder lives");
    world.broken(1);
    world.input(Input::ProcessDead(ConnectionId(1)));
    world.serve_all();
    assert!(!world.lives(), "both are dead");
}

#[test]
fn cancelled_hold_does_not_end_a_session_that_another_uses() {
    let mut world = World::new();
    world.call(1, 1, hold(1, false));
    world.call(2, 1, hold(2, false));
    world.input(Input::Gone(CallId(2)));
    world.serve_all();
    assert!(world.is_granted(1) && world.lives());
}

#[test]
fn close_of_an_older_attachment_leaves_the_newer_one() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.serve_all();
    world.pass(4_700 * NANOS_PER_MS);
    world.forwards.clear();
    world.call(2, 1, Request::Resume(KEY, Generation(1), Bond::default()));
    // Its deadline passes here while the answer is on its way.
    world.pass(200 * NANOS_PER_MS);
    assert!(world.forwards.len() > 1, "the Close of the first attachment follows");
    world.serve_all();
    assert!(world.told.iter().any(|(call, told)| {
        *call == CallId(2) && matches!(told, Told::Resumed(view, ..) if view.generation.0 == 2)
    }));
    assert_eq!(world.agent.session_count(), 1, "and the second is still renewed");
    assert!(world.lives());
}

#[test]
fn answer_of_another_kind_completes_nothing() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(false)));
    let ticket = world.forwards[0].ticket;
    world.reply(ticket, Reply::ReadAt(Index(1)));
    assert!(world.told.is_empty() && world.finished.is_empty());
    world.serve_all();
    assert!(matches!(world.told[..], [(CallId(1), Told::Opened(_))]));
}

#[test]
fn entry_of_an_older_leader_does_not_park_a_request() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(false)));
    let ticket = world.forwards[0].ticket;
    let old = LogId { term: Term(1), index: Index(100) };
    world.reply(ticket, Reply::Appended(old));
    world.serve_all();
    assert!(matches!(world.told[..], [(CallId(1), Told::Opened(_))]));
}

#[test]
fn tickets_of_two_boots_differ() {
    let (mut first, mut second) = (World::new(), World::new());
    let own = Attachment { member: 1, boot: 0x1234_5678 };
    second.agent = Agent::new(own, Timing::new(800 * NANOS_PER_MS));
    second.input(Input::Leader(TERM, Some(MemberId(1))));
    for world in [&mut first, &mut second] {
        world.call(1, 1, Request::Open(KEY, opening(false)));
    }
    assert_ne!(first.forwards[0].ticket, second.forwards[0].ticket);
}

#[test]
fn alarms_end_with_what_they_are_for() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.serve_all();
    let before = world.agent.alarms.count();
    for request in 1..100 {
        let Request::Claim(claim) = hold(request, false) else { continue };
        let lowest_unacked = RequestId(request);
        let wait = Some(86_400 * SECOND);
        let claim = ClaimRequest { opening: None, stream: false, wait, lowest_unacked, ..claim };
        world.call(100 + request, 1, Request::Claim(claim));
        world.serve_all();
        let Some((_, Ok(Some(Told::Granted(token, _))))) = world.finished.last() else {
            panic!("{:?}", world.finished.last())
        };
        let (key, name, token) = (KEY, "x".to_owned(), *token);
        let request = RequestId(1_000 + request);
        world.call(5_000, 1, Request::Release { key, name, token, request, lowest_unacked });
        world.serve_all();
    }
    assert!(world.agent.alarms.count() <= before + 1, "{} alarms", world.agent.alarms.count());
    world.call(9_000, 1, Request::Close(KEY));
    world.serve_all();
    assert!(world.agent.alarms.count() <= 1, "{} alarms", world.agent.alarms.count());
}

/// The part of a TTL that a holder may count on.
const SAFE_NS: u64 = 4_750 * NANOS_PER_MS;

#[test]
fn acknowledgement_is_worth_the_heartbeat_that_it_answers() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.serve_all();
    world.pass(SECOND);
    world.pass(SECOND);
    let (sent, beat) = world.beats[0].clone();
    assert!(world.beats.len() > 1, "a later one is on its way");
    world.pass(500 * NANOS_PER_MS);
    world.acknowledge(&beat, Index(world.index));
    assert_eq!(world.renewals(), [sent.after(SAFE_NS)]);
}

#[test]
fn acknowledgement_counts_once_the_own_apply_has_reached_the_leaders() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.serve_all();
    world.pass(SECOND);
    let (_, beat) = world.beats[0].clone();
    world.acknowledge(&beat, Index(world.index + 1));
    assert!(world.renewals().is_empty(), "the session's end may be in the next entry");
    let (session, generation) = beat.sessions[0];
    world.apply(&Command::Expire { sessions: vec![(session, generation)] });
    assert!(world.renewals().is_empty());
}

#[test]
fn open_earns_a_deadline_from_its_first_forward() {
    let mut world = World::new();
    let sent = world.now;
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.pass(SECOND);
    world.serve_all();
    let Some((_, Told::Opened(view))) = world.told.first() else { panic!("{:?}", world.told) };
    assert_eq!(view.deadline, sent.after(SAFE_NS));
}

#[test]
fn grant_is_not_announced_after_the_deadline() {
    let mut world = World::new();
    let (session, generation, token) = world.held_by_another(NameKind::Lock);
    world.call(1, 1, hold(1, false));
    world.serve_all();
    // The deadline passes while this sidecar stands still: its timer comes after the entry.
    world.now = world.now.after(SAFE_NS);
    let name = "x".to_owned();
    world.apply(&Command::Release { session, generation, request: None, name, token });
    assert!(!world.is_granted(1));
}

#[test]
fn session_that_moved_is_served_here_no_more() {
    let mut world = World::new();
    world.call(1, 1, hold(1, false));
    world.serve_all();
    let attachment = Attachment { member: 2, boot: 1 };
    world.apply(&Command::Resume { key: KEY, replaces: Generation(1), attachment });
    assert_eq!(world.agent.session_count(), 0);
    assert!(matches!(world.finished[..], [(CallId(1), Ok(Some(Told::Lost(_))))]));
    world.beats.clear();
    world.pass(SECOND);
    assert!(world.beats.is_empty());
}

#[test]
fn only_an_end_by_the_peer_shortens_a_session() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(true)));
    world.serve_all();
    world.input(Input::ConnectionEnded { connection: ConnectionId(1), by_peer: false });
    world.pass(2 * SECOND);
    world.serve_all();
    assert!(world.lives(), "the sidecar cut it, or a network did");
    world.broken(1);
    world.pass(SECOND);
    world.serve_all();
    assert!(!world.lives());
}

#[test]
fn wait_is_over_once_its_cancel_is_applied() {
    let mut world = World::new();
    world.held_by_another(NameKind::Lock);
    world.call(1, 1, Request::Open(KEY, opening(false)));
    let Request::Claim(claim) = hold(1, false) else { panic!("a claim") };
    let claim = ClaimRequest { opening: None, stream: false, wait: Some(SECOND), ..claim };
    world.serve_all();
    world.call(2, 1, Request::Claim(claim));
    world.serve_all();
    world.pass(SECOND);
    assert!(world.finished.is_empty(), "it may be granted yet");
    world.serve_all();
    assert_eq!((world.waiters(), world.finished.len()), (0, 1));
}

#[test]
fn claim_of_a_client_that_went_away_leaves_the_queue() {
    let mut world = World::new();
    world.held_by_another(NameKind::Lock);
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.serve_all();
    world.call(2, 1, hold(1, false));
    world.serve_all();
    assert_eq!(world.waiters(), 1);
    world.input(Input::Gone(CallId(2)));
    world.serve_all();
    assert_eq!(world.waiters(), 0);
    assert!(world.lives(), "its session is kept by another call");
}

#[test]
fn grant_of_an_earlier_attachment_is_not_given_back() {
    let mut world = World::new();
    world.call(1, 1, hold(1, false));
    world.serve_all();
    // The sidecar starts anew; the client has the token.
    let own = Attachment { member: 1, boot: 10 };
    world.agent = Agent::new(own, Timing::new(800 * NANOS_PER_MS));
    world.input(Input::Leader(TERM, Some(MemberId(1))));
    world.call(2, 1, Request::Resume(KEY, Generation(1), Bond::default()));
    world.serve_all();
    world.call(3, 1, hold(1, false));
    world.input(Input::Gone(CallId(3)));
    world.serve_all();
    assert!(world.machine.name("x").is_some_and(|name| name.holder.is_some()));
}

/// Who holds the name.
fn holder(world: &World) -> Option<SessionId> {
    world.machine.name("x").and_then(|name| name.holder).map(|holder| holder.session)
}

#[test]
fn repeated_claim_whose_first_call_is_withdrawn_is_told_of_no_grant() {
    let mut world = World::new();
    let (other, generation, token) = world.held_by_another(NameKind::Lock);
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.call(2, 1, hold(1, false));
    world.serve_all();
    world.input(Input::Gone(CallId(2)));
    // Its Cancel is on its way; the client asks again under the same id.
    world.call(3, 1, hold(1, false));
    let (name, request) = ("x".to_owned(), None);
    world.apply(&Command::Release { session: other, generation, request, name, token });
    world.serve_all();
    let own = world.machine.session_by_key(KEY).map(|(id, _)| id);
    assert!(!world.is_granted(3) || holder(&world) == own, "it believes to hold, and does not");
    assert!(world.finished.iter().any(|(call, _)| *call == CallId(3)), "it is answered");
    assert_eq!(holder(&world), None, "nobody wants it any more");
}

#[test]
fn what_was_told_is_not_given_back_by_a_repetition_that_is_gone() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.call(2, 1, hold(1, false));
    world.serve_all();
    assert!(world.is_granted(2));
    world.input(Input::Gone(CallId(2)));
    world.call(3, 1, hold(1, false));
    world.input(Input::Gone(CallId(3)));
    world.serve_all();
    assert!(holder(&world).is_some(), "its client counts on the first answer");
}

#[test]
fn session_of_a_hold_lasts_while_something_else_of_it_is_held() {
    let mut world = World::new();
    world.call(1, 1, hold(1, false));
    world.serve_all();
    let Request::Claim(claim) = hold(2, false) else { unreachable!("it is a claim") };
    let (name, wait) = ("y".to_owned(), Some(SECOND));
    let other = ClaimRequest { opening: None, stream: false, name, wait, ..claim };
    world.call(2, 1, Request::Claim(other));
    world.serve_all();
    world.input(Input::HalfClose(CallId(1)));
    world.serve_all();
    assert_eq!(holder(&world), None, "that one was released");
    assert!(world.lives(), "the other was told until when it holds");
    assert!(world.machine.name("y").is_some_and(|name| name.holder.is_some()));
}

#[test]
fn half_close_gives_back_what_a_repetition_was_told() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.call(2, 1, hold(1, false));
    world.serve_all();
    world.call(3, 1, hold(1, false));
    world.input(Input::HalfClose(CallId(3)));
    world.serve_all();
    assert_eq!(holder(&world), None, "its client sends no more");
}

#[test]
fn refused_claim_of_which_a_copy_may_follow_is_withdrawn() {
    let mut world = World::new();
    world.held_by_another(NameKind::Election);
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.serve_all();
    world.call(2, 1, hold(1, false));
    world.pass(SECOND);
    assert!(world.forwards.len() > 1, "it was sent again");
    world.serve();
    let cancels = world.forwards.iter().filter(|forward| match &forward.what {
        Ask::Command(bytes) => matches!(Command::decode(bytes), Ok(Command::Cancel { .. })),
        Ask::ReadIndex => false,
    });
    assert_eq!(cancels.count(), 1);
}

#[test]
fn grant_that_was_told_is_not_undone_by_a_refused_copy() {
    for why in [Why::DiskFull, Why::TooLarge] {
        let mut world = World::new();
        world.call(1, 1, Request::Open(KEY, opening(false)));
        world.serve_all();
        world.call(2, 1, hold(1, false));
        let Forward { ticket, what, .. } = world.forwards.pop_front().expect("it left");
        let Ask::Command(bytes) = what else { panic!("a command") };
        // The entry comes before the leader's answer.
        let id = world.apply(&Command::decode(&bytes).expect("it decodes"));
        assert!(world.is_granted(2));
        world.reply(ticket, Reply::Appended(id));
        world.reply(ticket, Reply::NotAppended(why));
        world.serve_all();
        assert!(world.finished.is_empty(), "{:?}", world.finished);
        assert!(world.machine.name("x").is_some_and(|name| name.holder.is_some()));
    }
}

/// The leader has no room for it.
fn refuse(world: &mut World) -> Forward {
    let forward = world.forwards.pop_front().expect("a forward waits");
    world.reply(forward.ticket, Reply::NotAppended(Why::DiskFull));
    forward
}

#[test]
fn what_a_full_leader_refuses_of_the_sidecars_own_is_asked_again() {
    let mut world = World::new();
    let (session, generation, token) = world.held_by_another(NameKind::Lock);
    world.call(1, 1, Request::Open(KEY, opening(false)));
    world.serve_all();
    world.call(2, 1, hold(1, false));
    world.serve_all();
    assert_eq!(world.waiters(), 1);
    // The claimant goes: its cancel, and then its session's end.
    world.input(Input::Gone(CallId(2)));
    refuse(&mut world);
    world.pass(SECOND);
    let name = "x".to_owned();
    world.apply(&Command::Release { session, generation, request: None, name, token });
    assert!(world.machine.name("x").is_some_and(|name| name.holder.is_some()), "granted late");
    world.serve();
    // It was granted meanwhile: so it is given back.
    refuse(&mut world);
    world.pass(SECOND);
    world.serve_all();
    let held = world.machine.name("x").is_some_and(|name| name.holder.is_some());
    assert!(!held, "a name is held by nobody");
    world.call(3, 1, Request::Close(KEY));
    refuse(&mut world);
    world.pass(SECOND);
    world.serve_all();
    assert!(!world.lives(), "the session's end was forgotten");
    let failed = world.finished.iter().find(|(id, _)| *id == CallId(3));
    let Some((_, Err(failure))) = failed else { panic!("{:?}", world.finished) };
    assert_eq!(failure.reason, Reason::DiskFull);
}

#[test]
fn command_whose_entry_was_replaced_is_sent_again() {
    let mut world = World::new();
    world.call(1, 1, Request::Open(KEY, opening(false)));
    let forward = world.forwards.pop_front().expect("it left");
    let place = LogId { term: TERM, index: Index(world.index + 1) };
    world.reply(forward.ticket, Reply::Appended(place));
    // Another leader's first entry stands there.
    world.index += 1;
    world.input(Input::Applied(LogId { term: Term(3), index: place.index }, None, &[]));
    world.serve_all();
    assert!(matches!(world.told[..], [(CallId(1), Told::Opened(_))]));
}

#[test]
fn read_waits_for_the_own_apply() {
    let mut world = World::new();
    world.call(1, 1, Request::Read(Query::Name("x".to_owned())));
    let forward = world.forwards.pop_front().expect("it left");
    // The name was granted by an entry that is not applied here.
    world.reply(forward.ticket, Reply::ReadAt(Index(world.index + 2)));
    assert!(world.finished.is_empty());
    world.held_by_another(NameKind::Lock);
    let [(_, Ok(Some(Told::Names(names))))] = &world.finished[..] else { panic!("no answer") };
    assert_eq!(names.len(), 1);
}
