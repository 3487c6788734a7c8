//! What clients ask, and what goes wrong.

use crate::checks::Checks;
use crate::world::World;
use quorate_raft::*;

impl World {
    /// A client asks this member for something.
    pub fn ask(&mut self, id: u64) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let what = self.dice.below(100);
        if what < 60 {
            let command = self.tickets.to_le_bytes()[..].into();
            return self.act(id, Input::Propose(ticket, command));
        }
        if what < 98 {
            self.checks.read_asked(ticket);
            return self.act(id, Input::Read(ticket));
        }
        self.act(id, Input::Transfer(ticket));
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
