//! The words of `log/` and `node/` scripts.
//!
//! `voters 1 2 3` and `learners 4` before `start ID.. [term=T] [vote=V] [log=T,T,..]
//! [snapshot=T.I] | blank`: a log is the terms of its entries; the first, and each with a `c`, is
//! the configuration named last.
//! `tick ID` lets the clock reach its deadline, `wait MS` only moves the clock, `pass MS` lets the
//! whole world live, `settle` lets disks and links work until quiet. `sync ID [#]`, `deliver A>B`,
//! `drop A>B` do single things; `cut A[>B]`, `heal`, `stall ID`, `lazy ID` (does not apply) hold.
//! `change ID 2 3 4 [learners=1,5] [expected=I]` asks for these voters, `abort ID [expected=I]`
//! gives up; what is not named stays as it is. `transfer ID [TO]`.
//! `recv ID from=A term=T MESSAGE` writes a message as it is printed.

use crate::show;
use crate::world::World;
use quorate_raft::*;
use std::fmt::Write as _;
use std::sync::Arc;

struct Script {
    world: World,
    configuration: Configuration,
    ticket: u64,
}

pub fn run(input: &str) -> String {
    let mut script =
        Script { world: World::new(), configuration: Configuration::default(), ticket: 0 };
    for line in input.lines().filter(|line| !line.starts_with('#')) {
        writeln!(script.world.text, "> {line}").unwrap();
        script.line(line);
    }
    script.world.text
}

/// The words of a line: plain ones and `key=value`.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }
    fn number(&self, key: &str) -> u64 {
        self.get(key).map_or(0, |value| value.parse().unwrap())
    }
    fn log_id(&self, key: &str) -> LogId {
        self.get(key).map_or(LogId::ZERO, log_id)
    }
    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }
    fn ids(&self) -> Vec<u128> {
        self.0.iter().filter_map(|word| word.parse().ok()).collect()
    }
}

fn log_id(word: &str) -> LogId {
    let (term, index) = word.split_once('.').unwrap();
    LogId::new(term.parse().unwrap(), index.parse().unwrap())
}

fn ticket(next: &mut u64) -> Ticket {
    *next += 1;
    Ticket(*next)
}

fn name(id: u128) -> (MemberId, String) {
    (MemberId(id), format!("m{id}"))
}

fn change(node: &Node, abort: bool, words: &Words) -> Change {
    let present = node.configuration();
    let expected = words.get("expected").map(|index| Index(index.parse().unwrap()));
    let expected = expected.unwrap_or(node.configuration_index());
    if abort {
        return Change::Abort { expected };
    }
    let voters = words.0[1..].iter().filter_map(|word| word.parse().ok()).map(name).collect();
    let learners = match words.get("learners") {
        Some(ids) => ids.split(',').filter_map(|id| id.parse().ok()).map(name).collect(),
        None => {
            let all = present.members().map(|(id, _)| name(id.0));
            all.filter(|(id, _)| !present.is_voter(*id) && !words.has(&id.to_string())).collect()
        }
    };
    Change::To { expected, voters, learners }
}

