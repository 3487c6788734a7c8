//! Changing the membership by joint consensus (Raft paper, section 6), as the leader does it:
//! learners first, a joint configuration, the new one; or the old one again.
//!
//! Invariants: a leader appends no configuration before an entry of its own term is committed; but
//! it may give up a joint one that it appended itself in this term. It begins only when the one in
//! effect is committed and both halves have an entry durable that follows the request, and leaves a
//! joint one only once that is committed. Every ticket is answered once. Must not decide anything
//! for a follower: there a configuration is a function of snapshot and log.
//!
//! Looser rules break. *Given up too soon*, from 1 2 3 to 2 3 4: leader 2 commits the joint
//! configuration and appends the new one on itself alone; 3, elected by 1 3 4, gives up the joint
//! one at once and commits with 1 3; 2, elected by 2 4 under the new one, commits with those. *Left
//! too soon*: the same with the two ends exchanged. A committed entry of the own term makes sure
//! that nobody with an unseen ending of the same joint configuration can be elected any more.

use crate::configuration::Configuration;
use crate::leader::Leader;
use crate::message::{Change, Outcome, Output, Refused, Why};
use crate::node::{Node, Role};
use crate::planted::{self, Bug};
use crate::progress::Progress;
use crate::quorum::half_agrees;
use crate::types::{Index, Kind, LogId, MemberId, Round, Ticket, Time};
use std::collections::BTreeMap;

/// What a leader knows of changes.
#[derive(Clone, Default, Hash)]
pub(crate) struct Membership {
    asked: Option<Asked>,
    changing: Option<Changing>,
    /// Who left, and is still told so.
    departing: BTreeMap<MemberId, Departing>,
    /// Leadership was offered to the new voters: not twice in one change.
    offered: bool,
}

/// A joint change that waits for its new voters' logs, and for the disks of both halves.
#[derive(Clone, Hash)]
struct Asked {
    ticket: Ticket,
    joint: Configuration,
    /// A no-op appended at the request: whoever has it durable lives, and so does its disk.
    proof: Index,
    deadline: Time,
}

/// Configuration entries under way.
#[derive(Clone, Hash)]
struct Changing {
    /// Of the change, if this leader took it.
    change: Option<Ticket>,
    /// Of the request to give it up.
    abort: Option<Ticket>,
    given_up: bool,
    /// The last of the entries.
    at: LogId,
    /// Until then the new half of a joint configuration has to have it durable.
    patience: Time,
}

#[derive(Clone, Hash)]
struct Departing {
    /// The configuration without it.
    at: Index,
    /// Once that is committed: a round since then, and until when its answer is waited for.
    told: Option<(Round, Time)>,
}

impl Membership {
    /// Leadership is over.
    pub(crate) fn fail(&mut self, hint: Option<MemberId>, out: &mut Output) {
        if let Some(asked) = self.asked.take() {
            out.done.push((asked.ticket, Outcome::NotAppended(Why::NotLeader, hint)));
        }
        if let Some(changing) = self.changing.take() {
            let tickets = changing.change.into_iter().chain(changing.abort);
            out.done.extend(tickets.map(|ticket| (ticket, Outcome::Unknown(changing.at))));
        }
    }

    /// When something has waited long enough.
    pub(crate) fn deadline(&self) -> Time {
        let asked = self.asked.as_ref().map(|asked| asked.deadline);
        let patience = self.changing.as_ref().map(|changing| changing.patience);
        let told = self.departing.values().filter_map(|departing| departing.told);
        let told = told.map(|(_, deadline)| deadline);
        told.chain(asked).chain(patience).min().unwrap_or(Time::NEVER)
    }

    /// Who left, and is still told so.
    pub(crate) fn departing(&self) -> impl Iterator<Item = MemberId> {
        self.departing.keys().copied()
    }
}

impl Node {
    /// The host asks for a change.
    pub(crate) fn change(&mut self, ticket: Ticket, change: Change, out: &mut Output) {
        let result = match change {
            Change::Abort { expected } => self.give_up(ticket, expected, out),
            Change::To { expected, voters, learners } => {
                let index = Index(0);
                let target =
                    Configuration { incoming: voters, learners, index, ..Default::default() };
                self.ask(ticket, expected, target, out)
            }
        };
        if let Err(refused) = result {
            out.done.push((ticket, refused));
        }
    }

