//! Three servers, two clients, a crash that loses what was not synced, and a disk that is lost.
//! What is bounded, loosened and left out: `docs/exhaustive.md`.

use crate::disk::persist;
use crate::print::{Print, print};
use crate::search::{Next, Witnesses, World};
use crate::truth::Truth;
use crate::words;
use quorate_raft::*;
use std::fmt;
use std::hash::Hash;
use std::rc::Rc;

const SERVERS: u8 = 3;
/// Who may crash. All begin alike, so it might as well be this one.
const FRAIL: u8 = 1;

/// What one search explores.
#[derive(Clone, Copy)]
pub struct Bound {
    /// No term after it. Term 1 has no leader.
    pub terms: Term,
    pub crashes: u8,
    pub disks: u8,
    pub commands: u8,
    pub reads: u8,
    /// Writes of a disk that hangs which end all the same.
    pub late: u8,
    /// Messages come out of order and again, also to one whose disk hangs.
    pub again: bool,
    /// A lost disk comes back blank under the old id: what must never be.
    pub blank_votes: bool,
}

/// A message that was sent, and its hash.
#[derive(Clone)]
pub struct Way {
    print: u64,
    from: u8,
    to: u8,
    message: Rc<Message>,
}

#[derive(Clone)]
struct Server {
    node: Rc<Node>,
    print: u64,
    /// Its disk is lost, and with it the member: a blank disk is another member, of no vote.
    gone: bool,
    /// What would survive a crash; kept only while one may come.
    disk: Rc<Restored>,
    /// Since its disk hangs: what a crash loses.
    hung: Vec<(IoSeq, Write)>,
}

/// From which write on the disk hangs, until the crash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hangs {
    Not,
    /// The next one.
    Now,
    /// The next one of entries.
    AtEntries,
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
pub struct Crash {
    bound: Bound,
    servers: Vec<Server>,
    /// In the order of hashes: it is a set.
    wire: Vec<Way>,
    truth: Truth,
    crashes: u8,
    disks: u8,
    commands: u8,
    reads: u8,
    late: u8,
    owed: Owed,
    hangs: Hangs,
    /// The reads under way: where, and what had been committed anywhere when they were asked.
    asked: Vec<(u8, Ticket, Index)>,
    /// What the last event showed.
    showed: Vec<&'static str>,
}

#[derive(Clone)]
pub enum Event {
    Heard(Way, Hangs),
    Unheard(Way),
    Elected { server: u8, voter: u8, term: u64, hangs: Hangs },
    Synced,
    Crashed,
    DiskLost(u8),
    Command(u8, u8, Hangs),
    Read(u8),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Heard(Way { from, to, message, .. }, hangs) => {
                write!(f, "{to} gets from {from} {}", words::of(message))?;
                write!(f, ", and {from} its answer, if there is one{hangs}")
            }
            Event::Unheard(Way { from, to, message, .. }) => {
                write!(f, "{to} gets from {from} {}, and no answer comes", words::of(message))
            }
            Event::Elected { server, voter, term, hangs } => {
                write!(f, "{server} is elected in term {term} by {voter}{hangs}")
            }
            Event::Synced => write!(f, "the next write of {FRAIL} is durable"),
            Event::Crashed => write!(f, "{FRAIL} crashes, and restarts from its disk"),
            Event::DiskLost(server) => write!(f, "the disk of {server} is lost"),
            Event::Command(server, number, hangs) => {
                write!(f, "leader {server} appends the command of client {number}{hangs}")
            }
            Event::Read(server) => write!(f, "leader {server} is asked for a read"),
        }
    }
}

impl fmt::Display for Hangs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hangs::Not => Ok(()),
            Hangs::Now => write!(f, "; from its write on the disk of {FRAIL} hangs"),
            Hangs::AtEntries => write!(f, "; from its entries on the disk of {FRAIL} hangs"),
        }
    }
}

