//! Handing leadership over (dissertation, section 3.10).
//!
//! Invariants: the target stands only with a log that ends where the leader's does; a transfer that
//! is not taken in time is given up and proposals resume. A drained leader offers leadership again
//! and again, to one after the other. Must not rest on the transfer: any member may win in between.

use crate::leader::Leader;
use crate::message::{Body, Outcome, Output, Why};
use crate::node::{Node, Role};
use crate::planted::{self, Bug};
use crate::types::{IoSeq, MemberId, Ticket, Time};
use std::collections::BTreeSet;

/// Election timeouts between two offers of a drained leader: proposals wait during each.
const OFFER_PAUSE: u64 = 4;

/// Leadership on its way to another member. No proposals meanwhile, so that its log can catch up.
#[derive(Clone, Hash)]
pub(crate) struct Handover {
    pub(crate) target: MemberId,
    pub(crate) deadline: Time,
    /// Told to stand since the last heartbeat.
    pub(crate) told: bool,
}

impl Node {
    pub(crate) fn transfer(&mut self, ticket: Ticket, to: Option<MemberId>, out: &mut Output) {
        let outcome = match &self.role {
            Role::Leader(leader) if leader.handover.is_some() => Err(Why::Transferring),
            Role::Leader(_) => self.hand_over(to).ok_or(Why::NoTarget),
            _ => Err(self.not_leading()),
        };
        let outcome = match outcome {
            Ok(target) => Outcome::Transferring(target),
            Err(why) => Outcome::NotAppended(why, self.leader()),
        };
        out.done.push((ticket, outcome));
    }

    /// Begins to hand leadership to `to`, or to the most caught-up voter. Only to one heard of
    /// within T, and to none that is about to leave.
    pub(crate) fn hand_over(&mut self, to: Option<MemberId>) -> Option<MemberId> {
        let Role::Leader(leader) = &self.role else { return None };
        let target = self.successor(leader, to)?;
        let deadline = self.now.after(self.config.transfer_ns);
        if let Role::Leader(leader) = &mut self.role {
            leader.handover = Some(Handover { target, deadline, told: false });
        }
        Some(target)
    }

    /// Whether a member may take over: a voter that lives.
    fn may_succeed(&self, leader: &Leader, id: MemberId) -> bool {
        id != self.config.id
            && self.log.configuration().incoming.contains_key(&id)
            && self.is_heard(leader, id)
    }

    /// The most caught-up of those who may take over; who did not take an offer comes last.
    fn successor(&self, leader: &Leader, named: Option<MemberId>) -> Option<MemberId> {
        let live = leader.progress.iter().filter(|(id, _)| {
            named.is_none_or(|named| named == **id) && self.may_succeed(leader, **id)
        });
        let fresh = |id: &MemberId| !leader.declined.contains(id);
        let best = live.max_by_key(|(id, progress)| (fresh(id), progress.matched, **id));
        best.map(|(id, _)| *id)
    }

    /// Ends a transfer that was not taken in time: proposals resume.
    pub(crate) fn resume_in_time(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let late = |handover: &Handover| self.now >= handover.deadline;
        let late = |handover: &mut Handover| late(handover) && !planted::is(Bug::TransferForEver);
        let Some(handover) = leader.handover.take_if(late) else { return };
        leader.declined.insert(handover.target);
        let pause = self.config.election_timeout_ns.saturating_mul(OFFER_PAUSE);
        leader.offer = self.now.after(pause);
        let Role::Leader(leader) = &self.role else { return };
        let fresh = |id: &MemberId| !leader.declined.contains(id) && self.may_succeed(leader, *id);
        let round_over = !leader.progress.keys().any(fresh);
        if let Role::Leader(leader) = &mut self.role
            && round_over
        {
            // Each had its turn: the next round does not begin with whom this one ended.
            leader.declined = BTreeSet::from([handover.target]);
        }
    }

    /// A drained leader stands in for whoever takes over.
    pub(crate) fn offer_again(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if self.drained && leader.ready && leader.handover.is_none() && self.now >= leader.offer {
            // Nobody there: with the next heartbeat again.
            let _ = self.hand_over(None);
        }
    }

    pub(crate) fn drain(&mut self, out: &mut Output) {
        self.drained = true;
        match &self.role {
            Role::Leader(leader) => {
                let under_way = leader.handover.is_some();
                if !under_way && self.hand_over(None).is_none() {
                    self.step_down(out);
                }
            }
            Role::PreCandidate(_) | Role::Candidate(_) => self.follow(self.term, None, out),
            Role::Follower(_) => {}
        }
        let deadline = self.election_deadline();
        if let Role::Follower(follower) = &mut self.role
            && follower.deadline != Time::NEVER
        {
            follower.deadline = follower.deadline.max(deadline);
            follower.hurry = None;
        }
    }

    pub(crate) fn undrain(&mut self) {
        self.drained = false;
        let deadline = self.first_deadline();
        if let Role::Follower(follower) = &mut self.role {
            follower.deadline = follower.deadline.min(deadline);
        }
    }

    /// Tells the target to stand once its log ends where ours does.
    pub(crate) fn order_target(&mut self, out: &mut Output) {
        let last = self.log.last();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(handover) = &mut leader.handover else { return };
        let matched = leader.progress.get(&handover.target).map(|progress| progress.matched);
        if !handover.told && matched == Some(last.index) {
            handover.told = true;
            let target = handover.target;
            self.send(target, Body::TimeoutNow { last }, IoSeq(0), out);
        }
    }

    /// A leader that the last change has removed is done once that is committed. It ends with this
    /// flush, which tells everybody of the commit, and calls on a successor.
    pub(crate) fn retire(&mut self, out: &mut Output) {
        let configuration = self.log.configuration();
        let voter = configuration.is_voter(self.config.id);
        let Role::Leader(leader) = &self.role else { return };
        if voter || self.commit.index < configuration.index {
            return;
        }
        let last = self.log.last();
        if let Some(target) = self.successor(leader, None)
            && leader.progress.get(&target).is_some_and(|held| held.matched == last.index)
        {
            self.send(target, Body::TimeoutNow { last }, IoSeq(0), out);
        }
        self.step_down(out);
    }
}
