//! What clients ask, and what goes wrong.

use crate::checks::Checks;
use crate::world::World;
use quorate_raft::*;
use std::collections::BTreeMap;

impl World {
    /// A client asks this member for something.
    pub fn ask(&mut self, id: u64) {
        if self.members[&id].node.is_none() {
            return;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let count = u64::try_from(self.members.len()).expect("small");
        let what = self.dice.below(100);
        if what < 60 {
            let command = self.tickets.to_le_bytes()[..].into();
            return self.act(id, Input::Propose(ticket, command));
        }
        self.checks.open.insert(ticket, id);
        if what < 97 {
            self.checks.read_asked(ticket);
            return self.act(id, Input::Read(ticket));
        }
        let to = self.dice.below(2 * count);
        self.act(id, Input::Transfer(ticket, (to < count).then_some(MemberId((1 + to).into()))));
    }

    /// Any voters of those who are there, whoever else as learners; or no change after all.
    fn change(&mut self, id: u64) {
        let Some(node) = &self.members[&id].node else { return };
        let (present, guess) = (node.configuration().clone(), node.last().index);
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let expected = if self.dice.below(20) == 0 { guess } else { present.index };
        if self.dice.below(6) == 0 || present.is_joint() {
            self.checks.open.insert(ticket, id);
            return self.act(id, Input::Change(ticket, Change::Abort { expected }));
        }
        let (mut voters, mut learners) = (present.incoming.clone(), BTreeMap::new());
        let moves = self.dice.below(3) > 0;
        let (stay, keep) = (10 + self.dice.below(90), 30 + self.dice.below(70));
        for (id, name) in self.members.keys().map(|id| (MemberId((*id).into()), format!("m{id}"))) {
            let (chosen, kept) = (self.dice.below(100) < stay, self.dice.below(100) < keep);
            if moves && present.contains(id) && chosen {
                voters.insert(id, name);
            } else if !moves && present.incoming.contains_key(&id) {
                continue;
            } else {
                voters.remove(&id);
                learners.extend(kept.then_some((id, name)));
            }
        }
        self.checks.open.insert(ticket, id);
        self.act(id, Input::Change(ticket, Change::To { expected, voters, learners }));
    }

    pub fn snapshot(&mut self, id: u64) {
        let member = &self.members[&id];
        let last = self.checks.committed.get(&member.applied);
        let Some(last) = last.map(|(last, _)| *last) else { return };
        let data = member.state.to_le_bytes()[..].into();
        let snapshot = Snapshot { last, configuration: Configuration::default(), data };
        self.act(id, Input::SnapshotBuilt(snapshot));
    }

    pub fn trouble(&mut self) {
        let count = u64::try_from(self.members.len()).expect("small");
        let (id, other) = (1 + self.dice.below(count), 1 + self.dice.below(count));
        self.ask(id);
        self.ask(other);
        let often = if self.members[&id].is_joint() { 30 } else { 3 };
        if self.dice.below(100) < often {
            let leads = |id: &u64| self.members[id].node.as_ref().map(Node::role);
            let leader = self.members.keys().find(|id| leads(id) == Some(RoleName::Leader));
            self.change(leader.copied().unwrap_or(id));
        }
        match self.dice.below(1000) {
            0..25 => self.crash(id),
            25..90 if self.members[&id].node.is_none() => self.start(id),
            90..115 => drop(self.cut.insert((id, other))),
            115..125 => self.cut.extend((1..=count).flat_map(|other| [(id, other), (other, id)])),
            125..135 => self.cut.clear(),
            135..140 => self.act(id, Input::Drain),
            140..150 => self.act(id, Input::Undrain),
            150..160 => self.act(id, Input::PeerLost(MemberId(other.into()))),
            160..220 => self.snapshot(id),
            220..240 => self.check_logs(),
            240..243 => (1..=count).for_each(|id| self.crash(id)),
            _ => {}
        }
    }

    pub fn heal(&mut self) {
        self.faulty = false;
        self.cut.clear();
        for id in self.members.keys().copied().collect::<Vec<_>>() {
            if self.members[&id].node.is_none() {
                self.start(id);
            }
            self.act(id, Input::Undrain);
        }
    }

    pub fn check_logs(&self) {
        Checks::logs(self.members.values().filter_map(|member| member.node.as_ref()));
    }
}
