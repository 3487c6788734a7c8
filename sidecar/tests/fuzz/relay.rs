//! What attached sidecars and relays say to each other.

use crate::fields::mutate_message;
use crate::model::Random;
use crate::mutate::{Corpus, mutate, run};
use prost::Message as _;
use quorate_locks::{Attachment, Generation, SessionId};
use quorate_proto::peer as proto;
use quorate_raft::{Configuration, Entry, Index, Kind, LogId, MemberId, Term};
use quorate_sidecar::frame::{Ask, Forward, ForwardReply, Heartbeat, HeartbeatAck, Reply};
use quorate_sidecar::relay::wire::{self, Heard, Welcome};
use quorate_sidecar::relay::{Relayed, Said};

const OWN: Attachment = Attachment { member: 7, boot: 8 };

fn requests() -> Corpus {
    Corpus::load("relay-request", || {
        let (term, sessions) = (Term(2), vec![(SessionId(3), Generation(1))]);
        let what = Ask::Command((*b"a command").into());
        let beat = Heartbeat { seq: 9, term, boot: 8, sessions, sidecar: None };
        let words = [
            ("follow", Said::Follow(Index(5))),
            ("ping", Said::Ping(3)),
            ("forward", Said::Forward(Forward { ticket: 9, term, what })),
            ("heartbeat", Said::Heartbeat(beat)),
        ];
        let mut all = vec![("introduction".to_owned(), wire::introduction(OWN, "app-1"))];
        let said = |said: &Said| wire::said(said).expect("it is one that is said");
        all.extend(words.iter().map(|(name, word)| ((*name).to_owned(), said(word))));
        all.into_iter().map(|(name, word)| (name, word.encode_to_vec())).collect()
    })
}

fn events() -> Corpus {
    Corpus::load("relay-event", || {
        let id = LogId::new(2, 5);
        let (seq, term, applied) = (9, Term(2), Index(5));
        let sessions = vec![(SessionId(3), Generation(1))];
        let members = Configuration::of_voters([(MemberId(1), "app-0".to_owned())]);
        let name = "app-0".to_owned();
        let welcome = Welcome { cluster: 1, member: MemberId(1), name, election_timeout_ms: 800 };
        let words = [
            ("leads", Relayed::Leads(term, Some(MemberId(1)))),
            ("members", Relayed::Members(members)),
            ("entries", Relayed::Entries(vec![Entry::new(id, Kind::Command, b"a command")])),
            ("state", Relayed::State(id, (*b"a state").into())),
            ("reply", Relayed::Reply(ForwardReply { ticket: 9, reply: Reply::Appended(id) })),
            ("ack", Relayed::Ack(HeartbeatAck { seq, term, applied, sessions })),
            ("pong", Relayed::Pong(3)),
            ("goodbye", Relayed::Goodbye),
        ];
        let mut all = vec![("welcome".to_owned(), wire::welcome(&welcome).encode_to_vec())];
        for (name, word) in words {
            let first = wire::events(&word).next().expect("each is said");
            all.push((name.to_owned(), first.encode_to_vec()));
        }
        all
    })
}

fn mutated(corpus: &Corpus, random: &mut Random) -> Vec<u8> {
    let mut input = corpus.any(random).to_vec();
    let other = corpus.any(random).to_vec();
    for _ in 0..=random.below(2) {
        mutate_message(random, &mut input, &other);
    }
    if random.below(4) == 0 {
        mutate(random, &mut input, &other);
    }
    input
}

fn asked(bytes: &[u8]) -> Option<(Said, String)> {
    wire::from_request(proto::RelayRequest::decode(bytes).ok()?).ok()
}

fn heard(bytes: &[u8]) -> Option<Heard> {
    wire::from_event(proto::RelayEvent::decode(bytes).ok()?).ok()
}

#[test]
fn a_word_to_a_relay_is_what_it_says_or_nothing() {
    let corpus = requests();
    for (name, bytes) in &corpus.files {
        assert!(asked(bytes).is_some(), "{name}");
    }
    run(
        "a word to a relay",
        |random| mutated(&corpus, random),
        |input| {
            let Some((said, name)) = asked(input) else { return false };
            let again = match said {
                Said::Began(own) => wire::introduction(own, &name),
                ref said => wire::said(said).expect("it was said"),
            };
            assert_eq!(asked(&again.encode_to_vec()), Some((said, name)));
            true
        },
    );
}

#[test]
fn a_word_of_a_relay_is_what_it_says_or_nothing() {
    let corpus = events();
    for (name, bytes) in &corpus.files {
        assert!(heard(bytes).is_some(), "{name}");
    }
    run(
        "a word of a relay",
        |random| mutated(&corpus, random),
        |input| {
            let Some(said) = heard(input) else { return false };
            let again = match &said {
                Heard::Welcome(welcome) => wire::welcome(welcome),
                Heard::Relayed(relayed) => wire::events(relayed).next().expect("each is said"),
                Heard::Part(part) => {
                    let end = part.offset + part.chunk.len() as u64;
                    assert!(end <= part.total && part.total <= wire::STATE_BYTES_MAX);
                    return true;
                }
            };
            let again = heard(&again.encode_to_vec());
            assert_eq!(format!("{again:?}"), format!("{:?}", Some(said)));
            true
        },
    );
}
