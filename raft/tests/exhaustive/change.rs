//! Four servers, a change of the membership under way, elections, giving up, and messages that come
//! late or never. What is bounded, loosened and left out: `docs/exhaustive.md`.

use crate::print::{Seen, print};
use crate::search::{Next, Witnesses, World};
use crate::truth::Truth;
use crate::words;
use quorate_raft::*;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::Hash;
use std::rc::Rc;

const SERVERS: u8 = 4;

/// What one search explores.
#[derive(Clone, Copy)]
pub struct Bound {
    /// Who votes after the change; empty: no change.
    pub first: &'static [u8],
    /// The same for a change that follows one given up; empty: none.
    pub second: &'static [u8],
    /// No term after it. The first two have passed before the search begins.
    pub terms: Term,
    /// Whoever stands has restarted; else only one that led.
    pub restarts: bool,
}

/// A message on its way, and its hash.
#[derive(Clone)]
pub struct Way {
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
pub struct Server {
    node: Rc<Node>,
    print: u64,
}

/// What a server that got something unheard has to do next: else it might as well get it later.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Owed {
    /// By bits: to stand, to vote, or to follow a later leader.
    part: u8,
    /// To stand; 0: nobody.
    stand: u8,
}

#[derive(Clone)]
pub struct Change {
    bound: Bound,
    servers: Vec<Server>,
    /// In the order of hashes: it is a set.
    wire: Vec<Way>,
    truth: Truth,
    changes: u8,
    owed: Owed,
    /// Elections known to be lost, by the hash of all who take part.
    lost: Rc<RefCell<Seen>>,
}

#[derive(Clone)]
pub enum Event {
    Heard(Way),
    Unheard(Way),
    Elected(u8, Vec<u8>),
    Changed(u8, &'static [u8]),
    GaveUp(u8),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Heard(Way { from, to, message, .. }) => {
                write!(f, "{to} gets from {from} {}, and {from} its answer", words::of(message))
            }
            Event::Unheard(Way { from, to, message, .. }) => {
                write!(f, "{to} gets from {from} {}, and no answer comes", words::of(message))
            }
            Event::Elected(server, voters) => write!(f, "{server} is elected by {voters:?}"),
            Event::Changed(server, to) => write!(f, "leader {server} begins a change to {to:?}"),
            Event::GaveUp(server) => write!(f, "leader {server} gives the change up"),
        }
    }
}

fn id(server: u8) -> MemberId {
    MemberId(server.into())
}

fn bit(server: u8) -> u8 {
    1 << (server - 1)
}

fn names(servers: &[u8]) -> BTreeMap<MemberId, String> {
    servers.iter().map(|server| (id(*server), String::new())).collect()
}

/// No time passes: a change waits for ever, and whoever stands is told to.
fn start(server: u8, restored: Restored) -> Server {
    let mut config = Config::new(id(server), 0).with_election_timeout(1);
    config.change_ns = 1;
    config.check = true;
    let node = Rc::new(Node::new(config, Time(0), restored));
    Server { node, print: 0 }
}

/// Of one that does not lead only term, log and commit count here: it votes in later terms than it
/// ever voted in, and whom it followed does not matter to the next leader.
fn print_of(node: &Node) -> u64 {
    print(|into| {
        if node.role() == RoleName::Leader {
            return node.fingerprint(into);
        }
        (node.term(), node.commit()).hash(into);
        (1..=node.last().index.0).for_each(|at| node.entry(Index(at)).hash(into));
    })
}

impl Change {
    /// Server 1 leads term 2, and all have and know everything.
    pub fn new(bound: Bound) -> Change {
        let configuration = Configuration {
            incoming: names(&[1, 2, 3]),
            learners: names(&[4]),
            ..Configuration::default()
        };
        let entry = Entry::new(LogId::new(1, 1), Kind::Configuration, &configuration.encode());
        let restored = || Restored { entries: vec![entry.clone()], ..Restored::default() };
        let servers = (1..=SERVERS).map(|server| start(server, restored())).collect();
        let mut world = Change {
            bound,
            servers,
            wire: Vec::new(),
            truth: Truth::default(),
            changes: 0,
            owed: Owed::default(),
            lost: Rc::default(),
        };
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
        let before = slot.node.last();
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
        slot.print = print_of(&slot.node);
        self.check(server, before);
        all
    }

