//! The node: what all roles share, and who handles what. Dispatches only; each role is a file.
//!
//! Invariants: term and vote change only together with a write of both, and everything that tells
//! of them waits for that write; the commit index never falls; every index is handed to apply once,
//! in order. Must not decide anything for a role.

use crate::candidate::Candidate;
use crate::config::Config;
use crate::configuration::Configuration;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::log::{Log, configuration_of};
use crate::message::{Body, Envelope, Event, Input, Message, Outcome, Output, Snapshot, Why};
use crate::planted::{self, Bug};
use crate::progress::Standing;
use crate::random::Random;
use crate::types::{Entry, Index, IoSeq, LogId, MemberId, Term, Ticket, Time};
use crate::writes::Writes;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Terms and indexes above this are refused from peers: no honest group gets there, and counting on
/// from it cannot overflow.
pub(crate) const COUNT_MAX: u64 = 1 << 62;

/// One member's consensus: a synchronous, total function of its inputs. See the crate's essay.
#[derive(Clone)]
pub struct Node {
    pub(crate) config: Config,
    pub(crate) random: Random,
    pub(crate) now: Time,
    pub(crate) term: Term,
    pub(crate) vote: Option<MemberId>,
    /// Who leads this term, once known; never changes within a term.
    pub(crate) term_leader: Option<MemberId>,
    pub(crate) log: Log,
    pub(crate) writes: Writes,
    pub(crate) commit: LogId,
    /// Handed to apply up to here.
    pub(crate) handed: Index,
    pub(crate) applied: Index,
    pub(crate) drained: bool,
    pub(crate) role: Role,
    /// What the host was told last.
    told_leader: Option<(Term, MemberId)>,
    told_version: u64,
}

/// The role and what exists only in it.
#[derive(Clone, Hash)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Candidate),
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// The role without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Takes entries from a leader, or waits for one.
    Follower,
    /// Asks whether it would be voted for.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// What the disk had. The default is a blank member.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The recorded term.
    pub term: Term,
    /// Whom this member voted for in it.
    pub vote: Option<MemberId>,
    /// The newest snapshot.
    pub snapshot: Option<Snapshot>,
    /// The entries after it, or from index 1, without gaps.
    pub entries: Vec<Entry>,
}

impl Node {
    /// A node as it starts, with all of `restored` durable and the snapshot applied by the host.
    /// It has committed its snapshot and nothing else that it knows of.
    #[must_use]
    pub fn new(config: Config, now: Time, restored: Restored) -> Node {
        let log = Log::new(restored.snapshot, restored.entries);
        let commit = log.snapshot().map_or(LogId::ZERO, |snapshot| snapshot.last);
        // A term of the log above the recorded one was never voted in here.
        let term = restored.term.max(log.last().term);
        let told = term == restored.term && !planted::is(Bug::VoteForgotten);
        let vote = if told { restored.vote } else { None };
        let random = Random::new(config.seed, config.id);
        let version = log.version();
        let mut node = Node {
            config,
            random,
            now,
            term,
            vote,
            term_leader: None,
            log,
            writes: Writes::default(),
            commit,
            handed: commit.index,
            applied: commit.index,
            drained: false,
            role: Role::Follower(Follower::new(Time::NEVER)),
            told_leader: None,
            told_version: version,
        };
        let deadline = node.first_deadline();
        node.role = Role::Follower(Follower::new(deadline));
        node
    }

    /// Lets one thing happen. Total: no input makes it panic but by a broken invariant of its own.
    /// Sends of a leader wait for [`Node::flush`].
    pub fn step(&mut self, now: Time, input: Input, out: &mut Output) {
        self.now = self.now.max(now);
        match input {
            Input::Timer => self.timer(out),
            Input::Recv(from, message) => self.receive(from, message, out),
            Input::PeerLost(peer) => self.peer_lost(peer),
            Input::PeerRestarted(peer) => self.peer_restarted(peer),
            Input::Durable(seq) => self.durable_upto(seq, out),
            Input::Applied(index) => self.applied = self.applied.max(index.min(self.handed)),
            Input::SnapshotBuilt(snapshot) => self.snapshot_built(snapshot, out),
            Input::Bootstrap(configuration, context) => {
                self.bootstrap(&configuration, &context, out);
            }
            Input::Propose(ticket, command) => self.propose(ticket, &command, out),
            Input::Read(ticket) => self.read(ticket, out),
            Input::Change(ticket, change) => self.change(ticket, change, out),
            Input::Transfer(ticket, target) => self.transfer(ticket, target, out),
            Input::Drain => self.drain(out),
            Input::Undrain => self.undrain(),
        }
        self.advance_membership(out);
        self.finish(out);
    }

