//! What must hold, checked after every run of a member. Shares no logic with what it checks.

use crate::simulator::model::Model;
use quorate_locks::Command;
use quorate_raft::{Configuration, Kind, MemberId, RoleName};
use quorate_sidecar::agent::NameInfo;
use quorate_sidecar::member::Member;
use quorate_sidecar::wal::SimDisk;
use std::collections::{BTreeMap, VecDeque};

/// How often the members' whole states are compared, in entries.
const STATE_EVERY: u64 = 16;

/// Changes of names that are remembered: more than happen while a read is under way.
const NAMES_KEPT: usize = 10_000;

/// A promise that was broken: a sentence.
pub type Broken = String;

/// An entry as everybody must have it.
#[derive(Clone, Debug)]
struct Settled {
    term: u64,
    hash: u64,
    /// The term of whoever applied it first: it was committed in that or an earlier one.
    seen_in: u64,
}

/// A name that some client believes to hold.
#[derive(Clone, Copy, Debug)]
struct Belief {
    client: usize,
    token: u64,
}

/// See the module.
#[derive(Default)]
pub struct Checker {
    leaders: BTreeMap<u64, MemberId>,
    /// To whom each member gave its vote: (member, term).
    votes: BTreeMap<(MemberId, u64), MemberId>,
    settled: BTreeMap<u64, Settled>,
    states: BTreeMap<u64, u64>,
    model: Model,
    /// The last entry that the model has.
    modelled: u64,
    /// All grants that the log made, by token.
    granted: BTreeMap<u64, (String, u64, u64)>,
    beliefs: BTreeMap<String, Belief>,
    /// The highest token told to anybody so far.
    told: u64,
    /// A hash of all names, from each index on at which they changed.
    names: VecDeque<(u64, u64)>,
    /// Entries that are new here since [`Checker::take_fresh`]: (index, term).
    fresh: Vec<(u64, u64)>,
    /// Changes of leader.
    pub leader_changes: u64,
    /// Checks done, by kind.
    pub checks: BTreeMap<&'static str, u64>,
}

impl Checker {
    /// Looks at a member after it ran; `checked` is its last entry that was looked at.
    pub fn member(&mut self, member: &Member<SimDisk>, checked: &mut u64) -> Result<(), Broken> {
        let node = member.replica().node();
        if node.role() == RoleName::Leader {
            self.leader(member)?;
        }
        let applied = node.applied().0;
        if applied < *checked {
            return Err(format!("member {} went back from {checked} to {applied}", node.id()));
        }
        let first = node.first_index().0.max(*checked + 1);
        for index in first..=applied {
            self.entry(member, index)?;
        }
        if applied > *checked && (applied / STATE_EVERY != *checked / STATE_EVERY) {
            self.state(member, applied)?;
        }
        *checked = applied;
        Ok(())
    }

    /// A member gives one vote a term, whatever happens to it in between.
    pub fn vote(&mut self, voter: MemberId, term: u64, to: MemberId) -> Result<(), Broken> {
        self.count("one vote a term");
        match self.votes.insert((voter, term), to) {
            Some(earlier) if earlier != to => {
                Err(format!("{voter} voted for {earlier} and for {to} in term {term}"))
            }
            _ => Ok(()),
        }
    }

    /// One leader a term, and each has all that was committed in earlier terms. (One that wins an
    /// old term late, of votes long under way, lacks what later terms committed, and can commit
    /// nothing.)
    fn leader(&mut self, member: &Member<SimDisk>) -> Result<(), Broken> {
        let node = member.replica().node();
        let term = node.term().0;
        if let Some(known) = self.leaders.get(&term) {
            if *known != node.id() {
                return Err(format!("term {term} has two leaders, {known} and {}", node.id()));
            }
            return Ok(());
        }
        self.leaders.insert(term, node.id());
        self.leader_changes += 1;
        self.count("leader completeness");
        let earlier = self.settled.range(node.first_index().0..);
        for (index, settled) in earlier.filter(|(_, settled)| settled.seen_in < term) {
            let held = node.entry(quorate_raft::Index(*index)).map(|e| e.id().term.0);
            if held != Some(settled.term) {
                return Err(format!(
                    "leader {} of term {term} has {held:?} at {index}; {} is committed there",
                    node.id(),
                    settled.term
                ));
            }
        }
        Ok(())
    }

