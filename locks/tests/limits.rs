//! The large limits, at their full size, and the time that large things take.

use quorate_locks::limits::{CLAIMS_MAX, NAMES_MAX, QUEUE_MAX, SESSIONS_MAX};
use quorate_locks::{
    Attachment, Claim, Command, Event, Generation, Key, Machine, Mode, NameKind, Outcome, Refusal,
    RequestId, SessionId,
};

struct Log {
    machine: Machine,
    index: u64,
    events: Vec<Event>,
}

impl Log {
    fn start() -> Log {
        let mut log = Log { machine: Machine::new(), index: 0, events: Vec::new() };
        assert_eq!(log.apply(&Command::Start { epoch: 1, last_n: 0 }), Outcome::Started);
        log
    }

    fn apply(&mut self, command: &Command) -> Outcome {
        self.index += 1;
        self.events.clear();
        self.machine.apply(self.index, command, &mut self.events)
    }

    fn open(&mut self, key: u64) -> Outcome {
        let attachment = Attachment { member: 1, boot: 1 };
        let (key, ttl_ms) = (Key(u128::from(key)), 5_000);
        self.apply(&Command::Open { key, ttl_ms, attachment, label: String::new() })
    }

    fn opened(&mut self, key: u64) -> SessionId {
        match self.open(key) {
            Outcome::Opened { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self, session: SessionId, request: u64, name: &str) -> Outcome {
        self.apply(&Command::Claim(Claim {
            session,
            generation: Generation(1),
            request: RequestId(request),
            lowest_unacked: RequestId(request),
            name: name.to_owned(),
            kind: NameKind::Lock,
            mode: Mode::Exclusive,
            permits: 1,
            priority: 0,
            value: Vec::new(),
            queue: true,
        }))
    }
}

#[test]
fn waiter_10_001_is_refused() {
    let mut log = Log::start();
    let holder = log.opened(0);
    assert!(matches!(log.claim(holder, 1, "x"), Outcome::Granted { .. }));
    let mut waiters = Vec::new();
    for position in 0..QUEUE_MAX {
        let session = log.opened(1 + position as u64);
        let position = u32::try_from(position).unwrap();
        assert_eq!(log.claim(session, 1, "x"), Outcome::Queued { position });
        waiters.push(session);
    }
    let late = log.opened(1_000_000);
    assert_eq!(log.claim(late, 1, "x"), Outcome::Refused(Refusal::QueueFull));
    assert_eq!(log.claim(waiters[9_999], 1, "x"), Outcome::Queued { position: 9_999 });
    log.machine.check();

    let generation = Generation(1);
    assert_eq!(
        log.apply(&Command::Close { session: holder, generation }),
        Outcome::Closed { released: 1 }
    );
    assert_eq!(log.claim(late, 1, "x"), Outcome::Queued { position: 9_999 });
    let all = waiters.iter().map(|id| (*id, generation)).collect();
    assert_eq!(log.apply(&Command::Expire { sessions: all }), Outcome::Expired { ended: 10_000 });
    // 9,999 left the queue, one lost the name, the late one has it, 10,000 ended.
    assert_eq!(log.events.len(), 9_999 + 1 + 1 + 10_000);
    let name = log.machine.name("x").unwrap();
    assert_eq!(name.holder.unwrap().session, late);
    assert_eq!(name.waiters.len(), 0);
    log.machine.check();
}

#[test]
fn session_100_001_is_refused_and_many_names_of_one_session_are_freed_at_once() {
    let mut log = Log::start();
    let first = log.opened(0);
    let second = log.opened(1);
    for key in 2..SESSIONS_MAX as u64 {
        log.opened(key);
    }
    assert_eq!(log.machine.session_count(), SESSIONS_MAX);
    assert_eq!(log.open(u64::MAX), Outcome::Refused(Refusal::TooManySessions));
    assert!(matches!(log.open(5), Outcome::Opened { .. }), "a known key is no new session");

    // Acknowledged claims are not bounded by the 256 outcomes.
    for request in 1..=5_000 {
        let name = format!("name/{request:05}");
        assert!(matches!(log.claim(first, request, &name), Outcome::Granted { .. }));
        assert!(matches!(log.claim(second, request, &name), Outcome::Queued { .. }));
    }
    assert_eq!(log.machine.names("name/04").count(), 1_000);
    let bytes = log.machine.encode();
    assert_eq!(Machine::decode(&bytes).as_ref(), Ok(&log.machine));

    let close = Command::Close { session: first, generation: Generation(1) };
    assert_eq!(log.apply(&close), Outcome::Closed { released: 5_000 });
    assert_eq!(log.machine.session(second).unwrap().grants().count(), 5_000);
    let all = log.machine.sessions().map(|(id, session)| (id, session.generation())).collect();
    assert_eq!(log.apply(&Command::Expire { sessions: all }), Outcome::Expired { ended: 99_999 });
    assert_eq!((log.machine.session_count(), log.machine.name_count()), (0, 0));
    assert!(log.machine.encode().len() < 64, "memory follows the living");
}

#[test]
fn claim_65_537_of_a_session_is_refused_until_one_ends() {
    let mut log = Log::start();
    let (session, other) = (log.opened(0), log.opened(1));
    assert!(matches!(log.claim(other, 1, "taken"), Outcome::Granted { .. }));
    let most = CLAIMS_MAX as u64;
    for request in 1..most {
        let name = format!("name/{request}");
        assert!(matches!(log.claim(session, request, &name), Outcome::Granted { .. }));
    }
    // One that waits counts as one that holds.
    assert!(matches!(log.claim(session, most, "taken"), Outcome::Queued { .. }));
    let full = log.machine.clone();
    let refused = Outcome::Refused(Refusal::TooManyClaims);
    assert_eq!(log.claim(session, most + 1, "new"), refused);
    assert_eq!(log.machine.encode().len(), full.encode().len(), "nothing was added");
    assert!(matches!(log.claim(other, 2, "new"), Outcome::Granted { .. }), "another has room");
    assert_eq!(log.claim(session, most + 1, "new"), refused, "nor in a queue");
    assert!(matches!(log.claim(session, most, "taken"), Outcome::Queued { .. }), "a repetition");

    let generation = Generation(1);
    let cancel = Command::Cancel { session, generation, request: RequestId(most) };
    assert_eq!(log.apply(&cancel), Outcome::Cancelled);
    assert!(matches!(log.claim(session, most + 1, "new"), Outcome::Queued { .. }));
    let bytes = log.machine.encode();
    assert_eq!(Machine::decode(&bytes).as_ref(), Ok(&log.machine));
    log.machine.check();
}

#[test]
fn name_1_000_001_is_refused_until_one_is_free() {
    let mut log = Log::start();
    let per_session = 50_000;
    let sessions: Vec<SessionId> = (0..20).map(|key| log.opened(key)).collect();
    for (number, session) in (0..NAMES_MAX).map(|number| (number, sessions[number / per_session])) {
        let request = (number % per_session + 1) as u64;
        let name = number.to_string();
        assert!(matches!(log.claim(session, request, &name), Outcome::Granted { .. }));
    }
    assert_eq!(log.machine.name_count(), NAMES_MAX);
    let late = log.opened(1_000_000);
    assert_eq!(log.claim(late, 1, "new"), Outcome::Refused(Refusal::TooManyNames));
    assert!(matches!(log.claim(late, 1, "7"), Outcome::Queued { .. }), "it is in use already");
    let close = Command::Close { session: sessions[1], generation: Generation(1) };
    assert_eq!(log.apply(&close), Outcome::Closed { released: 50_000 });
    assert!(matches!(log.claim(late, 2, "new"), Outcome::Granted { .. }));
    log.machine.check();
}
