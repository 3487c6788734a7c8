//! Standing for election: the pre-vote, which changes nothing anywhere, then the vote.
//!
//! Invariants: a term is entered as candidate only with a quorum's pre-vote, or on the leader's own
//! order; the own vote counts once it is durable, like anybody's. Vote handlers never consult the
//! own configuration: an unknown sender may be a voter that this member has not heard of yet.

use crate::follower::Follower;
use crate::message::{Body, Envelope, Event, Message, Output};
use crate::node::{COUNT_MAX, Node, Role, ignore};
use crate::planted::{self, Bug};
use crate::quorum::has_quorum;
use crate::types::{IoSeq, LogId, MemberId, Term, Time};
use std::collections::BTreeSet;

#[derive(Clone, Hash)]
pub(crate) struct Candidate {
    pub(crate) votes: BTreeSet<MemberId>,
    /// When to try again.
    pub(crate) deadline: Time,
    /// See [`Follower::hurry`].
    pub(crate) hurry: Option<u64>,
}

impl Node {
    /// No leader in time: asks whether an election could be won.
    pub(crate) fn election_timer(&mut self, out: &mut Output) {
        if !self.may_stand() {
            let blank = self.log.configuration().is_empty();
            let deadline = if blank { Time::NEVER } else { self.election_deadline() };
            self.role = Role::Follower(Follower::new(deadline));
            return;
        }
        let (deadline, hurry) = self.next_try();
        let votes = BTreeSet::from([self.config.id]);
        self.role = Role::PreCandidate(Candidate { votes, deadline, hurry });
        let term = self.term.next();
        out.events.push(Event::Campaign { term, pre: true });
        let message = Message { term, body: Body::PreVote { last: self.log.last() } };
        for to in self.other_voters() {
            self.send_message(to, message.clone(), IoSeq(0), out);
        }
        self.count_votes(out);
    }

    /// Stands for real.
    pub(crate) fn stand(&mut self, transfer: bool, out: &mut Output) {
        assert!(self.may_stand(), "only a voter that may stand does");
        let (deadline, hurry) = self.next_try();
        self.set_hard_state(self.term.next(), Some(self.config.id), out);
        self.role = Role::Candidate(Candidate { votes: BTreeSet::new(), deadline, hurry });
        out.events.push(Event::Campaign { term: self.term, pre: false });
        let last = self.log.last();
        for to in self.other_voters() {
            self.send(to, Body::Vote { last, transfer }, IoSeq(0), out);
        }
    }

    /// Whether this member may become leader. One whose disk hangs could not even vote for itself.
    ///
    /// One that lost its vote by an entry not known to be committed still may, though it counts for
    /// nothing: it may be the only one that holds this entry, and then nobody else can be elected
    /// (dissertation, section 4.2.2). It leads until that is committed. For the same reason a
    /// drained one may: it leads until somebody takes over.
    pub(crate) fn may_stand(&self) -> bool {
        self.log.is_voter_from(self.commit.index, self.config.id)
            && !(self.drained && planted::is(Bug::DrainedNeverStands))
            && !self.is_disk_stalled()
            && self.term.0 < COUNT_MAX
    }

    /// Whether it stands as soon as it may. Who lost its vote, or was told to stay behind, stands
    /// in one timeout after everybody else, and is never hurried.
    pub(crate) fn is_eager(&self) -> bool {
        self.log.configuration().is_voter(self.config.id) && !self.drained
    }

    fn other_voters(&self) -> Vec<MemberId> {
        let configuration = self.log.configuration();
        let voters = configuration.members().map(|(id, _)| id);
        voters.filter(|id| *id != self.config.id && configuration.is_voter(*id)).collect()
    }

    /// When to try again if this try fails, and the pace after that.
    fn next_try(&mut self) -> (Time, Option<u64>) {
        let timeout = self.config.election_timeout_ns;
        let hurry = match &self.role {
            Role::Follower(follower) => follower.hurry,
            Role::PreCandidate(candidate) | Role::Candidate(candidate) => candidate.hurry,
            Role::Leader(_) => None,
        };
        match hurry {
            Some(pace) if pace < timeout && self.is_eager() => {
                let wait = self.random.between(pace, pace.saturating_mul(3));
                (self.now.after(wait), Some(pace.saturating_mul(2)))
            }
            _ => (self.election_deadline(), None),
        }
    }