fn id(server: u8) -> MemberId {
    MemberId(server.into())
}

fn bit(server: u8) -> u8 {
    1 << (server - 1)
}

/// No time passes: whatever is due at once may happen at any time.
fn start(server: u8, restored: Restored) -> Rc<Node> {
    let mut config = Config::new(id(server), 0).with_election_timeout(0);
    config.lost_first_ns = 0;
    // One entry in a message: so one of an old term may come alone.
    config.frame_bytes = 1;
    config.check = true;
    Rc::new(Node::new(config, Time(0), restored))
}

fn hash_write(write: &Write, into: &mut Print) {
    match write {
        Write::HardState { term, vote } => (term, vote).hash(into),
        Write::Append(entries) => entries.hash(into),
        Write::Snapshot { .. } | Write::Install { .. } => unreachable!("no snapshots here"),
    }
}

impl Server {
    fn print(&self) -> u64 {
        print(|into| {
            self.gone.hash(into);
            if self.gone {
                return;
            }
            self.node.fingerprint(into);
            (self.disk.term, self.disk.vote, &self.disk.entries).hash(into);
            self.hung.iter().for_each(|(_, write)| hash_write(write, into));
        })
    }

    fn has_on_disk(&self, entry: &Entry, frail: bool) -> bool {
        let at = usize::try_from(entry.id().index.0).expect("small");
        let disk = self.disk.entries.get(at - 1);
        let held = if frail { disk } else { self.node.entry(entry.id().index) };
        held == Some(entry)
    }
}

impl Crash {
    /// All hold the first entry, and nobody leads.
    pub fn new(bound: Bound) -> Crash {
        let voters = (1..=SERVERS).map(|server| (id(server), String::new()));
        let configuration = Configuration::of_voters(voters);
        let entry = Entry::new(LogId::new(1, 1), Kind::Configuration, &configuration.encode());
        let disk = Restored { term: Term(1), entries: vec![entry], ..Restored::default() };
        let server = |server| Server {
            node: start(server, disk.clone()),
            print: 0,
            gone: false,
            disk: Rc::new(disk.clone()),
            hung: Vec::new(),
        };
        Crash {
            bound,
            servers: (1..=SERVERS).map(server).collect(),
            wire: Vec::new(),
            truth: Truth::default(),
            crashes: 0,
            disks: 0,
            commands: 0,
            reads: 0,
            late: 0,
            owed: Owed::default(),
            hangs: Hangs::Not,
            asked: Vec::new(),
            showed: Vec::new(),
        }
    }

    fn server(&self, server: u8) -> &Server {
        &self.servers[usize::from(server) - 1]
    }

    fn node(&self, server: u8) -> &Node {
        &self.server(server).node
    }

    /// Whether it may crash yet. Where nobody can crash, a late sync is but a late message.
    fn is_frail(&self, server: u8) -> bool {
        server == FRAIL && self.crashes < self.bound.crashes && !self.server(server).gone
    }

    /// Brings writes to the disk, or leaves them hanging. Gives the last that ended.
    fn write(&mut self, server: u8, writes: Vec<(IoSeq, Write)>) -> Option<IoSeq> {
        let frail = self.is_frail(server);
        let hangs = if frail { self.hangs } else { Hangs::Not };
        let slot = &mut self.servers[usize::from(server) - 1];
        let mut ended = None;
        for (seq, write) in writes {
            let entries = matches!(write, Write::Append(_));
            let now = hangs == Hangs::Now || (hangs == Hangs::AtEntries && entries);
            if now || !slot.hung.is_empty() {
                slot.hung.push((seq, write));
                continue;
            }
            ended = Some(seq);
            if frail {
                persist(Rc::make_mut(&mut slot.disk), write);
            }
        }
        ended
    }