    fn check(&mut self, server: u8, before: LogId) {
        let node = &self.servers[usize::from(server) - 1].node;
        self.truth.judge(server, node);
        if before == node.last() {
            return;
        }
        for other in self.servers.iter().filter(|other| other.node.id() != node.id()) {
            Truth::compare(node, &other.node);
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
        self.forget();
    }

    /// What changes nothing any more is as good as lost; so is what a later one says as well.
    fn forget(&mut self) {
        let (servers, last) = (&self.servers, self.bound.terms);
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
            // Nobody stands after the last term, so nobody begins to lead with what it hears then.
            let news = node.commit().index < commit.index && way.message.term < last;
            news && way.message.term >= node.term() && !all.iter().any(newer)
        });
    }

    /// Whether nothing on the same link comes before it.
    fn is_next(&self, way: &Way) -> bool {
        let Body::Append { prev, .. } = way.message.body else { return true };
        !self.wire.iter().filter(|other| other.link() == way.link()).any(|other| {
            matches!(other.message.body, Body::Append { prev: before, .. } if before < prev)
        })
    }

    /// `heard`: whether the answer comes back. Gives whether the log grew for it.
    fn deliver(&mut self, at: usize, heard: bool) -> bool {
        let Way { from, to, message, .. } = self.wire.remove(at);
        let answers = self.step(to, Input::Recv(id(from), (*message).clone())).sends;
        let taken = |answer: &Envelope| {
            let Body::AppendReply { ref answer, .. } = answer.message.body else { return false };
            matches!(answer, Answer::Durable(_))
        };
        let grew = answers.iter().any(taken);
        for answer in answers.into_iter().filter(|_| heard) {
            let out = self.step(from, Input::Recv(id(to), answer.message));
            self.post(from, out);
        }
        self.forget();
        grew
    }

    /// `server` stands, and `voters` hear of it. Gives whether it wins.
    fn elect(&mut self, server: u8, voters: &[u8]) -> bool {
        if self.bound.restarts || self.node(server).role() == RoleName::Leader {
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
        let (term, last) = (self.node(server).term(), self.node(server).last());
        let mut asked = Vec::new();
        // As if its leader had told it to: whoever that was.
        for leader in (1..=SERVERS).filter(|leader| *leader != server) {
            if self.node(server).term() == term {
                let message = Message { term, body: Body::TimeoutNow { last } };
                asked = self.step(server, Input::Recv(id(leader), message)).sends;
            }
        }
        for Envelope { to, message, .. } in asked {
            let to = u8::try_from(to.0).expect("small");
            let vote = matches!(message.body, Body::Vote { .. });
            if !vote || !voters.contains(&to) {
                continue;
            }
            let answer = self.step(to, Input::Recv(id(server), message));
            for Envelope { message, .. } in answer.sends {
                let out = self.step(server, Input::Recv(id(to), message));
                self.post(server, out);
            }
        }
        self.forget();
        self.node(server).role() == RoleName::Leader
    }

    /// Gives the outcome if the request was answered at once.
    fn change(&mut self, server: u8, change: quorate_raft::Change) -> Option<Outcome> {
        let mut out = self.step(server, Input::Change(Ticket(1), change));
        let outcome = out.done.pop().map(|(_, outcome)| outcome);
        self.post(server, out);
        outcome
    }

    fn deliveries(&self, next: &mut Next<Change>) {
        for (at, way) in self.wire.iter().enumerate() {
            if !self.is_next(way) {
                continue;
            }
            let term = self.node(way.to).term();
            let notice = matches!(way.message.body, Body::Commit { .. });
            let part = bit(way.to);
            // Who owes a part may pay by following a later leader.
            let pays = self.owed == Owed { part, stand: 0 } && way.message.term > term;
            if !notice && (self.owed == Owed::default() || pays) {
                next.attempt(self, Event::Heard(way.clone()), |world| {
                    world.owed = Owed::default();
                    world.deliver(at, true);
                    true
                });
            }
            // Deliveries to different servers commute: they come in the order of servers.
            let in_order = self.owed.part >> (way.to - 1) <= 1;
            if !in_order || (self.owed.stand != 0 && self.owed.stand != way.to) {
                continue;
            }
            let to_leader = self.owed.stand;
            next.attempt(self, Event::Unheard(way.clone()), |world| {
                let grew = world.deliver(at, false);
                world.owed.part |= part;
                world.owed.stand = if notice { way.to } else { to_leader };
                (grew || notice) && world.may_pay()
            });
        }
    }

    /// Whether an election, or a later leader's message, can be what is owed.
    fn may_pay(&self) -> bool {
        let owes = |server: &u8| self.owed.part & bit(*server) != 0;
        let elects = |server: u8| self.node(server).term() < self.bound.terms;
        (1..=SERVERS).filter(owes).all(elects)
            || self.wire.iter().any(|way| {
                bit(way.to) == self.owed.part && way.message.term > self.node(way.to).term()
            })
    }

    fn elections(&self, next: &mut Next<Change>) {
        for server in 1..=SERVERS {
            if self.owed.stand != 0 && self.owed.stand != server {
                continue;
            }
            // A voter more only hinders others: the smallest sets that win are enough.
            let mut won: Vec<u8> = Vec::new();
            let mut sets: Vec<u8> =
                (0..1 << SERVERS).filter(|set| set & bit(server) == 0).collect();
            sets.sort_by_key(|set| set.count_ones());
            for set in sets {
                if won.iter().any(|won| set & won == *won) {
                    continue;
                }
                let voters: Vec<u8> = (1..=SERVERS).filter(|v| set & bit(*v) != 0).collect();
                let below = |server: &u8| self.node(*server).term() < self.bound.terms;
                if !below(&server) || !voters.iter().all(below) {
                    continue;
                }
                let stood_in = !self.node(server).configuration().is_voter(id(server));
                let pays = self.owed.part & !(set | bit(server)) == 0;
                let all = [server].into_iter().chain(voters.iter().copied());
                let ballot = print(|into| {
                    all.for_each(|s| (s, self.servers[usize::from(s) - 1].print).hash(into));
                });
                if !pays || self.lost.borrow().contains(ballot) {
                    continue;
                }
                let wins = |world: &mut Change| {
                    world.owed = Owed::default();
                    world.elect(server, &voters)
                };
                if !next.attempt(self, Event::Elected(server, voters.clone()), wins) {
                    self.lost.borrow_mut().insert(ballot);
                } else {
                    won.push(set);
                    let stood_in = u64::from(stood_in);
                    *next.seen.entry("elected without a vote of its own").or_default() += stood_in;
                }
            }
        }
    }

    fn requests(&self, next: &mut Next<Change>) {
        for server in 1..=SERVERS {
            let node = self.node(server);
            if node.role() != RoleName::Leader {
                continue;
            }
            let present = node.configuration();
            let expected = node.configuration_index();
            if present.is_joint() {
                let change = quorate_raft::Change::Abort { expected };
                let mut early = false;
                next.attempt(self, Event::GaveUp(server), |world| {
                    let outcome = world.change(server, change);
                    early = outcome == Some(Outcome::NotChanged(Refused::NotReady));
                    !early
                });
                *next.seen.entry("giving up refused as too early").or_default() += u64::from(early);
                continue;
            }
            let back = expected > Index(2) && present.incoming == names(&[1, 2, 3]);
            let target = match self.changes {
                0 => self.bound.first,
                1 if back => self.bound.second,
                _ => continue,
            };
            if !target.is_empty() {
                self.begin(server, target, next);
            }
        }
    }

    fn begin(&self, server: u8, target: &'static [u8], next: &mut Next<Change>) {
        let expected = self.node(server).configuration_index();
        let learners: Vec<u8> = (1..=SERVERS).filter(|s| !target.contains(s)).collect();
        let (voters, learners) = (names(target), names(&learners));
        let change = quorate_raft::Change::To { expected, voters, learners };
        next.attempt(self, Event::Changed(server, target), |world| {
            world.changes += 1;
            world.change(server, change).is_none()
        });
    }
}