    /// What every change needs: to lead, and the configuration that the asker meant.
    fn may_change(&self, expected: Index) -> Result<&Leader, Outcome> {
        let Role::Leader(leader) = &self.role else {
            return Err(Outcome::NotAppended(self.not_leading(), self.leader()));
        };
        let index = self.log.configuration_index();
        if expected == index { Ok(leader) } else { Err(refuse(Refused::Moved(index))) }
    }

    fn ask(
        &mut self,
        ticket: Ticket,
        expected: Index,
        target: Configuration,
        out: &mut Output,
    ) -> Result<(), Outcome> {
        let leader = self.may_change(expected)?;
        let present = self.log.configuration();
        if leader.handover.is_some() {
            return Err(Outcome::NotAppended(Why::Transferring, self.leader()));
        }
        let loose = planted::is(Bug::BeginLoose);
        if self.commit.index < leader.noop && !loose {
            return Err(refuse(Refused::NotReady));
        }
        let settled = self.commit.index >= present.index || loose;
        let under_way = leader.membership.asked.is_some() || !settled;
        if under_way || present.is_joint() {
            return Err(refuse(Refused::UnderWay));
        }
        check_target(present, &target).map_err(refuse)?;
        if target.incoming.keys().eq(present.incoming.keys()) {
            let at = self.append_configuration(target, out);
            self.note(Some(ticket), None, at);
            return Ok(());
        }
        let joint = present.joined(&target);
        let deadline = self.now.after(self.config.change_ns);
        let proof = self.append_own(Kind::Noop, &[], out).index;
        if let Role::Leader(leader) = &mut self.role {
            leader.membership.asked = Some(Asked { ticket, joint, proof, deadline });
        }
        Ok(())
    }

    fn give_up(
        &mut self,
        ticket: Ticket,
        expected: Index,
        out: &mut Output,
    ) -> Result<(), Outcome> {
        let leader = self.may_change(expected)?;
        if !self.log.configuration().is_joint() {
            return Err(refuse(Refused::NotJoint));
        }
        let committed = self.commit.index >= leader.noop || planted::is(Bug::AbortLoose);
        if !committed && !self.began_joint(leader) {
            return Err(refuse(Refused::NotReady));
        }
        self.append_given_up(Some(ticket), out);
        Ok(())
    }

    fn append_given_up(&mut self, abort: Option<Ticket>, out: &mut Output) {
        let former = self.log.configuration().given_up();
        let at = self.append_configuration(former, out);
        let change = match &mut self.role {
            Role::Leader(leader) => leader.membership.changing.take().and_then(|c| c.change),
            _ => None,
        };
        self.note(change, abort, at);
        if let Role::Leader(leader) = &mut self.role
            && let Some(changing) = &mut leader.membership.changing
        {
            changing.given_up = true;
        }
    }

    fn note(&mut self, change: Option<Ticket>, abort: Option<Ticket>, at: LogId) {
        let joint = self.log.configuration().is_joint();
        let late = self.now.after(self.config.election_timeout_ns);
        let patience = if joint { late } else { Time::NEVER };
        if let Role::Leader(leader) = &mut self.role {
            assert!(leader.membership.changing.is_none(), "one change at a time");
            let changing = Changing { change, abort, given_up: false, at, patience };
            leader.membership.changing = Some(changing);
        }
    }

    /// Whether the configuration in effect is joint and this leader appended it in this term.
    fn began_joint(&self, leader: &Leader) -> bool {
        let configuration = self.log.configuration();
        configuration.is_joint() && configuration.index > leader.noop
    }

    /// Appends a configuration, which takes effect by that, and adapts who is sent what.
    fn append_configuration(&mut self, configuration: Configuration, out: &mut Output) -> LogId {
        assert!(configuration.is_sound() && configuration.fits());
        let present = self.log.configuration();
        if let Role::Leader(leader) = &self.role {
            let own = self.commit.index >= leader.noop;
            let begins = !present.is_joint();
            let settled = own && self.commit.index >= present.index;
            let loose = planted::is(Bug::BeginLoose);
            assert!(!begins || settled || loose, "committed first");
            let loose = loose || planted::is(Bug::AbortLoose) || planted::is(Bug::LeaveLoose);
            assert!(own || self.began_joint(leader) || loose, "an own entry is committed first");
        }
        let at = self.append_own(Kind::Configuration, &configuration.encode(), out);
        let (me, now) = (self.config.id, self.now);
        let members: Vec<MemberId> = configuration.members().map(|(id, _)| id).collect();
        let Role::Leader(leader) = &mut self.role else { return at };
        let Leader { progress, membership, reads, .. } = &mut **leader;
        for id in members.iter().filter(|id| **id != me) {
            membership.departing.remove(id);
            // A late answer to a round of an earlier stay is an honest one.
            let fresh = || Progress { asked: reads.last(), ..Progress::new(at.index, now) };
            progress.entry(*id).or_insert_with(fresh);
        }
        for id in progress.keys().filter(|id| !members.contains(id)) {
            let departing = || Departing { at: at.index, told: None };
            membership.departing.entry(*id).or_insert_with(departing);
        }
        at
    }

