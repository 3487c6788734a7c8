//! What is to be done next: a pure function from what was observed to at most one step.
//!
//! Invariants: `spec.replicas` alone decides about the size, observations never do; votes move
//! before pods do; a step that takes a voter away leaves a majority that has contact with the
//! leader; equal observations give equal plans; where everything is as wanted the plan is to rest.
//! Must not: make a client, read a clock, or remember anything between two passes.
//!
//! The order is the design: what makes the group safe comes before what makes it larger, that
//! before what makes it smaller, and pods are exchanged last.

mod birth;
mod group;
mod pods;
mod recovery;

use crate::observed::{Configuration, Observed, Ordinal};
use crate::step::{Plan, Step, Work};
use crate::validate;

pub use recovery::confirmation;

/// What is to be done next.
#[must_use]
pub fn plan(o: &Observed) -> Plan {
    if o.cluster.spec.paused {
        return Plan::new(Step::Rest, "spec.paused is set: nothing is changed");
    }
    let first = settle(o)
        .or_else(|| route(o))
        .or_else(|| pods::stop(o))
        .or_else(|| set(o))
        .or_else(|| birth(o));
    let plan = first.or_else(|| pods::grow(o)).unwrap_or_else(|| match o.leader() {
        Some((ordinal, leader)) => led(&group::Group::new(o, ordinal, leader)),
        None => pods::without_quorum(o),
    });
    let idle = matches!(plan.step, Step::Rest | Step::Await);
    match validate::fault(&o.cluster.spec).filter(|_| idle) {
        // The rest goes on with the pods as they are; what ends in waiting waits for the user.
        Some(fault) => Plan::new(Step::Blocked, fault),
        // A step that the storage class may refuse keeps no other from being done; and a full disk,
        // which the group may wait for, is no reason to wait.
        None if idle => pods::enlarge(o).unwrap_or(plan),
        None => plan,
    }
}

/// Without a group: what is waited for may wait for pods.
fn birth(o: &Observed) -> Option<Plan> {
    let plan = birth::plan(o)?;
    // Who is to go on alone may be in a pod that is not wanted any more.
    let survivor = o.lost_group().and(o.cluster.status.birth.as_ref());
    let survivor = survivor.and_then(|birth| o.cluster.ordinal(&birth.seed));
    let needed = pods_needed(o).max(survivor.map_or(0, |survivor| survivor + 1));
    let pods = || pods::more(o, needed).or_else(|| pods::broken(o));
    let waits = plan.step == Step::Await;
    Some(if waits { pods().unwrap_or(plan) } else { plan })
}

/// With a leader, and a majority behind it.
fn led(group: &group::Group) -> Plan {
    if let Some(plan) = group::settled(group) {
        return plan;
    }
    let next = group::plan(group);
    // What waits for members may wait for a disk or a pod that is in the way: that one goes first.
    let waits = next.as_ref().is_none_or(|plan| plan.step == Step::Await);
    let first = || pods::spoiled(group).or_else(|| pods::unheard(group));
    let first = || first().or_else(|| pods::shrink(group));
    let first = if waits { first() } else { None };
    let next = first.or(next).or_else(|| pods::roll(group));
    // What must wait for the user holds up nothing else.
    let (stuck, next) = match next {
        Some(plan) if plan.step == Step::Blocked => (Some(plan), None),
        next => (None, next),
    };
    let next = next.or_else(|| pods::tidy(group)).or(stuck).or_else(|| pods::foreign(group));
    let next = next.or_else(|| pods::ending(group)).or_else(|| pods::unsettled(group));
    next.unwrap_or_else(|| Plan::new(Step::Rest, "as wanted"))
}

fn settle(o: &Observed) -> Option<Plan> {
    if let Some(first) = o.stale.first() {
        return Some(Plan::new(Step::Settle, format!("{first} is not as wanted")));
    }
    let rival = o.rivals.first().filter(|_| o.budget.is_some())?;
    let why = format!("the disruption budget {rival} matches the same pods: with two none may go");
    Some(Plan::new(Step::Budget(None), why))
}

/// The leader's Service leads to the pod whose member the election's holder is attached to. While
/// nobody can say who that is, it stays as it is.
fn route(o: &Observed) -> Option<Plan> {
    let wanted = o.cluster.spec.leader_service.as_ref()?;
    let now = o.route.as_ref()?;
    let holder = match o.leader() {
        Some((_, leader)) => leader.holders.get(&wanted.election),
        // All have stopped: nobody is there.
        None if o.pods.is_empty() => None,
        None => return None,
    };
    let at = holder.and_then(|id| o.members.iter().find(|(_, member)| member.id == *id));
    let at = at.map(|(ordinal, _)| *ordinal);
    let pod = at.and_then(|ordinal| o.pods.get(&ordinal));
    // One that holds it, and does not answer just now, is where it was.
    if holder.is_some() && pod.is_none() {
        return None;
    }
    let to = pod.map_or("", |pod| pod.uid.as_str());
    let why = match at {
        Some(ordinal) => {
            format!("{} holds the election {}", o.cluster.pod_name(ordinal), wanted.election)
        }
        None => format!("nobody holds the election {}", wanted.election),
    };
    let same = now.pod == to && (now.current || to.is_empty());
    (!same).then(|| Plan::new(Step::Route(at), why))
}

/// The StatefulSet is there, and makes the pods that are wanted now.
fn set(o: &Observed) -> Option<Plan> {
    match &o.set {
        Some(set) if set.deleting => {
            Some(Plan::new(Step::Await, "the StatefulSet is being deleted"))
        }
        Some(set) if set.current || validate::fault(&o.cluster.spec).is_some() => None,
        Some(set) => {
            let step = Step::Template { replicas: set.replicas };
            let plan = Plan::new(step, "the StatefulSet's template is not the wanted one");
            // Whoever waits for Ready after an edit is not told so before the roll began.
            let old = o.pods.iter().filter(|(_, pod)| pods::out_of_date(o, pod));
            let old: Vec<Ordinal> = old.map(|(ordinal, _)| *ordinal).collect();
            Some(if old.is_empty() { plan } else { plan.as_part_of(Work::Roll, old) })
        }
        None => Some(birth::foreign(o).unwrap_or_else(|| {
            let step = Step::Template { replicas: pods_needed(o) };
            Plan::new(step, "there is no StatefulSet")
        })),
    }
}

/// Pods that there must be: those wanted, and all that vote.
fn pods_needed(o: &Observed) -> u32 {
    o.cluster.replicas().max(pods_voting(o))
}

/// Pods that there must be for all that vote.
fn pods_voting(o: &Observed) -> u32 {
    highest_voting(o).map_or(0, |highest| highest + 1)
}

/// The highest ordinal that votes in either half of the configuration in effect; where nobody
/// leads, in any that may be.
fn highest_voting(o: &Observed) -> Option<Ordinal> {
    let voting = |known: &Configuration| {
        known.voting().into_iter().filter_map(|name| o.cluster.ordinal(name)).max()
    };
    if let Some((_, leader)) = o.leader() {
        return voting(&leader.configuration);
    }
    // Those few that answer may know an older one than the status remembers, or a newer one.
    let voters = o.cluster.status.members.iter().filter(|member| member.role == "Voter");
    let remembered = voters.filter_map(|member| o.cluster.ordinal(&member.name)).max();
    o.configuration().and_then(voting).max(remembered)
}
