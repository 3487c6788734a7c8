//! Healed but for one member: a majority that lives is all that a group may ask for.

use crate::world::World;
use quorate_raft::{Configuration, Index, Node, RoleName};

/// What stays wrong with one member.
#[derive(Clone, Copy, Debug)]
pub enum Away {
    /// It is down.
    Down,
    /// Its disk finishes nothing.
    Hung,
    /// Nothing reaches it.
    Deaf,
    /// It reaches nobody.
    Mute,
}

impl World {
    /// Everybody lives but one, whose absence leaves a majority of each half of each configuration
    /// that any log ends with. Who was drained stays so. None: no such member.
    fn heal_but_one(&mut self, away: Away) -> Option<u64> {
        self.faulty = false;
        self.cut.clear();
        let all: Vec<u64> = self.members.keys().copied().collect();
        for id in &all {
            if self.members[id].node.is_none() {
                self.start(*id);
            }
        }
        let nodes = || self.members.values().filter_map(|member| member.node.as_ref());
        let configurations: Vec<&Configuration> = nodes().map(Node::configuration).collect();
        let spare: Vec<u64> =
            all.iter().copied().filter(|id| can_spare(&configurations, *id)).collect();
        let leads = |id: &u64| {
            self.members[id].node.as_ref().is_some_and(|node| node.role() == RoleName::Leader)
        };
        let leader = spare.iter().copied().find(leads);
        let count = u64::try_from(spare.len()).expect("small");
        let any = (count > 0).then(|| self.dice.below(count))?;
        let any = spare[usize::try_from(any).expect("small")];
        let one = leader.filter(|_| self.dice.below(2) == 0).unwrap_or(any);
        let others = all.into_iter().filter(|other| *other != one);
        match away {
            Away::Down => self.crash(one),
            Away::Hung => self.hung = Some(one),
            Away::Deaf => self.cut.extend(others.map(|other| (other, one))),
            Away::Mute => self.cut.extend(others.map(|other| (one, other))),
        }
        Some(one)
    }

    /// Whether something was committed since `before`, and no change is left half done.
    fn has_gone_on(&self, before: Index) -> bool {
        self.checks.last() > before && !self.configuration_in_effect().is_joint()
    }
}

fn can_spare(configurations: &[&Configuration], id: u64) -> bool {
    let lives = |half: &std::collections::BTreeMap<_, _>| {
        let up = half.keys().filter(|one: &&quorate_raft::MemberId| one.0 != id.into()).count();
        half.is_empty() || up * 2 > half.len()
    };
    let known = configurations.iter().filter(|configuration| !configuration.is_empty());
    known.into_iter().all(|c| lives(&c.incoming) && lives(&c.outgoing))
}

/// Runs a seed. None: nothing of the kind to see there.
pub fn goes_on(seed: u64, away: Away, second: u64) -> Option<bool> {
    let mut world = World::new(seed);
    world.run((3 + seed % 7 * 2) * second, World::trouble);
    world.heal_but_one(away)?;
    if world.checks.last() < Index(2) {
        return None;
    }
    world.run(24 * second, |_| {});
    let before = world.checks.last();
    world.run(5 * second, |world| {
        let all: Vec<u64> = world.members.keys().copied().collect();
        all.into_iter().for_each(|id| world.ask(id));
    });
    world.run(3 * second, |_| {});
    world.check_logs();
    Some(world.has_gone_on(before))
}