impl World for Change {
    type Event = Event;

    fn print(&self) -> u64 {
        print(|into| {
            self.servers.iter().for_each(|server| server.print.hash(into));
            self.wire.iter().for_each(|way| way.print.hash(into));
            (&self.truth, self.changes, self.owed).hash(into);
        })
    }

    fn successors(&self, next: &mut Next<Change>) {
        self.deliveries(next);
        self.elections(next);
        if self.owed == Owed::default() {
            self.requests(next);
        }
    }

    fn witness(&self, seen: &mut Witnesses) {
        let nodes: Vec<&Node> = self.servers.iter().map(|server| &*server.node).collect();
        let leaders: Vec<&Node> =
            nodes.iter().copied().filter(|node| node.role() == RoleName::Leader).collect();
        let mut saw = |name, is: bool| *seen.entry(name).or_default() += u64::from(is);
        let over = |node: &Node| {
            let now = node.configuration();
            now.index > Index(2) && !now.is_joint()
        };
        let committed = |node: &Node| node.commit().index >= node.configuration().index;
        let simple = nodes.iter().filter(|node| !node.configuration().is_joint());
        let voters: BTreeSet<Vec<MemberId>> =
            simple.map(|node| node.configuration().incoming.keys().copied().collect()).collect();
        let old = names(&[1, 2, 3]);
        let lost = |n: &&Node| old.contains_key(&n.id()) && !n.configuration().is_voter(n.id());
        saw("two leaders at once", leaders.len() > 1);
        saw("three leaders at once", leaders.len() > 2);
        saw("two simple memberships at once", voters.len() > 1);
        saw("a server that lost its vote for good", nodes.iter().any(|n| lost(n) && committed(n)));
        let four = nodes.iter().any(|n| n.id() == id(4) && n.configuration().is_voter(id(4)));
        saw("a learner that became a voter", four);
        let ends = |a: &Node, b: &Node| {
            let (x, y) = (a.configuration(), b.configuration());
            over(a) && over(b) && x.incoming != y.incoming && self.changes == 1
        };
        saw("logs of two ends of one change", {
            nodes.iter().any(|a| nodes.iter().any(|b| ends(a, b)))
        });
        for leader in leaders {
            self.witness_leader(leader, seen);
        }
    }
}