    /// A leader that was heard of within T protects itself from everybody else.
    fn is_sticky(&self, from: MemberId) -> bool {
        let timeout = self.config.election_timeout_ns;
        match &self.role {
            _ if planted::is(Bug::NoStickiness) => false,
            Role::Leader(_) => true,
            Role::Follower(follower) => {
                self.leader().is_some_and(|leader| leader != from)
                    && self.now.since(follower.heard) < timeout
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    pub(crate) fn pre_vote_asked(
        &mut self,
        from: MemberId,
        asked: Term,
        last: LogId,
        out: &mut Output,
    ) {
        let granted = asked > self.term && !self.is_sticky(from) && last >= self.log.last();
        if granted && planted::is(Bug::PreVoteFreesVote) {
            self.vote = None;
        }
        self.send(from, Body::PreVoteReply { granted, asked }, IoSeq(0), out);
    }

    pub(crate) fn pre_vote_answered(
        &mut self,
        from: MemberId,
        term: Term,
        granted: Option<Term>,
        out: &mut Output,
    ) {
        // The answerer's term may be lower than ours, and its answer still count.
        if term > self.term && !planted::is(Bug::PreVoteTermIgnored) {
            return self.follow(term, None, out);
        }
        if let Role::PreCandidate(candidate) = &mut self.role
            && granted == Some(self.term.next())
        {
            candidate.votes.insert(from);
            self.count_votes(out);
        }
    }

    /// `ask`: the end of the candidate's log, and whether the leader sent it.
    pub(crate) fn vote_asked(
        &mut self,
        from: MemberId,
        term: Term,
        ask: (LogId, bool),
        out: &mut Output,
    ) {
        let (last, transfer) = ask;
        let stranger =
            planted::is(Bug::VoteByOwnConfiguration) && !self.log.configuration().is_voter(from);
        let heeded = !stranger && (transfer || !self.is_sticky(from));
        if heeded {
            self.adopt(term, out);
        }
        let free = self.vote.is_none() || self.vote == Some(from);
        let longer = planted::is(Bug::VoteByLength) && last.index > self.log.last().index;
        let longest = last >= self.log.last() || longer;
        let granted = heeded && term == self.term && free && longest;
        if granted {
            self.grant(from, out);
        }
        if planted::is(Bug::VoteBeforeDurable) {
            let message = Message { term: self.term, body: Body::VoteReply { granted } };
            return out.sends.push(Envelope { to: from, message, after: IoSeq(0) });
        }
        self.send(from, Body::VoteReply { granted }, IoSeq(0), out);
    }

    fn grant(&mut self, to: MemberId, out: &mut Output) {
        assert!(!matches!(self.role, Role::Leader(_)), "a leader's vote is its own");
        if self.vote.is_none() {
            self.set_hard_state(self.term, Some(to), out);
        }
        let deadline = self.election_deadline();
        match &mut self.role {
            Role::Follower(follower) => {
                follower.deadline = deadline;
                follower.hurry = None;
                follower.leader = None;
            }
            _ => self.role = Role::Follower(Follower::new(deadline)),
        }
    }

    pub(crate) fn vote_answered(
        &mut self,
        from: MemberId,
        term: Term,
        granted: bool,
        out: &mut Output,
    ) {
        if !self.adopt(term, out) {
            return;
        }
        if let Role::Candidate(candidate) = &mut self.role
            && granted
        {
            // Only the configuration's voters were asked, and it stays while this member stands.
            if !self.log.configuration().is_voter(from) {
                return ignore(from, "a vote of no voter", out);
            }
            candidate.votes.insert(from);
            self.count_votes(out);
        }
    }

    /// The own vote counts from when it is durable.
    pub(crate) fn count_own_vote(&mut self, out: &mut Output) {
        if self.writes.hard_state_fence() != IoSeq(0) {
            return;
        }
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.votes.insert(self.config.id);
            self.count_votes(out);
        }
    }

    fn count_votes(&mut self, out: &mut Output) {
        let won = |votes: &BTreeSet<MemberId>| {
            has_quorum(self.log.configuration(), |id| votes.contains(&id))
        };
        match &self.role {
            // The disk may have begun to hang since the pre-vote was asked for.
            Role::PreCandidate(candidate) if won(&candidate.votes) && self.may_stand() => {
                self.stand(false, out);
            }
            Role::Candidate(candidate) if won(&candidate.votes) => self.lead(out),
            _ => {}
        }
    }
}
