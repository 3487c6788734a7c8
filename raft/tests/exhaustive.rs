//! Every order of events, to closure, over the real [`Node`]: four servers, and one change of the
//! membership under way, with elections, giving up, and messages that come late or never.
//!
//! What is bounded: terms (1 begins, 2 is server 1's, so 3 means two leaders at once); one change,
//! from 1 2 3 with 4 listening, to each of five targets. Entries of one leader come to a member in
//! order, commit notices at any time; an acknowledgement comes at once, or the next one makes up
//! for it. Disks are instant. Elections are of one piece: a candidate that wins later wins with the
//! same log, and what it sends may be late anyway. A leader that stands again has restarted.
//!
//! What is loosened, so that more can happen than really does: pre-votes and stickiness never stand
//! in the way, any member may stand at any time, a leader never hears that it is deposed, and a
//! change begins without waiting for its round. No heartbeats, and an offer of leadership is never
//! taken: a late message and an election come to the same.
//!
//! `TERMS=n` raises the bound of 3, and `STATES=n` the number of states that cuts a search off.

use quorate_raft::*;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

const SERVERS: u8 = 4;

/// 64 bits of everything that was hashed.
#[derive(Default)]
struct Print(u64);

impl Hasher for Print {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }
    fn write_u64(&mut self, word: u64) {
        let z = (self.0.rotate_left(23) ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 = z ^ (z >> 31);
    }
}

fn print(what: impl FnOnce(&mut Print)) -> u64 {
    let mut print = Print::default();
    what(&mut print);
    print.finish()
}

/// The fingerprints seen: open addressing; 0 is free.
struct Seen {
    slots: Vec<u64>,
    count: usize,
}

impl Seen {
    fn insert(&mut self, print: u64) -> bool {
        if self.count * 2 >= self.slots.len() {
            let larger = Seen { slots: vec![0; self.slots.len().max(512) * 2], count: 0 };
            let old = std::mem::replace(self, larger);
            for slot in old.slots.into_iter().filter(|slot| *slot != 0) {
                self.insert(slot);
            }
        }
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(print >> 8).expect("64 bits") & mask;
        while self.slots[at] != 0 {
            if self.slots[at] == print {
                return false;
            }
            at = (at + 1) & mask;
        }
        self.slots[at] = print;
        self.count += 1;
        true
    }
}

/// A message on its way, and its hash.
#[derive(Clone)]
struct Way {
    print: u64,
    from: u8,
    to: u8,
    message: Rc<Message>,
}

impl Way {
    fn link(&self) -> (u8, u8, Term) {
        (self.from, self.to, self.message.term)
    }
}

#[derive(Clone)]
struct Server {
    node: Rc<Node>,
    print: u64,
}

#[derive(Clone)]
struct World {
    servers: Vec<Server>,
    /// In the order of hashes: it is a set.
    wire: Vec<Way>,
    committed: Vec<LogId>,
    leaders: BTreeMap<Term, u8>,
    changed: bool,
}

/// States that a search must come by, or it has seen nothing.
type Witnesses = BTreeMap<&'static str, u64>;

fn id(server: u8) -> MemberId {
    MemberId(server.into())
}

fn names(servers: &[u8]) -> BTreeMap<MemberId, String> {
    servers.iter().map(|server| (id(*server), String::new())).collect()
}

/// No time passes: whatever is due at once may happen at any time, and a change waits for ever.
fn start(server: u8, restored: Restored) -> Server {
    let mut config = Config::new(id(server), 0).with_election_timeout(0);
    config.change_ns = 1;
    config.lost_first_ns = 0;
    config.check = true;
    let node = Rc::new(Node::new(config, Time(0), restored));
    Server { node, print: 0 }
}

impl World {
    /// Server 1 leads, and all have and know everything.
    fn new() -> World {
        let configuration = Configuration {
            incoming: names(&[1, 2, 3]),
            learners: names(&[4]),
            ..Configuration::default()
        };
        let entry = Entry::new(LogId::new(1, 1), Kind::Configuration, &configuration.encode());
        let restored = || Restored { entries: vec![entry.clone()], ..Restored::default() };
        let servers = (1..=SERVERS).map(|server| start(server, restored())).collect();
        let (wire, committed) = (Vec::new(), Vec::new());
        let mut world =
            World { servers, wire, committed, leaders: BTreeMap::new(), changed: false };
        assert!(world.elect(1, &[2, 3, 4]));
        while !world.wire.is_empty() {
            let next = world.wire.iter().position(|way| world.is_next(way));
            world.deliver(next.expect("one is the first"), true);
        }
        assert!(world.servers.iter().all(|s| s.node.commit() == LogId::new(2, 2)));
        world
    }

    fn node(&self, server: u8) -> &Node {
        &self.servers[usize::from(server) - 1].node
    }

