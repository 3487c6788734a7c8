//! What must hold in every run: judged from what nodes say and apply, not from how they do it.

use quorate_raft::*;
use std::collections::{BTreeMap, BTreeSet};

/// What was seen so far.
#[derive(Default)]
pub struct Checks {
    pub leaders: BTreeMap<Term, u64>,
    /// What was applied at each index, and the state after it.
    pub committed: BTreeMap<Index, (LogId, u64)>,
    /// Reads under way: the last index applied anywhere when they were asked.
    reads: BTreeMap<Ticket, Index>,
    answered: BTreeSet<Ticket>,
    /// Asked and not answered: at which member.
    pub open: BTreeMap<Ticket, u64>,
    /// The last configuration that was committed.
    configuration: Configuration,
    pub endings: Endings,
    pub installs: u64,
    pub confirmed_reads: u64,
}

/// How often changes of the membership ended how.
#[derive(Default, Debug)]
pub struct Endings {
    pub changed: u64,
    pub given_up: u64,
    pub refused: u64,
    pub unknown: u64,
    pub joint: u64,
}

/// By the definition, and not by the rule of the crate.
fn majority(half: &BTreeMap<MemberId, String>, agrees: impl Fn(u64) -> bool) -> bool {
    let number = |id: &MemberId| u64::try_from(id.0).expect("small");
    half.is_empty() || half.keys().filter(|id| agrees(number(id))).count() * 2 > half.len()
}

/// The state machine: a hash over everything applied.
pub fn mix(state: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(state, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The state in a snapshot.
pub fn restore(data: &[u8]) -> u64 {
    u64::from_le_bytes(data.try_into().expect("eight bytes were written"))
}

impl Checks {
    pub fn last(&self) -> Index {
        self.committed.last_key_value().map_or(Index(0), |(index, _)| *index)
    }

    pub fn read_asked(&mut self, ticket: Ticket) {
        let last = self.last();
        self.reads.insert(ticket, last);
    }

    /// Every ticket is answered once, and no read is stale.
    pub fn done(&mut self, ticket: Ticket, outcome: Outcome) {
        assert!(self.answered.insert(ticket), "{ticket:?} answered twice");
        self.open.remove(&ticket);
        match outcome {
            Outcome::Changed(index) => {
                self.endings.changed += 1;
                let committed = self.last() >= index;
                assert!(committed || self.configuration.index < index, "{outcome:?} too late");
            }
            Outcome::NotChanged(Refused::GivenUp) => self.endings.given_up += 1,
            Outcome::NotChanged(_) => self.endings.refused += 1,
            Outcome::Unknown(_) => self.endings.unknown += 1,
            _ => {}
        }
        if let (Outcome::ReadAt(index), Some(least)) = (outcome, self.reads.remove(&ticket)) {
            assert!(index >= least, "a stale read: {index:?} below {least:?}");
            self.confirmed_reads += 1;
        }
    }

    /// What is committed never changes, and is the same everywhere.
    pub fn applied(&mut self, id: u64, entry: LogId, state: u64) {
        let before = *self.committed.entry(entry.index).or_insert((entry, state));
        assert_eq!(before, (entry, state), "{id} applies something else");
    }

    /// Quorums of any two configurations that follow each other share a voter: a simple one is
    /// followed by the same voters or by a joint one on them, and that by one of its halves.
    pub fn configuration(&mut self, next: Configuration) {
        let before = &self.configuration;
        if next.index <= before.index {
            return;
        }
        let same = |a: &BTreeMap<_, _>, b: &BTreeMap<_, _>| a.keys().eq(b.keys());
        let follows = if before.is_joint() {
            let half = same(&next.incoming, &before.incoming);
            !next.is_joint() && (half || same(&next.incoming, &before.outgoing))
        } else if next.is_joint() {
            same(&next.outgoing, &before.incoming)
        } else {
            same(&next.incoming, &before.incoming)
        };
        assert!(before.is_empty() || follows, "{next:?} follows {before:?}");
        self.endings.joint += u64::from(next.is_joint());
        self.configuration = next;
    }

    /// What a leader commits is on the disks of a majority of each half.
    pub fn durable(id: u64, node: &Node, entry: LogId, on_disk: impl Fn(u64) -> bool) {
        let configuration = node.configuration();
        let fresh = configuration.is_joint() && configuration.index == node.last().index;
        if node.role() == RoleName::Leader && !fresh {
            let Configuration { incoming, outgoing, .. } = configuration;
            let both = majority(incoming, &on_disk) && majority(outgoing, &on_disk);
            assert!(both, "{id} commits {entry} on the disks of no quorum of {configuration:?}");
        }
    }

    /// Honest nodes never take each other for liars.
    pub fn event(&mut self, id: u64, event: &Event) {
        match event {
            Event::SnapshotInstalled(Snapshot { last, data, .. }) => {
                assert_eq!(self.committed[&last.index], (*last, restore(data)));
                self.installs += 1;
            }
            Event::Ignored { why, from } => {
                let own = why.contains("snapshot") && *from == MemberId(id.into());
                // The late answer of one that has left.
                let left = *why == "an answer of no member";
                assert!(own || left, "{id} ignored {from}: {why}");
            }
            _ => {}
        }
    }

    /// One leader a term, and the latest has everything that was committed.
    pub fn leader(&mut self, id: u64, node: &Node) {
        if node.role() != RoleName::Leader {
            return;
        }
        let first = *self.leaders.entry(node.term()).or_insert(id);
        assert_eq!(first, id, "two leaders of {:?}", node.term());
        let latest = self.leaders.keys().next_back() == Some(&node.term());
        if let Some((index, (entry, _))) = self.committed.last_key_value().filter(|_| latest) {
            assert!(node.last().index >= *index, "leader {id} lacks what is committed");
            let held = node.entry(*index).map(Entry::id);
            assert!(held.is_none_or(|held| held == *entry), "leader {id} has another entry");
        }
    }

    /// If two logs share an entry, they share all before it.
    pub fn logs<'a>(nodes: impl Iterator<Item = &'a Node>) {
        let nodes: Vec<&Node> = nodes.collect();
        for (a, b) in nodes.iter().flat_map(|a| nodes.iter().map(move |b| (a, b))) {
            let mut same = false;
            for index in (1..=a.last().index.0.min(b.last().index.0)).rev().map(Index) {
                let (Some(x), Some(y)) = (a.entry(index), b.entry(index)) else { break };
                same |= x.id() == y.id();
                assert!(!same || x == y, "{:?} and {:?} differ at {index:?}", a.id(), b.id());
            }
        }
    }
}