    /// One input, and all that follows from it at this server. Gives what it sends.
    fn step(&mut self, server: u8, input: Input) -> Vec<Envelope> {
        let before = self.node(server).last();
        let (mut next, mut sends) = (Some(input), Vec::new());
        while let Some(input) = next.take() {
            let slot = &mut self.servers[usize::from(server) - 1];
            let (was, led) = (slot.node.commit().index, slot.node.role() == RoleName::Leader);
            let node = Rc::make_mut(&mut slot.node);
            let mut out = Output::default();
            node.step(Time(0), input, &mut out);
            node.flush(Time(0), &mut out);
            if let Some(range) = &out.apply {
                let mut applied = Output::default();
                node.step(Time(0), Input::Applied(*range.end()), &mut applied);
                node.flush(Time(0), &mut applied);
                out.sends.append(&mut applied.sends);
                out.done.append(&mut applied.done);
                assert!(applied.writes.is_empty());
            }
            if node.entry(before.index).map(Entry::id) != Some(before) {
                self.showed.push("entries replaced by a later leader's");
            }
            next = self.write(server, out.writes).map(Input::Durable);
            if led && self.node(server).role() == RoleName::Leader {
                self.counted(server, was);
            }
            out.done.drain(..).for_each(|(ticket, outcome)| self.done(ticket, outcome));
            // What waits for a write that hangs is never sent.
            let first = self.server(server).hung.first().map_or(IoSeq(u64::MAX), |(seq, _)| *seq);
            sends.extend(out.sends.into_iter().filter(|envelope| envelope.after < first));
        }
        let slot = &self.servers[usize::from(server) - 1];
        self.truth.judge(server, &slot.node);
        let changed = slot.node.last() != before;
        for other in
            self.servers.iter().filter(|other| changed && other.node.id() != slot.node.id())
        {
            Truth::compare(&slot.node, &other.node);
        }
        self.servers[usize::from(server) - 1].print = self.server(server).print();
        sends
    }

    /// What this leader has committed since.
    fn counted(&mut self, server: u8, was: Index) {
        let node = self.server(server).node.clone();
        for entry in (was.0 + 1..=node.commit().index.0).filter_map(|at| node.entry(Index(at))) {
            let has = |server: &Server| {
                let number = u8::try_from(server.node.id().0).expect("small");
                server.has_on_disk(entry, self.is_frail(number))
            };
            let on_disk =
                |id| self.servers.iter().any(|server| server.node.id() == id && has(server));
            Truth::counted(&node, entry, on_disk);
            if !on_disk(id(server)) {
                self.showed.push("a commit that the leader's own disk does not have");
            }
        }
    }

    /// A read that was asked for when something had been committed has to see it.
    fn done(&mut self, ticket: Ticket, outcome: Outcome) {
        let at = self.asked.iter().position(|(_, asked, _)| *asked == ticket);
        let Some((_, _, least)) = at.map(|at| self.asked.remove(at)) else { return };
        if let Outcome::ReadAt(index) = outcome {
            assert!(index >= least, "a stale read: {} below {}", index.0, least.0);
            self.showed.push("a read answered");
        }
    }

    /// Puts on the wire what matters: entries, commit notices, and the rounds of reads.
    fn post(&mut self, from: u8, sends: Vec<Envelope>) {
        for Envelope { to, message, .. } in sends {
            let matters = match &message.body {
                Body::Append { entries, .. } => !entries.is_empty() || !self.asked.is_empty(),
                Body::Commit { .. } => true,
                _ => false,
            };
            let to = u8::try_from(to.0).expect("small");
            if matters {
                let message = Rc::new(message);
                let print = print(|into| (from, to, &message).hash(into));
                let at = self.wire.binary_search_by_key(&print, |way| way.print);
                let way = Way { print, from, to, message };
                at.err().into_iter().for_each(|at| self.wire.insert(at, way.clone()));
            }
        }
        self.forget();
    }

