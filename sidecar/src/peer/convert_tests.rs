//! Round trips of made-up messages, and frames with bytes turned, cut and put in: never a panic.

use super::*;
use prost::Message as _;

/// A small generator: the tests need variety and repeatability, not quality.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn place(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below a usize")
    }

    /// Small, large and edge numbers.
    fn number(&mut self) -> u64 {
        match self.below(4) {
            0 => 0,
            1 => u64::MAX,
            2 => self.below(200),
            _ => self.next(),
        }
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.below(most);
        (0..length).map(|_| u8::try_from(self.below(256)).expect("below 256")).collect()
    }

    fn log_id(&mut self) -> LogId {
        LogId::new(self.number(), self.number())
    }

    fn entry(&mut self) -> Entry {
        let id = LogId::new(self.number().max(1), self.number().max(1));
        let kinds = [
            quorate_raft::Kind::Noop,
            quorate_raft::Kind::Command,
            quorate_raft::Kind::Configuration,
        ];
        let kind = kinds[self.place(3)];
        Entry::new(id, kind, &self.bytes(300))
    }

    fn configuration(&mut self) -> Configuration {
        let mut half = |most| {
            let count = self.below(most);
            (0..count)
                .map(|n| (MemberId(u128::from(self.number())), format!("member-{n}")))
                .collect()
        };
        Configuration {
            incoming: half(5),
            outgoing: half(3),
            learners: half(3),
            ..Configuration::default()
        }
    }

    fn body(&mut self) -> Body {
        let (last, round) = (self.log_id(), Round(self.number()));
        match self.below(11) {
            0 => Body::PreVote { last },
            1 => Body::PreVoteReply { granted: self.below(2) == 0, asked: Term(self.number()) },
            2 => Body::Vote { last, transfer: self.below(2) == 0 },
            3 => Body::VoteReply { granted: self.below(2) == 0 },
            4 => {
                let count = self.below(6);
                let entries = (0..count).map(|_| self.entry()).collect();
                Body::Append { prev: last, entries, commit: self.log_id(), round }
            }
            5 => Body::AppendReply { round, answer: Answer::Durable(Index(self.number())) },
            6 => {
                let answer = Answer::Mismatch { prev: last, hint: self.log_id() };
                Body::AppendReply { round, answer }
            }
            7 => {
                let chunk: Arc<[u8]> = self.bytes(1000).into();
                let offset = self.below(1 << 40);
                let total = offset + u64::try_from(chunk.len()).expect("small") + self.below(9);
                let configuration = self.configuration();
                Body::Snapshot { last, configuration, offset, total, chunk, round }
            }
            8 => Body::SnapshotReply { last, received: self.number(), round },
            9 => Body::Commit { commit: last },
            _ => Body::TimeoutNow { last },
        }
    }

    fn sessions(&mut self) -> Vec<(SessionId, Generation)> {
        let count = self.below(20);
        (0..count).map(|_| (SessionId(self.number()), Generation(self.number()))).collect()
    }

    fn message(&mut self) -> PeerMessage {
        let (ticket, term) = (self.number(), Term(self.number()));
        match self.below(9) {
            0 => {
                let what = Ask::Command(self.bytes(500).into());
                PeerMessage::Forward(Forward { ticket, term, what })
            }
            1 => PeerMessage::Forward(Forward { ticket, term, what: Ask::ReadIndex }),
            2 => {
                let reply = match self.below(3) {
                    0 => Reply::Appended(self.log_id()),
                    1 => Reply::ReadAt(Index(self.number())),
                    _ => Reply::NotAppended(WHYS[self.place(WHYS.len())]),
                };
                PeerMessage::ForwardReply(ForwardReply { ticket, reply })
            }
            3 => PeerMessage::Heartbeat(Heartbeat {
                seq: ticket,
                term,
                boot: self.number(),
                sessions: self.sessions(),
                sidecar: (ticket % 2 == 0).then_some(u128::from(ticket) + 1),
            }),
            4 => PeerMessage::HeartbeatAck(HeartbeatAck {
                seq: ticket,
                term,
                applied: Index(self.number()),
                sessions: self.sessions(),
            }),
            _ => PeerMessage::Raft(Message { term, body: self.body() }),
        }
    }

    fn greeting(&mut self) -> Greeting {
        let boots: Vec<Boot> =
            (1..=self.below(64) + 1).map(|seq| Boot { seq, bits: self.number() }).collect();
        Greeting {
            cluster: (self.below(2) == 0).then(|| u128::from(self.next()) << 64 | 1),
            from: MemberId(u128::from(self.next()) + 1),
            to: (self.below(2) == 0).then(|| MemberId(u128::from(self.next()) + 1)),
            boot: boots[boots.len() - 1],
            boots,
            name: "member-1".to_owned(),
            address: (self.below(2) == 0).then(|| "10.0.0.7:7401".parse().unwrap()),
        }
    }

    fn received(&mut self) -> Received {
        match self.below(12) {
            0 => Received::Hello(self.greeting()),
            1 => Received::Goodbye,
            _ => Received::Message(self.message()),
        }
    }
}

