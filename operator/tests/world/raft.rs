//! What a group does, as far as the operator can tell: logs of configurations, elections by a
//! majority of both halves, joint changes, learners that catch up later.
//!
//! Members act at once or not at all: a message is never under way between two steps.

use crate::dice::Dice;
use quorate_operator::observed::{Configuration, Follower, Identity, Member};
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds of silence that are told of a member without contact.
const SILENT_MS: u64 = 10_000;

/// Indexes are told by this much larger: a log is near by 256 entries, and here by two.
pub const SCALE: u64 = 100;

/// One entry; all but configurations are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub term: u64,
    pub configuration: Option<Configuration>,
}

/// A member's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub cluster: Option<Identity>,
    pub unfit: bool,
    pub quarantined: bool,
    pub retired: bool,
    pub term: u64,
    pub log: Vec<Entry>,
    /// Steps before it has caught up.
    pub behind: u64,
}

impl Disk {
    pub fn last(&self) -> u64 {
        u64::try_from(self.log.len()).unwrap()
    }

    /// The configuration in effect.
    pub fn configuration(&self) -> Configuration {
        let newest = self.log.iter().rev().find_map(|entry| entry.configuration.clone());
        newest.unwrap_or_default()
    }

    /// Whether it can be counted on.
    pub fn intact(&self) -> bool {
        !self.unfit && !self.quarantined && !self.retired
    }

    fn newest(&self) -> (u64, usize) {
        (self.log.last().map_or(0, |entry| entry.term), self.log.len())
    }

    fn append(&mut self, configuration: Option<Configuration>) {
        let (term, index) = (self.term, self.last() + 1);
        let configuration = configuration.map(|of| Configuration { index, ..of });
        self.log.push(Entry { term, configuration });
    }

    fn shared(&self, other: &Disk) -> u64 {
        let equal = self.log.iter().zip(&other.log).take_while(|(a, b)| a == b);
        u64::try_from(equal.count()).unwrap()
    }
}

/// All disks, and who of them leads what.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub disks: BTreeMap<Identity, Disk>,
    pub leader: Option<Identity>,
    /// What was committed, by group.
    pub committed: BTreeMap<Identity, Vec<Entry>>,
    /// Who runs and is connected; set before every step.
    pub up: BTreeSet<Identity>,
    pub draining: BTreeSet<Identity>,
    pub caught_up: BTreeSet<Identity>,
}

fn majority(half: &BTreeMap<Identity, String>, has: impl Fn(&Identity) -> bool) -> bool {
    half.is_empty() || half.keys().filter(|id| has(id)).count() * 2 > half.len()
}

fn both(of: &Configuration, has: impl Fn(&Identity) -> bool) -> bool {
    majority(&of.voters, &has) && majority(&of.outgoing, &has)
}

impl Group {
    /// Whether a disk is there, and can be counted on.
    pub fn intact(&self, id: &Identity) -> bool {
        self.disks.get(id).is_some_and(Disk::intact)
    }

    fn can(&self, id: &Identity, cluster: Option<Identity>) -> bool {
        let disk = self.disks.get(id);
        self.up.contains(id) && disk.is_some_and(|disk| disk.intact() && disk.cluster == cluster)
    }

    /// The configuration that the leader follows.
    pub fn led(&self) -> Option<Configuration> {
        Some(self.disks.get(&self.leader?)?.configuration())
    }

    /// Every configuration that can be in effect at anybody who can lead.
    pub fn possible(&self) -> Vec<Configuration> {
        let disks = self.disks.values().filter(|disk| disk.cluster.is_some());
        let committed = self.committed.iter().filter_map(|(cluster, log)| {
            let newest = log.iter().rev().find_map(|entry| entry.configuration.clone());
            newest.map(|of| (*cluster, of))
        });
        let committed: BTreeMap<Identity, Configuration> = committed.collect();
        let mut all: Vec<Configuration> = committed.values().cloned().collect();
        for disk in disks {
            let known = disk.configuration();
            let old = disk.cluster.and_then(|cluster| committed.get(&cluster));
            if old.is_none_or(|old| known.index > old.index) {
                all.push(known);
            }
        }
        all
    }

    /// One step.
    pub fn step(&mut self, dice: &mut Dice) {
        let holds = self.leader.is_some_and(|leader| {
            let Some(disk) = self.disks.get(&leader) else { return false };
            let heard = |id: &Identity| self.can(id, disk.cluster);
            heard(&leader) && both(&disk.configuration(), heard)
        });
        if !holds {
            self.leader = None;
            self.elect(dice);
        }
        if let Some(leader) = self.leader {
            self.replicate(leader, dice);
            self.commit(leader);
        }
    }