    /// What changes nothing any more is as good as lost.
    fn forget(&mut self) {
        let Crash { servers, asked, bound, crashes, .. } = self;
        self.wire.retain(|way| {
            let receiver = &servers[usize::from(way.to) - 1];
            // A crash may take back a term that is not durable.
            let frail = way.to == FRAIL && crashes < &mut bound.crashes;
            let term = if frail { receiver.disk.term } else { receiver.node.term() };
            let news = match &way.message.body {
                Body::Append { entries, .. } => !entries.is_empty() || !asked.is_empty(),
                Body::Commit { commit } => {
                    way.message.term < bound.terms && receiver.node.commit() < *commit
                }
                _ => false,
            };
            news && !receiver.gone && term <= way.message.term
        });
    }

    /// Whether it may come: nothing on the same link is before it.
    fn is_next(&self, way: &Way) -> bool {
        let Body::Append { prev, .. } = way.message.body else { return true };
        let link = |way: &Way| (way.from, way.to, way.message.term);
        self.bound.again
            || !self.wire.iter().filter(|other| link(other) == link(way)).any(|other| {
                matches!(other.message.body, Body::Append { prev: before, .. } if before < prev)
            })
    }

    /// `heard`: whether the answer comes back. Gives whether the log grew for it.
    fn deliver(&mut self, at: usize, heard: bool) -> bool {
        let Way { from, to, message, .. } = self.wire[at].clone();
        let hung = self.server(to).hung.len();
        let answers = self.step(to, Input::Recv(id(from), (*message).clone()));
        let taken = |answer: &Envelope| {
            let Body::AppendReply { ref answer, .. } = answer.message.body else { return false };
            matches!(answer, Answer::Durable(_))
        };
        let grew = answers.iter().any(taken);
        if self.server(to).hung.len() == hung && !self.bound.again {
            self.wire.remove(at);
        }
        let heard = heard && !self.server(from).gone;
        for answer in answers.into_iter().filter(|_| heard) {
            let sends = self.step(from, Input::Recv(id(to), answer.message));
            self.post(from, sends);
        }
        self.forget();
        grew
    }

    /// `server` stands until this term, in which `voter` hears of it. Gives whether it wins.
    fn elect(&mut self, server: u8, voter: u8, until: Term) -> bool {
        let mut asked = Vec::new();
        if self.node(server).role() == RoleName::Leader {
            let (term, body) = (self.hears_of(server), Body::VoteReply { granted: false });
            self.step(server, Input::Recv(id(voter), Message { term, body }));
        }
        while self.node(server).term() < until {
            let (term, last) = (self.node(server).term(), self.node(server).last());
            asked = self.step(server, Input::Timer);
            for other in (1..=SERVERS).filter(|other| *other != server) {
                self.try_pre_vote(server, other, last);
                let body = Body::PreVoteReply { granted: true, asked: term.next() };
                let message = Message { term, body };
                asked.append(&mut self.step(server, Input::Recv(id(other), message)));
            }
            if self.node(server).term() == term {
                return false;
            }
        }
        for Envelope { to, message, .. } in asked {
            let Body::Vote { last, .. } = message.body else { continue };
            if to != id(voter) || message.term != until {
                continue;
            }
            // Whoever leads has just stepped down, when it hears of a candidate.
            let body = Body::Vote { last, transfer: true };
            let answer = self.step(voter, Input::Recv(id(server), Message { body, ..message }));
            for Envelope { message, .. } in answer {
                let sends = self.step(server, Input::Recv(id(voter), message));
                self.post(server, sends);
            }
        }
        self.forget();
        let wins = self.node(server).role() == RoleName::Leader;
        if wins {
            self.try_old_answers(server);
        }
        wins
    }

    /// The term that it may stand after: a leader only gives up for a later one.
    fn hears_of(&self, server: u8) -> Term {
        let own = self.node(server).term();
        let live = self.servers.iter().filter(|other| !other.gone);
        let all = live.map(|other| other.node.term()).max().unwrap_or(own);
        if self.node(server).role() == RoleName::Leader { all.max(own) } else { own }
    }