    /// After every step: whatever of a change may happen now, does.
    pub(crate) fn advance_membership(&mut self, out: &mut Output) {
        let Role::Leader(leader) = &self.role else { return };
        let Membership { asked, changing, departing, .. } = &leader.membership;
        let quiet = asked.is_none() && changing.is_none() && departing.is_empty();
        if quiet && !self.log.configuration().is_joint() {
            return;
        }
        self.begin(out);
        self.give_up_for_disks(out);
        self.leave_joint(out);
        self.conclude(out);
        self.let_go();
    }

    /// Makes the joint configuration of the change that waits, or refuses it when it is late.
    fn begin(&mut self, out: &mut Output) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(asked) = &leader.membership.asked else { return };
        let ready = self.is_ready(leader, asked);
        if ready.is_err() && self.now < asked.deadline {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(Asked { ticket, joint, .. }) = leader.membership.asked.take() else { return };
        leader.membership.offered = false;
        match ready {
            Err(outcome) => out.done.push((ticket, outcome)),
            Ok(()) => {
                let at = self.append_configuration(joint, out);
                self.note(Some(ticket), None, at);
            }
        }
    }

    fn is_ready(&self, leader: &Leader, asked: &Asked) -> Result<(), Outcome> {
        if leader.handover.is_some() {
            return Err(Outcome::NotAppended(Why::Transferring, self.leader()));
        }
        let last = self.log.last().index;
        let Configuration { incoming, outgoing, .. } = &asked.joint;
        for id in incoming.keys().filter(|id| !outgoing.contains_key(id)) {
            let progress = leader.progress.get(id);
            if !progress.is_some_and(|p| p.is_caught_up(last, self.config.window_entries)) {
                return Err(refuse(Refused::NotCaughtUp(*id)));
            }
        }
        let durable = |id| self.is_durable_at(leader, id, asked.proof);
        if !half_agrees(outgoing, durable) {
            return Err(refuse(Refused::OutgoingSilent));
        }
        if half_agrees(incoming, durable) { Ok(()) } else { Err(refuse(Refused::IncomingSilent)) }
    }

    /// Whether this member's disk has the log up to `index`, as far as is known here.
    fn is_durable_at(&self, leader: &Leader, id: MemberId, index: Index) -> bool {
        let matched = leader.progress.get(&id).map_or(Index(0), |progress| progress.matched);
        let matched = if id == self.config.id { self.log.durable() } else { matched };
        matched >= index
    }

    /// Carries a committed joint configuration through, whoever began it. A leader that is not
    /// among the new voters offers them leadership first.
    fn leave_joint(&mut self, out: &mut Output) {
        let configuration = self.log.configuration();
        let Role::Leader(leader) = &self.role else { return };
        let joint = configuration.is_joint() && self.commit.index >= configuration.index;
        let committed = self.commit.index >= leader.noop || planted::is(Bug::LeaveLoose);
        if !joint || !committed || leader.handover.is_some() {
            return;
        }
        let completed = configuration.completed();
        if !completed.is_voter(self.config.id) && !leader.membership.offered {
            if let Role::Leader(leader) = &mut self.role {
                leader.membership.offered = true;
            }
            if self.hand_over(None).is_some() {
                return;
            }
        }
        let at = self.append_configuration(completed, out);
        if let Role::Leader(leader) = &mut self.role
            && let Some(changing) = &mut leader.membership.changing
        {
            (changing.at, changing.patience) = (at, Time::NEVER);
        }
    }

