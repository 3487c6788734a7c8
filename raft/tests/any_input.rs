//! No input of any content makes a node panic or breaks its invariants: random messages of liars,
//! among them the extremes of every number, in random order with everything a host does.

#[path = "dice/mod.rs"]
mod dice;

use dice::Dice;
use quorate_raft::*;
use std::collections::BTreeMap;

impl Dice {
    fn yes(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Mostly near `around`, seldom an extreme.
    fn number(&mut self, around: u64) -> u64 {
        match self.below(40) {
            0 => u64::MAX,
            1 => u64::MAX - 1,
            2 => 1 << 62,
            3 => 0,
            4 => self.next(),
            _ => around.saturating_sub(3).saturating_add(self.below(6)),
        }
    }

    fn log_id(&mut self, node: &Node) -> LogId {
        if self.yes() {
            let index = Index(self.number(node.last().index.0).min(node.last().index.0));
            return node.entry(index).map_or(node.commit(), Entry::id);
        }
        let term = self.number(node.term().0);
        let index = self.number(node.last().index.0);
        LogId::new(term, index)
    }

    fn configuration(&mut self) -> Configuration {
        let mut half = || {
            let count = self.below(4);
            (0..count).map(|_| (MemberId(self.below(6).into()), "m".to_owned())).collect()
        };
        let (incoming, outgoing) = (half(), half());
        let mut learners: BTreeMap<MemberId, String> = half();
        // Mostly one that a leader could have made.
        learners.retain(|id, _| !incoming.contains_key(id) || self.below(20) == 0);
        let index = Index(if self.below(3) == 0 { self.number(2) } else { 0 });
        Configuration { incoming, outgoing, learners, index }
    }

    fn entries(&mut self, prev: LogId, term: u64) -> Vec<Entry> {
        let mut id = prev;
        let count = self.below(5);
        let one = |_| {
            id = LogId { term: id.term.max(Term(self.number(term).min(term))), ..id };
            id.index = if self.below(50) == 0 { Index(self.next()) } else { id.index.next() };
            match self.below(10) {
                0 => Entry::new(id, Kind::Configuration, &self.configuration().encode()),
                1 if self.below(5) == 0 => Entry::new(id, Kind::Configuration, b"no configuration"),
                2 => Entry::new(id, Kind::Noop, &[]),
                _ => Entry::new(id, Kind::Command, b"command"),
            }
        };
        (0..count).map(one).collect()
    }

    fn message(&mut self, node: &Node) -> Message {
        let term = match self.below(30) {
            0 => self.number(node.term().0),
            _ => node.term().0,
        };
        let (last, prev) = (self.log_id(node), self.log_id(node));
        let round = Round(self.number(2));
        let body = match self.below(13) {
            0 => Body::PreVote { last },
            1 => Body::PreVoteReply { granted: self.yes(), asked: Term(self.number(term)) },
            2 => Body::Vote { last, transfer: self.yes() },
            3 => Body::VoteReply { granted: self.yes() },
            4 | 5 => {
                let answer = match self.yes() {
                    true => Answer::Durable(Index(self.number(node.last().index.0))),
                    false => Answer::Mismatch { prev, hint: self.log_id(node) },
                };
                Body::AppendReply { round, answer }
            }
            6 => Body::SnapshotReply { last, received: self.number(5), round },
            12 => Body::Commit { commit: last },
            7 => Body::TimeoutNow { last },
            8 => Body::Snapshot {
                last,
                configuration: self.configuration(),
                offset: self.number(3),
                total: self.number(6),
                chunk: vec![0; usize::try_from(self.below(6)).unwrap_or(0)].into(),
                round,
            },
            _ => {
                let entries = self.entries(prev, term);
                Body::Append { prev, entries, commit: self.log_id(node), round }
            }
        };
        Message { term: Term(term), body }
    }

    /// What brings a candidate on: else hardly one would ever lead.
    fn help(&mut self, node: &Node, issued: IoSeq) -> Option<Input> {
        let peer = MemberId((1 + self.below(2)).into());
        let body = match node.role() {
            RoleName::PreCandidate => {
                Body::PreVoteReply { granted: true, asked: node.term().next() }
            }
            RoleName::Candidate if self.yes() => return Some(Input::Durable(issued)),
            RoleName::Candidate => Body::VoteReply { granted: true },
            _ => return None,
        };
        Some(Input::Recv(peer, Message { term: node.term(), body }))
    }

    fn change(&mut self, node: &Node) -> Change {
        let expected = match self.below(5) {
            0 => Index(self.number(node.last().index.0)),
            _ => node.configuration_index(),
        };
        let Configuration { incoming: voters, learners, .. } = self.configuration();
        match self.below(4) {
            0 => Change::Abort { expected },
            1 => Change::To { expected, voters: node.configuration().incoming.clone(), learners },
            _ => Change::To { expected, voters, learners },
        }
    }

    fn input(&mut self, node: &Node, issued: IoSeq) -> Input {
        let peer = MemberId(self.below(6).into());
        let ticket = Ticket(self.below(100));
        let helped = self.help(node, issued).filter(|_| self.below(3) == 0);
        match self.below(42) {
            _ if helped.is_some() => helped.unwrap_or(Input::Timer),
            0 if self.below(2) == 0 => Input::PeerLost(peer),
            0 => Input::PeerRestarted(peer),
            1 => Input::Durable(IoSeq(self.below(issued.0 + 2))),
            2 | 3 => Input::Durable(issued),
            4 => Input::Applied(Index(self.number(node.commit().index.0))),
            5 => Input::Applied(node.commit().index),
            6 => Input::SnapshotBuilt(Snapshot {
                last: self.log_id(node),
                configuration: self.configuration(),
                data: vec![0; 3].into(),
            }),
            7 => Input::Bootstrap(self.configuration(), b"context"[..].into()),
            8 | 9 => {
                let length = usize::try_from(self.below(300)).unwrap_or(0);
                Input::Propose(ticket, vec![0; length].into())
            }
            10 => Input::Read(ticket),
            11 => Input::Transfer(ticket, self.yes().then_some(peer)),
            40 => Input::Change(ticket, self.change(node)),
            12 if self.below(10) == 0 => Input::Drain,
            13 => Input::Undrain,
            14..20 => Input::Timer,
            _ => Input::Recv(peer, self.message(node)),
        }
    }
}

fn restored(dice: &mut Dice) -> Restored {
    let configuration = Configuration::of_voters((0..3).map(|id| (MemberId(id), String::new())));
    let mut entries = dice.entries(LogId::ZERO, 3);
    entries.insert(0, Entry::new(LogId::new(1, 1), Kind::Configuration, &configuration.encode()));
    let snapshot = Snapshot { last: LogId::new(2, 5), configuration, data: vec![0; 9].into() };
    match dice.below(4) {
        0 => Restored::default(),
        1 => Restored { entries, ..Restored::default() },
        2 => {
            Restored { term: Term(dice.number(3)), snapshot: Some(snapshot), ..Default::default() }
        }
        _ => Restored { term: Term(1), entries: vec![entries[0].clone()], ..Default::default() },
    }
}

#[test]
fn no_input_makes_a_node_panic() {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3000);
    let mut leaders = 0;
    let mut committed = 0;
    for seed in 0..seeds {
        let mut dice = Dice(seed);
        let mut config = Config::new(MemberId(0), seed);
        config.check = true;
        config.window_entries = dice.below(5);
        config.frame_bytes = dice.below(200);
        config.tail_bytes = dice.below(100);
        config.uncommitted_bytes = 2000;
        config.command_bytes = 200;
        config.snapshot_chunk_bytes = dice.below(4);
        let restored = restored(&mut dice);
        let mut node = Node::new(config, Time(0), restored);
        let mut now = Time(0);
        let mut issued = IoSeq(0);
        let mut out = Output::default();
        for _ in 0..400 {
            now = if dice.yes() { now.after(dice.below(1 << 24)) } else { now };
            let timer = matches!(dice.below(8), 0) && node.deadline() != Time::NEVER;
            now = if timer { now.max(node.deadline()) } else { now };
            let input = if timer { Input::Timer } else { dice.input(&node, issued) };
            node.step(now, input, &mut out);
            if dice.yes() {
                node.flush(now, &mut out);
                issued = out.writes.last().map_or(issued, |(seq, _)| *seq);
                out = Output::default();
            }
            leaders += u64::from(node.role() == RoleName::Leader);
        }
        committed += u64::from(node.commit().index.0 > 0);
    }
    assert!(leaders > 10_000 && committed > 500, "{leaders} {committed}: the input is too wild");
}
