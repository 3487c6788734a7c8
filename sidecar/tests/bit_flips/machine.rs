//! A small state of the lock machine, as a snapshot holds it.

use quorate_locks::{
    Attachment, Claim, Command, Event, Key, Machine, Mode, NameKind, RequestId, SessionId,
};

/// A machine with sessions, holders and queues.
pub fn machine() -> Machine {
    let mut machine = Machine::new();
    let mut events: Vec<Event> = Vec::new();
    machine.apply(1, &Command::Start { epoch: 1, last_n: 0 }, &mut events);
    for key in 1..=4 {
        let attachment = Attachment { member: 7, boot: 1 };
        let label = format!("worker {key}");
        let open = Command::Open { key: Key(key), ttl_ms: 5000, attachment, label };
        machine.apply(machine.last_index() + 1, &open, &mut events);
    }
    let sessions: Vec<SessionId> = machine.sessions().map(|(id, _)| id).collect();
    for (number, session) in (1..).zip(sessions.iter().cycle().take(12)) {
        let generation = machine.session(*session).expect("it was opened").generation();
        let claim = Claim {
            session: *session,
            generation,
            request: RequestId(number),
            lowest_unacked: RequestId(1),
            name: format!("name {}", number % 3),
            kind: NameKind::Election,
            mode: Mode::Exclusive,
            permits: 1,
            priority: 0,
            value: vec![0xA5; 20],
            queue: true,
        };
        machine.apply(machine.last_index() + 1, &Command::Claim(claim), &mut events);
    }
    machine
}