    /// To be asked for a pre-vote changes nothing.
    fn try_pre_vote(&self, server: u8, other: u8, last: LogId) {
        let mut node = self.node(other).clone();
        let before = print(|into| node.fingerprint(into));
        let message =
            Message { term: self.node(server).term().next(), body: Body::PreVote { last } };
        node.step(Time(0), Input::Recv(id(server), message), &mut Output::default());
        assert_eq!(before, print(|into| node.fingerprint(into)), "a pre-vote changed {other}");
    }

    /// Answers to what it sent in earlier terms change nothing at a leader.
    fn try_old_answers(&self, server: u8) {
        let node = self.node(server);
        let (before, last) = (print(|into| node.fingerprint(into)), node.last().index.previous());
        for (other, term) in (1..=SERVERS).flat_map(|s| (1..node.term().0).map(move |t| (s, t))) {
            let answer = Answer::Durable(last);
            let body = Body::AppendReply { round: Round(0), answer };
            let (mut node, message) = (node.clone(), Message { term: Term(term), body });
            let input = Input::Recv(id(other), message);
            if other != server {
                node.step(Time(0), input, &mut Output::default());
                let after = print(|into| node.fingerprint(into));
                assert_eq!(before, after, "an answer of term {term} changed leader {server}");
            }
        }
    }

    /// A write of the frail one has ended after all.
    fn sync(&mut self) {
        let slot = &mut self.servers[usize::from(FRAIL) - 1];
        let (seq, write) = slot.hung.remove(0);
        persist(Rc::make_mut(&mut slot.disk), write);
        self.late += 1;
        let sends = self.step(FRAIL, Input::Durable(seq));
        self.post(FRAIL, sends);
    }

    fn crash(&mut self) {
        let slot = &mut self.servers[usize::from(FRAIL) - 1];
        let vote =
            |(_, write): &(IoSeq, Write)| matches!(write, Write::HardState { vote: Some(_), .. });
        let entries = |(_, write): &(IoSeq, Write)| matches!(write, Write::Append(_));
        let leads = slot.node.role() == RoleName::Leader;
        let mut showed = Vec::new();
        let mut saw = |name, is: bool| showed.extend(is.then_some(name));
        saw("a crash that lost a vote", slot.hung.iter().any(vote));
        saw("a leader's crash that lost entries", leads && slot.hung.iter().any(entries));
        saw("a follower's crash that lost entries", !leads && slot.hung.iter().any(entries));
        saw("a restart that remembers a vote for another", {
            slot.disk.vote.is_some_and(|vote| vote != id(FRAIL))
        });
        slot.node = start(FRAIL, (*slot.disk).clone());
        slot.hung = Vec::new();
        slot.disk = Rc::default();
        slot.print = slot.print();
        self.crashes += 1;
        self.asked.retain(|(server, _, _)| *server != FRAIL);
        self.showed = showed;
        self.forget();
    }

    fn lose(&mut self, server: u8) {
        let slot = &mut self.servers[usize::from(server) - 1];
        let had = slot.node.commit().index > Index(2);
        self.showed.extend(had.then_some("a disk lost that had what is committed"));
        if self.bound.blank_votes {
            slot.node = start(server, Restored::default());
            slot.disk = Rc::default();
        } else {
            slot.gone = true;
        }
        slot.hung = Vec::new();
        slot.print = slot.print();
        self.disks += 1;
        self.asked.retain(|(at, _, _)| *at != server);
        self.forget();
    }
}

impl World for Crash {
    type Event = Event;

    fn print(&self) -> u64 {
        print(|into| {
            self.servers.iter().for_each(|server| server.print.hash(into));
            self.wire.iter().for_each(|way| way.print.hash(into));
            (&self.truth, &self.asked, self.owed).hash(into);
            (self.crashes, self.disks, self.commands, self.reads, self.late).hash(into);
        })
    }

