//! The log in memory: the snapshot, the entries after it, a tail before it, and the configurations
//! that they put in effect.
//!
//! Invariants: entries are consecutive from `base`, terms never fall; `base <= snapshot.last`; the
//! configuration is a function of snapshot and entries alone; `durable` never exceeds the last
//! entry. Must not know roles, peers or commitment.

use crate::configuration::Configuration;
use crate::message::Snapshot;
use crate::planted::{self, Bug};
use crate::types::{Entry, Index, Kind, LogId, MemberId, Term};
use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

#[derive(Clone)]
pub(crate) struct Log {
    snapshot: Option<Snapshot>,
    /// The entry before the first one in memory.
    base: LogId,
    entries: VecDeque<Entry>,
    /// Never empty: the snapshot's, then one for each configuration entry after it. Each knows its
    /// own index; the snapshot's may have come without, and then takes the snapshot's.
    configurations: Vec<Configuration>,
    /// Rises whenever another configuration takes effect.
    version: u64,
    /// Bytes of the entries after the snapshot.
    bytes: u64,
    durable: Index,
}

impl Log {
    /// What the disk had. Entries that do not continue the log are dropped with all after them.
    pub(crate) fn new(snapshot: Option<Snapshot>, entries: Vec<Entry>) -> Log {
        let base = snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let configuration = snapshot.as_ref().map(configuration_at).unwrap_or_default();
        let mut log = Log {
            snapshot,
            base,
            entries: VecDeque::new(),
            configurations: vec![configuration],
            version: 0,
            bytes: 0,
            durable: base.index,
        };
        for entry in entries {
            let last = log.last();
            if entry.id().index != last.index.next() || entry.id().term < last.term {
                break;
            }
            log.push(entry);
        }
        log.durable = log.last().index;
        if planted::is(Bug::RestartForgetsConfiguration) && log.configurations.len() > 2 {
            log.configurations.pop();
        }
        log
    }

    /// The last entry; the snapshot's if there is none after it.
    pub(crate) fn last(&self) -> LogId {
        self.entries.back().map_or(self.base, Entry::id)
    }

    /// The entry before the first one in memory.
    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    pub(crate) fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// The last index that the snapshot covers; 0 without one.
    pub(crate) fn snapshot_index(&self) -> Index {
        self.snapshot.as_ref().map_or(Index(0), |snapshot| snapshot.last.index)
    }

    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// A write ended that made the log durable up to here.
    pub(crate) fn set_durable(&mut self, upto: Index) {
        assert!(upto <= self.last().index, "a write that ended describes the log");
        self.durable = self.durable.max(upto);
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        let after = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        self.entries.get(usize::try_from(after).ok()?)
    }

    /// The identity of the entry there; also of the one just before the first.
    pub(crate) fn id_at(&self, index: Index) -> Option<LogId> {
        if index == self.base.index {
            return Some(self.base);
        }
        self.entry(index).map(Entry::id)
    }

    pub(crate) fn holds(&self, id: LogId) -> bool {
        self.id_at(id.index) == Some(id)
    }

    /// The last entry at or before `index` whose term is at most `term`. Terms never fall along the
    /// log, so a whole term is skipped at once. `None` if it lies before what is in memory.
    pub(crate) fn last_at_most(&self, term: Term, index: Index) -> Option<LogId> {
        let end = index.0.checked_sub(self.base.index.0)?;
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(self.entries.len());
        let (mut low, mut high) = (0, end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entries[middle].id().term <= term { low = middle + 1 } else { high = middle }
        }
        match low.checked_sub(1) {
            Some(at) => Some(self.entries[at].id()),
            None if self.base.term <= term => Some(self.base),
            None => None,
        }
    }

    /// Entries from `first` on: as many as fit, and always one if there is one.
    pub(crate) fn entries_from(&self, first: Index, count: u64, bytes: u64) -> Vec<Entry> {
        let mut taken = Vec::new();
        let mut left = bytes;
        let mut index = first;
        while let Some(entry) = self.entry(index) {
            let cost = entry_cost(entry);
            if !taken.is_empty() && (cost > left || index.0 - first.0 >= count) {
                break;
            }
            left = left.saturating_sub(cost);
            taken.push(entry.clone());
            index = index.next();
        }
        taken
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert!(entry.id().index == last.index.next(), "the log has no gaps");
        assert!(entry.id().term >= last.term, "terms never fall along the log");
        if let Some(configuration) = configuration_of(&entry) {
            self.configurations.push(configuration);
            self.version += 1;
        }
        self.bytes += entry_cost(&entry);
        self.entries.push_back(entry);
    }

