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
    pub installs: u64,
    pub confirmed_reads: u64,
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

    /// Honest nodes never take each other for liars.
    pub fn event(&mut self, id: u64, event: &Event) {
        match event {
            Event::SnapshotInstalled(Snapshot { last, data, .. }) => {
                assert_eq!(self.committed[&last.index], (*last, restore(data)));
                self.installs += 1;
            }
            Event::Ignored { why, from } => {
                let own = why.contains("snapshot") && *from == MemberId(id.into());
                assert!(own, "{id} ignored {from}: {why}");
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