fn encode(received: &Received) -> Vec<u8> {
    match received {
        Received::Hello(greeting) => hello(greeting),
        Received::Message(message) => to_frame(message),
        Received::Goodbye => goodbye(),
    }
    .encode_to_vec()
}

#[test]
fn what_is_sent_is_what_arrives() {
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    for _ in 0..20_000 {
        let sent = dice.received();
        let frame = wire::Frame::decode(&encode(&sent)[..]).expect("our own encoding");
        assert_eq!(from_frame(frame).as_ref(), Ok(&sent));
    }
}

#[test]
fn every_reason_has_a_number_of_its_own() {
    for why in WHYS {
        assert_eq!(why_of(why_number(why)), Ok(why));
    }
    for number in [0, 10, u32::MAX] {
        assert_eq!(why_of(number), Err(BadFrame::Field("not_appended.why")));
    }
}

#[test]
fn turned_bytes_never_panic() {
    let mut dice = Dice(0x1234_5678_9ABC_DEF1);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..60_000 {
        let mut bytes = encode(&dice.received());
        for _ in 0..=dice.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = dice.place(bytes.len());
            match dice.below(4) {
                0 => bytes[at] ^= 1 << dice.below(8),
                1 => bytes.truncate(at),
                2 => bytes.insert(at, u8::try_from(dice.below(256)).expect("below 256")),
                _ => bytes[at] = u8::try_from(dice.below(256)).expect("below 256"),
            }
        }
        match wire::Frame::decode(&bytes[..]).map(from_frame) {
            Ok(Ok(received)) => {
                accepted += 1;
                // What is accepted is whole: it can be sent on.
                drop(encode(&received));
            }
            Ok(Err(why)) => {
                refused += 1;
                assert!(!why.to_string().is_empty());
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn a_snapshot_part_beyond_its_end_or_too_long_is_refused() {
    let part = |offset, total, length| {
        let body = Body::Snapshot {
            last: LogId::new(1, 1),
            configuration: Configuration::default(),
            offset,
            total,
            chunk: vec![0; length].into(),
            round: Round(0),
        };
        from_frame(to_frame(&PeerMessage::Raft(Message { term: Term(1), body })))
    };
    assert!(part(0, 10, 10).is_ok());
    assert_eq!(part(1, 10, 10), Err(BadFrame::Field("snapshot.offset")));
    assert_eq!(part(u64::MAX, u64::MAX, 1), Err(BadFrame::Field("snapshot.offset")));
    let long = CHUNK_BYTES_MAX + 1;
    assert_eq!(part(0, 1 << 30, long), Err(BadFrame::Field("snapshot.chunk")));
}

#[test]
fn entries_are_shared_on_the_way_out() {
    let entry = Entry::new(LogId::new(1, 1), quorate_raft::Kind::Command, &[7; 4096]);
    let body = Body::Append {
        prev: LogId::ZERO,
        entries: vec![entry.clone()],
        commit: LogId::ZERO,
        round: Round(0),
    };
    let frame = to_frame(&PeerMessage::Raft(Message { term: Term(1), body }));
    let Some(Kind::Raft(raft)) = frame.frame else { panic!("a raft frame") };
    let Some(WireBody::Append(append)) = raft.body else { panic!("an append") };
    assert_eq!(append.entries[0].as_ptr(), entry.bytes().as_ptr());
}
