//! The simulated world: one seed decides what network and disks do with what the nodes ask.

use crate::checks::{Checks, mix, restore};
use crate::dice::Dice;
use crate::disk::persist;
use quorate_raft::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub const MS: u64 = 1_000_000;
/// Everybody who is ever in the group; who is, changes.
const MEMBERS: u64 = 5;

#[derive(Default)]
pub struct Member {
    pub node: Option<Node>,
    life: u64,
    disk: Restored,
    writes: VecDeque<(IoSeq, Write)>,
    held: Vec<Envelope>,
    durable: IoSeq,
    /// When the disk is done with what it has.
    busy: u64,
    pub state: u64,
    pub applied: Index,
    unflushed: bool,
}

impl Member {
    pub fn is_joint(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.configuration().is_joint())
    }

    fn has_on_disk(&self, entry: LogId) -> bool {
        let covers = |snapshot: &Snapshot| snapshot.last.index >= entry.index;
        self.disk.snapshot.as_ref().is_some_and(covers)
            || self.disk.entries.iter().rev().any(|held| held.id() == entry)
    }
}

pub enum Due {
    Message { to: u64, from: u64, message: Message },
    Disk { id: u64, life: u64, seq: IoSeq },
    Flush { id: u64 },
}

pub struct World {
    configuration: Configuration,
    /// A write takes up to so long.
    flush_ns: u64,
    pub dice: Dice,
    pub now: u64,
    pub members: BTreeMap<u64, Member>,
    due: BTreeMap<(u64, u64), Due>,
    count: u64,
    pub cut: BTreeSet<(u64, u64)>,
    pub faulty: bool,
    /// Whose disk finishes nothing any more.
    pub hung: Option<u64>,
    pub tickets: u64,
    pub checks: Checks,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let voters = [1, 2, 3, 3, 3, 4, 5][usize::try_from(dice.below(7)).expect("small")];
        let learner = voters < MEMBERS && dice.below(100) < 30;
        let name = |id: u64| (MemberId(id.into()), format!("m{id}"));
        let mut configuration = Configuration::of_voters((1..=voters).map(name));
        configuration.learners.extend(learner.then(|| name(voters + 1)));
        let mut world = World {
            configuration,
            flush_ns: [MS, 5 * MS, 60 * MS][usize::try_from(seed % 3).expect("small")],
            dice,
            now: 0,
            members: BTreeMap::new(),
            due: BTreeMap::new(),
            count: 0,
            cut: BTreeSet::new(),
            faulty: true,
            hung: None,
            tickets: 0,
            checks: Checks::default(),
        };
        for id in 1..=MEMBERS {
            world.members.insert(id, Member::default());
        }
        for id in world.members.keys().copied().collect::<Vec<_>>() {
            world.start(id);
        }
        world
    }

    /// Who is what: for the message of a failure.
    pub fn show(&self) -> String {
        let nodes = self.members.values().filter_map(|member| member.node.as_ref());
        let line = |node: &Node| {
            let (id, role, term, last) = (node.id(), node.role(), node.term(), node.last());
            let (commit, configuration) = (node.commit(), node.configuration());
            format!("\n{id} {role:?} {term:?} ends {last} commit {commit} {configuration:?}")
        };
        nodes.map(line).collect()
    }

    /// The latest leader's.
    pub fn configuration_in_effect(&self) -> &Configuration {
        let nodes = self.members.values().filter_map(|member| member.node.as_ref());
        let leaders = nodes.filter(|node| node.role() == RoleName::Leader);
        leaders.max_by_key(|node| node.term()).expect("somebody leads").configuration()
    }

    fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("known")
    }

    pub fn start(&mut self, id: u64) {
        let mut config = Config::new(MemberId(id.into()), self.dice.below(1 << 40));
        config.check = true;
        config.tail_bytes = self.dice.below(300);
        config.window_entries = 1 + self.dice.below(20);
        config.frame_bytes = 1 + self.dice.below(300);
        config.snapshot_chunk_bytes = 1 + self.dice.below(8);
        let now = Time(self.now);
        let member = self.member(id);
        let snapshot = member.disk.snapshot.as_ref();
        member.applied = snapshot.map_or(Index(0), |snapshot| snapshot.last.index);
        member.state = snapshot.map_or(0, |snapshot| restore(&snapshot.data));
        member.node = Some(Node::new(config, now, member.disk.clone()));
        member.life += 1;
        member.durable = IoSeq(0);
        member.busy = now.0;
        if id == 1 && member.disk.term == Term(0) && member.disk.entries.is_empty() {
            let configuration = self.configuration.clone();
            self.act(1, Input::Bootstrap(configuration, b"context"[..].into()));
        }
    }

    /// What was not synced is lost, but for as much as the disk happened to have finished.
    pub fn crash(&mut self, id: u64) {
        let finished = self.dice.below(4);
        let member = self.member(id);
        if member.node.take().is_none() {
            return;
        }
        for _ in 0..finished {
            if let Some((_, write)) = member.writes.pop_front() {
                persist(&mut member.disk, write);
            }
        }
        member.writes.clear();
        member.held.clear();
        self.checks.open.retain(|_, at| *at != id);
        if self.dice.below(100) < 60 {
            let others: Vec<u64> =
                self.members.keys().copied().filter(|other| *other != id).collect();
            others
                .into_iter()
                .for_each(|other| self.act(other, Input::PeerLost(MemberId(id.into()))));
        }
    }

    fn schedule(&mut self, after: u64, due: Due) {
        self.count += 1;
        self.due.insert((self.now + after, self.count), due);
    }

    pub fn act(&mut self, id: u64, input: Input) {
        let now = Time(self.now);
        let lazy = self.dice.below(100) < 20;
        let member = self.member(id);
        let Some(node) = &mut member.node else { return };
        let mut out = Output::default();
        node.step(now, input, &mut out);
        self.absorb(id, &mut out);
        if lazy {
            self.member(id).unflushed = true;
            self.schedule(self.count % 3 * 100_000, Due::Flush { id });
        } else {
            self.flush(id);
        }
    }

    fn flush(&mut self, id: u64) {
        let now = Time(self.now);
        let member = self.member(id);
        let mut out = Output::default();
        if let Some(node) = &mut member.node {
            node.flush(now, &mut out);
            self.absorb(id, &mut out);
        }
    }

    fn absorb(&mut self, id: u64, out: &mut Output) {
        for event in out.events.drain(..) {
            if let Event::SnapshotInstalled(snapshot) = &event {
                self.member(id).state = restore(&snapshot.data);
                self.member(id).applied = snapshot.last.index;
            }
            self.checks.event(id, &event);
        }
        if let Some(range) = out.apply.take() {
            self.apply(id, range.start().0, range.end().0);
        }
        out.done.drain(..).for_each(|(ticket, outcome)| self.checks.done(ticket, outcome));
        for (seq, write) in out.writes.drain(..) {
            let stall = if self.faulty && self.dice.below(500) == 0 { 2000 * MS } else { 0 };
            let took = self.dice.below(self.flush_ns) + stall;
            let now = self.now;
            let member = self.member(id);
            member.writes.push_back((seq, write));
            member.busy = member.busy.max(now + took);
            let (after, life) = (member.busy - now, member.life);
            if self.hung != Some(id) {
                self.schedule(after, Due::Disk { id, life, seq });
            }
        }
        for envelope in out.sends.drain(..) {
            if envelope.after <= self.member(id).durable {
                self.send(id, envelope);
            } else {
                self.member(id).held.push(envelope);
            }
        }
        if let Some(node) = &self.members[&id].node {
            self.checks.leader(id, node);
        }
    }

    fn apply(&mut self, id: u64, first: u64, last: u64) {
        for index in (first..=last).map(Index) {
            let member = self.members.get_mut(&id).expect("known");
            let node = member.node.as_ref().expect("it just spoke");
            assert_eq!(member.applied.next(), index, "{id} applies each index once, in order");
            let entry = node.entry(index).expect("what is handed out is in memory");
            member.applied = index;
            member.state = mix(member.state, entry.bytes());
            self.checks.applied(id, entry.id(), member.state);
            if entry.kind() == Kind::Configuration {
                let (configuration, _) = Configuration::decode(entry.payload()).expect("it is one");
                self.checks.configuration(Configuration { index, ..configuration });
            }
            let (entry, node) = (entry.id(), self.members[&id].node.as_ref().expect("it spoke"));
            let on_disk = |id| self.members.get(&id).is_some_and(|m| m.has_on_disk(entry));
            Checks::durable(id, node, entry, on_disk);
        }
        self.act(id, Input::Applied(Index(last)));
    }

    fn send(&mut self, from: u64, envelope: Envelope) {
        let to = u64::try_from(envelope.to.0).expect("small");
        let copies = match self.dice.below(100) {
            0..5 if self.faulty => 0,
            5..8 if self.faulty => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let late = self.faulty && self.dice.below(100) < 2;
            let after = self.dice.below(if late { 1500 * MS } else { 5 * MS });
            let message = envelope.message.clone();
            self.schedule(after, Due::Message { to, from, message });
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Message { to, from, message } => {
                if !self.cut.contains(&(from, to)) {
                    self.act(to, Input::Recv(MemberId(from.into()), message));
                }
            }
            Due::Flush { id } => {
                if std::mem::take(&mut self.member(id).unflushed) {
                    self.flush(id);
                }
            }
            Due::Disk { id, life, seq } => {
                let member = self.member(id);
                if member.life != life || member.node.is_none() {
                    return;
                }
                let (written, write) = member.writes.pop_front().expect("scheduled with the write");
                assert_eq!(written, seq);
                persist(&mut member.disk, write);
                member.durable = seq;
                let held = std::mem::take(&mut member.held);
                let (free, held) = held.into_iter().partition(|envelope| envelope.after <= seq);
                member.held = held;
                let free: Vec<Envelope> = free;
                free.into_iter().for_each(|envelope| self.send(id, envelope));
                self.act(id, Input::Durable(seq));
            }
        }
    }

    pub fn run(&mut self, nanos: u64, mut every: impl FnMut(&mut World)) {
        let end = self.now + nanos;
        let mut next_round = self.now;
        while self.now < end {
            let timer = self.members.iter().filter_map(|(id, member)| {
                member.node.as_ref().map(|node| (node.deadline().0, *id))
            });
            let timer = timer.min().unwrap_or((u64::MAX, 0));
            let due = self.due.first_key_value().map_or(u64::MAX, |((at, _), _)| *at);
            let next = timer.0.min(due).min(next_round).min(end);
            self.now = self.now.max(next);
            if next == next_round {
                next_round += 10 * MS;
                every(self);
            } else if next == due {
                let (_, due) = self.due.pop_first().expect("seen above");
                self.happen(due);
            } else if next == timer.0 {
                self.act(timer.1, Input::Timer);
            }
        }
    }
}