    /// Answers for what is committed, and lets those who left know.
    fn conclude(&mut self, out: &mut Output) {
        let (joint, at) = (self.log.configuration().is_joint(), self.log.configuration_index());
        let commit = self.commit.index;
        let Role::Leader(leader) = &mut self.role else { return };
        if !joint
            && commit >= at
            && let Some(changing) = leader.membership.changing.take()
        {
            let changed = Outcome::Changed(at);
            let given_up = refuse(Refused::GivenUp);
            let outcome = if changing.given_up { given_up } else { changed };
            out.done.extend(changing.change.map(|ticket| (ticket, outcome)));
            out.done.extend(changing.abort.map(|ticket| (ticket, changed)));
        }
        let deadline = self.now.after(self.config.election_timeout_ns);
        let Leader { membership, reads, .. } = &mut **leader;
        let news = |departing: &&mut Departing| departing.told.is_none() && departing.at <= commit;
        let mut round = None;
        for departing in membership.departing.values_mut().filter(news) {
            departing.told = Some((*round.get_or_insert_with(|| reads.probe()), deadline));
        }
    }

    /// Forgets who left and acknowledged a round since that was committed, or was silent for T.
    fn let_go(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Leader { membership, progress, .. } = &mut **leader;
        membership.departing.retain(|id, departing| {
            let Some((round, deadline)) = departing.told else { return true };
            let knows = |p: &Progress| p.acked >= round && p.matched >= departing.at;
            let stays = self.now < deadline && !progress.get(id).is_some_and(knows);
            if !stays {
                progress.remove(id);
            }
            stays
        });
    }

    /// A quorum is silent. If only the new half of a joint configuration is that this leader
    /// began, it gives it up at once: else the group would wait for those for ever. From then on
    /// the old half alone decides. Gives whether it did.
    pub(crate) fn give_up_for_silence(&mut self, out: &mut Output) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let old = &self.log.configuration().outgoing;
        let began = self.began_joint(leader) && !planted::is(Bug::SilentHalfKept);
        if !began || !half_agrees(old, |id| self.is_heard(leader, id)) {
            return false;
        }
        self.append_given_up(None, out);
        true
    }

    /// The old half of a joint configuration that this leader began has it durable, and the new
    /// half has not within T: its disks hang, and while it answers nobody else would notice.
    fn give_up_for_disks(&mut self, out: &mut Output) {
        let at = self.log.configuration().index;
        let Role::Leader(leader) = &self.role else { return };
        let late = |changing: &Changing| self.now >= changing.patience;
        if !leader.membership.changing.as_ref().is_some_and(late) {
            return;
        }
        let committed = self.commit.index >= at;
        let old = &self.log.configuration().outgoing;
        let began = self.began_joint(leader) && !planted::is(Bug::SilentHalfKept);
        let durable = |id| self.is_durable_at(leader, id, at);
        if !committed && began && half_agrees(old, durable) {
            return self.append_given_up(None, out);
        }
        let again = self.now.after(self.config.election_timeout_ns);
        if let Role::Leader(leader) = &mut self.role
            && let Some(changing) = &mut leader.membership.changing
        {
            changing.patience = if committed { Time::NEVER } else { again };
        }
    }

    pub(crate) fn check_membership(&self, leader: &Leader) {
        let Membership { asked, changing, departing, .. } = &leader.membership;
        let configuration = self.log.configuration();
        let under_way = configuration.is_joint() || self.commit.index < configuration.index;
        assert!(asked.is_none() || !under_way, "one change at a time");
        assert!(changing.is_none() || configuration.index > leader.noop);
        assert!(changing.as_ref().is_none_or(|c| c.at.index == configuration.index));
        assert!(departing.keys().all(|id| !configuration.contains(*id)));
        assert!(departing.values().all(|d| d.at > leader.noop && d.at <= configuration.index));
    }
}

fn refuse(why: Refused) -> Outcome {
    Outcome::NotChanged(why)
}

/// Whether `target` can follow `present`.
fn check_target(present: &Configuration, target: &Configuration) -> Result<(), Refused> {
    if target.incoming.is_empty() {
        return Err(Refused::NoVoters);
    }
    if let Some(id) = target.learners.keys().find(|id| target.incoming.contains_key(id)) {
        return Err(Refused::VoterAndLearner(*id));
    }
    if target.incoming == present.incoming && target.learners == present.learners {
        return Err(Refused::Unchanged);
    }
    if !present.joined(target).fits() {
        return Err(Refused::TooLarge);
    }
    match target.incoming.keys().find(|id| !present.contains(**id)) {
        Some(id) => Err(Refused::NotLearner(*id)),
        None => Ok(()),
    }
}