    /// Drops everything from `from` on, which lies after the snapshot.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.snapshot_index(), "what a snapshot covers is committed");
        while let Some(entry) = self.entries.back()
            && entry.id().index >= from
        {
            self.bytes -= entry_cost(entry);
            self.entries.pop_back();
        }
        let keep = planted::is(Bug::TruncationKeepsConfiguration);
        while !keep && self.configurations.len() > 1 && self.configuration_index() >= from {
            self.configurations.pop();
            self.version += 1;
        }
        self.durable = self.durable.min(from.previous());
    }

    /// Takes the leader's snapshot in place of everything before it, and of everything after it
    /// unless the log holds its last entry. `agreed`: up to where the old log equals the leader's.
    pub(crate) fn install(&mut self, snapshot: Snapshot, agreed: Index) -> bool {
        let last = snapshot.last;
        assert!(last.index > agreed && agreed >= self.snapshot_index());
        let keep_suffix = self.holds(last) && !planted::is(Bug::InstallDropsSuffix);
        if keep_suffix {
            self.configurations.retain(|after| after.index > last.index);
        } else {
            self.entries.clear();
            let later = |found: &Configuration| found.index > last.index;
            let keep = |found: &_| planted::is(Bug::InstallKeepsConfiguration) && later(found);
            self.configurations.retain(keep);
            self.durable = self.durable.min(agreed);
        }
        self.configurations.insert(0, configuration_at(&snapshot));
        self.version += 1;
        self.snapshot = Some(snapshot);
        self.drop_before(last);
        self.count_bytes();
        keep_suffix
    }

    /// Takes our own snapshot, with the configuration as of it, and forgets what lies more than
    /// `tail_bytes` before it. Gives the last entry forgotten, which may be one forgotten before.
    pub(crate) fn compact(&mut self, mut snapshot: Snapshot, tail_bytes: u64) -> Index {
        let last = snapshot.last;
        assert!(self.holds(last) && last.index > self.snapshot_index());
        let later = planted::is(Bug::SnapshotOfLaterConfiguration);
        let as_of = if later { Index(u64::MAX) } else { last.index };
        snapshot.configuration = self.configuration_entry(as_of).clone();
        self.configurations.retain(|after| after.index > last.index);
        self.configurations.insert(0, snapshot.configuration.clone());
        self.snapshot = Some(snapshot);
        let mut keep = 0;
        let mut first = last.index;
        while let Some(entry) = self.entry(first) {
            keep += entry_cost(entry);
            if keep > tail_bytes {
                break;
            }
            first = first.previous();
        }
        let base = self.id_at(first).unwrap_or(self.base);
        self.drop_before(base);
        self.count_bytes();
        base.index
    }

    fn drop_before(&mut self, base: LogId) {
        while self.entries.front().is_some_and(|entry| entry.id().index <= base.index) {
            self.entries.pop_front();
        }
        self.base = base;
    }

    fn count_bytes(&mut self) {
        let after = self.snapshot_index();
        let fresh = self.entries.iter().rev().take_while(|entry| entry.id().index > after);
        self.bytes = fresh.map(entry_cost).sum();
    }

    /// Bytes of the entries after the snapshot.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the entries after `index`.
    pub(crate) fn bytes_after(&self, index: Index) -> u64 {
        let fresh = self.entries.iter().rev().take_while(|entry| entry.id().index > index);
        fresh.map(entry_cost).sum()
    }

    /// The configuration in effect.
    pub(crate) fn configuration(&self) -> &Configuration {
        self.configuration_entry(Index(u64::MAX))
    }

    /// Where it took effect.
    pub(crate) fn configuration_index(&self) -> Index {
        self.configuration().index
    }

    /// The configuration in effect at `index`, which the snapshot does not cover.
    fn configuration_entry(&self, index: Index) -> &Configuration {
        let found = self.configurations.iter().rfind(|found| found.index <= index);
        found.or(self.configurations.first()).expect("the snapshot's stays, so it is never empty")
    }

    /// Whether this member votes in a configuration that was in effect at `index`, or is since.
    pub(crate) fn is_voter_from(&self, index: Index, id: MemberId) -> bool {
        let first = self.configuration_entry(index).index;
        let since = self.configurations.iter().rev().take_while(|found| found.index >= first);
        since.into_iter().any(|found| found.is_voter(id))
    }

    /// See [`crate::Node::fingerprint`].
    pub(crate) fn hash_content(&self, into: &mut impl Hasher) {
        (&self.snapshot, self.base, self.durable).hash(into);
        self.entries.hash(into);
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// `window`: how many entries from the end are looked at, so that a check costs no more than a
    /// step.
    pub(crate) fn check(&self, window: usize) {
        assert!(self.snapshot.is_some() || self.base == LogId::ZERO, "only snapshots end a log");
        assert!(self.base.index <= self.snapshot_index());
        assert!(self.snapshot_index() <= self.last().index && self.durable <= self.last().index);
        assert!(!self.configurations.is_empty());
        assert!(self.configurations.is_sorted_by(|a, b| a.index < b.index));
        assert!(self.configurations[0].index <= self.snapshot_index());
        assert!(self.configuration_index() <= self.last().index);
        let mut after: Option<LogId> = None;
        for entry in self.entries.iter().rev().take(window) {
            if let Some(after) = after {
                assert!(entry.id().index.next() == after.index && entry.id().term <= after.term);
            }
            after = Some(entry.id());
        }
        let count = u64::try_from(self.entries.len()).expect("memory is smaller");
        assert!(self.base.index.0 + count == self.last().index.0, "the log has no gaps");
    }
}

/// The configuration of a snapshot. A disk or an older peer may not tell its index, or one that
/// cannot be.
fn configuration_at(snapshot: &Snapshot) -> Configuration {
    let (mut configuration, last) = (snapshot.configuration.clone(), snapshot.last.index);
    if !configuration.is_sound() {
        configuration = Configuration::default();
    }
    if configuration.index == Index(0) || configuration.index > last {
        configuration.index = last;
    }
    configuration
}

/// What an entry costs against any limit: its bytes and a frame's overhead for it.
pub(crate) fn entry_cost(entry: &Entry) -> u64 {
    const OVERHEAD: u64 = 15;
    u64::try_from(entry.bytes().len()).unwrap_or(u64::MAX).saturating_add(OVERHEAD)
}

/// The configuration that an entry puts in effect. One that does not decode, or that nobody could
/// lead under, puts none: it was refused when it came from a peer, and a disk that holds it still
/// must not stop us.
pub(crate) fn configuration_of(entry: &Entry) -> Option<Configuration> {
    if entry.kind() != Kind::Configuration {
        return None;
    }
    let (mut configuration, _context) = Configuration::decode(entry.payload()).ok()?;
    configuration.index = entry.id().index;
    configuration.is_sound().then_some(configuration)
}