    /// One input, and all that follows from it at this server. Gives what was sent and answered.
    fn step(&mut self, server: u8, input: Input) -> Output {
        let slot = &mut self.servers[usize::from(server) - 1];
        let node = Rc::make_mut(&mut slot.node);
        let mut all = Output::default();
        let (mut next, mut tired) = (Some(input), false);
        while let Some(input) = next.take() {
            let mut out = Output::default();
            node.step(Time(0), input, &mut out);
            node.flush(Time(0), &mut out);
            all.sends.append(&mut out.sends);
            all.done.append(&mut out.done);
            if let Some((seq, _)) = out.writes.last() {
                next = Some(Input::Durable(*seq));
            }
            if let Some(range) = out.apply {
                let mut applied = Output::default();
                node.step(Time(0), Input::Applied(*range.end()), &mut applied);
                assert!(applied.writes.is_empty() && applied.sends.is_empty());
            }
            // Offered leadership is never taken: that is an election like any other.
            let configuration = node.configuration();
            let waits = configuration.is_joint() && node.commit().index >= configuration.index;
            if next.is_none() && waits && !tired && node.role() == RoleName::Leader {
                tired = true;
                next = Some(Input::Timer);
            }
        }
        slot.print = print(|into| slot.node.fingerprint(into));
        self.check(server);
        all
    }

    /// What is committed anywhere is the same for ever; one leader a term, and it has all of it.
    fn check(&mut self, server: u8) {
        let node = &self.servers[usize::from(server) - 1].node;
        let held = |index: usize| {
            node.entry(Index(u64::try_from(index).expect("small") + 1)).map(Entry::id)
        };
        for index in 0..usize::try_from(node.commit().index.0).expect("small") {
            let entry = held(index).expect("all is in memory");
            match self.committed.get(index) {
                Some(truth) => assert_eq!(*truth, entry, "two truths, one by {server}"),
                None => self.committed.push(entry),
            }
        }
        if node.role() == RoleName::Leader {
            let first = *self.leaders.entry(node.term()).or_insert(server);
            assert_eq!(first, server, "two leaders of {:?}", node.term());
            if self.leaders.keys().next_back() == Some(&node.term()) {
                let all = self.committed.iter().enumerate();
                let lacks = all.filter(|(index, entry)| held(*index) != Some(**entry)).count();
                assert_eq!(lacks, 0, "leader {server} lacks what is committed");
            }
        }
    }

    /// Puts on the wire what matters: no heartbeat, no pre-vote, no offer of leadership.
    fn post(&mut self, from: u8, out: Output) {
        for Envelope { to, message, .. } in out.sends {
            let matters = match &message.body {
                Body::Append { entries, .. } => !entries.is_empty(),
                Body::Commit { .. } => true,
                _ => false,
            };
            let to = u8::try_from(to.0).expect("small");
            if matters {
                let print = print(|into| (from, to, &message).hash(into));
                let at = self.wire.binary_search_by_key(&print, |way| way.print);
                let way = Way { print, from, to, message: Rc::new(message) };
                at.err().into_iter().for_each(|at| self.wire.insert(at, way.clone()));
            }
        }
        // What changes nothing any more is as good as lost; so is what a later one says as well.
        let servers = &self.servers;
        let all = self.wire.clone();
        self.wire.retain(|way| {
            let node = &servers[usize::from(way.to) - 1].node;
            let Body::Commit { commit } = way.message.body else {
                return way.message.term >= node.term();
            };
            let newer = |other: &Way| match other.message.body {
                Body::Commit { commit: more } => other.link() == way.link() && more > commit,
                _ => false,
            };
            let news = node.commit().index < commit.index && !all.iter().any(newer);
            news && way.message.term >= node.term()
        });
    }

    /// Whether nothing on the same link comes before it.
    fn is_next(&self, way: &Way) -> bool {
        let Body::Append { prev, .. } = way.message.body else { return true };
        !self.wire.iter().filter(|other| other.link() == way.link()).any(|other| {
            matches!(other.message.body, Body::Append { prev: before, .. } if before < prev)
        })
    }

    /// `heard`: whether the answer comes back. One that is lost is made up for by the next.
    fn deliver(&mut self, at: usize, heard: bool) -> bool {
        let Way { from, to, message, .. } = self.wire.remove(at);
        let answers = self.step(to, Input::Recv(id(from), (*message).clone())).sends;
        let answered = !answers.is_empty();
        for answer in answers {
            let lost = matches!(answer.message.body,
                Body::AppendReply { answer: Answer::Durable(_), .. } if !heard);
            if !lost {
                let out = self.step(from, Input::Recv(id(to), answer.message));
                self.post(from, out);
            }
        }
        self.post(to, Output::default());
        answered
    }