    fn elect(&mut self, dice: &mut Dice) {
        let mut able: Vec<Identity> = self.disks.keys().copied().collect();
        let turn = usize::try_from(dice.below(8)).unwrap() % able.len().max(1);
        able.rotate_left(turn);
        able.sort_by_key(|id| self.draining.contains(id));
        for id in able {
            let disk = &self.disks[&id];
            let known = disk.configuration();
            let votes = known.voters.contains_key(&id) || known.outgoing.contains_key(&id);
            let (cluster, newest) = (disk.cluster, disk.newest());
            let grants =
                |other: &Identity| self.can(other, cluster) && self.disks[other].newest() <= newest;
            if cluster.is_some() && votes && self.can(&id, cluster) && both(&known, grants) {
                return self.lead(id);
            }
        }
    }

    fn lead(&mut self, id: Identity) {
        let cluster = self.disks[&id].cluster;
        let term = self.disks.values().filter(|disk| disk.cluster == cluster);
        let term = term.map(|disk| disk.term).max().unwrap_or(0) + 1;
        let disk = self.disks.get_mut(&id).unwrap();
        disk.term = term;
        let committed = cluster.and_then(|cluster| self.committed.get(&cluster));
        if let Some(committed) = committed {
            assert!(disk.log.starts_with(committed), "a leader lacks what was acknowledged");
        }
        disk.append(None);
        self.leader = Some(id);
        self.caught_up.insert(id);
    }

    fn replicate(&mut self, leader: Identity, dice: &mut Dice) {
        let Disk { log, cluster, term, .. } = self.disks[&leader].clone();
        let known = self.disks[&leader].configuration();
        let members: Vec<Identity> = known.members().map(|(id, _)| id).collect();
        for id in members.into_iter().filter(|id| *id != leader && self.up.contains(id)) {
            let Some(disk) = self.disks.get_mut(&id) else { continue };
            let ours = disk.cluster.is_none() || disk.cluster == cluster;
            if !disk.intact() || !ours {
                continue;
            }
            (disk.cluster, disk.term) = (cluster, disk.term.max(term));
            if disk.behind > 0 {
                disk.behind -= 1;
            } else if dice.below(4) > 0 {
                disk.log.clone_from(&log);
                self.caught_up.insert(id);
            }
        }
    }

    fn matched(&self, leader: Identity, id: &Identity) -> u64 {
        let (own, other) = (&self.disks[&leader], self.disks.get(id));
        other.filter(|disk| disk.intact()).map_or(0, |disk| own.shared(disk))
    }

    fn commit(&mut self, leader: Identity) {
        let disk = &self.disks[&leader];
        let (known, cluster) = (disk.configuration(), disk.cluster.unwrap());
        let done = |index: &u64| both(&known, |id| self.matched(leader, id) >= *index);
        let own = |index: &u64| {
            let at = usize::try_from(*index - 1).unwrap();
            disk.log[at].term == disk.term
        };
        let Some(index) = (1..=disk.last()).rev().find(|index| own(index) && done(index)) else {
            return;
        };
        let log = disk.log[..usize::try_from(index).unwrap()].to_vec();
        let committed = self.committed.entry(cluster).or_default();
        // A disk that went takes its say with it; what was committed stays.
        let (less, more) =
            if log.len() < committed.len() { (&log, &*committed) } else { (&*committed, &log) };
        assert!(more.starts_with(less), "what was acknowledged is forgotten");
        *committed = more.clone();
        if known.index > index {
            return;
        }
        if !known.outgoing.is_empty() {
            // Who leaves hands over first: alone it could not carry the change through.
            if !known.voters.contains_key(&leader) {
                let able = known.voters.keys().find(|id| self.can(id, Some(cluster)));
                let _ = able.copied().is_some_and(|to| self.transfer(leader, to));
                return;
            }
            let completed = Configuration { outgoing: BTreeMap::new(), ..known };
            self.disks.get_mut(&leader).unwrap().append(Some(completed));
            self.commit(leader);
        } else if !known.voters.contains_key(&leader) {
            self.leader = None;
        }
    }

    /// Whether the newest configuration of the leader, and an entry of its term, are committed.
    fn settled(&self, leader: Identity) -> bool {
        let disk = &self.disks[&leader];
        let committed = disk.cluster.and_then(|cluster| self.committed.get(&cluster));
        committed.is_some_and(|log| {
            let own = log.last().is_some_and(|entry| entry.term == disk.term);
            own && u64::try_from(log.len()).unwrap() >= disk.configuration().index
        })
    }

