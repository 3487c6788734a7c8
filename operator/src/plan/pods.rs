//! Pods, volumes and the disruption budget: more before the membership grows, fewer after it shrank,
//! and exchanged one at a time.

use super::group::{Group, successor};
use super::pods_needed;
use crate::observed::{Identity, Observed, Ordinal, Pod};
use crate::step::{Plan, Step, Work};
use std::collections::BTreeSet;

/// No pods are wanted: all stop, every disk stays, the membership stays as it is.
pub(super) fn stop(o: &Observed) -> Option<Plan> {
    if o.cluster.replicas() > 0 {
        return None;
    }
    let Some(set) = &o.set else {
        return Some(Plan::new(Step::Rest, "spec.replicas is 0, and nothing is there"));
    };
    if o.configuration().is_some_and(|known| !known.outgoing.is_empty()) && o.leader().is_some() {
        return Some(Plan::new(Step::Await, "a joint configuration ends before all stop"));
    }
    if o.budget.is_some() {
        return Some(Plan::new(Step::Budget(None), "spec.replicas is 0"));
    }
    if set.replicas > 0 {
        return Some(scale(o, 0, "spec.replicas is 0").as_part_of(Work::Scale, []));
    }
    Some(Plan::new(Step::Rest, "stopped; every disk is kept"))
}

fn scale(o: &Observed, replicas: u32, why: &str) -> Plan {
    let Some(set) = &o.set else {
        return Plan::new(Step::Await, "there is no StatefulSet");
    };
    let (uid, resource_version) = (set.uid.clone(), set.resource_version.clone());
    Plan::new(Step::Scale { uid, resource_version, replicas }, why)
}

/// All that are wanted, and all that vote, have a pod.
pub(super) fn grow(o: &Observed) -> Option<Plan> {
    let now = o.set.as_ref().map_or(0, |set| set.replicas);
    let needed = pods_needed(o);
    if now >= needed {
        return None;
    }
    Some(scale(o, needed, "more pods are wanted").as_part_of(Work::Scale, now..needed))
}

/// Nobody leads with a majority: nothing is taken away but pods that never ran and are out of date.
pub(super) fn without_quorum(o: &Observed) -> Plan {
    let broken = o.pods.iter().find(|(ordinal, pod)| {
        let silent = !o.members.contains_key(ordinal) && pod.running_image.is_empty();
        silent && !pod.deleting && out_of_date(o, pod)
    });
    if let Some((ordinal, pod)) = broken {
        return delete(*ordinal, pod, "it does not run, and its template is not the wanted one");
    }
    Plan::new(Step::Await, "no member leads with a majority behind it")
}

fn out_of_date(o: &Observed, pod: &Pod) -> bool {
    pod.template_hash != o.cluster.template_hash || pod.image != o.cluster.image
}

fn delete(ordinal: Ordinal, pod: &Pod, why: &str) -> Plan {
    let step = Step::Delete { pod: ordinal, uid: pod.uid.clone() };
    Plan::new(step, why).as_part_of(Work::Roll, [ordinal])
}

/// Before anything that takes a vote away: no eviction may come between.
pub(super) fn nobody_away(o: &Observed) -> Option<Plan> {
    let budget = o.budget.as_ref()?;
    if budget.max_unavailable != 0 {
        return Some(Plan::new(Step::Budget(Some(0)), "nobody may be evicted meanwhile"));
    }
    let why = "the disruption budget is not in force yet";
    (!budget.observed).then(|| Plan::new(Step::Await, why))
}

/// Fewer pods, once nobody who leaves is a member; then their volumes.
pub(super) fn shrink(group: &Group) -> Option<Plan> {
    let o = group.o;
    let (now, needed) = (o.set.as_ref()?.replicas, pods_needed(o));
    let leaves = |ordinal: Ordinal| ordinal >= needed;
    let member = group.conf.members().find(|(_, name)| o.cluster.ordinal(name).is_some_and(leaves));
    if let Some((_, name)) = member {
        let why = format!("{name} is still a member");
        return Some(Plan::new(Step::Await, why).as_part_of(Work::Scale, []));
    }
    if now > needed {
        return Some(
            scale(o, needed, "fewer pods are wanted").as_part_of(Work::Scale, needed..now),
        );
    }
    let unused = o.claims.iter().find(|(ordinal, claim)| {
        let ours = claim.made_for == o.cluster.uid && !claim.deleting;
        leaves(**ordinal) && ours && !o.pods.contains_key(ordinal)
    });
    unused.map(|(ordinal, _)| discard(o, *ordinal, "its member has left the group"))
}

