//! A member's log, and beside it what it must hold: each life is judged when the next one begins.

use crate::model::{Model, Random, snapshot};
use crate::recorder::Handle;
use crate::store::{Ending, Memory, Store};
use quorate_raft::{Entry, Index, IoSeq, Kind, LogId, MemberId, Term, Write};
use quorate_sidecar::wal::{Recovered, Verdict, Wal};

pub const ME: MemberId = MemberId(7);

/// See the module. Once the disk has stopped, nothing here does anything.
pub struct Life<S: Store> {
    pub disk: Handle<S>,
    pub model: Model,
    pub random: Random,
    wal: Option<Wal<Handle<S>>>,
}

impl<S: Store> Life<S> {
    /// The first one, on an empty store, with so many operations to go.
    pub fn new(store: S, seed: u64, left: Option<u64>) -> Life<S> {
        Life::after(store, Model::new(), seed, left)
    }

    /// One that follows the lives which this model saw.
    pub fn after(store: S, model: Model, seed: u64, left: Option<u64>) -> Life<S> {
        let disk = Handle::new(store, seed ^ 0x5eed, left);
        Life { disk, model, random: Random(seed), wal: None }
    }

    /// Begins a life; panics if it does not find what the ones before left.
    pub fn open(&mut self) {
        self.disk.forget();
        if self.disk.is_stopped() {
            return;
        }
        match Wal::open(self.disk.clone(), ME) {
            Ok((wal, recovered)) => {
                if let Err(why) = judge(&self.model, &recovered) {
                    panic!("{why}");
                }
                self.model = Model::restart(&recovered.restored);
                self.wal = Some(wal);
            }
            Err(error) => assert!(self.disk.is_stopped(), "an opening was refused: {error}"),
        }
    }

    /// Hands over writes as one batch.
    pub fn submit(&mut self, writes: Vec<Write>) {
        let Some(wal) = self.wal.as_mut().filter(|_| !self.disk.is_stopped()) else { return };
        let numbered = writes.into_iter().map(|write| (note(&mut self.model, &write), write));
        wal.submit(&mut numbered.collect());
    }

    /// Hands over some possible writes.
    pub fn submit_any(&mut self) {
        let Some(wal) = self.wal.as_mut().filter(|_| !self.disk.is_stopped()) else { return };
        wal.submit(&mut self.model.writes(&mut self.random, 600));
    }

    /// Lets at most so many operations happen.
    pub fn steps(&mut self, most: u64) {
        for _ in 0..most {
            if !self.disk.step() {
                break;
            }
            if let Some(wal) = &self.wal {
                self.model.durable = durable(wal);
            }
        }
    }

    /// Lets everything happen that was handed over.
    pub fn settle(&mut self) {
        self.steps(u64::MAX);
    }

    /// Ends the log in good order; what it had begun of jobs beside stays as it is.
    pub fn close(&mut self) {
        let Some(wal) = self.wal.take() else { return };
        wal.close();
        if !self.disk.is_stopped() {
            self.model.durable = IoSeq(self.model.seq);
        }
    }

    pub fn last(&self) -> LogId {
        self.model.now().last()
    }

    pub fn append(&mut self, count: u64, bytes: usize) {
        let last = self.last();
        let term = self.model.now().term.max(last.term.0).max(1);
        self.submit(vec![entries(term, last.index.0 + 1, count, bytes)]);
    }

    /// A new term, and in it other entries in place of the last ones.
    pub fn replace(&mut self, back: u64, count: u64, bytes: usize) {
        let first = self.last().index.0 + 1 - back;
        let term = self.model.now().term.max(self.last().term.0) + 1;
        let hard_state = Write::HardState { term: Term(term), vote: Some(MemberId(2)) };
        self.submit(vec![hard_state, entries(term, first, count, bytes)]);
    }

    pub fn vote(&mut self, vote: Option<u128>) {
        let term = Term(self.model.now().term + 1);
        self.submit(vec![Write::HardState { term, vote: vote.map(MemberId) }]);
    }

    /// A vote in the term that is.
    pub fn vote_now(&mut self, vote: u128) {
        let term = Term(self.model.now().term);
        self.submit(vec![Write::HardState { term, vote: Some(MemberId(vote)) }]);
    }