    /// `server` stands, and `voters` hear of it. Gives whether it wins.
    fn elect(&mut self, server: u8, voters: &[u8]) -> bool {
        if self.node(server).role() == RoleName::Leader {
            let node = self.node(server);
            let last = node.last().index.0;
            let entries = (1..=last).filter_map(|at| node.entry(Index(at)).cloned()).collect();
            let (term, vote) = (node.term(), node.vote());
            let restored = Restored { term, vote, entries, ..Restored::default() };
            self.servers[usize::from(server) - 1] = start(server, restored);
        }
        for voter in voters {
            let (term, body) = (self.node(*voter).term(), Body::VoteReply { granted: false });
            self.step(server, Input::Recv(id(*voter), Message { term, body }));
        }
        let mut asked = self.step(server, Input::Timer).sends;
        let term = self.node(server).term();
        for voter in (1..=SERVERS).filter(|voter| *voter != server) {
            let body = Body::PreVoteReply { granted: true, asked: term.next() };
            asked.append(
                &mut self.step(server, Input::Recv(id(voter), Message { term, body })).sends,
            );
        }
        for Envelope { to, message, .. } in asked {
            let to = u8::try_from(to.0).expect("small");
            let Body::Vote { last, .. } = message.body else { continue };
            if !voters.contains(&to) {
                continue;
            }
            let body = Body::Vote { last, transfer: true };
            let answer = self.step(to, Input::Recv(id(server), Message { body, ..message }));
            for Envelope { message, .. } in answer.sends {
                let out = self.step(server, Input::Recv(id(to), message));
                self.post(server, out);
            }
        }
        self.post(server, Output::default());
        self.node(server).role() == RoleName::Leader
    }

    /// Gives the outcome if the request was answered at once.
    fn change(&mut self, server: u8, change: Change) -> Option<Outcome> {
        let mut out = self.step(server, Input::Change(Ticket(1), change));
        let rounds: Vec<(MemberId, Round)> = out
            .sends
            .iter()
            .filter_map(|envelope| match envelope.message.body {
                Body::Append { ref entries, round, .. } if entries.is_empty() => {
                    Some((envelope.to, round))
                }
                _ => None,
            })
            .collect();
        let outcome = out.done.pop().map(|(_, outcome)| outcome);
        self.post(server, out);
        let term = self.node(server).term();
        for (from, round) in rounds {
            let body = Body::AppendReply { round, answer: Answer::Durable(Index(0)) };
            let out = self.step(server, Input::Recv(from, Message { term, body }));
            self.post(server, out);
        }
        outcome
    }

    fn print(&self) -> u64 {
        print(|into| {
            self.servers.iter().for_each(|server| into.write_u64(server.print));
            self.wire.iter().for_each(|way| into.write_u64(way.print));
            self.committed.hash(into);
            self.changed.hash(into);
        })
    }

    fn witness(&self, seen: &mut Witnesses) {
        let nodes: Vec<&Node> = self.servers.iter().map(|server| &*server.node).collect();
        let leads = |node: &&&Node| node.role() == RoleName::Leader;
        let leaders: Vec<&&Node> = nodes.iter().filter(leads).collect();
        let mut saw = |name, is: bool| *seen.entry(name).or_default() += u64::from(is);
        let configuration = |node: &Node| node.configuration().clone();
        let committed = |node: &Node| node.commit().index >= node.configuration().index;
        let simple = nodes.iter().filter(|node| !node.configuration().is_joint());
        let voters: BTreeSet<Vec<MemberId>> =
            simple.map(|node| node.configuration().incoming.keys().copied().collect()).collect();
        let changed = |node: &&&Node| configuration(node).index > Index(2);
        let old = names(&[1, 2, 3]);
        saw("two leaders at once", leaders.len() > 1);
        saw("two simple memberships at once", voters.len() > 1);
        for leader in &leaders {
            let now = configuration(leader);
            let own =
                |index: Index| leader.entry(index).map(|e| e.id().term) == Some(leader.term());
            let fresh = own(now.index);
            let changed = now.index > Index(2);
            saw("a joint configuration that is not committed", now.is_joint());
            saw("a leader under a joint configuration of an earlier one", now.is_joint() && !fresh);
            let over = changed && !now.is_joint();
            let back = over && now.incoming == old;
            saw("a change carried through and committed", over && !back && committed(leader));
            saw("a change given up and committed", back && committed(leader));
            saw("a change given up and not committed", back && !committed(leader));
            let before = leader.entry(now.index.previous()).map(Entry::kind);
            let adopted = fresh && over && before == Some(Kind::Noop);
            saw("a change ended by a leader that did not begin it", adopted);
            saw("a leader without a vote", !now.is_voter(leader.id()));
        }
        saw(
            "a server that lost its vote for good",
            nodes.iter().any(|node| {
                old.contains_key(&node.id())
                    && committed(node)
                    && !node.configuration().is_voter(node.id())
            }),
        );
        saw(
            "a learner that became a voter",
            nodes
                .iter()
                .filter(changed)
                .any(|node| node.id() == id(4) && node.configuration().is_voter(id(4))),
        );
        saw(
            "logs of two ends of one change",
            nodes.iter().any(|a| {
                nodes.iter().any(|b| {
                    let (a, b) = (configuration(a), configuration(b));
                    let over = |c: &Configuration| c.index > Index(3) && !c.is_joint();
                    over(&a) && over(&b) && a.incoming != b.incoming
                })
            }),
        );
    }
}