fn discard(o: &Observed, ordinal: Ordinal, why: &str) -> Plan {
    let Some(claim) = o.claims.get(&ordinal) else {
        return Plan::new(Step::Await, "its volume is gone");
    };
    let (uid, resource_version) = (claim.uid.clone(), claim.resource_version.clone());
    Plan::new(Step::Discard { claim: ordinal, uid, resource_version }, why)
}

/// Pods that must be exchanged, one at a time: their disks are of no use or condemned, or they are
/// out of date.
pub(super) fn roll(group: &Group) -> Option<Plan> {
    if let Some(plan) = spoiled(group).or_else(|| condemned(group)) {
        return Some(plan);
    }
    let o = group.o;
    let old =
        |(ordinal, pod): &(&Ordinal, &Pod)| **ordinal < o.cluster.replicas() && out_of_date(o, pod);
    let old: Vec<_> = o.pods.iter().filter(old).collect();
    if old.is_empty() {
        return None;
    }
    let works = |ordinal: Ordinal| {
        let member = o.members.get(&ordinal);
        member.is_some_and(|member| group.leader.hears(member.id))
    };
    // One that works for nobody is in nobody's way: it goes first.
    let broken = old.iter().find(|(ordinal, pod)| !pod.deleting && !pod.ready && !works(**ordinal));
    if let Some((ordinal, pod)) = broken {
        return Some(delete(**ordinal, pod, "it does not work, and is out of date"));
    }
    if let Some(plan) = unsettled(group) {
        return Some(plan.as_part_of(Work::Roll, old.iter().map(|(ordinal, _)| **ordinal)));
    }
    let (ordinal, pod) = old.into_iter().min_by_key(|(ordinal, _)| order(group, **ordinal))?;
    let image_only = pod.template_hash == o.cluster.template_hash;
    let plan =
        if image_only { patch(group, *ordinal, pod) } else { exchange(group, *ordinal, pod) };
    Some(plan.as_part_of(Work::Roll, [*ordinal]))
}

/// Spares, then followers, then the leader.
fn order(group: &Group, ordinal: Ordinal) -> (u8, Ordinal) {
    let member = group.o.members.get(&ordinal).map(|member| member.id);
    let votes = member.is_some_and(|id| group.conf.voters.contains_key(&id));
    let rank = match (votes, ordinal == group.at) {
        (false, _) => 0,
        (true, false) => 1,
        (true, true) => 2,
    };
    (rank, ordinal)
}

/// Why no further pod may go: somebody else is away, or not back yet.
fn unsettled(group: &Group) -> Option<Plan> {
    let o = group.o;
    let replicas = o.set.as_ref().map_or(0, |set| set.replicas);
    for ordinal in 0..replicas {
        let name = group.name(ordinal);
        let why = match o.pods.get(&ordinal) {
            None => format!("{name} is not there yet"),
            Some(pod) if pod.deleting => format!("{name} is ending"),
            Some(pod) if !pod.ready => format!("{name} is not ready: no further pod is touched"),
            Some(_) => match o.members.get(&ordinal) {
                None => format!("{name} does not answer"),
                Some(member) if !group.leader.has_beside(member.id) => {
                    format!("{name} does not have the log yet")
                }
                Some(_) => continue,
            },
        };
        return Some(Plan::new(Step::Await, why));
    }
    None
}

/// Whether the group has a majority without this pod.
fn spared(group: &Group, ordinal: Ordinal) -> bool {
    let voters = &group.conf.voters;
    let member = group.o.members.get(&ordinal).map(|member| member.id);
    let Some(id) = member.filter(|id| voters.contains_key(id)) else { return true };
    voters.len() == 1 || group.leader.majority(voters.keys(), &BTreeSet::from([id]))
}

/// A working pod goes, by eviction; the leader hands over first.
fn exchange(group: &Group, ordinal: Ordinal, pod: &Pod) -> Plan {
    if !spared(group, ordinal) {
        let why = format!("without {} there would be no majority", group.name(ordinal));
        return Plan::new(Step::Await, why);
    }
    if let Some(plan) = hand_over(group, ordinal) {
        return plan;
    }
    if group.o.budget.is_some_and(|budget| budget.max_unavailable == 0) {
        return Plan::new(Step::Budget(Some(1)), "one pod may be away");
    }
    let step = Step::Evict { pod: ordinal, uid: pod.uid.clone() };
    Plan::new(step, format!("{} is to be exchanged", group.name(ordinal)))
}

