//! Linearizable reads: rounds by which a leader makes sure that it still leads.
//!
//! Invariants: a round that confirms a read started after the read arrived; round numbers rise
//! within a term and are never reused in it; every ticket is answered once. Must not rest on time:
//! there are no leader leases here (dissertation, section 6.4).

use crate::message::{Outcome, Output, Why};
use crate::planted::{self, Bug};
use crate::types::{Index, MemberId, Round, Ticket};
use std::collections::VecDeque;

#[derive(Clone, Default, Hash)]
pub(crate) struct Reads {
    /// Arrived after the last round started.
    waiting: Vec<Ticket>,
    /// Rounds under way, oldest first.
    rounds: VecDeque<Started>,
    last: Round,
}

#[derive(Clone, Hash)]
struct Started {
    round: Round,
    commit: Index,
    tickets: Vec<Ticket>,
}

impl Reads {
    pub(crate) fn add(&mut self, ticket: Ticket) {
        if planted::is(Bug::ReadJoinsOlderRound)
            && let Some(started) = self.rounds.back_mut()
        {
            return started.tickets.push(ticket);
        }
        self.waiting.push(ticket);
    }

    /// The last round started in this term; 0: none.
    pub(crate) fn last(&self) -> Round {
        self.last
    }

    /// Starts a round without a read: who acknowledges it does so after now.
    pub(crate) fn probe(&mut self) -> Round {
        self.last = Round(self.last.0 + 1);
        self.last
    }

    /// Starts one round for all who wait.
    pub(crate) fn start(&mut self, commit: Index) {
        if self.waiting.is_empty() {
            return;
        }
        self.probe();
        let tickets = std::mem::take(&mut self.waiting);
        self.rounds.push_back(Started { round: self.last, commit, tickets });
    }

    /// A quorum has acknowledged this round, and so all before it.
    pub(crate) fn confirm(&mut self, round: Round, out: &mut Output) {
        assert!(round <= self.last, "only started rounds are acknowledged");
        while let Some(started) = self.rounds.front()
            && started.round <= round
        {
            let read_at = Outcome::ReadAt(started.commit);
            out.done.extend(started.tickets.iter().map(|ticket| (*ticket, read_at)));
            self.rounds.pop_front();
        }
    }

    /// Leadership is over.
    pub(crate) fn fail(&mut self, hint: Option<MemberId>, out: &mut Output) {
        let started = self.rounds.drain(..).flat_map(|started| started.tickets);
        let refused = Outcome::NotAppended(Why::NotLeader, hint);
        out.done.extend(started.chain(self.waiting.drain(..)).map(|ticket| (ticket, refused)));
    }

    pub(crate) fn check(&self) {
        assert!(self.rounds.iter().is_sorted_by(|a, b| a.round < b.round && a.commit <= b.commit));
        assert!(self.rounds.back().is_none_or(|started| started.round <= self.last));
    }
}
