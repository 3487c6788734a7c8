//! Traces that once went wrong, each as a script. The world here is one member that leads: what the
//! agent forwards is applied at once, unless the script keeps it back.

use super::*;
use crate::frame::{Ask, Reply};
use quorate_locks::Command;
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
                Effect::Heartbeat(..) => {}
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
