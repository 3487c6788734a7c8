//! What is to be done next: a pure function from what was observed to at most one step.
//!
//! Invariants: `spec.replicas` alone decides about the size, observations never do; membership moves
//! before pods do; a step that takes a voter away leaves a majority that has contact with the leader;
//! equal observations give equal plans, and where everything is as wanted the plan is to rest.
//! Must not: make a client, read a clock, or remember anything between two passes.
//!
//! The order is the design: what makes the group safe comes before what makes it larger, that before
//! what makes it smaller, and pods are exchanged last.

mod birth;
mod group;
mod pods;

use crate::observed::{Observed, Ordinal};
use crate::step::{Plan, Step};

/// What is to be done next.
#[must_use]
pub fn plan(o: &Observed) -> Plan {
    if o.cluster.spec.paused {
        return Plan::new(Step::Rest, "spec.paused is set: nothing is changed");
    }
    let first = settle(o).or_else(|| pods::stop(o)).or_else(|| set(o)).or_else(|| birth::plan(o));
    if let Some(plan) = first.or_else(|| pods::grow(o)) {
        return plan;
    }
    let Some((ordinal, leader)) = o.leader() else {
        return pods::without_quorum(o);
    };
    let group = group::Group::new(o, ordinal, leader);
    let next = group::plan(&group).or_else(|| pods::shrink(&group)).or_else(|| pods::roll(&group));
    next.or_else(|| pods::tidy(&group)).unwrap_or_else(|| Plan::new(Step::Rest, "as wanted"))
}

fn settle(o: &Observed) -> Option<Plan> {
    let first = o.stale.first()?;
    Some(Plan::new(Step::Settle, format!("{first} is not as wanted")))
}

/// The StatefulSet is there, and makes the pods that are wanted now.
fn set(o: &Observed) -> Option<Plan> {
    match &o.set {
        Some(set) if set.deleting => {
            Some(Plan::new(Step::Await, "the StatefulSet is being deleted"))
        }
        Some(set) if set.current => None,
        Some(set) => {
            let step = Step::Template { replicas: set.replicas };
            Some(Plan::new(step, "the StatefulSet's template is not the wanted one"))
        }
        None => Some(birth::foreign(o).unwrap_or_else(|| {
            let step = Step::Template { replicas: pods_needed(o) };
            Plan::new(step, "there is no StatefulSet")
        })),
    }
}

/// Pods that there must be: those wanted, and all that vote.
fn pods_needed(o: &Observed) -> u32 {
    o.cluster.replicas().max(highest_voting(o).map_or(0, |highest| highest + 1))
}

/// The highest ordinal that votes in either half of the newest configuration that is known.
fn highest_voting(o: &Observed) -> Option<Ordinal> {
    let told = o.configuration().filter(|known| known.index > 0);
    if let Some(known) = told {
        return known.voting().into_iter().filter_map(|name| o.cluster.ordinal(name)).max();
    }
    // Nobody answers: what the status remembers.
    let members = o.cluster.status.members.iter();
    let voters = members.filter(|member| member.role == "Voter");
    voters.filter_map(|member| o.cluster.ordinal(&member.name)).max()
}
