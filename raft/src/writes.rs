//! The ordered log of writes: which are on their way, and what each makes durable when it ends.
//!
//! Invariants: numbers rise by one; a write that was overtaken by a truncation never counts for an
//! index that it no longer describes, even if the same entry is appended again later: the disk may
//! hold the truncation and not the second append (A, B, A). Must not know roles or peers.

use crate::message::{Output, Snapshot, Write};
use crate::planted::{self, Bug};
use crate::types::{Entry, Index, IoSeq, MemberId, Term, Time};
use std::collections::VecDeque;

#[derive(Clone, Default)]
pub(crate) struct Writes {
    last: IoSeq,
    hard_state: IoSeq,
    pending: VecDeque<Pending>,
}

#[derive(Clone)]
struct Pending {
    seq: IoSeq,
    since: Time,
    /// The log is durable up to here when this ends; lowered by truncation. 0: no entries.
    upto: Index,
}

impl Writes {
    /// Term and vote. Two in one batch become one: the later implies the earlier.
    pub(crate) fn hard_state(
        &mut self,
        now: Time,
        term: Term,
        vote: Option<MemberId>,
        out: &mut Output,
    ) {
        let write = Write::HardState { term, vote };
        match out.writes.last_mut() {
            Some((seq, last @ Write::HardState { .. })) if *seq == self.last => *last = write,
            _ => self.push(now, Index(0), write, out),
        }
        self.hard_state = self.last;
    }

    /// Entries. Consecutive ones of one batch become one write.
    pub(crate) fn append(&mut self, now: Time, entries: &[Entry], out: &mut Output) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let (first, upto) = (first.id().index, last.id().index);
        if let Some((seq, Write::Append(earlier))) = out.writes.last_mut()
            && *seq == self.last
            && earlier.last().is_some_and(|end| end.id().index.next() == first)
            && let Some(pending) = self.pending.back_mut()
            && pending.upto.next() == first
        {
            earlier.extend_from_slice(entries);
            pending.upto = upto;
            return;
        }
        self.push(now, upto, Write::Append(entries.to_vec()), out);
    }

    /// A snapshot of our own: what it covers was durable before.
    pub(crate) fn snapshot(
        &mut self,
        now: Time,
        snapshot: Snapshot,
        drop_to: Index,
        out: &mut Output,
    ) {
        assert!(drop_to <= snapshot.last.index, "entries after a snapshot are never dropped");
        self.push(now, Index(0), Write::Snapshot { snapshot, drop_to }, out);
    }

    /// The leader's snapshot; gives the write to wait for.
    pub(crate) fn install(
        &mut self,
        now: Time,
        snapshot: Snapshot,
        keep_suffix: bool,
        out: &mut Output,
    ) -> IoSeq {
        let upto = snapshot.last.index;
        self.push(now, upto, Write::Install { snapshot, keep_suffix }, out);
        self.last
    }

    fn push(&mut self, since: Time, upto: Index, write: Write, out: &mut Output) {
        let seq = IoSeq(self.last.0 + 1);
        assert!(self.pending.back().is_none_or(|pending| pending.seq < seq));
        self.last = seq;
        self.pending.push_back(Pending { seq, since, upto });
        out.writes.push((seq, write));
    }

    /// Entries from here on were replaced: what is on its way no longer counts for them.
    pub(crate) fn truncate(&mut self, from: Index) {
        let stay = planted::is(Bug::OldWriteCounts);
        for pending in self.pending.iter_mut().filter(|_| !stay) {
            pending.upto = pending.upto.min(from.previous());
        }
    }

    /// All writes up to `seq` are durable; gives how far the log is by them.
    pub(crate) fn complete(&mut self, seq: IoSeq) -> Index {
        let mut upto = Index(0);
        while let Some(pending) = self.pending.front()
            && pending.seq <= seq
        {
            upto = upto.max(pending.upto);
            self.pending.pop_front();
        }
        upto
    }

    /// The write to wait for until the log is durable up to `index`, which is not durable yet.
    pub(crate) fn fence(&self, index: Index) -> IoSeq {
        let covering = self.pending.iter().find(|pending| pending.upto >= index);
        covering.map_or(self.last, |pending| pending.seq)
    }

    /// The write to wait for until term and vote are durable; 0 if they are.
    pub(crate) fn hard_state_fence(&self) -> IoSeq {
        match self.pending.front() {
            Some(pending) if pending.seq <= self.hard_state => self.hard_state,
            _ => IoSeq(0),
        }
    }

    /// When the oldest unfinished write was issued.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.pending.front().map(|pending| pending.since)
    }

    pub(crate) fn check(&self, last: Index) {
        assert!(self.hard_state <= self.last);
        let mut before = IoSeq(0);
        for pending in &self.pending {
            assert!(before < pending.seq && pending.seq <= self.last, "writes end in order");
            assert!(pending.upto <= last, "a write on its way describes the log");
            before = pending.seq;
        }
    }
}
