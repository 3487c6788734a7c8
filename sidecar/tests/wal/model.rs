//! What a log must hold, written without the log's own code: the writes as atomic steps, the state
//! after each, and whether a recovered state is one of those that a crash may leave.

use quorate_raft::{
    Configuration, Entry, IoSeq, Kind, LogId, MemberId, Restored, Snapshot, Term, Write,
};

/// splitmix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub term: u64,
    pub vote: Option<MemberId>,
    /// The newest installed snapshot.
    pub installed: LogId,
    pub base: LogId,
    pub entries: Vec<Entry>,
}

impl State {
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, Entry::id)
    }

    fn holds(&self, id: LogId) -> bool {
        id == self.base || self.entries.iter().any(|entry| entry.id() == id)
    }

    fn after(&self, id: LogId) -> Vec<Entry> {
        self.entries.iter().filter(|entry| entry.id().index > id.index).cloned().collect()
    }
}

/// A state after each atomic step, and which step each write ends with.
#[derive(Clone, Default)]
pub struct Model {
    pub states: Vec<State>,
    pub ends: Vec<(IoSeq, usize)>,
    pub committed: u64,
    /// Reported durable: only what is there may be covered by a snapshot of our own.
    pub durable: IoSeq,
    pub seq: u64,
}

pub fn snapshot(last: LogId) -> Snapshot {
    let data = vec![u8::try_from(last.index.0 % 251).expect("it works here"); 300];
    let name = format!("{last}");
    let configuration = Configuration::of_voters([(MemberId(1), name)]);
    Snapshot { last, configuration, data: data.into() }
}

impl Model {
    pub fn new() -> Model {
        Model { states: vec![State::default()], ..Model::default() }
    }

    pub fn now(&self) -> &State {
        self.states.last().expect("it works here")
    }

    /// A new life, from what was recovered.
    pub fn restart(restored: &Restored) -> Model {
        let installed = restored.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        let state = State {
            term: restored.term.0,
            vote: restored.vote,
            installed,
            base: installed,
            entries: restored.entries.clone(),
        };
        Model { states: vec![state], committed: installed.index.0, ..Model::default() }
    }

    /// Some possible writes.
    pub fn writes(&mut self, random: &mut Random, entry_bytes: u64) -> Vec<(IoSeq, Write)> {
        let mut writes = Vec::new();
        for _ in 0..=random.below(3) {
            let write = self.write(random, entry_bytes);
            self.seq += 1;
            writes.push((IoSeq(self.seq), write));
            self.ends.push((IoSeq(self.seq), self.states.len() - 1));
        }
        writes
    }

    fn write(&mut self, random: &mut Random, entry_bytes: u64) -> Write {
        let mut state = self.now().clone();
        match random.below(12) {
            0..=2 => {
                state.term += 1;
                state.vote = random.below(2).eq(&0).then(|| MemberId(random.below(3).into()));
                let (term, vote) = (Term(state.term), state.vote);
                self.states.push(state);
                Write::HardState { term, vote }
            }
            3 if self.durable_last(&state).index.0 > self.committed => {
                let last = self.durable_last(&state);
                self.committed = last.index.0;
                let drop_to = last.index;
                Write::Snapshot { snapshot: snapshot(last), drop_to }
            }
            4 => {
                let index = self.committed + 1 + random.below(6);
                let held = state.entries.iter().find(|entry| entry.id().index.0 == index);
                let held = held.map(Entry::id).filter(|_| random.below(2) == 0);
                let term = state.term.max(state.last().term.0).max(1);
                let last = held.unwrap_or(LogId::new(term, index));
                let keep_suffix = state.holds(last);
                if !keep_suffix {
                    state.entries.clear();
                    state.base = last;
                }
                state.installed = last;
                self.committed = index;
                self.states.push(state);
                Write::Install { snapshot: snapshot(last), keep_suffix }
            }
            _ => self.append(random, state, entry_bytes),
        }
    }

    /// The last entry that is durable and still in the log.
    fn durable_last(&self, now: &State) -> LogId {
        let ended = self.ends.iter().rev().find(|(seq, _)| *seq <= self.durable);
        let state = &self.states[ended.map_or(0, |(_, state)| *state)];
        let both = state.entries.iter().zip(&now.entries).take_while(|(a, b)| a == b);
        let last = both.last().map_or(state.base, |(entry, _)| entry.id());
        if state.base == now.base { last } else { LogId::ZERO }
    }

    fn append(&mut self, random: &mut Random, mut state: State, entry_bytes: u64) -> Write {
        let term = state.term.max(state.last().term.0).max(1);
        let mut index = state.last().index.0 + 1;
        if random.below(4) == 0 {
            index = self.committed + 1 + random.below(index - self.committed);
        }
        let mut entries = Vec::new();
        for _ in 0..=random.below(4) {
            let bytes = usize::try_from(random.below(entry_bytes)).expect("it works here");
            let fill = u8::try_from(random.below(256)).expect("it works here");
            let entry = Entry::new(LogId::new(term, index), Kind::Command, &vec![fill; bytes]);
            state.entries.retain(|entry| entry.id().index.0 < index);
            state.entries.push(entry.clone());
            self.states.push(state.clone());
            entries.push(entry);
            index += 1;
        }
        Write::Append(entries)
    }

    /// Whether a crash after `durable` was reported may leave this; says why not.
    pub fn check(&self, durable: IoSeq, restored: &Restored) -> Result<(), String> {
        let ended = self.ends.iter().rev().find(|(seq, _)| *seq <= durable);
        let first = ended.map_or(0, |(_, state)| *state);
        let last = restored.snapshot.as_ref().map_or(LogId::ZERO, |snapshot| snapshot.last);
        if let Some(found) = &restored.snapshot
            && *found != snapshot(last)
        {
            return Err(format!("snapshot {last} has another content"));
        }
        let possible = (first..self.states.len()).any(|at| self.possible(at, last, restored));
        if possible {
            return Ok(());
        }
        let (state, end) = (&self.states[first], self.states.len() - 1);
        Err(format!(
            "after {durable:?} (state {first} of {end}): recovered {:?} {:?} {last} {:?}, had {:?}",
            restored.term,
            restored.vote,
            restored.entries.iter().map(Entry::id).collect::<Vec<_>>(),
            (state.term, state.vote, state.installed, state.base, state.last()),
        ))
    }

    fn possible(&self, at: usize, last: LogId, restored: &Restored) -> bool {
        let state = &self.states[at];
        let held = state.holds(last) && last.index >= state.installed.index;
        // A later install whose file is there and whose record is not.
        let later = self.states[at..].iter().any(|later| later.installed == last)
            && last.index > state.installed.index;
        if !held && !later {
            return false;
        }
        let entries = if held { state.after(last) } else { Vec::new() };
        let (mut term, mut vote) = (state.term, state.vote);
        if last.term.0 > term {
            (term, vote) = (last.term.0, None);
        }
        restored.term.0 == term && restored.vote == vote && restored.entries == entries
    }
}