impl Script {
    fn line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let word = words.next().unwrap();
        let words = Words(words.collect());
        let ids = words.ids();
        let world = &mut self.world;
        match word {
            "voters" | "learners" => {
                let half = ids.iter().map(|id| name(*id)).collect();
                let set = &mut self.configuration;
                *(if word == "voters" { &mut set.incoming } else { &mut set.learners }) = half;
            }
            "set" => {
                let (name, value) = words.0[0].split_once('=').unwrap();
                world.settings.push((name.to_owned(), value.parse().unwrap()));
            }
            "start" => {
                for id in ids {
                    let disk = self.disk(&words);
                    self.world.start(id, disk);
                }
            }
            "restart" => world.restart(ids[0]),
            "stall" => world.members.get_mut(&ids[0]).unwrap().stalled = !words.has("off"),
            "lazy" => world.members.get_mut(&ids[0]).unwrap().lazy = !words.has("off"),
            "cut" => self.cut(words.0[0]),
            "heal" => world.cut.clear(),
            "wait" => world.now = world.now.after(words.0[0].parse::<u64>().unwrap() * 1_000_000),
            "pass" | "settle" => {
                world.loud = false;
                match words.0.first() {
                    Some(ms) => world.pass(ms.parse::<u64>().unwrap() * 1_000_000),
                    None => world.settle(),
                }
                world.loud = true;
            }
            "deliver" | "drop" => {
                let (from, to) = words.0[0].split_once('>').unwrap();
                world.carry(from.parse().unwrap(), to.parse().unwrap(), word == "drop");
            }
            "sync" => {
                let upto = words.0.get(1).and_then(|seq| seq.strip_prefix('#'));
                let upto = upto.map_or(u64::MAX, |seq| seq.parse().unwrap());
                world.sync(ids[0], IoSeq(upto));
            }
            "show" => ids.iter().for_each(|id| self.show(*id)),
            _ => self.input(word, &words),
        }
    }

    fn cut(&mut self, what: &str) {
        if let Some((from, to)) = what.split_once('>') {
            self.world.cut.insert((from.parse().unwrap(), to.parse().unwrap()));
            return;
        }
        let id = what.parse().unwrap();
        for other in self.world.members.keys() {
            self.world.cut.extend([(id, *other), (*other, id)]);
        }
    }

    /// Words that are inputs of one node.
    fn input(&mut self, word: &str, words: &Words) {
        let id: u128 = words.0[0].parse().unwrap();
        let next = &mut self.ticket;
        let inputs = match word {
            "tick" => {
                let deadline = self.world.members[&id].node.deadline();
                assert!(deadline != Time::NEVER, "{id} has no timer");
                self.world.now = self.world.now.max(deadline);
                vec![Input::Timer]
            }
            "lost" => vec![Input::PeerLost(MemberId(words.0[1].parse().unwrap()))],
            "restarted" => vec![Input::PeerRestarted(MemberId(words.0[1].parse().unwrap()))],
            "applied" => vec![Input::Applied(Index(words.0[1].parse().unwrap()))],
            "propose" => {
                let commands = words.0[1..].iter();
                commands.map(|c| Input::Propose(ticket(next), Arc::from(c.as_bytes()))).collect()
            }
            "read" => {
                let count = words.0.get(1).map_or(1, |count| count.parse().unwrap());
                (0..count).map(|_| Input::Read(ticket(next))).collect()
            }
            "transfer" => {
                let to = words.0.get(1).map(|to| MemberId(to.parse().unwrap()));
                vec![Input::Transfer(ticket(next), to)]
            }
            "change" | "abort" => {
                let change = change(&self.world.members[&id].node, word == "abort", words);
                vec![Input::Change(ticket(next), change)]
            }
            "drain" => vec![Input::Drain],
            "undrain" => vec![Input::Undrain],
            "bootstrap" => {
                vec![Input::Bootstrap(self.configuration.clone(), Arc::from(&b"context"[..]))]
            }
            "snapshot" => {
                let bytes = usize::try_from(words.number("bytes")).unwrap();
                vec![Input::SnapshotBuilt(self.snapshot(log_id(words.0[1]), bytes))]
            }
            "recv" => {
                let term = Term(words.number("term"));
                let body = self.body(words.0[3], words);
                let from = MemberId(words.number("from").into());
                vec![Input::Recv(from, Message { term, body })]
            }
            other => panic!("unknown word {other}"),
        };
        self.world.act(id, inputs);
    }

    /// The configuration that a snapshot carries: entry 1, as in every log.
    fn carried(&self) -> Configuration {
        Configuration { index: Index(1), ..self.configuration.clone() }
    }

    fn snapshot(&self, last: LogId, bytes: usize) -> Snapshot {
        let data = vec![b's'; bytes].into();
        Snapshot { last, configuration: self.carried(), data }
    }

    fn entries(&self, prev: LogId, terms: Option<&str>) -> Vec<Entry> {
        let terms = terms.into_iter().flat_map(|terms| terms.split(','));
        let numbered = terms.zip(prev.index.0 + 1..);
        let entry = |(term, index): (&str, u64)| {
            let plain = term.trim_end_matches('c');
            let id = LogId::new(plain.parse().unwrap(), index);
            match index {
                _ if index == 1 || plain != term => {
                    Entry::new(id, Kind::Configuration, &self.configuration.encode())
                }
                _ => Entry::new(id, Kind::Command, format!("e{index}").as_bytes()),
            }
        };
        numbered.map(entry).collect()
    }

    fn disk(&self, words: &Words) -> Restored {
        if words.has("blank") {
            return Restored::default();
        }
        let snapshot = words.get("snapshot").map(|last| self.snapshot(log_id(last), 4));
        let prev = snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let log = words.get("log").or(if snapshot.is_none() { Some("1") } else { None });
        let entries = self.entries(prev, log);
        let term = words.get("term").map_or(Term(1), |term| Term(term.parse().unwrap()));
        let vote = words.get("vote").map(|vote| MemberId(vote.parse().unwrap()));
        Restored { term, vote, snapshot, entries }
    }

    fn body(&self, kind: &str, words: &Words) -> Body {
        let (last, prev) = (words.log_id("last"), words.log_id("prev"));
        let round = Round(words.number("round"));
        let granted = words.has("yes");
        match kind {
            "pre-vote" => Body::PreVote { last },
            "pre-vote-reply" => Body::PreVoteReply { granted, asked: Term(words.number("asked")) },
            "vote" => Body::Vote { last, transfer: words.has("transfer") },
            "vote-reply" => Body::VoteReply { granted },
            "append" => Body::Append {
                prev,
                entries: self.entries(prev, words.get("entries")),
                commit: words.log_id("commit"),
                round,
            },
            "durable" => {
                let answer = Answer::Durable(Index(words.0[4].parse().unwrap()));
                Body::AppendReply { round, answer }
            }
            "mismatch" => {
                let answer = Answer::Mismatch { prev, hint: words.log_id("hint") };
                Body::AppendReply { round, answer }
            }
            "snapshot" => Body::Snapshot {
                last,
                configuration: self.carried(),
                offset: words.number("offset"),
                total: words.number("total"),
                chunk: vec![b's'; usize::try_from(words.number("bytes")).unwrap()].into(),
                round,
            },
            "snapshot-reply" => {
                Body::SnapshotReply { last, received: words.number("received"), round }
            }
            "commit" => Body::Commit { commit: words.log_id("commit") },
            "timeout-now" => Body::TimeoutNow { last },
            other => panic!("unknown message {other}"),
        }
    }

    fn show(&mut self, id: u128) {
        let node = &self.world.members[&id].node;
        let (first, last) = (node.first_index().0, node.last().index.0);
        let log = (first..=last).map(|index| node.entry(Index(index)).unwrap());
        let snapshot = node.snapshot().map_or(String::new(), |s| format!(" snapshot {}", s.last));
        let configuration = node.configuration();
        let change = match configuration.index.0 {
            0 | 1 => String::new(),
            at => format!(" since {at}: {}", show::configuration(configuration)),
        };
        writeln!(
            self.world.text,
            "{id}: {:?} term {} vote {} leader {}{snapshot} log [{}] durable {} commit {}{change}",
            node.role(),
            node.term().0,
            show::member(node.vote()),
            show::member(node.leader()),
            show::entries(log),
            node.durable().0,
            node.commit(),
        )
        .unwrap();
    }
}
