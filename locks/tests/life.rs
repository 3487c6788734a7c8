//! A new life: tokens above every earlier one, no session, and no grant before its time.

use quorate_locks::{
    Attachment, Claim, Command, Event, Generation, Key, LifeCommand, Logged, Machine, Mode,
    NameKind, Outcome, Refusal, RequestId, SessionId, Token,
};

const EPOCH: u16 = 40;
const LAST_N: u64 = 7_000;

struct Log {
    machine: Machine,
    index: u64,
    events: Vec<Event>,
}

impl Log {
    fn start() -> Log {
        let mut log = Log { machine: Machine::new(), index: 0, events: Vec::new() };
        let start = Command::Start { epoch: EPOCH, last_n: LAST_N };
        assert_eq!(log.apply(Logged::Command(start)), Outcome::Started);
        log
    }

    /// Through the bytes of the log, and then of a snapshot.
    fn apply(&mut self, logged: Logged) -> Outcome {
        let bytes = match &logged {
            Logged::Command(command) => command.encode(),
            Logged::Life(command) => command.encode(),
        };
        assert_eq!(Logged::decode(&bytes).as_ref(), Ok(&logged));
        self.index += 1;
        self.events.clear();
        let outcome = self.machine.apply_logged(self.index, &logged, &mut self.events);
        self.machine.check();
        let encoded = self.machine.encode();
        assert_eq!(Machine::decode(&encoded).as_ref(), Ok(&self.machine));
        outcome
    }

    fn open(&mut self, key: u128) -> SessionId {
        let attachment = Attachment { member: 1, boot: 1 };
        let (key, ttl_ms, label) = (Key(key), 5_000, String::new());
        match self.apply(Logged::Command(Command::Open { key, ttl_ms, attachment, label })) {
            Outcome::Opened { session, .. } => session,
            other => panic!("{other:?}"),
        }
    }

    fn claim(&mut self, session: SessionId, request: u64, name: &str, queue: bool) -> Outcome {
        self.apply(Logged::Command(Command::Claim(Claim {
            session,
            generation: Generation(1),
            request: RequestId(request),
            lowest_unacked: RequestId(1),
            name: name.to_owned(),
            kind: NameKind::Lock,
            mode: Mode::Exclusive,
            permits: 1,
            priority: 0,
            value: Vec::new(),
            queue,
        })))
    }

    fn begin(&mut self, epoch: u16, last_n: u64, hold_off_ms: u32) -> Outcome {
        self.apply(Logged::Life(LifeCommand::Begin { epoch, last_n, hold_off_ms }))
    }

    fn granted(&self) -> Vec<(&str, Token)> {
        let granted = |event| match event {
            &Event::Granted { ref name, token, .. } => Some((name.as_str(), token)),
            _ => None,
        };
        self.events.iter().filter_map(granted).collect()
    }
}

fn token(outcome: Outcome) -> Token {
    match outcome {
        Outcome::Granted { token } => token,
        other => panic!("{other:?}"),
    }
}

#[test]
fn tokens_of_a_new_life_are_above_all_earlier_ones() {
    let mut log = Log::start();
    let session = log.open(1);
    let before = token(log.claim(session, 1, "a", true));
    let last = log.machine.last_token();
    assert_eq!(before, last);
    let lower = [(EPOCH, before.n()), (EPOCH, 0), (EPOCH - 1, (1 << 48) - 1)];
    for (epoch, last_n) in lower {
        let refused = Outcome::Refused(Refusal::Invalid("epoch"));
        assert_eq!(log.begin(epoch, last_n, 0), refused, "{epoch} {last_n}");
    }
    // The same epoch with a higher count, then a higher epoch that counts from 0 again.
    for (epoch, last_n) in [(EPOCH, before.n() + 5), (EPOCH + 1, 0)] {
        let highest = log.machine.last_token();
        assert_eq!(log.begin(epoch, last_n, 0), Outcome::Started);
        assert!(log.machine.last_token() > highest);
        let session = log.open(2);
        let after = token(log.claim(session, 1, "a", true));
        assert!(after > highest, "{after} after {highest}");
        assert_eq!(after.epoch(), u64::from(epoch));
    }
}

