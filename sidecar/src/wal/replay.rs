//! Records, one after another, as the state that they leave.
//!
//! Invariants: entries are consecutive; the later record wins by index. Must not panic on any
//! records: a good checksum says who wrote them, not that they make sense.

use super::format::{self, Header};
use crate::planted::{self, Bug};
use quorate_raft::{Entry, Index, LogId, MemberId, Restored, Snapshot, Term};

/// The state.
#[derive(Debug, Default)]
pub struct Replay {
    /// The term.
    pub term: Term,
    /// The vote in it.
    pub vote: Option<MemberId>,
    /// The newest snapshot that the log names as durable.
    pub snapshot: LogId,
    /// The index before the first entry.
    pub base: Index,
    /// The term there, where it is known.
    pub base_term: Option<Term>,
    /// Entries after `base`.
    pub entries: Vec<Entry>,
    /// How often the log was opened.
    pub opened: u64,
    /// Entries of segments before this one are void: a snapshot was installed over them.
    pub void_before: u64,
}

impl Replay {
    /// Starts from the first segment that is left.
    pub fn begin(&mut self, header: &Header) {
        self.term = header.term;
        self.vote = header.vote;
        self.snapshot = header.snapshot;
        self.base = header.last.index;
        self.base_term = Some(header.last.term);
    }

    /// Whether a later segment's header says what the records before it say.
    #[must_use]
    pub fn agrees(&self, header: &Header) -> bool {
        let vote = header.vote == self.vote || planted::is(Bug::VoteLostWithItsSegment);
        let hard_state = header.term == self.term && vote;
        hard_state && header.snapshot == self.snapshot && header.last == self.last()
    }

    /// The last entry; term 0 where it is not known.
    #[must_use]
    pub fn last(&self) -> LogId {
        let base = LogId { term: self.base_term.unwrap_or_default(), index: self.base };
        self.entries.last().map_or(base, Entry::id)
    }

    /// Whether the log has this entry.
    #[must_use]
    pub fn holds(&self, id: LogId) -> bool {
        if id.index == self.base {
            return Some(id.term) == self.base_term;
        }
        self.position(id.index).is_some_and(|at| self.entries[at].id() == id)
    }

    /// Takes a record of segment `number`; gives the index of the entry in it, or 0.
    ///
    /// # Errors
    /// Why the record makes no sense.
    pub fn record(&mut self, kind: u8, body: &[u8], number: u64) -> Result<Index, String> {
        match kind {
            format::HARD_STATE => {
                let (term, vote) =
                    format::hard_state(body).ok_or("a hard state of wrong length")?;
                if term < self.term {
                    return Err(format!("term {} after term {}", term.0, self.term.0));
                }
                (self.term, self.vote) = (term, vote);
            }
            format::ENTRY => {
                let entry = Entry::decode(body.into()).map_err(|e| format!("an entry: {e}"))?;
                return self.entry(entry);
            }
            format::SNAPSHOT => {
                let (last, how) =
                    format::snapshot_record(body).ok_or("a snapshot of wrong form")?;
                self.snapshot_record(last, how, number);
            }
            format::OPENED => {
                self.opened = format::number_record(body).ok_or("an opening of wrong length")?;
            }
            _ => return Err(format!("a record of kind {kind}")),
        }
        Ok(Index(0))
    }

    fn entry(&mut self, entry: Entry) -> Result<Index, String> {
        let id = entry.id();
        let last = self.last().index;
        if id.index > last.next() {
            return Err(format!("entry {id} after index {}", last.0));
        }
        if let Some(at) = self.position(id.index) {
            self.entries.truncate(at);
        } else if id.index <= self.base {
            self.entries.clear();
            self.base = id.index.previous();
            self.base_term = (self.base == Index(0)).then_some(Term(0));
        }
        self.entries.push(entry);
        Ok(id.index)
    }

    fn snapshot_record(&mut self, last: LogId, how: u8, number: u64) {
        if last.index > self.snapshot.index {
            self.snapshot = last;
        }
        // Segments that held it may be gone since: then the writer's word counts.
        let gone = last.index < self.base || (last.index == self.base && self.base_term.is_none());
        let held = gone || self.holds(last);
        let stays = how == format::BUILT || (how == format::INSTALLED_INSIDE && held);
        if !stays {
            self.entries.clear();
            self.base = last.index;
            self.base_term = Some(last.term);
            self.void_before = number;
        }
    }

    fn position(&self, index: Index) -> Option<usize> {
        let after = index.0.checked_sub(self.base.0)?.checked_sub(1)?;
        usize::try_from(after).ok().filter(|at| *at < self.entries.len())
    }

    /// The state for a node: log after the snapshot only if the log holds the snapshot's last
    /// entry.
    #[must_use]
    pub fn restore(&mut self, snapshot: Option<Snapshot>) -> Restored {
        let mut entries = std::mem::take(&mut self.entries);
        let (mut term, mut vote) = (self.term, self.vote);
        if let Some(snapshot) = &snapshot {
            let last = snapshot.last;
            let base = LogId { term: self.base_term.unwrap_or_default(), index: self.base };
            let at = last.index.0.saturating_sub(self.base.0);
            let at = usize::try_from(at).unwrap_or(usize::MAX);
            let before = match at.checked_sub(1) {
                None => Some(base),
                Some(before) => entries.get(before).map(Entry::id),
            };
            if before == Some(last) {
                entries.drain(..at);
            } else {
                entries.clear();
            }
            if last.term > term {
                (term, vote) = (last.term, None);
            }
        }
        Restored { term, vote, snapshot, entries }
    }
}