    fn successors(&self, next: &mut Next<Crash>) {
        let world = Crash { showed: Vec::new(), ..self.clone() };
        for (at, way) in world.wire.iter().enumerate() {
            world.delivery(at, way, next);
        }
        for server in (1..=SERVERS).filter(|server| !world.server(*server).gone) {
            world.elections(server, next);
        }
        if world.owed != Owed::default() {
            return;
        }
        if world.late < world.bound.late && !world.server(FRAIL).hung.is_empty() {
            next.attempt(&world, Event::Synced, |world| {
                world.sync();
                true
            });
        }
        if world.is_frail(FRAIL) {
            next.attempt(&world, Event::Crashed, |world| {
                world.crash();
                true
            });
        }
        for server in (1..=SERVERS).filter(|server| !world.server(*server).gone) {
            world.requests(server, next);
        }
    }

    fn witness(&self, seen: &mut Witnesses) {
        for name in &self.showed {
            *seen.entry(name).or_default() += 1;
        }
        let mut saw = |name, is: bool| *seen.entry(name).or_default() += u64::from(is);
        let live = || self.servers.iter().filter(|server| !server.gone).map(|server| &server.node);
        let role = |role| live().filter(move |node| node.role() == role);
        let leads = || role(RoleName::Leader);
        saw("two leaders at once", leads().count() > 1);
        let committed = |node: &Node| -> Vec<LogId> {
            let all = (1..=node.commit().index.0).filter_map(|at| node.entry(Index(at)));
            all.filter(|entry| entry.kind() == Kind::Command).map(Entry::id).collect()
        };
        let all = || leads().map(|node| committed(node));
        let adopted = leads().any(|node| committed(node).iter().any(|id| id.term < node.term()));
        saw("a command committed under a later leader", adopted);
        let both = all().any(|commands| commands.len() > 1);
        saw("both commands committed", both);
        let two = all().any(|commands| commands.len() > 1 && commands[0].term < commands[1].term);
        saw("commands of two leaders committed", two);
        let past = |node: &Node| self.truth.is_past(node.term());
        saw("a leader elected after a disk was lost and another crashed", {
            self.disks > 0
                && self.crashes > 0
                && leads().any(|node| !past(node))
                && leads().any(|node| node.commit().term == node.term())
        });
        saw("all that can happen to disks, and both commands committed", {
            both && self.disks == self.bound.disks && self.crashes == self.bound.crashes
        });
        let asks = |node: &Node| self.asked.iter().any(|(at, _, _)| id(*at) == node.id());
        saw("two leaders of one server's life, a crash between them", {
            let first = |term| self.truth.leader(term) == FRAIL;
            self.crashes > 0 && first(Term(2)) && first(Term(3))
        });
        saw("a read asked of a leader that has a successor", {
            leads().any(|node| past(node) && asks(node))
        });
    }
}