impl Change {
    fn witness_leader(&self, leader: &Node, seen: &mut Witnesses) {
        let mut saw = |name, is: bool| *seen.entry(name).or_default() += u64::from(is);
        let now = leader.configuration();
        let own = |index: Index| leader.entry(index).map(|e| e.id().term) == Some(leader.term());
        let (fresh, joint) = (own(now.index), now.is_joint());
        let over = now.index > Index(2) && !joint;
        let back = over && now.incoming == names(&[1, 2, 3]);
        let committed = leader.commit().index >= now.index;
        saw("a joint configuration that is not committed", joint && !committed);
        saw("a leader under a joint configuration of an earlier one", joint && !fresh);
        saw("a change carried through and committed", over && !back && committed);
        saw("a change given up and committed", back && committed);
        saw("a change given up and not committed", back && !committed);
        let before = leader.entry(now.index.previous()).map(Entry::kind);
        let adopted = fresh && over && before == Some(Kind::Noop);
        saw("a change ended by a leader that did not begin it", adopted);
        saw("a leader without a vote", !now.is_voter(leader.id()));
        let (second, last) = (self.changes == 2, leader.term() == self.bound.terms);
        saw("a second change begun", second && joint && fresh);
        saw("a second change carried through and committed", second && over && !back && committed);
        saw("a second change given up", second && back && self.gave_up(leader) > 1);
        saw("the last term's leader under a change begun before", last && joint && !fresh);
    }

    /// How many entries of its log go back to the old voters.
    fn gave_up(&self, leader: &Node) -> usize {
        let entries = (3..=leader.last().index.0).filter_map(|at| leader.entry(Index(at)));
        let configurations = entries.filter(|entry| entry.kind() == Kind::Configuration);
        let back = |entry: &&Entry| {
            let (configuration, _) = Configuration::decode(entry.payload()).expect("it is one");
            !configuration.is_joint() && configuration.incoming == names(&[1, 2, 3])
        };
        configurations.filter(back).count()
    }
}