    /// Ends a batch of steps: sends what it appended, starts read rounds, tells of commits.
    pub fn flush(&mut self, now: Time, out: &mut Output) {
        self.now = self.now.max(now);
        self.flush_leader(out);
        self.finish(out);
    }

    fn timer(&mut self, out: &mut Output) {
        match &self.role {
            Role::Leader(_) => self.leader_timer(out),
            _ if self.now >= self.deadline() => self.election_timer(out),
            _ => {}
        }
    }

    fn receive(&mut self, from: MemberId, message: Message, out: &mut Output) {
        let Message { term, body } = message;
        if from == self.config.id {
            return ignore(from, "a message from this member itself", out);
        }
        // Only a blank member has no term, and says so only where it was asked for a pre-vote.
        let no_term = term == Term(0) && !matches!(body, Body::PreVoteReply { .. });
        if term.0 > COUNT_MAX || no_term {
            return ignore(from, "the term is out of range", out);
        }
        match body {
            Body::PreVote { last } => self.pre_vote_asked(from, term, last, out),
            Body::PreVoteReply { granted, asked } => {
                self.pre_vote_answered(from, term, granted.then_some(asked), out);
            }
            Body::Vote { last, transfer } => self.vote_asked(from, term, (last, transfer), out),
            Body::VoteReply { granted } => self.vote_answered(from, term, granted, out),
            Body::AppendReply { .. } | Body::SnapshotReply { .. } => {
                if self.adopt(term, out) || planted::is(Bug::StaleAcknowledgement) {
                    self.follower_answered(from, body, out);
                }
            }
            Body::Append { .. }
            | Body::Commit { .. }
            | Body::Snapshot { .. }
            | Body::TimeoutNow { .. } => {
                self.leader_spoke(from, term, body, out);
            }
        }
    }

    /// Follows a later term; gives whether `term` is now the current one.
    pub(crate) fn adopt(&mut self, term: Term, out: &mut Output) -> bool {
        if term > self.term {
            self.follow(term, None, out);
        }
        term == self.term
    }

    fn durable_upto(&mut self, seq: IoSeq, out: &mut Output) {
        let upto = self.writes.complete(seq);
        self.log.set_durable(upto);
        match self.role {
            Role::Candidate(_) => self.count_own_vote(out),
            Role::Leader(_) => self.advance_commit(),
            _ => {}
        }
    }

    fn bootstrap(&mut self, configuration: &Configuration, context: &[u8], out: &mut Output) {
        let me = self.config.id;
        let blank = self.term == Term(0) && self.vote.is_none() && self.log.last() == LogId::ZERO;
        if !blank {
            return ignore(me, "bootstrap of a member that is not blank", out);
        }
        let inside = configuration.incoming.contains_key(&me);
        if !inside || configuration.is_joint() || !configuration.fits() {
            return ignore(me, "bootstrap with a configuration that does not fit", out);
        }
        let mut payload = configuration.encode();
        payload.extend_from_slice(context);
        let entry = Entry::new(LogId::new(1, 1), crate::types::Kind::Configuration, &payload);
        let made = configuration_of(&entry);
        if made != Some(Configuration { index: Index(1), ..configuration.clone() }) {
            return ignore(me, "bootstrap with a configuration that does not encode", out);
        }
        // The entry first: a crash between the two leaves either a blank member or, as the log's
        // term counts, a whole one. The other way round it could never be bootstrapped again.
        self.append(entry, out);
        self.set_hard_state(Term(1), None, out);
        self.stand_soon();
    }

    fn propose(&mut self, ticket: Ticket, command: &Arc<[u8]>, out: &mut Output) {
        let outcome = match self.admit(command) {
            Ok(()) => Outcome::Appended(self.append_command(command, out)),
            Err(why) => Outcome::NotAppended(why, self.leader()),
        };
        out.done.push((ticket, outcome));
    }

    /// Why this member cannot do what only a leader does.
    pub(crate) fn not_leading(&self) -> Why {
        if self.log.configuration().is_empty() { Why::Blank } else { Why::NotLeader }
    }

    /// Appends to the own log and has it written.
    pub(crate) fn append(&mut self, entry: Entry, out: &mut Output) {
        self.log.push(entry.clone());
        self.writes.append(self.now, std::slice::from_ref(&entry), out);
    }

    /// Changes term and vote, together with their write.
    pub(crate) fn set_hard_state(&mut self, term: Term, vote: Option<MemberId>, out: &mut Output) {
        assert!(term >= self.term, "terms never fall");
        assert!(term > self.term || self.vote.is_none() || self.vote == vote, "one vote a term");
        if term > self.term {
            self.term_leader = None;
        }
        self.term = term;
        self.vote = vote;
        self.writes.hard_state(self.now, term, vote, out);
    }

