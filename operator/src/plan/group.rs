//! Who listens and who votes: one change at a time, decided from what the leader tells.
//!
//! Learners first; a voter comes from the learners that caught up, and all that change their vote
//! change it in one joint change. Before a change, both majorities have contact with the leader,
//! the leader is among those who stay where there is a way, and nobody may be evicted meanwhile.

use crate::observed::{Configuration, Identity, Member, Observed, Ordinal};
use crate::step::{Plan, Step, Work};
use std::collections::{BTreeMap, BTreeSet};

/// A group with a leader, and what follows from what it tells.
pub(super) struct Group<'a> {
    pub(super) o: &'a Observed,
    /// The leader's pod.
    pub(super) at: Ordinal,
    pub(super) leader: &'a Member,
    pub(super) conf: &'a Configuration,
    /// Voters whose disk is gone, or that nobody reaches for too long.
    pub(super) lost: BTreeSet<Identity>,
    /// Members that answer and whose disks are good, with their pods.
    pub(super) good: BTreeMap<Identity, Ordinal>,
}

impl<'a> Group<'a> {
    pub(super) fn new(o: &'a Observed, at: Ordinal, leader: &'a Member) -> Group<'a> {
        let conf = &leader.configuration;
        let mut group = Group { o, at, leader, conf, lost: BTreeSet::new(), good: BTreeMap::new() };
        for (ordinal, member) in &o.members {
            let ours = member.cluster.is_none() || member.cluster == leader.cluster;
            if ours && !group.spoiled(member) {
                group.good.insert(member.id, *ordinal);
            }
        }
        let lost = conf.members().filter(|(id, name)| group.is_lost(*id, name));
        let lost = lost.map(|(id, _)| id).collect();
        group.lost = lost;
        group
    }

    /// Whether a member's disk can never be counted on again.
    pub(super) fn spoiled(&self, member: &Member) -> bool {
        let quarantined = self.leader.followers.get(&member.id).is_some_and(|of| of.quarantined);
        !member.is_fit() || quarantined || self.forsaken(member)
    }

    /// Whether it is of the group that was lost, and from which another member goes on.
    pub(super) fn forsaken(&self, member: &Member) -> bool {
        member.cluster.is_some() && member.cluster == self.o.lost_group()
    }

    fn is_lost(&self, id: Identity, name: &str) -> bool {
        let ordinal = self.o.cluster.ordinal(name);
        let there = ordinal.and_then(|ordinal| self.o.members.get(&ordinal));
        if let Some(member) = there {
            // Another disk under its name, or its own, of no use.
            return member.id != id || self.spoiled(member);
        }
        // It counts only if the leader has no contact either.
        if self.leader.hears(id) {
            return false;
        }
        let limit = self.o.cluster.spec.repair.unreachable_seconds.max(10);
        let told =
            self.o.cluster.status.members.iter().find(|told| told.member_id == id.to_string());
        let since = told.and_then(|told| told.lost_since);
        since.is_some_and(|since| self.o.now_s - since >= limit)
    }

    pub(super) fn name(&self, ordinal: Ordinal) -> String {
        self.o.cluster.pod_name(ordinal)
    }

    /// Whether a member's pod is among those that are wanted.
    pub(super) fn stays(&self, name: &str) -> bool {
        let ordinal = self.o.cluster.ordinal(name);
        ordinal.is_some_and(|ordinal| ordinal < self.o.cluster.replicas())
    }

    /// Whether a member may listen: one whose pod is not wanted does for as long as the pod is
    /// there, since its application works through it until it has ended.
    fn listens(&self, id: Identity, name: &str) -> bool {
        let ordinal = self.o.cluster.ordinal(name);
        let there = ordinal.is_some_and(|ordinal| self.o.pods.contains_key(&ordinal));
        (self.stays(name) || there) && !self.lost.contains(&id)
    }

    /// The voter in a pod: by its own word, or by its name, if the operator cannot ask it.
    pub(super) fn voter(&self, ordinal: Ordinal) -> Option<Identity> {
        let told = self.o.members.get(&ordinal).map(|member| member.id);
        let name = self.name(ordinal);
        let mut voters = self.conf.voters.iter();
        let named = voters.find(|(_, voter)| **voter == name).map(|(id, _)| *id);
        told.filter(|id| self.conf.voters.contains_key(id)).or(named)
    }

    /// Whether the leader has contact with the member in a pod.
    pub(super) fn heard(&self, ordinal: Ordinal) -> bool {
        let told = self.o.members.get(&ordinal).is_some_and(|of| self.leader.hears(of.id));
        let name = self.name(ordinal);
        let mut members = self.conf.members();
        told || members.any(|(id, other)| other == name && self.leader.hears(id))
    }

    /// Whether somebody deleted the volume of a pod: whatever is on it goes with the pod.
    pub(super) fn condemned(&self, ordinal: Ordinal) -> bool {
        self.o.condemned(ordinal)
    }

    fn condemned_name(&self, name: &str) -> bool {
        self.o.cluster.ordinal(name).is_some_and(|ordinal| self.condemned(ordinal))
    }

    /// Voters whose disks answer, and are of no use for ever. One that cannot be read may tell no
    /// identity, or another.
    fn dead(&self) -> BTreeSet<Identity> {
        let dead = |(id, name): &(&Identity, &String)| {
            let there = self.o.cluster.ordinal(name).and_then(|at| self.o.members.get(&at));
            let its = |member: &&Member| member.id == **id || !member.unfit.is_empty();
            there.filter(its).is_some_and(|member| self.spoiled(member))
        };
        self.conf.voters.iter().filter(dead).map(|(id, _)| *id).collect()
    }

    /// Whether a disk still stands in the membership: by its identity, or, where it cannot be read,
    /// by its name among those who vote.
    pub(super) fn counts(&self, ordinal: Ordinal, member: &Member) -> bool {
        let known = self.conf.members().any(|(id, _)| id == member.id);
        let name = self.name(ordinal);
        known || !member.unfit.is_empty() && self.conf.voters.values().any(|voter| *voter == name)
    }

    /// Members that are to listen or vote: those that do and stay, and those that are new.
    fn wanted(&self) -> BTreeMap<Identity, String> {
        let named = |(id, name): (Identity, &str)| (id, name.to_owned());
        let now =
            self.conf.members().filter(|(id, name)| self.stays(name) && !self.lost.contains(id));
        let mut wanted: BTreeMap<_, _> = now.map(named).collect();
        for (id, ordinal) in &self.good {
            let going = self.o.pods.get(ordinal).is_none_or(|pod| pod.deleting);
            let brief = self.condemned(*ordinal) || going;
            if *ordinal < self.o.cluster.replicas() && !brief {
                wanted.insert(*id, self.name(*ordinal));
            }
        }
        wanted
    }

    /// Who is to vote; `None`: not enough of those who stay are ready for it.
    fn target(&self) -> Option<BTreeMap<Identity, String>> {
        let Configuration { voters, learners, .. } = self.conf;
        let stays = |(id, name): &(&Identity, &String)| self.stays(name) && !self.lost.contains(id);
        // Those that vote and have contact, then others that vote, then spares that caught up; and
        // those whose volume is condemned, in the same order, only where nobody else is.
        let rank = |(id, name): &(&Identity, &String)| {
            let far = !self.leader.hears(**id);
            (far, self.o.cluster.ordinal(name))
        };
        let votes = voters.iter().filter(stays);
        let (mut brief, mut votes): (Vec<_>, Vec<_>) =
            votes.partition(|(_, name)| self.condemned_name(name));
        let spares = learners.iter().filter(stays).filter(|(id, _)| self.ready(**id));
        let (mut last, mut spares): (Vec<_>, Vec<_>) =
            spares.partition(|(_, name)| self.condemned_name(name));
        // A spare on a condemned volume is exchanged first, unless the budget keeps it.
        last.retain(|(id, _)| {
            let pod = self.good.get(*id);
            pod.is_some_and(|pod| super::pods::guarded(self, *pod).is_some())
        });
        for some in [&mut votes, &mut spares, &mut brief, &mut last] {
            some.sort_by_key(rank);
        }
        let most = self.o.cluster.voters();
        let mut target: Vec<_> =
            votes.into_iter().chain(spares).chain(brief).chain(last).take(most).collect();
        if target.len() % 2 == 0 {
            target.pop();
        }
        // Fewer than now, and fewer than wanted: somebody is missing, and may come back.
        let fewest = most.min(voters.len());
        if target.len() >= fewest && !target.is_empty() {
            return Some(target.into_iter().map(|(id, name)| (*id, name.clone())).collect());
        }
        self.without_dead()
    }

    /// Whether a spare can vote: it has the log, and its pod stays.
    fn ready(&self, id: Identity) -> bool {
        let pod = self.good.get(&id).and_then(|ordinal| self.o.pods.get(ordinal));
        pod.is_some_and(|pod| !pod.deleting) && self.leader.has_beside(id)
    }

    /// All who vote but those whose disks are of no use: a majority of them is no larger than one
    /// of all that is left of a majority of all, so nothing is lost by their leave; and only
    /// then an empty disk can come instead. Their number may be even for so long.
    fn without_dead(&self) -> Option<BTreeMap<Identity, String>> {
        let dead = self.dead();
        let mut voters = self.conf.voters.clone();
        voters.retain(|id, _| !dead.contains(id));
        (!dead.is_empty() && !voters.is_empty()).then_some(voters)
    }

    /// A learner that stays, and does not have the log yet.
    pub(super) fn coming(&self) -> Option<&String> {
        let coming = self.conf.learners.iter().find(|(id, name)| {
            let stays = self.stays(name) && !self.condemned_name(name) && !self.lost.contains(id);
            stays && !self.leader.has_beside(**id)
        });
        coming.map(|(_, name)| name)
    }

    /// What the change is part of.
    fn work(&self) -> Work {
        let mut names = self.conf.voters.values();
        let condemned = names.any(|name| self.stays(name) && self.condemned_name(name));
        if self.lost.is_empty() && !condemned { Work::Scale } else { Work::Replace }
    }

    fn ordinals<'b>(&self, names: impl IntoIterator<Item = &'b String>) -> BTreeSet<Ordinal> {
        names.into_iter().filter_map(|name| self.o.cluster.ordinal(name)).collect()
    }
}