    /// A change of the membership, as the leader takes it. Gives whether it did.
    pub fn change(&mut self, leader: Identity, expected: u64, to: &Configuration) -> bool {
        if self.leader != Some(leader) {
            return false;
        }
        let disk = &self.disks[&leader];
        let present = disk.configuration();
        let (cluster, last) = (disk.cluster, disk.last());
        if present.index != expected || !present.outgoing.is_empty() || !self.settled(leader) {
            return false;
        }
        let Configuration { voters, learners, .. } = to;
        assert!(!voters.is_empty(), "nobody would vote");
        assert!(voters.keys().all(|id| !learners.contains_key(id)), "both votes and listens");
        let names: BTreeSet<&String> = voters.values().collect();
        assert!(names.len() == voters.len(), "two voters of one name");
        let names: BTreeSet<&String> = learners.values().collect();
        assert!(names.len() == learners.len(), "two learners of one name");
        assert!((voters, learners) != (&present.voters, &present.learners), "no change at all");
        if voters.keys().eq(present.voters.keys()) {
            self.disks.get_mut(&leader).unwrap().append(Some(to.clone()));
            return true;
        }
        let member = |id: &Identity| present.members().any(|(other, _)| other == *id);
        assert!(voters.keys().all(member), "a voter that was no learner");
        let here = |id: &Identity| self.can(id, cluster) && self.matched(leader, id) + 3 > last;
        let new = voters.keys().filter(|id| !present.voters.contains_key(id));
        if !{ new }.all(here) || !majority(voters, here) || !majority(&present.voters, here) {
            return false;
        }
        let joint = Configuration { outgoing: present.voters.clone(), ..to.clone() };
        self.disks.get_mut(&leader).unwrap().append(Some(joint));
        true
    }

    /// Hands leadership over. Gives whether it did.
    pub fn transfer(&mut self, leader: Identity, to: Identity) -> bool {
        let known = self.led().unwrap_or_default();
        let votes = known.voters.contains_key(&to) || known.outgoing.contains_key(&to);
        let cluster = self.disks.get(&leader).and_then(|disk| disk.cluster);
        if self.leader != Some(leader) || !votes || !self.can(&to, cluster) {
            return false;
        }
        let log = self.disks[&leader].log.clone();
        self.disks.get_mut(&to).unwrap().log = log;
        self.lead(to);
        true
    }

    /// A member gives up leadership if anybody else can have it.
    pub fn drain(&mut self, id: Identity) {
        self.draining.insert(id);
        if self.leader == Some(id) {
            let known = self.led().unwrap_or_default();
            let others = known.voters.keys().filter(|other| !self.draining.contains(other));
            let others: Vec<Identity> = others.copied().collect();
            let _ = others.into_iter().any(|to| self.transfer(id, to));
        }
    }

    fn known_committed(&self, disk: &Disk) -> u64 {
        let committed = disk.cluster.and_then(|cluster| self.committed.get(&cluster));
        let equal =
            |log: &Vec<Entry>| log.iter().zip(&disk.log).take_while(|(a, b)| a == b).count();
        u64::try_from(committed.map_or(0, equal)).unwrap()
    }

    /// What a member tells of itself.
    pub fn tells(&self, id: Identity) -> Member {
        let disk = &self.disks[&id];
        let leads = self.leader == Some(id);
        let known = disk.configuration();
        let mut followers = BTreeMap::new();
        for other in known.members().map(|(other, _)| other).filter(|other| leads && *other != id) {
            let there = self.disks.get(&other);
            let quarantined = there.is_some_and(|disk| disk.quarantined);
            let heard = self.up.contains(&id) && self.can(&other, disk.cluster);
            let silent_ms = if heard { 0 } else { SILENT_MS };
            let matched = self.matched(id, &other);
            followers.insert(other, Follower { matched, silent_ms, quarantined });
        }
        Member {
            id,
            cluster: disk.cluster,
            unfit: if disk.unfit { "its log is damaged".to_owned() } else { String::new() },
            retired: disk.retired,
            draining: self.draining.contains(&id),
            caught_up: self.caught_up.contains(&id),
            leads,
            term: disk.term,
            last: disk.last() * SCALE,
            commit: self.known_committed(disk) * SCALE,
            configuration: Configuration { index: known.index * SCALE, ..known },
            followers: { followers.into_iter() }
                .map(|(id, of)| (id, Follower { matched: of.matched * SCALE, ..of }))
                .collect(),
            version: "0.1.0".to_owned(),
            ..Member::default()
        }
    }
}