/// All states that one more event leads to.
fn successors(world: &World, target: &[u8], terms: Term, seen: &mut Witnesses) -> Vec<World> {
    let mut next = Vec::new();
    for at in 0..world.wire.len() {
        if !world.is_next(&world.wire[at]) {
            continue;
        }
        let mut heard = world.clone();
        if heard.deliver(at, true) {
            let mut lost = world.clone();
            lost.deliver(at, false);
            next.push(lost);
        }
        next.push(heard);
    }
    for server in 1..=SERVERS {
        let others: Vec<u8> = (1..=SERVERS).filter(|other| *other != server).collect();
        // A voter more only hinders others: the smallest sets that win are enough.
        let mut won: Vec<u8> = Vec::new();
        let mut sets: Vec<u8> = (0..8).collect();
        sets.sort_by_key(|set| set.count_ones());
        for set in sets {
            if won.iter().any(|won| set & won == *won) {
                continue;
            }
            let voters = others.iter().zip(0..).filter(|(_, bit)| set & (1 << bit) != 0);
            let voters: Vec<u8> = voters.map(|(voter, _)| *voter).collect();
            let known = voters.iter().map(|voter| world.node(*voter).term()).max();
            let below = |term: Term| term < terms;
            if !below(world.node(server).term()) || !known.is_none_or(below) {
                continue;
            }
            let mut world = world.clone();
            let stood_in = !world.node(server).configuration().is_voter(id(server));
            if world.elect(server, &voters) {
                won.push(set);
                *seen.entry("elected without a vote of its own").or_default() +=
                    u64::from(stood_in);
                next.push(world);
            }
        }
        let node = world.node(server);
        if node.role() != RoleName::Leader {
            continue;
        }
        let expected = node.configuration_index();
        let mut world = world.clone();
        if node.configuration().is_joint() {
            let outcome = world.change(server, Change::Abort { expected });
            let early = outcome == Some(Outcome::NotChanged(Refused::NotReady));
            *seen.entry("giving up refused as too early").or_default() += u64::from(early);
            if !early {
                next.push(world);
            }
        } else if !world.changed {
            let all = [1, 2, 3, 4].into_iter();
            let learners: Vec<u8> = all.filter(|server| !target.contains(server)).collect();
            let (voters, learners) = (names(target), names(&learners));
            let change = Change::To { expected, voters, learners };
            world.changed = true;
            if world.change(server, change).is_none() {
                next.push(world);
            }
        }
    }
    next
}

/// Searches depth first; gives the number of states, and whether it came to an end.
fn explore(target: &[u8], terms: Term, most: usize, seen: &mut Witnesses) -> (usize, bool) {
    let mut prints = Seen { slots: Vec::new(), count: 0 };
    let first = World::new();
    prints.insert(first.print());
    let mut stack = vec![first];
    while let Some(world) = stack.pop() {
        world.witness(seen);
        // In the order of hashes: else the first terms would be used up before anything happens.
        let next = successors(&world, target, terms, seen);
        let mut fresh: Vec<(u64, World)> =
            next.into_iter().map(|next| (next.print(), next)).collect();
        fresh.retain(|(print, _)| prints.insert(*print));
        fresh.sort_by_key(|(print, _)| *print);
        stack.extend(fresh.into_iter().map(|(_, next)| next));
        if prints.count >= most {
            return (prints.count, false);
        }
    }
    (prints.count, true)
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn no_order_of_events_makes_two_truths() {
    let terms = Term(u64::try_from(number("TERMS", 3)).expect("small"));
    let most = number("STATES", 500_000);
    let mut seen = Witnesses::new();
    for target in [&[1][..], &[4], &[3, 4], &[2, 3, 4], &[1, 2, 3, 4]] {
        let (states, closed) = explore(target, terms, most, &mut seen);
        eprintln!("to {target:?}: {states} states, {}", if closed { "all" } else { "cut" });
        assert!(closed || terms > Term(3), "the bound of states cuts the search off");
    }
    for (name, count) in &seen {
        eprintln!("{count:>10} {name}");
    }
    assert!(seen.len() >= 12 && seen.values().all(|count| *count > 0), "a search of nothing");
}