/// Nothing is built on a membership that is not settled.
pub(super) fn settled(group: &Group) -> Option<Plan> {
    let why = match group.conf.outgoing.is_empty() {
        false => "a joint configuration is in force: the leader leaves it by itself",
        true if !group.leader.committed() => "the membership is not committed yet",
        true => return None,
    };
    let targets = group.ordinals(group.conf.voters.values());
    Some(Plan::new(Step::Await, why).as_part_of(group.work(), targets))
}

/// What is to be done about the membership.
pub(super) fn plan(group: &Group) -> Option<Plan> {
    let next = retire(group).or_else(|| listen(group)).or_else(|| vote(group));
    // What is waited for may be a learner that is of no use.
    let waits = next.as_ref().is_none_or(|plan| plan.step == Step::Await);
    let leave = if waits { hear_no_more(group) } else { None };
    leave.or(next)
}

/// A disk that lost what it had acknowledged is told so for good: once its member has left, the
/// leader does not know any more that it must stay away.
fn retire(group: &Group) -> Option<Plan> {
    let lied = |member: &Member| {
        let of = group.leader.followers.get(&member.id);
        of.is_some_and(|of| of.quarantined)
    };
    // One that is of no use never votes, and takes no such word.
    let mut fit = group.o.members.iter().filter(|(_, member)| member.is_fit());
    let (ordinal, member) = fit.find(|(_, member)| lied(member) || group.forsaken(member))?;
    let name = group.name(*ordinal);
    let why = match group.forsaken(member) {
        true => format!("the disk of {name} is of the group that was lost"),
        false => format!("the disk of {name} lost what it had acknowledged"),
    };
    let step = Step::Retire { pod: *ordinal, member: member.id };
    Some(Plan::new(step, why).as_part_of(Work::Replace, [*ordinal]))
}

