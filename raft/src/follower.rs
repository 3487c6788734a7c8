//! Following: taking entries from the leader, and noticing that it is gone.
//!
//! Invariants: entries are deleted only on a real conflict of terms, never at or below the commit
//! index; an answer says only what the own disk has once its fence is durable. Must not trust a
//! leader's numbers: what cannot be is dropped with an event.

use crate::config::Config;
use crate::log::configuration_of;
use crate::message::{Answer, Body, Output};
use crate::node::{COUNT_MAX, Node, Role, ignore};
use crate::planted::{self, Bug};
use crate::snapshot::Incoming;
use crate::types::{Entry, Index, IoSeq, Kind, LogId, MemberId, Round, Term, Time};

#[derive(Clone, Hash)]
pub(crate) struct Follower {
    /// The leader of the current term, where one was heard of and not given up.
    pub(crate) leader: Option<MemberId>,
    /// When it was heard of last.
    pub(crate) heard: Time,
    /// When to stand.
    pub(crate) deadline: Time,
    /// The leader is known to be lost, or the group is just being made: nanoseconds to wait before
    /// a failed try is repeated, doubling up to T.
    pub(crate) hurry: Option<u64>,
    /// The parts of a snapshot that came so far.
    pub(crate) incoming: Option<Incoming>,
}

impl Follower {
    pub(crate) fn new(deadline: Time) -> Follower {
        Follower { leader: None, heard: Time(0), deadline, hurry: None, incoming: None }
    }
}

/// An append without its round.
struct Append {
    prev: LogId,
    entries: Vec<Entry>,
    commit: LogId,
}

impl Node {
    /// When to stand if nothing happens: uniform in T to 2 T. After all others, if this member may
    /// only stand in for one.
    pub(crate) fn election_deadline(&mut self) -> Time {
        let timeout = self.config.election_timeout_ns;
        let wait = self.random.between(timeout, timeout.saturating_mul(2));
        self.now.after(wait).after(if self.is_eager() { 0 } else { timeout })
    }

    /// A blank member waits for others; an only voter has nobody to wait for.
    pub(crate) fn first_deadline(&mut self) -> Time {
        let configuration = self.log.configuration();
        if configuration.is_empty() {
            return Time::NEVER;
        }
        let me = self.config.id;
        if crate::quorum::has_quorum(configuration, |id| id == me) {
            return self.now.after(self.random.between(0, self.config.lost_first_ns));
        }
        self.election_deadline()
    }

    /// Stands within moments instead of T, if this member is eager.
    pub(crate) fn stand_soon(&mut self) {
        let eager = self.is_eager();
        let soon = self.now.after(self.random.between(0, self.config.lost_first_ns));
        if let Role::Follower(follower) = &mut self.role {
            follower.deadline = if eager { soon } else { follower.deadline };
            follower.hurry = Some(self.config.lost_retry_ns);
        }
    }

    /// Becomes, or stays, follower of `leader` in `term`. Without a leader the time to stand stays:
    /// a candidate that cannot win must not push everybody's election away.
    pub(crate) fn follow(&mut self, term: Term, leader: Option<MemberId>, out: &mut Output) {
        let later = term > self.term;
        if later {
            self.set_hard_state(term, None, out);
        }
        let fresh = self.election_deadline();
        let former = std::mem::replace(&mut self.role, Role::Follower(Follower::new(fresh)));
        let (deadline, hurry, incoming) = match former {
            Role::Follower(former) => (former.deadline, former.hurry, former.incoming),
            Role::PreCandidate(former) | Role::Candidate(former) => {
                (former.deadline, former.hurry, None)
            }
            Role::Leader(mut former) => {
                former.reads.fail(leader, out);
                former.membership.fail(leader, out);
                (fresh, None, None)
            }
        };
        let incoming = incoming.filter(|_| !later);
        let mut follower = Follower { leader, heard: self.now, deadline, hurry, incoming };
        if leader.is_some() {
            self.term_leader = leader;
            follower.deadline = fresh;
            follower.hurry = None;
        }
        self.role = Role::Follower(follower);
    }

    /// The host saw the leader's connection end: a hint that costs at most an election.
    pub(crate) fn peer_lost(&mut self, peer: MemberId) {
        if self.leader() == Some(peer) && peer != self.config.id {
            self.stand_soon();
        }
    }

    /// A message that only a leader sends.
    pub(crate) fn leader_spoke(
        &mut self,
        from: MemberId,
        term: Term,
        body: Body,
        out: &mut Output,
    ) {
        if let Err(why) = check_body(term, &body, &self.config) {
            return ignore(from, why, out);
        }
        if term < self.term {
            return self.answer_stale(from, out);
        }
        let known = self.term_leader.filter(|_| term == self.term);
        if known.is_some_and(|leader| leader != from) {
            return ignore(from, "a second leader in one term", out);
        }
        self.follow(term, Some(from), out);
        match body {
            Body::Append { prev, entries, commit, round } => {
                self.take_append(from, Append { prev, entries, commit }, round, out);
            }
            Body::Snapshot { .. } => self.take_part(from, body, out),
            Body::Commit { commit } => self.follow_commit(commit),
            Body::TimeoutNow { last } => self.take_order(last, out),
            _ => {}
        }
    }

