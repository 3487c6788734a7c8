//! Who belongs to the group: the simulated operator, and disks that are lost for good.
//!
//! Faults stay within what the promises allow: at every moment a majority of each half of every
//! configuration that any member knows has a disk that works.

use crate::simulator::checker::Broken;
use crate::simulator::node::Rot;
use crate::simulator::world::{Happening, SEATS, World};
use quorate_raft::{Change, Configuration, Index, MemberId, Outcome, RoleName};
use quorate_sidecar::member::Event;
use quorate_sidecar::replica::Event as ReplicaEvent;
use std::collections::BTreeMap;

const MILLI: u64 = 1_000_000;

/// What it is called in configurations.
pub(super) fn name_of(id: MemberId) -> String {
    format!("member-{id}")
}

impl World {
    /// The seat of the leader of the newest term, if anybody leads.
    pub(super) fn leading(&self) -> Option<usize> {
        let leaders = self.nodes.iter().enumerate().filter_map(|(seat, n)| {
            let node = n.member.as_ref()?.replica().node();
            (node.role() == RoleName::Leader).then(|| (node.term(), seat))
        });
        leaders.max().map(|(_, seat)| seat)
    }

    /// The newest configuration that was applied anywhere.
    pub(super) fn membership(&self) -> Option<&Configuration> {
        let nodes = self.nodes.iter().filter_map(|n| Some(n.last()?.replica().node()));
        let applied = nodes.filter(|n| n.configuration_index() <= n.applied());
        applied.max_by_key(|n| n.configuration_index()).map(|n| n.configuration())
    }

    /// Who sits there votes, by the newest configuration that was applied anywhere.
    pub(super) fn votes(&self, seat: usize) -> bool {
        let id = self.nodes[seat].id;
        self.membership().is_some_and(|c| c.incoming.contains_key(&id))
    }

    /// Whether whoever sits there belongs to the group.
    pub(super) fn belongs(&self, seat: usize) -> bool {
        self.membership().is_none_or(|now| now.contains(self.nodes[seat].id))
    }

    /// The simulated operator looks, and may ask for another membership.
    pub(super) fn operate(&mut self) {
        let next = self.random.between(300, 4_000) * MILLI;
        self.after(next, Happening::Operate);
        if self.healed {
            // A healthy group is left alone: each change of leader renews every session.
            return;
        }
        let nodes = self.nodes.iter().filter_map(|n| Some(n.last()?.replica().node()));
        if nodes.into_iter().all(|n| n.last().index == Index(0)) {
            // Lost before it was durable: nobody acknowledged it.
            return self.bootstrap();
        }
        let Some(leader) = self.leading() else { return };
        let Some(member) = &self.nodes[leader].member else { return };
        let node = member.replica().node();
        let (expected, now) = (node.configuration_index(), node.configuration().clone());
        if now.is_joint() {
            // Mostly it is patient.
            if self.random.permille(150) {
                self.give_up(leader);
            }
            return;
        }
        let Some((voters, learners)) = self.wanted(&now) else { return };
        self.changes += 1;
        self.asked.insert(self.changes, (leader, voters.clone()));
        self.ask(leader, Change::To { expected, voters, learners });
    }

    fn ask(&mut self, leader: usize, change: Change) {
        let event = ReplicaEvent::Change(self.changes, change);
        self.deliver(leader, Event::Replica(event));
    }

    /// A leader has another configuration. A joint one mostly lasts for a few syncs only: to give
    /// it up in that time, the operator must have thought of it before.
    pub(super) fn think_again(&mut self, seat: usize) {
        let joint = self.nodes[seat].known.1.is_joint() && self.leading() == Some(seat);
        if joint && !self.healed && self.random.permille(100) {
            let soon = self.random.between(0, 4 * self.profile.latency_ns);
            self.after(soon, Happening::GiveUp(seat));
        }
    }