/// New members listen, before anybody votes.
fn listen(group: &Group) -> Option<Plan> {
    let Configuration { voters, learners, index, .. } = group.conf;
    let wanted = group.wanted();
    let known = |id: &Identity| voters.contains_key(id) || learners.contains_key(id);
    let new: BTreeMap<_, _> = wanted.into_iter().filter(|(id, _)| !known(id)).collect();
    if new.is_empty() {
        return None;
    }
    let targets = group.ordinals(new.values());
    let mut learners = stay(group, learners);
    learners.extend(new);
    let why = "new members are to listen";
    Some(change(group, *index, (voters.clone(), learners), why).as_part_of(group.work(), targets))
}

/// Those that go on listening, or begin to.
fn stay(group: &Group, members: &BTreeMap<Identity, String>) -> BTreeMap<Identity, String> {
    let stay = members.iter().filter(|(id, name)| group.listens(**id, name));
    stay.map(|(id, name)| (*id, name.clone())).collect()
}

fn change(
    group: &Group,
    expected: u64,
    (voters, learners): (BTreeMap<Identity, String>, BTreeMap<Identity, String>),
    why: &str,
) -> Plan {
    Plan::new(Step::Change { leader: group.at, expected, voters, learners }, why)
}

/// Those vote who are to vote: one joint change, once everything for it is there.
fn vote(group: &Group) -> Option<Plan> {
    let Configuration { voters, learners, index, .. } = group.conf;
    let Some(target) = group.target() else {
        return missing(group);
    };
    if target.keys().eq(voters.keys()) {
        return missing(group);
    }
    let changed =
        |(id, _): &(&Identity, &String)| voters.contains_key(*id) != target.contains_key(*id);
    let changed = voters.iter().chain(&target).filter(changed).map(|(_, name)| name);
    let targets = group.ordinals(changed);
    let of = |plan: Plan| Some(plan.as_part_of(group.work(), targets.clone()));
    let none = BTreeSet::new();
    if !group.leader.majority(target.keys(), &none) {
        let why = "no majority of the new voters has contact";
        return of(super::pods::evictable(group.o, why));
    }
    if let Some(plan) = leader_out(group, &target) {
        return of(plan);
    }
    if let Some(ordinal) = doomed(group, &target) {
        let why = format!("{} is to leave, and shall not stand", group.name(ordinal));
        return of(Plan::new(Step::Drain(ordinal), why));
    }
    if let Some(plan) = super::pods::nobody_away(group.o) {
        return of(plan);
    }
    let mut listen = stay(group, learners);
    listen.extend(stay(group, voters));
    listen.retain(|id, _| !target.contains_key(id));
    of(change(group, *index, (target, listen), "those vote who are to vote"))
}

