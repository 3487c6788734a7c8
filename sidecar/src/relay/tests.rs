//! Whose an answer is, and for whom an attached sidecar may speak.

use super::*;
use quorate_locks::{Command, Key};
use quorate_raft::{Config, LogId, Restored, Time};

const OWN: u64 = 1_000;

fn blank() -> Node {
    Node::new(Config::new(MemberId(1), 1), Time(0), Restored::default())
}

/// Two attached sidecars are there, at these boots; nothing of a group is needed for that.
fn two(first: u64, second: u64) -> Relays {
    let mut relays = Relays::new(OWN);
    for (id, boot) in [(1, first), (2, second)] {
        let relay = Relay { id: RelayId(id), sidecar: u128::from(id), told: None };
        relays.by_boot.insert(boot, relay);
        relays.boots.insert(RelayId(id), boot);
    }
    relays
}

#[test]
fn an_answer_finds_whoever_asked() {
    let relays = two(2_000, u64::MAX - 10);
    let owner = |number| relays.owner(number).map(|id| id.0);
    assert_eq!(owner(OWN), None);
    assert_eq!(owner(1_999), None);
    assert_eq!((owner(2_000), owner(1 << 40)), (Some(1), Some(1)));
    assert_eq!(owner(u64::MAX - 10), Some(2));
    // Round the whole circle.
    assert_eq!((owner(0), owner(OWN - 1)), (Some(2), Some(2)));
    assert_eq!(Relays::new(OWN).owner(7), None);
}

#[test]
fn nobody_gets_in_at_a_member_of_no_group_or_with_anothers_numbers() {
    let (node, mut out) = (blank(), Vec::new());
    let mut relays = Relays::new(OWN);
    let attachment = Attachment { member: 9, boot: 5_000 };
    relays.begin(RelayId(3), attachment, &node, &mut out);
    assert!(matches!(out[..], [(RelayId(3), Relayed::Goodbye)]), "{out:?}");
    assert_eq!(relays.count(), 0);
    // Nothing that it says is heard.
    let said = Said::Heartbeat(Heartbeat {
        seq: 1,
        term: Term(1),
        boot: OWN,
        sessions: Vec::new(),
        sidecar: None,
    });
    let up = relays.hear((RelayId(3), said), &node, &Machine::new(), &mut out);
    assert!(up.is_none());
}

#[test]
fn a_heartbeat_speaks_for_whoever_was_introduced() {
    let (node, mut out) = (blank(), Vec::new());
    let mut relays = two(2_000, 3_000);
    let beat = Heartbeat {
        seq: 2_001,
        term: Term(1),
        boot: 3_000,
        sessions: Vec::new(),
        sidecar: Some(2),
    };
    let up = relays.hear((RelayId(1), Said::Heartbeat(beat)), &node, &Machine::new(), &mut out);
    let Some(Up::Heartbeat(beat)) = up else { panic!("{up:?}") };
    assert_eq!((beat.boot, beat.sidecar), (2_000, Some(1)));
}

#[test]
fn nobody_asks_under_anothers_number() {
    let (node, mut out) = (blank(), Vec::new());
    let mut relays = two(2_000, 3_000);
    let ask = |ticket| Said::Forward(Forward { ticket, term: Term(1), what: Ask::ReadIndex });
    let beat = |seq| {
        let (term, boot) = (Term(1), 2_000);
        Said::Heartbeat(Heartbeat { seq, term, boot, sessions: Vec::new(), sidecar: None })
    };
    for number in [OWN, OWN + 7, 3_000, u64::MAX] {
        for said in [ask(number), beat(number)] {
            let up = relays.hear((RelayId(1), said), &node, &Machine::new(), &mut out);
            assert!(up.is_none() && out.is_empty(), "{number}: {up:?}, {out:?}");
        }
    }
    let up = relays.hear((RelayId(1), ask(2_999)), &node, &Machine::new(), &mut out);
    assert!(matches!(up, Some(Up::Forward(_))), "{up:?}");
}

#[test]
fn boots_keep_their_distance() {
    assert!(near(OWN, OWN) && near(OWN, OWN + NUMBERS - 1) && near(OWN + NUMBERS - 1, OWN));
    assert!(near(u64::MAX, 5) && near(5, u64::MAX), "round the whole circle");
    assert!(!near(OWN, OWN + NUMBERS) && !near(OWN + NUMBERS, OWN));
}

fn asked(command: &Command) -> Forward {
    Forward { ticket: 1, term: Term(1), what: Ask::Command(command.encode().into()) }
}

#[test]
fn it_may_ask_for_its_own_sessions_alone() {
    let own = Attachment { member: 1, boot: 2_000 };
    let other = Attachment { member: 2, boot: 3_000 };
    let mut machine = Machine::new();
    let start = Command::Start { epoch: 1, last_n: 0 };
    machine.apply(1, &start, &mut Vec::new());
    for (index, key, attachment) in [(2, 11, own), (3, 12, other)] {
        let label = String::new();
        let open = Command::Open { key: Key(key), ttl_ms: 5_000, attachment, label };
        machine.apply(index, &open, &mut Vec::new());
    }
    let may = |command: &Command| may_ask(own, &asked(command), &machine, Index(3));
    let close = |session, generation| {
        may(&Command::Close { session: SessionId(session), generation: Generation(generation) })
    };
    assert_eq!(close(2, 1), Ok(()));
    assert_eq!(close(3, 1), Err(Why::Malformed), "another's");
    assert_eq!(close(3, 2), Err(Why::NotLeader), "it may have become its own: asked again");
    assert_eq!(close(2, 2), Err(Why::NotLeader), "not met yet: asked again");
    assert_eq!(close(3, 0), Ok(()), "void, and answered so");
    assert_eq!(close(1, 1), Ok(()), "gone, and answered so");
    assert_eq!(close(4, 1), Err(Why::NotLeader), "not met yet: asked again");
    let open = |attachment| {
        let label = String::new();
        may(&Command::Open { key: Key(13), ttl_ms: 5_000, attachment, label })
    };
    assert_eq!((open(own), open(other)), (Ok(()), Err(Why::Malformed)));
    let resume =
        |attachment| may(&Command::Resume { key: Key(12), replaces: Generation(1), attachment });
    assert_eq!((resume(own), resume(other)), (Ok(()), Err(Why::Malformed)));
    assert_eq!(may(&start), Err(Why::Malformed));
    let expire = Command::Expire { sessions: vec![(SessionId(2), Generation(1))] };
    assert_eq!(may(&expire), Err(Why::Malformed));
    let read = Forward { ticket: 1, term: Term(1), what: Ask::ReadIndex };
    assert_eq!(may_ask(own, &read, &machine, Index(3)), Ok(()));
}

#[test]
fn a_member_that_stops_sends_all_away() {
    let mut relays = two(2_000, 3_000);
    let mut out = Vec::new();
    relays.goodbye(&mut out);
    assert_eq!(out.len(), 2);
    assert!(out.iter().all(|(_, told)| matches!(told, Relayed::Goodbye)));
    relays.end(RelayId(1));
    assert_eq!((relays.count(), relays.owner(2_000)), (1, None));
}

#[test]
fn the_last_entry_is_known_where_the_log_begins_after_it() {
    assert_eq!(last(&blank()), None);
    assert_eq!(LogId::ZERO.index, blank().applied());
}