    /// A snapshot of the member's own, of all but the last entries.
    pub fn compact(&mut self, behind: usize) {
        self.settle();
        let held = self.model.now().entries.iter().rev().nth(behind).map(Entry::id);
        let Some(last) = held else { return };
        let drop_to = Index(last.index.0.saturating_sub(2));
        self.submit(vec![Write::Snapshot { snapshot: snapshot(last), drop_to }]);
    }

    /// The leader's snapshot, beyond the log's end.
    pub fn install(&mut self, ahead: u64) {
        let last = self.last();
        let term = self.model.now().term.max(last.term.0).max(1);
        let snapshot = snapshot(LogId::new(term, last.index.0 + ahead));
        self.submit(vec![Write::Install { snapshot, keep_suffix: false }]);
    }

    /// The leader's snapshot of what the log holds; the last entries stay.
    pub fn install_inside(&mut self, behind: usize) {
        let held = self.model.now().entries.iter().rev().nth(behind).map(Entry::id);
        let Some(last) = held else { return };
        let write = Write::Install { snapshot: snapshot(last), keep_suffix: true };
        self.submit(vec![write]);
    }
}

impl Life<Memory> {
    /// Ends the life without order, and goes on with what is left of the files.
    pub fn kill(&mut self, ending: Ending) {
        self.wal = None;
        if !self.disk.is_stopped() {
            let seed = self.random.bits();
            self.disk.with(|recorder| recorder.store.end(ending, None, seed));
        }
    }
}

fn durable<S: Store>(wal: &Wal<Handle<S>>) -> IoSeq {
    wal.disk().with(|recorder| recorder.durable())
}

fn entries(term: u64, first: u64, count: u64, bytes: usize) -> Write {
    let entry = |index| {
        let fill = u8::try_from((index * 7 + term) % 256).expect("below 256");
        Entry::new(LogId::new(term, index), Kind::Command, &vec![fill; bytes])
    };
    Write::Append((first..first + count).map(entry).collect())
}

/// Adds a write to the model; gives its number.
fn note(model: &mut Model, write: &Write) -> IoSeq {
    let mut state = model.now().clone();
    match write {
        Write::HardState { term, vote } => {
            (state.term, state.vote) = (term.0, *vote);
            model.states.push(state);
        }
        Write::Append(entries) => {
            for entry in entries {
                state.entries.retain(|old| old.id().index < entry.id().index);
                state.entries.push(entry.clone());
                model.states.push(state.clone());
            }
        }
        Write::Snapshot { snapshot, .. } => model.committed = snapshot.last.index.0,
        Write::Install { snapshot, keep_suffix } => {
            if !keep_suffix {
                state.entries.clear();
                state.base = snapshot.last;
            }
            state.installed = snapshot.last;
            model.committed = snapshot.last.index.0;
            model.states.push(state);
        }
    }
    model.seq += 1;
    model.ends.push((IoSeq(model.seq), model.states.len() - 1));
    IoSeq(model.seq)
}

/// Nothing was damaged, so nothing may be refused; what was reported is there, and what is there
/// was written.
pub fn judge(model: &Model, recovered: &Recovered) -> Result<(), String> {
    if let Verdict::Unfit { reason } = &recovered.verdict {
        return Err(format!("refused, and nothing is damaged: {reason}"));
    }
    let found = &recovered.restored;
    let ended = model.ends.iter().rev().find(|(seq, _)| *seq <= model.durable);
    let reported = &model.states[ended.map_or(0, |(_, state)| *state)];
    if found.term.0 < reported.term {
        return Err(format!("term {} after term {} was reported", found.term.0, reported.term));
    }
    if found.term.0 == reported.term && reported.vote.is_some() && found.vote.is_none() {
        return Err(format!("the vote of term {} is gone", reported.term));
    }
    let covered = found.snapshot.as_ref().map_or(0, |snapshot| snapshot.last.index.0);
    for (entry, index) in found.entries.iter().zip(covered + 1..) {
        if entry.id().index.0 != index {
            return Err(format!("entry {} stands where index {index} belongs", entry.id()));
        }
    }
    model.check(model.durable, found)
}
