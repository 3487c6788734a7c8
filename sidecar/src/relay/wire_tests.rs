//! What is said arrives; what is nonsense is refused by name.

use super::*;
use crate::frame::{Ask, Forward, ForwardReply, Heartbeat, HeartbeatAck, Reply};
use quorate_locks::{Generation, SessionId};
use quorate_raft::{Index, Kind};

#[test]
fn every_word_goes_there_and_back() {
    let own = Attachment { member: 7, boot: 8 };
    let back = from_request(introduction(own, "app-1")).unwrap();
    assert_eq!(back, (Said::Began(own), "app-1".to_owned()));
    let sessions = vec![(SessionId(3), Generation(1))];
    let beat = Heartbeat { seq: 1, term: Term(2), boot: 8, sessions, sidecar: None };
    let words = [
        Said::Follow(Index(9)),
        Said::Ping(4),
        Said::Forward(Forward { ticket: 1, term: Term(2), what: Ask::ReadIndex }),
        Said::Heartbeat(beat),
    ];
    for word in words {
        let message = said(&word).unwrap();
        assert_eq!(from_request(message).unwrap().0, word);
    }
    assert!(said(&Said::Ended).is_none());
}

fn back(relayed: &Relayed) -> Vec<Heard> {
    events(relayed).map(|event| from_event(event).unwrap()).collect()
}

#[test]
fn every_answer_goes_there_and_back() {
    let hello = Welcome {
        cluster: 1,
        member: MemberId(2),
        name: "app-0".to_owned(),
        election_timeout_ms: 800,
    };
    let Heard::Welcome(same) = from_event(welcome(&hello)).unwrap() else { panic!("a welcome") };
    assert_eq!(same, hello);
    let id = LogId::new(2, 5);
    let entry = Entry::new(id, Kind::Command, b"x");
    let members = Configuration::of_voters([(MemberId(1), "a".to_owned())]);
    let reply = ForwardReply { ticket: 3, reply: Reply::Appended(id) };
    let ack = HeartbeatAck { seq: 1, term: Term(2), applied: Index(5), sessions: Vec::new() };
    let all = [
        Relayed::Leads(Term(2), Some(MemberId(1))),
        Relayed::Leads(Term(2), None),
        Relayed::Members(members),
        Relayed::Entries(vec![entry]),
        Relayed::Reply(reply),
        Relayed::Ack(ack),
        Relayed::Pong(4),
        Relayed::Goodbye,
    ];
    for relayed in all {
        let heard = back(&relayed);
        let [Heard::Relayed(same)] = &heard[..] else { panic!("{heard:?}") };
        assert_eq!(format!("{same:?}"), format!("{relayed:?}"));
    }
}

#[test]
fn a_large_state_comes_in_parts() {
    let bytes: Arc<[u8]> = (0..=255_u8).cycle().take(CHUNK_BYTES_MAX * 2 + 7).collect();
    let parts = back(&Relayed::State(LogId::new(2, 5), Arc::clone(&bytes)));
    assert_eq!(parts.len(), 3);
    let mut whole = Vec::new();
    for heard in parts {
        let Heard::Part(part) = heard else { panic!("{heard:?}") };
        assert_eq!((part.last, part.offset), (LogId::new(2, 5), whole.len() as u64));
        whole.extend_from_slice(&part.chunk);
    }
    assert_eq!(whole, &bytes[..]);
}

#[test]
fn nonsense_is_refused_by_name() {
    let refused = |word: Request| from_request(request(word)).unwrap_err();
    let hello = |sidecar: Vec<u8>, name: &str| {
        let name = name.to_owned();
        refused(Request::Introduction(wire::Introduction { sidecar, boot_bits: 1, name }))
    };
    assert_eq!(hello(vec![1; 15], "a"), BadFrame::Field("introduction.sidecar"));
    assert_eq!(hello(vec![0; 16], "a"), BadFrame::Field("introduction.sidecar"));
    assert_eq!(hello(vec![1; 16], &"a".repeat(256)), BadFrame::Field("introduction.name"));
    assert_eq!(from_request(Default::default()).unwrap_err(), BadFrame::Missing("request"));
    let refused = |heard: Event| from_event(event(heard)).unwrap_err();
    let part = |offset, total, chunk| {
        let last = Some(wire::LogId { term: 1, index: 1 });
        refused(Event::State(wire::StatePart { last, offset, total, chunk }))
    };
    assert_eq!(part(0, 1, vec![1; 2]), BadFrame::Field("state.total"));
    assert_eq!(part(u64::MAX, 1, vec![1]), BadFrame::Field("state.total"));
    assert_eq!(part(0, STATE_BYTES_MAX + 1, vec![1]), BadFrame::Field("state.total"));
    assert_eq!(part(0, 1, Vec::new()), BadFrame::Field("state.chunk"));
    let entries = wire::Entries { entries: vec![vec![1, 2]] };
    assert!(matches!(refused(Event::Entries(entries)), BadFrame::Encoding("entries.entries", _)));
    assert_eq!(refused(Event::Members(vec![9])).to_string().split(' ').next(), Some("members"));
}