impl Crash {
    /// How the disk may behave in an event that this server writes in.
    fn disks_of(&self, server: u8) -> &'static [Hangs] {
        let free = self.is_frail(server) && self.server(server).hung.is_empty();
        if free { &[Hangs::Not, Hangs::Now, Hangs::AtEntries] } else { &[Hangs::Not] }
    }

    /// Lets something happen while a disk may begin to hang; then something has to hang.
    fn while_hanging(&mut self, hangs: Hangs, happen: impl FnOnce(&mut Crash) -> bool) -> bool {
        self.hangs = hangs;
        let happened = happen(self);
        self.hangs = Hangs::Not;
        happened && (hangs == Hangs::Not || !self.server(FRAIL).hung.is_empty())
    }

    fn delivery(&self, at: usize, way: &Way, next: &mut Next<Crash>) {
        let term = self.node(way.to).term();
        let notice = matches!(way.message.body, Body::Commit { .. });
        let part = bit(way.to);
        let hangs = !self.server(way.to).hung.is_empty();
        if !self.is_next(way) || (hangs && !self.bound.again) {
            return;
        }
        // Who owes a part may pay by following a later leader.
        let pays = self.owed == Owed { part, stand: 0 } && way.message.term > term;
        if !notice && (self.owed == Owed::default() || pays) {
            for hangs in self.disks_of(way.to) {
                next.attempt(self, Event::Heard(way.clone(), *hangs), |world| {
                    world.owed = Owed::default();
                    world.while_hanging(*hangs, |world| {
                        world.deliver(at, true);
                        true
                    })
                });
            }
        }
        // Deliveries to different servers commute: they come in the order of servers. And one
        // whose disk hangs takes part in nothing.
        let in_order = self.owed.part >> (way.to - 1) <= 1;
        let stands = self.owed.stand;
        if !in_order || (stands != 0 && stands != way.to) || hangs {
            return;
        }
        next.attempt(self, Event::Unheard(way.clone()), |world| {
            let before = world.server(way.to).print;
            let grew = world.deliver(at, false);
            world.owed.part |= part;
            world.owed.stand = if notice { way.to } else { stands };
            before != world.server(way.to).print && (grew || notice) && world.may_pay()
        });
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

    fn elections(&self, server: u8, next: &mut Next<Crash>) {
        let node = self.node(server);
        let allowed = self.owed.stand == 0 || self.owed.stand == server;
        let hangs = !self.server(server).hung.is_empty();
        // 2 and 3 begin alike, so 3 is never the first.
        let same = self.servers.iter().all(|server| server.node.term() == Term(1));
        let same = same && self.disks == 0 && self.crashes == 0 && server == 3;
        let from = self.hears_of(server);
        let leads = node.role() == RoleName::Leader && from == node.term();
        if leads || !allowed || hangs || same {
            return;
        }
        let live = |voter: &u8| *voter != server && !self.server(*voter).gone;
        for voter in (1..=SERVERS).filter(live) {
            if self.owed.part & !(bit(server) | bit(voter)) != 0 {
                continue;
            }
            for term in from.0 + 1..=self.bound.terms.0 {
                let both = self.disks_of(server).iter().chain(self.disks_of(voter).iter().skip(1));
                for hangs in both.copied() {
                    let event = Event::Elected { server, voter, term, hangs };
                    next.attempt(self, event, |world| {
                        world.owed = Owed::default();
                        world.while_hanging(hangs, |world| {
                            // A vote that hangs elects nobody, and may be forgotten.
                            let wins = world.elect(server, voter, Term(term));
                            wins || hangs == Hangs::Now
                        })
                    });
                }
            }
        }
    }

    /// What clients ask, and a disk that is lost.
    fn requests(&self, server: u8, next: &mut Next<Crash>) {
        if self.disks < self.bound.disks {
            next.attempt(self, Event::DiskLost(server), |world| {
                world.lose(server);
                true
            });
        }
        if self.node(server).role() != RoleName::Leader {
            return;
        }
        if self.commands < self.bound.commands {
            let number = self.commands + 1;
            for hangs in self.disks_of(server).iter().take(2) {
                next.attempt(self, Event::Command(server, number, *hangs), |world| {
                    world.commands = number;
                    let input = Input::Propose(Ticket(number.into()), [number][..].into());
                    world.while_hanging(*hangs, |world| {
                        let sends = world.step(server, input);
                        world.post(server, sends);
                        true
                    })
                });
            }
        }
        if self.reads < self.bound.reads {
            next.attempt(self, Event::Read(server), |world| {
                world.reads += 1;
                let ticket = Ticket(100 + u64::from(world.reads));
                world.asked.push((server, ticket, world.truth.last()));
                let sends = world.step(server, Input::Read(ticket));
                world.post(server, sends);
                true
            });
        }
    }
}