/// A voter that is to leave, answers, and may stand.
fn doomed(group: &Group, target: &BTreeMap<Identity, String>) -> Option<Ordinal> {
    let leaves =
        |(id, name): &(&Identity, &String)| !target.contains_key(*id) && !group.stays(name);
    let mut leaving = group.conf.voters.iter().filter(leaves);
    leaving.find_map(|(id, _)| {
        let ordinal = group.good.get(id)?;
        let member = group.o.members.get(ordinal)?;
        (!member.draining).then_some(*ordinal)
    })
}

/// Leadership goes to somebody who stays.
fn leader_out(group: &Group, target: &BTreeMap<Identity, String>) -> Option<Plan> {
    if target.contains_key(&group.leader.id) {
        return None;
    }
    let to = successor(group, |id| target.contains_key(&id))?;
    let why = format!("{} leads, and is to leave", group.name(group.at));
    Some(Plan::new(Step::Transfer { leader: group.at, to }, why))
}

/// The voter beside the leader, among those that are fit for it, that has most of the log.
pub(super) fn successor(group: &Group, fit: impl Fn(Identity) -> bool) -> Option<Identity> {
    let stands = |id: &Identity| {
        let member = group.good.get(id).and_then(|ordinal| group.o.members.get(ordinal));
        member.is_some_and(|member| !member.draining)
    };
    let others = group.conf.voters.keys().filter(|id| **id != group.leader.id);
    let able = others.filter(|id| fit(**id) && group.leader.has_beside(**id) && stands(id));
    let matched = |id: &&Identity| group.leader.followers.get(*id).map(|of| of.matched);
    able.max_by_key(matched).copied()
}

/// The only voter is to go: a spare votes instead of it.
pub(super) fn relieve(group: &Group) -> Option<Plan> {
    let Configuration { voters, learners, index, .. } = group.conf;
    let (old, name) = voters.first_key_value().filter(|_| voters.len() == 1)?;
    let ready = |(id, name): &(&Identity, &String)| {
        group.stays(name) && !group.condemned_name(name) && group.ready(**id)
    };
    let (spare, to) = learners.iter().find(ready)?;
    if let Some(plan) = super::pods::nobody_away(group.o) {
        return Some(plan);
    }
    let mut listen = stay(group, learners);
    listen.remove(spare);
    listen.insert(*old, name.clone());
    let why = format!("{to} votes before {name}, the only voter, is touched");
    Some(change(group, *index, (BTreeMap::from([(*spare, to.clone())]), listen), &why))
}

/// Fewer vote than are to vote, and nobody is ready to.
fn missing(group: &Group) -> Option<Plan> {
    let voters = &group.conf.voters;
    let doomed = voters.values().filter(|name| !group.stays(name)).count();
    let wanted = group.o.cluster.voters();
    if voters.len() == wanted && doomed == 0 {
        return None;
    }
    // Pods that never answered are waited for; the rest goes on meanwhile.
    if let Some(name) = group.coming() {
        let why = format!("{name} does not have the log yet");
        let targets = group.ordinals([name]);
        let plan = super::pods::evictable(group.o, &why);
        return Some(plan.as_part_of(Work::Scale, targets));
    }
    if doomed > 0 {
        let why = "too few of the members that stay are ready to vote: nothing is taken away";
        return Some(super::pods::evictable(group.o, why).as_part_of(Work::Scale, []));
    }
    None
}

/// Learners that are lost, or whose pods were not wanted and have ended, listen no more.
fn hear_no_more(group: &Group) -> Option<Plan> {
    let Configuration { voters, learners, index, .. } = group.conf;
    let stay = stay(group, learners);
    if stay.len() == learners.len() {
        return None;
    }
    let gone = learners.iter().filter(|(id, _)| !stay.contains_key(id)).map(|(_, name)| name);
    let targets = group.ordinals(gone);
    let why = "members that leave listen no more";
    Some(change(group, *index, (voters.clone(), stay), why).as_part_of(group.work(), targets))
}