    /// The operator wants the old voters back.
    pub(super) fn give_up(&mut self, leader: usize) {
        let Some(member) = &self.nodes[leader].member else { return };
        let node = member.replica().node();
        if self.healed || node.role() != RoleName::Leader || !node.configuration().is_joint() {
            return;
        }
        let expected = node.configuration_index();
        self.count("joint change given up by the operator");
        self.changes += 1;
        self.ask(leader, Change::Abort { expected });
    }

    /// Other voters, by chance; who has lost his disk for good is replaced first.
    fn wanted(
        &mut self,
        now: &Configuration,
    ) -> Option<(BTreeMap<MemberId, String>, BTreeMap<MemberId, String>)> {
        let here: Vec<MemberId> =
            self.nodes.iter().filter(|n| n.rot == Rot::None).map(|n| n.id).collect();
        let lost = now.incoming.keys().any(|id| !here.contains(id));
        if !lost && !self.random.permille(self.profile.churn_permille) {
            return None;
        }
        let size = *self.random.pick(&[1, 2, 3, 3, 4, 5, 5, 5, 5]);
        let mut voters: Vec<MemberId> = if self.random.permille(600) {
            now.incoming.keys().copied().filter(|id| here.contains(id)).collect()
        } else {
            Vec::new()
        };
        let mut others = here;
        self.random.shuffle(&mut others);
        voters.extend(others.iter().filter(|id| !voters.contains(id)).copied().collect::<Vec<_>>());
        let mut rest = voters.split_off(size.min(voters.len()));
        rest.retain(|_| self.random.permille(300));
        let named = |ids: Vec<MemberId>| ids.into_iter().map(|id| (id, name_of(id))).collect();
        Some((named(voters), named(rest)))
    }

    /// How a change ended.
    pub(super) fn changed(&mut self, request: u64, outcome: &Outcome) {
        self.asked.remove(&request);
        self.count(match outcome {
            Outcome::Changed(_) => "membership changed",
            Outcome::NotChanged(_) | Outcome::NotAppended(..) => "membership change refused",
            _ => "membership change unknown",
        });
    }

    /// Whether the disk of this seat may fail for good now: each half of each configuration that
    /// any member knows, or was asked for, keeps a majority of disks that work.
    pub(super) fn may_fail(&self, seat: usize) -> bool {
        let works = |id: &MemberId| {
            let at = self.nodes.iter().position(|n| n.id == *id);
            at.is_some_and(|at| at != seat && self.nodes[at].rot == Rot::None)
        };
        let known = self.nodes.iter().flat_map(|n| [&n.known.1, &n.known.2]);
        let known = known.flat_map(|c| [&c.incoming, &c.outgoing]);
        let asked = self.asked.values().map(|(_, voters)| voters);
        known
            .chain(asked)
            .filter(|half| !half.is_empty())
            .all(|half| half.keys().filter(|id| works(id)).count() * 2 > half.len())
    }

    /// The disk is lost: somebody new sits there soon.
    pub(super) fn lose_disk(&mut self, seat: usize) -> Result<(), Broken> {
        self.kill(seat, true)?;
        self.replace(seat);
        Ok(())
    }

    /// A new member with a blank disk takes the seat of one that is stopped.
    pub(super) fn replace(&mut self, seat: usize) {
        self.identities += 1;
        let id = MemberId(self.identities);
        self.trace.line(self.now, format_args!("{seat} is {id} from now on"));
        self.lost.insert(self.nodes[seat].id, self.nodes[seat].durable);
        self.nodes[seat].replace(id);
        let down = self.random.between(5, 2_000) * MILLI;
        self.start_after(seat, if self.healed { 1 } else { down });
    }

    /// A seat for a client: one whose member belongs to the group.
    pub(super) fn home(&mut self) -> usize {
        let belong: Vec<usize> = (0..SEATS).filter(|seat| self.belongs(*seat)).collect();
        if belong.is_empty() { self.random.index(SEATS) } else { *self.random.pick(&belong) }
    }
}