/// The sidecar alone starts anew, with another image, and the application runs on.
fn patch(group: &Group, ordinal: Ordinal, pod: &Pod) -> Plan {
    if !spared(group, ordinal) {
        let why = format!("without {} there would be no majority", group.name(ordinal));
        return Plan::new(Step::Await, why);
    }
    if let Some(plan) = hand_over(group, ordinal).or_else(|| nobody_away(group.o)) {
        return plan;
    }
    let (uid, resource_version) = (pod.uid.clone(), pod.resource_version.clone());
    let why = format!("the sidecar of {} is to run another image", group.name(ordinal));
    Plan::new(Step::Patch { pod: ordinal, uid, resource_version }, why)
}

/// If this pod leads: somebody else does first, best one whose pod is new already.
fn hand_over(group: &Group, ordinal: Ordinal) -> Option<Plan> {
    if ordinal != group.at || group.conf.voters.len() == 1 {
        return None;
    }
    let new = |id: Identity| {
        let pod = group.good.get(&id).and_then(|ordinal| group.o.pods.get(ordinal));
        pod.is_some_and(|pod| !pod.deleting && !out_of_date(group.o, pod))
    };
    let to = successor(group, new).or_else(|| successor(group, |_| true))?;
    let why = format!("{} leads, and is to go", group.name(ordinal));
    Some(Plan::new(Step::Transfer { leader: group.at, to }, why))
}

/// A disk of no use, whose member has left: its volume goes, and the pod, for an empty one to come.
fn spoiled(group: &Group) -> Option<Plan> {
    let o = group.o;
    let (ordinal, member) = o.members.iter().find(|(ordinal, member)| {
        let known = group.conf.members().any(|(id, _)| id == member.id);
        **ordinal < o.cluster.replicas() && !known && group.spoiled(member)
    })?;
    let of = |plan: Plan| Some(plan.as_part_of(Work::Replace, [*ordinal]));
    let why = match member.unfit.as_str() {
        "" => "its disk lost what it had acknowledged, or is retired",
        unfit => unfit,
    };
    if o.claims.get(ordinal).is_some_and(|claim| !claim.deleting) {
        return of(discard(o, *ordinal, why));
    }
    let pod = o.pods.get(ordinal).filter(|pod| !pod.deleting);
    match pod {
        Some(pod) => of(Plan::new(Step::Delete { pod: *ordinal, uid: pod.uid.clone() }, why)),
        None => of(Plan::new(Step::Await, format!("{} is ending", group.name(*ordinal)))),
    }
}

/// Somebody deleted a volume in use: its pod goes, once all others are well.
fn condemned(group: &Group) -> Option<Plan> {
    let o = group.o;
    let condemned = |ordinal: &Ordinal| o.claims.get(ordinal).is_some_and(|claim| claim.deleting);
    let (ordinal, pod) = o.pods.iter().find(|(ordinal, pod)| {
        **ordinal < o.cluster.replicas() && condemned(ordinal) && !pod.deleting
    })?;
    let plan = unsettled(group).unwrap_or_else(|| exchange(group, *ordinal, pod));
    Some(plan.as_part_of(Work::Replace, [*ordinal]))
}

/// What a change of mind, or an earlier operator, left behind.
pub(super) fn tidy(group: &Group) -> Option<Plan> {
    let o = group.o;
    let idle = o.members.iter().find(|(ordinal, member)| {
        let ends = o.pods.get(ordinal).is_none_or(|pod| pod.deleting);
        member.draining && !ends && group.conf.voters.contains_key(&member.id)
    });
    if let Some((ordinal, _)) = idle {
        let why = format!("{} stays, and may lead again", group.name(*ordinal));
        return Some(Plan::new(Step::Undrain(*ordinal), why));
    }
    let wanted = (o.cluster.replicas() > 1).then_some(1);
    if o.budget.map(|budget| budget.max_unavailable) != wanted {
        return Some(Plan::new(Step::Budget(wanted), "the disruption budget is not as wanted"));
    }
    None
}