#[test]
fn a_new_life_ends_every_session_and_grants_nothing_to_the_dead() {
    let mut log = Log::start();
    let (holder, waiter) = (log.open(1), log.open(2));
    token(log.claim(holder, 1, "a", true));
    assert_eq!(log.claim(waiter, 1, "a", true), Outcome::Queued { position: 0 });
    assert_eq!(log.begin(EPOCH + 1, 0, 0), Outcome::Started);
    assert!(log.granted().is_empty(), "{:?}", log.events);
    assert_eq!((log.machine.session_count(), log.machine.name_count()), (0, 0));
    assert_eq!(
        log.claim(holder, 2, "a", true),
        Outcome::Refused(Refusal::SessionUnknown),
        "a session of the earlier life"
    );
}

#[test]
fn nothing_is_granted_before_the_hold_off_is_lifted() {
    let mut log = Log::start();
    assert_eq!(log.begin(EPOCH + 1, 0, 60_000), Outcome::Started);
    assert_eq!(log.machine.hold_off_ms(), Some(60_000));
    let (first, second) = (log.open(1), log.open(2));
    assert_eq!(log.claim(first, 1, "b", true), Outcome::Queued { position: 0 });
    assert_eq!(log.claim(second, 1, "b", true), Outcome::Queued { position: 1 });
    assert_eq!(log.claim(second, 2, "a", true), Outcome::Queued { position: 0 });
    // Somebody of the earlier life may hold it.
    assert_eq!(log.claim(first, 2, "c", false), Outcome::NotAcquired);
    assert_eq!(log.claim(first, 3, "gone", true), Outcome::Queued { position: 0 });
    let (generation, request) = (Generation(1), RequestId(3));
    let cancel = Command::Cancel { session: first, generation, request };
    assert_eq!(log.apply(Logged::Command(cancel)), Outcome::Cancelled);
    assert!(log.machine.name("gone").is_none(), "an empty name vanishes");

    let life = log.machine.life();
    let other = LifeCommand::Lift { life: Token(life.0 + 1) };
    let refused = Outcome::Refused(Refusal::NotStarted);
    assert_eq!(log.apply(Logged::Life(other)), refused, "a Lift of another life");
    assert!(log.granted().is_empty());

    let lift = Logged::Life(LifeCommand::Lift { life });
    assert_eq!(log.apply(lift.clone()), Outcome::Started);
    let granted: Vec<&str> = log.granted().iter().map(|(name, _)| *name).collect();
    assert_eq!(granted, ["a", "b"], "in the order of names");
    assert!(log.granted().is_sorted_by_key(|(_, token)| *token));
    assert_eq!(log.machine.hold_off_ms(), None);
    assert_eq!(log.apply(lift), refused, "once");
    token(log.claim(first, 4, "c", false));
}

#[test]
fn a_machine_without_a_hold_off_has_the_bytes_that_it_always_had() {
    let mut log = Log::start();
    assert_eq!(log.machine.encode()[0], 1);
    assert_eq!(log.begin(EPOCH + 1, 0, 1), Outcome::Started);
    assert_eq!(log.machine.encode()[0], 2);
    let life = log.machine.life();
    assert_eq!(log.apply(Logged::Life(LifeCommand::Lift { life })), Outcome::Started);
    assert_eq!(log.machine.encode()[0], 1);
}

#[test]
fn a_life_begins_only_where_one_was() {
    let mut machine = Machine::new();
    let begin = Logged::Life(LifeCommand::Begin { epoch: 1, last_n: 0, hold_off_ms: 0 });
    let outcome = machine.apply_logged(1, &begin, &mut Vec::new());
    assert_eq!(outcome, Outcome::Refused(Refusal::NotStarted));
    machine.check();
}

#[test]
fn bytes_that_are_no_life_command_are_refused() {
    let begin = LifeCommand::Begin { epoch: 1, last_n: 2, hold_off_ms: 3 }.encode();
    for length in 0..begin.len() {
        assert!(Logged::decode(&begin[..length]).is_err(), "{length} bytes");
    }
    assert!(Logged::decode(&[&begin[..], &[0]].concat()).is_err(), "one byte more");
    assert!(Command::decode(&begin).is_err(), "no client's command");
}