    /// Tells a leader of an old term about the current one, and nothing else: the sender may lead
    /// that term by the time it hears, and must not take an old round for one of its own.
    fn answer_stale(&self, from: MemberId, out: &mut Output) {
        let answer = Answer::Durable(Index(0));
        self.send(from, Body::AppendReply { round: Round(0), answer }, IoSeq(0), out);
    }

    fn take_order(&mut self, last: LogId, out: &mut Output) {
        if self.may_stand() && !self.drained && self.log.last() == last {
            self.stand(true, out);
        }
    }

    fn take_append(&mut self, from: MemberId, append: Append, round: Round, out: &mut Output) {
        let Append { prev, entries, commit } = append;
        let end = entries.last().map_or(prev, Entry::id);
        if !self.matches(prev) {
            if prev.index <= self.commit.index {
                return ignore(from, "an append that denies what is committed", out);
            }
            let answer = Answer::Mismatch { prev, hint: self.mismatch_hint(prev) };
            self.follow_commit(commit);
            return self.send(from, Body::AppendReply { round, answer }, IoSeq(0), out);
        }
        let Some(new) = self.new_entries(entries) else {
            return ignore(from, "an append that replaces what is committed", out);
        };
        let (durable, after) = if let Some(first) = new.first() {
            self.replace_from(first.id().index, &new, out);
            let fence = self.writes.fence(end.index);
            (end.index, if planted::is(Bug::EntriesBeforeSync) { IoSeq(0) } else { fence })
        } else if planted::is(Bug::AcknowledgesMore) {
            let last = self.log.last().index;
            (last, self.fence_of(last))
        } else {
            // What is committed here equals the leader's log as well.
            (end.index.max(self.commit.index).min(self.log.durable()), IoSeq(0))
        };
        self.follow_commit(commit);
        let answer = Answer::Durable(durable);
        self.send(from, Body::AppendReply { round, answer }, after, out);
    }

    /// Whether the log holds `prev`. Before the first entry in memory everything is committed, and
    /// equals the log of any leader.
    fn matches(&self, prev: LogId) -> bool {
        let loose = planted::is(Bug::PreviousByIndex) && prev.index <= self.log.last().index;
        prev.index < self.log.base().index || self.log.holds(prev) || loose
    }

    fn mismatch_hint(&self, prev: LogId) -> LogId {
        let end = prev.index.previous().min(self.log.last().index);
        self.log.last_at_most(prev.term, end).unwrap_or(self.commit)
    }

    /// The entries that the log does not hold yet; `None` if they deny what is committed.
    fn new_entries(&self, mut entries: Vec<Entry>) -> Option<Vec<Entry>> {
        let base = self.log.base().index;
        let kept = |id: LogId| id.index <= self.commit.index;
        let kept = |id| !planted::is(Bug::AppendAlwaysTruncates) || kept(id);
        let held = |id: LogId| id.index < base || (self.log.holds(id) && kept(id));
        let count = entries.iter().take_while(|entry| held(entry.id())).count();
        let new = entries.split_off(count);
        match new.first() {
            Some(first) if first.id().index <= self.commit.index => None,
            _ => Some(new),
        }
    }

    fn replace_from(&mut self, first: Index, new: &[Entry], out: &mut Output) {
        assert!(first > self.commit.index, "what is committed is never replaced");
        if first <= self.log.last().index {
            self.log.truncate(first);
            self.writes.truncate(first);
        }
        for entry in new {
            self.log.push(entry.clone());
        }
        self.writes.append(self.now, new, out);
    }

    /// Only if the log holds this very entry: an index alone would commit a divergent tail.
    fn follow_commit(&mut self, commit: LogId) {
        let there = self.log.id_at(commit.index.min(self.log.last().index));
        let commit = there.filter(|_| planted::is(Bug::CommitByIndex)).unwrap_or(commit);
        if commit.index > self.commit.index && self.log.holds(commit) {
            self.commit = commit;
        }
    }
}

/// What no leader of `term` can have sent.
fn check_body(term: Term, body: &Body, config: &Config) -> Result<(), &'static str> {
    match body {
        Body::Append { prev, entries, .. } => check_append(term, *prev, entries),
        Body::Snapshot { last, configuration, offset, total, chunk, .. } => {
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            let end = offset.checked_add(length).ok_or("a snapshot part out of range")?;
            if last.index == Index(0) || last.term == Term(0) || last.term > term {
                return Err("a snapshot of no entry");
            }
            if last.index.0 > COUNT_MAX {
                return Err("the index is out of range");
            }
            if configuration.index > last.index || !configuration.is_sound() {
                return Err("a snapshot of no configuration");
            }
            if *total > config.snapshot_bytes || end > *total {
                return Err("a snapshot part out of range");
            }
            if length == 0 && *total > 0 { Err("an empty snapshot part") } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

fn check_append(term: Term, prev: LogId, entries: &[Entry]) -> Result<(), &'static str> {
    if prev.term > term || (prev.index == Index(0)) != (prev.term == Term(0)) {
        return Err("an append after no entry");
    }
    if prev.index.0 > COUNT_MAX {
        return Err("the index is out of range");
    }
    let mut last = prev;
    for entry in entries {
        let id = entry.id();
        if id.index != last.index.next() || id.term < last.term || id.term > term {
            return Err("entries out of order");
        }
        if id.term == Term(0) {
            return Err("an entry of no term");
        }
        if entry.kind() == Kind::Configuration && configuration_of(entry).is_none() {
            return Err("a configuration that does not decode");
        }
        last = id;
    }
    Ok(())
}