    /// Sends, not before the current term and vote are durable: any message may tell of them.
    pub(crate) fn send(&self, to: MemberId, body: Body, after: IoSeq, out: &mut Output) {
        self.send_message(to, Message { term: self.term, body }, after, out);
    }

    /// The same with a term of its own: a pre-vote's.
    pub(crate) fn send_message(
        &self,
        to: MemberId,
        message: Message,
        after: IoSeq,
        out: &mut Output,
    ) {
        assert!(to != self.config.id, "nobody writes to itself");
        let after = after.max(self.writes.hard_state_fence());
        out.sends.push(Envelope { to, message, after });
    }

    /// After every step: hands out what was committed and tells what changed.
    fn finish(&mut self, out: &mut Output) {
        if self.told_version != self.log.version() {
            self.told_version = self.log.version();
            out.events.push(Event::Configuration(self.log.configuration().clone()));
        }
        let leader = self.leader().map(|leader| (self.term, leader));
        if self.told_leader != leader {
            self.told_leader = leader;
            out.events.push(Event::Leader { term: self.term, leader: self.leader() });
        }
        self.hand_out(out);
        if cfg!(debug_assertions) || self.config.check {
            self.check();
        }
    }

    fn hand_out(&mut self, out: &mut Output) {
        if self.commit.index <= self.handed {
            return;
        }
        let first = match &out.apply {
            Some(earlier) => {
                assert!(*earlier.end() == self.handed, "apply continues");
                *earlier.start()
            }
            None => self.handed.next(),
        };
        self.handed = self.commit.index;
        out.apply = Some(first..=self.handed);
        self.announce_ready(out);
    }
}

/// A peer's message, or the host's request, that is dropped.
pub(crate) fn ignore(from: MemberId, why: &'static str, out: &mut Output) {
    out.events.push(Event::Ignored { from, why });
}

impl Node {
    /// When [`Input::Timer`] wants to come; [`Time::NEVER`] for a blank member.
    #[must_use]
    pub fn deadline(&self) -> Time {
        match &self.role {
            Role::Follower(follower) => follower.deadline,
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => candidate.deadline,
            Role::Leader(leader) => self.leader_deadline(leader),
        }
    }

    /// An entry in memory: always one that was handed to apply and not reported applied.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.log.entry(index)
    }

    /// This member.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.config.id
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> RoleName {
        match self.role {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// The current term; may not be durable yet.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whom this member voted for in this term; may not be durable yet.
    #[must_use]
    pub fn vote(&self) -> Option<MemberId> {
        self.vote
    }

    /// Who leads, as far as this member knows; itself included.
    #[must_use]
    pub fn leader(&self) -> Option<MemberId> {
        match &self.role {
            Role::Follower(follower) => follower.leader.filter(|_| follower.hurry.is_none()),
            Role::Leader(_) => Some(self.config.id),
            _ => None,
        }
    }

    /// The last entry known to be committed.
    #[must_use]
    pub fn commit(&self) -> LogId {
        self.commit
    }

    /// Applied by the host, as it reported.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The own disk has the log up to here.
    #[must_use]
    pub fn durable(&self) -> Index {
        self.log.durable()
    }

    /// The first index whose entry is in memory, or would be.
    #[must_use]
    pub fn first_index(&self) -> Index {
        self.log.base().index.next()
    }

    /// The end of the log.
    #[must_use]
    pub fn last(&self) -> LogId {
        self.log.last()
    }

    /// The configuration in effect: the log's last, committed or not.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.log.configuration()
    }

    /// The index of its entry, which a snapshot carries; of the snapshot itself only if that was
    /// written without it.
    #[must_use]
    pub fn configuration_index(&self) -> Index {
        self.log.configuration_index()
    }

    /// What a leader knows of each other member; nothing anywhere else.
    pub fn followers(&self) -> impl Iterator<Item = (MemberId, Standing)> {
        let leader = if let Role::Leader(leader) = &self.role { Some(leader) } else { None };
        let all = leader.into_iter().flat_map(|leader| &leader.progress);
        all.map(|(id, progress)| (*id, progress.standing()))
    }

    /// Whether this member was told not to stand.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// Hashes everything that decides what this node does next, but for settings, random numbers
    /// and the numbers of its writes: two nodes that hash alike and have all of their writes
    /// durable behave alike. For those who explore states.
    pub fn fingerprint(&self, into: &mut impl Hasher) {
        (self.now, self.term, self.vote, self.term_leader).hash(into);
        (self.commit, self.handed, self.applied, self.drained).hash(into);
        self.log.hash_content(into);
        self.role.hash(into);
    }

    /// Bytes of the entries after the snapshot.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.log.snapshot()
    }
}