    /// An entry applied here is the one applied everywhere.
    fn entry(&mut self, member: &Member<SimDisk>, index: u64) -> Result<(), Broken> {
        let node = member.replica().node();
        let Some(entry) = node.entry(quorate_raft::Index(index)) else { return Ok(()) };
        let (term, seen_in) = (entry.id().term.0, node.term().0);
        let settled = Settled { term, hash: hash(entry.bytes()), seen_in };
        self.count("log matching");
        if let Some(known) = self.settled.get(&index) {
            if known.term != settled.term || known.hash != settled.hash {
                return Err(format!(
                    "entry {index} is of term {} at member {}, and was committed as of term {}",
                    settled.term,
                    node.id(),
                    known.term
                ));
            }
            return Ok(());
        }
        self.settled.insert(index, settled);
        self.fresh.push((index, term));
        self.extend_model(index, entry.kind(), entry.payload())
    }

    fn extend_model(&mut self, index: u64, kind: Kind, payload: &[u8]) -> Result<(), Broken> {
        if index != self.modelled + 1 {
            return Err(format!("entry {index} was applied before {}", self.modelled + 1));
        }
        self.modelled = index;
        let command = match kind {
            Kind::Noop => return Ok(()),
            Kind::Command => Command::decode(payload).map_err(|e| e.to_string())?,
            Kind::Configuration => {
                let (_, context) = Configuration::decode(payload).map_err(|e| e.to_string())?;
                if context.is_empty() {
                    return Ok(());
                }
                Command::decode(context).map_err(|e| e.to_string())?
            }
        };
        self.model.apply(index, &command);
        self.remember_names(index);
        for granted in self.model.take_granted() {
            let highest = self.granted.keys().next_back().copied().unwrap_or(0);
            if granted.token <= highest {
                return Err(format!("token {} after {highest}", granted.token));
            }
            let place = granted.place;
            self.granted.insert(granted.token, (granted.name, place.session, place.request));
        }
        Ok(())
    }

    fn remember_names(&mut self, index: u64) {
        let names = self.model.names.iter().map(|name| {
            let holder = name.holder.map(|(place, token)| (place.session, token));
            (name.name.as_str(), holder, name.queue.iter().map(|place| place.session).collect())
        });
        let now = hash_of(names);
        if self.names.back().is_none_or(|(_, before)| *before != now) {
            self.names.push_back((index, now));
        }
        if self.names.len() > NAMES_KEPT {
            self.names.pop_front();
        }
    }

    /// A read that was asked for when `applied` entries had been applied somewhere: it shows the
    /// state of then or later.
    pub fn names(&mut self, applied: u64, names: &[NameInfo]) -> Result<(), Broken> {
        let shown = hash_of(names.iter().map(|name| {
            let holder = name.holder.as_ref().map(|holder| (holder.session.0, holder.token.0));
            (name.name.as_str(), holder, name.waiters.iter().map(|w| w.session.0).collect())
        }));
        self.count("read shows what was so after it was asked");
        let before = self.names.partition_point(|(index, _)| *index <= applied);
        let empty = hash_of(std::iter::empty());
        let from_the_start = before == 0 && shown == empty;
        let mut since = self.names.range(before.saturating_sub(1)..);
        if from_the_start || since.any(|(_, names)| *names == shown) {
            return Ok(());
        }
        Err(format!("a read asked after entry {applied} shows what was before: {names:?}"))
    }

    /// Entries that somebody applied first since the last call, as (index, term).
    pub fn take_fresh(&mut self) -> Vec<(u64, u64)> {
        std::mem::take(&mut self.fresh)
    }

    /// Entries that were applied somewhere.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.modelled
    }

    /// The member's whole state: as the model's if that is as far, and as everybody's at this
    /// index.
    fn state(&mut self, member: &Member<SimDisk>, applied: u64) -> Result<(), Broken> {
        let (machine, id) = (member.replica().machine(), member.replica().node().id());
        let state = hash(&machine.encode());
        self.count("machines equal");
        if let Some(known) = self.states.insert(applied, state)
            && known != state
        {
            return Err(format!("member {id} has another state at {applied} than the others"));
        }
        if applied != self.modelled {
            return Ok(());
        }
        self.count("model equal");
        machine.check();
        let sessions: Vec<_> =
            machine.sessions().map(|(id, s)| (id.0, s.generation().0, s.ttl_ms())).collect();
        let expected = self.model.sessions();
        if sessions != expected {
            let only = |these: &[(u64, u64, u32)], those: &[(u64, u64, u32)]| {
                these.iter().filter(|one| !those.contains(one)).copied().collect::<Vec<_>>()
            };
            return Err(format!(
                "member {id} at {applied} alone has sessions {:?}, the model alone {:?}",
                only(&sessions, &expected),
                only(&expected, &sessions),
            ));
        }
        let mut names = self.model.names.iter();
        for (name, view) in machine.names("") {
            let holder = view.holder.map(|h| (h.session.0, h.request.0, h.token.0));
            let queue: Vec<_> = view.waiters.map(|w| (w.session.0, w.request.0)).collect();
            let same = names.next().is_some_and(|model| {
                let expected = model.holder.map(|(p, token)| (p.session, p.request, token));
                let waiting: Vec<_> = model.queue.iter().map(|p| (p.session, p.request)).collect();
                model.name == name && expected == holder && waiting == queue
            });
            if !same {
                return Err(format!(
                    "member {id} at {applied} has {name} held by {holder:?}, waiting {queue:?}; \
                     the model has {:?}",
                    self.model.names
                ));
            }
        }
        match names.next() {
            None => Ok(()),
            Some(name) => Err(format!("member {id} at {applied} has no {}", name.name)),
        }
    }

    /// The highest token told so far: a claim made now gets a higher one, or was made before.
    #[must_use]
    pub fn told(&self) -> u64 {
        self.told
    }

    /// A client was told that it holds a name. `floor`: the highest token told when it claimed.
    pub fn granted(
        &mut self,
        client: usize,
        name: &str,
        (session, request, token): (u64, u64, u64),
        floor: u64,
    ) -> Result<(), Broken> {
        self.count("grant in the log");
        let expected = (name.to_owned(), session, request);
        if self.granted.get(&token) != Some(&expected) {
            return Err(format!(
                "client {client} was told token {token} for {expected:?}; the log has {:?}",
                self.granted.get(&token)
            ));
        }
        if token <= floor {
            return Err(format!("token {token} was told after {floor} had been, to a later claim"));
        }
        self.told = self.told.max(token);
        self.count("one holder");
        let belief = Belief { client, token };
        match self.beliefs.insert(name.to_owned(), belief) {
            Some(other) if other.token != token => Err(format!(
                "client {client} holds {name} under {token} while client {} does under {}",
                other.client, other.token
            )),
            _ => Ok(()),
        }
    }

    /// A client does not believe any more that it holds a name.
    pub fn gave_up(&mut self, client: usize, name: &str, token: u64) {
        let own = |b: &Belief| b.client == client && b.token == token;
        if self.beliefs.get(name).is_some_and(own) {
            self.beliefs.remove(name);
        }
    }

    /// A client was told that its grant is released.
    pub fn released(&mut self, client: usize, token: u64) -> Result<(), Broken> {
        self.count("release in the log");
        if self.model.has_ended(token) {
            return Ok(());
        }
        Err(format!("client {client} was told that {token} is released; in the log it is not"))
    }

    /// One more check of this kind.
    pub fn count(&mut self, check: &'static str) {
        *self.checks.entry(check).or_default() += 1;
    }
}

/// Names with who holds them, (session, token), and which sessions wait.
fn hash_of<'a>(names: impl Iterator<Item = (&'a str, Option<(u64, u64)>, Vec<u64>)>) -> u64 {
    names.fold(1, |all, (name, holder, waiting)| {
        let (session, token) = holder.unwrap_or_default();
        let numbers = [session, token].into_iter().chain(waiting);
        numbers.fold(all ^ hash(name.as_bytes()), |all, number| {
            (all.rotate_left(7) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
    })
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
